use super::*;

/// A right entry, from 10.1.0.10 to 10.2.0.10.
pub(crate) fn flow_entry(port: u32) -> v1::FlowEntry {
    let endpoint = |address: &str| {
        Some(v1::Endpoint {
            address: address.to_owned(),
            port,
        })
    };
    v1::FlowEntry {
        flow_index: 0,
        kind: v1::FlowKind::Rtp.into(),
        source: endpoint("10.1.0.10"),
        destination: endpoint("10.2.0.10"),
        protocol: 17,
        dscp: 46,
        rate_bps: 80_000,
        burst_bytes: 3_000,
        ingress_interface: "lan".to_owned(),
        ..v1::FlowEntry::default()
    }
}

/// What the server lets agents ask for is countable at every clock.
#[test]
fn the_protocols_largest_burst_is_taken_at_the_fastest_clock() {
    use voicelane_dataplane::units::TickRate;

    let clock = TickRate::from_hz(u64::MAX);
    let terms = |burst_bytes| Policer {
        rate: BitRate::from_bps(400_000_000_000).unwrap(),
        burst_bytes,
    };
    let most = voicelane_proto::limits::MAX_BURST_BYTES;
    assert!(terms(most).profile(clock).is_ok());
    assert!(terms(most + 1).profile(clock).is_err());
}

/// An edge interface "lan", and a core interface "core".
pub(crate) fn ways_in() -> WaysIn {
    WaysIn(vec![
        ("lan".to_owned(), Role::Edge),
        ("core".to_owned(), Role::Core),
    ])
}

/// An entry like that of [`flow_entry`], which learns its source.
pub(crate) fn latching_entry(port: u32) -> v1::FlowEntry {
    v1::FlowEntry {
        source: None,
        latch: Some(v1::Latch::default()),
        ..flow_entry(port)
    }
}

#[test]
fn a_source_is_learned_by_terms() {
    let latch = |change: &dyn Fn(&mut v1::FlowEntry)| {
        let mut entry = latching_entry(4000);
        change(&mut entry);
        entries(&[entry], &ways_in()).map(|entries| entries[0].waits().unwrap())
    };
    let lan = Ingress::Interface(InterfaceIndex(0));
    let expected = LatchSpec {
        destination: "10.2.0.10:4000".parse().unwrap(),
        ingress: Some(lan),
        from: None,
    };
    assert_eq!(latch(&|_| {}), Ok(expected));
    let anywhere = LatchSpec {
        ingress: None,
        ..expected
    };
    assert_eq!(latch(&|e| e.ingress_interface.clear()), Ok(anywhere));
    let address = |text: &str| {
        Some(v1::Latch {
            address: text.to_owned(),
        })
    };
    let from = LatchSpec {
        from: Some("192.0.2.9".parse().unwrap()),
        ..expected
    };
    assert_eq!(latch(&|e| e.latch = address("192.0.2.9")), Ok(from));
    type Change = fn(&mut v1::FlowEntry);
    let wrong: [(&str, Change); 6] = [
        ("entries[0].latch.address", |e| {
            e.latch = Some(v1::Latch {
                address: "::1".into(),
            });
        }),
        ("entries[0].latch.address", |e| {
            e.latch = Some(v1::Latch {
                address: "host".into(),
            });
        }),
        ("entries[0].source", |e| e.source = e.destination.clone()),
        ("entries[0].protocol", |e| e.protocol = 6),
        // What the worker would refuse when a source has been learned.
        ("entries[0].burst_bytes", |e| e.burst_bytes = u32::MAX),
        ("entries[0].meter", |e| {
            let trtcm = v1::meter::TrTcm {
                pir_bps: 1_000,
                pbs_bytes: 3_000,
            };
            e.dscp = 34; // AF41
            e.meter = Some(v1::Meter {
                marker: Some(v1::meter::Marker::Trtcm(trtcm)),
                cir_bps: 2_000,
                cbs_bytes: 3_000,
                ..v1::Meter::default()
            });
        }),
    ];
    for (field, change) in wrong {
        assert_eq!(latch(&change).unwrap_err().field, field);
    }
    let twice = entries(&[latching_entry(1), latching_entry(1)], &ways_in());
    assert!(twice.is_err());
    let entry = &entries(&[latching_entry(4000)], &ways_in()).unwrap()[0];
    assert_eq!(entry.claims().count(), 1);
    let flow = FiveTuple {
        source: "192.0.2.9:7".parse().unwrap(),
        ..entry.spec.flow
    };
    let on = InterfaceIndex(1);
    let learned = entry.learned(&Latched { flow, on }, &ways_in());
    assert_eq!((learned.waits(), learned.spec.ingress), (None, lan));
    assert_eq!(learned.claims().count(), 2);
}

#[test]
fn an_interface_is_known_by_its_name() {
    let ingress = |name: &str| {
        let entry = v1::FlowEntry {
            ingress_interface: name.to_owned(),
            ..flow_entry(1)
        };
        entries(&[entry], &ways_in()).map(|entries| entries[0].spec.ingress)
    };
    assert_eq!(ingress("lan"), Ok(Ingress::Interface(InterfaceIndex(0))));
    assert_eq!(ingress("core"), Ok(Ingress::Core));
    assert_eq!(ingress(""), Ok(Ingress::Core));
    assert_eq!(ingress("*"), Ok(Ingress::Edge));
    assert_eq!(
        ingress("wlan").unwrap_err().to_string(),
        "entries[0].ingress_interface: \"wlan\" is no interface of this router"
    );
}

fn trtcm() -> v1::Meter {
    let marker = v1::meter::TrTcm {
        pir_bps: 2_000_000,
        pbs_bytes: 40_000,
    };
    v1::Meter {
        marker: Some(v1::meter::Marker::Trtcm(marker)),
        cir_bps: 1_000_000,
        cbs_bytes: 20_000,
        colour_aware: true,
        drop_red: true,
    }
}

#[test]
fn a_meter_is_in_the_policers_place() {
    let entry = v1::FlowEntry {
        dscp: 34,
        meter: Some(trtcm()),
        ..flow_entry(1)
    };
    let Terms::ThreeColour { spec, yellow, red } =
        entries(&[entry], &ways_in()).unwrap()[0].spec.terms
    else {
        panic!("no meter")
    };
    assert_eq!(
        spec.to_string(),
        "trtcm cir 1Mbit/s cbs 20000B pir 2Mbit/s pbs 40000B colour-aware"
    );
    let af42 = Dscp::af(4, 2).unwrap();
    assert_eq!(
        (yellow, red),
        (ColourAction::Mark(af42), ColourAction::Drop)
    );
}

#[test]
fn what_is_wrong_is_named() {
    let mut all = Vec::new();
    let mut case = |field: &'static str, change: &dyn Fn(&mut v1::FlowEntry)| {
        let mut entry = flow_entry(4000);
        change(&mut entry);
        all.push((
            field,
            entries(&[flow_entry(1), entry], &ways_in())
                .unwrap_err()
                .field,
        ));
    };
    case("entries[1].kind", &|e| e.kind = 0);
    case("entries[1].kind", &|e| e.kind = 77);
    case("entries[1].source", &|e| e.source = None);
    case("entries[1].source.port", &|e| {
        e.source.as_mut().unwrap().port = 0
    });
    case("entries[1].destination.port", &|e| {
        e.destination.as_mut().unwrap().port = 65_536
    });
    case("entries[1].source.address", &|e| {
        e.source.as_mut().unwrap().address = "x".into()
    });
    case("entries[1].destination", &|e| {
        e.destination.as_mut().unwrap().address = "::1".into();
    });
    case("entries[1].protocol", &|e| e.protocol = 0);
    case("entries[1].protocol", &|e| e.protocol = 256);
    case("entries[1].dscp", &|e| e.dscp = 64);
    case("entries[1].rate_bps", &|e| e.rate_bps = 0);
    case("entries[1].rate_bps", &|e| e.rate_bps = u64::MAX);
    case("entries[1].burst_bytes", &|e| e.burst_bytes = 0);
    case("entries[1].source", &|e| *e = flow_entry(1));
    let mut of_meter = |field, change: &dyn Fn(&mut v1::Meter)| {
        case(field, &|e| {
            e.dscp = 34;
            change(e.meter.insert(trtcm()));
        });
    };
    of_meter("entries[1].meter.marker", &|m| m.marker = None);
    of_meter("entries[1].meter.cir_bps", &|m| m.cir_bps = 0);
    of_meter("entries[1].meter.trtcm.pir_bps", &|m| {
        m.marker = Some(v1::meter::Marker::Trtcm(Default::default()));
    });
    of_meter("entries[1].meter.rfc4115.eir_bps", &|m| {
        m.marker = Some(v1::meter::Marker::Rfc4115(Default::default()));
    });
    case("entries[1].dscp", &|e| e.meter = Some(trtcm()));
    for (expected, field) in all {
        assert_eq!(field, expected);
    }
    assert_eq!(entries(&[], &ways_in()).unwrap_err().field, "entries");
    assert_eq!(
        entries(&vec![flow_entry(1); 129], &ways_in())
            .unwrap_err()
            .field,
        "entries"
    );
    let understood = entries(&[flow_entry(4000)], &ways_in()).unwrap();
    assert_eq!(understood[0].spec.dscp, Dscp::EF);
}

#[test]
fn keys_are_printable() {
    let named = |agent: &str, session: &str| {
        key(Some(&v1::SessionKey {
            agent_id: agent.into(),
            session_id: session.into(),
        }))
    };
    assert!(named("sip", "call 1").is_ok());
    assert_eq!(named("", "1").unwrap_err().field, "key.agent_id");
    assert_eq!(named("a", "\n").unwrap_err().field, "key.session_id");
    assert_eq!(
        named("a", &"x".repeat(129)).unwrap_err().field,
        "key.session_id"
    );
    assert_eq!(key(None).unwrap_err().field, "key");
}

/// RFC 3551 and RFC 7587 say what the clocks of G.722 and Opus are, whatever a session does.
#[test]
fn payload_types_are_measured_by_the_clocks_that_they_have() {
    let codec = |payload_type, encoding: &str, clock_rate| v1::Codec {
        payload_type,
        encoding: encoding.to_owned(),
        clock_rate,
        ..v1::Codec::default()
    };
    let codecs = vec![
        codec(110, "telephone-event", 8_000),
        codec(111, "opus", 8_000),
        codec(112, "G722", 16_000),
        codec(113, "CN", 16_000),
        codec(114, "iLBC", 8_000),
        codec(300, "PCMA", 8_000),
    ];
    let mut expected = PayloadTypes::default();
    for (number, payload) in [
        (110, Payload::EVENT),
        (111, Payload::media(48_000)),
        (112, Payload::media(8_000)),
        (113, Payload::noise(16_000)),
        (114, Payload::media(8_000)),
    ] {
        assert!(expected.declare(number, payload));
    }
    let rtp = v1::FlowEntry {
        codecs,
        ..flow_entry(4_000)
    };
    let rtcp = v1::FlowEntry {
        kind: v1::FlowKind::Rtcp.into(),
        ..flow_entry(4_001)
    };
    let understood = entries(&[rtp, rtcp], &ways_in()).unwrap();
    assert_eq!(understood[0].spec.media, Some(expected));
    // Of RTCP it is read what receivers say.
    assert_eq!(understood[1].spec.media, Some(PayloadTypes::default()));
}
