//! The API against a real log, sequencer and views.

mod access;
mod limits;
mod paths;
mod published;
mod stage;
mod writing;
