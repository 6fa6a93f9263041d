//! Voicelane beside DPDK's own programs: one source and sink under all, in turns.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_precision_loss,
    reason = "counts and times become figures for people"
)]

mod case;
mod chart;
mod command;
mod compare;
mod delays;
mod figures;
mod latency;
mod page;
mod percentiles;
mod rates;
mod run;
mod search;
mod table;
mod traffic;

use std::{env, fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::{command::Folders, run::Stop};

/// Measures Voicelane beside DPDK's own programs. `scripts/bench` builds, prepares and runs this.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the compiled peers are; captures, rules and logs are kept there, too.
    #[arg(long, value_name = "FOLDER")]
    work: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Packets a second and cycles a packet; the table goes to the output.
    Throughput(compare::Options),
    /// How long packets take from due to sent; the table goes to the output.
    Latency(latency::Options),
    /// The highest rates without loss; the table goes to the output.
    Rates(rates::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("voicelane-peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    fs::create_dir_all(&arguments.work).with_context(|| format!("{}", arguments.work.display()))?;
    let program = env::current_exe()?;
    let folders = Folders {
        bin: program.parent().context("no folder")?.to_owned(),
        work: fs::canonicalize(&arguments.work)?,
    };
    match &arguments.command {
        Command::Throughput(options) => compare::run(options, &folders, &stop),
        Command::Latency(options) => latency::run(options, &folders, &stop),
        Command::Rates(options) => rates::run(options, &folders, &stop),
    }
}
