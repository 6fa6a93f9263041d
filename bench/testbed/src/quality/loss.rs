//! Loss and its burstiness.

/// What became of consecutive packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossPattern {
    sent: u64,
    lost: u64,
    bursts: u64,
    in_burst: bool,
}

impl LossPattern {
    /// Takes the next packet in order of sending.
    pub fn packet(&mut self, arrived: bool) {
        self.sent += 1;
        if !arrived {
            self.lost += 1;
            self.bursts += u64::from(!self.in_burst);
        }
        self.in_burst = !arrived;
    }

    /// How many packets were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them did not arrive.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The loss in percent; 0 when nothing was sent.
    pub fn percent(&self) -> f64 {
        100.0 * ratio(self.lost, self.sent)
    }

    /// BurstR of G.107: the mean length of the bursts seen, over the mean length 1 / (1 - p) that
    /// random loss of the same probability p would have. Estimated over the packets given, where a
    /// burst that the first or last packet cuts off counts as it is. At least 1: loss that is more
    /// even than random is taken as random. 1 also when nothing or everything was lost.
    pub fn burst_ratio(&self) -> f64 {
        if self.bursts == 0 || self.lost == self.sent {
            return 1.0;
        }
        let mean_length = ratio(self.lost, self.bursts);
        (mean_length * (1.0 - ratio(self.lost, self.sent))).max(1.0)
    }
}

#[allow(clippy::cast_precision_loss)] // counts of packets of one test are far below 2^52
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> LossPattern {
        let mut loss = LossPattern::default();
        pattern.chars().for_each(|c| loss.packet(c == '.'));
        loss
    }

    #[test]
    fn bursts_by_hand() {
        // p = 0.5, one burst of 4, expected 2: ratio 2.
        let loss = of("xxxx....");
        assert_eq!((loss.sent(), loss.lost(), loss.percent()), (8, 4, 50.0));
        assert_eq!(loss.burst_ratio(), 2.0);
        // p = 0.4, bursts of 1 and 3: mean 2, expected 1/0.6: ratio 1.2.
        assert!((of("..x..xxx..").burst_ratio() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn even_loss_counts_as_random() {
        assert_eq!(of("x.x.x.x.").burst_ratio(), 1.0);
    }

    #[test]
    fn ends_of_the_scale() {
        assert_eq!(of("....").burst_ratio(), 1.0);
        assert_eq!(of("xxxx").burst_ratio(), 1.0);
        assert_eq!(of("xxxx").percent(), 100.0);
        assert_eq!(of("").percent(), 0.0);
    }

    #[test]
    fn random_loss_has_a_ratio_near_one() {
        // A linear congruential generator: the same in each run.
        let mut state = 1u64;
        let mut loss = LossPattern::default();
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            loss.packet(state >> 62 != 0);
        }
        assert!((loss.percent() - 25.0).abs() < 0.5);
        assert!(loss.burst_ratio() < 1.02, "{}", loss.burst_ratio());
    }
}
