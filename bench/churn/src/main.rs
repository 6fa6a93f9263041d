//! What changes of calls and routes cost a router's worker that forwards at a fixed rate.

#![forbid(unsafe_code)]

mod agents;
mod calls;
mod changes;
mod figures;
mod idle;
mod measure;
mod road;
mod router;
mod sides;
mod table;
mod waiting;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tokio::runtime::Runtime;
use voicelane_bench::report::Files;
use voicelane_dpdk::{Eal, EalConfig, Hugepages};
use voicelane_router::dataplane::cores;

use measure::Source;

/// Lets calls or routes come and go while a router's worker forwards packets at a fixed rate, and
/// prints what that cost: packets lost with and without changes, the loss as time at the offered
/// rate, and the time from asking for a call to its first marked packet.
///
/// The worker has a core to itself. The packets are made and looked at on it, too; who asks for
/// changes, the QoS server and the router's control side are on the other cores, in one process and
/// connected by gRPC over TCP. `idle` and `table` measure beside that what its rest and its routes
/// cost. Ends with status 1 if packets are lost through the changes, or go where
/// no route leads.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,

    /// Core of the worker
    #[arg(long, default_value_t = 1, global = true)]
    core: usize,

    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Sessions change at the QoS server, over a stream of ChangeSessions
    Calls(Churn),
    /// The same by AddSession and DeleteSession: one call for each change
    Unary(Churn),
    /// The same commands from a server that does nothing else: what the router alone takes
    Router(Churn),
    /// Routes to the calls' destinations change, as the kernel's mirror asks for them
    Routes(Churn),
    /// Nothing changes: how long packets that come one at a time wait for a worker that sleeps, and
    /// what of its core it takes while none comes
    Idle,
    /// Routes of the Internet's whole table, without packets: to load, to change one, to look up
    Table,
}

/// Offered packets and rate of changes.
#[derive(Args, Clone, Copy, Debug)]
struct Churn {
    /// Changes a second: half of them additions, half of them removals. The first removals have
    /// nothing to remove and are left out, so a little more than what is to be shown
    #[arg(long, default_value_t = 20_200)]
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
        memory_mib: match arguments.what {
            What::Table => table::MEMORY_MIB,
            _ => 256,
        },
        ..EalConfig::default()
    })?;
    if !eal.hugepages() {
        eprintln!("without hugepages: the figures will be worse");
    }
    let (source, churn) = match arguments.what {
        What::Calls(churn) => (Source::Stream, churn),
        What::Unary(churn) => (Source::Unary, churn),
        What::Router(churn) => (Source::Bare, churn),
        What::Routes(churn) => (Source::Routes, churn),
        What::Idle => {
            let figures =
                runtime(&beside)?.block_on(idle::measure(arguments.core, eal.memory()))?;
            return tell(&arguments, &figures, &figures.markdown());
        }
        What::Table => {
            cores::stay_on(&[arguments.core])?;
            let figures = table::measure(eal.memory())?;
            return tell(&arguments, &figures, &figures.markdown());
        }
    };
    let measured = measure::measure(source, &churn, arguments.core, eal.memory());
    let figures = runtime(&beside)?.block_on(measured)?;
    tell(&arguments, &figures, &figures.markdown())?;
    if figures.churn.lost > figures.quiet.lost || figures.churn.misrouted > 0 {
        bail!("packets were lost through the changes, or misrouted");
    }
    Ok(())
}

/// A runtime on these cores, for all but the worker.
fn runtime(cores: &[usize]) -> anyhow::Result<Runtime> {
    cores::stay_on(cores)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    Ok(runtime.worker_threads(cores.len()).enable_all().build()?)
}

/// Prints figures, and writes the files that were asked for.
fn tell(arguments: &Arguments, figures: &impl Serialize, markdown: &str) -> anyhow::Result<()> {
    println!("{markdown}");
    arguments.files.write(figures, markdown)
}
