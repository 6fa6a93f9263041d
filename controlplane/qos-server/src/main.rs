//! The QoS server's program.

#![forbid(unsafe_code)]

mod args;

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser as _;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use voicelane_server::{
    config::{Config, Data},
    engine::{Engine, Settings},
    identity::{Audit, Guard, Keeper, Quotas},
    journal::{StoreError, commands, disk::Disk},
    serve,
    web::{self, Readers},
};
use voicelane_types::with_causes;

use self::args::{Args, Command};

/// Gives back what sessions took when they are gone, which glibc's does only at the ends of its arenas,
/// and does so from a thread of its own: unmapping in the call that frees takes milliseconds, with the
/// engine's lock held.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let (config, filter) = match configure(&args) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("voicelane-server: {}", with_causes(error.as_ref()));
            return ExitCode::from(2);
        }
    };
    if let (Some(command), false) = (&args.command, args.check_config) {
        return match look(command, &config.data) {
            Ok(code) => code,
            Err(error) => failed(&error),
        };
    }
    let keeper = match keeper(&config) {
        Ok(keeper) => keeper,
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
    let ended = run(&config, keeper);
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
    let given = |flag: &Option<PathBuf>, key: Option<PathBuf>| flag.clone().or(key);
    config.cert = given(&args.cert, config.cert);
    config.key = given(&args.key, config.key);
    config.ca = given(&args.ca, config.ca);
    config.crl = given(&args.crl, config.crl);
    config.socket = given(&args.socket, config.socket);
    config.audit = given(&args.audit, config.audit);
    config.allow_plain_text |= args.allow_plain_text;
    config.changes_per_s = args.changes_per_s.unwrap_or(config.changes_per_s);
    config.adopt_for_s = args.adopt_for.unwrap_or(config.adopt_for_s);
    config.forget_routers_after_s = args
        .forget_routers_after
        .unwrap_or(config.forget_routers_after_s);
    config.admit_all |= args.admit_all;
    config.files()?;
    // The store's engine tells of its files as others tell of calls; whoever names it gets that.
    let filter = EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{}", args.log))
        .with_context(|| format!("--log {:?}", args.log))?;
    Ok((config, filter))
}

/// Whom the server trusts; absent: everybody, in plain text.
fn keeper(config: &Config) -> anyhow::Result<Option<Keeper>> {
    let files = config.files()?;
    Ok(files
        .map(|files| Keeper::new(files, config.crl.clone()))
        .transpose()?)
}

#[tokio::main]
async fn run(config: &Config, keeper: Option<Keeper>) -> anyhow::Result<()> {
    raise_descriptor_limit();
    refuse_huge_pages();
    // Without certificates there is nothing to read again, and no reason to end.
    let _hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    // Before anybody can connect: nothing is answered, and no router told anything, by a server that
    // has not read what it is to know.
    let engine = start(config, config.settings()?)?;
    // Until here they end the process at once, as nothing of it is lost then.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let (audit, _flush) = match &config.audit {
        Some(file) => {
            let opened = Audit::to(file).with_context(|| format!("--audit {}", file.display()))?;
            (opened.0, Some(opened.1))
        }
        None => (Audit::default(), None),
    };
    let listener = serve::bind(config.listen).await?;
    let address = listener.local_addr().context("the listening address")?;
    info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut transport = config.transport();
    transport.guard = Guard {
        quotas: Arc::new(Quotas::new(config.quota())),
        audit,
    };
    transport.socket = config
        .socket
        .as_deref()
        .map(serve::bind_socket)
        .transpose()?;
    if let Some(keeper) = keeper {
        transport.trust = Some(keeper.trust());
        tokio::spawn(keeper.run());
    } else if !address.ip().to_canonical().is_loopback() {
        warn!(
            %address,
            "plain text: anybody who reaches this address may do anything (--allow-plain-text)"
        );
    }
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
            let listener = serve::bind_web(address)?;
            let address = listener.local_addr().context("the page's address")?;
            let is_local = address.ip().to_canonical().is_loopback();
            let readers = Readers {
                trust: transport
                    .trust
                    .clone()
                    .filter(|_| !is_local && !config.allow_plain_text),
                read_timeout: transport.limits.read_timeout,
            };
            let scheme = if readers.trust.is_some() {
                "https"
            } else {
                "http"
            };
            info!("the page is at {scheme}://{address}/");
            if readers.trust.is_none() && !is_local {
                warn!(
                    %address,
                    "plain text: anybody who reaches this address may read the page (--allow-plain-text)"
                );
            }
            Some((listener, readers))
        }
        None => None,
    };
    if let Some((listener, readers)) = page {
        let engine = engine.clone();
        tokio::spawn(async move {
            if let Err(error) = web::serve(engine, listener, readers).await {
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
    let served = tokio::select! {
        served = serve::serve(engine.clone(), listener, transport, stop) => served,
        error = engine.journal().failed() => return Err(error.into()),
    };
    if let Some(socket) = &config.socket {
        // Fails when it is gone already.
        drop(fs::remove_file(socket));
    }
    served?;
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

fn start(config: &Config, settings: Settings) -> Result<Arc<Engine>, StoreError> {
    let Data::Dir(dir) = &config.data else {
        info!("sessions are held in memory only (--data none)");
        return Ok(Engine::start(settings));
    };
    let began = Instant::now();
    let disk = Disk::serve(dir)?;
    let engine = Engine::restore(settings, disk)?;
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
