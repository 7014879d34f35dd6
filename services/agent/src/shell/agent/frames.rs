//! What comes over the session, and what becomes of it once it is verified and kept.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use jiff::Timestamp;
use tracing::Span;
use writ_schema::NodeId;
use writ_schema::protocol::{NetmapDelta, ServerFrame, ServerMessage};

use super::{Agent, now};
use crate::shell::session::{Command, Event, Position};
use crate::shell::status::RefusalStatus;
use crate::trust::Verified;

/// Refusals that `status` shows.
pub(super) const MAX_REFUSALS: usize = 32;
/// Frames that may wait for a disk. Beyond that the session is begun anew.
const MAX_WAITING: usize = 1024;

/// The session with the control plane.
pub(super) struct Connection {
    pub is_up: bool,
    pub since: Timestamp,
    pub why: Option<String>,
}

/// Something verified that waits until the checkpoint which proves it is on disk.
pub(super) struct Waiting {
    frame: u64,
    verified: Verified,
    span: Span,
}

/// Where a frame stands among those that came before.
enum Place {
    Next,
    Seen,
    Beyond(&'static str),
}

impl Agent {
    pub(super) fn take_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Up => {
                self.connection = Connection { is_up: true, since: Timestamp::now(), why: None };
                self.engine.handle_session_up(now());
                self.trust.session_changed(now().wall, true);
            }
            Event::Down(why) => {
                self.is_ending = false;
                if self.connection.is_up {
                    self.connection.since = Timestamp::now();
                }
                self.connection.is_up = false;
                self.connection.why = Some(why);
                self.engine.handle_session_down();
                self.trust.session_changed(now().wall, false);
                self.traces.forget_requests();
                self.questions.fail("the session with the control plane was lost: ask again when it stands");
            }
            Event::Frame(frame) => self.take_frame(*frame)?,
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: ServerFrame) -> Result<()> {
        let number = frame.frame;
        let is_snapshot = matches!(frame.message, ServerMessage::Snapshot(_));
        match self.place_of(number, is_snapshot) {
            Place::Next => {}
            Place::Seen => return Ok(()),
            Place::Beyond(why) => {
                self.begin_anew(why);
                return Ok(());
            }
        }
        let span = self.traces.incoming(&frame.message, frame.trace.as_deref());
        let entered = span.enter();
        // What is taken away is taken away first; whether it was rightly said is looked at afterwards.
        if let ServerMessage::Revoked { authorization, .. } = &frame.message {
            self.engine.cut(now(), authorization);
        }
        let verified = self.trust.verify(now().wall, frame);
        self.keep();
        drop(entered);
        match verified {
            Ok(verified) => self.act_when_kept(Waiting { frame: number, verified, span })?,
            Err(refusal) => {
                self.refuse(number, refusal.to_string());
                if refusal.is_of_checkpoint() {
                    // The control plane takes this node to hold what it has refused: no later proof would fit.
                    self.begin_anew("a checkpoint was refused");
                    return Ok(());
                }
            }
        }
        self.set_position(Some(number));
        Ok(())
    }

    /// Acts upon what is proven by a checkpoint only when that checkpoint is on disk: whatever happens to this process, the
    /// next one holds the control plane to it.
    fn act_when_kept(&mut self, waiting: Waiting) -> Result<()> {
        if self.waiting.is_empty() && self.keeper.written.borrow().trust >= self.asked.trust {
            return self.act(waiting);
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
            self.begin_anew("the disk is too slow, or full");
            return Ok(());
        }
        self.waiting.push_back((self.asked.trust, waiting));
        Ok(())
    }

    /// The keeper has written something, or could not.
    pub(super) fn take_written(&mut self) -> Result<()> {
        let written = self.keeper.written.borrow_and_update().trust;
        while let Some((_, waiting)) = self.waiting.pop_front_if(|(change, _)| *change <= written) {
            self.act(waiting)?;
        }
        Ok(())
    }

    fn act(&mut self, Waiting { frame, verified, span }: Waiting) -> Result<()> {
        let _entered = span.enter();
        self.take_verified(frame, verified)?;
        // Messages are drained here, while their trace is the current one.
        self.flush_messages();
        Ok(())
    }

    fn place_of(&self, number: u64, is_snapshot: bool) -> Place {
        match self.position.last_frame {
            // What the old session still says does not matter any more.
            _ if self.is_ending => Place::Seen,
            _ if is_snapshot => Place::Next,
            None => Place::Beyond("it did not begin with a snapshot"),
            Some(last) if number <= last => Place::Seen,
            Some(last) if last.checked_add(1) == Some(number) => Place::Next,
            Some(_) => Place::Beyond("a frame is missing"),
        }
    }

    fn take_verified(&mut self, number: u64, verified: Verified) -> Result<()> {
        match &verified {
            Verified::Snapshot(snapshot) => {
                self.netmap = Some(snapshot.netmap.clone());
                self.relay = Some(snapshot.relay.access());
                for refusal in &snapshot.refused {
                    self.refuse(number, refusal.to_string());
                }
            }
            Verified::NetmapChanged(delta) => self.change_netmap(delta),
            Verified::Explained(explained) => self.take_explained(explained.clone()),
            Verified::Refused { request: Some(request), message, .. } => {
                self.questions.refused(request, message)
            }
            Verified::Cosigned { frees: true } => {
                self.begin_anew("witnesses have cosigned what was not believed without them");
            }
            Verified::Refused { request: None, error, message, .. } => {
                tracing::warn!(error, "the control plane refuses: {message}");
            }
            _ => {}
        }
        if matches!(verified, Verified::Snapshot(_) | Verified::NetmapChanged(_)) {
            self.tell_resolver();
            self.take_routes();
            self.take_exit()?;
        }
        self.engine.handle_message(now(), verified);
        self.keep_keys()
    }

    /// Leads packets for what may be reached behind other nodes into the tunnel. Until there is a netmap, that is what was
    /// authorized before.
    pub(super) fn take_routes(&mut self) {
        if !self.options.accepts_routes {
            return;
        }
        let in_use = || self.engine.routes_in_use();
        let wanted = self.netmap.as_ref().map_or_else(in_use, |netmap| netmap.routes.clone());
        let servers = self.relay.iter().flat_map(|relay| relay.stun.iter().chain([&relay.address]));
        let servers: Vec<IpAddr> = servers.map(SocketAddr::ip).collect();
        let routes = self.routes.set(&wanted, &servers);
        self.engine.set_accepted_routes(routes);
    }

    fn tell_resolver(&self) {
        if let (Some(resolver), Some(netmap)) = (&self.resolver, &self.netmap) {
            resolver.set_netmap(netmap);
            self.host_dns.set_domains(resolver.domains());
        }
    }

    fn change_netmap(&mut self, delta: &NetmapDelta) {
        let Some(netmap) = self.netmap.as_mut().filter(|netmap| netmap.hash == delta.from) else {
            return self.begin_anew("the netmap is another than the control plane thinks");
        };
        let gone = |node: &NodeId| {
            delta.remove.contains(node) || delta.upsert.iter().any(|changed| changed.node.node == *node)
        };
        netmap.reachable.retain(|reachable| !gone(&reachable.node.node));
        netmap.reachable.extend(delta.upsert.iter().cloned());
        netmap.reachable.sort_by(|a, b| a.node.node.cmp(&b.node.node));
        netmap.hash.clone_from(&delta.to);
    }

    pub(super) fn begin_anew(&mut self, why: &str) {
        tracing::warn!("the session is begun anew: {why}");
        self.set_position(None);
        // Without a session the next one begins so anyway.
        self.is_ending = self.connection.is_up;
        let _ = self.session.commands.try_send(Command::Reconnect);
    }

    fn set_position(&mut self, last_frame: Option<u64>) {
        self.position = Position { checkpoint_size: self.trust.chain().size(), last_frame };
        self.session.position.send_replace(self.position);
    }

    fn refuse(&mut self, frame: u64, reason: String) {
        tracing::warn!(frame, "refused what the control plane sent: {reason}");
        if self.refusals.len() >= MAX_REFUSALS {
            self.refusals.pop_front();
        }
        self.engine.reject(frame, &reason);
        self.refusals.push_back(RefusalStatus { time: Timestamp::now(), frame, reason });
        // Before anything that ends this session.
        self.flush_messages();
    }
}
