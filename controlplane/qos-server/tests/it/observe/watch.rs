//! WatchSessions.

use std::time::Duration;

use crate::common::*;
use tonic::{Code, Streaming, transport::Channel};
use voicelane_proto::v1::{
    self, SessionState, sessions_client::SessionsClient, watch_sessions_response::Kind,
};
use voicelane_server::engine::Settings;

type Events = Streaming<v1::WatchSessionsResponse>;

async fn watch(net: &mut Network, agent: &str, include_existing: bool) -> Events {
    let request = v1::WatchSessionsRequest {
        agent_id: agent.into(),
        include_existing,
    };
    net.client
        .watch_sessions(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(events: &mut Events) -> (Kind, String) {
    let event = tokio::time::timeout(PATIENCE, events.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let kind = event.kind();
    (
        kind,
        event.session.unwrap().spec.unwrap().key.unwrap().session_id,
    )
}

#[tokio::test]
async fn every_change_is_told_after_what_was_there() {
    let mut net = Network::start().await;
    for index in 0..200_u16 {
        add(
            &mut net.client,
            call(&format!("c{index:03}"), 4000 + 2 * index),
        )
        .await
        .unwrap();
    }
    let mut events = watch(&mut net, "test", true).await;
    let mut others = watch(&mut net, "other", true).await;
    for index in 0..200 {
        assert_eq!(
            next(&mut events).await,
            (Kind::Existing, format!("c{index:03}"))
        );
    }
    add(&mut net.client, call("d", 9000)).await.unwrap();
    modify(
        &mut net.client,
        v1::SessionSpec {
            revision: 2,
            ..call("d", 9100)
        },
    )
    .await
    .unwrap();
    delete(&mut net.client, "d").await.unwrap();
    for kind in [Kind::Added, Kind::Modified, Kind::Deleted] {
        assert_eq!(next(&mut events).await, (kind, "d".to_owned()));
    }
    for index in 1..200 {
        delete(&mut net.client, &format!("c{index:03}"))
            .await
            .unwrap();
        assert_eq!(
            next(&mut events).await,
            (Kind::Deleted, format!("c{index:03}"))
        );
    }
    net.b_stream.cut();
    assert_eq!(
        next(&mut events).await,
        (Kind::StateChanged, "c000".to_owned())
    );
    assert_eq!(
        get(&mut net.client, "c000").await.unwrap().state(),
        SessionState::Degraded
    );
    let _stream = net.b.attach(net.server.address).await;
    assert_eq!(
        next(&mut events).await,
        (Kind::StateChanged, "c000".to_owned())
    );
    assert_eq!(
        get(&mut net.client, "c000").await.unwrap().state(),
        SessionState::Active
    );
    let quiet = tokio::time::timeout(Duration::from_millis(50), others.message()).await;
    assert!(quiet.is_err(), "another agent's watcher hears nothing");
    net.server.stop().await;
    assert_status(
        events.message().await,
        Code::Unavailable,
        &["shutting down"],
    );
}

#[tokio::test]
async fn existing_and_changes_have_no_gap_and_no_overlap() {
    let mut net = Network::start().await;
    for index in 0..300_u16 {
        add(
            &mut net.client,
            call(&format!("c{index:03}"), 4000 + 2 * index),
        )
        .await
        .unwrap();
    }
    let mut client = net.client.clone();
    let churn = tokio::spawn(async move {
        for index in 0..300_u16 {
            delete(&mut client, &format!("c{index:03}")).await.unwrap();
            let port = 10_000 + 2 * index;
            add(
                &mut client,
                call(&format!("n{:03}", (index * 7) % 300), port),
            )
            .await
            .unwrap();
        }
    });
    // What the events say is there must at every step be what they can say.
    let mut there = std::collections::BTreeSet::new();
    let mut events = watch(&mut net, "", true).await;
    let mut last_added = 0;
    while last_added < 300
        || there.len() != 300
        || there.iter().any(|name: &String| !name.starts_with('n'))
    {
        let (kind, name) = next(&mut events).await;
        match kind {
            Kind::Existing | Kind::Added => assert!(there.insert(name.clone()), "{name} twice"),
            Kind::Deleted => assert!(there.remove(&name), "{name} was never there"),
            other => panic!("{other:?}"),
        }
        last_added = there.iter().filter(|name| name.starts_with('n')).count();
    }
    churn.await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_does_not_read_ends_with_data_loss() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        watch_buffer: 8,
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let channel = Channel::from_shared(format!("http://{}", net.server.address)).unwrap();
    let channel = channel
        .initial_stream_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut slow = SessionsClient::new(channel);
    let request = v1::WatchSessionsRequest::default();
    let mut events = slow.watch_sessions(request).await.unwrap().into_inner();
    // Large sessions, so that the connection's windows and buffers are full soon.
    let flows = (0..32).map(|index| flow(&format!("10.1.0.5:{}", 4000 + 2 * index), "10.1.0.6:9"));
    let flows: Vec<_> = flows.collect();
    for _ in 0..200 {
        add(&mut net.client, spec("c1", flows.clone()))
            .await
            .unwrap();
        delete(&mut net.client, "c1").await.unwrap();
    }
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = events.message().await {
                return status;
            }
        }
    });
    let ended = ended.await.unwrap();
    assert_status::<()>(Err(ended), Code::DataLoss, &["too slowly", "watch again"]);
}

#[tokio::test]
async fn there_are_only_so_many_watchers() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        max_watchers: 2,
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let first = watch(&mut net, "", false).await;
    let _second = watch(&mut net, "", false).await;
    let third = net
        .client
        .watch_sessions(v1::WatchSessionsRequest::default())
        .await;
    assert_status(
        third,
        Code::ResourceExhausted,
        &["2 watchers", "max_watchers"],
    );
    drop(first);
    eventually("room", || {
        let mut client = net.client.clone();
        async move {
            client
                .watch_sessions(v1::WatchSessionsRequest::default())
                .await
                .ok()
        }
    })
    .await;
}
