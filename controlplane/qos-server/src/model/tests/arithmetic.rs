//! What a flow is charged and what a link has room for, by hand.

use super::{
    NOW,
    admission::{interfaces, key, terms},
};
use crate::model::{
    admission::{Hoeffding, Load, Policy, reserve_bps},
    course::Course,
    ids::{AttachmentId, Revision},
    links::Charges,
    placement::place,
    registry::{Interface, Registry},
    session::{MediaFlow, Rtcp, ServiceClass, SessionSpec},
};

pub(super) fn hoeffding() -> Policy {
    Policy::Hoeffding(Hoeffding::new(0.4, 1e-4).unwrap())
}

/// What so many calls take that take this each.
fn calls(count: u64, bps: u64) -> Load {
    let mut load = Load::default();
    (0..count).for_each(|_| load.add(bps));
    load
}

#[test]
fn calls_that_speak_two_fifths_of_the_time_are_77_for_50() {
    for bps in [1, 24_000, 99_504, 400_000_000_000] {
        let budget = 50 * bps;
        assert!(Policy::ByLink.fits(calls(50, bps), budget));
        assert!(!Policy::ByLink.fits(calls(51, bps), budget));
        // 0.4 n + sqrt(4.60517 n) is 49.63 for 77, and 50.15 for 78.
        assert!(hoeffding().fits(calls(77, bps), budget), "{bps}");
        assert!(!hoeffding().fits(calls(78, bps), budget), "{bps}");
        // Few calls may all speak at once.
        assert!(!hoeffding().fits(calls(2, bps), 2 * bps));
    }
    // One large call spreads more than many small ones of the same sum.
    let mut mixed = calls(60, 100_000);
    mixed.add(1_700_000);
    assert!(hoeffding().fits(calls(77, 100_000), 5_000_000));
    assert!(!hoeffding().fits(mixed, 5_000_000));
    // What is too much to be squared is refused.
    let most = Load {
        bps: u128::MAX,
        squares: u128::MAX,
        sessions: 1,
    };
    assert!(!hoeffding().fits(most, u64::MAX));
    for (activity, overflow) in [
        (0.0, 1e-4),
        (1.1, 1e-4),
        (0.4, 0.0),
        (0.4, 0.2),
        (f64::NAN, 0.1),
    ] {
        Hoeffding::new(activity, overflow).unwrap_err();
    }
}

fn charges(flow: MediaFlow, class: ServiceClass, change: impl Fn(&mut Interface)) -> Vec<u64> {
    let mut registry = Registry::new(8);
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let net = u8::try_from(index).unwrap();
        let mut interfaces = interfaces(net, [0; 3], 0);
        interfaces.iter_mut().for_each(&change);
        let id = AttachmentId(index as u64);
        registry.attach_at_once(name, interfaces, id).unwrap();
    }
    let spec = SessionSpec::new(key(0), Revision::FIRST, vec![flow], class);
    let placement = place(&spec, &[], &registry, NOW).unwrap();
    let charges = Charges::of(&spec, &[], &placement, &registry);
    charges.iter().map(|(_, bps)| bps).collect()
}

#[test]
fn a_flow_is_charged_by_what_the_wire_has_of_it() {
    let flow = |bps, rtcp| {
        let ends = ["10.0.200.1:4000", "10.1.200.2:4000"].map(|end| end.parse().unwrap());
        let course = Course::parse("flow", Some(ends[0]), Some(ends[1]), None).unwrap();
        MediaFlow::new(course, terms(bps), rtcp)
    };
    let g711 = || flow(80_000, Rtcp::NextPort);
    let telephony = ServiceClass::Telephony;
    assert_eq!(charges(g711(), telephony, |_| {}), [99_504; 4]);
    assert_eq!(
        charges(flow(80_000, Rtcp::Mux), telephony, |_| {}),
        [99_504; 4]
    );
    assert_eq!(
        charges(flow(80_000, Rtcp::None), telephony, |_| {}),
        [95_200; 4]
    );
    let tagged = charges(g711(), telephony, |it| it.vlan_id = 7);
    assert_eq!(tagged, [99_504 + 8 * 4 * 51; 4]);
    let other = charges(g711(), telephony, |it| it.overhead_bytes = 20);
    assert_eq!(other, [84_000 + 8 * 34 * 51; 4]);
    // 30 ms: 34 packets.
    let slow = MediaFlow {
        packet_time_us: 30_000,
        ..g711()
    };
    assert_eq!(charges(slow, telephony, |_| {}), [84_000 + 8 * 38 * 35; 4]);
    // Full packets: 2 Mbit/s are 167.
    let video = charges(flow(2_000_000, Rtcp::None), telephony, |_| {});
    assert_eq!(video, [2_000_000 + 8 * 38 * 167; 4]);
    assert_eq!(
        charges(g711(), ServiceClass::Signalling, |_| {}),
        [0_u64; 0]
    );
    assert_eq!(reserve_bps(1_000_005), 100_000);
}
