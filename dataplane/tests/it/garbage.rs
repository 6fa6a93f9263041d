//! Whatever comes in: no panic, no buffer lost, each packet counted once.

use crate::common::{
    conserved::{assert_accounted, assert_conserved},
    reference::{Exit, Ledger, Packet, Reference, canonical, code_point},
    *,
};
use std::net::IpAddr;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use voicelane_dataplane::{
    control::{Answer, Request},
    device::Buffer as _,
    diffserv::{ColourAction, ColourMode, Dscp, Marking, MeterKind, MeterSpec, Phb},
    policy::{
        Action, InterfacePolicy, Match, Metering, Policy, PolicySpec, Prefix, ReversePath, Rule,
        Trust,
    },
    session::{Protocol, SessionChange},
    settings::Settings,
    stats::DropReason,
    units::{InterfaceIndex, PortIndex, TickRate},
    workers::Layout,
};

/// Frames to start from: what the stages know, and what they do not.
fn templates() -> Vec<Vec<u8>> {
    let call = Udp::new(HOST, FAR, 4000, 172);
    let mut tcp = call.clone();
    tcp.protocol = 6;
    let mut fragment = call.clone();
    fragment.fragment = 0x2001;
    let mut options = call.clone();
    options.options = vec![1; 40];
    let mut arp = call.frame();
    arp[12..14].copy_from_slice(&[8, 6]);
    let call6 = Udp6::new(HOST6, FAR6, 4000, 172);
    let mut chain = call6.clone();
    chain.extensions = (
        0,
        vec![
            60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9,
        ],
    );
    let local6 = Udp6::new(HOST6, OWN6, 1, 1);
    let local = Udp::new(HOST, OWN, 1, 1);
    let big = Udp::new(HOST, FAR, 1, 1800);
    let mut frames: Vec<_> = [call, tcp, fragment, options, local, big]
        .iter()
        .map(Udp::frame)
        .collect();
    frames.extend([call6, chain, local6].iter().map(Udp6::frame));
    frames.extend([arp, vec![], vec![0; 14]]);
    let on_vlans: Vec<_> = frames
        .iter()
        .zip([100, 0, 200, 300, 0x8000 | 100].into_iter().cycle())
        .map(|(frame, tci)| tagged(frame, tci))
        .collect();
    let to_vlans = [
        Udp::new(HOST, FAR_VLAN, 1, 80),
        Udp::new(HOST, NEAR_VLAN, 4000, 172),
    ];
    frames.extend(to_vlans.iter().map(Udp::frame));
    frames.extend(on_vlans.first().map(|double| tagged(double, 200)));
    frames.extend(on_vlans);
    let filled = [0, 2, 4, 6, 7, 12].map(|at| with_trailer(&frames[at], 500));
    frames.extend(filled);
    let link_local = Udp::new([169, 254, 0, 5].into(), FAR, 1, 80);
    frames.push(link_local.frame());
    frames
}

/// Two ports with VLANs, and routes that lead out of some.
fn rig(settings: &mut Settings, layout: Layout) -> Rig {
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::with(settings, layout);
    route_to_vlans(&mut rig);
    rig.ways_in(1, &[EDGE_100]);
    rig
}

/// A frame that is wrong somewhere: bits flipped, bytes set to borders, cut, grown; half of the
/// time with a right checksum, so that it gets past that check.
fn mutate(random: &mut SmallRng, template: &[u8]) -> Vec<u8> {
    let mut frame = template.to_vec();
    for _ in 0..random.random_range(0..4) {
        if frame.is_empty() {
            break;
        }
        // Headers more often than payload.
        let end = if random.random() {
            frame.len().min(46)
        } else {
            frame.len()
        };
        let at = random.random_range(0..end);
        match random.random_range(0..6) {
            0 => frame[at] ^= 1 << random.random_range(0..8),
            1 => frame[at] = random.random(),
            2 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            3 => frame.truncate(at),
            4 => frame.insert(at, random.random()),
            _ => {
                frame.remove(at);
            }
        }
    }
    let header = frame
        .get(14)
        .map_or(60, |first| usize::from(first & 15) * 4)
        .max(20);
    if random.random() && frame.len() >= 14 + header {
        fix_checksum(&mut frame);
    }
    frame
}

/// Rules that look at every field, one that drops, one with a meter, and an aggregate.
fn policy() -> Box<Policy> {
    let metering = Metering {
        spec: MeterSpec {
            kind: MeterKind::SrTcm { ebs_bytes: 50 },
            cir: rate("8kbit/s"),
            cbs_bytes: 100,
            mode: ColourMode::Aware,
        },
        marking: Marking {
            green: ColourAction::Keep,
            yellow: ColourAction::Mark(Dscp::LE),
            red: ColourAction::Drop,
        },
    };
    let rule = |name: &str, action, meter, matches| Rule {
        name: name.to_owned(),
        matches,
        action,
        meter,
    };
    let reserved = Match {
        dscps: vec![Dscp::CS7],
        ..Match::default()
    };
    let odd = Match {
        interfaces: vec![EDGE.into()],
        sources: vec![
            Prefix::new(HOST.into(), 31).unwrap(),
            Prefix::new(HOST6.into(), 127).unwrap(),
        ],
        source_ports: vec![0..=3_999, 4_001..=u16::MAX],
        ..Match::default()
    };
    let tcp = Match {
        protocols: vec![Protocol::TCP],
        ..Match::default()
    };
    let spec = PolicySpec {
        rules: vec![
            rule("reserved", Action::Drop, None, reserved),
            rule("odd", Action::Mark(Dscp::CS5), None, odd),
            rule("tcp", Action::Keep, Some(metering), tcp),
        ],
        interfaces: [
            (Trust::Bleach, ReversePath::Off),
            (Trust::Keep, ReversePath::Off),
            (Trust::Bleach, ReversePath::Strict),
        ]
        .map(|(trust, reverse_path)| InterfacePolicy {
            trust,
            reverse_path,
            police: vec![(Phb::Telephony, metering)],
        })
        .into(),
        ..PolicySpec::default()
    };
    Policy::new(&spec, 1, TickRate::from_hz(CLOCK_HZ)).unwrap()
}

/// With which code points a packet may go on, by [`policy`], a call from the edge, and trust.
fn permitted(packet: &Packet) -> u64 {
    const EF: u8 = 46;
    let own = code_point(packet.dscp);
    // Perhaps of the call: then its session's.
    let mut of_call = 0;
    let between = (packet.source, packet.destination) == (HOST.into(), FAR.into());
    if packet.interface == 0 && packet.protocol == 17 && between {
        if packet.ports == Some((4000, 4000)) {
            return code_point(EF);
        }
        of_call = if packet.fragment { code_point(EF) } else { 0 };
    }
    let low = match packet.source {
        IpAddr::V4(source) => u32::from(source) >> 1 == u32::from(HOST) >> 1,
        IpAddr::V6(source) => u128::from(source) >> 1 == u128::from(HOST6) >> 1,
    };
    let odd = packet.interface == 0 && low && packet.ports.is_some_and(|(from, _)| from != 4_000);
    // Of the marks, yellow ones are of lower effort.
    let marked = match packet.dscp {
        56 => return of_call,
        _ if odd => code_point(40),
        _ if packet.protocol == 6 => own | code_point(1),
        1 => own,
        _ if packet.interface == 1 => own,
        _ => code_point(0),
    };
    if marked & code_point(EF) != 0 {
        of_call | marked | code_point(1)
    } else {
        of_call | marked
    }
}

fn reference() -> Reference {
    let mut reference = Reference::usual(permitted);
    reference.interfaces[2].sources = Some(&[("10.1.0.0", 16), ("2001:db8:1::", 48)]);
    reference
}

/// What left by the ports, and what the kernel got.
fn take_out(rig: &mut Rig, ledger: &mut Ledger) {
    for port in [EDGE, CORE] {
        for (_, frame) in rig.sent(port) {
            ledger.came_out(Exit::Port(port.0), &frame);
        }
    }
}

/// Each frame that leaves, or that the kernel gets, is what a reference forwarder makes of one that came.
#[test]
fn ten_million_mutated_frames() {
    let mut settings = settings("100Mbit/s");
    settings.punt.classes.fill(50_000);
    settings.punt.total = 400_000;
    let mut rig = rig(&mut settings, Layout::FUSED);
    rig.install(vec![
        Udp::new(HOST, FAR, 4000, 172).session("10Mbit/s", 10_000),
    ]);
    rig.set_policy(policy());
    let templates = templates();
    let mut random = SmallRng::seed_from_u64(7);
    let (reference, mut ledger) = (reference(), Ledger::default());
    let mut to_kernel = 0;
    for round in 0..10_000_000 / 64 {
        for _ in 0..64 {
            let template = &templates[random.random_range(0..templates.len())];
            let port = PortIndex(u8::from(random.random_ratio(1, 8)));
            let mut frame = mutate(&mut random, template);
            if port == CORE && frame.len() >= 6 {
                frame[5] ^= EDGE_MAC.0[5] ^ CORE_MAC.0[5];
            }
            let mut buffer = rig.pool.frame(frame.clone());
            let mut stripped = None;
            match random.random_range(0..64) {
                0 => buffer = buffer.with_headroom(random.random_range(0..8)),
                1 => {
                    let vlan = [0, 100, 101, 200][random.random_range(0..4)];
                    buffer = buffer.with_stripped_vlan(vlan);
                    stripped = Some(vlan);
                }
                _ => {}
            }
            ledger.went_in(&reference.fate(port.0, stripped, &frame));
            rig.deliver_buffer(port, buffer);
        }
        rig.advance_to(rig.now + 50_000);
        rig.turn();
        while let Ok((port, frame)) = rig.twins.from_worker.try_recv() {
            to_kernel += 1;
            ledger.came_out(Exit::Kernel(port.index()), frame.bytes());
            // The kernel may send anything back, too.
            if round % 64 == 0 {
                let (out, back) = reference.injected(port.index(), frame.bytes());
                let own = canonical(&back).dscp.map_or(0, code_point);
                let permitted = own | code_point(48) | code_point(0);
                if rig.twins.to_worker.try_send((port, frame)).is_ok() {
                    ledger.injected(out, &back, permitted);
                }
            }
        }
        if round % 1_024 == 0 {
            take_out(&mut rig, &mut ledger);
        }
    }
    for _ in 0..1_000 {
        rig.advance_to(rig.now + 1_000_000);
        rig.turn();
        for (port, frame) in rig.twins.from_worker.try_iter() {
            to_kernel += 1;
            ledger.came_out(Exit::Kernel(port.index()), frame.bytes());
        }
        take_out(&mut rig, &mut ledger);
    }
    let report = rig.report();
    assert_conserved(&mut rig, &report, to_kernel);
    assert_accounted(&report, &ledger);
    assert!(ledger.came > 1_000_000, "{}", ledger.came);
    let received: u64 = report.ports.iter().map(|port| port.port.rx_packets).sum();
    assert_eq!(received, 10_000_000);
    // The mutations reach every corner but those that this device or this test leaves out.
    let silent: Vec<_> = DropReason::ALL
        .iter()
        .filter(|reason| {
            let mut interfaces = report.interfaces.iter();
            interfaces.all(|interface| interface.drops[reason.index()] == 0)
        })
        .map(|reason| reason.name())
        .collect();
    let left_out = [
        "segmented",
        "interface-down",
        "forwarding-off",
        "punt-queue-full",
        "ring-full",
        "early-drop",
    ];
    assert_eq!(silent, left_out, "never seen");
    assert_eq!(rig.pool.in_use(), 0, "every buffer came back");
}

/// One thing that can happen to a worker.
#[derive(Clone, Debug)]
enum Event {
    Arrive {
        template: usize,
        port: u8,
        count: u8,
    },
    FromKernel {
        template: usize,
        interface: u8,
    },
    Install(u16),
    Remove(u16),
    Policy,
    Block(bool),
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..34_usize, 0..2_u8, 1..100_u8)
            .prop_map(|(template, port, count)| Event::Arrive { template, port, count }),
        1 => (0..34_usize, 0..6_u8)
            .prop_map(|(template, interface)| Event::FromKernel { template, interface }),
        1 => (3_998..4_002_u16).prop_map(Event::Install),
        1 => (3_998..4_002_u16).prop_map(Event::Remove),
        1 => Just(Event::Policy),
        1 => any::<bool>().prop_map(Event::Block),
        3 => (0..10_000_000_u32).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    /// Any mixture of packets, kernel frames, session changes, stalls and time, on any cores.
    #[test]
    fn packets_are_conserved(
        (workers, schedulers) in (1..4_usize, 0..3_usize),
        events in prop::collection::vec(event(), 1..100),
    ) {
        let mut settings = settings("10Mbit/s");
        settings.session_entries = 3;
        let mut rig = rig(&mut settings, Layout { workers, schedulers });
        let templates = templates();
        let mut to_kernel = 0;
        for event in events {
            match event {
                Event::Arrive { template, port, count } => {
                    for _ in 0..count {
                        rig.deliver(PortIndex(port), &templates[template]);
                    }
                }
                Event::FromKernel { template, interface } => {
                    let frame = rig.pool.frame(templates[template].clone());
                    let _ = rig.twins.to_worker.try_send((InterfaceIndex(interface), frame));
                }
                Event::Install(port) => {
                    let spec = Udp::new(HOST, FAR, port, 1).session("80kbit/s", 1_000);
                    let change = SessionChange { install: vec![spec], remove: vec![], ..SessionChange::default() };
                    prop_assert!(matches!(rig.ask(Request::Session(change)), Answer::Session(_)));
                }
                Event::Remove(port) => {
                    let flow = Udp::new(HOST, FAR, port, 1).flow();
                    let change = SessionChange { install: vec![], remove: vec![flow], ..SessionChange::default() };
                    prop_assert!(matches!(
                        rig.ask(Request::Session(change)),
                        Answer::Session(Ok(()))
                    ));
                }
                Event::Policy => {
                    prop_assert!(matches!(
                        rig.ask(Request::SetPolicy(policy())),
                        Answer::Policy(_)
                    ));
                }
                Event::Block(blocked) => rig.block(CORE, blocked),
                Event::Wait(nanoseconds) => rig.advance_to(rig.now + u64::from(nanoseconds)),
            }
            rig.settle();
            to_kernel += u64::try_from(rig.twins.from_worker.try_iter().count()).unwrap();
            let report = rig.report();
            to_kernel += u64::try_from(rig.twins.from_worker.try_iter().count()).unwrap();
            assert_conserved(&mut rig, &report, to_kernel);
        }
    }
}
