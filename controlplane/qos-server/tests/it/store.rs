//! The store: what a server that is started again knows, and what it tells routers.

mod commits;
pub(crate) mod killed;
pub(crate) mod killed_rounds;

use std::{collections::HashMap, time::Duration};

use crate::common::*;
use tempfile::{TempDir, tempdir};
use tokio::time::sleep;
use tonic::Code;
use voicelane_proto::v1::{self, command_result};
use voicelane_server::{engine::Settings, journal::commands};

fn settings() -> Settings {
    Settings {
        retry_every: Duration::from_millis(50),
        ..Settings::default()
    }
}

/// A server on a store that is older than it, and what routers and agents have of it.
struct Restarted {
    folder: TempDir,
    a: FakeRouter,
    b: FakeRouter,
}

impl Restarted {
    /// With sessions that were added before.
    async fn with(specs: Vec<v1::SessionSpec>) -> Self {
        let folder = tempdir().unwrap();
        let server = TestServer::stored(folder.path(), settings()).await;
        let mut net = Network::on(server).await;
        for spec in specs {
            add(&mut net.client, spec).await.unwrap();
        }
        let Network { server, a, b, .. } = net;
        server.stop().await;
        a.clear_log();
        b.clear_log();
        Self { folder, a, b }
    }

    async fn start(&self) -> TestServer {
        TestServer::stored(self.folder.path(), settings()).await
    }

    /// What the store has, by the session's name.
    fn stored(&self) -> HashMap<String, v1::SessionSpec> {
        let mut lines = Vec::new();
        commands::export(self.folder.path(), &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let sessions = lines.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let spec = line.get("session")?.get("spec").unwrap().clone();
            let spec: v1::SessionSpec = serde_json::from_value(spec).unwrap();
            Some((spec.key.clone().unwrap().session_id, spec))
        });
        sessions.collect()
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempdir().unwrap();
    let mut net = Network::on(TestServer::stored(folder.path(), settings()).await).await;
    for (name, port) in [("c1", 4000), ("c2", 4002), ("c3", 4004)] {
        add(&mut net.client, call(name, port)).await.unwrap();
    }
    let mut second = call("c1", 5000);
    second.revision = 2;
    second.priority = 3;
    let modified = modify(&mut net.client, second.clone()).await.unwrap();
    delete(&mut net.client, "c2").await.unwrap();
    let epoch = net.server.engine.epoch();
    let Network { server, a, b, .. } = net;
    server.stop().await;
    a.clear_log();
    b.clear_log();

    let server = TestServer::stored(folder.path(), settings()).await;
    assert_eq!(server.engine.epoch(), epoch, "agents need not add anything");
    let mut client = server.sessions().await;
    assert_eq!(list(&mut client).await.total, 2);
    let was = get(&mut client, "c1").await.unwrap();
    assert_eq!(
        (&was.spec, &was.placements),
        (&modified.spec, &modified.placements)
    );
    assert_eq!(was.created_unix_ms, modified.created_unix_ms);
    assert_eq!(was.state(), v1::SessionState::Degraded);
    for router in &was.routers {
        assert_eq!(router.state(), v1::router_installation::State::Away);
        assert!(router.detail.contains("not come back yet"), "{router:?}");
    }
    assert_status(get(&mut client, "c2").await, Code::NotFound, &["c2"]);
    // Behind which routers the addresses are is known, too.
    let new = add(&mut client, call("c4", 4006)).await;
    assert_status(new, Code::Unavailable, &["10.1.0.5", "router a"]);
    add(&mut client, second).await.expect("the same again");

    let (_a, _b) = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    eventually("active", || {
        let mut client = client.clone();
        async move {
            (get(&mut client, "c1").await.unwrap().state() == v1::SessionState::Active)
                .then_some(())
        }
    })
    .await;
    for router in [&a, &b] {
        assert!(router.log().is_empty(), "{:?}", router.log());
        let synchronised = router.synchronised().unwrap();
        assert_eq!((synchronised.unchanged, synchronised.removed), (2, 0));
    }
    add(&mut client, call("c4", 4006)).await.unwrap();
    add(&mut client, call("c5", 4000))
        .await
        .expect("the ports that c1 has left");
    let taken = add(&mut client, call("c6", 5000)).await;
    assert_status(taken, Code::FailedPrecondition, &["c1"]);
}

#[tokio::test]
async fn routers_that_have_lost_all_get_it_from_the_store() {
    let calls: Vec<_> = (0..50)
        .map(|n| call(&format!("c{n}"), 4000 + 2 * n))
        .collect();
    let restarted = Restarted::with(calls).await;
    let had = restarted.a.sessions();
    let server = restarted.start().await;
    for n in 0..50 {
        restarted.a.forget(&format!("c{n}"));
    }
    let (_a, _b) = (
        restarted.a.attach(server.address).await,
        restarted.b.attach(server.address).await,
    );
    assert_eq!(restarted.a.sessions(), had);
    assert!(restarted.b.log().is_empty());
}

#[tokio::test]
async fn a_session_of_a_router_that_is_not_back_stays_where_it_is() {
    let restarted = Restarted::with(vec![call("c1", 4000)]).await;
    let server = restarted.start().await;
    // It reaches everything, so it would get what is behind b if b were not known.
    restarted.a.set_interfaces(vec![
        edge("lan0", &["10.1.0.0/24"]),
        edge("all", &["0.0.0.0/0"]),
    ]);
    let _a = restarted.a.attach(server.address).await;
    let mut client = server.sessions().await;
    sleep(Duration::from_millis(300)).await;
    let session = get(&mut client, "c1").await.unwrap();
    let routers: Vec<_> = session
        .routers
        .iter()
        .map(|it| (&*it.router_id, it.state()))
        .collect();
    use v1::router_installation::State;
    assert_eq!(routers, [("a", State::Installed), ("b", State::Away)]);
    assert!(restarted.a.log().is_empty(), "{:?}", restarted.a.log());
}

#[tokio::test]
async fn a_store_says_what_routers_are_to_have_from_the_first_moment() {
    let restarted = Restarted::with(vec![call("c1", 4000)]).await;
    let mut left = restarted.a.sessions().into_values().next().unwrap();
    left.key = key("left");
    for entry in &mut left.entries {
        entry.source = endpoint("10.1.0.9:9");
    }
    restarted.a.hold(left);
    let server = restarted.start().await;
    let _a = restarted.a.attach(server.address).await;
    // The server has known that it is gone: there is no grace.
    assert!(!restarted.a.has("left") && restarted.a.has("c1"));
}

#[tokio::test]
async fn a_new_store_leaves_in_place_what_routers_have() {
    let restarted = Restarted::with(vec![call("c1", 4000)]).await;
    let folder = tempdir().unwrap();
    let server = TestServer::stored(folder.path(), settings()).await;
    let (_a, _b) = (
        restarted.a.attach(server.address).await,
        restarted.b.attach(server.address).await,
    );
    assert!(restarted.a.has("c1") && restarted.a.log().is_empty());
    let mut client = server.sessions().await;
    add(&mut client, call("c1", 4000)).await.unwrap();
    assert!(restarted.a.log().is_empty(), "it was adopted");
}

#[tokio::test]
async fn what_a_router_has_refused_is_not_in_the_store() {
    let folder = tempdir().unwrap();
    let net = Network::on(TestServer::stored(folder.path(), settings()).await).await;
    let mut client = net.client.clone();
    add(&mut client, call("c1", 4000)).await.unwrap();
    net.b.behave(|command| match command {
        v1::command::Command::Install(_) => {
            Manner::Refuse(command_result::Code::TableFull, "no room")
        }
        _ => Manner::Obey,
    });
    add(&mut client, call("c2", 4002)).await.unwrap_err();
    let mut second = call("c1", 5000);
    second.revision = 2;
    modify(&mut client, second).await.unwrap_err();
    let Network { server, a, b, .. } = net;
    server.stop().await;
    let stored = Restarted { folder, a, b }.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored["c1"].revision, 1);
}

#[tokio::test]
async fn leases_begin_anew_and_what_ran_out_is_gone() {
    let mut leased = call("c1", 4000);
    leased.lifetime_s = 5;
    let mut long = call("c2", 4002);
    long.lifetime_s = 600;
    let restarted = Restarted::with(vec![leased, long]).await;
    // The agent could not renew it meanwhile.
    sleep(Duration::from_millis(1_200)).await;
    let server = restarted.start().await;
    let mut client = server.sessions().await;
    let there = get(&mut client, "c1").await.unwrap();
    assert!(there.expires_unix_ms.unwrap() >= there.updated_unix_ms + 5_000 + 1_200);
    eventually("expired", || {
        let mut client = client.clone();
        async move { get(&mut client, "c1").await.err() }
    })
    .await;
    server.stop().await;
    let stored = restarted.stored();
    assert!(!stored.contains_key("c1") && stored.contains_key("c2"));
}

#[tokio::test]
async fn a_session_that_moved_is_kept_where_it_is() {
    let folder = tempdir().unwrap();
    let mut net = Network::on(TestServer::stored(folder.path(), settings()).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    // b's address goes to c.
    net.b.set_interfaces(vec![edge("lan0", &["10.9.0.0/24"])]);
    let _b = net.b.attach(net.server.address).await;
    let c = FakeRouter::reaching("c", &["10.2.0.0/24"]);
    let _c = c.attach(net.server.address).await;
    c.until("moved", |c| c.has("c1")).await;
    net.b.until("left", |b| !b.has("c1")).await;
    let Network { server, a, b, .. } = net;
    server.stop().await;
    for router in [&a, &b, &c] {
        router.clear_log();
    }
    let server = TestServer::stored(folder.path(), settings()).await;
    for router in [&a, &b, &c] {
        router.attach(server.address).await;
        assert!(router.log().is_empty(), "{}: {:?}", router.id, router.log());
    }
    let session = get(&mut server.sessions().await, "c1").await.unwrap();
    let routers: Vec<_> = session.routers.iter().map(|it| &*it.router_id).collect();
    assert_eq!(routers, ["a", "c"]);
}

#[tokio::test]
async fn a_source_that_was_learned_is_kept() {
    let folder = tempdir().unwrap();
    let mut net = Network::on(TestServer::stored(folder.path(), settings()).await).await;
    let latching = v1::MediaFlow {
        source: None,
        latch: Some(v1::Latch::default()),
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::Mux.into(),
            ..v1::Rtcp::default()
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    add(&mut net.client, spec("c1", vec![latching]))
        .await
        .unwrap();
    let told = v1::LatchedSources {
        sources: vec![v1::LatchedSource {
            key: key("c1"),
            flow_index: 0,
            kind: v1::FlowKind::Rtp.into(),
            source: endpoint("10.1.0.5:7777"),
            destination: endpoint("10.2.0.7:4000"),
        }],
    };
    let told = v1::attach_request::Message::Latched(told);
    let message = v1::AttachRequest {
        message: Some(told),
    };
    net.b_stream.outbound.send(message).await.unwrap();
    net.a.until("moved", |a| a.has("c1")).await;
    eventually("settled", || {
        let mut client = net.client.clone();
        async move {
            (get(&mut client, "c1").await.unwrap().state() == v1::SessionState::Active)
                .then_some(())
        }
    })
    .await;
    let Network { server, a, b, .. } = net;
    server.stop().await;
    // The router that has learned it knows nothing any more.
    b.forget("c1");
    a.clear_log();
    let server = TestServer::stored(folder.path(), settings()).await;
    let (_a, _b) = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    assert!(a.log().is_empty());
    let install = b.sessions().into_values().next().unwrap();
    assert_eq!(install.entries[0].source, endpoint("10.1.0.5:7777"));
}

#[tokio::test]
async fn a_router_that_was_forgotten_stays_so() {
    let restarted = Restarted::with(Vec::new()).await;
    let server = restarted.start().await;
    let forget = v1::ForgetRouterRequest {
        router_id: "a".to_owned(),
    };
    server.operator().await.forget_router(forget).await.unwrap();
    server.stop().await;
    let server = restarted.start().await;
    assert_eq!(server.engine.size(), (0, 1));
    let new = add(&mut server.sessions().await, call("c1", 4000)).await;
    assert_status(new, Code::Unavailable, &["10.1.0.5"]);
}

#[tokio::test]
async fn an_export_is_imported_as_it_was() {
    let mut call = call("c1", 4000);
    call.correlation_id = "a84b4c76e66710".to_owned();
    let restarted = Restarted::with(vec![call]).await;
    let mut lines = Vec::new();
    let (records, problems) = commands::export(restarted.folder.path(), &mut lines).unwrap();
    assert_eq!((records, problems.len()), (3, 0));
    let folder = tempdir().unwrap();
    assert_eq!(
        commands::import(folder.path(), &mut &*lines).unwrap(),
        (1, 2)
    );
    let error = commands::import(folder.path(), &mut &*lines).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has 3 sessions and routers already"),
        "{error}"
    );
    let checked = commands::check(folder.path()).unwrap();
    assert_eq!(
        (checked.sessions, checked.routers, checked.problems.len()),
        (1, 2, 0)
    );
    let before = restarted.start().await;
    let after = TestServer::stored(folder.path(), settings()).await;
    assert_eq!(before.engine.epoch(), after.engine.epoch());
    let one = get(&mut before.sessions().await, "c1").await.unwrap();
    assert_eq!(one, get(&mut after.sessions().await, "c1").await.unwrap());

    // With a fault it changes nothing.
    let text = String::from_utf8(lines).unwrap();
    let twice = text.clone() + text.lines().last().unwrap();
    let short: Vec<_> = text.lines().take(3).collect();
    for (text, part) in [
        (twice, "line 5: \"c1\" of agent \"test\" is there twice"),
        (
            short.join("\n"),
            "ends after 2 of 2 routers and 0 of 1 sessions",
        ),
        (
            text.replace("10.2.0.7", "10.2.0.700"),
            "line 4: spec.flows[0].destination.address",
        ),
        (
            text.lines().skip(1).collect::<Vec<_>>().join("\n"),
            "line 1: the first line has to be the heading",
        ),
        (String::new(), "line 0: the file is empty"),
    ] {
        let folder = tempdir().unwrap();
        let error = commands::import(folder.path(), &mut text.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains(part),
            "{part:?} is not in {error}"
        );
        assert_eq!(commands::check(folder.path()).unwrap().sessions, 0);
    }
}
