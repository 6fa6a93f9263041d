//! What a connection's client has asked for and not read yet, and the bounds of that.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Pages that a connection may have asked for and not read.
const PAGES: usize = 4;
/// Pages that all connections from one address may.
pub(super) const PAGES_OF_PEER: usize = 64;
/// Explanations that a connection may have asked for and not read.
const EXPLANATIONS: usize = 16;

/// The client at the other end of a connection.
#[derive(Debug)]
pub(super) struct Client {
    read_timeout: Duration,
    pages: Arc<Semaphore>,
    pages_of_peer: Arc<Semaphore>,
    explanations: Arc<Semaphore>,
    activity: Mutex<Activity>,
    closed: AtomicBool,
    on_close: AtomicWaker,
}

#[derive(Debug)]
struct Activity {
    calls: usize,
    /// When the last call ended.
    since: Instant,
}

/// What an answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Little, or what the client sends bounds it.
    Small,
    /// A page of sessions or routers: up to a mebibyte, made of a thousand.
    Page,
    /// An explanation: asks routers.
    Explanation,
}

/// The right to make an answer, until it has been read.
#[derive(Debug)]
pub(super) struct Share(#[allow(dead_code, reason = "held")] Vec<OwnedSemaphorePermit>);

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct Call(Arc<Client>);

impl Client {
    pub(super) fn new(read_timeout: Duration, pages_of_peer: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self {
            read_timeout,
            pages: Arc::new(Semaphore::new(PAGES)),
            pages_of_peer,
            explanations: Arc::new(Semaphore::new(EXPLANATIONS)),
            activity: Mutex::new(Activity {
                calls: 0,
                since: Instant::now(),
            }),
            closed: AtomicBool::new(false),
            on_close: AtomicWaker::new(),
        })
    }

    /// How long it may leave an answer unread.
    pub(super) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Waits until another answer of this cost may be made.
    pub(super) async fn share(&self, cost: Cost) -> Option<Share> {
        let semaphores: &[_] = match cost {
            Cost::Small => return None,
            // In this order, so that a connection waits at the address with its own share only.
            Cost::Page => &[&self.pages, &self.pages_of_peer],
            Cost::Explanation => &[&self.explanations],
        };
        let mut permits = Vec::with_capacity(semaphores.len());
        for semaphore in semaphores {
            // They are never closed.
            permits.push(Arc::clone(semaphore).acquire_owned().await.ok()?);
        }
        Some(Share(permits))
    }

    /// A call begins.
    pub(super) fn call(self: &Arc<Self>) -> Call {
        self.activity().calls += 1;
        Call(self.clone())
    }

    /// Since when nothing is called; absent while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let activity = self.activity();
        (activity.calls == 0).then_some(activity.since)
    }

    /// Asks the connection to end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.on_close.wake();
    }

    /// Ready when the connection is to end.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.on_close.register(cx.waker());
        if self.closed.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut activity = self.0.activity();
        activity.calls -= 1;
        activity.since = Instant::now();
    }
}
