//! What has happened, over gRPC and posted to a URL.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::common::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, pki_types::PrivateKeyDer},
};
use tonic::Streaming;
use voicelane_proto::v1::{self, EventKind, Severity};
use voicelane_server::{
    engine::Settings,
    events::{self, webhook::Webhook},
};

async fn watch(
    server: &TestServer,
    request: v1::WatchEventsRequest,
) -> Streaming<v1::WatchEventsResponse> {
    let mut operator = server.operator().await;
    operator.watch_events(request).await.unwrap().into_inner()
}

fn following() -> v1::WatchEventsRequest {
    v1::WatchEventsRequest {
        follow: true,
        ..v1::WatchEventsRequest::default()
    }
}

/// The next events until one of the kind comes.
async fn until(events: &mut Streaming<v1::WatchEventsResponse>, kind: EventKind) -> v1::Event {
    let found = async {
        loop {
            let part = events.message().await.unwrap().unwrap();
            assert_eq!(part.missed, 0);
            if let Some(event) = part.events.into_iter().find(|it| it.kind() == kind) {
                return event;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

async fn all(server: &TestServer) -> Vec<v1::Event> {
    let mut parts = watch(server, v1::WatchEventsRequest::default()).await;
    let mut all = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        all.extend(part.events);
    }
    all
}

#[tokio::test]
async fn what_happens_to_calls_and_routers_is_told_in_its_order() {
    let mut net = Network::start().await;
    let mut events = watch(&net.server, following()).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let refused = add(&mut net.client, call("c2", 4000)).await.unwrap_err();
    let event = until(&mut events, EventKind::CallRefused).await;
    assert_eq!(event.severity(), Severity::Warning);
    assert_eq!(event.session, key("c2"));
    assert_eq!(event.text, format!("refused: {}", refused.message()));
    add(&mut net.client, spec("c3", vec![])).await.unwrap_err();
    let event = until(&mut events, EventKind::CallRefused).await;
    assert_eq!(event.session, key("c3"));
    let short = v1::SessionSpec {
        lifetime_s: 1,
        ..call("c4", 5000)
    };
    add(&mut net.client, short).await.unwrap();
    let event = until(&mut events, EventKind::CallRemoved).await;
    assert_eq!(event.session, key("c4"));
    assert_eq!(event.text, "removed: lease ran out");
    net.a_stream.cut();
    let event = until(&mut events, EventKind::RouterLost).await;
    assert_eq!(
        (event.severity(), &*event.router_id),
        (Severity::Error, "a")
    );
    assert!(
        event.text.starts_with("lost, with 1 calls on it: "),
        "{event:?}"
    );
    let all = all(&net.server).await;
    let kinds: Vec<_> = all.iter().map(v1::Event::kind).collect();
    assert_eq!(kinds[0], EventKind::ServerStarted);
    for kind in [EventKind::RouterAttached, EventKind::RouterSynchronised] {
        assert_eq!(
            kinds.iter().filter(|it| **it == kind).count(),
            2,
            "{kinds:?}"
        );
    }
    let sequences: Vec<_> = all.iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn some_events_can_be_asked_for() {
    let mut net = Network::start().await;
    for index in 0..5 {
        let name = format!("bad{index}");
        add(&mut net.client, spec(&name, vec![])).await.unwrap_err();
    }
    let ask = async |request| {
        let mut parts = watch(&net.server, request).await;
        let mut all = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            all.extend(part.events);
        }
        all
    };
    let last = ask(v1::WatchEventsRequest {
        last: 2,
        ..Default::default()
    })
    .await;
    let names = last.iter().map(|it| it.session.clone());
    assert_eq!(names.collect::<Vec<_>>(), [key("bad3"), key("bad4")]);
    let warnings = ask(v1::WatchEventsRequest {
        min_severity: Severity::Warning.into(),
        ..Default::default()
    })
    .await;
    assert_eq!(warnings.len(), 5);
    let after = ask(v1::WatchEventsRequest {
        after_sequence: last[0].sequence,
        ..Default::default()
    })
    .await;
    assert_eq!(after, last[1..]);
}

#[tokio::test]
async fn a_router_that_answers_nothing_is_told_and_so_is_that_it_answers_again() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(300),
        probe_every: Duration::from_millis(100),
        ..Settings::default()
    };
    let net = Network::on(TestServer::with(settings).await).await;
    let mut events = watch(&net.server, following()).await;
    net.a.behave(|_| Manner::Silent);
    let event = until(&mut events, EventKind::RouterMute).await;
    assert_eq!(
        (event.severity(), &*event.router_id),
        (Severity::Error, "a")
    );
    net.a.behave(|_| Manner::Obey);
    net.a.break_silence(&net.a_stream).await;
    let event = until(&mut events, EventKind::RouterAnswers).await;
    assert_eq!(event.router_id, "a");
}

/// Reads a request and answers it with a status; gives its body.
async fn receive(listener: &TcpListener, status: &str) -> serde_json::Value {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    answer(stream, status).await
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    status: &str,
) -> serde_json::Value {
    let body = read_body(&mut stream).await;
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    body
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> serde_json::Value {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the request ended early");
        text.extend_from_slice(&part[..read]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        assert!(head.starts_with("post /hook?x=1 http/1.1"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return serde_json::from_str(body).unwrap();
        }
    }
}

#[tokio::test]
async fn events_are_posted_and_tried_again_and_nobody_waits_for_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
    let mut net = Network::start().await;
    let webhook = Webhook::new(&url, events::Severity::Warning, None).unwrap();
    tokio::spawn(webhook.run(net.server.engine.clone()));
    add(&mut net.client, spec("bad", vec![])).await.unwrap_err();
    let first = receive(&listener, "503 Service Unavailable").await;
    // While it is down, calls go on.
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    add(&mut net.client, spec("worse", vec![]))
        .await
        .unwrap_err();
    let again = receive(&listener, "204 No Content").await;
    assert_eq!(first, again, "the same is tried again");
    let events = again["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "only warnings: {again}");
    assert_eq!(events[0]["kind"], "EVENT_KIND_CALL_REFUSED");
    assert_eq!(events[0]["session"]["sessionId"], "bad");
    assert_eq!(again["missed"], "0");
    let next = receive(&listener, "400 Bad Request").await;
    assert_eq!(next["events"][0]["session"]["sessionId"], "worse");
    // What the receiver calls wrong is not tried again.
    net.a_stream.cut();
    let next = receive(&listener, "200 OK").await;
    assert_eq!(next["events"][0]["routerId"], "a");
}

/// What listens with a certificate for `localhost`, and the file with the authority that it is from.
fn https(name: &str) -> (TlsAcceptor, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = std::env::temp_dir().join(format!("voicelane-{name}-{}.pem", std::process::id()));
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

#[tokio::test]
async fn events_are_posted_by_tls_to_who_proves_its_name_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, ca) = https("webhook");
    let (_, others) = https("others");
    let mut net = Network::start().await;
    let url = |host: &str| format!("https://{host}:{port}/hook?x=1");
    let accept = async || {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        acceptor.accept(stream).await
    };

    // Another authority's word, or another name, is none.
    for (host, ca) in [("localhost", &others), ("127.0.0.1", &ca)] {
        let webhook = Webhook::new(&url(host), events::Severity::Warning, Some(ca)).unwrap();
        let posting = tokio::spawn(webhook.run(net.server.engine.clone()));
        add(&mut net.client, spec("bad", vec![])).await.unwrap_err();
        // It may be refused before the handshake is over for this side.
        if let Ok(mut stream) = accept().await {
            assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0, "{host}");
        }
        posting.abort();
    }
    let webhook = Webhook::new(&url("localhost"), events::Severity::Warning, Some(&ca)).unwrap();
    tokio::spawn(webhook.run(net.server.engine.clone()));
    let told = answer(accept().await.unwrap(), "204 No Content").await;
    assert_eq!(told["events"][0]["session"]["sessionId"], "bad");
    for file in [ca, others] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_webhook_is_an_http_or_https_url() {
    let new =
        |url: &str, ca: Option<&str>| Webhook::new(url, events::Severity::Info, ca.map(Path::new));
    for bad in ["", "here", "ftp://x", "http:///x", "https:///x"] {
        let error = new(bad, None).err().unwrap().to_string();
        assert!(error.contains("no URL like https://"), "{error}");
    }
    let error = new("http://x/", Some("/ca.pem")).err().unwrap().to_string();
    assert!(error.contains("webhook_ca is for"), "{error}");
    let error = new("https://x/", Some("/nowhere.pem"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}
