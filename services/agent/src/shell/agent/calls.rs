//! What people ask on the local socket, and the WireGuard key that they, or its age, replace.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Agent, now};
use crate::shell::check;
use crate::shell::firewall::FirewallWatch;
use crate::shell::local::{Call, Request, Response};
use crate::shell::resolver::Resolver;
use crate::shell::status::{AgentStatus, LogLine, RouteStatus, SessionStatus, SplitViewStatus};
use crate::state::{StateDir, new_wireguard_key};

/// Callers that may wait for a rotation.
const MAX_ROTATIONS: usize = 16;

impl Agent {
    /// Stores the WireGuard keys if the engine has taken up, or given up, the next one.
    pub(super) fn keep_keys(&mut self) -> Result<()> {
        let (generation, next) = self.engine.key_generations();
        let Some(stored) = self.keys.next.take_if(|stored| next != Some(stored.generation)) else {
            return Ok(());
        };
        let is_adopted = stored.generation == generation;
        if is_adopted {
            tracing::info!(generation, "the new WireGuard key is in use");
            self.keys.generation = generation;
            self.keys.secret = stored.secret;
            self.keys.since = Timestamp::now().as_second();
        }
        self.state.store_wireguard_keys(&self.keys).context("the new WireGuard key cannot be stored")?;
        for waiting in self.rotations.drain(..) {
            let _ = waiting.send(if is_adopted {
                Response::Done(format!("generation {generation}"))
            } else {
                Response::Failed("the control plane refused the new key".to_owned())
            });
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<bool> {
        let Some(next) = self.engine.rotate(new_wireguard_key()?) else { return Ok(false) };
        self.keys.next = Some(next);
        self.state.store_wireguard_keys(&self.keys)?;
        Ok(true)
    }

    pub(super) fn rotate_if_old(&mut self) {
        let age = Timestamp::now().as_second().saturating_sub(self.keys.since);
        let lifetime = i64::try_from(self.options.key_lifetime.as_secs()).unwrap_or(i64::MAX);
        if age >= lifetime
            && let Err(error) = self.rotate()
        {
            tracing::warn!("the WireGuard key cannot be replaced: {error:#}");
        }
    }

    /// Takes a request of the local socket. Tells whether the agent is to go on.
    pub(super) fn take_call(&mut self, (request, answer): Call) -> bool {
        let response = match request {
            Request::Down => {
                let _ = answer.send(Response::Done("the agent has stopped".to_owned()));
                return false;
            }
            Request::Rotate => {
                self.answer_rotate(answer);
                return true;
            }
            Request::Why(question) => {
                self.ask_why(question, answer);
                return true;
            }
            Request::Check => {
                self.answer_check(answer);
                return true;
            }
            Request::TrustReset { forget_checkpoint } => self.reset_trust(forget_checkpoint),
            Request::ExitNode { name } => match self.choose_exit(&name) {
                Ok(done) => Response::Done(done),
                Err(error) => Response::Failed(format!("{error:#}")),
            },
            Request::Status => Response::of(&self.status()),
            Request::Trace(tuple) => Response::of(&self.engine.trace(now(), &tuple)),
            Request::Logs { after } => Response::of(&self.log_lines(after)),
        };
        // Whoever asked may be gone.
        let _ = answer.send(response);
        true
    }

    fn log_lines(&self, after: u64) -> Vec<LogLine> {
        let lines = self.options.recent.after(after);
        lines.into_iter().map(|line| LogLine { number: line.number, text: line.text }).collect()
    }

    /// Looks at this host's network, beside the agent's own work.
    fn answer_check(&self, answer: oneshot::Sender<Response>) {
        let (status, enrolment) = (self.status(), self.enrolment.clone());
        let heard = self.resolver.as_ref().map(Resolver::heard);
        let carried = self.firewall.as_ref().map(|firewall| firewall.carried.clone());
        tokio::spawn(async move {
            let facts = check::gather(&enrolment, status, heard, carried).await;
            let _ = answer.send(Response::of(&check::diagnose(&facts)));
        });
    }

    /// Answers when the key is in use, or was refused.
    fn answer_rotate(&mut self, answer: oneshot::Sender<Response>) {
        self.rotations.retain(|waiting| !waiting.is_closed());
        match self.rotate() {
            // One that is under way already is waited for as well.
            Ok(_) if self.rotations.len() < MAX_ROTATIONS => self.rotations.push(answer),
            Ok(_) => drop(answer.send(Response::Failed("too many wait for a new key already".to_owned()))),
            Err(error) => drop(answer.send(Response::Failed(format!("{error:#}")))),
        }
    }

    fn advertised_routes(&self) -> Vec<RouteStatus> {
        let approved = |prefix| self.netmap.as_ref().is_some_and(|netmap| netmap.approved.contains(prefix));
        let all = self.options.advertised_routes.iter();
        all.map(|prefix| RouteStatus { prefix: *prefix, approved: approved(prefix) }).collect()
    }

    pub(super) fn status(&self) -> AgentStatus {
        let membership = &self.enrolment.membership;
        let mut engine = self.engine.status(now());
        for peer in engine.peers.iter_mut().filter(|peer| peer.name.is_none()) {
            let reachable = self.netmap.iter().flat_map(|netmap| &netmap.reachable);
            let named = reachable.map(|reachable| &reachable.node).find(|node| node.node == peer.node);
            peer.name = named.map(|node| node.name.clone());
        }
        AgentStatus {
            version: env!("CARGO_PKG_VERSION"),
            node: membership.node.clone(),
            name: self.enrolment.name.clone(),
            network: membership.network.clone(),
            network_name: membership.network_name.clone(),
            addresses: [IpAddr::from(membership.address_v4), membership.address_v6.into()],
            session: if self.connection.is_up { SessionStatus::Connected } else { SessionStatus::Connecting },
            session_since: self.connection.since,
            session_why: self.connection.why.clone(),
            storage_failure: self.keeper.written.borrow().failure.clone(),
            checkpoint_size: self.trust.chain().size(),
            split_view: self.trust.split_view().map(|found| SplitViewStatus {
                at: found.at,
                peer: found.peer.clone(),
                what: found.what.clone(),
                is_proven: found.is_proven,
                evidence: StateDir::split_view_path(&self.options.state),
            }),
            unproven_checkpoints: self.trust.unproven_checkpoints(now().wall),
            witnesses: self.trust.quorum(now().wall),
            netmap: self.netmap.clone(),
            host_dns: self.host_dns.status(),
            reached_routes: self.routes.installed(),
            exit_node: self.exit_status(),
            advertised_routes: self.advertised_routes(),
            dropping_chains: self.firewall.as_ref().map(FirewallWatch::found).unwrap_or_default(),
            candidates: self.engine.announced_candidates().to_vec(),
            engine,
            refusals: self.refusals.iter().cloned().collect(),
        }
    }
}
