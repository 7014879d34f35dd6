//! The API against a real log, sequencer and views.

mod published;
