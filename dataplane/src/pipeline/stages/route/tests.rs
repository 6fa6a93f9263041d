use super::super::testing::{
    Around, HERE, NEIGHBOUR, OWN, THERE, TO_NEIGHBOUR, ends, flow4, ipv4, ipv4_between, ipv6,
};
use super::*;
use crate::{device::SimBuffer, diffserv::Dscp, units::PortIndex};

fn routed(around: &mut Around, frames: &[Vec<u8>], open: bool) -> Burst<SimBuffer> {
    let mut burst = around.parsed(frames);
    burst.marked = burst.headers.class;
    route(&mut burst, &around.routes, &mut around.sessions, open);
    burst
}

#[test]
fn headers_are_written_where_nothing_is_in_the_way_out() {
    for open in [true, false] {
        let mut around = Around::new();
        let burst = routed(&mut around, &[ipv4(Dscp::DF), ipv6()], open);
        assert_eq!(ends(&burst), [None; 2]);
        assert_eq!(burst.next_hops[..2], [TO_NEIGHBOUR; 2]);
        assert!(
            burst.exits[..2]
                .iter()
                .all(|exit| exit.port() == PortIndex(1))
        );
        assert_eq!(burst.unwritten, if open { 0 } else { 0b11 });
        for (buffer, ttl) in burst.buffers.iter().zip([22, 21]) {
            let written = buffer.bytes()[..6] == NEIGHBOUR.0;
            assert_eq!((written, buffer.bytes()[ttl]), (open, 64 - u8::from(open)));
        }
    }
}

#[test]
fn what_no_neighbour_gets_has_its_reason() {
    let mut around = Around::new();
    around.interfaces[1].state.mtu = 1_400;
    around.routes.set_mtu(around.interfaces[1].out());
    let to = |to, ttl| ipv4_between(HERE, to, ttl, Dscp::DF);
    let punt = |reason| Some(Verdict::Punt(reason));
    let frames = [
        to([10, 8, 0, 1].into(), 64),
        to([10, 9, 0, 1].into(), 64),
        to(OWN, 1),
        to(THERE, 1),
        to(THERE, 2),
    ];
    let burst = routed(&mut around, &frames, false);
    let expected = [
        punt(PuntReason::NoRoute),
        Some(Verdict::Drop(DropReason::Blackhole)),
        punt(PuntReason::Local),
        punt(PuntReason::TtlExpired),
        None,
    ];
    assert_eq!(ends(&burst), expected);
    let mut burst = around.parsed(&[ipv4(Dscp::DF)]);
    burst.headers.put(
        0,
        crate::pipeline::burst::Header {
            ip_bytes: 1_401,
            ..burst.headers.at(0)
        },
    );
    route(&mut burst, &around.routes, &mut around.sessions, false);
    assert_eq!(ends(&burst), [punt(PuntReason::Oversize)]);
}

#[test]
fn a_session_keeps_where_its_packets_went() {
    let mut around = Around::new();
    around.admit(flow4());
    let mut burst = around.parsed(&[ipv4(Dscp::DF)]);
    burst.sessions.ipv4 = 1;
    route(&mut burst, &around.routes, &mut around.sessions, false);
    assert_eq!(burst.next_hops[0], TO_NEIGHBOUR);
    // What a session knows is not looked up.
    let mut burst = around.parsed(&[ipv4_between(HERE, [10, 8, 0, 1].into(), 64, Dscp::DF)]);
    burst.next_hops[0] = TO_NEIGHBOUR;
    route(&mut burst, &around.routes, &mut around.sessions, false);
    assert_eq!(ends(&burst), [None]);
}
