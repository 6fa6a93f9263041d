//! After a restart without a store: what routers have is kept for a while.

use std::time::Duration;

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1::{SessionState, command::Command};
use voicelane_server::engine::Settings;

#[tokio::test]
async fn a_restarted_server_leaves_calls_in_place_until_the_grace_is_over() {
    let mut net = Network::start().await;
    add(&mut net.client, call("again", 4000)).await.unwrap();
    add(&mut net.client, call("orphan", 4100)).await.unwrap();
    let first = net.a.welcome().unwrap().server_epoch;
    net.server.stop().await;
    let settings = Settings {
        adopt_for: Duration::from_secs(2),
        ..Settings::default()
    };
    let server = TestServer::with(settings).await;
    for router in [&net.a, &net.b] {
        router.clear_log();
    }
    let _a = net.a.attach(server.address).await;
    let _b = net.b.attach(server.address).await;
    assert_ne!(net.a.welcome().unwrap().server_epoch, first);
    assert_eq!(net.a.synchronised().unwrap().unchanged, 2);
    let mut client = server.sessions().await;
    let session = add(&mut client, call("again", 4000)).await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
    assert_eq!(
        (net.a.log().len(), net.b.log().len()),
        (0, 0),
        "nothing right was touched"
    );
    // A session of this process is no stray, even if its removal did not reach the router.
    for router in [&net.a, &net.b] {
        router
            .until("rid of the orphan", |it| !it.has("orphan"))
            .await;
        assert!(router.has("again"));
        assert_eq!(router.log().len(), 1);
    }
}

#[tokio::test]
async fn a_new_call_takes_the_place_of_those_that_nobody_has_added_again() {
    let mut net = Network::start().await;
    for (session, port) in [("old1", 4000), ("old2", 4100), ("again", 4200)] {
        add(&mut net.client, call(session, port)).await.unwrap();
    }
    net.server.stop().await;
    let settings = Settings {
        adopt_for: Duration::from_secs(600),
        ..Settings::default()
    };
    let server = TestServer::with(settings).await;
    let _a = net.a.attach(server.address).await;
    let _b = net.b.attach(server.address).await;
    let mut client = server.sessions().await;
    add(&mut client, call("again", 4200)).await.unwrap();
    // In conflict with both old calls on both routers.
    let new = spec("new", [call("", 4000).flows, call("", 4100).flows].concat());
    let session = add(&mut client, new).await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
    for router in [&net.a, &net.b] {
        let has: Vec<_> = router.sessions().into_keys().map(|(_, it)| it).collect();
        assert_eq!(has, ["again", "new"]);
    }
    // They are no strays any more: one that comes again is installed.
    delete(&mut client, "new").await.unwrap();
    add(&mut client, call("old1", 4000)).await.unwrap();
    assert!(net.a.has("old1") && net.b.has("old1"));
}

#[tokio::test]
async fn what_is_wanted_is_not_removed_for_another_call() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    // As if it had what the server does not know of.
    net.b.alter("c1", |it| {
        for entry in &mut it.entries {
            for end in [&mut entry.source, &mut entry.destination] {
                end.as_mut().unwrap().port += 100;
            }
        }
    });
    net.b.clear_log();
    let refused = add(&mut net.client, call("c2", 4100)).await;
    assert_status(
        refused,
        Code::FailedPrecondition,
        &["router b refused", "has one of the five-tuples"],
    );
    assert!(net.b.has("c1") && !net.a.has("c2"));
    // A router that names a stray again and again is asked once more, not for ever.
    net.b.behave(|command| match command {
        Command::Install(_) => Manner::Conflict("ghost"),
        _ => Manner::Obey,
    });
    net.b.clear_log();
    let refused = add(&mut net.client, call("c3", 5000)).await;
    assert_status(refused, Code::FailedPrecondition, &["router b refused"]);
    assert_eq!(net.b.installs(), 2);
}

#[tokio::test]
async fn what_this_process_deleted_is_not_adopted() {
    let settings = Settings {
        adopt_for: Duration::from_secs(600),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b_stream.cut();
    eventually("lost", || {
        let mut client = net.client.clone();
        async move {
            (get(&mut client, "c1").await.unwrap().state() == SessionState::Degraded).then_some(())
        }
    })
    .await;
    delete(&mut net.client, "c1").await.unwrap();
    let _stream = net.b.attach(net.server.address).await;
    assert_eq!(net.b.synchronised().unwrap().removed, 1);
    assert!(!net.b.has("c1"));
}
