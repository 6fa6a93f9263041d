//! The server with its store: changes a second, latency with many sessions standing, restart, memory.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{agent::Agent, process::usage, router::Table, server::Server, windows::quantiles_ms};

/// Changes that an agent has without an outcome.
const WINDOWS: [usize; 3] = [16, 256, 1_024];
/// Additions and deletions beside those that stand, in each window.
const CHANGED: u32 = 100_000;

#[derive(Serialize)]
struct Figures {
    standing: u32,
    windows: Vec<Window>,
    /// From the start of the server's process until the last router is synchronised: all have their sessions.
    restart_s: f64,
    /// The same where both routers have none.
    restart_empty_routers_s: f64,
    sessions: u32,
    rss_bytes_a_session: u64,
}

#[derive(Serialize)]
struct Window {
    changes_without_outcome: usize,
    changes_a_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    server_cpu_us_a_change: f64,
}

/// Prints the figures, and writes them to `json`.
pub(crate) async fn measure(
    program: &Path,
    standing: u32,
    sessions: u32,
    data: &Path,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    make_anew(data)?;
    let tables: [Table; 2] = Default::default();
    let server = Server::with(program, data, &tables, 0).await?;
    Agent::open(&server.url, 1_024, 64)
        .await?
        .add(0..standing)
        .await?;
    println!(
        "| changes without an outcome | changes a second | p50 / p99 / max, ms | CPU a change, us |"
    );
    println!("|---|---|---|---|");
    let mut windows = Vec::new();
    for size in WINDOWS {
        let window = window(&server, standing, size).await?;
        println!(
            "| {size} | {:.0} | {:.2} / {:.2} / {:.1} | {:.1} |",
            window.changes_a_second,
            window.p50_ms,
            window.p99_ms,
            window.max_ms,
            window.server_cpu_us_a_change
        );
        windows.push(window);
    }
    server.stop().await?;
    let with_tables = restart(program, data, &tables).await?;
    let empty_routers = restart(program, data, &Default::default()).await?;
    println!(
        "\nrestart with {standing} sessions, killed before: {with_tables:.2?} until routers are synchronised"
    );
    println!("the same, and routers that have lost all: {empty_routers:.2?}");

    make_anew(data)?;
    let server = Server::with(program, data, &Default::default(), 0).await?;
    let mut agent = Agent::open(&server.url, 1_024, 64).await?;
    agent.add(0..1).await?;
    let empty = usage(server.id)?;
    agent.add(1..sessions).await?;
    let full = usage(server.id)?;
    server.stop().await?;
    fs::remove_dir_all(data)?;
    let each = full.rss_bytes.saturating_sub(empty.rss_bytes) / u64::from(sessions);
    println!("memory with {sessions} sessions: {each} bytes each");
    let figures = Figures {
        standing,
        windows,
        restart_s: with_tables.as_secs_f64(),
        restart_empty_routers_s: empty_routers.as_secs_f64(),
        sessions,
        rss_bytes_a_session: each,
    };
    if let Some(file) = json {
        fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(())
}

fn make_anew(data: &Path) -> anyhow::Result<()> {
    if data.exists() {
        fs::remove_dir_all(data)?;
    }
    Ok(fs::create_dir_all(data)?)
}

/// Adds and deletes beside those that stand.
async fn window(server: &Server, standing: u32, size: usize) -> anyhow::Result<Window> {
    let mut agent = Agent::open(&server.url, size, 64.min(size / 4)).await?;
    let (began, before) = (Instant::now(), usage(server.id)?);
    agent.add(standing..standing + CHANGED).await?;
    agent.delete(standing..standing + CHANGED).await?;
    let (took, after) = (began.elapsed(), usage(server.id)?);
    let changes = 2.0 * f64::from(CHANGED);
    let [p50_ms, p99_ms, max_ms] = quantiles_ms(&agent.latency);
    Ok(Window {
        changes_without_outcome: size,
        changes_a_second: changes / took.as_secs_f64(),
        p50_ms,
        p99_ms,
        max_ms,
        server_cpu_us_a_change: (after.cpu - before.cpu).as_secs_f64() * 1e6 / changes,
    })
}

/// How long it takes until both routers are synchronised.
async fn restart(program: &Path, data: &Path, tables: &[Table; 2]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let server = Server::with(program, data, tables, 0).await?;
    let took = began.elapsed();
    server.stop().await?;
    Ok(took)
}
