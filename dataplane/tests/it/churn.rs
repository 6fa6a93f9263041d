//! Routes and sessions that come and go while packets are forwarded: none is lost, and each goes by
//! what was true before or after the change beside it.

use std::collections::HashSet;

use crate::common::*;
use proptest::prelude::*;
use voicelane_dataplane::{
    Adjacency,
    control::{Answer, Command, NextHop, Request},
    session::SessionChange,
    settings::Settings,
    units::{InterfaceIndex, MacAddress},
};

const CHANGES: u64 = 4_000;
/// More than a turn takes in.
const MOST_CHANGES_A_TURN: u64 = 50;
const PACKETS_A_TURN: usize = 30;
const OTHER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 3]);

/// Makes changes while packets come, and gives what was sent: as many as came.
fn forward_through(
    rig: &mut Rig,
    frame: &[u8],
    mut change: impl FnMut(u64) -> Request,
    right: impl Fn(&Answer) -> bool,
) -> Vec<Vec<u8>> {
    let (mut delivered, mut sent) = (0, Vec::new());
    let (mut asked, mut answered, mut turns) = (0, 0, 0);
    while answered < CHANGES {
        turns += 1;
        for _ in 0..turns % MOST_CHANGES_A_TURN {
            let request = change(asked);
            let ticket = asked;
            if asked == CHANGES || rig.control.commands.is_full() {
                break;
            }
            rig.control
                .commands
                .send(Command { ticket, request })
                .unwrap();
            asked += 1;
        }
        for _ in 0..PACKETS_A_TURN {
            rig.deliver(EDGE, frame);
            delivered += 1;
        }
        rig.advance_to(rig.now + 1_000_000);
        rig.turn();
        for reply in rig.control.replies.try_iter() {
            assert!(right(&reply.answer), "{:?}", reply.answer);
            assert_eq!(reply.ticket, answered, "in order");
            answered += 1;
        }
        sent.extend(rig.sent(CORE).into_iter().map(|(_, frame)| frame));
    }
    rig.advance_to(rig.now + 1_000_000_000);
    rig.settle();
    sent.extend(rig.sent(CORE).into_iter().map(|(_, frame)| frame));
    assert_eq!(sent.len(), delivered, "none is lost");
    rig.invariants();
    sent
}

/// Next hop 9: another neighbour than that of the routes that are there.
fn lead_elsewhere(rig: &mut Rig) {
    let other = Adjacency::Forward {
        interface: InterfaceIndex::from(CORE),
        destination: OTHER_MAC,
        source: CORE_MAC,
    };
    rig.route(9, other, "10.99.0.0", 16);
}

#[test]
fn no_packet_is_lost_or_misrouted_while_routes_change() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    lead_elsewhere(&mut rig);
    let frame = Udp::new(HOST, FAR, 4_000, 172).frame();
    let lengths = [32, 24, 9, 31, 20, 17, 12, 25];
    let sent = forward_through(
        &mut rig,
        &frame,
        |number| {
            // A length's route comes, leads elsewhere, and goes; the /16 that was there stays.
            let length = lengths[usize::try_from(number / 3).unwrap() % lengths.len()];
            let prefix = FAR.into();
            match number % 3 {
                0 => Request::SetRoute {
                    prefix,
                    length,
                    next_hop: NextHop(9),
                },
                1 => Request::SetRoute {
                    prefix,
                    length,
                    next_hop: NextHop(2),
                },
                _ => Request::RemoveRoute { prefix, length },
            }
        },
        |answer| matches!(answer, Answer::Route(Ok(()))),
    );
    let to = |mac: MacAddress| sent.iter().filter(|frame| frame[..6] == mac.0).count();
    assert_eq!(to(PEER_MAC) + to(OTHER_MAC), sent.len(), "none elsewhere");
    assert!(to(PEER_MAC) > 0 && to(OTHER_MAC) > 0, "both were in use");
}

proptest! {
    /// A call's packets go where others to the same address go, whatever routes changed since the
    /// call's last one, and however little time ago. Steps: what to do, the route's length, ticks.
    #[test]
    fn calls_go_where_all_others_go(steps in prop::collection::vec((0..4, 8_u8..=32, 0_u64..3), 1..60)) {
        let mut rig = Rig::new(&settings("10Gbit/s"));
        lead_elsewhere(&mut rig);
        let (call, rest) = (Udp::new(HOST, FAR, 4_000, 172), Udp::new(HOST, FAR, 5_000, 172));
        let far6 = "2001:db8:2::7".parse().unwrap();
        let host6 = "2001:db8:1::5".parse().unwrap();
        let (call6, rest6) = (Udp6::new(host6, far6, 4_000, 172), Udp6::new(host6, far6, 5_000, 172));
        let policed = "1Mbit/s";
        rig.install(vec![call.session(policed, 2_000), call6.session(policed, 2_000)]);
        let frames = [call.frame(), rest.frame(), call6.frame(), rest6.frame()];
        for (what, length, ticks) in steps {
            for (prefix, length) in [(FAR.into(), length), (far6.into(), length * 4)] {
                // What is not there cannot be removed.
                let _ = match what {
                    0 => rig.ask(Request::SetRoute { prefix, length, next_hop: NextHop(9) }),
                    1 => rig.ask(Request::SetRoute { prefix, length, next_hop: NextHop(2) }),
                    2 => rig.ask(Request::RemoveRoute { prefix, length }),
                    _ => continue,
                };
            }
            rig.advance_to(rig.now + ticks * 10_000);
            for frame in &frames {
                rig.deliver(EDGE, frame);
            }
            rig.turn();
            let sent = rig.sent(CORE);
            for version in [4, 6] {
                let ways: HashSet<_> = sent.iter()
                    .filter(|(_, frame)| frame[14] >> 4 == version)
                    .map(|(_, frame)| &frame[..6])
                    .collect();
                prop_assert!(ways.len() <= 1, "{:?}", ways);
            }
        }
    }
}

#[test]
fn no_packet_is_lost_while_sessions_come_and_go() {
    let settings = Settings {
        session_entries: 8,
        ..settings("10Gbit/s")
    };
    let mut rig = Rig::new(&settings);
    let packet = Udp::new(HOST, FAR, 4_000, 172);
    let sent = forward_through(
        &mut rig,
        &packet.frame(),
        |number| {
            let change = if number % 2 == 0 {
                SessionChange {
                    install: vec![packet.session("1Gbit/s", 1_000_000)],
                    remove: Vec::new(),
                    ..SessionChange::default()
                }
            } else {
                SessionChange {
                    install: Vec::new(),
                    remove: vec![packet.flow()],
                    ..SessionChange::default()
                }
            };
            Request::Session(change)
        },
        |answer| matches!(answer, Answer::Session(Ok(()))),
    );
    let marked = sent.iter().filter(|frame| frame[15] >> 2 == 46).count();
    let plain = sent.iter().filter(|frame| frame[15] >> 2 == 0).count();
    assert_eq!(marked + plain, sent.len());
    assert!(marked > 0 && plain > 0, "with and without a session");
}
