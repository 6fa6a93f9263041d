//! A peer that is gone without a word is noticed.

use std::{net::SocketAddr, time::Duration};

use crate::common::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use voicelane_proto::v1;
use voicelane_server::{engine::Settings, serve::Keepalive};

/// Passes bytes on until it is frozen: then the connections stay, and nothing passes.
async fn proxy(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::spawn(pass(client_read, server_write, frozen.clone()));
            tokio::spawn(pass(server_read, client_write, frozen.clone()));
        }
    });
    (address, freeze)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frozen: watch::Receiver<bool>) {
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = async { frozen.wait_for(|frozen| *frozen).await.map(drop).unwrap_or(()) } => {
                std::future::pending().await
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) if to.write_all(&buffer[..count]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn a_router_behind_a_dead_line_is_noticed() {
    let keepalive = Keepalive {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(200),
    };
    let settings = Settings {
        adopt_for: Duration::ZERO,
        ..Settings::default()
    };
    let server = TestServer::with_transport(settings, keepalive).await;
    let (address, freeze) = proxy(server.address).await;
    let fake = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let _stream = fake.attach(address).await;
    let operator = server.operator().await;
    let router = || {
        let mut operator = operator.clone();
        async move {
            let request = v1::GetRouterRequest {
                router_id: "a".into(),
            };
            let answer = operator.get_router(request).await.unwrap();
            answer.into_inner().router.unwrap()
        }
    };
    // Idle for several intervals: the answered pings keep it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(router().await.attached);
    freeze.send(true).unwrap();
    let away = eventually("away", || async {
        let router = router().await;
        (!router.attached).then_some(router)
    })
    .await;
    assert!(
        away.away_reason.starts_with("keepalive timeout"),
        "{away:?}"
    );
    // One that closes its connection is told apart.
    let fake = FakeRouter::reaching("b", &["10.2.0.0/24"]);
    fake.attach(server.address).await.cut();
    let away = eventually("away", || async {
        let request = v1::GetRouterRequest {
            router_id: "b".into(),
        };
        let answer = operator.clone().get_router(request).await.unwrap();
        let router = answer.into_inner().router.unwrap();
        (!router.attached).then_some(router)
    })
    .await;
    assert!(!away.away_reason.contains("keepalive"), "{away:?}");
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "voicelane.v1.Sessions".into(),
    };
    let status = health.check(request).await.unwrap().into_inner().status;
    assert_eq!(status, 1, "serving");
}

/// A router whose connection stands, and which does nothing: nobody has to ask it anything first.
#[tokio::test]
async fn a_router_that_has_stopped_is_mute_though_it_owes_nothing() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(1_500),
        probe_every: Duration::from_millis(100),
        ..Settings::default()
    };
    let server = TestServer::with(settings).await;
    let fake = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let stream = fake.attach(server.address).await;
    let operator = server.operator().await;
    let state = || {
        let mut operator = operator.clone();
        async move {
            let request = v1::ListRoutersRequest::default();
            let answer = operator.list_routers(request).await.unwrap();
            answer.into_inner().routers[0].state()
        }
    };
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(state().await, v1::RouterState::Synchronised);
    fake.behave(|_| Manner::Silent);
    for stands in [v1::RouterState::Slow, v1::RouterState::Mute] {
        eventually("told", || async { (state().await == stands).then_some(()) }).await;
    }
    // It goes on.
    fake.behave(|_| Manner::Obey);
    fake.break_silence(&stream).await;
    eventually("synchronised", || async {
        (state().await == v1::RouterState::Synchronised).then_some(())
    })
    .await;
    assert!(fake.log().is_empty(), "{:?}", fake.log());
}
