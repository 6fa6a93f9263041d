//! How well flows' RTP arrives, measured on its way through the data plane.

use std::{env, fs, path::Path};

use serde_json::Value;
use voicelane_dataplane::{
    control::{Answer, Request},
    diffserv::Dscp,
    quality::{FlowQuality, PayloadTypes},
    session::{EntrySpec, FiveTuple, Ingress, Policer, Protocol},
    settings::{Settings, Trust},
    units::PortIndex,
    workers::Layout,
};

use crate::common::{
    CORE, EDGE, EDGE_100, EDGE_MAC, FAR, FAR6, HOST, HOST6, Rig, Udp, Udp6, rate, settings, tagged,
    vlan,
};

fn measuring() -> Settings {
    Settings {
        measures: true,
        ..settings("100Gbit/s")
    }
}

/// The same flow, measured.
fn measured(spec: EntrySpec) -> EntrySpec {
    let media = Some(PayloadTypes::default());
    EntrySpec { media, ..spec }
}

fn quality(rig: &mut Rig, flow: FiveTuple) -> Option<FlowQuality> {
    match rig.ask(Request::ReadFlows(vec![flow])) {
        Answer::Flows(readings) => readings[0].unwrap().quality,
        other => panic!("{other:?}"),
    }
}

/// Writes an RTP header over the start of the payload, which has so many bytes.
fn with_rtp(mut frame: Vec<u8>, payload: usize, number: u16) -> Vec<u8> {
    let start = frame.len() - payload;
    frame[start..start + 2].copy_from_slice(&[0x80, 0]);
    frame[start + 2..start + 4].copy_from_slice(&number.to_be_bytes());
    let timestamp = 160 * u32::from(number);
    frame[start + 4..start + 8].copy_from_slice(&timestamp.to_be_bytes());
    frame[start + 8..start + 12].copy_from_slice(&[0, 0, 0, 1]);
    frame
}

/// The frames of a capture (libpcap's format, microseconds), with their times in nanoseconds and as long as they were.
fn frames(pcap: &[u8]) -> Vec<(u64, Vec<u8>)> {
    assert_eq!(pcap[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "microseconds");
    let mut rest = &pcap[24..];
    let mut frames = vec![];
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let [seconds, micros, captured, length] =
            [0, 4, 8, 12].map(|at| u32::from_le_bytes(*header[at..].first_chunk().unwrap()));
        let (frame, after) = after.split_at(captured as usize);
        let mut frame = frame.to_vec();
        frame.resize(length as usize, 0xff);
        let at = (u64::from(seconds) * 1_000_000 + u64::from(micros)) * 1_000;
        frames.push((at, frame));
        rest = after;
    }
    frames
}

fn flow_of(frame: &[u8]) -> FiveTuple {
    let address = |at: usize| -> [u8; 4] { *frame[at..].first_chunk().unwrap() };
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    FiveTuple {
        source: (address(26), port(34)).into(),
        destination: (address(30), port(36)).into(),
        protocol: Protocol::UDP,
    }
}

/// What the data plane measures of a capture's flows, by destination port.
fn measure(pcap: &[u8], layout: Layout) -> Vec<(u16, FlowQuality)> {
    let mut rig = Rig::with(&measuring(), layout);
    let frames = frames(pcap);
    let mut flows = vec![];
    for flow in frames.iter().map(|(_, frame)| flow_of(frame)) {
        if !flows.contains(&flow) {
            flows.push(flow);
        }
    }
    let policer = Policer {
        rate: rate("1Gbit/s"),
        burst_bytes: 1_000_000,
    };
    let specs = flows.iter().map(|&flow| EntrySpec {
        flow,
        ingress: Ingress::Interface(EDGE.into()),
        dscp: Dscp::EF,
        terms: policer.into(),
        media: Some(PayloadTypes::default()),
    });
    rig.install(specs.collect());
    for (at, mut frame) in frames {
        frame[..6].copy_from_slice(&EDGE_MAC.0);
        rig.advance_to(at);
        rig.deliver(EDGE, &frame);
        rig.settle();
    }
    let of = |flow: FiveTuple| (flow.destination.port(), quality(&mut rig, flow).unwrap());
    flows.into_iter().map(of).collect()
}

/// The sum over a flow's streams, or the last stream's jitter.
fn expected(flow: &Value, key: &str) -> f64 {
    if let Some(of_flow) = flow.get(key) {
        return of_flow.as_f64().unwrap();
    }
    let streams = flow["streams"].as_array().unwrap();
    let of = |stream: &Value| stream[key].as_f64().unwrap();
    match key {
        "jitter_ms" | "jitter_max_ms" => of(streams.last().unwrap()),
        _ => streams.iter().map(of).sum(),
    }
}

fn check_cases(folder: &Path) -> usize {
    let mut cases = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|it| it != "pcap") {
            continue;
        }
        let json = fs::read_to_string(file.with_extension("json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let pcap = fs::read(&file).unwrap();
        for (port, quality) in measure(&pcap, Layout::FUSED) {
            let flow = &json["flows"][port.to_string()];
            for (key, ours) in [
                ("expected", quality.expected),
                ("received", quality.received),
                ("lost", quality.lost),
                ("runs", quality.runs),
                ("duplicates", quality.duplicates),
                ("reordered", quality.reordered),
                ("talk_spurts", quality.talk_spurts),
                ("event_packets", quality.event_packets),
                ("ts_jumps", quality.timestamp_jumps),
                ("foreign", quality.foreign),
                ("restarts", quality.restarts),
                ("ssrc_changes", quality.ssrc_changes),
            ] {
                assert_eq!(ours as f64, expected(flow, key), "{key} of {file:?}");
            }
            let tolerance_ms = json["jitter_tolerance_ms"].as_f64().unwrap();
            for (key, ours) in [
                ("jitter_ms", quality.jitter_ns),
                ("jitter_max_ms", quality.jitter_max_ns),
            ] {
                let Some(ours) = ours else {
                    // Nobody has said a dynamic one's clock (RFC 3551 section 3).
                    assert!(quality.payload_type.is_none_or(|it| it >= 96), "{file:?}");
                    continue;
                };
                let ours = ours as f64 / 1e6;
                let difference = ours - expected(flow, key);
                assert!(
                    difference.abs() <= tolerance_ms,
                    "{key} of {file:?}: {ours}"
                );
            }
            if let Some(noise) = json.get("comfort_noise_packets") {
                assert_eq!(quality.comfort_noise_packets, noise.as_u64().unwrap());
            }
        }
        cases += 1;
    }
    cases
}

#[test]
fn captures_have_their_right_values() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    assert!(check_cases(&own) >= 5);
    if let Some(more) = env::var_os("QUALITY_CASES") {
        assert!(check_cases(Path::new(&more)) > 0, "no case in {more:?}");
    }
}

/// As a network interface may come to spread them otherwise in the middle of a call.
#[test]
fn a_flow_over_several_workers_has_lost_what_none_of_them_has() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let layout = Layout {
        workers: 3,
        schedulers: 0,
    };
    for (case, port, expected, lost) in [
        ("h1_g722_clock", 5000, 200, 0),
        ("h2_wrap", 5000, 20, 0),
        ("h2_wrap", 5002, 32, 4),
    ] {
        let pcap = fs::read(folder.join(case).with_extension("pcap")).unwrap();
        let flows = measure(&pcap, layout);
        let (_, quality) = flows.iter().find(|(at, _)| *at == port).unwrap();
        assert!(quality.is_spread);
        let ours = (quality.expected, quality.received, quality.lost);
        assert_eq!(ours, (expected, expected - lost, lost), "{case}");
    }
}

/// IPv4 and IPv6, plain, behind a tag, behind options and extension headers: one number is lost of each.
#[test]
fn rtp_is_measured_wherever_it_is_in_the_frame() {
    let mut options = Udp::new(HOST, FAR, 4_002, 40);
    options.options = vec![1; 4];
    let mut extended = Udp6::new(HOST6, FAR6, 4_003, 40);
    extended.extensions = (60, vec![17, 0, 1, 4, 0, 0, 0, 0]);
    let plain = Udp::new(HOST, FAR, 4_000, 40);
    let plain6 = Udp6::new(HOST6, FAR6, 4_001, 40);
    let session = |flow| {
        measured(EntrySpec {
            flow,
            ..plain.session("1Gbit/s", 1_000_000)
        })
    };
    let on_vlan = Udp::new(HOST, FAR, 4_004, 40);
    let in_vlan = EntrySpec {
        ingress: Ingress::Interface(EDGE_100),
        ..session(on_vlan.flow())
    };
    let mut with_vlan = measuring();
    with_vlan.ports[EDGE.index()].vlans = vec![vlan(100, Trust::Bleach)];
    let cases = [
        (session(plain.flow()), plain.frame()),
        (session(options.flow()), options.frame()),
        (session(plain6.flow()), plain6.frame()),
        (session(extended.flow()), extended.frame()),
        (in_vlan, tagged(&on_vlan.frame(), 100)),
    ];
    for (spec, frame) in cases {
        let mut rig = Rig::new(&with_vlan);
        rig.install(vec![spec]);
        for number in (65_530..=u16::MAX).chain(0..200).filter(|&it| it != 3) {
            rig.deliver(EDGE, &with_rtp(frame.clone(), 40, number));
            rig.turn();
        }
        let quality = quality(&mut rig, spec.flow).unwrap();
        let counts = (quality.expected, quality.received, quality.lost);
        assert_eq!(counts, (206, 205, 1), "{:?}", spec.flow);
        assert_eq!(rig.sent(CORE).len(), 205);
    }
}

/// Lost is what was lost before: the policer's own drops are not.
#[test]
fn what_the_policer_drops_has_been_received() {
    let packet = Udp::new(HOST, FAR, 4_000, 160);
    let spec = measured(packet.session("80kbit/s", 1_500));
    let mut rig = Rig::new(&measuring());
    rig.install(vec![spec]);
    for number in 0..200 {
        rig.deliver(EDGE, &with_rtp(packet.frame(), 160, number));
        rig.turn();
    }
    let quality = quality(&mut rig, spec.flow).unwrap();
    assert!(rig.sent(CORE).len() < 20);
    assert_eq!((quality.received, quality.lost), (200, 0));
}

/// Of two flows whose packets come by turns, each three times, with RTCP between: each flow's policer takes
/// no more than its first two numbers.
#[test]
fn what_is_dropped_is_counted_by_numbers() {
    let packets = [4_000, 4_002].map(|port| Udp::new(HOST, FAR, port, 160));
    let specs = packets
        .each_ref()
        .map(|it| measured(it.session("80kbit/s", 1_500)));
    let mut rig = Rig::new(&measuring());
    rig.install(specs.to_vec());
    for number in 0..400 {
        for packet in &packets {
            for _ in 0..3 {
                rig.deliver(EDGE, &with_rtp(packet.frame(), 160, number));
            }
            let mut rtcp = packet.frame();
            rtcp[42..44].copy_from_slice(&[0x80, 200]);
            rig.deliver(EDGE, &rtcp);
        }
        // Some in each burst.
        if number % 5 == 4 {
            rig.settle();
        }
    }
    for spec in specs {
        let quality = quality(&mut rig, spec.flow).unwrap();
        assert_eq!((quality.received, quality.duplicates), (400, 800));
        let first = quality.first_number().unwrap();
        let told = quality.checkpoints.iter().flatten();
        let passed: Vec<_> = told
            .map(|it| it.number - first - it.dropped.unwrap())
            .collect();
        assert_eq!(passed, [2; 4], "{:?}", quality.checkpoints);
    }
}

#[test]
fn other_protocols_of_a_flow_are_counted_apart() {
    let packet = Udp::new(HOST, FAR, 4_000, 40);
    let spec = measured(packet.session("1Gbit/s", 1_000_000));
    let mut rig = Rig::new(&measuring());
    rig.install(vec![spec]);
    for start in [
        &[0x80, 200][..],
        &[0x81, 201],
        &[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42],
        &[22, 0xfe, 0xfd],
        &[0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut frame = packet.frame();
        frame[42..42 + start.len()].copy_from_slice(start);
        rig.deliver(EDGE, &frame);
        rig.turn();
    }
    let quality = quality(&mut rig, spec.flow).unwrap();
    let others = [quality.rtcp_packets, quality.stun_packets];
    assert_eq!(others, [2, 1]);
    assert_eq!((quality.dtls_packets, quality.other_packets), (1, 1));
    assert_eq!(quality.expected, 0);
}

/// Who is not to be measured is not, whether the router could or not.
#[test]
fn only_what_is_to_be_is_measured() {
    let packet = Udp::new(HOST, FAR, 4_000, 40);
    let plain = packet.session("1Gbit/s", 1_000_000);
    for (settings, spec) in [
        (measuring(), plain),
        (settings("100Gbit/s"), measured(plain)),
    ] {
        let mut rig = Rig::new(&settings);
        rig.install(vec![spec]);
        rig.deliver(PortIndex(0), &with_rtp(packet.frame(), 40, 7));
        rig.turn();
        assert_eq!(quality(&mut rig, spec.flow), None);
    }
}
