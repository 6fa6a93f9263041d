//! Who waits for which answer.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Those who wait, by the number of what they have asked for. `false` is a failure.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<HashMap<u64, oneshot::Sender<bool>>>);

impl Waiting {
    pub(crate) fn insert(&self, number: u64, waiter: oneshot::Sender<bool>) {
        self.lock().insert(number, waiter);
    }

    /// Tells whoever waits for this.
    pub(crate) fn answer(&self, number: u64, is_right: bool) {
        if let Some(waiter) = self.lock().remove(&number) {
            // Nobody waits any more if it fails.
            let _ = waiter.send(is_right);
        }
    }

    /// Nothing will come any more: whoever waits hears of it.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
