//! The API against a real log, sequencer and views.

mod access;
mod limits;
mod published;
mod stage;
mod writing;
