//! The router's process.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use voicelane_router::{
    cli::{Cli, EXIT_RUNTIME, EXIT_USAGE},
    config::Config,
    dataplane::cores,
    router,
};
use voicelane_types::with_causes;

/// What is logged by default. What netlink loses is said by the mirror.
const LOG: &str = "info,netlink_proto=error";
/// Threads for everything that is not the data plane.
const CONTROL_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let file = cli.config;
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if cli.check_config {
        for warning in config.warnings() {
            eprintln!("{}: warning: {warning}", file.display());
        }
        println!("{}: the configuration is right", file.display());
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    match run(config, filter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("voicelane-router: {}", with_causes(error.as_ref()));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

fn run(config: Config, filter: EnvFilter) -> anyhow::Result<()> {
    // Every thread inherits this, and the workers then take their own cores.
    let dataplane: Vec<_> = config.router.cores.all().collect();
    let beside = cores::beside(&dataplane, &cores::available());
    cores::stay_on(&beside).context("keeping the control side off the data plane's cores")?;
    let _flush = voicelane_log::start(filter, false).context("starting the log's thread")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS.min(beside.len()))
        .thread_name("control")
        .enable_all()
        .build()
        .context("starting the control side's threads")?;
    runtime.block_on(router::run(config, &beside))?;
    Ok(())
}
