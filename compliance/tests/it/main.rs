//! The reports as a reader gets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

mod busy;
mod files;
mod frameworks;
mod rendering;
mod rules;
