//! The policy engine from outside.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test like the tests themselves"
)]

mod behind;
mod conditions;
mod conformance;
mod decisions;
mod edits;
mod faces;
mod fuzz;
mod network;
mod refusals;
