//! How long to wait before the next attempt to reach the server.

use std::time::Duration;

use rand::Rng;

/// Doubles from 0.2 s to 10 s, with jitter, so that many routers do not come back all at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    pub(super) const LAST: Duration = Duration::from_secs(10);

    /// As after a success.
    #[must_use]
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Begins again with the shortest delay, after a success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The next wait: between half of the current span and all of it.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(Self::LAST);
        span.mul_f64(rng.random_range(0.5..=1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_are_never_the_same() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..12).map(|_| backoff.next(&mut rng)).collect();
        for (wait, span) in waits
            .iter()
            .zip([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000])
        {
            let (least, most) = (Duration::from_millis(span / 2), Duration::from_millis(span));
            assert!((least..=most).contains(wait), "{wait:?} of {span}");
        }
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(10)));
        assert_ne!(waits[10], waits[11]);
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(200));
    }
}
