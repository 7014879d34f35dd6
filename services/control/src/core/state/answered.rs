//! The last commands that were carried out, so that a repeat gets the first answer.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use writ_schema::record::CommandRef;
use writ_schema::{CommandId, Seq};

/// How many are remembered: at 1,000 commands a second more than a minute's, far longer than anybody retries.
const REMEMBERED: usize = 65_536;

/// What a command brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Digest of the command.
    pub digest: String,
    /// Its first record.
    pub first: Seq,
    /// How many records there are, one after another.
    pub count: u32,
    /// When.
    pub time: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct AnsweredCommands {
    by_id: HashMap<CommandId, Answered>,
    order: VecDeque<CommandId>,
}

impl AnsweredCommands {
    pub(super) fn find(&self, id: &CommandId) -> Option<&Answered> {
        self.by_id.get(id)
    }

    pub(in crate::core) fn note(&mut self, command: &CommandRef, record: Seq, time: Timestamp) {
        if let Some(known) = self.by_id.get_mut(&command.id) {
            known.count = known.count.saturating_add(1);
            return;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        self.order.push_back(command.id.clone());
        let answered = Answered { digest: command.digest.clone(), first: record, count: 1, time };
        self.by_id.insert(command.id.clone(), answered);
    }
}
