//! What routers get: attaching, differences, loss and return.

mod convergence;
mod grace;
mod reports;
mod returning;
mod streams;

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1::{
    self, SessionState, command::Command, command_result, router_installation,
};
use voicelane_server::engine::Settings;

fn quick() -> Settings {
    Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(300),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_router_that_returns_gets_the_differences_only() {
    let mut net = Network::start().await;
    for (name, port) in [
        ("kept", 4000),
        ("lacked", 4100),
        ("stale", 4200),
        ("changed", 4300),
    ] {
        add(&mut net.client, call(name, port)).await.unwrap();
    }
    net.b_stream.cut();
    eventually("degraded", || {
        let mut client = net.client.clone();
        async move {
            (get(&mut client, "kept").await.unwrap().state() == SessionState::Degraded)
                .then_some(())
        }
    })
    .await;
    let session = get(&mut net.client, "kept").await.unwrap();
    assert_eq!(session.routers[1].state(), router_installation::State::Away);
    assert!(
        session.routers[1].detail.contains("lost 0 s ago"),
        "{}",
        session.routers[1].detail
    );
    assert_eq!(
        net.a.log().len(),
        4,
        "nothing is removed for another router's loss"
    );
    delete(&mut net.client, "stale").await.unwrap();
    net.b.forget("lacked");
    net.b.alter("changed", |install| install.fingerprint ^= 1);
    net.b.clear_log();
    let _stream = net.b.attach(net.server.address).await;
    let synchronised = net.b.synchronised().unwrap();
    let expected = v1::Synchronised {
        installed: 1,
        replaced: 1,
        removed: 1,
        unchanged: 1,
    };
    assert_eq!(synchronised, expected);
    let log = net.b.log();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(net.b.has("kept") && net.b.has("lacked") && net.b.has("changed"));
    assert!(!net.b.has("stale"));
    for name in ["kept", "lacked", "changed"] {
        assert_eq!(
            get(&mut net.client, name).await.unwrap().state(),
            SessionState::Active
        );
    }
}

#[tokio::test]
async fn a_session_towards_a_lost_router_is_unavailable() {
    let net = Network::start().await;
    net.b_stream.cut();
    let result = eventually("unavailable", || {
        let mut client = net.client.clone();
        async move {
            let result = add(&mut client, call("c1", 4000)).await;
            match result {
                Ok(_) => {
                    delete(&mut client, "c1").await.unwrap();
                    None
                }
                lost => Some(lost),
            }
        }
    })
    .await;
    assert_status(result, Code::Unavailable, &["router b", "lost 0 s ago"]);
    let mut operator = net.server.operator().await;
    let routers = operator
        .list_routers(v1::ListRoutersRequest::default())
        .await
        .unwrap()
        .into_inner()
        .routers;
    let attached: Vec<_> = routers
        .iter()
        .map(|it| (it.router_id.as_str(), it.attached))
        .collect();
    assert_eq!(attached, [("a", true), ("b", false)]);
}

#[tokio::test]
async fn a_router_lost_in_the_middle_leaves_nothing_behind() {
    let mut net = Network::start().await;
    // b takes the install, and is gone before it says so.
    net.b.behave(|_| Manner::Silent);
    let mut client = net.client.clone();
    let adding = tokio::spawn(async move { add(&mut client, call("c1", 4000)).await });
    net.a.until("installed", |a| a.has("c1")).await;
    net.b.until("asked", |b| !b.log().is_empty()).await;
    let Command::Install(install) = net.b.log()[0].clone() else {
        panic!()
    };
    net.b_stream.cut();
    let result = adding.await.unwrap();
    assert_status(result, Code::Unavailable, &["router b", "lost", "undone"]);
    assert!(!net.a.has("c1"), "rolled back");
    assert_eq!(list(&mut net.client).await.total, 0);
    // It had installed it after all: the differences remove it.
    net.b.hold(install);
    net.b.behave(|_| Manner::Obey);
    let _stream = net.b.attach(net.server.address).await;
    assert!(!net.b.has("c1"));
    assert_eq!(net.b.synchronised().unwrap().removed, 1);
}

#[tokio::test]
async fn a_router_that_says_nothing_is_unavailable_after_the_timeout() {
    let mut net = Network::on(TestServer::with(quick()).await).await;
    net.b.behave(|command| match command {
        Command::Install(_) => Manner::Silent,
        _ => Manner::Obey,
    });
    let result = add(&mut net.client, call("c1", 4000)).await;
    assert_status(result, Code::Unavailable, &["router b", "300 ms"]);
    assert!(!net.a.has("c1"));
    assert!(matches!(
        net.b.log()[..],
        [Command::Install(_), Command::Remove(_)]
    ));
}

#[tokio::test]
async fn what_a_router_refuses_is_told_and_rolled_back() {
    let mut net = Network::start().await;
    for (code, status) in [
        (command_result::Code::TableFull, Code::ResourceExhausted),
        (command_result::Code::Conflict, Code::FailedPrecondition),
        (command_result::Code::Invalid, Code::InvalidArgument),
        (command_result::Code::Internal, Code::Internal),
    ] {
        net.b.behave(move |command| match command {
            Command::Install(_) => Manner::Refuse(code, "its own words"),
            _ => Manner::Obey,
        });
        let result = add(&mut net.client, call("c1", 4000)).await;
        assert_status(result, status, &["router b", "its own words"]);
        assert!(!net.a.has("c1"));
    }
    assert_eq!(list(&mut net.client).await.total, 0);
}

#[tokio::test]
async fn interfaces_that_change_move_calls() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let c = FakeRouter::reaching("c", &["10.3.0.0/24"]);
    let stream = c.attach(net.server.address).await;
    // The callee moves behind c: installed there, then removed from b.
    c.report(&stream, vec![edge("lan9", &["10.3.0.0/24", "10.2.0.7/32"])])
        .await;
    c.until("installed", |c| c.has("c1")).await;
    net.b.until("removed", |b| !b.has("c1")).await;
    let state = |wanted: SessionState| {
        let client = net.client.clone();
        async move {
            eventually("in the state", || {
                let mut client = client.clone();
                async move {
                    let session = get(&mut client, "c1").await.unwrap();
                    (session.state() == wanted).then_some(session)
                }
            })
            .await
        }
    };
    let session = state(SessionState::Active).await;
    assert_eq!(
        session.placements[0]
            .destination
            .as_ref()
            .unwrap()
            .interface,
        "lan9"
    );
    // Nobody reaches the caller: the call is served on, degraded.
    net.a.report(&net.a_stream, vec![]).await;
    state(SessionState::Degraded).await;
    assert!(net.a.has("c1") && c.has("c1"));
    net.a
        .report(&net.a_stream, vec![edge("lan0", &["10.1.0.0/24"])])
        .await;
    let session = state(SessionState::Active).await;
    assert_eq!(session.routers.len(), 2);
    // A link that is down reaches nobody.
    let down = v1::Interface {
        up: false,
        ..edge("lan0", &["10.1.0.0/24"])
    };
    net.a.report(&net.a_stream, vec![down]).await;
    state(SessionState::Degraded).await;
}

/// Where each of a call's flows comes in, by the router and the flow's source.
fn ways_in(router: &FakeRouter) -> Vec<(String, String)> {
    let sessions = router.sessions();
    let entries = &sessions[&("test".to_owned(), "c1".to_owned())].entries;
    let mut all: Vec<_> = entries
        .iter()
        .map(|entry| {
            let source = entry.source.clone().unwrap().address;
            (source, entry.ingress_interface.clone())
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The router of a flow's source hears the interface, also when only that changes; to the other one the
/// flow comes from the core.
#[tokio::test]
async fn a_router_hears_where_packets_come_in() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let expected = |at_a: &str, at_b: &str| {
        let [a, b] = ["10.1.0.5", "10.2.0.7"].map(str::to_owned);
        vec![(a, at_a.to_owned()), (b, at_b.to_owned())]
    };
    assert_eq!(ways_in(&net.a), expected("lan0", ""));
    assert_eq!(ways_in(&net.b), expected("", "lan0"));

    let lan1 = || edge("lan1", &["10.1.0.0/24"]);
    net.a.report(&net.a_stream, vec![lan1()]).await;
    net.a
        .until("moved", |a| ways_in(a) == expected("lan1", ""))
        .await;
    assert_eq!(ways_in(&net.b), expected("", "lan0"));
    let both = vec![lan1(), edge("lan0", &["10.1.0.0/24"])];
    net.a.report(&net.a_stream, both).await;
    net.a
        .until("known on both", |a| ways_in(a) == expected("*", ""))
        .await;
    // Both ends behind one router.
    net.b.report(&net.b_stream, vec![]).await;
    let all = vec![lan1(), edge("lan2", &["10.2.0.0/24"])];
    net.a.report(&net.a_stream, all).await;
    net.a
        .until("at one router", |a| ways_in(a) == expected("lan1", "lan2"))
        .await;
}

#[tokio::test]
async fn a_router_with_a_full_route_table_attaches() {
    let server = TestServer::start().await;
    let prefixes: Vec<String> = (0..65_536_u32)
        .map(|number| format!("{}/32", Ipv4Addr::from(0xc0a8_0000 + number)))
        .collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let router = FakeRouter::new("a");
    router.set_interfaces(vec![core("core0", &prefixes)]);
    let _stream = router.attach(server.address).await;
}

#[tokio::test]
async fn what_is_not_to_be_there_makes_room_first() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b_stream.cut();
    let mut old = net.b.sessions().into_values().next().unwrap();
    old.key = key("old");
    net.b.forget("c1");
    net.b.hold(old);
    let removed = AtomicBool::new(false);
    net.b.behave(move |command| match command {
        Command::Remove(_) => {
            removed.store(true, Ordering::Relaxed);
            Manner::Obey
        }
        Command::Install(_) if !removed.load(Ordering::Relaxed) => {
            Manner::Refuse(command_result::Code::Conflict, "session old has it")
        }
        _ => Manner::Obey,
    });
    let _stream = net.b.attach(net.server.address).await;
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.state(), SessionState::Active, "{session:?}");
    assert!(net.b.has("c1") && !net.b.has("old"));
}
