//! The call agent's program.

#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tikv_jemalloc_ctl::background_thread;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use voicelane_call_agent::{
    config::{Config, EXAMPLE, Optional, Prefix, Sender},
    start::Ready,
};
use voicelane_types::with_causes;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Learns each call from signalling that a SIP server has, and gives it its lane.
///
/// The SIP server mirrors its signalling by HEPv3 (Kamailio siptrace, OpenSIPS proto_hep, FreeSWITCH,
/// Asterisk res_hep, heplify), or asks as it would ask rtpengine (ng protocol; the agent answers
/// itself, or stands before a real rtpengine). For each call that both sides agreed on the agent adds
/// a session at the QoS server (voicelane-server), changes it with every re-INVITE, and deletes it
/// with the BYE.
///
/// Only configured senders are believed; without a configuration, the host itself. When the agent
/// ends, sessions stay, and the next process goes on with them.
#[derive(Debug, Parser)]
#[command(name = "voicelane-agent", version, after_help = help_end())]
struct Args {
    /// A TOML file; the flags below win over it. Its keys are at the end of --help.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the configuration and exit: 0 if it is right, 2 if not.
    #[arg(long)]
    check_config: bool,

    /// The QoS server [default: http://127.0.0.1:7400].
    #[arg(long, env = "VOICELANE_SERVER", value_name = "URL")]
    server: Option<String>,

    /// The agent's certificate, for an https:// server (PEM).
    #[arg(long, env = "VOICELANE_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, env = "VOICELANE_KEY", value_name = "FILE")]
    key: Option<PathBuf>,

    /// The authority that the server's certificate must be from (PEM).
    #[arg(long, env = "VOICELANE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The agent's name at the server [default: sip].
    #[arg(long, value_name = "NAME")]
    agent_id: Option<String>,

    /// Receive HEP here, over UDP and TCP.
    #[arg(long, value_name = "ADDRESS:PORT")]
    hep: Vec<SocketAddr>,

    /// Receive rtpengine's ng protocol here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    ng: Vec<SocketAddr>,

    /// Pass ng commands on to this rtpengine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    rtpengine: Option<SocketAddr>,

    /// Who may send HEP and ng, in place of the configured senders [default: the host itself].
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    from: Vec<Prefix>,

    /// Serve gRPC health and `voicelane agent` here [default: 127.0.0.1:7420].
    #[arg(long, value_name = "ADDRESS:PORT")]
    operator: Option<SocketAddr>,

    /// Serve GET /metrics for Prometheus here [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,

    /// What to log, as tracing filter directives: "info", "voicelane_call_agent=debug".
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

fn help_end() -> String {
    format!(
        "Examples:
  voicelane-agent --hep 127.0.0.1:9060
  voicelane-agent --server http://192.0.2.10:7400 --hep 0.0.0.0:9060 --from 192.0.2.20
  voicelane-agent --ng 0.0.0.0:2223 --from 192.0.2.20 --rtpengine 127.0.0.1:22222
  voicelane-agent --config /etc/voicelane/agent.toml --check-config

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 failed while running, 2 wrong usage or configuration.

A configuration with every key:

{EXAMPLE}"
    )
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (config, filter) = match configure(&args) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("voicelane-agent: {}", with_causes(error.as_ref()));
            return ExitCode::from(2);
        }
    };
    if args.check_config {
        println!("the configuration is right");
        return ExitCode::SUCCESS;
    }
    let flush = match voicelane_log::start(filter, true) {
        Ok(flush) => flush,
        Err(error) => {
            eprintln!("voicelane-agent: cannot log: {error}");
            return ExitCode::FAILURE;
        }
    };
    // No call of ours waits then for the kernel to unmap pages.
    if let Err(error) = background_thread::write(true) {
        warn!(%error, "cannot give memory back in the background: signalling may wait for that");
    }
    let ended = run(config);
    drop(flush);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("voicelane-agent: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn configure(args: &Args) -> anyhow::Result<(Config, EnvFilter)> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    let given = |flag: Option<SocketAddr>, key: Optional| flag.map_or(key, |of| Optional(Some(of)));
    config.server = args.server.clone().unwrap_or(config.server);
    config.cert = args.cert.clone().or(config.cert);
    config.key = args.key.clone().or(config.key);
    config.ca = args.ca.clone().or(config.ca);
    config.agent_id = args.agent_id.clone().unwrap_or(config.agent_id);
    if !args.hep.is_empty() {
        config.hep.udp.clone_from(&args.hep);
        config.hep.tcp.clone_from(&args.hep);
    }
    if !args.ng.is_empty() {
        config.ng.udp.clone_from(&args.ng);
    }
    config.ng.rtpengine = given(args.rtpengine, config.ng.rtpengine);
    if !args.from.is_empty() {
        let addresses = args.from.clone();
        config.senders = vec![Sender::any_key("from", addresses)];
    }
    config.operator = given(args.operator, config.operator);
    config.metrics = given(args.metrics, config.metrics);
    let checked = config.check();
    match &args.config {
        Some(file) => checked.with_context(|| file.display().to_string())?,
        None => checked?,
    }
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    Ok((config, filter))
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        agent_id = config.agent_id,
        "starting"
    );
    let running = Ready::bind(config).await?.start();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("ending");
    running.stop().await;
    Ok(())
}
