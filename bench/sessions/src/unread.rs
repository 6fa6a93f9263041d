//! A client that asks for pages and does not read them.

use std::{
    future::pending,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use hdrhistogram::Histogram;
use tokio::time::sleep;
use voicelane_proto::v1::{self, sessions_client::SessionsClient};

use crate::{
    agent::{Agent, key},
    process::usage,
    router::{self, Table},
    server::Server,
    windows::quantiles_ms,
    wire::{Wire, send},
};

const LIST: &str = "/voicelane.v1.Sessions/ListSessions";
const SESSIONS: u32 = 20_000;
/// How long others are looked at meanwhile. A connection that leaves an answer unread is closed after
/// 30 s.
const LOOK: Duration = Duration::from_secs(20);

pub(crate) async fn measure(program: &Path, pages: usize) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    let router = router::attach(&server.url, "c", "10.3.0.0/16", &Table::default()).await?;
    Agent::open(&server.url, 1_024, 64)
        .await?
        .add(0..SESSIONS)
        .await?;
    let before = usage(server.id)?.rss_bytes;
    let mut client = SessionsClient::connect(server.url.clone()).await?;
    let alone = ask(&mut client, Duration::from_secs(3)).await?;

    let wire = Wire::connect(&server.authority).await?;
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..pages {
        let (mut sending, response) = wire.call(LIST).await?;
        let request = v1::ListSessionsRequest {
            page_size: 1_000,
            ..v1::ListSessionsRequest::default()
        };
        send(&mut sending, &request, true).await?;
        let begun = begun.clone();
        tokio::spawn(async move {
            if let Ok(response) = response.await {
                begun.fetch_add(1, Ordering::Relaxed);
                // Held, and never read.
                pending::<()>().await;
                drop(response);
            }
        });
    }
    let most = tokio::spawn(largest(server.id));
    let beside = ask(&mut client, LOOK).await?;
    let most = most.await??;
    let began = Instant::now();
    let late = router::attach(&server.url, "d", "10.4.0.0/16", &Table::default()).await?;
    let attached = began.elapsed();
    ensure!(!router.is_finished(), "a router was lost meanwhile");
    ensure!(!late.is_finished(), "a router was lost at once");
    println!(
        "{pages} pages asked for, {} begun; {SESSIONS} sessions",
        begun.load(Ordering::Relaxed)
    );
    println!(
        "RSS before / at most, MiB: {} / {}",
        before / (1024 * 1024),
        most / (1024 * 1024)
    );
    for (what, latency) in [("alone", &alone), ("meanwhile", &beside)] {
        let [p50, p99, max] = quantiles_ms(latency);
        let count = latency.len();
        println!(
            "GetSession {what}, p50 / p99 / max, ms: {p50:.2} / {p99:.2} / {max:.2} of {count}"
        );
    }
    println!("another router attached after {attached:.1?}; none was lost");
    server.stop().await
}

/// Asks for one session after the other; tells how long each took, us.
async fn ask(
    client: &mut SessionsClient<tonic::transport::Channel>,
    time: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency = Histogram::new(3)?;
    let began = Instant::now();
    let mut call = 0;
    while began.elapsed() < time {
        call = (call + 7_919) % SESSIONS;
        let asked = Instant::now();
        let key = Some(key(call));
        client.get_session(v1::GetSessionRequest { key }).await?;
        latency.record(u64::try_from(asked.elapsed().as_micros())?)?;
        sleep(Duration::from_millis(5)).await;
    }
    Ok(latency)
}

/// The largest resident set within the time.
async fn largest(id: u32) -> anyhow::Result<u64> {
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < LOOK {
        most = most.max(usage(id)?.rss_bytes);
        sleep(Duration::from_millis(50)).await;
    }
    Ok(most)
}
