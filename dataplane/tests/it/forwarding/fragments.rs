//! Fragments: the first one's session is its followers' session, and nothing is guessed.

use crate::common::*;
use voicelane_dataplane::{control::Request, session::SessionChange};

const EF: u8 = 46 << 2;
const MORE: u16 = 0x2000;

/// Parts of a packet of a call from port 4000: identification, fragment field.
fn part(identification: u16, fragment: u16) -> Vec<u8> {
    let mut packet = Udp::new(HOST, FAR, 4000, 1_000);
    packet.fragment = fragment;
    let mut frame = packet.frame();
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    if fragment & 0x1fff != 0 {
        frame[34..].fill(0xa5); // payload all through
    }
    fix_checksum(&mut frame);
    frame
}

fn part6(identification: u32, fragment: u16) -> Vec<u8> {
    let mut packet = Udp6::new(HOST6, FAR6, 4000, 1_000);
    let mut header = vec![17, 0];
    header.extend(fragment.to_be_bytes());
    header.extend(identification.to_be_bytes());
    packet.extensions = (44, header);
    let mut frame = packet.frame();
    if fragment >> 3 != 0 {
        frame[62..].fill(0xa5);
    }
    frame
}

fn with_calls() -> Rig {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    rig.install(vec![
        Udp::new(HOST, FAR, 4000, 0).session("10Mbit/s", 100_000),
        Udp6::new(HOST6, FAR6, 4000, 0).session("10Mbit/s", 100_000),
    ]);
    rig
}

/// The traffic class with which a frame leaves.
fn class(rig: &mut Rig, frame: &[u8]) -> u8 {
    let frame = rig.forward(frame).unwrap();
    match frame[14] >> 4 {
        4 => frame[15],
        _ => frame[14] << 4 | frame[15] >> 4,
    }
}

#[test]
fn followers_share_the_session_of_the_first() {
    let mut rig = with_calls();
    assert_eq!(class(&mut rig, &part(7, MORE)), EF);
    assert_eq!(class(&mut rig, &part(7, MORE | 100)), EF);
    assert_eq!(class(&mut rig, &part(7, 200)), EF);
    assert_eq!(class(&mut rig, &part6(7, 1)), EF);
    assert_eq!(class(&mut rig, &part6(7, 100 << 3 | 1)), EF);
    assert_eq!(class(&mut rig, &part6(7, 200 << 3)), EF);
    assert_eq!(rig.report().interfaces[0].fragments, 0);
    // Metered with it, too.
    let flows = vec![
        Udp::new(HOST, FAR, 4000, 0).flow(),
        Udp6::new(HOST6, FAR6, 4000, 0).flow(),
    ];
    let voicelane_dataplane::control::Answer::Flows(read) = rig.ask(Request::ReadFlows(flows))
    else {
        panic!("flows")
    };
    let packets = read.iter().map(|flow| flow.unwrap().counters.packets);
    assert_eq!(packets.collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn a_whole_packet_leads_nobody() {
    let mut rig = with_calls();
    assert_eq!(
        class(&mut rig, &part(7, 0x4000)),
        EF,
        "must not be fragmented"
    );
    assert_eq!(class(&mut rig, &part(7, 100)), 0);
    assert_eq!(class(&mut rig, &part6(7, 0)), EF, "RFC 6946");
    assert_eq!(class(&mut rig, &part6(7, 100 << 3)), 0);
}

#[test]
fn nothing_is_guessed() {
    let mut rig = with_calls();
    // Before the first, and of another packet.
    assert_eq!(class(&mut rig, &part(7, 100)), 0);
    assert_eq!(class(&mut rig, &part(7, MORE)), EF);
    assert_eq!(class(&mut rig, &part(8, 100)), 0);
    assert_eq!(class(&mut rig, &part6(8, 100 << 3)), 0);
    assert_eq!(rig.report().interfaces[0].fragments, 3);
    // Of a first one without a session.
    let mut other = Udp::new(HOST, FAR, 4_001, 1_000);
    other.fragment = MORE;
    assert_eq!(class(&mut rig, &other.frame()), 0);
    other.fragment = 100;
    assert_eq!(class(&mut rig, &other.frame()), 0);
    // After the time for it.
    rig.advance_to(rig.now + 2_000_000_000);
    assert_eq!(class(&mut rig, &part(7, 200)), 0);
    // After the call.
    assert_eq!(class(&mut rig, &part(9, MORE)), EF);
    let change = SessionChange {
        install: vec![],
        remove: vec![Udp::new(HOST, FAR, 4000, 0).flow()],
        ..SessionChange::default()
    };
    rig.ask(Request::Session(change));
    assert_eq!(class(&mut rig, &part(9, 100)), 0);
}

/// All parts of a packet in one burst.
#[test]
fn a_burst_is_followed_in_its_order() {
    let mut rig = with_calls();
    for identification in 0..10 {
        for fragment in [MORE, MORE | 100, 200] {
            rig.deliver(EDGE, &part(identification, fragment));
            rig.deliver(
                EDGE,
                &part6(
                    identification.into(),
                    (fragment & 0x1fff) << 3 | fragment >> 13,
                ),
            );
        }
    }
    rig.turn();
    let sent = rig.sent(CORE);
    assert_eq!(sent.len(), 60);
    for (_, frame) in sent {
        let class = if frame[14] >> 4 == 4 {
            frame[15]
        } else {
            frame[14] << 4 | frame[15] >> 4
        };
        assert_eq!(class, EF);
    }
}
