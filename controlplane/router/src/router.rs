//! The whole router: started in order, watched, and taken down in the reverse order.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::FutureExt as _;
use ipnet::IpNet;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{info, warn};
use voicelane_dataplane::units::{InterfaceIndex, PortIndex};
use voicelane_dpdk::Mempool;

use crate::{
    agent::{Agent, Identity, Interfaces},
    api::{Api, Kept, Source},
    bypassed::{self, Found},
    config::Config,
    dataplane::{self, Client, Dataplane, OpenPort, StartError, WorkerEnd, cores, links},
    mirror::{self, Mirror, MirrorError, View, fib::TwinOf},
    policy::Policies,
    routes::{Added, Configured},
    sessions::{Sessions, WaysIn},
    state_dir::{StateDir, sweep},
    twin::{
        self, Frames, InUse, Ledger, Locks, QuietError, SysctlError, Twin, TwinCounters, TwinError,
        carrier, underlay,
    },
};

/// Why the router could not start, or not go on.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error(transparent)]
    InUse(#[from] InUse),
    /// An interface under a port.
    #[error(transparent)]
    Quiet(#[from] QuietError),
    /// An interface under a port that is too narrow.
    #[error(transparent)]
    Narrow(#[from] twin::Narrow),
    #[error(transparent)]
    Dataplane(#[from] StartError),
    #[error(transparent)]
    Twin(#[from] TwinError),
    #[error("the kernel cannot be told to forward IPv6: {0}")]
    Forwarding(#[from] SysctlError),
    /// The twins' thread, or signals.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        source: io::Error,
    },
    #[error("router.api: cannot listen on {address}: {source}")]
    Api {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Worker(#[from] WorkerEnd),
    /// Somebody deleted a twin.
    #[error("a twin was deleted")]
    TwinLost,
}

/// Starts the router and runs it until SIGINT or SIGTERM. `beside` are the cores of the control
/// side.
pub async fn run(config: Config, beside: &[usize]) -> Result<(), RunError> {
    let signals = Signals::listen()?;
    let locks = Arc::new(Mutex::new(Locks::take(&config)?));
    let api = bind(&config).await?;
    let handle = mirror::connect().map_err(MirrorError::from)?;
    let said = mirror::subscribe().map_err(MirrorError::from)?;
    twin::warn_of_overruling_parameters();
    for warning in config.warnings() {
        warn!("{warning}");
    }
    sweep(&config.router.state_dir);
    let state = StateDir::new(&config.router.state_dir, &config.router.id);
    let ledger = Ledger::open(state.clone(), &handle).await;
    let kernel = Kernel {
        handle: handle.clone(),
        said,
        ledger: Arc::new(Mutex::new(ledger)),
        locks: Arc::clone(&locks),
    };
    let ledger = Arc::clone(&kernel.ledger);
    let end = forward(&config, beside, kernel, &state, api, signals).await;
    if end.is_ok() {
        Added::forget(&state);
    }
    ledger.lock().await.undo(&handle).await;
    drop(locks);
    info!("router ended");
    end
}

/// The router's ways to the kernel.
struct Kernel {
    handle: rtnetlink::Handle,
    said: mirror::Said,
    ledger: Arc<Mutex<Ledger>>,
    locks: Arc<Mutex<Locks>>,
}

async fn forward(
    config: &Config,
    beside: &[usize],
    kernel: Kernel,
    state: &StateDir,
    api: Option<Api>,
    mut signals: Signals,
) -> Result<(), RunError> {
    let Kernel {
        handle,
        said,
        ledger,
        locks,
    } = kernel;
    let mut underlays = Vec::new();
    for (index, port) in (0..).map(PortIndex).zip(&config.ports) {
        if let Some(interface) = port.device.underlay() {
            twin::check_mtu(&handle, port, interface).await?;
            let mut ledger = ledger.lock().await;
            let under = twin::quiet(&mut ledger, &handle, &port.name, interface).await?;
            underlays.push((index, under));
        }
    }
    let Dataplane {
        pool,
        ports,
        client,
        clock,
        twins: frames,
        workers,
    } = dataplane::start(config)?;
    // EAL has put this thread on every core.
    if let Err(error) = cores::stay_on(beside) {
        warn!(%error, "this thread may run on the data plane's cores");
    }
    for (index, port) in (0..).map(PortIndex).zip(&config.ports) {
        if let Some(interface) = port.device.made_interface() {
            let mut ledger = ledger.lock().await;
            let under = twin::quiet(&mut ledger, &handle, &port.name, interface).await?;
            underlays.push((index, under));
        }
    }
    let underlays = underlay::Follower::new(config, &ports, &underlays, locks);

    if config.interfaces().any(|interface| interface.has_ipv6()) {
        twin::forward_ipv6(&mut *ledger.lock().await)?;
    }
    let (twins, twin_ports) = create_twins(&handle, config, &ports).await?;
    let (added, configured) = {
        let mut ledger = ledger.lock().await;
        add_routes(&handle, config, state, &mut ledger, &twins).await
    };
    let names = config
        .interfaces()
        .map(|settings| settings.name().to_owned());
    let named = twins.iter().map(|twin| twin.index).zip(names).collect();
    let frames = Frames::start(twins, frames, pool).map_err(|source| RunError::System {
        what: "starting the twins",
        source,
    })?;
    let followers = followers(config, &twin_ports);
    let mut mirror = Mirror::start(said, twin_ports, underlays.told(), client.clone()).await?;
    let lists = mirror::connect().map_err(MirrorError::from)?;
    let policies = Arc::new(Policies::new(config.clone(), client.clone(), clock));
    let parts = Parts {
        policies: Arc::clone(&policies),
        client,
        ports: &ports,
        pool,
        twins: frames.counters(),
        view: mirror.view(),
        links: links::follow(&ports),
        bypassed: bypassed::follow(lists, named),
    };
    let underlays = underlays.run(handle.clone(), parts.client.clone(), ledger, mirror.view());
    let routes_handle = handle.clone();
    let carriers = carrier::follow(
        handle,
        parts.client.clone(),
        followers,
        parts.links.clone(),
        mirror.view(),
    );
    added
        .keep_in_thread(mirror.by_hand())
        .map_err(|source| RunError::System {
            what: "keeping what is added on twins",
            source,
        })?;
    let mut tasks = start_tasks(config, api, parts);
    // They end only with the mirror, which is watched anyway.
    tasks.spawn(carriers.map(Ok));
    tasks.spawn(underlays.map(Ok));
    tasks.spawn(configured.keep(routes_handle, mirror.view()).map(Ok));
    info!(
        id = config.router.id,
        workers = ?config.router.cores.workers,
        schedulers = ?config.router.cores.schedulers,
        ports = ports.len(),
        "router ready"
    );

    let end = tokio::select! {
        signal = signals.end(&policies) => Ok(signal),
        end = workers.ended() => Err(RunError::Worker(end)),
        error = mirror.ended() => Err(RunError::Mirror(error)),
        () = frames.lost() => Err(RunError::TwinLost),
        source = failed(&mut tasks) => Err(RunError::System { what: "serving the API", source }),
    };
    if let Ok(signal) = end {
        info!(signal, "shutting down");
    }
    tasks.shutdown().await;
    drop(mirror);
    workers.stop();
    frames.stop().await;
    end.map(drop)
}

/// The signals that end the router, or have it read its configuration again.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| {
            signal(kind).map_err(|source| RunError::System {
                what: "listening to signals",
                source,
            })
        };
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self {
            interrupt,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the end; until then SIGHUP has the configuration read again.
    async fn end(&mut self, policies: &Arc<Policies>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => {
                    // It says itself what came of it.
                    let _ = policies.reload().await;
                }
            }
        }
    }
}

async fn bind(config: &Config) -> Result<Option<Api>, RunError> {
    match config.router.api {
        Some(address) => {
            let failed = |source| RunError::Api { address, source };
            Ok(Some(Api::bind(address).await.map_err(failed)?))
        }
        None => Ok(None),
    }
}

async fn create_twins(
    handle: &rtnetlink::Handle,
    config: &Config,
    ports: &[OpenPort],
) -> Result<(Vec<Twin>, mirror::fib::Twins), TwinError> {
    let mut twins = Vec::new();
    let mut by_interface = mirror::fib::Twins::new();
    for (interface, settings) in (0..).map(InterfaceIndex).zip(config.interfaces()) {
        let Some(mac) = ports.get(settings.index.index()).map(|open| open.mac) else {
            continue;
        };
        let twin = twin::create(handle, interface, settings, mac).await?;
        let largest_mtu = settings.port.mtu;
        let of = TwinOf {
            interface,
            mac,
            largest_mtu,
        };
        by_interface.insert(twin.index, of);
        twins.push(twin);
    }
    Ok((twins, by_interface))
}

/// Gives the twins what was added by hand before the router was killed, if it was, and the
/// configuration's routes.
async fn add_routes(
    handle: &rtnetlink::Handle,
    config: &Config,
    state: &StateDir,
    ledger: &mut Ledger,
    twins: &[Twin],
) -> (Added, Configured) {
    let twins = || config.interfaces().zip(twins);
    let named = twins().map(|(settings, twin)| (settings.name().to_owned(), twin.index));
    let mut configured = Configured::new(&config.routes, &named.collect());
    let with_addresses = twins().map(|(settings, twin)| {
        let addresses = settings.addresses().iter().map(IpNet::addr).collect();
        (twin.index, (settings.name().to_owned(), addresses))
    });
    let added = Added::new(state.clone(), with_addresses.collect());
    added.put_back(handle).await;
    for route in configured.blackholes() {
        ledger.note_blackhole(route.to, route.metric);
    }
    configured.add(handle).await;
    (added, configured)
}

/// Which twin's carrier follows which port's link.
fn followers(config: &Config, twins: &mirror::fib::Twins) -> Vec<carrier::Follower> {
    let ports: Vec<_> = config.interfaces().map(|settings| settings.index).collect();
    let follower = |(&twin, of): (&u32, &TwinOf)| {
        let interface = of.interface.index();
        let port = ports.get(interface)?.index();
        Some(carrier::Follower {
            twin,
            interface,
            port,
        })
    };
    twins.iter().filter_map(follower).collect()
}

/// What the server's client and the API work with.
struct Parts<'a> {
    policies: Arc<Policies>,
    client: Client,
    ports: &'a [OpenPort],
    pool: Mempool,
    twins: Arc<TwinCounters>,
    view: watch::Receiver<Arc<View>>,
    links: watch::Receiver<Vec<bool>>,
    bypassed: Found,
}

/// Starts the server's client and the API, as far as they are configured.
fn start_tasks(config: &Config, api: Option<Api>, parts: Parts<'_>) -> Tasks {
    let interfaces = Interfaces {
        ports: config.ports.as_slice().into(),
        view: parts.view,
        links: parts.links,
    };
    let identity = Identity {
        router_id: config.router.id.clone(),
        epoch: rand::random(),
        entry_capacity: u64::try_from(config.router.session_entries).unwrap_or(u64::MAX),
    };
    let sessions = Arc::new(Sessions::new(
        parts.client.clone(),
        WaysIn::new(config.interfaces()),
        config.router.quality,
    ));
    let mut tasks = Tasks::new();
    let mut server = None;
    if let Some(servers) = &config.router.server {
        let agent = Agent::new(
            servers.clone(),
            config.router.identity.clone(),
            identity.clone(),
            interfaces.clone(),
            Arc::clone(&sessions),
        );
        server = Some((servers.names(), agent.attached()));
        // It ends only with the worker, which is watched anyway.
        tasks.spawn(async move {
            agent.run().await;
            Ok(())
        });
    }
    if let Some(api) = api {
        let source = Source {
            identity,
            started: Instant::now(),
            server,
            interfaces,
            ports: parts.ports.to_vec(),
            pool: parts.pool,
            twins: parts.twins,
            sessions,
            bypassed: parts.bypassed,
            policies: parts.policies,
            kept: Kept::new(parts.client),
        };
        tasks.spawn(async move {
            api.serve(Arc::new(source))
                .await
                .map(|never| match never {})
        });
    }
    tasks
}

type Tasks = JoinSet<io::Result<()>>;

/// Waits until a task has failed.
async fn failed(tasks: &mut Tasks) -> io::Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return io::Error::other(error),
        }
    }
    std::future::pending().await
}
