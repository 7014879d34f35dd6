//! The steps, in the order they are played.

mod access;
mod change;
mod evidence;
mod join;
mod leaver;
mod question;
mod reports;
mod rotation;
mod scene;

use std::time::Duration;

use super::runner::Step;
use super::stage::Stage;

/// Nothing that is waited for takes longer, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for a packet that could get through, short enough to wait for one that cannot.
const NO_ANSWER: Duration = Duration::from_millis(700);

/// All steps.
pub(crate) fn all() -> Vec<Step<Stage>> {
    vec![
        Step { title: "the network is made and its nodes join", play: join::everybody_joins },
        Step {
            title: "the developer opens the staging cluster's page",
            play: access::developer_reaches_staging,
        },
        Step { title: "the developer is kept from the database", play: access::developer_is_denied },
        Step { title: "the engineer's connection outlives a key", play: rotation::flow_outlives_key },
        Step { title: "a policy change cuts a live connection", play: change::policy_change_cuts },
        Step { title: "the developer leaves", play: leaver::developer_leaves },
        Step { title: "who could reach the database, and who did", play: question::who_could_and_who_did },
        Step { title: "reports for NIS-2 and DORA", play: reports::two_frameworks },
        Step { title: "the evidence is checked offline", play: evidence::checked_offline },
    ]
}
