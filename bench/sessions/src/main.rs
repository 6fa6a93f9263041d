//! The QoS server under load: what sessions cost it, how long its lock is held, and what clients with
//! large windows or unread answers do to others.

#![forbid(unsafe_code)]

mod agent;
mod cost;
mod fair;
mod flood;
mod holds;
mod process;
mod router;
mod server;
mod store;
mod unread;
mod windows;
mod wire;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use rustix::thread::disable_transparent_huge_pages;
use tikv_jemalloc_ctl::background_thread;

/// The allocator that `voicelane-server` has, so that memory compares.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures a QoS server that is a process of its own, with two routers that acknowledge at once and a
/// call agent.
///
/// A session is a call: two flows with RTCP beside them. Without a command: `cost`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server's program
    #[arg(long, default_value = "target/release/voicelane-server")]
    server: PathBuf,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Memory and CPU of a session that is added over a stream of ChangeSessions and deleted again
    Cost {
        /// How many sessions, one measurement each
        #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
        sessions: Vec<u32>,

        /// Changes of a request
        #[arg(long, default_value_t = 64)]
        batch: usize,

        /// How long the server has to give back memory
        #[arg(long, default_value_t = 10)]
        settle_s: u64,
    },
    /// Changes a second, latency, restart and memory with the store on
    Store {
        /// How many sessions stand while latency and restart are measured
        #[arg(long, default_value_t = 100_000)]
        standing: u32,

        /// How many for the memory of one
        #[arg(long, default_value_t = 1_000_000)]
        sessions: u32,

        /// Where the store is made anew, and removed
        #[arg(long, default_value = "target/sessions-store")]
        data: PathBuf,

        /// Where the figures go as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// How long the engine's lock is held at a time, with an engine in this process
    Holds {
        /// How many sessions
        #[arg(long, default_value_t = 500_000)]
        sessions: u32,

        /// How many prefixes of a router
        #[arg(long, default_value_t = 500_000)]
        prefixes: u32,
    },
    /// From a change on a stream to its outcome, by how many changes may be without an outcome
    Windows {
        /// Changes without an outcome, one measurement each
        #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096")]
        windows: Vec<usize>,

        /// Changes of a request
        #[arg(long, default_value_t = 1)]
        batch: usize,

        /// Sessions added and deleted again
        #[arg(long, default_value_t = 100_000)]
        sessions: u32,
    },
    /// What pages that a client asks for and does not read do to the server and to others
    Unread {
        /// How many pages of 1,000 sessions
        #[arg(long, default_value_t = 3_000)]
        pages: usize,
    },
    /// Additions one a message, as fast as flow control lets them, beside calls that are cancelled
    Flood {
        /// How many additions
        #[arg(long, default_value_t = 20_000)]
        sessions: u32,
    },
    /// What an agent waits for an addition, alone and beside one that changes as much as it can
    Fair {
        /// How many additions, 100 a second at most, one measurement each
        #[arg(long, default_value_t = 1_000)]
        additions: u32,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // As the server does.
    disable_transparent_huge_pages(true)?;
    background_thread::write(true).map_err(anyhow::Error::msg)?;
    let Arguments { server, what } = Arguments::parse();
    let what = what.unwrap_or(What::Cost {
        sessions: vec![100_000, 1_000_000],
        batch: 64,
        settle_s: 10,
    });
    match what {
        What::Cost {
            sessions,
            batch,
            settle_s,
        } => {
            cost::heading();
            for sessions in sessions {
                let settle = Duration::from_secs(settle_s);
                cost::measure(&server, sessions, batch, settle).await?;
            }
            Ok(())
        }
        What::Store {
            standing,
            sessions,
            data,
            json,
        } => store::measure(&server, standing, sessions, &data, json.as_deref()).await,
        What::Holds { sessions, prefixes } => holds::measure(sessions, prefixes).await,
        What::Windows {
            windows,
            batch,
            sessions,
        } => windows::measure(&server, &windows, batch, sessions).await,
        What::Unread { pages } => unread::measure(&server, pages).await,
        What::Flood { sessions } => flood::measure(&server, sessions).await,
        What::Fair { additions } => fair::measure(&server, additions).await,
    }
}
