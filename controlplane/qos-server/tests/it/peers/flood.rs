//! Peers that send as fast as flow control lets them, in the smallest frames.

use std::{collections::BTreeSet, time::Duration};

use super::{gate::Gate, wire::*};
use crate::common::*;
use tokio::task::JoinHandle;
use voicelane_proto::v1;
use voicelane_server::engine::Settings;

const CHANGES: &str = "/voicelane.v1.Sessions/ChangeSessions";
const GET: &str = "/voicelane.v1.Sessions/GetSession";

fn patient() -> Settings {
    Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: FLOOD_PATIENCE,
        ..Settings::default()
    }
}

fn adding(tag: u64) -> v1::ChangeSessionsRequest {
    let (host, port) = (tag / 20_000, 4_000 + 2 * (tag % 20_000));
    let there = format!("10.2.{}.7:{port}", host % 200);
    let flow = v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::None.into(),
            ..Default::default()
        }),
        ..flow(&format!("10.1.0.5:{port}"), &there)
    };
    let spec = Some(spec(&format!("c{tag}"), vec![flow]));
    v1::ChangeSessionsRequest {
        changes: vec![v1::SessionChange {
            tag,
            change: Some(v1::session_change::Change::Add(v1::AddSessionRequest {
                spec,
            })),
            with_session: false,
        }],
    }
}

/// Takes outcomes until there are so many; all have to be good.
async fn outcomes(receiving: &mut Receiving, count: u64) {
    let mut tags = BTreeSet::new();
    while tags.len() < count as usize {
        let response = receiving
            .message::<v1::ChangeSessionsResponse>()
            .await
            .unwrap_or_else(|error| panic!("after {} outcomes: {error}", tags.len()))
            .expect("more outcomes");
        for outcome in response.outcomes {
            assert_eq!(outcome.code, 0, "{outcome:?}");
            assert!(tags.insert(outcome.tag));
        }
    }
}

/// Sends these adds as fast as flow control lets, each in a frame of its own.
fn flood(mut sending: Sending, tags: std::ops::Range<u64>) -> JoinHandle<Sending> {
    tokio::spawn(async move {
        for tag in tags.clone() {
            if let Err(error) = sending.send(&adding(tag)).await {
                panic!("after {} adds: {error}", tag - tags.start);
            }
        }
        sending
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_floods_is_held_by_flow_control() {
    const COUNT: u64 = 12_000;
    let server = TestServer::with(patient()).await;
    let router = Gate::attach(server.address, "r", &["10.1.0.0/16", "10.2.0.0/16"]).await;
    router.close();
    let wire = Wire::connect(server.address).await;
    let (sending, response) = wire.call(CHANGES).await;
    let sending = flood(sending, 0..COUNT);
    // Until the window is full and all that fits behind it has come.
    eventually("held", || async {
        let before = router.taken();
        tokio::time::sleep(Duration::from_millis(500)).await;
        (before > 0 && router.taken() == before).then_some(())
    })
    .await;
    router.open();
    let mut receiving = Receiving::of(response).await;
    outcomes(&mut receiving, COUNT).await;
    sending.await.unwrap();
    assert_eq!(server.engine.sessions(None, None, 1).total, COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cut_into_frames_of_one_byte_are_held_too() {
    const COUNT: u64 = 5_000;
    let server = TestServer::with(patient()).await;
    let router = Gate::attach(server.address, "r", &["10.1.0.0/16", "10.2.0.0/16"]).await;
    router.close();
    let wire = Wire::connect(server.address).await;
    let (mut sending, response) = wire.call(CHANGES).await;
    let writing = tokio::spawn(async move {
        for tag in 0..COUNT {
            let whole = framed(&adding(tag));
            // The first ones whole, so that the rest waits behind a full window.
            let step = if tag < 4_200 { whole.len() } else { 1 };
            for at in (0..whole.len()).step_by(step) {
                let sent = sending.bytes(whole.slice(at..at + step)).await;
                sent.unwrap_or_else(|error| panic!("after {tag} adds: {error}"));
            }
        }
        sending
    });
    eventually("held", || async {
        let before = router.taken();
        tokio::time::sleep(Duration::from_millis(500)).await;
        (before > 0 && router.taken() == before).then_some(())
    })
    .await;
    router.open();
    let mut receiving = Receiving::of(response).await;
    outcomes(&mut receiving, COUNT).await;
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_acknowledges_many_at_once_frame_by_frame_stays() {
    let server = TestServer::with(patient()).await;
    let router = Gate::attach(server.address, "r", &["10.1.0.0/16", "10.2.0.0/16"]).await;
    let wire = Wire::connect(server.address).await;
    let (mut sending, response) = wire.call(CHANGES).await;
    let mut receiving = None;
    let mut response = Some(response);
    for round in 0..2 {
        router.close();
        let before = router.taken();
        sending = flood(sending, round * 4_000..(round + 1) * 4_000)
            .await
            .unwrap();
        eventually("held", || async {
            let now = router.taken();
            tokio::time::sleep(Duration::from_millis(200)).await;
            (now > before && router.taken() == now).then_some(())
        })
        .await;
        router.open();
        if let Some(response) = response.take() {
            receiving = Some(Receiving::of(response).await);
        }
        outcomes(receiving.as_mut().unwrap(), 4_000).await;
    }
    assert!(!router.is_gone());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_end_no_stream_beside_them() {
    let server = TestServer::with(patient()).await;
    let router = Gate::attach(server.address, "r", &["10.1.0.0/16", "10.2.0.0/16"]).await;
    let wire = Wire::connect(server.address).await;
    let (sending, response) = wire.call(CHANGES).await;
    let sending = flood(sending, 0..6_000);
    for round in 0..10 {
        for call in 0..200 {
            let (mut cancelled, _response) = wire.call(GET).await;
            let message = v1::GetSessionRequest { key: key("c1") };
            if call % 2 == 0 {
                cancelled.send(&message).await.unwrap_or_else(|error| {
                    panic!("round {round}, call {call}: {error}");
                });
            }
            cancelled.0.send_reset(h2::Reason::CANCEL);
        }
    }
    let mut receiving = Receiving::of(response).await;
    outcomes(&mut receiving, 6_000).await;
    sending.await.unwrap();
    assert!(!router.is_gone());
}
