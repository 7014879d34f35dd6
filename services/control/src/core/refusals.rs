//! Refusals: facts too, but repeats within a window become one record with a count.

use writ_schema::event::{AdminActDenied, ConnectionDenied, LoginFailed, NodeJoinRefused};

/// A refusal that is to be recorded, with a count of 1.
#[derive(Debug, Clone, PartialEq)]
pub enum RefusalFact {
    /// `connection.denied`
    Connection(Box<ConnectionDenied>),
    /// `node.join_refused`
    Join(NodeJoinRefused),
    /// `login.failed`
    LogIn(LoginFailed),
    /// `admin.act_denied`
    Act(AdminActDenied),
}
