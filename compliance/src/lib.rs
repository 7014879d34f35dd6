//! Evidence reports: what the log of a network says of the controls of NIS-2 and DORA, and what it cannot say.
//!
//! ```text
//! Evidence ──gather──▶ Snapshot ──assess──▶ Finding ──build──▶ Report ──▶ HTML, PDF, JSON
//!   (IO)                (data)    (pure)                (pure)
//! ```
//!
//! A report presents records and their limits. It never draws the conclusion, which is a person's to sign. The same
//! range of the log and the same version of a framework give the same bytes: no clock is read on the way.

pub mod assess;
pub mod case;
pub mod catalogue;
pub mod chart;
pub mod entry;
pub mod evidence;
pub mod framework;
pub mod memory;
pub mod render;
pub mod report;
pub mod rules;
pub mod server;
pub mod status;
pub mod text;
pub mod wording;
