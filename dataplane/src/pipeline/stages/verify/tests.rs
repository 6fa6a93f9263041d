use super::super::testing::{Around, CLOCK_HZ, HERE, THERE, ends, ipv4_between};
use super::*;
use crate::{
    diffserv::Dscp,
    policy::{InterfacePolicy, PolicySpec, Trust},
    units::TickRate,
};

/// Which of a packet from 10.1.0.5, from 10.2.0.7 and from 192.0.2.1 are dropped on an edge.
fn dropped(reverse_path: ReversePath, session: bool) -> Vec<bool> {
    let mut around = Around::new();
    let from = |source| ipv4_between(source, THERE, 64, Dscp::DF);
    let frames = [from(HERE), from(THERE), from([192, 0, 2, 1].into())];
    let mut burst = around.parsed(&frames);
    if session {
        burst.sessions.ipv4 = 0b111;
    }
    let interface = InterfacePolicy {
        reverse_path,
        ..Trust::Bleach.into()
    };
    let spec = PolicySpec {
        interfaces: vec![interface],
        ..PolicySpec::default()
    };
    let policy = Policy::new(&spec, 1, TickRate::from_hz(CLOCK_HZ)).unwrap();
    verify(
        &mut burst,
        &around.routes,
        &policy,
        &mut around.interfaces,
        Ticks(0),
    );
    let ends = ends(&burst);
    let dropped: Vec<_> = ends.iter().map(Option::is_some).collect();
    let reason = Some(Verdict::Drop(DropReason::ReversePath));
    assert!(ends.into_iter().all(|end| end.is_none() || end == reason));
    let counted = around.interfaces[0].senders.iter().count();
    assert_eq!(
        counted,
        dropped.iter().filter(|it| **it).count(),
        "by sender"
    );
    dropped
}

#[test]
fn a_source_must_be_where_the_routes_lead_as_the_interface_asks() {
    assert_eq!(dropped(ReversePath::Strict, false), [false, true, true]);
    assert_eq!(dropped(ReversePath::Loose, false), [false, false, true]);
    assert_eq!(dropped(ReversePath::Off, false), [false; 3]);
    assert_eq!(
        dropped(ReversePath::Strict, true),
        [false; 3],
        "sessions are not asked"
    );
}
