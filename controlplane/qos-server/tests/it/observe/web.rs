//! The operators' page as a browser gets it, and overviews over gRPC.

use std::{net::SocketAddr, time::Duration};

use crate::common::*;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};
use voicelane_proto::v1::{self, explain_step::Verdict};
use voicelane_server::{
    serve::bind_web,
    web::{self, Readers},
};

async fn page_of(server: &TestServer) -> SocketAddr {
    let listener = bind_web("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(web::serve(
        server.engine.clone(),
        listener,
        Readers::default(),
    ));
    address
}

/// Head and body of an answer.
async fn get(address: SocketAddr, path: &str, more: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines();
    let mut found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.next().unwrap_or_default()
}

/// The events of an open page.
struct Page(BufReader<TcpStream>);

impl Page {
    async fn open(address: SocketAddr, search: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /events?search={search} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        let read = async {
            loop {
                let mut line = String::new();
                let read = self.0.read_line(&mut line).await.unwrap();
                assert!(read > 0, "the stream ended");
                if let Some(event) = line.strip_prefix("event: ") {
                    name = event.trim().to_owned();
                } else if let Some(data) = line.strip_prefix("data: ") {
                    return serde_json::from_str(data).unwrap();
                }
            }
        };
        let data = timeout(PATIENCE, read).await.unwrap();
        (name, data)
    }
}

#[tokio::test]
async fn the_page_is_served_with_what_keeps_it_safe_and_once() {
    let net = Network::start().await;
    let address = page_of(&net.server).await;
    for path in ["/", "/app.css", "/js/app.js", "/vendor/uPlot.iife.min.js"] {
        let (head, body) = get(address, path, "").await;
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert!(header(&head, "content-security-policy").starts_with("default-src 'self';"));
        assert_eq!(header(&head, "x-content-type-options"), "nosniff");
        assert!(body.len() > 100);
        let tag = header(&head, "etag");
        let known = format!("If-None-Match: \"other\", {tag}\r\n");
        let (head, body) = get(address, path, &known).await;
        assert!(head.starts_with("http/1.1 304"), "{path}: {head}");
        assert!(body.is_empty());
    }
    for path in [
        "/no",
        "/../Cargo.toml",
        "/js/../../Cargo.toml",
        // A file of a kind that is served, outside of what is.
        "/../../../proto/tests/contract.txt",
        "/vendor/SHA256SUMS",
    ] {
        let (head, _) = get(address, path, "").await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(!header(&head, "content-security-policy").is_empty());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let foreign = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    stream.write_all(foreign).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[tokio::test]
async fn a_page_is_told_everything_then_what_differs_and_nobody_looks_when_it_has_gone() {
    let mut net = Network::start().await;
    for index in 0..250_u16 {
        let name = format!("c{index:03}");
        add(&mut net.client, call(&name, 4000 + 2 * index))
            .await
            .unwrap();
    }
    let address = page_of(&net.server).await;
    assert!(!net.server.engine.is_looked_at());
    let mut page = Page::open(address, "").await;
    let (name, all) = page.next().await;
    assert_eq!(name, "snapshot");
    assert_eq!(all["order"].as_array().unwrap().len(), 200);
    assert_eq!(all["calls"].as_object().unwrap().len(), 200);
    let parts = &all["parts"];
    assert_eq!(parts["sentence"], "250 calls; none is known to be bad.");
    assert_eq!(parts["found"], "250");
    assert_eq!(parts["links"].as_array().unwrap().len(), 4);
    assert_eq!(parts["routers"].as_array().unwrap().len(), 2);
    assert_eq!(parts["events"].as_array().unwrap().len(), 5);
    let (name, change) = page.next().await;
    assert_eq!(name, "change");
    assert_eq!(change["calls"].as_object().unwrap().len(), 0);
    assert!(change.get("order").is_none() && change["parts"].get("links").is_none());
    net.a_stream.cut();
    let bad = async {
        loop {
            let (_, change) = page.next().await;
            if let Some(sentence) = change["parts"]["sentence"].as_str()
                && sentence.contains("bad (")
            {
                assert_eq!(sentence, "250 calls; 250 bad (250: router a is away).");
                return change;
            }
        }
    };
    let change = timeout(PATIENCE, bad).await.unwrap();
    let call = &change["calls"]["test\nc000"];
    assert_eq!(call["why"], "router a is away");
    assert_eq!(call["segments"][1]["verdict"], "VERDICT_BROKEN");
    assert_eq!(call["segments"][2]["text"], "no loss told");
    drop(page);
    let until = async {
        while net.server.engine.is_looked_at() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, until).await.unwrap();
    // Another one begins anew.
    let (name, _) = Page::open(address, "").await.next().await;
    assert_eq!(name, "snapshot");
}

#[tokio::test]
async fn a_search_finds_names_call_ids_addresses_and_routers() {
    let mut net = Network::start().await;
    for index in 0..20_u16 {
        let mut call = call(&format!("c{index}"), 4000 + 2 * index);
        call.correlation_id = format!("{index}@Atlanta");
        add(&mut net.client, call).await.unwrap();
    }
    let address = page_of(&net.server).await;
    for (search, found) in [
        ("c19", "1"),
        ("7%40atlanta", "2"),
        ("10.1.0.5:4010", "1"),
        ("10.9", "0"),
        ("router%20b", "20"),
        ("router%20c", "0"),
    ] {
        let (_, all) = Page::open(address, search).await.next().await;
        assert_eq!(all["parts"]["found"], found, "{search}");
        assert_eq!(all["order"].as_array().unwrap().len().to_string(), found);
    }
    let (head, body) = get(address, &format!("/events?search={}", "x".repeat(129)), "").await;
    assert!(
        head.starts_with("http/1.1 400") && body.contains("at most 128"),
        "{head}{body}"
    );
}

#[tokio::test]
async fn a_call_is_explained_to_a_page() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c 1", 4000)).await.unwrap();
    let address = page_of(&net.server).await;
    let path = "/api/explain?agent=test&session=c%201";
    let (head, body) = get(address, path, "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["flows"][0]["steps"][0]["link"], "desired");
    for (path, code, text) in [
        ("/api/explain?agent=test&session=c2", 404, "c2"),
        ("/api/explain?agent=&session=c2", 400, "agent_id"),
        ("/api/explain", 400, ""),
    ] {
        let (head, body) = get(address, path, "").await;
        assert!(
            head.starts_with(&format!("http/1.1 {code}")),
            "{path}: {head}"
        );
        assert!(body.contains(text), "{path}: {body}");
    }
}

#[tokio::test]
async fn an_overview_comes_over_grpc_once_and_again() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let mut operator = net.server.operator().await;
    let once = v1::WatchOverviewRequest {
        once: true,
        ..Default::default()
    };
    let mut overviews = operator.watch_overview(once).await.unwrap().into_inner();
    let overview = overviews.message().await.unwrap().unwrap();
    assert_eq!(overview.sentence, "1 call; none is known to be bad.");
    assert_eq!(overview.calls[0].source, "10.1.0.5:4000");
    let verdicts = overview.calls[0].segments.iter().map(v1::Segment::verdict);
    let [unknown, ok] = [Verdict::Unknown, Verdict::Ok];
    assert_eq!(
        verdicts.collect::<Vec<_>>(),
        [unknown, ok, unknown, ok, unknown]
    );
    assert_eq!(overviews.message().await.unwrap(), None);
    let following = v1::WatchOverviewRequest::default();
    let mut overviews = operator
        .watch_overview(following)
        .await
        .unwrap()
        .into_inner();
    add(&mut net.client, call("c2", 5000)).await.unwrap();
    let until = async { while overviews.message().await.unwrap().unwrap().total != 2 {} };
    timeout(PATIENCE, until).await.unwrap();
    let too_many = v1::WatchOverviewRequest {
        calls: 201,
        ..Default::default()
    };
    let error = operator.watch_overview(too_many).await.unwrap_err();
    assert!(error.message().contains("give 1 to 200"), "{error}");
}
