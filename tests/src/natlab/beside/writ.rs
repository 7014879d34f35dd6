//! Writ's own nodes.

use std::net::IpAddr;

use anyhow::Context;

use super::Product;
use crate::lab::{Host, Lab};
use crate::natlab::POLICY;
use crate::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

/// A control plane and agents.
pub(super) struct Writ {
    agents: Vec<Agent>,
    operator: Operator,
    control: ControlPlane,
}

impl Writ {
    pub(super) fn start(programs: &Programs, lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        let data = lab.directory().join("writd");
        let control = ControlPlane::create(programs, host, &data, Settings::at("natlab", host.address()))?;
        let operator = Operator::sign_in(&control)?;
        operator.set_policy(POLICY)?;
        Ok(Self { agents: Vec::new(), operator, control })
    }
}

impl Product for Writ {
    fn join(&mut self, lab: &Lab, host: &Host, name: &str) -> anyhow::Result<IpAddr> {
        let ticket = self.operator.enrolment_key(Owner::Tag("tag:lab"), 1)?;
        let state = lab.directory().join(name);
        let agent = Agent::join(self.control.programs(), host, &state, name, &ticket)
            .with_context(|| format!("the agent of {name}"))?;
        let address = agent.address()?;
        self.agents.push(agent);
        Ok(address)
    }

    /// Joining waits for it, and who may be reached is asked for with the first packet.
    fn wait_ready(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
