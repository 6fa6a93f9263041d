//! The router's worker with packets of calls at a fixed rate, and calls or routes that come and go.

#![forbid(unsafe_code)]

mod agents;
mod calls;
mod changes;
mod figures;
mod road;
mod router;
mod sides;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::bail;
use clap::{Parser, ValueEnum};
use tokio::time::{Instant, sleep};
use voicelane_dpdk::{Eal, EalConfig, Hugepages, Mempool};
use voicelane_machine::Machine;
use voicelane_router::dataplane::cores;

use agents::{CallingAgent, StreamingAgent};
use changes::{Change, Done, churn};
use figures::{Figures, Phase, Quantiles};
use road::{Road, Seen};
use router::Router;
use sides::{BareServer, RouteChanges};

/// Lets calls or routes come and go while a router's worker forwards packets at a fixed rate, and
/// tells what that cost: packets lost with and without changes, the time that the loss is worth at
/// the offered rate, and how long it takes from asking for a call to its first marked packet.
///
/// The worker has a core to itself. The packets are made and looked at on it, too; who asks for
/// changes, the QoS server and the router's control side are on the other cores, in one process and
/// connected by gRPC over TCP. Ends with status 1 if packets are lost through the changes, or go where
/// no route leads.
#[derive(Debug, Parser)]
struct Arguments {
    /// What changes
    #[arg(value_enum, default_value = "calls")]
    changes: Changes,

    /// Changes a second: half of them additions, half of them removals
    #[arg(long, default_value_t = 20_000)]
    rate: u64,

    /// Packets a second that come, as many as a link of 10 Gbit/s full of G.711 brings; must be less
    /// than the worker can forward
    #[arg(long, default_value_t = 5_250_000)]
    packets: u64,

    /// Packets that the receive ring holds; those that come while it is full are lost
    #[arg(long, default_value_t = 4_096)]
    ring: u64,

    /// How long to forward without changes, and how long with them
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// Calls that have packets; about half of them have a session at any time
    #[arg(long, default_value_t = 1_000)]
    calls: u16,

    /// Connections of the call agent, used in turns
    #[arg(long, default_value_t = 1)]
    connections: u8,

    /// The worker's core
    #[arg(long, default_value_t = 1)]
    core: usize,

    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,

    /// Write them to this file as Markdown
    #[arg(long)]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Changes {
    /// Sessions at the QoS server, over a stream of ChangeSessions
    Calls,
    /// The same by AddSession and DeleteSession: one call for each change
    Unary,
    /// The same commands from a server that does nothing else: what the router alone takes
    Router,
    /// Routes to the calls' destinations, as the kernel's mirror asks for them
    Routes,
}

impl Changes {
    fn words(self) -> &'static str {
        match self {
            Self::Calls => "calls at the QoS server, on a stream",
            Self::Unary => "calls at the QoS server, a gRPC call each",
            Self::Router => "calls at the router",
            Self::Routes => "routes",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let available = cores::available();
    if !available.contains(&arguments.core) || available.len() < 2 {
        bail!("the worker needs a core of its own, and there must be another: {available:?}");
    }
    let beside: Vec<_> = available
        .into_iter()
        .filter(|&core| core != arguments.core)
        .collect();
    let eal = Eal::init(&EalConfig {
        hugepages: Hugepages::Auto,
        memory_mib: 256,
        ..EalConfig::default()
    })?;
    if !eal.hugepages() {
        eprintln!("without hugepages: the figures will be worse");
    }
    cores::stay_on(&beside)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(beside.len())
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(&arguments))?;
    println!("{}", figures.markdown());
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    if let Some(file) = &arguments.markdown {
        fs::write(file, figures.markdown())?;
    }
    if figures.churn.lost > figures.quiet.lost || figures.churn.misrouted > 0 {
        bail!("packets were lost through the changes, or misrouted");
    }
    Ok(())
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Figures> {
    let last = Duration::from_secs(arguments.seconds);
    let pool = Mempool::create("churn", 16_383, 2_048, -1)?;
    let (road, seen) = Road::new(pool, arguments.calls, arguments.packets, arguments.ring);
    let entries = usize::from(arguments.calls) * 2;
    let router = Router::start(road, arguments.core, (65_536, 64), entries).await?;
    let side = side(arguments, &router).await?;
    // Caches and branch predictors, and whatever the start has left to do.
    sleep(Duration::from_millis(500)).await;

    let (quiet, ()) = phase(&router, &seen, arguments.packets, async {
        sleep(last).await;
        Ok(())
    })
    .await?;
    let changes = async {
        match side {
            Side::Streaming(side) => run(side, &seen, arguments, last).await,
            Side::Calling(side) => run(side, &seen, arguments, last).await,
            Side::Bare(side) => run(side, &seen, arguments, last).await,
            Side::Routes(side) => run(side, &seen, arguments, last).await,
        }
    };
    let (churn, done) = phase(&router, &seen, arguments.packets, changes).await?;
    router.stop();
    let is_calls = !matches!(arguments.changes, Changes::Routes);
    #[allow(clippy::cast_precision_loss, reason = "counts of seconds")]
    let changes_per_second = done.count as f64 / last.as_secs_f64();
    Ok(Figures {
        changes: arguments.changes.words().to_owned(),
        packets_per_second: arguments.packets,
        ring: arguments.ring,
        wanted_per_second: arguments.rate,
        machine: Machine::new(),
        quiet,
        churn,
        changes_done: done.count,
        changes_per_second,
        failed: done.failed,
        answer: Quantiles::of(&done.answer),
        marked: is_calls.then(|| Quantiles::of(&done.marked)),
    })
}

enum Side {
    Streaming(StreamingAgent),
    Calling(CallingAgent),
    Bare(BareServer),
    Routes(RouteChanges),
}

async fn side(arguments: &Arguments, router: &Router) -> anyhow::Result<Side> {
    Ok(match arguments.changes {
        Changes::Calls | Changes::Unary => {
            let server = sides::qos_server().await?;
            router.attach(format!("http://{server}").parse()?).await?;
            let connections = arguments.connections;
            if matches!(arguments.changes, Changes::Calls) {
                Side::Streaming(StreamingAgent::connect(server, connections).await?)
            } else {
                Side::Calling(CallingAgent::connect(server, connections).await?)
            }
        }
        Changes::Router => {
            let (server, side) = BareServer::start().await?;
            router.attach(format!("http://{server}").parse()?).await?;
            Side::Bare(side)
        }
        Changes::Routes => Side::Routes(RouteChanges(router.client.clone())),
    })
}

async fn run(
    side: impl Change,
    seen: &Arc<Seen>,
    arguments: &Arguments,
    last: Duration,
) -> anyhow::Result<Done> {
    churn(side, seen, arguments.rate, last).await
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
