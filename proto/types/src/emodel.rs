//! The E-model (ITU-T G.107), simplified to what a packet network changes.

/// What delays speech besides the network, in ms: 20 ms until a packet is full, and a playout
/// buffer of 40 ms at the other end. Packets that would come too late for such a buffer are not
/// counted as lost.
pub const FIXED_DELAY_MS: f64 = 60.0;

/// A codec's sensitivity to loss (ITU-T G.113, appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codec {
    /// Equipment impairment factor Ie.
    pub impairment: f64,
    /// Packet-loss robustness factor Bpl.
    pub loss_robustness: f64,
}

impl Codec {
    /// G.711 with packet-loss concealment.
    pub const G711: Self = Self {
        impairment: 0.0,
        loss_robustness: 25.1,
    };
    /// G.729A.
    pub const G729A: Self = Self {
        impairment: 11.0,
        loss_robustness: 19.0,
    };
}

/// The transmission rating R, from one-way mouth-to-ear delay in ms, loss in percent and the burst
/// ratio (1 for random loss).
///
/// R = 93.2 - Id - Ie_eff; Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3);
/// Ie_eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl).
#[must_use]
pub fn transmission_rating(
    codec: Codec,
    delay_ms: f64,
    loss_percent: f64,
    burst_ratio: f64,
) -> f64 {
    let late = (delay_ms - 177.3).max(0.0);
    let delay_impairment = 0.024 * delay_ms + 0.11 * late;
    let loss_impairment = codec.impairment
        + (95.0 - codec.impairment) * loss_percent
            / (loss_percent / burst_ratio + codec.loss_robustness);
    93.2 - delay_impairment - loss_impairment
}

/// MOS = 1 + 0.035 R + R (R - 60) (100 - R) 7e-6 for 0 < R < 100; 1 below, 4.5 above.
#[must_use]
pub fn mean_opinion_score(rating: f64) -> f64 {
    if rating <= 0.0 {
        1.0
    } else if rating >= 100.0 {
        4.5
    } else {
        let score = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
        // The polynomial is below 1 for ratings under 6.5.
        score.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    #[test]
    fn ratings_by_hand() {
        close(transmission_rating(Codec::G711, 0.0, 0.0, 1.0), 93.2);
        // 93.2 - 0.024 * 100
        close(transmission_rating(Codec::G711, 100.0, 0.0, 1.0), 90.8);
        // 93.2 - 4.8 - 0.11 * 22.7
        close(transmission_rating(Codec::G711, 200.0, 0.0, 1.0), 85.903);
        // 93.2 - 95 / (1 + 25.1)
        close(transmission_rating(Codec::G711, 0.0, 1.0, 1.0), 89.5602);
        // 93.2 - 95 * 50 / (50 + 25.1)
        close(transmission_rating(Codec::G711, 0.0, 50.0, 1.0), 29.951);
        // 93.2 - 95 * 50 / (25 + 25.1)
        close(transmission_rating(Codec::G711, 0.0, 50.0, 2.0), -1.6104);
        // 93.2 - 1.2 - (11 + 84 * 2 / (2 + 19))
        close(transmission_rating(Codec::G729A, 50.0, 2.0, 1.0), 73.0);
    }

    #[test]
    fn scores_by_hand() {
        close(mean_opinion_score(-1.6), 1.0);
        close(mean_opinion_score(3.0), 1.0);
        close(mean_opinion_score(100.0), 4.5);
        // 1 + 2.1 + 0
        close(mean_opinion_score(60.0), 3.1);
        // 1 + 3.262 + 93.2 * 33.2 * 6.8 * 7e-6
        close(mean_opinion_score(93.2), 4.4093);
        // 1 + 1.0483 - 29.951 * 30.049 * 70.049 * 7e-6
        close(mean_opinion_score(29.951), 1.607);
    }
}
