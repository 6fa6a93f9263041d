//! Peers that take connections, answers or places and do nothing with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    gate::Gate,
    wire::{Wire, framed},
};
use crate::common::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{self, sessions_client::SessionsClient};
use voicelane_server::{
    engine::Settings,
    serve::{Limits, Transport},
};

const LIST: &str = "/voicelane.v1.Sessions/ListSessions";
const WATCH: &str = "/voicelane.v1.Sessions/WatchSessions";
/// Never, within a test.
const NEVER: Duration = Duration::from_secs(3_600);

async fn server(limits: Limits) -> TestServer {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        ..Settings::default()
    };
    let transport = Transport {
        limits,
        ..Transport::default()
    };
    TestServer::with_transport(settings, transport).await
}

/// Waits until the other end has closed the connection.
async fn is_closed(connection: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let end = async {
        loop {
            match connection.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    timeout(PATIENCE, end).await.expect("it is closed");
}

/// Whether calls are answered on a connection of its own.
async fn is_served(server: &TestServer) {
    let call = async { get(&mut server.sessions().await, "c1").await };
    let answer = timeout(PATIENCE, call).await.expect("an answer");
    assert_status(answer, Code::NotFound, &["c1"]);
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed() {
    let server = server(Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // This one says half of what begins HTTP/2.
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    is_served(&server).await;
    for connection in &mut silent {
        is_closed(connection).await;
    }
    is_closed(&mut half).await;
}

#[tokio::test]
async fn connections_that_say_nothing_make_way() {
    let server = server(Limits {
        max_connections: 16,
        handshake_timeout: NEVER,
        ..Limits::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        is_served(&server).await;
    }
    for connection in &mut silent[..84] {
        is_closed(connection).await;
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let server = server(Limits {
        max_connections_of_peer: 3,
        ..Limits::default()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.sessions().await;
        drop(get(&mut client, "c1").await);
        clients.push(client);
    }
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    is_closed(&mut refused).await;
    clients.pop();
    eventually("room", || async {
        let mut client = SessionsClient::connect(format!("http://{}", server.address))
            .await
            .ok()?;
        let answer = get(&mut client, "c1").await.unwrap_err();
        (answer.code() == Code::NotFound).then_some(())
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_those_with_a_stream_stay() {
    let server = server(Limits {
        idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let router = FakeRouter::reaching("a", &["10.1.0.0/24", "10.2.0.0/24"]);
    let _stream = router.attach(server.address).await;
    let mut client = server.sessions().await;
    add(&mut client, call("c1", 4000)).await.unwrap();
    let open = || async {
        let metrics = server.engine.metrics();
        (metrics.connections.get() == 1).then_some(())
    };
    eventually("only the router's left", open).await;
    // It connects again.
    eventually("served", || {
        let mut client = client.clone();
        async move { get(&mut client, "c1").await.ok() }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(router.ended().is_none());
}

/// A thousand calls, of a router, and one who may ask for them.
async fn with_calls(server: &TestServer) -> (Gate, SessionsClient<Channel>) {
    let router = Gate::attach(server.address, "r", &["10.1.0.0/24", "10.2.0.0/24"]).await;
    let mut client = server.sessions().await;
    for index in 0..1_000 {
        let session = call(&format!("c{index}"), 4000 + 2 * index);
        add(&mut client, session).await.unwrap();
    }
    (router, client)
}

/// Asks for pages and reads none; tells how many answers have begun.
async fn unread(wire: &Wire, count: usize) -> Arc<AtomicUsize> {
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (mut sending, response) = wire.call(LIST).await;
        let request = v1::ListSessionsRequest {
            page_size: 1_000,
            ..Default::default()
        };
        sending.0.send_data(framed(&request), true).unwrap();
        let begun = begun.clone();
        tokio::spawn(async move {
            if let Ok(response) = response.await {
                begun.fetch_add(1, Ordering::Relaxed);
                // Held, and never read.
                std::future::pending::<()>().await;
                drop(response);
            }
        });
    }
    begun
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_hold_up_nobody() {
    let server = server(Limits::default()).await;
    let (router, mut client) = with_calls(&server).await;
    let wire = Wire::connect(server.address).await;
    let begun = unread(&wire, 3_000).await;
    for _ in 0..20 {
        let answer = timeout(Duration::from_secs(5), get(&mut client, "c7")).await;
        answer.expect("in time").unwrap();
    }
    assert_eq!(list(&mut client).await.total, 1_000);
    assert!(!router.is_gone());
    let begun = begun.load(Ordering::Relaxed);
    assert!(begun <= 4, "{begun} pages were made that nobody reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_answers_unread_is_closed() {
    let limits = Limits {
        read_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = server(limits).await;
    let (router, mut client) = with_calls(&server).await;
    let open = server.engine.metrics().connections.get();
    let wire = Wire::connect(server.address).await;
    let _begun = unread(&wire, 5).await;
    eventually("closed", || async {
        (server.engine.metrics().connections.get() == open).then_some(())
    })
    .await;
    // Who reads is not.
    assert_eq!(list(&mut client).await.total, 1_000);
    assert!(!router.is_gone());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_loses_its_place() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        max_watchers: 1,
        read_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let wire = Wire::connect(net.server.address).await;
    let (mut sending, response) = wire.call(WATCH).await;
    let request = v1::WatchSessionsRequest::default();
    sending.0.send_data(framed(&request), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let full = net.client.watch_sessions(request.clone()).await;
    assert_status(full, Code::ResourceExhausted, &["max_watchers"]);
    let flows = (0..32).map(|index| flow(&format!("10.1.0.5:{}", 4000 + 2 * index), "10.1.0.6:9"));
    let flows: Vec<_> = flows.collect();
    for _ in 0..30 {
        let session = spec("c1", flows.clone());
        add(&mut net.client, session).await.unwrap();
        delete(&mut net.client, "c1").await.unwrap();
    }
    eventually("a place", || {
        let (mut client, request) = (net.client.clone(), request.clone());
        async move { client.watch_sessions(request).await.ok() }
    })
    .await;
    // When it reads after all, it is told why.
    let mut body = response.into_body();
    while let Some(data) = timeout(PATIENCE, body.data()).await.unwrap() {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "15", "{trailers:?}");
    let message = trailers["grpc-message"].to_str().unwrap();
    assert!(message.contains("read"), "{message}");
}
