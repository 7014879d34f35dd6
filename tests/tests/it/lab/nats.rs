//! NATs behave as RFC 4787 calls them, seen from outside.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use writ_tests::lab::{Host, Lab, Nat, wait_until};

use crate::lab_test;

/// Between two packets of a hole punch.
const BEAT: Duration = Duration::from_millis(20);
/// In every cell that can be punched, the first packets do; this is for slow machines.
const BEATS: u32 = 25;

/// A public host that tells whoever asks from which address the question came.
struct Observer {
    host: Host,
    addresses: [SocketAddr; 2],
}

impl Observer {
    fn start(lab: &Lab) -> Self {
        let host = lab.host("observer").unwrap();
        let sockets = [host.udp(0).unwrap(), host.udp(0).unwrap()];
        let addresses = [0, 1].map(|i: usize| host.at(sockets[i].local_addr().unwrap().port()));
        for socket in sockets {
            host.thread("observer", move || {
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(from.to_string().as_bytes(), from);
                }
            })
            .unwrap();
        }
        Self { host, addresses }
    }

    /// The address that a socket has for the observer's first or second port.
    fn observe(&self, socket: &UdpSocket, which: usize) -> Option<SocketAddr> {
        let mut buffer = [0; 64];
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        for _ in 0..3 {
            socket.send_to(b"who am I?", self.addresses[which]).unwrap();
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // A late answer of the other port says something else.
                if from == self.addresses[which] {
                    return std::str::from_utf8(&buffer[..length]).unwrap().parse().ok();
                }
            }
        }
        None
    }
}

fn host_behind(lab: &Lab, name: &str, nat: Nat) -> Host {
    lab.router(&format!("nat-{name}"), nat).unwrap().host(name).unwrap()
}

/// Both send to each other's observed address at the same time. True when both heard the other.
fn punch(observer: &Observer, one: &Host, two: &Host) -> bool {
    let sockets = [one.udp(0).unwrap(), two.udp(0).unwrap()];
    let [seen_one, seen_two] = [0, 1].map(|i: usize| observer.observe(&sockets[i], 0).unwrap());
    let mut peers = [seen_two, seen_one];
    let mut heard = [false; 2];
    let mut buffer = [0; 64];
    for _ in 0..BEATS {
        for i in 0..2 {
            let _ = sockets[i].send_to(b"knock", peers[i]);
        }
        std::thread::sleep(BEAT);
        for i in 0..2 {
            sockets[i].set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            while let Ok((_, from)) = sockets[i].recv_from(&mut buffer) {
                heard[i] = true;
                // The address a packet came from is better than the one that was told (RFC 8445, peer reflexive).
                peers[i] = from;
            }
        }
        if heard == [true; 2] {
            return true;
        }
    }
    false
}

lab_test! {
    fn a_cone_has_one_mapping_and_a_symmetric_nat_one_for_each_destination() {
        let lab = Lab::new("mapping").unwrap();
        let observer = Observer::start(&lab);
        let cones = [Nat::FullCone, Nat::AddressRestricted, Nat::PortRestricted, Nat::PlainMasquerade];
        for (number, nat) in cones.into_iter().enumerate() {
            let socket = host_behind(&lab, &format!("cone-{number}"), nat).udp(0).unwrap();
            let mappings = [0, 1].map(|which| observer.observe(&socket, which).unwrap());
            assert_eq!(mappings[0], mappings[1], "{nat:?}");
        }
        let socket = host_behind(&lab, "symmetric", Nat::Symmetric).udp(0).unwrap();
        let mappings = [0, 1].map(|which| observer.observe(&socket, which).unwrap());
        assert_eq!(mappings[0].ip(), mappings[1].ip());
        assert_ne!(mappings[0].port(), mappings[1].port());
        let socket = host_behind(&lab, "deaf", Nat::UdpBlocked).udp(0).unwrap();
        assert_eq!(observer.observe(&socket, 0), None);
    }
}

lab_test! {
    fn filtering_is_as_strict_as_the_name_says() {
        let lab = Lab::new("filter").unwrap();
        let observer = Observer::start(&lab);
        let stranger = lab.host("stranger").unwrap();
        // From the observer's own address but another port, and from another address.
        let knocks = |nat, name: &str| {
            let socket = host_behind(&lab, name, nat).udp(0).unwrap();
            let seen = observer.observe(&socket, 0).unwrap();
            // A late answer to an observation that was asked for twice is no knock.
            let hears = |from: &UdpSocket, word: &[u8]| {
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                from.send_to(word, seen).unwrap();
                let mut heard = [0; 64];
                loop {
                    match socket.recv_from(&mut heard) {
                        Ok((length, _)) if heard[..length] == *word => return true,
                        Ok(_) => {}
                        Err(_) => return false,
                    }
                }
            };
            let from_address = hears(&observer.host.udp(0).unwrap(), b"knock from the same address");
            (from_address, hears(&stranger.udp(0).unwrap(), b"knock from a stranger"))
        };
        assert_eq!(knocks(Nat::FullCone, "full"), (true, true));
        assert_eq!(knocks(Nat::AddressRestricted, "address"), (true, false));
        assert_eq!(knocks(Nat::PortRestricted, "port"), (false, false));
        assert_eq!(knocks(Nat::Symmetric, "symmetric"), (false, false));
    }
}

lab_test! {
    fn two_port_restricted_nats_are_crossed_both_ways() {
        let lab = Lab::new("punch").unwrap();
        let observer = Observer::start(&lab);
        let one = host_behind(&lab, "one", Nat::PortRestricted);
        let two = host_behind(&lab, "two", Nat::PortRestricted);
        assert!(punch(&observer, &one, &two));
    }
}

lab_test! {
    fn a_symmetric_nat_is_crossed_only_where_the_other_side_lets_any_port_in() {
        let lab = Lab::new("symmetric").unwrap();
        let observer = Observer::start(&lab);
        let symmetric = host_behind(&lab, "symmetric", Nat::Symmetric);
        let full = host_behind(&lab, "full", Nat::FullCone);
        let address = host_behind(&lab, "address", Nat::AddressRestricted);
        let port = host_behind(&lab, "port", Nat::PortRestricted);
        assert!(punch(&observer, &symmetric, &full));
        assert!(punch(&observer, &symmetric, &address));
        assert!(!punch(&observer, &symmetric, &port));
    }
}

lab_test! {
    fn two_nats_in_a_row_are_crossed_when_both_are_cones() {
        let lab = Lab::new("double").unwrap();
        let observer = Observer::start(&lab);
        let carrier = lab.router("carrier", Nat::PortRestricted).unwrap();
        let same = carrier.router("same", Nat::PortRestricted, [192, 168, 1, 0].into()).unwrap_err();
        assert!(same.to_string().contains("192.168.1.0/24"), "{same}");
        let home = carrier.router("home", Nat::PortRestricted, [192, 168, 77, 0].into()).unwrap();
        let (inner, other) = (home.host("inner").unwrap(), host_behind(&lab, "other", Nat::PortRestricted));
        assert!(punch(&observer, &inner, &other));
    }
}

lab_test! {
    fn a_router_can_change_its_behaviour() {
        let lab = Lab::new("change").unwrap();
        let observer = Observer::start(&lab);
        let router = lab.router("router", Nat::PortRestricted).unwrap();
        let host = router.host("host").unwrap();
        assert!(observer.observe(&host.udp(0).unwrap(), 0).is_some());
        router.set_nat(Nat::UdpBlocked).unwrap();
        assert!(observer.observe(&host.udp(0).unwrap(), 0).is_none());
    }
}

lab_test! {
    fn a_router_that_is_restarted_forgets_its_mappings() {
        let lab = Lab::new("restart").unwrap();
        let observer = Observer::start(&lab);
        // Behind another router, so that its way out has to come back too.
        let carrier = lab.router("carrier", Nat::PortRestricted).unwrap();
        let router = carrier.router("router", Nat::Symmetric, [192, 168, 77, 0].into()).unwrap();
        let socket = router.host("host").unwrap().udp(0).unwrap();
        let before = observer.observe(&socket, 0).unwrap();
        assert_eq!(observer.observe(&socket, 0), Some(before));
        router.forget_mappings().unwrap();
        // The kernel forgets them in the background.
        let forgotten = || observer.observe(&socket, 0).is_some_and(|after| after != before);
        wait_until(Duration::from_secs(5), "the mapping is another", forgotten).unwrap();
    }
}
