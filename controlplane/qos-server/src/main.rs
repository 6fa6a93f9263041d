//! The QoS server's program.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use voicelane_server::{
    config::{Config, Data},
    engine::Engine,
    journal::{StoreError, commands, disk::Disk},
    serve, web,
};
use voicelane_types::with_causes;

/// Gives back what sessions took when they are gone, which glibc's does only at the ends of its arenas,
/// and does so from a thread of its own: unmapping in the call that frees takes milliseconds, with the
/// engine's lock held.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Knows every call and every router, and tells the routers of each call to give it its lane.
///
/// Routers (voicelane-router) and call agents (voicelane, or anything that speaks gRPC) connect to
/// it; it connects to nobody. The interface is package voicelane.v1; server reflection and the
/// gRPC health service are there too.
///
/// Sessions are kept in a store on disk (--data): what was acknowledged is there again when the server
/// has started, whatever ended it. Routers go on serving the calls that they have meanwhile, and agents
/// need not do anything. When the store cannot be written, the server ends with exit code 3.
///
/// With --data none, and with a new store, the server knows no session when it has started. It leaves
/// those that a router has in place for a while after that has come back (--adopt-for): an agent that
/// adds its sessions again finds them unchanged; what nobody has added by then is removed, and before
/// then what has a five-tuple of a new session.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP_END)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

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

    /// The directory that keeps sessions over a restart; it is made if it is not there, and belongs to
    /// one server. "none": they are held in memory only, for tests and demos [default: systemd's
    /// STATE_DIRECTORY, or /var/lib/voicelane-server].
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<Data>,

    /// A TOML file; flags win over it. Keys: listen, metrics, data, web, webhook,
    /// webhook_severity, acknowledge_timeout_ms, adopt_for_s,
    /// forget_routers_after_s, admit_all, on_shrink, agent_ttl_s, agent_lost_s, silent_after_s, keep_within_s,
    /// hold_s, unused_after_s, keepalive_interval_ms, keepalive_timeout_ms, max_sessions,
    /// max_routers, max_watchers, watch_buffer, router_buffer, max_connections,
    /// max_connections_per_peer, handshake_timeout_ms, idle_timeout_s, read_timeout_s.
    #[arg(long, global = true, value_name = "FILE")]
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Read all of the store and say what is wrong with it; exit code 0 if nothing is, else 3. No server
    /// may run on it. What to do with a store that is damaged: export it, and import that into a new one.
    Check,
    /// Write the store's sessions and routers to standard output, as JSON lines. Of a store that is
    /// damaged it writes what can be read, sessions and routers each up to the first block that is
    /// broken, says what is wrong, and ends with exit code 3. No server may run on it: what that holds is told by `voicelane call list --json`.
    Export,
    /// Fill a store that has no sessions, or make one, with what export has written. Agents of the
    /// sessions find them there as if the server had only been started again. A file with a fault in it
    /// changes nothing.
    Import {
        /// The file; without one, standard input.
        file: Option<PathBuf>,
    },
}

const HELP_END: &str = "\
Examples:
  voicelane-server
  voicelane-server --data none
  voicelane-server --data /srv/voicelane --listen 192.0.2.10:7400 --log voicelane_server=debug
  voicelane-server --metrics 127.0.0.1:7401 --web 127.0.0.1:7480
  voicelane-server --config /etc/voicelane/server.toml --check-config
  voicelane-server check --data /srv/voicelane
  voicelane-server export --data /srv/voicelane > sessions.jsonl
  voicelane-server import --data /srv/voicelane.new sessions.jsonl

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 failed while running, 2 wrong usage or configuration,
3 the store cannot be used: damaged, in use, or the disk refuses.";

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
    if let Some(command) = &args.command {
        return match look(command, &config.data) {
            Ok(code) => code,
            Err(error) => failed(&error),
        };
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
        Err(error) => failed(&error),
    }
}

/// Says why it ends; tells by the code whether it is the store.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("voicelane-server: {}", with_causes(error.as_ref()));
    if error.is::<StoreError>() || error.is::<Arc<StoreError>>() {
        ExitCode::from(STORE)
    } else {
        ExitCode::FAILURE
    }
}

/// Looks at a store that no server uses.
fn look(command: &Command, data: &Data) -> anyhow::Result<ExitCode> {
    let Data::Dir(dir) = data else {
        eprintln!("voicelane-server: --data none is no store; give its directory");
        return Ok(ExitCode::from(2));
    };
    let problems = match command {
        Command::Check => {
            let it = commands::check(dir)?;
            println!(
                "{}: {} sessions, {} routers; commit {}, start {}",
                dir.display(),
                it.sessions,
                it.routers,
                it.commit,
                it.term
            );
            it.problems
        }
        Command::Export => export(dir)?,
        Command::Import { file } => {
            let imported = match file {
                Some(file) => {
                    let open = File::open(file).with_context(|| file.display().to_string())?;
                    commands::import(dir, &mut BufReader::new(open))?
                }
                None => commands::import(dir, &mut io::stdin().lock())?,
            };
            let (sessions, routers) = imported;
            println!(
                "{}: imported {sessions} sessions, {routers} routers",
                dir.display()
            );
            Vec::new()
        }
    };
    for problem in &problems {
        eprintln!("voicelane-server: {}: {problem}", dir.display());
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(STORE)
    })
}

fn export(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (records, problems) = match commands::export(dir, &mut out) {
        Ok(exported) => exported,
        Err(commands::ExportError::Store(error)) => return Err(error.into()),
        Err(commands::ExportError::Write(error)) => {
            return Err(error).context("standard output");
        }
    };
    out.flush().context("standard output")?;
    eprintln!(
        "voicelane-server: {}: exported {records} records",
        dir.display()
    );
    Ok(problems)
}

/// The exit code where the store is to blame.
const STORE: u8 = 3;

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
    if let Some(data) = &args.data {
        config.data = data.clone();
    }
    config.adopt_for_s = args.adopt_for.unwrap_or(config.adopt_for_s);
    config.forget_routers_after_s = args
        .forget_routers_after
        .unwrap_or(config.forget_routers_after_s);
    config.admit_all |= args.admit_all;
    // The store's engine tells of its files as others tell of calls; whoever names it gets that.
    let filter = EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{}", args.log))
        .with_context(|| format!("--log {:?}", args.log))?;
    Ok((config, filter))
}

#[tokio::main]
async fn run(config: &Config) -> anyhow::Result<()> {
    raise_descriptor_limit();
    refuse_huge_pages();
    // Before anybody can connect: nothing is answered, and no router told anything, by a server that
    // has not read what it is to know.
    let engine = start(config)?;
    // Until here they end the process at once, as nothing of it is lost then.
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
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::select! {
        served = serve::serve(engine.clone(), listener, config.transport(), stop) => served?,
        error = engine.journal().failed() => return Err(error.into()),
    }
    engine.journal().close().await?;
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

fn start(config: &Config) -> Result<Arc<Engine>, StoreError> {
    let Data::Dir(dir) = &config.data else {
        info!("sessions are held in memory only (--data none)");
        return Ok(Engine::start(config.settings()));
    };
    let began = Instant::now();
    let disk = Disk::serve(dir)?;
    let engine = Engine::restore(config.settings(), disk)?;
    let (sessions, routers) = engine.size();
    info!(
        dir = %dir.display(), sessions, routers,
        took = ?began.elapsed(), "store read"
    );
    Ok(engine)
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
