//! Who may read the page, and what ends a reader that does not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use voicelane_identity::{Files, Role, client};
use voicelane_server::{
    serve::bind_web,
    web::{self, Readers},
};

use crate::common::*;

async fn page(server: &TestServer, readers: Readers) -> SocketAddr {
    let listener = bind_web("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(web::serve(server.engine.clone(), listener, readers));
    address
}

async fn ask(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// All that comes until the server ends the connection.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // Its end may be a reset.
    let read = stream.read_to_end(&mut answer);
    drop(timeout(PATIENCE, read).await.expect("the end"));
    String::from_utf8_lossy(&answer).into_owned()
}

async fn by_tls(address: SocketAddr, files: &Files) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = client::config(files).unwrap();
    // As browsers do.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

#[tokio::test]
async fn by_tls_operators_alone_read_it() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = TestServer::start().await;
    let readers = Readers {
        trust: pki.transport().trust,
        ..Readers::default()
    };
    let address = page(&server, readers).await;
    let answer = async |files: &Files| {
        let mut stream = by_tls(address, files).await.unwrap();
        ask(&mut stream, "/").await;
        rest(&mut stream).await
    };
    let operator = answer(&pki.files(Role::Operator, "alice")).await;
    assert!(operator.starts_with("HTTP/1.1 200"), "{operator}");
    for (role, id) in [(Role::Agent, "sip"), (Role::Router, "r1")] {
        let refused = answer(&pki.files(role, id)).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        assert!(refused.contains(&format!("{role}/{id}")), "{refused}");
    }
    let stranger = Files {
        ca: pki.files(Role::Operator, "alice").ca,
        ..other.files(Role::Operator, "alice")
    };
    let refused = answer(&stranger).await;
    assert_eq!(refused, "", "another authority's");

    let mut plain = TcpStream::connect(address).await.unwrap();
    ask(&mut plain, "/").await;
    let refused = rest(&mut plain).await;
    assert!(!refused.contains("HTTP"), "{refused}");
}

#[tokio::test]
async fn a_page_ends_with_its_certificate() {
    let pki = Pki::new();
    let server = TestServer::start().await;
    let readers = Readers {
        trust: pki.transport().trust,
        ..Readers::default()
    };
    let address = page(&server, readers).await;
    let files = pki.files_until(Role::Operator, "alice", 5);
    let mut stream = by_tls(address, &files).await.unwrap();
    // With a byte of another request, which is not read while the answer goes on.
    let request = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nG";
    stream.write_all(request.as_bytes()).await.unwrap();
    let seen = rest(&mut stream).await;
    assert!(seen.contains("event: snapshot"), "{seen}");
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_the_others_are_not() {
    let server = TestServer::start().await;
    let readers = Readers {
        read_timeout: Duration::from_secs(1),
        ..Readers::default()
    };
    let address = page(&server, readers).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut idle = socket.connect(address).await.unwrap();
    let mut page = TcpStream::connect(address).await.unwrap();
    ask(&mut idle, "/vendor/uPlot.iife.min.js").await;
    ask(&mut page, "/events").await;
    sleep(Duration::from_secs(4)).await;
    let cut = rest(&mut idle).await;
    let (head, body) = cut.split_once("\r\n\r\n").unwrap();
    let length = head.to_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    assert!(body.len() < length.parse().unwrap(), "all of it came");
    let mut seen = [0; 4_096];
    let read = timeout(PATIENCE, page.read(&mut seen)).await.unwrap();
    assert!(read.unwrap() > 0, "an open page goes on");
}

#[tokio::test]
async fn so_many_connections_and_no_more() {
    let server = TestServer::start().await;
    let address = page(&server, Readers::default()).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "/events").await;
        open.push(stream);
    }
    let mut ends = [0; 3];
    for stream in &mut open {
        let mut head = [0; 12];
        let read = timeout(PATIENCE, stream.read(&mut head)).await.unwrap();
        match (read.unwrap_or(0), &head[9..]) {
            (0, _) => ends[0] += 1,
            (_, b"200") => ends[1] += 1,
            (_, b"503") => ends[2] += 1,
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(ends[1], 64, "{ends:?}");
    drop(open);
    eventually("room again", || async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "/events").await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        (&head[9..] == b"200").then_some(())
    })
    .await;
    // Those who say nothing make way.
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let ended = |stream: &&TcpStream| {
        let read = stream.try_read(&mut [0; 1]);
        !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    eventually("all but 256 are closed", || async {
        (silent.iter().filter(ended).count() >= 300 - 256).then_some(())
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "they were closed for their silence"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, "/").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
}
