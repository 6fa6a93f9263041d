//! How much of its history etcd keeps.

use std::{mem, time::Duration};

use super::lead::Boot;

/// What leaders before left is forgotten so soon. A standby whose watch is later than that reads all anew.
const AT_FIRST: Duration = Duration::from_secs(5);
/// After so long, or so many bytes, what was before the last time is forgotten.
const EVERY: Duration = Duration::from_secs(300);
const BYTES: usize = 64 * 1024 * 1024;

/// What of etcd's history a leader has kept.
#[derive(Debug)]
pub(super) struct History {
    /// What was before this one is forgotten next; 0: nothing is committed yet.
    revision: i64,
    due: Boot,
    bytes: usize,
}

impl History {
    /// A leader begins.
    pub(super) fn new(now: Boot) -> Self {
        Self {
            revision: 0,
            due: now.plus(AT_FIRST),
            bytes: 0,
        }
    }

    /// A commit of so many bytes is at this revision. Tells before which one all is to be forgotten now.
    pub(super) fn committed(&mut self, now: Boot, revision: i64, bytes: usize) -> Option<i64> {
        if self.revision == 0 {
            self.revision = revision;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if now < self.due && self.bytes < BYTES {
            return None;
        }
        (self.due, self.bytes) = (now.plus(EVERY), 0);
        Some(mem::replace(&mut self.revision, revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Boot = Boot::after(Duration::from_secs(1_000));

    #[test]
    fn it_is_bounded_by_time() {
        let mut history = History::new(T0);
        let mut after = |s, revision| {
            let now = T0.plus(Duration::from_secs(s));
            history.committed(now, revision, 1_000)
        };
        assert_eq!(after(1, 10), None);
        assert_eq!(after(4, 11), None);
        assert_eq!(after(5, 12), Some(10), "of leaders before");
        assert_eq!(after(304, 20), None);
        assert_eq!(after(305, 21), Some(12));
        assert_eq!(after(605, 30), Some(21));
    }

    #[test]
    fn it_is_bounded_by_bytes_however_many_changes_there_are() {
        let mut history = History::new(T0);
        let (mut kept, mut from) = (0, 0);
        for revision in 1..1_000 {
            kept += 1024 * 1024;
            if let Some(forgotten) = history.committed(T0, revision, 1024 * 1024) {
                kept -= usize::try_from(forgotten - from).unwrap() * 1024 * 1024;
                from = forgotten;
            }
            assert!(kept <= 2 * BYTES, "{kept} bytes at revision {revision}");
        }
    }
}
