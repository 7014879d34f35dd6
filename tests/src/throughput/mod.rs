//! How fast packets go: two hosts with agents, and beside them two with WireGuard programs of others, and two with nothing.
//!
//! All are measured alternately in one run, so that what else the machine does falls on each of them, and what is printed first
//! are ratios. The agents are as everywhere: with a control plane, filter, routing and accounting.

mod carrier;
mod idle;
mod iperf;
mod latency;
mod rank;
mod wireguard;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

pub use self::carrier::Kind;
pub use self::idle::measure as measure_idle;
pub use self::latency::measure as measure_latency;
pub use self::rank::is_permitted;

use self::carrier::Carrier;
use self::iperf::{Load, Run};
use crate::lab::{Lab, privilege};
use crate::load::{Figure, Unit, percentile};
use crate::parts::Programs;

/// What is measured of each carrier.
const LOADS: [(&str, Load); 4] = [
    ("1_stream", Load { streams: 1, is_reverse: false }),
    ("1_stream_reverse", Load { streams: 1, is_reverse: true }),
    ("4_streams", Load { streams: 4, is_reverse: false }),
    ("4_streams_reverse", Load { streams: 4, is_reverse: true }),
];
/// The first port of connections that are only opened.
const FIRST_PORT: u16 = 9000;

/// How long and beside what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Programs of others, where they are.
    pub beside: Vec<(Kind, PathBuf)>,
    /// The MTU that they are given.
    pub mtu: u16,
    /// How often each load is put on each carrier. The median counts.
    pub rounds: u16,
    /// How long each time.
    pub seconds: u32,
}

/// Measures what the plan names, and Writ and the bare link.
///
/// # Errors
/// When the lab cannot run here, or a program is missing or fails.
pub fn measure(programs: &Programs, plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    ensure!(plan.rounds > 0 && plan.seconds > 0, "nothing would be measured in no rounds or no seconds");
    privilege::require_tun()?;
    let lab = Lab::new("throughput")?;
    let mut carriers = vec![(Kind::Writ, Carrier::writ(programs, &lab)?)];
    for (number, (kind, program)) in (0..).zip(&plan.beside) {
        carriers.push((*kind, Carrier::wireguard(&lab, *kind, program, number, plan.mtu)?));
    }
    carriers.push((Kind::Raw, Carrier::raw(&lab)?));
    let mut first = BTreeMap::<Kind, Vec<Duration>>::new();
    let mut runs = BTreeMap::<(usize, usize), Vec<Run>>::new();
    for round in 0..plan.rounds {
        for (kind, carrier) in &mut carriers {
            let took = carrier.first_connection(FIRST_PORT.saturating_add(round))?;
            first.entry(*kind).or_default().push(took);
            carrier.settle()?;
        }
        for (number, (_, load)) in LOADS.iter().enumerate() {
            for (of, (_, carrier)) in carriers.iter().enumerate() {
                let (client, server) = carrier.hosts();
                let run = iperf::run(
                    (&client, &server),
                    carrier.address()?,
                    *load,
                    plan.seconds,
                    &carrier.processes()?,
                )?;
                runs.entry((number, of)).or_default().push(run);
            }
        }
    }
    let kinds: Vec<_> = carriers.iter().map(|(kind, _)| *kind).collect();
    let mut figures = Vec::new();
    for (number, (load, _)) in LOADS.iter().enumerate() {
        figures.extend(of_load(load, &kinds, |of| &runs[&(number, of)]));
    }
    figures.extend(first.iter_mut().map(|(kind, times)| {
        Figure::time(format!("throughput_{kind}_first_connection"), percentile(times, 0.5))
    }));
    Ok(figures)
}

/// The ratios of one load, and then what they are made of.
fn of_load<'a>(load: &str, kinds: &[Kind], runs: impl Fn(usize) -> &'a [Run]) -> Vec<Figure> {
    let rate = |of| {
        Figure::new(
            format!("throughput_{}_{load}", kinds[of]),
            median(runs(of).iter().map(|run| run.bits_per_second)) / 1e9,
            Unit::GigabitsPerSecond,
        )
    };
    let cost = |of| {
        Figure::new(
            format!("throughput_{}_{load}_cpu", kinds[of]),
            median(runs(of).iter().map(|run| run.cpu_per_gigabit)),
            Unit::SecondsPerGigabit,
        )
    };
    let (mut ratios, mut plain) = (Vec::new(), Vec::new());
    for (of, kind) in kinds.iter().enumerate() {
        plain.push(rate(of));
        if *kind != Kind::Raw {
            plain.push(cost(of));
        }
        if *kind != Kind::Writ {
            ratios.push(rate(0).beside(format!("throughput_{load}_to_{kind}"), &rate(of)));
        }
        if !matches!(kind, Kind::Writ | Kind::Raw) {
            ratios.push(cost(0).beside(format!("throughput_{load}_cpu_to_{kind}"), &cost(of)));
        }
    }
    ratios.extend(plain);
    ratios
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
