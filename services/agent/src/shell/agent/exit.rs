//! The exit node that this node has chosen: kept across restarts, used as long as the control plane names it.

use anyhow::{Result, bail};
use writ_schema::protocol::{ExitNode, Netmap};

use super::Agent;
use crate::engine::ExitWay;
use crate::shell::status::{ExitState, ExitStatus};
use crate::state::ChosenExit;

/// The word for none.
pub(super) const OFF: &str = "off";

impl Agent {
    /// Chooses an exit node by its name or identifier, or none by `off`. Says what comes of it.
    pub(super) fn choose_exit(&mut self, name: &str) -> Result<String> {
        if name == OFF {
            self.state.forget_exit_node()?;
            self.exit = None;
            self.take_exit()?;
            return Ok(
                "no exit node is used: what goes to the Internet goes as this host's routes say".to_owned()
            );
        }
        self.check_exit(name)?;
        self.exit = Some(ChosenExit { name: name.to_owned(), node: None });
        if let Err(error) = self.take_exit() {
            self.exit = None;
            self.take_exit()?;
            return Err(error);
        }
        Ok(format!("{name} is the way to the Internet now"))
    }

    /// One that nobody offers is a mistake in its name, most likely.
    fn check_exit(&self, name: &str) -> Result<()> {
        let Some(netmap) = &self.netmap else {
            bail!("which exit nodes there are is known once there is a session with the control plane");
        };
        if self.carries_out() {
            bail!("this node is an exit node itself, and cannot send what it carries through another");
        }
        if find(netmap, &ChosenExit { name: name.to_owned(), node: None }).is_none() {
            let names: Vec<_> = netmap.exits.iter().map(|exit| exit.node.name.as_str()).collect();
            let there_are = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
            bail!("no exit node that this node may use is called `{name}`: {there_are}");
        }
        Ok(())
    }

    fn carries_out(&self) -> bool {
        self.options.advertised_routes.iter().any(|route| route.is_everything())
    }

    /// Leads this host's packets through the exit node that is chosen, as far as it is there.
    pub(super) fn take_exit(&mut self) -> Result<()> {
        self.learn_exit()?;
        let way = self.exit_way();
        if way == ExitWay::None {
            // Before packets cease to be taken: none is lost for nothing.
            self.host_exit.close();
            self.engine.set_exit(way);
            return Ok(());
        }
        self.engine.set_exit(way);
        self.host_exit.open(&self.network.uplinks())
    }

    /// Remembers which node was meant by its name: should another get that name, it is not used.
    fn learn_exit(&mut self) -> Result<()> {
        let (Some(chosen), Some(netmap)) = (&mut self.exit, &self.netmap) else { return Ok(()) };
        if chosen.node.is_none()
            && let Some(exit) = find(netmap, chosen)
        {
            chosen.node = Some(exit.node.node.clone());
            self.state.store_exit_node(chosen)?;
        }
        Ok(())
    }

    fn exit_way(&self) -> ExitWay {
        let Some(chosen) = &self.exit else { return ExitWay::None };
        let found = match (&self.netmap, &chosen.node) {
            // Until there is a netmap, what was authorized before goes on.
            (None, Some(node)) => return ExitWay::Through { node: node.clone(), v4: true, v6: true },
            (None, None) => None,
            (Some(netmap), _) => find(netmap, chosen),
        };
        let Some(exit) = found else { return ExitWay::Closed };
        let carries = |is_v4| exit.routes.iter().any(|route| route.first().is_ipv4() == is_v4);
        ExitWay::Through { node: exit.node.node.clone(), v4: carries(true), v6: carries(false) }
    }

    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        let chosen = self.exit.as_ref()?;
        let (node, state, v4, v6) = match self.exit_way() {
            ExitWay::Through { node, v4, v6 } => (Some(node), ExitState::InUse, v4, v6),
            ExitWay::Closed | ExitWay::None => (chosen.node.clone(), ExitState::Closed, false, false),
        };
        Some(ExitStatus { name: chosen.name.clone(), node, state, v4, v6 })
    }
}

fn find<'a>(netmap: &'a Netmap, chosen: &ChosenExit) -> Option<&'a ExitNode> {
    netmap.exits.iter().find(|exit| match &chosen.node {
        Some(node) => exit.node.node == *node,
        None => exit.node.name.eq_ignore_ascii_case(&chosen.name) || exit.node.node.as_str() == chosen.name,
    })
}
