//! Frames between worker and twins: a thread writes what the worker punts, and a task a twin reads
//! what the kernel sends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::TrySendError;
use tokio::{sync::Notify, task::JoinSet};
use tracing::{error, warn};
use voicelane_dataplane::{
    control::{FromWorker, ToWorker, Twins},
    units::InterfaceIndex,
};
use voicelane_dpdk::{Mbuf, Mempool};

use super::tap::Twin;

/// The longest frame that is read: jumbo frames with their headers.
const READ_BYTES: usize = 9_216 + 64;
/// How long after an error a twin is read again.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What was lost between worker and kernel.
#[derive(Debug, Default)]
pub struct TwinCounters {
    /// Frames of the kernel that the worker's queue had no room for.
    pub worker_full: AtomicU64,
    /// Frames of the kernel for which there was no buffer.
    pub no_buffer: AtomicU64,
    /// Frames of the worker that the kernel did not take.
    pub kernel_refused: AtomicU64,
}

/// The running threads and tasks of all twins.
#[derive(Debug)]
pub struct Frames {
    readers: JoinSet<()>,
    writer: Option<JoinHandle<()>>,
    counters: Arc<TwinCounters>,
    lost: Arc<Notify>,
}

impl Frames {
    /// Starts them. `twins` are in the order of their interfaces.
    pub fn start(twins: Vec<Twin>, frames: Twins<Mbuf>, pool: Mempool) -> io::Result<Self> {
        let counters = Arc::new(TwinCounters::default());
        let lost = Arc::new(Notify::new());
        let twins: Arc<[Twin]> = twins.into();
        let mut readers = JoinSet::new();
        for position in 0..twins.len() {
            let reader = Reader {
                twins: Arc::clone(&twins),
                position,
                to_worker: frames.to_worker.clone(),
                pool,
                counters: Arc::clone(&counters),
                lost: Arc::clone(&lost),
            };
            readers.spawn(reader.run());
        }
        let (from_worker, count) = (frames.from_worker, Arc::clone(&counters));
        let writer = thread::Builder::new()
            .name("twins".to_owned())
            .spawn(move || write_frames(&from_worker, &twins, &count))?;
        Ok(Self {
            readers,
            writer: Some(writer),
            counters,
            lost,
        })
    }

    /// What was lost so far.
    #[must_use]
    pub fn counters(&self) -> Arc<TwinCounters> {
        Arc::clone(&self.counters)
    }

    /// Waits until a twin was deleted under the router.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Ends them; call when the worker has ended, as the writer ends with it. The twins go away.
    pub async fn stop(mut self) {
        self.readers.shutdown().await;
        if let Some(writer) = self.writer.take() {
            drop(tokio::task::spawn_blocking(move || writer.join()).await);
        }
    }
}

fn write_frames(from_worker: &FromWorker<Mbuf>, twins: &[Twin], counters: &TwinCounters) {
    while let Ok((interface, frame)) = from_worker.recv() {
        let written = twins
            .get(interface.index())
            .map(|twin| twin.device.try_send(frame.bytes()));
        if !matches!(written, Some(Ok(_))) {
            counters.kernel_refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Reader {
    twins: Arc<[Twin]>,
    position: usize,
    to_worker: ToWorker<Mbuf>,
    pool: Mempool,
    counters: Arc<TwinCounters>,
    lost: Arc<Notify>,
}

impl Reader {
    async fn run(self) {
        let Some(twin) = self.twins.get(self.position) else {
            return;
        };
        let mut frame = vec![0; READ_BYTES];
        loop {
            match twin.device.recv(&mut frame).await {
                Ok(length) => {
                    if !self.pass_on(twin.interface, frame.get(..length).unwrap_or_default()) {
                        return;
                    }
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EBADFD) => {
                    error!(interface = twin.interface.0, "the twin was deleted");
                    self.lost.notify_one();
                    return;
                }
                Err(error) => {
                    // A twin that is set down reads as EIO until it is up again.
                    if error.raw_os_error() != Some(nix::libc::EIO) {
                        warn!(interface = twin.interface.0, %error, "the twin cannot be read");
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    /// Whether the worker is still there.
    fn pass_on(&self, interface: InterfaceIndex, frame: &[u8]) -> bool {
        let Some(mut buffer) = self.pool.allocate() else {
            self.counters.no_buffer.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        if buffer.write(frame).is_err() {
            self.counters.no_buffer.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        match self.to_worker.try_send((interface, buffer)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.counters.worker_full.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
