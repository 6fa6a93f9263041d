//! Interarrival jitter (RFC 3550, section 6.4.1).

use crate::clock::Moment;

/// The running estimate: J(i) = J(i-1) + (|D(i-1,i)| - J(i-1)) / 16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jitter {
    last_transit_nanos: Option<i128>,
    estimate_nanos: f64,
}

impl Jitter {
    /// Takes the next packet in order of arrival: its media time (RTP timestamp in nanoseconds, of
    /// any origin) and when it arrived.
    pub fn arrival(&mut self, media_nanos: u64, received: Moment) {
        let transit = i128::from(received.nanos()) - i128::from(media_nanos);
        if let Some(last) = self.last_transit_nanos.replace(transit) {
            #[allow(clippy::cast_precision_loss)] // differences of transit times are small
            let difference = (transit - last).unsigned_abs() as f64;
            self.estimate_nanos += (difference - self.estimate_nanos) / 16.0;
        }
    }

    /// The estimate in milliseconds.
    pub fn millis(&self) -> f64 {
        self.estimate_nanos / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(transits_ms: &[u64]) -> f64 {
        let mut jitter = Jitter::default();
        for (i, transit) in (0u64..).zip(transits_ms) {
            let media = i * 20_000_000;
            jitter.arrival(media, Moment::from_nanos(media + transit * 1_000_000));
        }
        jitter.millis()
    }

    #[test]
    fn constant_delay_has_no_jitter() {
        assert_eq!(of(&[7; 100]), 0.0);
        assert_eq!(of(&[7]), 0.0);
    }

    #[test]
    fn the_first_steps_by_hand() {
        // |D| = 16: 16/16 = 1.
        assert!((of(&[0, 16]) - 1.0).abs() < 1e-9);
        // Then |D| = 0: 1 - 1/16.
        assert!((of(&[0, 16, 16]) - 0.9375).abs() < 1e-9);
        // Then |D| = 16 down: 0.9375 + (16 - 0.9375) / 16.
        assert!((of(&[0, 16, 16, 0]) - 1.878_906_25).abs() < 1e-9);
    }

    #[test]
    fn alternation_converges_to_its_step() {
        let transits: Vec<_> = (0..1_000).map(|i| (i % 2) * 8).collect();
        assert!((of(&transits) - 8.0).abs() < 1e-6);
    }
}
