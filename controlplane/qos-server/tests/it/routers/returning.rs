//! Routers that come back after a restart of the server, that are mute or refuse a removal, and
//! that go for good.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, SessionState, command::Command, command_result, sessions_client::SessionsClient,
};
use voicelane_server::{engine::Settings, model::ids::RouterId};

use crate::common::*;

fn within(adopt_for: Duration) -> Settings {
    Settings {
        adopt_for,
        acknowledge_timeout: Duration::from_millis(400),
        retry_every: Duration::from_millis(50),
        ..Settings::default()
    }
}

/// A server that has been started again, and its former routers with calls c1 and c2, not attached.
async fn restarted(adopt_for: Duration) -> (TestServer, FakeRouter, FakeRouter) {
    let mut net = Network::start().await;
    for (session, port) in [("c1", 4000), ("c2", 4100)] {
        add(&mut net.client, call(session, port)).await.unwrap();
    }
    let Network { server, a, b, .. } = net;
    server.stop().await;
    for router in [&a, &b] {
        router.clear_log();
    }
    (TestServer::with(within(adopt_for)).await, a, b)
}

async fn pending(client: &mut SessionsClient<Channel>, session: &str) -> Vec<String> {
    let request = v1::DeleteSessionRequest { key: key(session) };
    let answer = client.delete_session(request).await.unwrap();
    answer.into_inner().pending_routers
}

fn removals(router: &FakeRouter) -> usize {
    let log = router.log();
    log.iter()
        .filter(|command| matches!(command, Command::Remove(_)))
        .count()
}

#[tokio::test]
async fn the_grace_counts_from_a_routers_attach() {
    let adopt_for = Duration::from_secs(2);
    let (server, a, b) = restarted(adopt_for).await;
    let _a = a.attach(server.address).await;
    // Long after the server's start.
    a.until("rid of its calls", |it| it.sessions().is_empty())
        .await;
    let _b = b.attach(server.address).await;
    assert_eq!(b.synchronised().unwrap().unchanged, 2);
    let mut client = server.sessions().await;
    add(&mut client, call("c1", 4000)).await.unwrap();
    assert_eq!(b.log(), [], "what is right was touched");
    b.until("rid of what nobody added", |it| !it.has("c2"))
        .await;
    assert!(b.has("c1"));
}

#[tokio::test]
async fn a_router_whose_grace_was_cut_short_gets_another() {
    let (server, a, b) = restarted(Duration::from_secs(2)).await;
    let _a = a.attach(server.address).await;
    let stream = b.attach(server.address).await;
    stream.cut();
    a.until("rid of its calls", |it| it.sessions().is_empty())
        .await;
    let _b = b.attach(server.address).await;
    assert_eq!(b.synchronised().unwrap().unchanged, 2);
    b.until("rid of them in the end", |it| it.sessions().is_empty())
        .await;
}

#[tokio::test]
async fn an_address_that_nobody_has_reported_yet_is_unavailable_at_first() {
    let server = TestServer::with(within(Duration::from_secs(2))).await;
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let _a = a.attach(server.address).await;
    let mut client = server.sessions().await;
    assert_status(
        add(&mut client, call("c1", 4000)).await,
        Code::Unavailable,
        &["spec.flows[0].destination.address", "10.2.0.7", "yet"],
    );
    eventually("not found after the grace", || {
        let mut client = client.clone();
        async move {
            let refused = add(&mut client, call("c1", 4000)).await.unwrap_err();
            (refused.code() == Code::NotFound).then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_another_router_still_has_is_unavailable_until_its_router_is_back() {
    let (server, a, b) = restarted(Duration::from_secs(2)).await;
    // Nobody comes back in the server's own grace.
    sleep(Duration::from_millis(2_200)).await;
    let _a = a.attach(server.address).await;
    let mut client = server.sessions().await;
    let refused = add(&mut client, call("c1", 4000)).await;
    assert_status(refused, Code::Unavailable, &["10.2.0.7", "yet"]);
    let refused = add(&mut client, call("unheard of", 4200)).await;
    assert_status(refused, Code::NotFound, &["10.2.0.7"]);
    let _b = b.attach(server.address).await;
    add(&mut client, call("c1", 4000)).await.unwrap();
}

#[tokio::test]
async fn what_is_deleted_in_the_grace_goes_and_is_not_adopted_later() {
    let (server, a, b) = restarted(Duration::from_secs(600)).await;
    let _a = a.attach(server.address).await;
    let mut client = server.sessions().await;
    // It is nobody's session here, but its entries are there.
    assert_status(delete(&mut client, "c1").await, Code::NotFound, &[]);
    assert!(!a.has("c1") && a.has("c2"));
    let _b = b.attach(server.address).await;
    assert!(!b.has("c1") && b.has("c2"), "{:?}", b.log());
}

#[tokio::test]
async fn a_removal_that_was_refused_is_not_adopted_when_the_router_comes_back() {
    let server = TestServer::with(Settings {
        retry_every: Duration::from_secs(600),
        ..within(Duration::from_secs(600))
    });
    let mut net = Network::on(server.await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    refuse_removals(&net.b);
    delete(&mut net.client, "c1").await.unwrap();
    assert!(net.b.has("c1"));
    net.b_stream.cut();
    net.b.behave(|_| Manner::Obey);
    let _b = net.b.attach(net.server.address).await;
    assert!(!net.b.has("c1"));
}

fn refuse_removals(router: &FakeRouter) {
    router.behave(|command| match command {
        Command::Remove(_) => Manner::Refuse(command_result::Code::Internal, "not now"),
        _ => Manner::Obey,
    });
}

#[tokio::test]
async fn a_removal_that_a_router_refuses_is_tried_again() {
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    refuse_removals(&net.b);
    delete(&mut net.client, "c1").await.unwrap();
    net.b.until("asked again", |it| removals(it) > 2).await;
    net.b.behave(|_| Manner::Obey);
    net.b.until("rid of it", |it| !it.has("c1")).await;
    assert!(!net.a.has("c1"));
    // Nor does a router that is synchronised keep what it refuses to remove.
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b_stream.cut();
    delete(&mut net.client, "c1").await.unwrap();
    refuse_removals(&net.b);
    let _b = net.b.attach(net.server.address).await;
    assert!(net.b.has("c1"));
    net.b.behave(|_| Manner::Obey);
    net.b.until("rid of it", |it| !it.has("c1")).await;
}

#[tokio::test]
async fn a_removal_that_is_tried_again_leaves_a_call_that_was_added_again() {
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    refuse_removals(&net.b);
    delete(&mut net.client, "c1").await.unwrap();
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b.behave(|_| Manner::Obey);
    net.b.clear_log();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(net.b.log(), []);
    assert!(net.b.has("c1"));
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
}

#[tokio::test]
async fn an_add_at_a_mute_router_answers_after_the_time_that_it_names() {
    let timeout = Duration::from_secs(2);
    let server = TestServer::with(Settings {
        acknowledge_timeout: timeout,
        ..within(Duration::ZERO)
    });
    let mut net = Network::on(server.await).await;
    net.b.behave(|_| Manner::Silent);
    let began = Instant::now();
    let refused = add(&mut net.client, call("c1", 4000)).await;
    assert_status(refused, Code::Unavailable, &["2000 ms"]);
    assert!(began.elapsed() < timeout * 3 / 2, "{:?}", began.elapsed());
    assert!(!net.a.has("c1"));
}

#[tokio::test]
async fn a_change_at_a_mute_router_answers_after_the_time_that_it_names() {
    let timeout = Duration::from_secs(2);
    let server = TestServer::with(Settings {
        acknowledge_timeout: timeout,
        ..within(Duration::ZERO)
    });
    let mut net = Network::on(server.await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b.behave(|_| Manner::Silent);
    let began = Instant::now();
    let mut second = call("c1", 4200);
    second.revision = 2;
    let refused = modify(&mut net.client, second).await;
    assert_status(refused, Code::Unavailable, &["2000 ms"]);
    assert!(began.elapsed() < timeout * 3 / 2, "{:?}", began.elapsed());
    // What was there is put back as soon as the router listens again.
    net.b.behave(|_| Manner::Obey);
    eventually("active", || {
        let mut client = net.client.clone();
        async move {
            let session = get(&mut client, "c1").await.unwrap();
            (session.state() == SessionState::Active).then_some(())
        }
    })
    .await;
    let flows = |router: &FakeRouter| {
        let entries = router.sessions().into_values().flat_map(|it| it.entries);
        let flows = entries.map(|entry| (entry.source, entry.destination));
        flows.collect::<Vec<_>>()
    };
    assert_eq!(flows(&net.b), flows(&net.a));
}

#[tokio::test]
async fn routers_that_only_said_hello_lock_nobody_out() {
    let server = TestServer::with(Settings {
        max_routers: 4,
        ..within(Duration::ZERO)
    });
    let mut net = Network::on(server.await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.a_stream.cut();
    net.b_stream.cut();
    for id in 0..8 {
        let false_one = FakeRouter::new(&format!("false-{id}"));
        false_one.attach(net.server.address).await.cut();
        let id = RouterId::parse("id", &false_one.id).unwrap();
        let engine = &net.server.engine;
        eventually("lost", || async {
            let router = engine.router(&id).unwrap().router;
            router.attachment().is_none().then_some(())
        })
        .await;
    }
    // Those with sessions are still known, and a new honest one comes in.
    let mut client = net.server.sessions().await;
    let session = get(&mut client, "c1").await.unwrap();
    assert_eq!(session.routers.len(), 2);
    let honest = FakeRouter::reaching("honest", &["10.3.0.0/24"]);
    let _honest = honest.attach(net.server.address).await;
    let _a = net.a.attach(net.server.address).await;
    let _b = net.b.attach(net.server.address).await;
    assert!(net.a.has("c1") && net.b.has("c1"));
}

#[tokio::test]
async fn a_deletion_names_the_routers_that_have_not_confirmed() {
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    for (session, port) in [("c1", 4000), ("c2", 4100), ("c3", 4200), ("c4", 4300)] {
        add(&mut net.client, call(session, port)).await.unwrap();
    }
    assert!(pending(&mut net.client, "c1").await.is_empty());
    net.b.behave(|_| Manner::Silent);
    assert_eq!(pending(&mut net.client, "c2").await, ["b"]);
    assert!(net.b.has("c2") && !net.a.has("c2"));
    refuse_removals(&net.b);
    assert_eq!(pending(&mut net.client, "c3").await, ["b"]);
    net.b_stream.cut();
    let id = RouterId::parse("id", "b").unwrap();
    let engine = net.server.engine.clone();
    eventually("lost", || async {
        let router = engine.router(&id).unwrap().router;
        router.attachment().is_none().then_some(())
    })
    .await;
    assert_eq!(pending(&mut net.client, "c4").await, ["b"]);
    // All of it goes when the router is back.
    net.b.behave(|_| Manner::Obey);
    let _b = net.b.attach(net.server.address).await;
    assert!(net.b.sessions().is_empty());
}

#[tokio::test]
async fn a_forgotten_routers_calls_go_to_those_that_reach_them() {
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    let wide = FakeRouter::reaching("wide", &["10.2.0.0/16"]);
    let _wide = wide.attach(net.server.address).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    assert!(net.b.has("c1") && !wide.has("c1"));
    let mut operator = net.server.operator().await;
    let mut forget = async |id: &str| {
        let router_id = id.to_owned();
        let request = v1::ForgetRouterRequest { router_id };
        operator
            .forget_router(request)
            .await
            .map(|it| it.into_inner().sessions)
    };
    assert_status(
        forget("b").await,
        Code::FailedPrecondition,
        &["router b is attached"],
    );
    assert_status(forget("nobody").await, Code::NotFound, &["nobody"]);
    net.b_stream.cut();
    let refused = eventually("lost", || {
        let mut client = net.client.clone();
        async move { add(&mut client, call("c2", 4100)).await.err() }
    });
    assert_eq!(refused.await.code(), Code::Unavailable);
    assert_eq!(forget("b").await.unwrap(), 1);
    wide.until("given the call", |it| it.has("c1")).await;
    add(&mut net.client, call("c2", 4100)).await.unwrap();
    assert!(wide.has("c2"));
    assert_status(forget("b").await, Code::NotFound, &["forgotten"]);
    // It comes back all the same.
    let _b = net.b.attach(net.server.address).await;
    net.b
        .until("given its calls", |it| it.has("c1") && it.has("c2"))
        .await;
}

#[tokio::test]
async fn a_call_that_nobody_reaches_after_its_router_was_forgotten_says_so() {
    let mut net = Network::on(TestServer::with(within(Duration::ZERO)).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b_stream.cut();
    let id = RouterId::parse("id", "b").unwrap();
    let engine = net.server.engine.clone();
    eventually("forgotten", || async {
        engine.forget_router(&id).await.ok()
    })
    .await;
    assert_status(
        add(&mut net.client, call("c2", 4100)).await,
        Code::NotFound,
        &["no attached router reaches 10.2.0.7"],
    );
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.state(), SessionState::Degraded);
    let _b = net.b.attach(net.server.address).await;
    assert!(net.b.has("c1"));
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
}

#[tokio::test]
async fn a_router_that_stays_away_is_forgotten_by_itself() {
    let server = TestServer::with(Settings {
        forget_routers_after: Duration::from_millis(300),
        ..within(Duration::ZERO)
    });
    let net = Network::on(server.await).await;
    let wide = FakeRouter::reaching("wide", &["10.2.0.0/16"]);
    let _wide = wide.attach(net.server.address).await;
    net.b_stream.cut();
    eventually("taken to another", || {
        let mut client = net.client.clone();
        async move { add(&mut client, call("c1", 4000)).await.ok() }
    })
    .await;
    assert!(wide.has("c1"));
    // Those that are attached stay.
    sleep(Duration::from_millis(500)).await;
    let mut operator = net.server.operator().await;
    let answer = operator
        .list_routers(v1::ListRoutersRequest::default())
        .await
        .unwrap();
    let routers = answer.into_inner().routers.into_iter();
    assert_eq!(
        routers.map(|it| it.router_id).collect::<Vec<_>>(),
        ["a", "wide"]
    );
}
