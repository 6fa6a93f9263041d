use super::super::classify::classify;
use super::super::testing::{Around, CLOCK_HZ, ends, flow4, ipv4, policy};
use super::*;
use crate::{diffserv::Dscp, session::Fragments, units::TickRate};

#[test]
fn a_session_has_its_code_point_up_to_its_rate_and_others_their_own() {
    let mut around = Around::new();
    around.admit(flow4());
    // 48 bytes each, of a burst of 100; the last has no session.
    let other = [&ipv4(Dscp::EF)[..36], &[1, 1], &ipv4(Dscp::EF)[38..]].concat();
    let frames = [ipv4(Dscp::DF), ipv4(Dscp::DF), ipv4(Dscp::DF), other];
    let mut burst = around.parsed(&frames);
    let (mut policy, phbs) = (policy(), PhbMap::default());
    let mut parts = Fragments::new(TickRate::from_hz(CLOCK_HZ), [7; 4]);
    let sessions = (&mut around.sessions, &mut parts);
    classify(
        &mut burst,
        sessions,
        &policy,
        &mut around.interfaces,
        Ticks(0),
    );
    burst.next_hops.fill(7);
    let times = (Ticks(0), Ticks(0));
    police(
        &mut burst,
        (&mut around.sessions, &mut policy),
        &phbs,
        times,
    );
    let exceeds = Some(Verdict::Drop(DropReason::SessionPoliced));
    assert_eq!(ends(&burst), [None, None, exceeds, None]);
    assert_eq!(burst.dscps[..2], [Dscp::EF; 2]);
    assert_eq!(burst.dscps[3], Dscp::DF);
    assert_eq!(burst.next_hops[3], NO_ROUTE, "no session knows it");
    let counters = around.sessions.counters(&flow4()).unwrap();
    assert_eq!((counters.packets, counters.policed_packets), (2, 1));
}
