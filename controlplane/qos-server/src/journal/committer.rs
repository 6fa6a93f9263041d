//! The one thread that commits.

use std::{
    any::Any,
    fmt, mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::{Backend, Change, StoreError};
use crate::metrics::Metrics;

/// Where a batch ends, bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// What goes to the thread.
#[derive(Debug)]
enum Message {
    Change(Change, oneshot::Sender<()>),
    /// Commit what came before, and end.
    Close(oneshot::Sender<()>),
}

/// The engine's side of the store.
#[derive(Clone)]
pub struct Journal {
    /// Absent: nothing is kept.
    messages: Option<mpsc::UnboundedSender<Message>>,
    longest_record: usize,
    next_id: Arc<AtomicU64>,
    failed: watch::Receiver<Option<Arc<StoreError>>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("keeps", &self.messages.is_some())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// One that keeps nothing.
    pub fn none() -> Self {
        Self {
            messages: None,
            longest_record: usize::MAX,
            next_id: Arc::default(),
            failed: watch::channel(None).1,
        }
    }

    /// One whose changes a test commits. New sessions get numbers from `next_id` on.
    #[cfg(test)]
    pub(crate) fn by_hand(longest_record: usize, next_id: u64) -> (Self, Handed) {
        let (messages, receiver) = mpsc::unbounded_channel();
        let journal = Self {
            messages: Some(messages),
            longest_record,
            next_id: Arc::new(AtomicU64::new(next_id)),
            failed: watch::channel(None).1,
        };
        (journal, Handed(receiver))
    }

    /// Starts the thread. New sessions get numbers from `next_id` on.
    pub fn start(
        backend: impl Backend,
        next_id: u64,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let (messages, receiver) = mpsc::unbounded_channel();
        let (failed, failure) = watch::channel(None);
        let longest_record = backend.longest_record();
        let committer = Committer {
            messages: receiver,
            backend,
            metrics,
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let ran = panic::catch_unwind(AssertUnwindSafe(|| committer.run()));
                if let Err(error) = ran.unwrap_or_else(|panic| Err(panicked(&*panic))) {
                    error!(%error, "the store failed");
                    failed.send_replace(Some(Arc::new(error)));
                }
            })
            .map_err(|error| StoreError::Thread {
                reason: format!("cannot be started: {error}"),
            })?;
        Ok(Self {
            messages: Some(messages),
            longest_record,
            next_id: Arc::new(AtomicU64::new(next_id)),
            failed: failure,
        })
    }

    /// Whether anything is kept.
    pub fn keeps(&self) -> bool {
        self.messages.is_some()
    }

    /// Whether a record of this length can be kept.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.longest_record
    }

    /// A number that no record has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a change in; those of one session or router in their order. As many wait as there are operations
    /// and reports of routers, so nothing bounds them here.
    pub fn submit(&self, change: Change) -> Committed {
        let Some(messages) = &self.messages else {
            return Committed(None);
        };
        let (done, committed) = oneshot::channel();
        // Fails when the store has, and then nothing is ever said to be committed.
        let _ = messages.send(Message::Change(change, done));
        Committed(Some(committed))
    }

    /// Resolves when the store has failed; without a store, or when it is closed, never.
    pub async fn failed(&self) -> Arc<StoreError> {
        match self.ended().await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Commits what was handed in, closes the store, and returns when that is done.
    pub async fn close(&self) -> Result<(), Arc<StoreError>> {
        let Some(messages) = &self.messages else {
            return Ok(());
        };
        let (done, closed) = oneshot::channel();
        if messages.send(Message::Close(done)).is_ok() && closed.await.is_ok() {
            return Ok(());
        }
        self.ended().await
    }

    /// Waits for the end of the thread.
    async fn ended(&self) -> Result<(), Arc<StoreError>> {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => Err(error.clone()),
            // It ended without one.
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// Changes that were handed in for a test to commit.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Handed(mpsc::UnboundedReceiver<Message>);

#[cfg(test)]
impl Handed {
    /// Those that wait, at most so many, and whom to tell when they are committed.
    pub(crate) fn take(&mut self, most: usize) -> (Vec<Change>, Vec<oneshot::Sender<()>>) {
        let next = || match self.0.try_recv() {
            Ok(Message::Change(change, done)) => Some((change, done)),
            Ok(Message::Close(_)) | Err(_) => None,
        };
        std::iter::from_fn(next).take(most).unzip()
    }
}

/// A change that was handed in.
#[must_use]
#[derive(Debug)]
pub struct Committed(Option<oneshot::Receiver<()>>);

impl Committed {
    /// Of what needs no commit.
    pub(crate) fn already() -> Self {
        Self(None)
    }

    /// Resolves when it is on the disk; never, if the store fails: the process ends then.
    pub async fn done(self) {
        if let Some(receiver) = self.0
            && receiver.await.is_err()
        {
            std::future::pending().await
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::Thread {
        reason: format!("panicked: {}", text.unwrap_or("no text")),
    }
}

struct Committer<B> {
    messages: mpsc::UnboundedReceiver<Message>,
    backend: B,
    metrics: Arc<Metrics>,
}

impl<B: Backend> Committer<B> {
    /// Runs until the journal is closed or dropped.
    fn run(mut self) -> Result<(), StoreError> {
        let (mut batch, mut waiting) = (Vec::new(), Vec::new());
        let most_changes = self.backend.most_changes();
        while let Some(first) = self.messages.blocking_recv() {
            let mut bytes = 0;
            let mut next = Some(first);
            let mut close = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Change(change, done) => {
                        bytes += change.size();
                        batch.push(change);
                        waiting.push(done);
                    }
                    Message::Close(done) => {
                        close = Some(done);
                        break;
                    }
                }
                if batch.len() < most_changes && bytes < MAX_BYTES {
                    next = self.messages.try_recv().ok();
                }
            }
            if !batch.is_empty() {
                let began = Instant::now();
                self.backend.commit(&batch)?;
                self.metrics.committed(batch.len(), began.elapsed());
                batch.clear();
                for done in mem::take(&mut waiting) {
                    // Fails when nobody waits, as with a router's report.
                    let _: Result<(), ()> = done.send(());
                }
            }
            if let Some(done) = close {
                drop(self);
                let _: Result<(), ()> = done.send(());
                return Ok(());
            }
        }
        Ok(())
    }
}
