//! What routers get: attaching, differences, loss and return.

mod convergence;
mod grace;
mod reports;
mod returning;

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::common::*;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use voicelane_proto::v1::{
    self, SessionState, attach_request::Message, command::Command, command_result,
    router_installation, routers_client::RoutersClient,
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
async fn attaching_again_ends_the_former_stream() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let twin = FakeRouter::reaching("b", &["10.2.0.0/24"]);
    let _stream = twin.attach(net.server.address).await;
    net.b.until("ended", |b| b.ended().is_some()).await;
    let ended = net.b.ended().unwrap();
    assert_eq!(ended.code(), Code::Aborted);
    assert!(
        ended
            .message()
            .contains("router b attached again from 127.0.0.1"),
        "{ended:?}"
    );
    assert!(twin.has("c1"));
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
}

/// Which is not to be taken for another router with its id.
#[tokio::test]
async fn a_router_that_cannot_be_synchronised_is_told_why() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b_stream.cut();
    net.b.forget("c1");
    net.b.behave(|_| Manner::Silent);
    let _stream = net.b.open(net.server.address).await;
    net.b.until("ended", |b| b.ended().is_some()).await;
    let ended: Result<(), _> = Err(net.b.ended().unwrap());
    assert_status(
        ended,
        Code::DeadlineExceeded,
        &["did not acknowledge in time"],
    );
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

#[tokio::test]
async fn what_cannot_be_understood_ends_the_stream() {
    let server = TestServer::start().await;
    let hello = |id: &str| {
        Message::Hello(v1::Hello {
            router_id: id.into(),
            epoch: 1,
            ..Default::default()
        })
    };
    let interfaces = |interfaces| {
        Message::Interfaces(v1::InterfaceReport {
            interfaces,
            more: false,
        })
    };
    let installed = |sessions| {
        Message::Installed(v1::InstalledSessions {
            sessions,
            last: true,
        })
    };
    let result = |code| {
        Message::Result(v1::CommandResult {
            command_id: 1,
            code,
            ..Default::default()
        })
    };
    let cases: Vec<(Vec<Option<Message>>, &str)> = vec![
        (vec![Some(interfaces(vec![]))], "the first must be Hello"),
        (vec![None], "empty"),
        (vec![Some(hello("a b"))], "hello.router_id"),
        (vec![Some(hello(&"x".repeat(65)))], "hello.router_id"),
        (
            vec![Some(hello("a")), Some(hello("a"))],
            "Hello, which is out of place",
        ),
        (
            vec![Some(hello("a")), Some(result(1))],
            "CommandResult, which is out of place",
        ),
        (
            vec![
                Some(hello("a")),
                Some(interfaces(vec![edge("e", &["10.0.0.0/33"])])),
            ],
            "interfaces.interfaces[0].prefixes[0]",
        ),
        (
            vec![
                Some(hello("a")),
                Some(interfaces(vec![v1::Interface {
                    role: 0,
                    ..edge("e", &[])
                }])),
            ],
            "interfaces.interfaces[0].role",
        ),
        (
            vec![
                Some(hello("a")),
                Some(interfaces(vec![v1::Interface {
                    vlan_id: 4095,
                    ..edge("e", &[])
                }])),
            ],
            "interfaces.interfaces[0].vlan_id",
        ),
        (
            vec![
                Some(hello("a")),
                Some(installed(vec![v1::InstalledSession::default()])),
            ],
            "installed.sessions.key",
        ),
        (
            vec![
                Some(hello("a")),
                Some(interfaces(vec![])),
                Some(installed(vec![])),
                Some(result(0)),
            ],
            "result.code",
        ),
    ];
    for (messages, part) in cases {
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        for message in messages {
            sender.send(v1::AttachRequest { message }).await.unwrap();
        }
        let mut client = RoutersClient::new(server.channel().await);
        let mut answers = client
            .attach(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no status"),
                    Err(status) => return status,
                }
            }
        })
        .await
        .unwrap();
        assert_status::<()>(Err(ended), Code::InvalidArgument, &[part]);
    }
}

#[tokio::test]
async fn a_server_that_stops_tells_its_routers() {
    let net = Network::start().await;
    net.server.stop().await;
    for router in [&net.a, &net.b] {
        router.until("ended", |it| it.ended().is_some()).await;
        let ended = router.ended().unwrap();
        assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    }
}

#[tokio::test]
async fn a_router_that_does_not_read_is_let_go() {
    let settings = Settings {
        router_buffer: 4,
        ..quick()
    };
    let server = TestServer::with(settings).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let hello = v1::Hello {
        router_id: "a".into(),
        entry_capacity: 1_000_000,
        ..Default::default()
    };
    let interfaces = vec![edge("lan0", &["10.1.0.0/24"])];
    for message in [
        Message::Hello(hello),
        Message::Interfaces(v1::InterfaceReport {
            interfaces,
            more: false,
        }),
        Message::Installed(v1::InstalledSessions {
            sessions: vec![],
            last: true,
        }),
    ] {
        sender
            .send(v1::AttachRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address));
    let channel = channel
        .unwrap()
        .initial_stream_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut router = RoutersClient::new(channel);
    // Held, but never read.
    let _unread = router
        .attach(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    let flows = |session: u16| {
        let flow = |index: u16| {
            flow(
                &format!("10.1.0.5:{}", 2 + 2 * index),
                &format!("10.1.0.6:{}", 2 + 2 * session),
            )
        };
        (0..32).map(flow).collect::<Vec<_>>()
    };
    let client = server.sessions().await;
    let adds = (0..400).map(|session: u16| {
        let mut client = client.clone();
        let spec = spec(&format!("c{session}"), flows(session));
        tokio::spawn(async move { add(&mut client, spec).await })
    });
    for add in adds.collect::<Vec<_>>() {
        assert_status(add.await.unwrap(), Code::Unavailable, &["a"]);
    }
    let lost = add(&mut client.clone(), spec("c", flows(1))).await;
    assert_status(lost, Code::Unavailable, &["router a", "lost"]);
    assert_eq!(list(&mut client.clone()).await.total, 0);
}
