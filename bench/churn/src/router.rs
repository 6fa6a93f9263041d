//! A router without the kernel: the worker on its core, and the client of the QoS server beside it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, NextHop, Request},
    device::{Allocator, Device},
    settings::{Idle, PortSettings, Settings, Trust},
    stats::Report,
    units::{BitRate, InterfaceIndex, MacAddress},
    workers::Workers,
};
use voicelane_dpdk::Mbuf;
use voicelane_identity::Servers;
use voicelane_router::{
    agent::{Agent, Identity, Interfaces},
    config::Config,
    dataplane::{Client, WorkerThreads},
    mirror::{InterfaceView, View},
    sessions::{Sampling, Sessions, WaysIn},
};

use crate::calls::Call;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
/// The two neighbours that routes may lead to.
pub(crate) const NEXT_HOPS: [NextHop; 2] = [NextHop(1), NextHop(2)];

/// What the QoS server is told of the two ports.
const PORTS: &str = r#"
[router]
id = "churn"
cores = [1]
[[port]]
name = "a"
device = "net_null0"
role = "edge"
rate = "100Gbit/s"
[[port]]
name = "b"
device = "net_null1"
role = "edge"
rate = "100Gbit/s"
"#;

/// A router that runs.
pub(crate) struct Router {
    pub(crate) client: Client,
    worker: WorkerThreads,
    settings: Settings,
}

impl Router {
    /// Starts the worker; it forwards at once.
    pub(crate) async fn start(
        device: impl Device<Buffer = Mbuf> + Send + 'static,
        core: usize,
        routes: (u32, u32),
        sessions: usize,
        idle: Idle,
        memory: &'static dyn Allocator,
    ) -> anyhow::Result<Self> {
        let port = PortSettings::new(MAC, Trust::Bleach, BitRate::from_bps(100_000_000_000)?);
        let settings = Settings {
            session_entries: sessions,
            memory,
            queue_capacity: voicelane_router::dataplane::memory::QUEUE_CAPACITY,
            idle,
            ..Settings::new(vec![port.clone(), port])
        };
        let fibs = Fibs::create(routes.0, routes.1, memory)?;
        let mut workers = Workers::new(&settings, vec![(device, fibs)], Vec::new());
        let client = Client::start(workers.control)?;
        let worker = workers.cores.pop().context("one worker")?;
        let router = Self {
            worker: WorkerThreads::spawn([(worker, core)])?,
            client,
            settings,
        };
        for (number, next_hop) in (1..).zip(NEXT_HOPS) {
            let adjacency = Adjacency::Forward {
                interface: InterfaceIndex(1),
                destination: MacAddress([Call::NEXT_HOP, 0, 0, 0, 0, number]),
                source: MAC,
            };
            router
                .set(Request::SetAdjacency {
                    next_hop,
                    adjacency,
                })
                .await?;
        }
        let prefix = IpAddr::from([10, 2, 0, 0]);
        router
            .set(Request::SetRoute {
                prefix,
                length: 16,
                next_hop: NEXT_HOPS[0],
            })
            .await?;
        Ok(router)
    }

    async fn set(&self, request: Request) -> anyhow::Result<()> {
        match self.client.ask(request).await? {
            Answer::Route(Ok(())) => Ok(()),
            other => bail!("the worker says {other:?}"),
        }
    }

    /// Asks the worker for its counters.
    pub(crate) async fn report(&self) -> anyhow::Result<Box<Report>> {
        let ports = self.settings.ports.len();
        let report = Report::new(ports, ports);
        match self.client.ask(Request::Report(report)).await? {
            Answer::Report(report) => Ok(report),
            other => bail!("the worker says {other:?}"),
        }
    }

    /// Attaches to a QoS server; returns when the server has said that it is synchronised.
    pub(crate) async fn attach(&self, server: SocketAddr) -> anyhow::Result<()> {
        let config = Config::parse(Path::new("churn"), PORTS, &[1])?;
        let view = |prefix: &str| -> anyhow::Result<InterfaceView> {
            Ok(InterfaceView {
                up: true,
                carrier: true,
                prefixes: vec![prefix.parse()?],
                ..InterfaceView::default()
            })
        };
        let view = View {
            interfaces: vec![view("10.1.0.0/16")?, view("10.2.0.0/16")?],
            ..View::default()
        };
        let (view_sender, view) = watch::channel(Arc::new(view));
        let (link_sender, links) = watch::channel(vec![true; 2]);
        let interfaces = Interfaces {
            ports: config.ports.as_slice().into(),
            view,
            links,
        };
        let identity = Identity {
            router_id: config.router.id.clone(),
            epoch: 1,
            entry_capacity: u64::try_from(self.settings.session_entries).unwrap_or(u64::MAX),
        };
        let ways_in = WaysIn::new(config.interfaces());
        let sessions = Arc::new(Sessions::new(self.client.clone(), ways_in, Sampling::Off));
        let agent = Agent::new(
            Servers::of(vec![format!("http://{server}").parse()?]),
            None,
            identity,
            interfaces,
            sessions,
        );
        let mut attached = agent.attached();
        tokio::spawn(async move {
            agent.run().await;
            drop((view_sender, link_sender));
        });
        attached.wait_for(|&attached| attached).await?;
        Ok(())
    }

    /// Stops the worker's thread and waits for it.
    pub(crate) fn stop(self) {
        self.worker.stop();
    }
}
