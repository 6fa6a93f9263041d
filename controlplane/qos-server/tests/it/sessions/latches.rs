//! Flows whose source is learned: where, from whom, and what is installed then.

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1::{self, SessionState, explain_step::Verdict};

use super::reservations::{explain, latching, placed};

fn learned(destination: &str, source: &str) -> v1::LatchedSource {
    v1::LatchedSource {
        key: key("c1"),
        flow_index: 0,
        kind: v1::FlowKind::Rtp.into(),
        destination: endpoint(destination),
        source: endpoint(source),
    }
}

fn only_entry(router: &FakeRouter) -> v1::FlowEntry {
    let sessions = router.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.values().next().unwrap().entries[0].clone()
}

#[tokio::test]
async fn a_source_is_learned_where_it_is_to_come_from_and_then_installed_everywhere() {
    let mut net = Network::start().await;
    let mut operator = net.server.operator().await;
    let media = latching("10.2.0.7:4000", "10.1.0.9");
    let session = add(&mut net.client, spec("c1", vec![media.clone()]))
        .await
        .unwrap();
    assert_eq!(session.state(), SessionState::Active);
    let entry = only_entry(&net.a);
    assert_eq!(
        (entry.source, entry.destination),
        (None, endpoint("10.2.0.7:4000"))
    );
    assert_eq!(entry.latch.unwrap().address, "10.1.0.9");
    assert_eq!(entry.ingress_interface, "lan0");
    assert_eq!(net.b.installs(), 0, "it could learn only once it is marked");
    let step = placed(&explain(&mut operator).await);
    assert_eq!(step.verdict(), Verdict::Unknown);
    assert!(
        step.detail.contains("latching: source not known yet"),
        "{}",
        step.detail
    );

    // Nobody else's packets, and of no other flow.
    for wrong in [
        learned("10.2.0.7:4000", "10.1.0.10:7"),
        learned("10.2.0.7:4002", "10.1.0.9:7"),
        v1::LatchedSource {
            flow_index: 3,
            ..learned("10.2.0.7:4000", "10.1.0.9:7")
        },
    ] {
        net.a.learn(&net.a_stream, wrong).await;
    }
    net.b
        .learn(&net.b_stream, learned("10.2.0.7:4000", "10.1.0.9:8"))
        .await;
    net.a
        .learn(&net.a_stream, learned("10.2.0.7:4000", "10.1.0.9:61000"))
        .await;
    net.b
        .until("it has the learned five-tuple", |b| b.has("c1"))
        .await;
    for (router, ingress) in [(&net.a, "lan0"), (&net.b, "")] {
        let entry = only_entry(router);
        assert_eq!(entry.source, endpoint("10.1.0.9:61000"));
        assert_eq!(
            (entry.latch, entry.ingress_interface.as_str()),
            (None, ingress)
        );
    }
    // It does not learn again.
    net.a
        .learn(&net.a_stream, learned("10.2.0.7:4000", "10.1.0.9:61002"))
        .await;
    let session = eventually("settled", || {
        let mut client = net.client.clone();
        async move {
            let session = get(&mut client, "c1").await.unwrap();
            (session.state() == SessionState::Active).then_some(session)
        }
    })
    .await;
    let at = &session.placements[0];
    assert_eq!(at.latched_source, endpoint("10.1.0.9:61000"));
    assert_eq!(at.source.as_ref().unwrap().router_id, "a");
    assert_eq!(session.spec.unwrap().flows, vec![media.clone()]);
    let step = placed(&explain(&mut operator).await);
    assert_eq!(step.verdict(), Verdict::Ok);
    assert!(
        step.detail.contains("10.1.0.9:61000 was learned"),
        "{}",
        step.detail
    );

    // A change elsewhere keeps it; the five-tuple is this session's.
    let faster = v1::MediaFlow {
        max_bitrate_bps: 90_000,
        ..media.clone()
    };
    let later = v1::SessionSpec {
        revision: 2,
        ..spec("c1", vec![faster])
    };
    modify(&mut net.client, later).await.unwrap();
    assert_eq!(only_entry(&net.b).source, endpoint("10.1.0.9:61000"));
    let taken = flow("10.1.0.9:61000", "10.2.0.7:4000");
    let other = add(&mut net.client, spec("c2", vec![taken])).await;
    assert_status(other, Code::FailedPrecondition, &["\"c1\""]);
    // Added anew it learns anew.
    delete(&mut net.client, "c1").await.unwrap();
    add(&mut net.client, spec("c1", vec![media])).await.unwrap();
    assert_eq!(only_entry(&net.a).source, None);
}

#[tokio::test]
async fn without_an_address_the_destinations_router_learns() {
    let mut net = Network::start().await;
    let media = latching("10.2.0.7:4000", "");
    add(&mut net.client, spec("c1", vec![media])).await.unwrap();
    assert_eq!(net.a.installs(), 0);
    let entry = only_entry(&net.b);
    assert_eq!((entry.source, entry.ingress_interface.as_str()), (None, ""));
    // From where no router is: it stays as it is, and says so.
    net.b
        .learn(&net.b_stream, learned("10.2.0.7:4000", "192.0.2.9:7000"))
        .await;
    let degraded = eventually("degraded", || {
        let mut client = net.client.clone();
        async move {
            let session = get(&mut client, "c1").await.unwrap();
            (session.state() == SessionState::Degraded).then_some(session)
        }
    })
    .await;
    assert_eq!(
        degraded.placements[0].latched_source,
        endpoint("192.0.2.9:7000")
    );
    assert_eq!(only_entry(&net.b).source, None);
    let mut operator = net.server.operator().await;
    let step = placed(&explain(&mut operator).await);
    assert!(
        step.detail.contains("192.0.2.9:7000 was learned, but no"),
        "{}",
        step.detail
    );
    // A router that reaches it comes: the session is completed.
    let prefixes = ["10.1.0.0/24", "192.0.2.0/24"];
    net.a
        .report(&net.a_stream, vec![edge("lan0", &prefixes)])
        .await;
    net.a.until("it has the session", |a| a.has("c1")).await;
    assert_eq!(only_entry(&net.a).source, endpoint("192.0.2.9:7000"));
}

#[tokio::test]
async fn a_router_that_comes_back_tells_what_it_has_learned() {
    let mut net = Network::start().await;
    let media = latching("10.2.0.7:4000", "10.1.0.9");
    add(&mut net.client, spec("c1", vec![media])).await.unwrap();
    net.a_stream.cut();
    let again = net.a.attach(net.server.address).await;
    net.a
        .learn(&again, learned("10.2.0.7:4000", "10.1.0.9:61000"))
        .await;
    net.b
        .until("it has the learned five-tuple", |b| b.has("c1"))
        .await;
}

#[tokio::test]
async fn a_source_learned_while_the_session_is_modified_is_not_lost() {
    let mut net = Network::start().await;
    let own = flow("10.2.0.20:6000", "10.2.0.21:6000");
    let version = |revision, destination| v1::SessionSpec {
        revision,
        ..spec("c1", vec![latching(destination, "10.1.0.9"), own.clone()])
    };
    add(&mut net.client, version(1, "10.2.0.7:4000"))
        .await
        .unwrap();
    // Router a has the later version, and b does not answer yet.
    net.b.behave(|_| Manner::Silent);
    let faster = {
        let mut later = version(2, "10.2.0.8:4000");
        later.flows[1].max_bitrate_bps = 90_000;
        later
    };
    let mut client = net.client.clone();
    let modified = tokio::spawn(async move { modify(&mut client, faster).await });
    net.a
        .until("it has the later version", |a| {
            let sessions = a.sessions();
            sessions.values().any(|it| it.revision == 2)
        })
        .await;
    net.a
        .learn(&net.a_stream, learned("10.2.0.8:4000", "10.1.0.9:61000"))
        .await;
    // It has been read when a later message of the same stream has.
    let interfaces = vec![edge("lan0", &["10.1.0.0/24", "10.77.0.0/24"])];
    net.a.report(&net.a_stream, interfaces).await;
    let operator = net.server.operator().await;
    eventually("the report", || {
        let mut operator = operator.clone();
        async move {
            let routers = operator
                .list_routers(v1::ListRoutersRequest::default())
                .await;
            let routers = routers.unwrap().into_inner().routers;
            let a = routers.iter().find(|it| it.router_id == "a").unwrap();
            (a.interfaces[0].prefixes.len() == 2).then_some(())
        }
    })
    .await;
    net.b.behave(|_| Manner::Obey);
    net.b.break_silence(&net.b_stream).await;
    modified.await.unwrap().unwrap();
    net.a
        .until("it has the learned five-tuple", |a| {
            let sessions = a.sessions();
            let mut entries = sessions.values().flat_map(|it| &it.entries);
            entries.any(|it| it.source == endpoint("10.1.0.9:61000"))
        })
        .await;
}

#[tokio::test]
async fn a_source_that_cannot_be_installed_gives_way_to_a_later_one() {
    let mut net = Network::start().await;
    let media = latching("10.2.0.7:4000", "");
    add(&mut net.client, spec("c1", vec![media])).await.unwrap();
    net.b
        .learn(&net.b_stream, learned("10.2.0.7:4000", "192.0.2.9:7000"))
        .await;
    eventually("degraded", || {
        let mut client = net.client.clone();
        async move {
            let session = get(&mut client, "c1").await.unwrap();
            (session.state() == SessionState::Degraded).then_some(())
        }
    })
    .await;
    // The router was started again, and has learned another one.
    net.b
        .learn(&net.b_stream, learned("10.2.0.7:4000", "10.1.0.9:61000"))
        .await;
    net.a.until("it has the session", |a| a.has("c1")).await;
    assert_eq!(only_entry(&net.a).source, endpoint("10.1.0.9:61000"));
}
