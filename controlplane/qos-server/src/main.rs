//! The QoS server's program.

#![forbid(unsafe_code)]

mod args;
mod process;

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser as _;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tikv_jemalloc_ctl::background_thread;
use tracing::warn;
use tracing_subscriber::EnvFilter;
use voicelane_server::{
    config::{Config, Data},
    journal::{StoreError, commands},
};
use voicelane_types::with_causes;

use self::args::{Args, Command};

/// Gives back what sessions took when they are gone, which glibc's does only at the ends of its arenas.
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
        return match look(command, &config) {
            Ok(code) => code,
            Err(error) => failed(&error),
        };
    }
    let keeper = match process::keeper(&config) {
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
    raise_descriptor_limit();
    refuse_huge_pages();
    free_in_background();
    let reread = Box::new(move || configure(&args).map(|(config, _)| config));
    let ended = process::run(&config, keeper, reread);
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
fn look(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    if !config.etcd.is_empty() {
        eprintln!(
            "voicelane-server: check, export and import are for a store in a directory (--data); of etcd, \
             etcdctl makes snapshots, and a server that starts checks all that it holds"
        );
        return Ok(ExitCode::from(2));
    }
    let Data::Dir(dir) = &config.data else {
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
        config.etcd.clear();
    }
    if !args.etcd.is_empty() {
        config.etcd.clone_from(&args.etcd);
        config.data = Data::default();
    }
    config.advertise = args.advertise.clone().or(config.advertise);
    let given = |flag: &Option<PathBuf>, key: Option<PathBuf>| flag.clone().or(key);
    config.cert = given(&args.cert, config.cert);
    config.key = given(&args.key, config.key);
    config.ca = given(&args.ca, config.ca);
    config.crl = given(&args.crl, config.crl);
    config.socket = given(&args.socket, config.socket);
    config.audit = given(&args.audit, config.audit);
    config.records = given(&args.records, config.records);
    config.homer = args.homer.or(config.homer);
    config.allow_plain_text |= args.allow_plain_text;
    config.changes_per_s = args.changes_per_s.unwrap_or(config.changes_per_s);
    config.adopt_for_s = args.adopt_for.unwrap_or(config.adopt_for_s);
    config.forget_routers_after_s = args
        .forget_routers_after
        .unwrap_or(config.forget_routers_after_s);
    config.admit_all |= args.admit_all;
    config.check_etcd()?;
    config.files()?;
    // The store's engine tells of its files as others tell of calls; whoever names it gets that.
    let filter = EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{}", args.log))
        .with_context(|| format!("--log {:?}", args.log))?;
    Ok((config, filter))
}

/// The kernel clears a huge page when it is first touched: 2 MiB, which takes some 15 ms on a virtual
/// machine, while the thread may have the engine's lock. So all pages are small, to which the
/// allocator's `madvise` changes nothing then.
fn refuse_huge_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        warn!(%error, "cannot turn off transparent huge pages: calls may wait for them");
    }
}

/// The allocator gives memory back from a thread of its own: unmapping in the call that frees takes
/// milliseconds, with the engine's lock held.
fn free_in_background() {
    if let Err(error) = background_thread::write(true) {
        warn!(%error, "cannot give memory back in the background: calls may wait for that");
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
