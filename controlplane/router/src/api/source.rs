//! Where the figures come from, and how often the worker may be asked for them.

use std::{
    cmp::Ordering,
    sync::{Arc, atomic},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Semaphore, watch},
    time::{Instant, sleep},
};
use voicelane_dataplane::stats::Report;
use voicelane_dpdk::Mempool;

use crate::{
    agent::{Identity, Interfaces},
    bypassed::Found,
    config::interfaces,
    dataplane::{Client, OpenPort, WorkerGone},
    policy::{Installed, Policies},
    sessions::Sessions,
    twin::TwinCounters,
};

/// Whoever asks again within this time gets the same figures: scrapers cannot load the worker.
const KEPT: Duration = Duration::from_millis(100);

/// All that the API looks at.
#[derive(Debug)]
pub struct Source {
    /// Id and instance of this router.
    pub identity: Identity,
    /// When the process started, from which its uptime is taken.
    pub started: Instant,
    /// The QoS server, if there is one, and whether the router is attached to it.
    pub server: Option<(String, watch::Receiver<bool>)>,
    /// The ports and their VLANs as configured, and as they are.
    pub interfaces: Interfaces,
    /// Asked for link and losses.
    pub ports: Vec<OpenPort>,
    /// Asked for free buffers.
    pub pool: Mempool,
    /// Frames lost between workers and kernel.
    pub twins: Arc<TwinCounters>,
    /// Asked for counters of flows.
    pub sessions: Arc<Sessions>,
    /// What of the kernel the fast path does not do.
    pub bypassed: Found,
    /// What the worker applies beside them.
    pub policies: Arc<Policies>,
    /// The worker's report, and the metrics made of one.
    pub kept: Kept,
}

/// Figures that are given out again for a while.
#[derive(Debug)]
pub struct Kept {
    client: Client,
    report: Mutex<Option<(Instant, Arc<Report>)>>,
    metrics: Mutex<Option<(Instant, Arc<str>)>>,
    /// Reading every entry takes the worker's time: one at a time.
    pub(super) reading_entries: Arc<Semaphore>,
}

impl Kept {
    /// Keeps no report before the first is asked for.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            report: Mutex::default(),
            metrics: Mutex::default(),
            reading_entries: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// What was lost between worker and kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinFigures {
    /// The value of the label `reason`.
    pub name: &'static str,
    /// How many frames were lost for it.
    pub frames: u64,
}

impl Source {
    /// The worker's counters, at most [`KEPT`] old.
    pub async fn report(&self) -> Result<Arc<Report>, WorkerGone> {
        let mut kept = self.kept.report.lock().await;
        let mut old = None;
        if let Some((when, report)) = kept.take() {
            if when.elapsed() < KEPT {
                *kept = Some((when, Arc::clone(&report)));
                return Ok(report);
            }
            // Its memory is used again where nobody reads it any more.
            old = Arc::into_inner(report).map(Box::new);
        }
        let empty = old.unwrap_or_else(|| {
            let interfaces = interfaces(&self.interfaces.ports).count();
            Report::new(self.ports.len(), interfaces)
        });
        let report = Arc::new(*self.kept.client.report(empty).await?);
        *kept = Some((Instant::now(), Arc::clone(&report)));
        Ok(report)
    }

    /// As [`Self::report`], with the policy that it is of.
    pub async fn policy_report(&self) -> Result<(Arc<Installed>, Arc<Report>), WorkerGone> {
        loop {
            let report = self.report().await?;
            let installed = self.policies.installed();
            match report.policy.generation.cmp(&installed.generation) {
                Ordering::Equal => return Ok((installed, report)),
                // Kept from before the change.
                Ordering::Less => *self.kept.report.lock().await = None,
                // The change is made, and noted in a moment.
                Ordering::Greater => sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// The metrics' text, at most [`KEPT`] old.
    pub async fn metrics(&self) -> Result<Arc<str>, WorkerGone> {
        let mut kept = self.kept.metrics.lock().await;
        if let Some((when, text)) = kept.as_ref()
            && when.elapsed() < KEPT
        {
            return Ok(Arc::clone(text));
        }
        let (installed, report) = self.policy_report().await?;
        let readings = self.sessions.read_all(super::MAX_SESSION_SERIES).await?;
        let text: Arc<str> = super::metrics::text(self, &installed, report, readings).into();
        *kept = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }

    /// Whether the router is attached to its server.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|(_, attached)| *attached.borrow())
    }

    /// Losses that belong to no single port.
    #[must_use]
    pub fn twin_figures(&self) -> [TwinFigures; 3] {
        let TwinCounters {
            worker_full,
            no_buffer,
            kernel_refused,
        } = &*self.twins;
        let figure = |name, counter: &atomic::AtomicU64| TwinFigures {
            name,
            frames: counter.load(atomic::Ordering::Relaxed),
        };
        [
            figure("twin-worker-full", worker_full),
            figure("twin-no-buffer", no_buffer),
            figure("twin-kernel-refused", kernel_refused),
        ]
    }
}
