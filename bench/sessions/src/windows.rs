//! From a change on a stream to its outcome, by the agent's window.

use std::{path::Path, time::Instant};

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
        let at = |quantile| millis(agent.latency.value_at_quantile(quantile));
        println!(
            "| {window} | {rate:.0} | {:.1} / {:.1} / {:.1} |",
            at(0.5),
            at(0.99),
            millis(agent.latency.max())
        );
        server.stop().await?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "to be printed")]
pub(crate) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
