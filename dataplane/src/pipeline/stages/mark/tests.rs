use super::super::testing::{Around, ipv4};
use super::*;
use crate::diffserv::{Phb, TrafficClass};

#[test]
fn the_code_point_decides_and_ecn_stays() {
    let mut around = Around::new();
    let mut burst = around.parsed(&[ipv4(Dscp::DF), ipv4(Dscp::DF)]);
    burst.headers.class[1] = TrafficClass(0b11);
    for (dscps, phbs) in [
        ([Dscp::EF, Dscp::EF], [Phb::Telephony, Phb::Telephony]),
        ([Dscp::CS5, Dscp::DF], [Phb::Signalling, Phb::Standard]),
    ] {
        burst.dscps[..2].copy_from_slice(&dscps);
        mark(&mut burst, &PhbMap::default());
        assert_eq!(burst.phbs[..2], phbs);
        let marked = burst.marked[..2].iter().map(|class| class.0);
        let expected = [dscps[0].number() << 2, dscps[1].number() << 2 | 0b11];
        assert!(marked.eq(expected));
    }
}
