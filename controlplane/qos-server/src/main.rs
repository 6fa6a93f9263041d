//! The QoS server's program.

#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use voicelane_server::{config::Config, engine::Engine, serve, web};
use voicelane_types::with_causes;

/// Gives back what sessions took when they are gone, which glibc's does only at the ends of its
/// arenas, and takes half the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Knows every call and every router, and tells the routers of each call to give it its lane.
///
/// Routers (voicelane-router) and call agents (voicelane, or anything that speaks gRPC) connect to
/// it; it connects to nobody. The interface is package voicelane.v1; server reflection and the
/// gRPC health service are there too.
///
/// Sessions are held in memory. When the server stops, routers go on serving the calls that they
/// have. When it has started, it leaves those calls in place on each router for a while after that
/// has come back (--adopt-for): an agent that adds its sessions again finds them unchanged; what
/// nobody has added by then is removed, and before then what has a five-tuple of a new session.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP_END)]
struct Args {
    /// Where to listen [default: 127.0.0.1:7400]. There is no TLS yet: other addresses than
    /// loopback belong on a management network only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Where to serve the server's own figures, as GET /metrics for Prometheus [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,

    /// Where to serve a page for operators: calls, why they are bad, links, routers, events [default:
    /// nowhere]. It has no password: other addresses than loopback belong on a management network only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    web: Option<SocketAddr>,

    /// Where to post events of calls and routers (`voicelane events`) as JSON: an http URL [default:
    /// nowhere]. What cannot be delivered is tried again; `webhook_severity` in the file, "info",
    /// "warning" (default) or "error", says which.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,

    /// A TOML file; flags win over it. Keys: listen, metrics, web, webhook,
    /// webhook_severity, acknowledge_timeout_ms, adopt_for_s,
    /// forget_routers_after_s, admit_all, on_shrink, keepalive_interval_ms, keepalive_timeout_ms, max_sessions,
    /// max_routers, max_watchers, watch_buffer, router_buffer, max_connections,
    /// max_connections_per_peer, handshake_timeout_ms, idle_timeout_s, read_timeout_s.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the configuration and exit: 0 if it is right, 2 if not.
    #[arg(long)]
    check_config: bool,

    /// How long after a router's first attach calls are left in place that it has and no agent has
    /// added [default: 60]. For as long after the start an address that no router has reported is
    /// UNAVAILABLE, then NOT_FOUND.
    #[arg(long, value_name = "SECONDS")]
    adopt_for: Option<u64>,

    /// How long a router may be away until it is forgotten, with what it reached; 0: for ever
    /// [default: 86400]. `voicelane router forget` does it at once.
    #[arg(long, value_name = "SECONDS")]
    forget_routers_after: Option<u64>,

    /// Admit calls for which a link has no room, too. Otherwise the calls on a port, in each direction,
    /// may take as much as its routers' ef_budget; a tenth of that is for priority 1 and 2.
    #[arg(long)]
    admit_all: bool,

    /// What to log, as tracing filter directives: "info", "voicelane_server=debug".
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

const HELP_END: &str = "\
Examples:
  voicelane-server
  voicelane-server --listen 192.0.2.10:7400 --log voicelane_server=debug
  voicelane-server --metrics 127.0.0.1:7401 --web 127.0.0.1:7480
  voicelane-server --config /etc/voicelane/server.toml --check-config

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 failed while running, 2 wrong usage or configuration.";

fn main() -> ExitCode {
    let args = Args::parse();
    let (config, filter) = match configure(&args) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("voicelane-server: {}", with_causes(error.as_ref()));
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
            eprintln!("voicelane-server: cannot log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = run(&config);
    drop(flush);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("voicelane-server: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn configure(args: &Args) -> anyhow::Result<(Config, EnvFilter)> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.metrics = args.metrics.or(config.metrics);
    config.web = args.web.or(config.web);
    config.webhook = args.webhook.clone().or(config.webhook);
    config.webhook()?;
    config.adopt_for_s = args.adopt_for.unwrap_or(config.adopt_for_s);
    config.forget_routers_after_s = args
        .forget_routers_after
        .unwrap_or(config.forget_routers_after_s);
    config.admit_all |= args.admit_all;
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    Ok((config, filter))
}

#[tokio::main]
async fn run(config: &Config) -> anyhow::Result<()> {
    raise_descriptor_limit();
    refuse_huge_pages();
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let listener = serve::bind(config.listen).await?;
    let address = listener.local_addr().context("the listening address")?;
    info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let metrics = match config.metrics {
        Some(address) => {
            let listener = serve::bind_metrics(address).await?;
            let address = listener.local_addr().context("the metrics' address")?;
            info!(%address, "serving GET /metrics");
            Some(listener)
        }
        None => None,
    };
    let page = match config.web {
        Some(address) => {
            let listener = serve::bind_web(address).await?;
            let address = listener.local_addr().context("the page's address")?;
            info!("the page is at http://{address}/");
            Some(listener)
        }
        None => None,
    };
    let engine = Engine::start(config.settings());
    if let Some(listener) = page {
        let engine = engine.clone();
        tokio::spawn(async move {
            if let Err(error) = web::serve(engine, listener).await {
                warn!(%error, "the page is served no more");
            }
        });
    }
    if let Some(webhook) = config.webhook()? {
        tokio::spawn(webhook.run(engine.clone()));
    }
    if let Some(listener) = metrics {
        let engine = engine.clone();
        tokio::spawn(async move {
            if let Err(error) = serve::serve_metrics(engine, listener).await {
                warn!(%error, "metrics are served no more");
            }
        });
    }
    serve::serve(engine, listener, config.transport(), async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
    .await?;
    Ok(())
}

/// The kernel clears a huge page when it is first touched: 2 MiB, which takes some 15 ms on a virtual
/// machine, while the thread may have the engine's lock. So all pages are small, to which the
/// allocator's `madvise` changes nothing then.
fn refuse_huge_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        warn!(%error, "cannot turn off transparent huge pages: calls may wait for them");
    }
}

/// Each connection takes a descriptor; many systems permit few until a process asks for more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files cannot be raised");
    }
}
