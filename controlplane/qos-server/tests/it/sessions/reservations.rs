//! Flows of which an end is not known: reserved until it is.

use crate::common::*;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, SessionState, explain_step::Verdict, operator_client::OperatorClient,
};

fn half(source: Option<&str>, destination: Option<&str>) -> v1::MediaFlow {
    v1::MediaFlow {
        source: source.and_then(endpoint),
        destination: destination.and_then(endpoint),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    }
}

pub(super) fn latching(destination: &str, from: &str) -> v1::MediaFlow {
    v1::MediaFlow {
        latch: Some(v1::Latch {
            address: from.into(),
        }),
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::Mux.into(),
            ..Default::default()
        }),
        ..half(None, Some(destination))
    }
}

pub(super) async fn explain(operator: &mut OperatorClient<Channel>) -> v1::ExplainSessionResponse {
    let request = v1::ExplainSessionRequest { key: key("c1") };
    let answer = operator.explain_session(request).await.unwrap();
    answer.into_inner()
}

pub(super) fn placed(answer: &v1::ExplainSessionResponse) -> v1::ExplainStep {
    let mut steps = answer.flows[0].steps.iter();
    steps.find(|step| step.link == "placed").unwrap().clone()
}

#[tokio::test]
async fn a_half_open_session_is_a_reservation_that_the_answer_completes() {
    let mut net = Network::start().await;
    let mut operator = net.server.operator().await;
    let offer = spec(
        "c1",
        vec![
            half(Some("10.1.0.5:4000"), None),
            half(None, Some("10.1.0.5:4000")),
        ],
    );
    let session = add(&mut net.client, offer.clone()).await.unwrap();
    assert_eq!(session.state(), SessionState::Reserved);
    assert_eq!(
        session.spec.as_ref().unwrap().flows,
        with_rtcp(&offer).flows
    );
    let [to, from] = &session.placements[..] else {
        panic!("{session:?}")
    };
    assert_eq!(to.source.as_ref().unwrap().router_id, "a");
    assert_eq!((&to.destination, &from.source), (&None, &None));
    assert_eq!(from.destination.as_ref().unwrap().interface, "lan0");
    assert_eq!((net.a.installs(), net.b.installs()), (0, 0));
    let explained = explain(&mut operator).await;
    let step = placed(&explained);
    assert_eq!(step.verdict(), Verdict::Unknown);
    for part in ["reserved: destination not known yet", "lan0 on a"] {
        assert!(step.detail.contains(part), "{}", step.detail);
    }
    assert_eq!(explained.first_broken, None);
    assert_eq!(explained.first_unknown.unwrap().link, "placed");

    let answer = v1::SessionSpec {
        revision: 2,
        ..call("c1", 4000)
    };
    let session = modify(&mut net.client, answer).await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
    assert!(net.a.has("c1") && net.b.has("c1"));
    // And back, as a hold or a refused re-offer may have it.
    let back = v1::SessionSpec {
        revision: 3,
        ..offer
    };
    let session = modify(&mut net.client, back).await.unwrap();
    assert_eq!(session.state(), SessionState::Reserved);
    assert!(!net.a.has("c1") && !net.b.has("c1"));
    delete(&mut net.client, "c1").await.unwrap();
}

/// As the server tells it: with the mode of RTCP that is the default.
fn with_rtcp(spec: &v1::SessionSpec) -> v1::SessionSpec {
    let mut spec = spec.clone();
    for flow in &mut spec.flows {
        flow.rtcp = Some(v1::Rtcp {
            mode: v1::rtcp::Mode::NextPort.into(),
            ..Default::default()
        });
    }
    spec
}

#[tokio::test]
async fn one_flow_may_be_whole_beside_a_half_open_one() {
    let mut net = Network::start().await;
    let both = spec(
        "c1",
        vec![
            flow("10.1.0.5:4000", "10.2.0.7:4000"),
            half(None, Some("10.1.0.5:4000")),
        ],
    );
    let session = add(&mut net.client, both).await.unwrap();
    assert_eq!(session.state(), SessionState::Reserved);
    assert_eq!(net.b.sessions().values().next().unwrap().entries.len(), 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let mut net = Network::start().await;
    let latch = |address: &str, media| v1::MediaFlow {
        latch: Some(v1::Latch {
            address: address.into(),
        }),
        ..media
    };
    let rtcp = |media, source, destination| v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::Explicit.into(),
            source,
            destination,
        }),
        ..media
    };
    let to = || half(None, Some("10.2.0.7:4000"));
    for (media, part) in [
        (half(None, None), "spec.flows[0]: has neither"),
        (half(Some("10.1.0.5:65535"), None), "no port follows"),
        (
            half(Some("0.0.0.0:1"), None),
            "spec.flows[0].source.address",
        ),
        (latch("", half(None, None)), "spec.flows[0].destination"),
        (
            latch("", flow("10.1.0.5:1", "10.2.0.7:1")),
            "spec.flows[0].latch",
        ),
        (latch("phone", to()), "\"phone\" is no IPv4 or IPv6 literal"),
        (latch("2001:db8::1", to()), "another family"),
        (latch("10.2.0.7", to()), "to itself"),
        (latch("224.0.0.1", to()), "multicast"),
        (
            rtcp(to(), endpoint("10.1.0.5:1"), endpoint("10.2.0.7:1")),
            "spec.flows[0].rtcp.source",
        ),
        (rtcp(to(), None, None), "spec.flows[0].rtcp.destination"),
    ] {
        let added = add(&mut net.client, spec("c1", vec![media])).await;
        assert_status(added, Code::InvalidArgument, &[part]);
    }
    let unknown = add(
        &mut net.client,
        spec("c1", vec![half(Some("10.9.0.1:2"), None)]),
    )
    .await;
    assert_status(unknown, Code::NotFound, &["spec.flows[0].source.address"]);
    // Two that latch to one place would both learn from one packet.
    let one = latching("10.2.0.7:4000", "");
    add(&mut net.client, spec("c1", vec![one.clone()]))
        .await
        .unwrap();
    let other = add(&mut net.client, spec("c2", vec![one])).await;
    assert_status(
        other,
        Code::FailedPrecondition,
        &["UDP any -> 10.2.0.7:4000"],
    );
}

#[tokio::test]
async fn fields_for_others_are_kept_and_bounded() {
    let mut net = Network::start().await;
    let codec = |payload_type, encoding: &str, fmtp: &str| v1::Codec {
        payload_type,
        encoding: encoding.into(),
        clock_rate: 8_000,
        ptime_ms: 20,
        fmtp: fmtp.into(),
    };
    let with = |codecs| v1::SessionSpec {
        correlation_id: "3848276298220188511@atlanta.example.com".into(),
        priority: 1,
        lifetime_s: 180,
        service_class: v1::ServiceClass::Telephony.into(),
        ..spec(
            "c1",
            vec![v1::MediaFlow {
                codecs,
                packet_time_us: 30_000,
                ..flow("10.1.0.5:4000", "10.2.0.7:4000")
            }],
        )
    };
    let good = with(vec![
        codec(8, "PCMA", ""),
        codec(101, "telephone-event", "0-15"),
    ]);
    add(&mut net.client, good.clone()).await.unwrap();
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.spec, Some(with_rtcp(&good)));
    assert!(session.expires_unix_ms.unwrap() > session.updated_unix_ms + 170_000);

    let long = "x".repeat(257);
    let many = |count: u32| {
        (0..count)
            .map(|it| codec(it, "opus", &"a=1;".repeat(60)))
            .collect()
    };
    for (spec, part) in [
        (with(many(20)), "spec.flows.codecs"),
        (
            with((0..33).map(|it| codec(it, "x", "")).collect()),
            "spec.flows[0].codecs",
        ),
        (with(vec![codec(128, "x", "")]), "codecs[0].payload_type"),
        (
            with(vec![codec(0, "x", ""), codec(0, "y", "")]),
            "codecs[1].payload_type",
        ),
        (with(vec![codec(0, "", "")]), "codecs[0].encoding"),
        (with(vec![codec(0, "x", "a\nb")]), "codecs[0].fmtp"),
        (
            v1::SessionSpec {
                correlation_id: long,
                ..with(vec![])
            },
            "spec.correlation_id: has 257 bytes",
        ),
        (
            v1::SessionSpec {
                correlation_id: "a\u{0}b".into(),
                ..with(vec![])
            },
            "control character",
        ),
        (
            v1::SessionSpec {
                lifetime_s: 86_401,
                ..with(vec![])
            },
            "spec.lifetime_s",
        ),
        (
            v1::SessionSpec {
                priority: 16,
                ..with(vec![])
            },
            "spec.priority",
        ),
    ] {
        let added = add(&mut net.client, spec).await;
        assert_status(added, Code::InvalidArgument, &[part]);
    }
}
