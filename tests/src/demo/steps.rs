//! The steps, in the order they are played.

mod network;

use super::runner::Step;
use super::stage::Stage;

/// All steps.
pub(crate) fn all() -> Vec<Step<Stage>> {
    vec![Step { title: "the hosts and their NATs stand", play: network::stands }]
}
