//! How fast it is: nodes without agents that join and ask by the dozen, and two real agents for what a person feels.
//!
//! Everything is bounded in count and time, so that all figures together take some seconds. They are first marks on the
//! machine they run on, not promises.

mod beside;
mod figure;
mod latency;
mod node;
mod session;
mod throughput;

pub(crate) use self::figure::percentile;
pub use self::figure::{Figure, Unit};
pub use self::node::{Joined, Node};
pub use self::session::{Answer, Carried, Session};

use crate::parts::Programs;

/// All figures, in the order in which they are printed.
///
/// # Errors
/// When the lab cannot run here, or a program fails.
pub fn figures(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    let mut figures = throughput::measure(programs)?;
    figures.extend(latency::measure(programs)?);
    Ok(figures)
}
