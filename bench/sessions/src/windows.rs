//! From a change on a stream to its outcome, by the agent's window.

use std::{path::Path, time::Instant};

use hdrhistogram::Histogram;

use crate::{agent::Agent, server::Server};

pub(crate) async fn measure(
    program: &Path,
    windows: &[usize],
    batch: usize,
    sessions: u32,
) -> anyhow::Result<()> {
    println!("| window | changes a second | p50 / p99 / max, ms |");
    println!("|---|---|---|");
    for &window in windows {
        let server = Server::start(program).await?;
        let mut agent = Agent::open(&server.url, window, batch.min(window)).await?;
        let began = Instant::now();
        agent.add(0..sessions).await?;
        agent.delete(0..sessions).await?;
        let rate = 2.0 * f64::from(sessions) / began.elapsed().as_secs_f64();
        let [p50, p99, max] = quantiles_ms(&agent.latency);
        println!("| {window} | {rate:.0} | {p50:.1} / {p99:.1} / {max:.1} |");
        server.stop().await?;
    }
    Ok(())
}

/// The median, the 99th percentile and the maximum, in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "to be printed")]
pub(crate) fn quantiles_ms(micros: &Histogram<u64>) -> [f64; 3] {
    let [p50, p99] = [0.5, 0.99].map(|quantile| micros.value_at_quantile(quantile));
    [p50, p99, micros.max()].map(|micros| micros as f64 / 1_000.0)
}
