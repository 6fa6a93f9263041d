//! How one core wakes another that sleeps, when it has published something for it.

#[cfg(not(loom))]
use std::{
    sync::atomic::{AtomicBool, Ordering, fence},
    thread::{self, Thread},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(loom)]
use loom::{
    sync::atomic::{AtomicBool, Ordering, fence},
    thread::{self, Thread},
};

/// A flag that says whether a core sleeps, and its thread. The core that publishes something reads the flag,
/// whose cache line is written only when the other goes to sleep or wakes up.
#[derive(Clone, Debug)]
pub(super) struct Wakeup(Option<Arc<Sleeper>>);

#[derive(Debug, Default)]
struct Sleeper {
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
}

impl Wakeup {
    /// For a core that sleeps when idle, or for one that polls: waking that one does nothing.
    pub(super) fn new(sleeps: bool) -> Self {
        Self(sleeps.then(Arc::default))
    }

    /// Wakes the sleeper, if he sleeps, to what was published before.
    #[inline]
    pub(super) fn notify(&self) {
        if let Some(sleeper) = &self.0 {
            // Either he sees what was published, or this sees him asleep.
            fence(Ordering::SeqCst);
            if sleeper.asleep.load(Ordering::Relaxed) {
                sleeper.wake();
            }
        }
    }

    /// Sleeps until the wakeup rings, at most for so long, unless something has come already.
    pub(super) fn sleep(&self, longest: Duration, has_come: impl FnOnce() -> bool) {
        let Some(sleeper) = &self.0 else {
            #[cfg(not(loom))]
            thread::sleep(longest);
            return;
        };
        sleeper.thread.get_or_init(thread::current);
        sleeper.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_come() {
            park(longest);
        }
        sleeper.asleep.store(false, Ordering::Relaxed);
    }
}

impl Sleeper {
    #[cold]
    fn wake(&self) {
        // Only the first of several that ring makes the system call.
        if self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

#[cfg(not(loom))]
fn park(longest: Duration) {
    thread::park_timeout(longest);
}

/// Has no time: a wakeup that is lost is a deadlock.
#[cfg(loom)]
fn park(_: Duration) {
    thread::park();
}

/// Every order of events that the memory model allows:
/// `RUSTFLAGS="--cfg loom" cargo test --release -p voicelane-dataplane --lib wakeup`.
#[cfg(all(test, loom))]
mod model {
    use super::*;

    #[test]
    fn no_order_of_events_loses_a_wakeup() {
        loom::model(|| {
            let wakeup = Wakeup::new(true);
            let published = Arc::new(AtomicBool::new(false));
            let sleeper = thread::spawn({
                let (wakeup, published) = (wakeup.clone(), published.clone());
                move || {
                    while !published.load(Ordering::Relaxed) {
                        wakeup.sleep(Duration::MAX, || published.load(Ordering::Relaxed));
                    }
                }
            });
            published.store(true, Ordering::Relaxed);
            wakeup.notify();
            sleeper.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Were the wakeup not heard once, the sleeper would sleep for an hour.
    #[test]
    fn a_sleeper_wakes_at_the_bell() {
        const PUBLISHED: u32 = 10_000;
        let wakeup = Wakeup::new(true);
        let published = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < PUBLISHED {
                    let has_come = || published.load(Ordering::Relaxed) > seen;
                    wakeup.sleep(Duration::from_secs(3_600), has_come);
                    seen = published.load(Ordering::Relaxed);
                }
            });
            for number in 1..=PUBLISHED {
                published.store(number, Ordering::Relaxed);
                wakeup.notify();
                if number % 7 == 0 {
                    thread::yield_now();
                }
            }
        });
    }
}
