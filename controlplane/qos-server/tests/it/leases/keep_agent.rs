//! Agents' leases and silent sessions, over the wire.

use std::time::Duration;

use crate::common::*;
use tempfile::tempdir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use voicelane_proto::v1::{
    self, attach_request,
    watch_sessions_response::{Kind, Reaper},
};
use voicelane_server::{engine::Settings, model::leases::silence::SilenceLimits};

fn settings() -> Settings {
    Settings {
        adopt_for: Duration::ZERO,
        silence: SilenceLimits {
            silent: Duration::from_millis(100),
            keep_within: Duration::from_millis(1_500),
            ..SilenceLimits::default()
        },
        ..Settings::default()
    }
}

/// An agent's stream.
struct Agent {
    requests: mpsc::Sender<v1::KeepAgentRequest>,
    told: Streaming<v1::KeepAgentResponse>,
}

impl Agent {
    async fn start(server: &TestServer, agent: &str) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(8);
        let this = requests.clone();
        this.send(request(agent, &[])).await.unwrap();
        let mut client = server.sessions().await;
        let told = client.keep_agent(ReceiverStream::new(outgoing)).await?;
        let told = told.into_inner();
        Ok(Self { requests, told })
    }

    async fn next(&mut self) -> Result<v1::KeepAgentResponse, Status> {
        let next = timeout(PATIENCE, self.told.message()).await.unwrap();
        next.map(|message| message.expect("a message"))
    }

    async fn say(&self, request: v1::KeepAgentRequest) {
        self.requests.send(request).await.unwrap();
    }
}

fn request(agent: &str, keep: &[&str]) -> v1::KeepAgentRequest {
    v1::KeepAgentRequest {
        agent_id: agent.into(),
        keep: keep.iter().map(ToString::to_string).collect(),
    }
}

/// A router says that these are silent.
async fn silent(stream: &Stream, names: &[&str]) {
    let silent = |name: &&str| v1::SilentSession {
        key: key(name),
        silent_ms: 130_000,
        never: false,
    };
    let sessions = names.iter().map(silent).collect();
    let message = attach_request::Message::Silent(v1::SilentSessions { sessions });
    let message = Some(message);
    stream
        .outbound
        .send(v1::AttachRequest { message })
        .await
        .unwrap();
}

#[tokio::test]
async fn an_agent_is_asked_about_silent_calls_and_keeps_what_it_wants() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut agent = Agent::start(&net.server, "test").await.unwrap();
    let welcome = agent.next().await.unwrap();
    assert_eq!(welcome.ttl_s, 60);
    assert_eq!(welcome.server_epoch, net.server.engine.epoch());
    add(&mut net.client, call("kept", 4000)).await.unwrap();
    add(&mut net.client, call("dead", 5000)).await.unwrap();
    let request_all = v1::WatchSessionsRequest::default();
    let watched = net.client.watch_sessions(request_all).await.unwrap();
    let mut watched = watched.into_inner();
    // One router is not enough.
    silent(&net.a_stream, &["kept", "dead", "unknown"]).await;
    let early = timeout(Duration::from_millis(700), agent.told.message()).await;
    assert!(early.is_err(), "asked though b has not said so: {early:?}");
    silent(&net.b_stream, &["kept", "dead"]).await;
    let asked = agent.next().await.unwrap();
    assert_eq!(asked.silent, ["dead", "kept"]);
    agent.say(request("", &["kept", "no such"])).await;
    let mut kinds = Vec::new();
    let deleted = loop {
        let event = timeout(PATIENCE, watched.message()).await.unwrap();
        let event = event.unwrap().unwrap();
        let name = event.session.clone().unwrap().spec.unwrap().key.unwrap();
        if event.kind() == Kind::Deleted {
            break (name.session_id, event.reaper(), event.reason);
        }
        kinds.push((event.kind(), name.session_id));
    };
    assert!(
        kinds.contains(&(Kind::Silent, "dead".to_owned())),
        "{kinds:?}"
    );
    let expected = ("dead".to_owned(), Reaper::Silence, "no packets".to_owned());
    assert_eq!(deleted, expected);
    get(&mut net.client, "kept").await.unwrap();
    assert!(!net.a.has("dead") && !net.b.has("dead"));
    // An agent that comes again is asked what is still open.
    silent(&net.a_stream, &["kept"]).await;
    silent(&net.b_stream, &["kept"]).await;
    assert_eq!(agent.next().await.unwrap().silent, ["kept"]);
    let mut again = Agent::start(&net.server, "test").await.unwrap();
    again.next().await.unwrap();
    assert_eq!(again.next().await.unwrap().silent, ["kept"]);
}

/// A packet came after a router had said that none does.
#[tokio::test]
async fn a_call_that_is_heard_again_stays() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    add(&mut net.client, call("c", 4000)).await.unwrap();
    let install = net.a.sessions().into_values().next().unwrap();
    let counters = install.entries.iter().map(|entry| v1::EntryCounters {
        flow_index: entry.flow_index,
        kind: entry.kind,
        source: entry.source.clone(),
        destination: entry.destination.clone(),
        packets: 1,
        last_seen_ms_ago: Some(20),
        ..v1::EntryCounters::default()
    });
    net.b.count(counters.collect());
    silent(&net.a_stream, &["c"]).await;
    silent(&net.b_stream, &["c"]).await;
    net.b
        .until("asked for counters", |router| {
            let log = router.log();
            let mut log = log.iter();
            log.any(|it| matches!(it, v1::command::Command::Read(_)))
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    get(&mut net.client, "c").await.unwrap();
}

#[tokio::test]
async fn what_an_agent_may_not_say_ends_its_stream() {
    let server = TestServer::start().await;
    for (first, then, parts) in [
        (request("", &[]), None, ["agent_id", ""]),
        (
            request("x", &[]),
            Some(request("y", &[])),
            ["agent_id", "\"x\""],
        ),
        (
            request("x", &[]),
            Some(request("", &["a"; 1_025])),
            ["keep", "1024"],
        ),
        (request("x", &["\n"]), None, ["keep[0]", ""]),
    ] {
        let (requests, outgoing) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        if let Some(then) = then {
            requests.send(then).await.unwrap();
        }
        let mut client = server.sessions().await;
        let told = client.keep_agent(ReceiverStream::new(outgoing)).await;
        let mut told = told.unwrap().into_inner();
        let end = loop {
            match timeout(PATIENCE, told.message()).await.unwrap() {
                Ok(message) => assert!(message.is_some(), "no error"),
                Err(status) => break status,
            }
        };
        assert_status::<()>(Err(end), Code::InvalidArgument, &parts);
    }
}

#[tokio::test]
async fn an_agent_that_does_not_come_back_after_a_restart_is_lost_all_the_same() {
    let folder = tempdir().unwrap();
    let short = Settings {
        agent_ttl: Duration::from_millis(700),
        agent_lost: Duration::from_millis(700),
        ..settings()
    };
    let net = Network::on(TestServer::stored(folder.path(), short.clone()).await).await;
    let mut client = net.client.clone();
    // A session of before its lease, one of later, and one of an agent that has none.
    add(&mut client, call("before", 4000)).await.unwrap();
    let mut other = call("other", 4100);
    other.key.as_mut().unwrap().agent_id = "cli".into();
    add(&mut client, other).await.unwrap();
    let mut agent = Agent::start(&net.server, "test").await.unwrap();
    agent.next().await.unwrap();
    add(&mut client, call("later", 4200)).await.unwrap();
    drop((agent, client));
    let Network { server, .. } = net;
    server.stop().await;

    let server = TestServer::stored(folder.path(), short).await;
    let mut client = server.sessions().await;
    assert_eq!(list(&mut client).await.total, 3);
    eventually("the agent's sessions gone", || {
        let mut client = client.clone();
        async move {
            let sessions = list(&mut client).await.sessions;
            let names: Vec<_> = sessions
                .into_iter()
                .map(|it| it.spec.unwrap().key.unwrap().session_id)
                .collect();
            (names == ["other"]).then_some(())
        }
    })
    .await;
    let text = server
        .engine
        .metrics()
        .text(&server.engine.snapshot().await);
    let line = r#"voicelane_server_reaped_sessions_total{reaper="agent_lost"} 2"#;
    assert!(text.contains(line), "{text}");
}
