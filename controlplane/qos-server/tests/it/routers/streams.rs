//! What ends a router's stream.

use std::time::Duration;

use crate::common::*;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use voicelane_proto::v1::{
    self, SessionState, attach_request::Message, routers_client::RoutersClient,
};
use voicelane_server::engine::Settings;

use super::quick;

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
