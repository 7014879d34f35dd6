//! Real agents cross NATs as far as NATs can be crossed. `tests/natlab` crosses every pair; here are those that decide.

use writ_tests::natlab::{Access, cross};
use writ_tests::parts::Programs;

use crate::lab_test;

lab_test! {
    fn every_pair_that_can_be_direct_is_and_every_other_is_relayed() {
        let decisive = [
            Access::Public,
            Access::AddressRestricted,
            Access::PortRestricted,
            Access::SameLan,
            Access::SameCarrierHairpin,
            Access::SymmetricFewPorts,
            Access::Symmetric,
            Access::FirewallIpv6,
            Access::UdpBlocked,
        ];
        let matrix = cross(&Programs::built().unwrap(), &decisive).unwrap();
        assert_eq!(matrix.wrong().count(), 0, "\n{matrix}");
    }
}
