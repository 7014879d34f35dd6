//! A network in memory: the way of a command into the log without the log.

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use writ_schema::event::AcknowledgedAction;
use writ_schema::keys::Statement;
use writ_schema::net::Protocol;
use writ_schema::record::CommandRef;
use writ_schema::{Actor, AuthorizationId, CommandId, Event, NodeId, Seq};

use crate::core::refusals::{Noted, RefusalFact, Refusals};
use crate::core::{Command, Context, Draft, Rejection, State, Submission, decide, evolve};
use crate::fixtures::{self, Endpoint};
use crate::sequencer::{OpenRecord, open_record, seal_records};
use crate::vault::Vault;

pub(super) struct World {
    pub(super) state: State,
    pub(super) vault: Vault,
    pub(super) log: Vec<Arc<OpenRecord>>,
    pub(super) now: Timestamp,
    pub(super) last_refusal: Option<RefusalFact>,
    commands: u64,
}

impl World {
    /// A network without anything in it.
    pub(super) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            vault: Vault::in_memory().unwrap(),
            log: Vec::new(),
            now: fixtures::start(),
            last_refusal: None,
            commands: 0,
        };
        world.submit(fixtures::create_network()).unwrap();
        world
    }

    /// A network with users 1 and 2, their nodes 1 and 2, and a tagged node 3, all with sessions.
    pub(super) fn peopled(policy: &str) -> Self {
        let mut world = Self::new();
        for number in [1, 2] {
            world.submit(fixtures::provision(number)).unwrap();
        }
        for (number, owner) in [
            (1, writ_schema::event::NodeOwner::User(fixtures::user(1))),
            (2, writ_schema::event::NodeOwner::User(fixtures::user(2))),
            (3, fixtures::tags(&["tag:web"])),
        ] {
            let key = fixtures::enrolment_key(number.into(), owner, 1, world.now);
            world.submit(key).unwrap();
            world.join(number, number.into()).unwrap();
            world.submit(Endpoint::new(number).start_session()).unwrap();
        }
        world.submit(fixtures::set_policy(1, policy, None)).unwrap();
        world
    }

    pub(super) fn submit(&mut self, command: Command) -> Result<Vec<Arc<OpenRecord>>, Rejection> {
        self.submit_as(Actor::System, command)
    }

    pub(super) fn submit_as(
        &mut self,
        actor: Actor,
        command: Command,
    ) -> Result<Vec<Arc<OpenRecord>>, Rejection> {
        self.commands += 1;
        let submission = Submission { actor, ..fixtures::submission(self.commands, command) };
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.commands.to_le_bytes());
        let context = Context::new(self.now, entropy);
        self.last_refusal = None;
        let drafts = decide(&self.state, &context, &submission).map_err(|refusal| {
            self.last_refusal = refusal.fact;
            refusal.rejection
        })?;
        Ok(self.append(&context, submission.id, drafts))
    }

    /// Records the refusal of the last command.
    pub(super) fn record_refusal(&mut self) -> Vec<Arc<OpenRecord>> {
        let fact = self.last_refusal.take().expect("the last command was refused, and that is a fact");
        let noted = Refusals::default().note(fact, self.now, Seq(self.state.size()));
        let Noted::Record(event, actor) = noted else { panic!("{noted:?}") };
        let entropy = [u8::try_from(self.commands % 251).unwrap(); 32];
        let id = CommandId::from_bytes(fixtures::bytes(self.commands));
        let drafts = vec![Draft { event: *event, cause: None, actor }];
        self.append(&Context::new(self.now, entropy), id, drafts)
    }

    fn append(&mut self, context: &Context, id: CommandId, drafts: Vec<Draft>) -> Vec<Arc<OpenRecord>> {
        let reference = CommandRef { id, digest: "00ff00ff00ff00ff".to_owned() };
        let sealed = seal_records(&self.vault, context, &reference, self.state.size(), drafts);
        let mut records = Vec::new();
        for record in sealed.unwrap() {
            // What is folded has been through bytes, as after a restart.
            let read = open_record(record.record.seq.0, record.bytes.as_bytes(), &self.vault).unwrap();
            assert_eq!(read, *record);
            evolve(&mut self.state, &read.record);
            if let Some(keys) = read.record.event.destroyed_keys() {
                self.vault.destroy(&keys).unwrap();
            }
            records.push(Arc::new(read));
        }
        self.log.extend(records.iter().cloned());
        records
    }

    /// What somebody has as state who reads the log now.
    pub(super) fn refolded(&self) -> State {
        let mut state = State::default();
        for (seq, record) in self.log.iter().enumerate() {
            let read = open_record(seq as u64, record.bytes.as_bytes(), &self.vault).unwrap();
            evolve(&mut state, &read.record);
        }
        state
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn join(&mut self, number: u8, key: u64) -> Result<Vec<Arc<OpenRecord>>, Rejection> {
        let request = Endpoint::new(number).join_request(self.commands, key);
        self.submit(Command::Join { request })
    }

    pub(super) fn address(&self, number: u8) -> IpAddr {
        self.state.node_ever(&Endpoint::new(number).id()).unwrap().address_v4.into()
    }

    /// Asks for TCP and returns the authorization.
    pub(super) fn connect(&mut self, from: u8, to: u8, port: u16) -> Result<AuthorizationId, Rejection> {
        let address = self.address(to);
        let records = self.submit(request(from, address, port, None))?;
        match &records[0].record.event {
            Event::ConnectionAuthorized(body) => Ok(body.authorization.clone()),
            other => panic!("{other}"),
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        number: u8,
        authorization: &AuthorizationId,
        record: Seq,
        action: AcknowledgedAction,
    ) -> Result<Vec<Arc<OpenRecord>>, Rejection> {
        let endpoint = Endpoint::new(number);
        let leaf = self.log.get(usize::try_from(record.0).unwrap()).unwrap().leaf;
        let leaf = BASE64.encode(leaf.as_bytes());
        let statement = Statement::Acknowledgement { network: &fixtures::network(), leaf: &leaf, action };
        let signature = endpoint.sign(&statement);
        self.submit(Command::Acknowledge {
            node: endpoint.id(),
            authorization: authorization.clone(),
            record,
            leaf,
            action,
            signature,
        })
    }

    pub(super) fn kinds(records: &[Arc<OpenRecord>]) -> Vec<&'static str> {
        records.iter().map(|record| record.record.event.kind()).collect()
    }
}

pub(super) fn id(number: u8) -> NodeId {
    Endpoint::new(number).id()
}

pub(super) fn request(from: u8, address: IpAddr, port: u16, renews: Option<AuthorizationId>) -> Command {
    Command::RequestConnection { node: id(from), address, exit: None, protocol: Protocol::Tcp, port, renews }
}
