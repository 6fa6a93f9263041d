//! The whole router: started in order, watched, and taken down in the reverse order.

use std::io;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use voicelane_dataplane::units::PortIndex;

use crate::{
    config::Config,
    dataplane::{self, Dataplane, StartError, WorkerEnd, cores},
    mirror::{self, Mirror, MirrorError, fib::TwinPort},
    twin::{self, Frames, QuietError, Quieted, TwinError},
};

/// Why the router could not start, or not go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// An interface under a port.
    #[error(transparent)]
    Quiet(#[from] QuietError),
    /// DPDK.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// A twin.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// The twins' thread, or signals.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        source: io::Error,
    },
    /// The kernel mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The worker's thread.
    #[error(transparent)]
    Worker(#[from] WorkerEnd),
    /// Somebody deleted a twin.
    #[error("a port's twin was deleted")]
    TwinLost,
}

/// Starts the router and runs it until SIGINT or SIGTERM. `beside` are the cores of the control
/// side.
pub async fn run(config: Config, beside: &[usize]) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listening to SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listening to SIGTERM"))?;

    let (handle, messages) = mirror::open().map_err(MirrorError::from)?;
    let mut quieted = Quieted::default();
    twin::warn_of_overruling_parameters();
    for port in &config.ports {
        if let Some(interface) = port.device.underlay() {
            quieted.add(&handle, &port.name, interface).await?;
        }
    }
    let Dataplane {
        pool,
        ports,
        client,
        twins: frames,
        worker,
    } = dataplane::start(&config)?;
    // EAL has put this thread on every core.
    if let Err(error) = cores::stay_on(beside) {
        warn!(%error, "this thread may run on the worker's core");
    }
    for port in &config.ports {
        if let Some(interface) = port.device.made_interface() {
            quieted.add(&handle, &port.name, interface).await?;
        }
    }

    let mut twins = Vec::new();
    let mut twin_ports = mirror::fib::Twins::new();
    for ((index, port), open) in (0..).map(PortIndex).zip(&config.ports).zip(&ports) {
        let twin = twin::create(&handle, index, port, open.mac).await?;
        twin_ports.insert(
            twin.index,
            TwinPort {
                port: index,
                mac: open.mac,
            },
        );
        twins.push(twin);
    }
    let frames = Frames::start(twins, frames, pool).map_err(system("starting the twins"))?;
    let underlays = config.ports.iter().map(|port| {
        port.device
            .underlay()
            .or(port.device.made_interface())
            .map(str::to_owned)
    });
    let underlays = underlays.collect();
    let mut mirror = Mirror::start(handle, messages, twin_ports, underlays, client).await?;
    info!(
        id = config.router.id,
        core = config.router.core,
        ports = ports.len(),
        "router ready"
    );

    let end = tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
        end = worker.ended() => Err(RunError::Worker(end)),
        error = mirror.ended() => Err(RunError::Mirror(error)),
        () = frames.lost() => Err(RunError::TwinLost),
    };
    if let Ok(signal) = end {
        info!(signal, "shutting down");
    }
    drop(mirror);
    worker.stop();
    frames.stop().await;
    drop(ports);
    drop(quieted);
    info!("router ended");
    end.map(drop)
}
