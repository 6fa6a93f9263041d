//! What a session costs: memory while it is there, CPU to add and delete it.

use std::{path::Path, time::Duration};

use tokio::time::sleep;

use crate::{
    agent::Agent,
    process::{Usage, usage},
    server::Server,
};

pub(crate) fn heading() {
    println!(
        "| sessions | bytes a session | RSS before / with / after, MiB | CPU an addition / a deletion, us |"
    );
    println!("|---|---|---|---|");
}

/// Adds so many sessions, deletes them, and gives the server `settle` to give memory back.
pub(crate) async fn measure(
    program: &Path,
    sessions: u32,
    batch: usize,
    settle: Duration,
) -> anyhow::Result<()> {
    let server = Server::start(program).await?;
    let id = server.id;
    let mut agent = Agent::open(&server.url, 1_024, batch).await?;
    // What a first call sets up is not a session's.
    agent.add(0..1).await?;
    let empty = usage(id)?;
    agent.add(1..sessions).await?;
    let full = usage(id)?;
    agent.delete(0..sessions).await?;
    let deleted = usage(id)?;
    sleep(settle).await;
    let after = usage(id)?;
    let bytes = full.rss_bytes.saturating_sub(empty.rss_bytes) / u64::from(sessions);
    let mib = |usage: &Usage| usage.rss_bytes / (1024 * 1024);
    let each =
        |from: &Usage, to: &Usage| (to.cpu - from.cpu).as_secs_f64() * 1e6 / f64::from(sessions);
    println!(
        "| {sessions} | {bytes} | {} / {} / {} | {:.1} / {:.1} |",
        mib(&empty),
        mib(&full),
        mib(&after),
        each(&empty, &full),
        each(&full, &deleted),
    );
    server.stop().await
}
