//! Who may say what, over real connections.

mod authorities;
pub(crate) mod files;
mod reread;
mod roles;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use voicelane_identity::{Files, Role};
use voicelane_proto::v1::{
    self, operator_client::OperatorClient, session_change::Change, sessions_client::SessionsClient,
};
use voicelane_server::{
    engine::Settings,
    identity::{Claims, Guard, Quota, Quotas},
    serve::Transport,
};

use crate::common::*;

async fn serving(transport: Transport) -> TestServer {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        ..Settings::default()
    };
    TestServer::with_transport(settings, transport).await
}

#[tokio::test]
async fn an_agent_has_to_do_with_its_own_sessions_alone_and_an_operator_deletes_any() {
    let pki = Pki::new();
    let server = serving(pki.transport()).await;
    let mut a = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let mut b = FakeRouter::reaching("b", &["10.2.0.0/24"]);
    a.files = Some(pki.files(Role::Router, "a"));
    b.files = Some(pki.files(Role::Router, "b"));
    let _a = a.attach(server.address).await;
    let _b = b.attach(server.address).await;

    let client = async |role, id| {
        SessionsClient::new(channel(server.address, Some(&pki.files(role, id))).await)
    };
    let (mut test, mut other) = (
        client(Role::Agent, "test").await,
        client(Role::Agent, "other").await,
    );
    add(&mut test, call("c1", 4000)).await.unwrap();
    let denied = add(&mut other, call("c2", 4002)).await;
    assert_status(
        denied,
        Code::PermissionDenied,
        &["agent/other", "agent_id \"other\""],
    );
    assert_status(
        get(&mut other, "c1").await,
        Code::PermissionDenied,
        &["agent/other"],
    );
    assert_status(
        delete(&mut other, "c1").await,
        Code::PermissionDenied,
        &["agent/other"],
    );
    assert_eq!(list(&mut test).await.sessions.len(), 1);
    assert_eq!(list(&mut other).await.sessions.len(), 0, "filtered");

    let watch = v1::WatchSessionsRequest {
        agent_id: String::new(),
        include_existing: true,
    };
    let mut of_test = test
        .watch_sessions(watch.clone())
        .await
        .unwrap()
        .into_inner();
    let mut of_other = other.watch_sessions(watch).await.unwrap().into_inner();
    let event = timeout(PATIENCE, of_test.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(event.kind(), v1::watch_sessions_response::Kind::Existing);

    let mut operator = client(Role::Operator, "alice").await;
    let denied = add(&mut operator, call("c3", 4004)).await;
    assert_status(
        denied,
        Code::PermissionDenied,
        &["operator/alice", "AddSession"],
    );
    assert_eq!(list(&mut operator).await.sessions.len(), 1, "all");
    delete(&mut operator, "c1").await.unwrap();
    let event = timeout(PATIENCE, of_test.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(event.kind(), v1::watch_sessions_response::Kind::Deleted);
    let nothing = timeout(Duration::from_millis(200), of_other.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_prefix_that_a_router_must_not_claim_is_refused_and_the_others_work() {
    let allowed = |prefixes: &[&str]| prefixes.iter().map(ToString::to_string).collect();
    let may_claim = BTreeMap::from([
        ("a".to_owned(), allowed(&["10.1.0.0/16"])),
        ("b".to_owned(), allowed(&["10.2.0.0/24"])),
    ]);
    let server = TestServer::with(Settings {
        adopt_for: Duration::ZERO,
        may_claim: Arc::new(Claims::new(&may_claim).unwrap()),
        ..Settings::default()
    })
    .await;
    // The first claims a part of the other's, all of its net, and everything.
    let a = FakeRouter::reaching(
        "a",
        &["10.1.0.0/24", "10.2.0.0/25", "10.0.0.0/8", "0.0.0.0/0"],
    );
    let b = FakeRouter::reaching("b", &["10.2.0.0/24"]);
    let stranger = FakeRouter::reaching("c", &["10.3.0.0/24"]);
    let _a = a.attach(server.address).await;
    let _b = b.attach(server.address).await;
    let _c = stranger.attach(server.address).await;

    let mut client = server.sessions().await;
    let added = add(&mut client, call("c1", 4000)).await.unwrap();
    let reached: Vec<_> = added.placements[0]
        .destination
        .iter()
        .map(|it| &*it.router_id)
        .collect();
    assert_eq!(reached, ["b"]);
    for nowhere in ["10.9.0.1:1", "10.3.0.1:1"] {
        let outside = spec("c2", vec![flow("10.1.0.5:1", nowhere)]);
        assert_status(add(&mut client, outside).await, Code::NotFound, &["10."]);
    }
    let mut operator = server.operator().await;
    let refused = async |operator: &mut OperatorClient<Channel>, id: &str| {
        let request = v1::GetRouterRequest {
            router_id: id.into(),
        };
        let router = operator
            .get_router(request)
            .await
            .unwrap()
            .into_inner()
            .router
            .unwrap();
        router
            .refused_prefixes
            .into_iter()
            .map(|it| it.prefix)
            .collect::<Vec<_>>()
    };
    let of_a = refused(&mut operator, "a").await;
    assert_eq!(of_a, ["0.0.0.0/0", "10.0.0.0/8", "10.2.0.0/25"]);
    assert_eq!(refused(&mut operator, "b").await, [""; 0]);
    assert_eq!(refused(&mut operator, "c").await, ["10.3.0.0/24"]);
}

/// Changes that each end with NOT_FOUND.
fn deletes(agent: &str, count: u64) -> Vec<v1::ChangeSessionsRequest> {
    let change = |tag| v1::SessionChange {
        tag,
        change: Some(Change::Delete(v1::DeleteSessionRequest {
            key: Some(v1::SessionKey {
                agent_id: agent.into(),
                session_id: "nobody".into(),
            }),
        })),
        with_session: false,
    };
    let tags: Vec<u64> = (0..count).collect();
    let requests = tags.chunks(250).map(|tags| v1::ChangeSessionsRequest {
        changes: tags.iter().copied().map(change).collect(),
    });
    requests.collect()
}

#[tokio::test]
async fn an_agent_that_floods_is_slowed_and_the_others_are_not() {
    let server = serving(Transport {
        guard: Guard {
            quotas: Arc::new(Quotas::new(Quota {
                changes_per_s: 500,
                burst: 500,
                ..Quota::default()
            })),
            ..Guard::default()
        },
        ..Transport::default()
    })
    .await;
    let began = Instant::now();
    let mut flooding = server.sessions().await;
    let flood = tokio::spawn(async move {
        let requests = tokio_stream::iter(deletes("flood", 2_000));
        let mut outcomes = flooding
            .change_sessions(requests)
            .await
            .unwrap()
            .into_inner();
        let mut count = 0;
        while let Some(response) = outcomes.message().await.unwrap() {
            count += response.outcomes.len();
        }
        (count, began.elapsed())
    });
    let mut quiet = server.sessions().await;
    let mut calls = 0;
    while !flood.is_finished() && calls < 400 {
        assert_status(
            delete(&mut quiet, "nobody").await,
            Code::NotFound,
            &["nobody"],
        );
        calls += 1;
    }
    // Of 2,000 changes 1,500 are held: three seconds.
    assert!(
        !flood.is_finished(),
        "{calls} calls took as long as the flood"
    );
    let (count, took) = timeout(PATIENCE, flood).await.unwrap().unwrap();
    assert_eq!(count, 2_000, "held, not cut");
    assert!(took >= Duration::from_millis(2_900), "{took:?}");
}

#[tokio::test]
async fn an_operator_does_not_wait_for_a_flooding_agent() {
    let pki = Pki::new();
    let mut transport = pki.transport();
    transport.guard.quotas = Arc::new(Quotas::new(Quota {
        changes_per_s: 10,
        burst: 10,
        ..Quota::default()
    }));
    let server = serving(transport).await;
    let files = pki.files(Role::Agent, "test");
    let mut agent = SessionsClient::new(channel(server.address, Some(&files)).await);
    let changes = agent.change_sessions(tokio_stream::iter(deletes("test", 500)));
    let mut outcomes = changes.await.unwrap().into_inner();
    outcomes.message().await.unwrap().unwrap();
    let files = pki.files(Role::Operator, "alice");
    let mut operator = SessionsClient::new(channel(server.address, Some(&files)).await);
    // As long as the agent would wait: 49 s.
    let deleted = timeout(Duration::from_secs(10), delete(&mut operator, "nobody")).await;
    let deleted = deleted.expect("it waited for the agent");
    assert_status(deleted, Code::NotFound, &["nobody"]);
}

#[tokio::test]
async fn an_agent_has_so_many_sessions_and_streams_and_no_more() {
    let pki = Pki::new();
    let mut transport = pki.transport();
    transport.guard.quotas = Arc::new(Quotas::new(Quota {
        streams: 2,
        ..Quota::default()
    }));
    let settings = Settings {
        adopt_for: Duration::ZERO,
        max_sessions_per_agent: 1,
        ..Settings::default()
    };
    let server = TestServer::with_transport(settings, transport).await;
    let mut routers = Vec::new();
    for (id, prefix) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        let mut router = FakeRouter::reaching(id, &[prefix]);
        router.files = Some(pki.files(Role::Router, id));
        routers.push(router.attach(server.address).await);
    }
    let files = pki.files(Role::Agent, "test");
    let mut client = SessionsClient::new(channel(server.address, Some(&files)).await);
    add(&mut client, call("c1", 4000)).await.unwrap();
    let more = add(&mut client, call("c2", 4002)).await;
    assert_status(
        more,
        Code::ResourceExhausted,
        &["\"test\"", "max_sessions_per_agent"],
    );
    let request = v1::WatchSessionsRequest::default();
    let one = client.watch_sessions(request.clone()).await.unwrap();
    let _two = client.watch_sessions(request.clone()).await.unwrap();
    let three = client.watch_sessions(request.clone()).await;
    assert_status(
        three.map(drop),
        Code::ResourceExhausted,
        &["\"test\"", "streams_per_agent"],
    );
    drop(one);
    eventually("room for another stream", || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.watch_sessions(request).await.ok() }
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate_and_no_mark_is_lost() {
    let pki = Pki::new();
    let server = serving(pki.transport()).await;
    let mut a = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let mut b = FakeRouter::reaching("b", &["10.2.0.0/24"]);
    b.files = Some(pki.files(Role::Router, "b"));
    let _b = b.attach(server.address).await;
    a.files = Some(pki.files_until(Role::Router, "a", 8));
    let _first = a.attach(server.address).await;
    let files = pki.files(Role::Agent, "test");
    let mut client = SessionsClient::new(channel(server.address, Some(&files)).await);
    add(&mut client, call("c1", 4000)).await.unwrap();
    let commands = a.log().len();

    a.until("without its stream", |router| router.ended().is_some())
        .await;
    let operator = pki.files(Role::Operator, "alice");
    let operator = OperatorClient::new(channel(server.address, Some(&operator)).await);
    let reason = eventually("away", || {
        let mut operator = operator.clone();
        async move {
            let request = v1::GetRouterRequest {
                router_id: "a".into(),
            };
            let router = operator
                .get_router(request)
                .await
                .unwrap()
                .into_inner()
                .router;
            router.filter(|it| !it.attached).map(|it| it.away_reason)
        }
    })
    .await;
    assert!(reason.contains("certificate has expired"), "{reason}");
    assert!(a.has("c1"), "nothing was removed");

    a.files = Some(pki.files(Role::Router, "a"));
    let _second = a.attach(server.address).await;
    assert!(a.has("c1"));
    assert_eq!(a.log().len(), commands, "nothing was installed or removed");
    assert_eq!(
        get(&mut client, "c1").await.unwrap().state(),
        v1::SessionState::Active
    );
}

#[tokio::test]
async fn handshakes_that_are_never_ended_keep_nobody_out() {
    let pki = Pki::new();
    let server = serving(pki.transport()).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(
            tokio::net::TcpStream::connect(server.address)
                .await
                .unwrap(),
        );
    }
    let files = pki.files(Role::Agent, "test");
    let mut client = SessionsClient::new(channel(server.address, Some(&files)).await);
    assert_status(get(&mut client, "c1").await, Code::NotFound, &["c1"]);
    let ended = |stream: &tokio::net::TcpStream| {
        let read = stream.try_read(&mut [0; 1]);
        !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let made_way = async || silent.iter().filter(|stream| ended(stream)).count();
    eventually("all but 256 are closed", || async {
        (made_way().await >= 600 - 256).then_some(())
    })
    .await;
    eventually("those, too, after 5 s", || async {
        (made_way().await == 600).then_some(())
    })
    .await;
}

/// A client takes nobody for the server but a server.
#[tokio::test]
async fn a_client_knows_the_server_by_its_name() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = serving(pki.transport()).await;
    let own: Files = pki.files(Role::Agent, "test");
    let wrong = Files {
        ca: other.files(Role::Agent, "test").ca,
        ..own.clone()
    };
    let connect = async |files: &Files| {
        let endpoint = Channel::from_shared(format!("https://{}", server.address)).unwrap();
        let connected = voicelane_identity::client::connect(&endpoint, Some(files)).await;
        connected
            .map(drop)
            .map_err(|error| voicelane_types::with_causes(&error))
    };
    assert_eq!(connect(&own).await, Ok(()));
    let refused = connect(&wrong).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    let missing = Files {
        key: pki.dir.join("nowhere.pem"),
        ..own.clone()
    };
    let refused = connect(&missing).await.unwrap_err();
    assert!(refused.contains("nowhere.pem"), "{refused}");
    // One that serves without being a server.
    let agent = other.files(Role::Agent, "test");
    assert!(voicelane_identity::server::Trust::load(&agent, None).is_err());
}
