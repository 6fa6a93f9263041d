//! The whole router: started in order, watched, and taken down in the reverse order.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tracing::{info, warn};
use voicelane_dataplane::units::InterfaceIndex;
use voicelane_dpdk::Mempool;

use crate::{
    agent::{Agent, Identity, Interfaces},
    api::{Api, Kept, Source},
    config::Config,
    dataplane::{self, Client, Dataplane, OpenPort, StartError, WorkerEnd, cores, links},
    mirror::{self, Mirror, MirrorError, View, fib::TwinOf},
    policy::Policies,
    sessions::{Sessions, WaysIn},
    twin::{
        self, Forwarding6, Frames, QuietError, Quieted, SysctlError, Twin, TwinCounters, TwinError,
        carrier,
    },
};

/// Why the router could not start, or not go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// An interface under a port.
    #[error(transparent)]
    Quiet(#[from] QuietError),
    /// An interface under a port that is too narrow.
    #[error(transparent)]
    Narrow(#[from] twin::Narrow),
    /// DPDK.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// A twin.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// Forwarding of IPv6.
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
    /// The API's address.
    #[error("router.api: cannot listen on {address}: {source}")]
    Api {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A worker's thread.
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
    let api = bind(&config).await?;
    let (handle, said) = mirror::open().map_err(MirrorError::from)?;
    twin::warn_of_overruling_parameters();
    let mut quieted = Quieted::default();
    let kernel = Kernel {
        handle: handle.clone(),
        said,
        quieted: &mut quieted,
    };
    let end = forward(&config, beside, kernel, api, signals).await;
    quieted.restore(&handle).await;
    info!("router ended");
    end
}

/// The router's ways to the kernel.
struct Kernel<'a> {
    handle: rtnetlink::Handle,
    said: mirror::Said,
    quieted: &'a mut Quieted,
}

async fn forward(
    config: &Config,
    beside: &[usize],
    kernel: Kernel<'_>,
    api: Option<Api>,
    mut signals: Signals,
) -> Result<(), RunError> {
    let Kernel {
        handle,
        said,
        quieted,
    } = kernel;
    for port in &config.ports {
        if let Some(interface) = port.device.underlay() {
            twin::check_mtu(&handle, port, interface).await?;
            quieted.add(&handle, &port.name, interface).await?;
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
    for port in &config.ports {
        if let Some(interface) = port.device.made_interface() {
            quieted.add(&handle, &port.name, interface).await?;
        }
    }

    let _forwarding = if config.interfaces().any(|interface| interface.has_ipv6()) {
        Forwarding6::enable()?
    } else {
        Forwarding6::default()
    };
    let (twins, twin_ports) = create_twins(&handle, config, &ports).await?;
    let frames = Frames::start(twins, frames, pool).map_err(|source| RunError::System {
        what: "starting the twins",
        source,
    })?;
    let underlays = config.interfaces().map(|interface| {
        let device = &interface.port.device;
        let under = device.underlay().or(device.made_interface());
        under.map(str::to_owned)
    });
    let underlays = underlays.collect();
    let followers = followers(config, &twin_ports);
    let mut mirror =
        Mirror::start(handle.clone(), said, twin_ports, underlays, client.clone()).await?;
    let policies = Arc::new(Policies::new(config.clone(), client.clone(), clock));
    let parts = Parts {
        policies: Arc::clone(&policies),
        client,
        ports: &ports,
        pool,
        twins: frames.counters(),
        view: mirror.view(),
        links: links::follow(&ports),
    };
    let carriers = carrier::follow(
        handle,
        parts.client.clone(),
        followers,
        parts.links.clone(),
        mirror.view(),
    );
    let mut tasks = start_tasks(config, api, parts);
    // It ends only with the mirror, which is watched anyway.
    tasks.spawn(carriers.map(Ok));
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
}

/// Starts the server's client and the API, as far as they are configured.
fn start_tasks(config: &Config, api: Option<Api>, parts: Parts<'_>) -> Tasks {
    let Parts {
        policies,
        client,
        ports,
        pool,
        twins,
        view,
        links,
    } = parts;
    let interfaces = Interfaces {
        ports: config.ports.as_slice().into(),
        view,
        links,
    };
    let identity = Identity {
        router_id: config.router.id.clone(),
        epoch: rand::random(),
        entry_capacity: u64::try_from(config.router.session_entries).unwrap_or(u64::MAX),
    };
    let sessions = Arc::new(Sessions::new(
        client.clone(),
        WaysIn::new(config.interfaces()),
    ));
    let mut tasks = Tasks::new();
    let mut server = None;
    if let Some(uri) = &config.router.server {
        let (identity, interfaces) = (identity.clone(), interfaces.clone());
        let agent = Agent::new(uri.clone(), identity, interfaces, Arc::clone(&sessions));
        server = Some((
            uri.to_string().trim_end_matches('/').to_owned(),
            agent.attached(),
        ));
        // It ends only with the worker, which is watched anyway.
        tasks.spawn(async move {
            agent.run().await;
            Ok(())
        });
    }
    if let Some(api) = api {
        let kept = Kept::new(client);
        let (started, ports) = (Instant::now(), ports.to_vec());
        let source = Source {
            identity,
            started,
            server,
            interfaces,
            ports,
            pool,
            twins,
            sessions,
            policies,
            kept,
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
