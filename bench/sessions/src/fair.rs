//! What an agent waits for its additions, alone and beside one that changes as much as it can.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::time::sleep;
use voicelane_server::identity::Quota;

use crate::{agent::Agent, server::Server, windows::quantiles_ms};

/// How long the honest agent waits between additions.
const PAUSE: Duration = Duration::from_millis(10);
/// The flooding agent's sessions, added and deleted in turns; those of the other one follow.
const FLOOD: u32 = 10_000;
/// Changes that it has without an outcome.
const WINDOW: usize = 4_096;
/// It floods for so long before the other one is looked at: its burst is over then.
const BEFORE: Duration = Duration::from_secs(4);

pub(crate) async fn measure(program: &Path, additions: u32) -> anyhow::Result<()> {
    println!("| beside it | changes a second | an addition, p50 / p99 / max, ms |");
    println!("|---|---|---|");
    let quota = Quota::default().changes_per_s;
    for (beside, quota, floods) in [
        ("nobody", quota, false),
        (&format!("a flood, held to {quota} a second"), quota, true),
        ("a flood that nothing holds", 0, true),
    ] {
        let server = Server::with(program, Path::new("none"), &Default::default(), quota).await?;
        let changed = Arc::new(AtomicU64::new(0));
        let flood = floods.then(|| tokio::spawn(flood(server.url.clone(), changed.clone())));
        if floods {
            sleep(BEFORE).await;
        }
        let (began, before) = (Instant::now(), changed.load(Ordering::Relaxed));
        let latency = add(&server.url, additions).await?;
        let changed = changed.load(Ordering::Relaxed) - before;
        #[allow(clippy::cast_precision_loss, reason = "changes of seconds")]
        let rate = changed as f64 / began.elapsed().as_secs_f64();
        let [p50, p99, max] = quantiles_ms(&latency);
        println!("| {beside} | {rate:.0} | {p50:.2} / {p99:.2} / {max:.1} |");
        if let Some(flood) = flood {
            flood.abort();
        }
        server.stop().await?;
    }
    Ok(())
}

/// Adds and deletes until it is aborted.
async fn flood(url: String, changed: Arc<AtomicU64>) -> anyhow::Result<()> {
    const SLICE: u32 = 1_000;
    let mut agent = Agent::named("flood", &url, WINDOW, 64).await?;
    loop {
        for from in (0..FLOOD).step_by(SLICE as usize) {
            agent.add(from..from + SLICE).await?;
            changed.fetch_add(SLICE.into(), Ordering::Relaxed);
        }
        for from in (0..FLOOD).step_by(SLICE as usize) {
            agent.delete(from..from + SLICE).await?;
            changed.fetch_add(SLICE.into(), Ordering::Relaxed);
        }
    }
}

/// Adds one after the other; tells how long each took, us.
async fn add(url: &str, additions: u32) -> anyhow::Result<Histogram<u64>> {
    let mut agent = Agent::named("honest", url, 1, 1).await?;
    for call in FLOOD..FLOOD + additions {
        agent.add(call..call + 1).await?;
        sleep(PAUSE).await;
    }
    Ok(agent.latency)
}
