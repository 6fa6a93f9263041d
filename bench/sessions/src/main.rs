//! A QoS server with two routers and an agent: what its sessions cost it.

#![forbid(unsafe_code)]

mod agent;
mod process;
mod router;

use std::{net::TcpListener, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use tokio::{process::Command, time::sleep};

use agent::Agent;
use process::{Usage, usage};

/// Adds sessions at a QoS server over one stream of ChangeSessions, deletes them again, and tells
/// what memory they took, what came back of it, and the CPU time of a change.
///
/// The server is a process of its own. A session is a call: two flows with RTCP beside them, on two
/// routers, which acknowledge at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many sessions, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    sessions: Vec<u32>,

    /// The server's program
    #[arg(long, default_value = "target/release/voicelane-server")]
    server: PathBuf,

    /// How long the server has to give back memory
    #[arg(long, default_value_t = 10)]
    settle_s: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!(
        "| sessions | bytes a session | RSS before / with / after, MiB | CPU an addition / a deletion, us |"
    );
    println!("|---|---|---|---|");
    for &sessions in &arguments.sessions {
        measure(&arguments, sessions).await?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, sessions: u32) -> anyhow::Result<()> {
    // Another process might take the port, which then shows as a server that cannot listen.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut server = Command::new(&arguments.server)
        .args(["--log", "warn", "--adopt-for", "0", "--listen"])
        .arg(address.to_string())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{}", arguments.server.display()))?;
    let id = server.id().context("the server has ended")?;
    let url = format!("http://{address}");
    for (name, prefix) in [("a", "10.1.0.0/16"), ("b", "10.2.0.0/16")] {
        router::attach(&url, name, prefix).await?;
    }
    let mut agent = Agent::open(&url).await?;
    // What a first call sets up is not a session's.
    agent.add(0..1).await?;
    let empty = usage(id)?;
    agent.add(1..sessions).await?;
    let full = usage(id)?;
    agent.delete(0..sessions).await?;
    let deleted = usage(id)?;
    sleep(Duration::from_secs(arguments.settle_s)).await;
    let after = usage(id)?;
    let bytes = full.rss_bytes.saturating_sub(empty.rss_bytes) / u64::from(sessions);
    let mib = |usage: &Usage| usage.rss_bytes / (1024 * 1024);
    let each =
        |from: &Usage, to: &Usage| (to.cpu - from.cpu).as_secs_f64() * 1e6 / f64::from(sessions);
    println!(
        "| {sessions} | {bytes} | {} / {} / {} | {:.0} / {:.0} |",
        mib(&empty),
        mib(&full),
        mib(&after),
        each(&empty, &full),
        each(&full, &deleted),
    );
    server.kill().await?;
    Ok(())
}
