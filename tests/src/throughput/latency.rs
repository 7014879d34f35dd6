//! How long a line takes there and back: directly, over the relay, and with nothing between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::carrier::Carrier;
use super::rank;
use crate::lab::{Host, Lab};
use crate::load::{Figure, percentile};
use crate::parts::Programs;

const PORT: u16 = 9100;
const ROUND_TRIPS: usize = 3_000;
const WARM_UP: usize = 200;
const LIMIT: Duration = Duration::from_secs(10);
/// A direct path that is cut is left after some four seconds.
const NOTICED: Duration = Duration::from_secs(20);

/// Round-trip times of small TCP segments between two agents, one after the other, by each path, and over the bare link.
///
/// # Errors
/// When the lab cannot run here, or a program is missing or fails.
pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    // The threads that are started from here on are of its rank.
    rank::raise_self();
    let lab = Lab::new("latency")?;
    let raw = Carrier::raw(&lab)?;
    let mut writ = Carrier::writ(programs, &lab)?;
    writ.first_connection(PORT)?;
    writ.settle()?;
    let mut figures = Vec::new();
    let bare = of("veth", &raw, &mut figures)?;
    let direct = of("direct", &writ, &mut figures)?;
    cut(&writ.hosts())?;
    writ.wait_path("relayed", NOTICED)?;
    let relayed = of("relayed", &writ, &mut figures)?;
    let ratios = [
        direct.beside("latency_direct_to_veth", &bare),
        relayed.beside("latency_relayed_to_direct", &direct),
    ];
    figures.splice(0..0, ratios);
    Ok(figures)
}

/// Measures by the path of the moment. Gives the median.
fn of(name: &str, carrier: &Carrier, figures: &mut Vec<Figure>) -> anyhow::Result<Figure> {
    let (client, server) = carrier.hosts();
    let _echo = server.serve_echo(PORT)?;
    let stream = client.connect(SocketAddr::new(carrier.address()?, PORT), LIMIT)?;
    let mut times = round_trips(stream).with_context(|| format!("lines {name}"))?;
    let [median, most] = [("p50", 0.5), ("p99", 0.99)]
        .map(|(which, share)| Figure::time(format!("latency_{name}_{which}"), percentile(&mut times, share)));
    figures.extend([median.clone(), most]);
    Ok(median)
}

fn round_trips(mut stream: TcpStream) -> anyhow::Result<Vec<Duration>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let (line, mut echo) = ([b"0123456789abcde", &b"\n"[..]].concat(), [0; 16]);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..WARM_UP + ROUND_TRIPS {
        let start = Instant::now();
        stream.write_all(&line)?;
        stream.read_exact(&mut echo)?;
        ensure!(echo[..] == line[..], "what came back is not what was sent");
        if number >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}

/// Lets no datagram of the tunnel pass from one host to the other.
fn cut((client, server): &(Host, Host)) -> anyhow::Result<()> {
    for (at, other) in [(client, server), (server, client)] {
        let rules = format!(
            "add table inet cut; add chain inet cut out {{ type filter hook output priority 0; }}; \
             add rule inet cut out ip daddr {} meta l4proto udp drop",
            other.address()
        );
        let output = at.exec(["nft", &rules])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
