//! Routers that are slow or mute, and agents that flood: they hold up nobody else.

use std::time::{Duration, Instant};

use super::gate::Gate;
use crate::common::*;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, command::Command, session_change::Change, sessions_client::SessionsClient,
    watch_sessions_response::Kind,
};
use voicelane_server::engine::Settings;

fn settings(acknowledge_timeout: Duration) -> Settings {
    Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout,
        ..Settings::default()
    }
}

/// A session of an agent, one way.
fn of_agent(agent: &str, index: usize, from: &str, to: &str) -> v1::SessionSpec {
    let port = 2 + 2 * (index % 30_000);
    v1::SessionSpec {
        key: Some(v1::SessionKey {
            agent_id: agent.into(),
            session_id: format!("s{index}"),
        }),
        ..spec(
            "",
            vec![flow(&format!("{from}:{port}"), &format!("{to}:{port}"))],
        )
    }
}

/// Adds sessions over a stream, as fast as the stream's window lets.
async fn flood(
    client: &SessionsClient<Channel>,
    specs: impl Iterator<Item = v1::SessionSpec> + Send + 'static,
) -> tonic::Streaming<v1::ChangeSessionsResponse> {
    let (requests, outgoing) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        for (tag, spec) in (0..).zip(specs) {
            let spec = Some(spec);
            let changes = vec![v1::SessionChange {
                tag,
                change: Some(Change::Add(v1::AddSessionRequest { spec })),
                with_session: false,
            }];
            let request = v1::ChangeSessionsRequest { changes };
            if requests.send(request).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut client = client.clone();
    let opened = client.change_sessions(ReceiverStream::new(outgoing));
    timeout(PATIENCE, opened)
        .await
        .unwrap()
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_router_and_a_busy_agent_hold_up_neither_events_nor_moves() {
    let server = TestServer::with(settings(Duration::from_secs(5))).await;
    let mut net = Network::on(server).await;
    let mute = FakeRouter::reaching("mute", &["10.3.0.0/16"]);
    mute.behave(|command| match command {
        Command::Install(_) | Command::Remove(_) => Manner::Silent,
        Command::Read(_) => Manner::Obey,
    });
    let _mute = mute.attach(net.server.address).await;
    for index in 0..20 {
        add(
            &mut net.client,
            call(&format!("c{index}"), 4000 + 2 * index),
        )
        .await
        .unwrap();
    }
    // Sorts before the calls; keeps 300 adds waiting for the mute router.
    let specs = (0..).map(|index| of_agent("busy", index % 300, "10.1.0.6", "10.3.0.1"));
    let client = net.client.clone();
    let busy = tokio::spawn(
        stream::iter(specs)
            .map(move |spec| {
                let mut client = client.clone();
                async move { drop(add(&mut client, spec).await) }
            })
            .buffer_unordered(300)
            .collect::<()>(),
    );
    mute.until("asked", |it| it.installs() >= 250).await;
    let request = v1::WatchSessionsRequest {
        agent_id: "test".into(),
        include_existing: false,
    };
    let mut watcher = net.server.sessions().await;
    let mut events = watcher.watch_sessions(request).await.unwrap().into_inner();
    let lost = Instant::now();
    net.b_stream.cut();
    let told = async {
        for _ in 0..20 {
            let event = events.message().await.unwrap().unwrap();
            assert_eq!(event.kind(), Kind::StateChanged);
        }
    };
    timeout(Duration::from_secs(20), told)
        .await
        .expect("the lost router is told");
    eprintln!("told after {:?}", lost.elapsed());
    // Another router reaches the callees now.
    let c = FakeRouter::reaching("c", &["10.2.0.7/32"]);
    let moved = Instant::now();
    let _c = c.attach(net.server.address).await;
    c.until("served", |c| c.sessions().len() == 20).await;
    eprintln!("moved after {:?}", moved.elapsed());
    busy.abort();
}

/// What has to go to a mute router must not hold up what has to go elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_to_a_mute_router_hold_up_no_other_moves() {
    let mut net = Network::on(TestServer::with(settings(Duration::from_secs(5))).await).await;
    for index in 0..500 {
        let to_mute = of_agent("aa", index, "10.1.0.6", "10.2.0.8");
        add(&mut net.client, to_mute).await.unwrap();
    }
    for index in 0..20 {
        let to_other = of_agent("zz", index, "10.1.0.6", "10.2.0.9");
        add(&mut net.client, to_other).await.unwrap();
    }
    let mute = FakeRouter::reaching("mute", &[]);
    let mute_stream = mute.attach(net.server.address).await;
    mute.behave(|_| Manner::Silent);
    mute.report(&mute_stream, vec![edge("lan0", &["10.2.0.8/32"])])
        .await;
    mute.until("asked", |it| it.installs() > 0).await;
    let other = FakeRouter::reaching("other", &["10.2.0.9/32"]);
    let _other = other.attach(net.server.address).await;
    other.until("served", |it| it.sessions().len() == 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_is_busy_but_answers_stays() {
    let server = TestServer::with(settings(Duration::from_secs(2))).await;
    let prefixes = ["10.1.0.0/16", "10.2.0.0/16"];
    let pace = Duration::from_millis(2);
    let router = Gate::slow(server.address, "r", &prefixes, pace).await;
    let client = server.sessions().await;
    let specs = (0..4_000).map(|index| of_agent("flood", index, "10.1.0.6", "10.2.0.1"));
    let mut outcomes = flood(&client, specs).await;
    let (mut done, mut refused) = (0, 0);
    while done + refused < 4_000 {
        let response = timeout(PATIENCE, outcomes.message()).await.unwrap();
        for outcome in response.unwrap().unwrap().outcomes {
            match Code::from(outcome.code) {
                Code::Ok => done += 1,
                Code::Unavailable if outcome.message.contains("did not acknowledge") => {
                    refused += 1
                }
                _ => panic!("{outcome:?}"),
            }
        }
    }
    eprintln!("{done} done, {refused} refused");
    assert!(!router.is_gone());
    assert!(done > 0, "some are done in time");
    eventually("served again", || {
        let mut client = client.clone();
        async move {
            let later = of_agent("later", 0, "10.1.0.7", "10.2.0.1");
            add(&mut client, later).await.ok()
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_router_is_synchronised() {
    let server = TestServer::with(settings(Duration::from_secs(1))).await;
    let prefixes = ["10.1.0.0/16", "10.2.0.0/16"];
    let router = Gate::attach(server.address, "r", &prefixes).await;
    let mut client = server.sessions().await;
    for index in 0..500 {
        let spec = of_agent("test", index, "10.1.0.6", "10.2.0.1");
        add(&mut client, spec).await.unwrap();
    }
    drop(router);
    // 256 at a time: each waits for more than a second.
    let pace = Duration::from_millis(8);
    let slow = Gate::slow(server.address, "r", &prefixes, pace).await;
    assert!(!slow.is_gone());
    assert!(slow.taken() >= 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_floods_a_slow_router_does_not_hold_up_another() {
    let server = TestServer::with(settings(Duration::from_secs(60))).await;
    let prefixes = ["10.1.0.0/16", "10.2.0.0/16"];
    let pace = Duration::from_millis(1);
    let router = Gate::slow(server.address, "r", &prefixes, pace).await;
    let flooding = server.sessions().await;
    let specs = (0..).map(|index| of_agent("flood", index, "10.1.0.6", "10.2.0.1"));
    let _outcomes = flood(&flooding, specs.take(20_000)).await;
    eventually("flooded", || async {
        (server.engine.sessions(None, None, 1).total >= 4_096).then_some(())
    })
    .await;
    let mut client = server.sessions().await;
    for index in 0..5 {
        let before = router.taken();
        let spec = of_agent("other", index, "10.1.0.7", "10.2.0.1");
        add(&mut client, spec).await.unwrap();
        let between = router.taken() - before;
        assert!(between < 1_000, "{between} commands went before");
    }
}

/// At the largest window of a stream no change waits while others that came later go by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_stream_overtake_few_others() {
    const COUNT: usize = 20_000;
    let server = TestServer::with(settings(Duration::from_secs(60))).await;
    let _router = Gate::attach(server.address, "r", &["10.1.0.0/16", "10.2.0.0/16"]).await;
    let client = server.sessions().await;
    let specs = (0..COUNT).map(|index| of_agent("one", index, "10.1.0.6", "10.2.0.1"));
    let mut outcomes = flood(&client, specs).await;
    let (mut last, mut done, mut most) = (0, 0, 0);
    while done < COUNT {
        let response = timeout(PATIENCE, outcomes.message()).await.unwrap();
        for outcome in response.unwrap().unwrap().outcomes {
            assert_eq!(outcome.code, 0, "{outcome:?}");
            done += 1;
            last = last.max(outcome.tag);
            most = most.max(last - outcome.tag);
        }
    }
    assert!(
        most < 3_000,
        "{most} changes that came later had an outcome"
    );
}
