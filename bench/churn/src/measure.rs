//! What changes cost a router that forwards.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use voicelane_bench::Machine;
use voicelane_dataplane::{device::Allocator, settings::Idle};
use voicelane_dpdk::Mempool;

use crate::{
    Churn,
    agents::{CallingAgent, StreamingAgent},
    changes::{Done, churn},
    figures::{Figures, Phase, Quantiles},
    road::{Road, Seen},
    router::Router,
    sides::{self, BareServer, RouteChanges},
};

/// Where changes come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Stream,
    Unary,
    Bare,
    Routes,
}

impl Source {
    fn words(self) -> &'static str {
        match self {
            Self::Stream => "calls at the QoS server, on a stream",
            Self::Unary => "calls at the QoS server, a gRPC call each",
            Self::Bare => "calls at the router",
            Self::Routes => "routes",
        }
    }
}

/// Forwards on this core without changes, then with them.
pub(crate) async fn measure(
    source: Source,
    wanted: &Churn,
    core: usize,
    memory: &'static dyn Allocator,
) -> anyhow::Result<Figures> {
    let last = Duration::from_secs(wanted.seconds);
    let pool = Mempool::create("churn", 16_383, 2_048, -1)?;
    let (road, seen) = Road::new(pool, wanted.calls, wanted.packets, wanted.ring);
    let entries = usize::from(wanted.calls) * 2;
    let router = Router::start(road, core, (65_536, 64), entries, Idle::Poll, memory).await?;
    let changes = changes(source, wanted, &router, &seen).await?;
    // Caches and branch predictors, and whatever the start has left to do.
    sleep(Duration::from_millis(500)).await;

    let (quiet, ()) = phase(&router, &seen, wanted.packets, async {
        sleep(last).await;
        Ok(())
    })
    .await?;
    let (churn, done) = phase(&router, &seen, wanted.packets, changes).await?;
    router.stop();
    let is_calls = !matches!(source, Source::Routes);
    #[allow(clippy::cast_precision_loss, reason = "counts of seconds")]
    let changes_per_second = done.count as f64 / last.as_secs_f64();
    Ok(Figures {
        changes: source.words().to_owned(),
        packets_per_second: wanted.packets,
        ring: wanted.ring,
        wanted_per_second: wanted.rate,
        machine: Machine::read(),
        quiet,
        churn,
        changes_done: done.count,
        changes_per_second,
        failed: done.failed,
        answer: Quantiles::of(&done.answer),
        marked: is_calls.then(|| Quantiles::of(&done.marked)),
    })
}

/// The changes, to be begun: who makes them is connected.
async fn changes<'a>(
    source: Source,
    wanted: &Churn,
    router: &Router,
    seen: &'a Arc<Seen>,
) -> anyhow::Result<Pin<Box<dyn Future<Output = anyhow::Result<Done>> + 'a>>> {
    let (rate, last) = (wanted.rate, Duration::from_secs(wanted.seconds));
    Ok(match source {
        Source::Stream => {
            let agent = StreamingAgent::connect(qos_server(router).await?).await?;
            Box::pin(churn(agent, seen, rate, last))
        }
        Source::Unary => {
            let agent = CallingAgent::connect(qos_server(router).await?).await?;
            Box::pin(churn(agent, seen, rate, last))
        }
        Source::Bare => {
            let (server, side) = BareServer::start().await?;
            router.attach(server).await?;
            Box::pin(churn(side, seen, rate, last))
        }
        Source::Routes => {
            let side = RouteChanges(router.client.clone());
            Box::pin(churn(side, seen, rate, last))
        }
    })
}

/// The real QoS server, with the router attached.
async fn qos_server(router: &Router) -> anyhow::Result<SocketAddr> {
    let server = sides::qos_server().await?;
    router.attach(server).await?;
    Ok(server)
}

/// Does something, and tells what became of the packets meanwhile.
async fn phase<T>(
    router: &Router,
    seen: &Seen,
    packets_per_second: u64,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Phase, T)> {
    let before = count(router, seen, 0.0).await?;
    let started = Instant::now();
    let done = work.await?;
    let seconds = started.elapsed().as_secs_f64();
    let after = count(router, seen, seconds).await?;
    let offered = after.offered - before.offered;
    let lost = after.lost - before.lost;
    #[allow(clippy::cast_precision_loss, reason = "counts of seconds")]
    let blocked_us = lost as f64 / packets_per_second as f64 * 1e6;
    let phase = Phase {
        seconds,
        offered,
        lost,
        misrouted: after.misrouted - before.misrouted,
        blocked_us,
        longest_turn_us: after.longest_turn_us,
    };
    Ok((phase, done))
}

struct Count {
    offered: u64,
    lost: u64,
    misrouted: u64,
    /// Of so many seconds before.
    longest_turn_us: f64,
}

/// Counts since the start. Everything is lost that the ring had no room for, or the worker dropped.
async fn count(router: &Router, seen: &Seen, seconds: f64) -> anyhow::Result<Count> {
    let report = router.report().await?;
    let mut dropped = 0;
    for port in &report.ports {
        for queue in &port.queues {
            dropped += queue.full_packets.iter().sum::<u64>();
            dropped += queue.early_packets.iter().sum::<u64>() + queue.delay_dropped_packets;
        }
    }
    for interface in &report.interfaces {
        dropped += interface.drops.iter().sum::<u64>() + interface.punts.iter().sum::<u64>();
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "few seconds"
    )]
    let whole = seconds.floor() as usize;
    let turns = report.stalls.seconds.iter().take(whole);
    let turn = turns
        .max()
        .map_or(0, |&turn| report.clock.nanoseconds(turn));
    Ok(Count {
        offered: seen.offered.load(Ordering::Relaxed),
        lost: seen.missed.load(Ordering::Relaxed) + dropped,
        misrouted: seen.misrouted.load(Ordering::Relaxed),
        #[allow(clippy::cast_precision_loss, reason = "under a second")]
        longest_turn_us: turn as f64 / 1e3,
    })
}
