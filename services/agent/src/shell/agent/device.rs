//! A TUN device that vanishes while the agent runs (`ip link del`, a network manager that cleans up).
//!
//! Tunnels and connections do not depend on it, so it is made anew and they go on. If it vanishes over and over, or cannot be made,
//! the agent ends with an error, and whoever looks after it (systemd) starts it again.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Agent;
use crate::shell::routes::HostRoutes;
use crate::shell::tun::Tun;

/// So many times in so long are no accident.
const MOST: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// When the device was made anew of late.
#[derive(Debug, Default)]
pub(super) struct Remade([Option<Instant>; MOST]);

impl Remade {
    /// Notes one more time. Tells whether there are too many.
    fn note(&mut self, now: Instant) -> bool {
        self.0.rotate_right(1);
        let oldest = self.0[0].replace(now);
        oldest.is_some_and(|oldest| now.saturating_duration_since(oldest) < WITHIN)
    }
}

impl Agent {
    /// Makes the TUN device anew, with what leads to it.
    pub(super) fn remake_tun(&mut self, error: &io::Error) -> Result<()> {
        let name = &self.options.tun_name;
        tracing::error!(%error, "the TUN device `{name}` has vanished: it is made anew, and connections go on");
        if self.remade.note(Instant::now()) {
            bail!(
                "the TUN device `{name}` vanishes again and again: see who removes it, or give another with --tun-name"
            );
        }
        self.tun = Tun::open(name, &self.enrolment.membership).context("the TUN device has vanished")?;
        // The kernel has forgotten them together with the device.
        self.routes = HostRoutes::new(name);
        self.take_routes();
        self.host_exit.forget();
        self.take_exit()?;
        if let Some(resolver) = &self.resolver {
            self.host_dns.set_domains(resolver.domains());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_times_now_and_then_are_an_accident_and_more_are_not() {
        let (mut remade, start) = (Remade::default(), Instant::now());
        let mut at = |second| remade.note(start + Duration::from_secs(second));
        assert!(![at(0), at(30), at(59)].contains(&true));
        assert!(at(59), "a fourth time within a minute");
        assert!(!at(100), "the second of them was long ago");
        assert!(!at(160));
    }
}
