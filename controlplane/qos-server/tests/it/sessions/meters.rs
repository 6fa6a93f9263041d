//! Flows with a three-colour meter: what agents may ask for, and what routers get.

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1::{
    self, FlowKind,
    meter::{Marker, Rfc4115, SrTcm, TrTcm},
};

fn trtcm() -> v1::Meter {
    v1::Meter {
        marker: Some(Marker::Trtcm(TrTcm {
            pir_bps: 2_000_000,
            pbs_bytes: 40_000,
        })),
        cir_bps: 1_000_000,
        cbs_bytes: 20_000,
        colour_aware: false,
        drop_red: false,
    }
}

fn srtcm(ebs_bytes: u32) -> v1::Meter {
    v1::Meter {
        marker: Some(Marker::Srtcm(SrTcm { ebs_bytes })),
        ..trtcm()
    }
}

fn rfc4115(ebs_bytes: u32) -> v1::Meter {
    v1::Meter {
        marker: Some(Marker::Rfc4115(Rfc4115 {
            eir_bps: 500_000,
            ebs_bytes,
        })),
        ..trtcm()
    }
}

fn media(meter: v1::Meter) -> v1::MediaFlow {
    v1::MediaFlow {
        max_bitrate_bps: 0,
        meter: Some(meter),
        ..flow("10.1.0.5:4000", "10.2.0.7:5000")
    }
}

fn video(session: &str, meter: v1::Meter) -> v1::SessionSpec {
    v1::SessionSpec {
        service_class: v1::ServiceClass::MultimediaConferencing.into(),
        ..spec(session, vec![media(meter)])
    }
}

fn entries(router: &FakeRouter, session: &str) -> Vec<v1::FlowEntry> {
    router.sessions()[&("test".to_owned(), session.to_owned())]
        .entries
        .clone()
}

/// The source's router meters as asked. The destination's heeds what the first has marked. RTCP is
/// policed, at 5 % of the peak.
#[tokio::test]
async fn routers_get_the_meter() {
    let mut net = Network::start().await;
    let asked = video("v1", trtcm());
    let session = add(&mut net.client, asked.clone()).await.unwrap();
    assert_eq!(session.spec.unwrap().flows[0].meter, Some(trtcm()));
    let aware = v1::Meter {
        colour_aware: true,
        ..trtcm()
    };
    for (router, meter) in [(&net.a, trtcm()), (&net.b, aware)] {
        let entries = entries(router, "v1");
        assert_eq!(entries[0].meter, Some(meter), "{}", router.id);
        let shape = |entry: &v1::FlowEntry| (entry.dscp, entry.rate_bps, entry.burst_bytes);
        // The peak, for a router that does not know meters.
        assert_eq!(shape(&entries[0]), (34, 2_000_000, 40_000));
        assert_eq!(entries[1].kind(), FlowKind::Rtcp);
        assert_eq!(entries[1].meter, None);
        assert_eq!(shape(&entries[1]), (34, 100_000, 3_000));
    }

    // The same again does nothing; another meter is another content.
    net.a.clear_log();
    add(&mut net.client, asked).await.unwrap();
    let other = v1::Meter {
        drop_red: true,
        ..trtcm()
    };
    assert_status(
        add(&mut net.client, video("v1", other)).await,
        Code::AlreadyExists,
        &["other content"],
    );
    assert_eq!(net.a.log(), []);
    let modified = v1::SessionSpec {
        revision: 2,
        ..video("v1", other)
    };
    modify(&mut net.client, modified).await.unwrap();
    assert!(entries(&net.a, "v1")[0].meter.as_ref().unwrap().drop_red);

    // And back to a policer.
    let mut plain = video("v1", other);
    plain.revision = 3;
    plain.flows = vec![flow("10.1.0.5:4000", "10.2.0.7:5000")];
    modify(&mut net.client, plain).await.unwrap();
    let entry = &entries(&net.b, "v1")[0];
    assert_eq!((entry.rate_bps, &entry.meter), (80_000, &None));
}

/// A router that returns with another meter than the session's gets the right one.
#[tokio::test]
async fn synchronising_finds_another_meter() {
    let mut net = Network::start().await;
    add(&mut net.client, video("v1", trtcm())).await.unwrap();
    add(&mut net.client, call("c1", 6000)).await.unwrap();
    let before = net.a.sessions();
    let router = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    for (key, mut install) in before.clone() {
        if key.1 == "v1" {
            // As a server had it that asked for dropping red packets.
            install.fingerprint ^= 1;
            install.entries[0].meter.as_mut().unwrap().drop_red = true;
        }
        router.hold(install);
    }
    let _stream = router.attach(net.server.address).await;
    router
        .until("synchronised", |router| router.synchronised().is_some())
        .await;
    let synchronised = router.synchronised().unwrap();
    assert_eq!((synchronised.replaced, synchronised.unchanged), (1, 1));
    assert_eq!(router.sessions(), before);
}

/// Within one router there is one meter, as asked; with RTCP on the same ports it has room for it.
#[tokio::test]
async fn a_meter_has_room_for_rtcp_on_its_ports() {
    let mut net = Network::start().await;
    for (name, meter, room, shape) in [
        (
            "two rates",
            trtcm(),
            v1::Meter {
                marker: Some(Marker::Trtcm(TrTcm {
                    pir_bps: 2_100_000,
                    pbs_bytes: 43_000,
                })),
                cir_bps: 1_100_000,
                cbs_bytes: 23_000,
                ..trtcm()
            },
            (2_100_000, 43_000),
        ),
        (
            "one rate",
            srtcm(10_000),
            v1::Meter {
                cir_bps: 1_050_000,
                cbs_bytes: 23_000,
                ..srtcm(10_000)
            },
            (1_050_000, 33_000),
        ),
        (
            "excess",
            rfc4115(10_000),
            v1::Meter {
                cir_bps: 1_075_000,
                cbs_bytes: 23_000,
                ..rfc4115(10_000)
            },
            (1_575_000, 33_000),
        ),
    ] {
        let flow = v1::MediaFlow {
            destination: endpoint("10.1.0.6:5000"),
            rtcp: Some(v1::Rtcp {
                mode: v1::rtcp::Mode::Mux.into(),
                ..Default::default()
            }),
            ..media(meter)
        };
        let spec = v1::SessionSpec {
            flows: vec![flow],
            ..video(name, meter)
        };
        add(&mut net.client, spec).await.unwrap();
        let installed = entries(&net.a, name);
        assert_eq!(installed.len(), 1);
        assert_eq!(installed[0].meter, Some(room), "{name}");
        let most = (installed[0].rate_bps, installed[0].burst_bytes);
        assert_eq!(most, shape, "{name}");
        delete(&mut net.client, name).await.unwrap();
    }
}

#[tokio::test]
async fn meters_that_make_no_sense_are_refused_by_field() {
    let mut net = Network::start().await;
    let peak = |pir_bps, pbs_bytes| v1::Meter {
        marker: Some(Marker::Trtcm(TrTcm { pir_bps, pbs_bytes })),
        ..trtcm()
    };
    let both = |rate, burst| v1::SessionSpec {
        flows: vec![v1::MediaFlow {
            max_bitrate_bps: rate,
            max_burst_bytes: burst,
            ..media(trtcm())
        }],
        ..video("v1", trtcm())
    };
    let telephony = v1::SessionSpec {
        service_class: v1::ServiceClass::Telephony.into(),
        ..video("v1", trtcm())
    };
    let of = |meter| video("v1", meter);
    for (spec, parts) in [
        (
            telephony,
            ["spec.flows[0].meter", "MULTIMEDIA_CONFERENCING"],
        ),
        (both(80_000, 0), ["spec.flows[0].meter", "max_bitrate_bps"]),
        (both(0, 3_000), ["spec.flows[0].meter", "max_burst_bytes"]),
        (
            of(v1::Meter {
                marker: None,
                ..trtcm()
            }),
            ["meter.marker", "srtcm, trtcm or rfc4115"],
        ),
        (
            of(v1::Meter {
                cir_bps: 999,
                ..trtcm()
            }),
            ["meter.cir_bps", "999"],
        ),
        (
            of(v1::Meter {
                cbs_bytes: 1_499,
                ..trtcm()
            }),
            ["meter.cbs_bytes", "at least 1500"],
        ),
        (
            of(peak(999_999, 40_000)),
            ["meter.trtcm.pir_bps", "at least 1000000"],
        ),
        (
            of(peak(u64::MAX, 40_000)),
            ["meter.trtcm.pir_bps", "400000000000"],
        ),
        (
            of(peak(2_000_000, 0)),
            ["meter.trtcm.pbs_bytes", "at least 1500"],
        ),
        (
            of(srtcm(1)),
            ["meter.srtcm.ebs_bytes", "or 0 if nothing is to be yellow"],
        ),
        (
            of(rfc4115(1_500)),
            ["meter.rfc4115.ebs_bytes", "at least 1501"],
        ),
        (
            of(v1::Meter {
                cbs_bytes: 1_500,
                ..rfc4115(0)
            }),
            ["meter.cbs_bytes", "at least 1501"],
        ),
        (
            of(v1::Meter {
                marker: Some(Marker::Rfc4115(Rfc4115 {
                    eir_bps: 0,
                    ebs_bytes: 0,
                })),
                ..trtcm()
            }),
            ["meter.rfc4115.eir_bps", "1000"],
        ),
    ] {
        assert_status(
            add(&mut net.client, spec).await,
            Code::InvalidArgument,
            &parts,
        );
    }
    assert_eq!(net.a.log(), []);
    for (name, meter) in [("no excess", srtcm(0)), ("none either", rfc4115(0))] {
        add(&mut net.client, video(name, meter)).await.unwrap();
        delete(&mut net.client, name).await.unwrap();
    }
}

/// Yellow packets are no fault; what a meter drops is.
#[tokio::test]
async fn explain_tells_the_colours() {
    let mut net = Network::start().await;
    let mut operator = net.server.operator().await;
    add(&mut net.client, video("v1", trtcm())).await.unwrap();
    let counted = |policed_packets| v1::EntryCounters {
        kind: FlowKind::Rtp.into(),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:5000"),
        packets: 90,
        policed_packets,
        last_seen_ms_ago: Some(5),
        colours: Some(v1::ColourCounts {
            green_packets: 60,
            green_bytes: 60_000,
            yellow_packets: 30,
            yellow_bytes: 30_000,
            red_packets: 4,
            red_bytes: 4_000,
        }),
        ..Default::default()
    };
    let mut explain = async |policed_packets| {
        net.a.count(vec![counted(policed_packets)]);
        net.b.count(vec![counted(0)]);
        let request = v1::ExplainSessionRequest { key: key("v1") };
        operator
            .explain_session(request)
            .await
            .unwrap()
            .into_inner()
    };
    let answer = explain(0).await;
    assert_eq!(answer.first_broken, None);
    let conforming = answer.flows[0].steps.last().unwrap();
    assert_eq!(
        conforming.detail,
        "nothing dropped; 60 green, 30 yellow, 4 red"
    );
    let colours = answer.flows[0].source_counters[0].colours;
    assert_eq!(colours, counted(0).colours);
    let broken = explain(4).await.first_broken.unwrap();
    assert_eq!(broken.link, "conforming");
    assert!(
        broken.detail.contains("4 packets were dropped (60 green"),
        "{broken:?}"
    );
}
