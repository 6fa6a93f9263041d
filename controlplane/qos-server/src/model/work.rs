//! Counts, in unit tests, the keys that are looked at, so that they can bound what a hold of the lock
//! does. Elsewhere it is nothing.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A key is looked at.
#[inline]
pub(crate) fn step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

/// How many this thread has looked at.
#[cfg(test)]
pub(crate) fn steps() -> u64 {
    STEPS.get()
}
