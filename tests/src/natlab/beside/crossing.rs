//! How the pairs of one maker are crossed and measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::comparison::{Crossing, Pair};
use super::echo::{self, Task};
use super::{Maker, Product};
use crate::lab::{Arrivals, Datagram, Host, HttpServer, Lab, Seen, privilege, wait_until};
use crate::natlab::access::Shared;
use crate::natlab::{Access, Cell, PATIENCE, PORT, Path, TRIES};

const ECHO_PORT: u16 = 7;
/// Nodes that have all just come up get this long, so that nobody is measured while they look around.
const REST: Duration = Duration::from_secs(10);
/// A pair is looked at for so long before the next one is opened,
const BUSY: Duration = Duration::from_secs(2);
/// and goes on in the background for so long, while others are opened.
const WATCHED: Duration = Duration::from_secs(20);
/// In the end it is looked at once more.
const ROUND_TRIPS: u8 = 10;
const ROUND_TRIP_LIMIT: Duration = Duration::from_millis(500);

/// WireGuard pads to this, so lengths of datagrams must differ by it.
const PADDING_BYTES: usize = 16;
/// Longer than what products say to each other for themselves, and shorter than what finds out how long packets may be.
const SHORTEST_BYTES: usize = 600;
const IP_AND_UDP_BYTES: usize = 28;
/// Header and tag of a WireGuard message (4 in its whitepaper, 5.4.6).
const WIREGUARD_BYTES: usize = 32;

/// A host that connects, or is connected to.
struct Site {
    access: Access,
    host: Host,
    address: IpAddr,
    arrivals: Arrivals,
    _servers: (HttpServer, Task),
}

/// A pair that was opened.
struct Opened {
    row: usize,
    column: usize,
    at: Instant,
    first_byte: Option<Duration>,
    asking: Task,
}

pub(super) fn cross(
    maker: Maker,
    accesses: &[Access],
    start: impl FnOnce(&Lab, &Host) -> anyhow::Result<Box<dyn Product>>,
) -> anyhow::Result<Crossing> {
    privilege::require_tun()?;
    let lab = Lab::new("beside")?;
    let relay = lab.host("control")?;
    let mut product = start(&lab, &relay)?;
    let mut shared = Shared::new();
    let mut sites = |side: &str| -> anyhow::Result<Vec<Site>> {
        let sites = accesses.iter().map(|access| {
            let host = access.host(&lab, &mut shared, side)?;
            let address = product.join(&lab, &host, &format!("{side}-{access}"))?;
            let servers = (host.serve_http(PORT, "hello")?, echo::serve(&host, ECHO_PORT)?);
            Ok(Site { access: *access, arrivals: host.watch_arrivals()?, host, address, _servers: servers })
        });
        sites.collect()
    };
    let (lefts, rights) = (sites("left")?, sites("right")?);
    product.wait_ready()?;
    std::thread::sleep(REST);

    let direct = |row, right: &Site| direct(&right.arrivals, relay.address(), row);
    let mut opened = Vec::new();
    for (row, left) in lefts.iter().enumerate() {
        for (column, right) in rights.iter().enumerate().skip(row) {
            let pair = open(row, left, column, right)?;
            let _ = wait_until(BUSY, "the pair is direct", || direct(row, right).is_some());
            opened.push(pair);
        }
    }
    if let Some(last) = opened.last() {
        std::thread::sleep(WATCHED.saturating_sub(last.at.elapsed()));
    }
    let pairs = opened.into_iter().map(|pair| {
        let Opened { row, column, at, first_byte, asking } = pair;
        drop(asking);
        let (left, right) = (&lefts[row], &rights[column]);
        let before = direct(row, right);
        let server = SocketAddr::new(right.address, ECHO_PORT);
        let limits = (ROUND_TRIPS, ROUND_TRIP_LIMIT);
        let round_trips = echo::round_trips(&left.host, server, datagram_bytes(row), limits)?;
        let after = direct(row, right);
        let came = |seen: Option<Seen>| seen.map_or(0, |seen| seen.count);
        let path = match () {
            () if round_trips.is_empty() => Path::None,
            () if came(after) > came(before) => Path::Direct,
            () => Path::Relayed,
        };
        // What was first seen at this last look became direct nobody knows when.
        let direct_after = before.filter(|_| path == Path::Direct).map(|seen| seen.first.duration_since(at));
        let cell = Cell { left: left.access, right: right.access, path, first_byte, direct_after };
        Ok(Pair { cell, round_trips })
    });
    Ok(Crossing { maker, pairs: pairs.collect::<anyhow::Result<_>>()? })
}

fn open(row: usize, left: &Site, column: usize, right: &Site) -> anyhow::Result<Opened> {
    let at = Instant::now();
    let page = SocketAddr::new(right.address, PORT);
    let mut answers = (0..TRIES).map(|_| left.host.http_get(page, "/", PATIENCE));
    let first_byte = answers.any(|answer| answer.is_ok()).then(|| at.elapsed());
    let server = SocketAddr::new(right.address, ECHO_PORT);
    let asking = echo::keep_asking(&left.host, server, datagram_bytes(row), (BUSY, WATCHED))?;
    Ok(Opened { row, column, at, first_byte, asking })
}

/// Datagrams of a left host that came from somewhere else than the relay.
fn direct(arrivals: &Arrivals, relay: Ipv4Addr, row: usize) -> Option<Seen> {
    arrivals.of(|datagram: Datagram| datagram.from != relay && is_of(row, datagram.bytes))
}

/// The length of the datagrams that a left host sends: no other sends such.
fn datagram_bytes(row: usize) -> usize {
    SHORTEST_BYTES.saturating_add(row.saturating_mul(PADDING_BYTES))
}

/// Whether a WireGuard message of that length can hold a datagram of this left host, padded or not.
fn is_of(row: usize, message_bytes: usize) -> bool {
    let plain = datagram_bytes(row).saturating_add(IP_AND_UDP_BYTES);
    message_bytes
        .checked_sub(WIREGUARD_BYTES)
        .is_some_and(|bytes| (plain..plain.saturating_add(PADDING_BYTES)).contains(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_of_one_left_host_padded_or_not() {
        for row in 0..Access::ALL.len() {
            let plain = datagram_bytes(row) + IP_AND_UDP_BYTES;
            for carried in [plain, plain.next_multiple_of(PADDING_BYTES)] {
                let of: Vec<_> =
                    (0..Access::ALL.len()).filter(|row| is_of(*row, carried + WIREGUARD_BYTES)).collect();
                assert_eq!(of, [row]);
            }
        }
        assert!(!is_of(0, 0) && !is_of(0, 32));
    }

    #[test]
    fn the_longest_message_is_shorter_than_what_measures_paths() {
        let longest =
            datagram_bytes(Access::ALL.len() - 1) + IP_AND_UDP_BYTES + WIREGUARD_BYTES + PADDING_BYTES;
        assert!(longest < 1200, "{longest}");
    }
}
