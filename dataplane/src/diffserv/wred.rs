use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

use super::Colour;
use crate::units::Ticks;

/// How full a queue is: 65,536 is its limit.
pub type Fill = u32;

/// A queue at its limit.
pub const FULL: Fill = 1 << 16;

/// When packets of one drop precedence are dropped, by the average length of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WredCurve {
    /// Up to here none, in percent of the queue's limit.
    pub minimum_percent: u8,
    /// From here on all.
    pub maximum_percent: u8,
    /// The probability at the maximum, in percent; from the minimum on it grows linearly.
    pub drop_percent: u8,
}

/// Random early detection with a curve for each drop precedence of an assured forwarding class
/// (RFC 2597 section 4; Floyd and Jacobson, Random Early Detection Gateways, 1993).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WredProfile {
    /// Of drop precedence 1, 2, 3: green, yellow, red.
    pub curves: [WredCurve; 3],
}

impl Default for WredProfile {
    /// All of precedence 3 is gone before precedence 2 is touched, and all of that before precedence 1.
    fn default() -> Self {
        let curve = |minimum_percent, maximum_percent, drop_percent| WredCurve {
            minimum_percent,
            maximum_percent,
            drop_percent,
        };
        Self {
            curves: [curve(65, 100, 20), curve(30, 60, 100), curve(10, 30, 100)],
        }
    }
}

/// A curve in the units of [`Fill`], and of 32-bit random numbers.
#[derive(Clone, Copy, Debug)]
struct Curve {
    minimum: u64,
    maximum: u64,
    /// Probability in 2^-32 for each unit of fill over the minimum.
    slope: u64,
}

/// The average fill of one queue, and the chance that decides.
#[derive(Debug)]
pub struct Wred {
    curves: [Curve; 3],
    /// Average fill, times 2^`shift`.
    average: u64,
    /// A packet counts 2^-`shift` in the average.
    shift: u32,
    /// When the queue became empty, if it is.
    empty_since: Option<Ticks>,
    /// In how many ticks without packets the average halves.
    half_life: u64,
    random: SmallRng,
}

impl Wred {
    /// For a queue that holds about `limit_packets` and sends one in about `packet_ticks`.
    #[must_use]
    pub fn new(profile: &WredProfile, limit_packets: u64, packet_ticks: Ticks, seed: u64) -> Self {
        let units = |percent: u8| u64::from(FULL) * u64::from(percent) / 100;
        let curve = |curve: &WredCurve| {
            let (minimum, maximum) = (units(curve.minimum_percent), units(curve.maximum_percent));
            let probability = (u64::from(curve.drop_percent) << 32) / 100;
            Curve {
                minimum,
                maximum,
                slope: probability / maximum.saturating_sub(minimum).max(1),
            }
        };
        // The average follows within an eighth of the queue, and within 512 packets at most.
        let shift = (limit_packets / 8).clamp(1, 512).ilog2();
        // (1 - 2^-shift)^n = 1/2 for n = 0.69 * 2^shift.
        let half_life = (packet_ticks.0 << shift).saturating_mul(69) / 100;
        Self {
            curves: profile.curves.each_ref().map(curve),
            average: 0,
            shift,
            empty_since: None,
            half_life: half_life.max(1),
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Whether to drop a packet, whose colour is its drop precedence, that finds the queue this full.
    #[inline]
    pub fn drops(&mut self, colour: Colour, fill: Fill, now: Ticks) -> bool {
        if let Some(since) = self.empty_since.take() {
            let halvings = now.since(since).0 / self.half_life;
            self.average = u32::try_from(halvings)
                .ok()
                .and_then(|halvings| self.average.checked_shr(halvings))
                .unwrap_or(0);
        }
        self.average = self.average - (self.average >> self.shift) + u64::from(fill);
        let average = self.average >> self.shift;
        let curve = self.curves[colour.index()];
        if average < curve.minimum {
            return false;
        }
        average >= curve.maximum
            || u64::from(self.random.next_u32()) < (average - curve.minimum) * curve.slope
    }

    /// Whether it drops nothing as long as the queue stays empty, and has nothing to forget.
    #[inline]
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.average >> self.shift == 0 && self.curves.iter().all(|curve| curve.minimum > 0)
    }

    /// The queue has become empty.
    #[inline]
    pub fn emptied(&mut self, now: Ticks) {
        self.empty_since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Colour::{Green, Red, Yellow},
        *,
    };

    const PACKET: Ticks = Ticks(1_000);

    /// How many of 100,000 packets are dropped at a steady fill.
    fn drops(colour: Colour, percent: u32) -> u32 {
        let mut wred = Wred::new(&WredProfile::default(), 400, PACKET, 7);
        let fill = FULL * percent / 100;
        for _ in 0..10_000 {
            wred.drops(colour, fill, Ticks(0));
        }
        let dropped = (0..100_000).filter(|_| wred.drops(colour, fill, Ticks(0)));
        u32::try_from(dropped.count()).unwrap()
    }

    #[test]
    fn each_precedence_has_its_curve() {
        assert_eq!([9, 12].map(|at| drops(Red, at) > 0), [false, true]);
        assert_eq!(drops(Red, 31), 100_000);
        assert_eq!([29, 33].map(|at| drops(Yellow, at) > 0), [false, true]);
        assert_eq!(drops(Yellow, 61), 100_000);
        assert_eq!([64, 70].map(|at| drops(Green, at) > 0), [false, true]);
        // Half way from 65 to 101 %: half of 20 %.
        assert!(
            drops(Green, 82).abs_diff(9_700) < 500,
            "{}",
            drops(Green, 82)
        );
        // Half way from 10 to 30 %.
        assert!(
            drops(Red, 20).abs_diff(50_000) < 1_000,
            "{}",
            drops(Red, 20)
        );
    }

    #[test]
    fn bursts_pass_and_standing_queues_do_not() {
        let mut wred = Wred::new(&WredProfile::default(), 400, PACKET, 7);
        let burst = (0..5).filter(|_| wred.drops(Red, FULL / 2, Ticks(0)));
        assert_eq!(burst.count(), 0, "a short burst is not averaged yet");
        assert!(!wred.is_calm());
        let standing = (0..200).filter(|_| wred.drops(Red, FULL / 2, Ticks(0)));
        assert!(standing.count() > 100);
    }

    #[test]
    fn a_calm_one_lets_go_what_finds_nothing() {
        let mut wred = Wred::new(&WredProfile::default(), 400, PACKET, 7);
        wred.drops(Red, FULL, Ticks(0));
        while !wred.is_calm() {
            wred.drops(Red, 0, Ticks(0));
        }
        for colour in [Green, Yellow, Red] {
            assert!(!wred.drops(colour, 0, Ticks(0)));
        }
    }

    #[test]
    fn an_idle_queue_forgets() {
        let mut wred = Wred::new(&WredProfile::default(), 400, PACKET, 7);
        for _ in 0..1_000 {
            wred.drops(Green, FULL, Ticks(0));
        }
        wred.emptied(Ticks(0));
        assert!(wred.drops(Red, 0, Ticks(1)), "not at once");
        wred.emptied(Ticks(0));
        assert!(!wred.drops(Red, 0, Ticks(1_000_000)));
        wred.emptied(Ticks(0));
        assert!(!wred.drops(Red, 0, Ticks(u64::MAX)));
    }
}
