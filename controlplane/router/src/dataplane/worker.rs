//! The workers' threads: pinned, registered with DPDK, and their end reported, a panic's too.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use rustix::{process::setpriority_process, thread::gettid};
use thiserror::Error;
use tokio::sync::watch;
use voicelane_dataplane::{device::Device, workers::Worker};

use super::cores;

/// How a worker's thread ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum WorkerEnd {
    /// It was told to.
    #[error("the worker was stopped")]
    Stopped,
    /// It cannot be pinned, or DPDK does not take it.
    #[error("the worker could not start: {0}")]
    Start(String),
    #[error("the worker died; its last words are above")]
    Died,
}

/// The running cores of a data plane: one worker, or several cores with their parts.
#[derive(Debug)]
pub struct WorkerThreads {
    stop: Arc<AtomicBool>,
    ended: watch::Receiver<Option<WorkerEnd>>,
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts each on its core.
    pub fn spawn<D>(workers: impl IntoIterator<Item = (Worker<D>, usize)>) -> io::Result<Self>
    where
        D: Device + Send + 'static,
        Worker<D>: Send,
    {
        let (end, ended) = watch::channel(None);
        let mut running = Self {
            stop: Arc::default(),
            ended,
            threads: Vec::new(),
        };
        for (mut worker, core) in workers {
            let (stop, end) = (Arc::clone(&running.stop), end.clone());
            let work = move || {
                let mut last_will = LastWill {
                    end,
                    with: WorkerEnd::Died,
                };
                last_will.with = match register(core) {
                    Ok(_registered) => {
                        worker.run(&stop);
                        WorkerEnd::Stopped
                    }
                    Err(reason) => WorkerEnd::Start(reason),
                };
                // Its ports close before anybody hears that it has ended.
                drop(worker);
            };
            let thread = Builder::new().name(format!("worker-{core}"));
            running.threads.push(thread.spawn(work)?);
        }
        Ok(running)
    }

    /// Waits until one has ended, for whatever reason.
    pub async fn ended(&self) -> WorkerEnd {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(WorkerEnd::Died),
            Err(_) => WorkerEnd::Died,
        }
    }

    /// Stops them and waits until their queues are closed.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic was reported by `ended` already.
            drop(thread.join());
        }
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.join();
    }
}

fn register(core: usize) -> Result<voicelane_dpdk::WorkerThread, String> {
    cores::stay_on(&[core]).map_err(|error| format!("pinning it to core {core}: {error}"))?;
    favour();
    voicelane_dpdk::WorkerThread::register()
        .map_err(|error| format!("making it known to DPDK: {error}"))
}

/// Asks the kernel to run this thread before ordinary ones: where the core is not the worker's
/// alone, packets must not wait for a compiler. Not more than that: a real-time thread that polls
/// would starve the kernel's own work on the core.
fn favour() {
    const BEST: i32 = -20;
    if let Err(error) = setpriority_process(Some(gettid()), BEST) {
        tracing::warn!(%error, "the worker runs at ordinary priority");
    }
}

/// Says how the thread ended, on a panic too.
struct LastWill {
    end: watch::Sender<Option<WorkerEnd>>,
    with: WorkerEnd,
}

impl Drop for LastWill {
    fn drop(&mut self) {
        // The first one's end is the reason for the others'.
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert_with(|| self.with.clone());
            first
        });
    }
}
