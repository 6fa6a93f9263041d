use crate::units::{TickRate, Ticks};

/// Controlled delay (RFC 8289): an upper bound on the delay that a queue keeps standing, in place of
/// one on its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodelProfile {
    /// The standing delay that is accepted, in microseconds.
    pub target_us: u32,
    /// For how long a higher one is, in microseconds: a worst-case round trip.
    pub interval_us: u32,
    /// Whether packets of flows that understand ECN are marked instead of dropped (RFC 3168).
    pub ecn: bool,
}

impl Default for CodelProfile {
    /// RFC 8289 section 4: 5 ms and 100 ms.
    fn default() -> Self {
        Self {
            target_us: 5_000,
            interval_us: 100_000,
            ecn: true,
        }
    }
}

/// One queue's state: `codel_queue_t` of RFC 8289 section 5.2.
#[derive(Clone, Copy, Debug)]
pub struct Codel {
    target: Ticks,
    interval: Ticks,
    /// When the delay will have been over the target for an interval; `None` while it is under it.
    first_above: Option<Ticks>,
    drop_next: Ticks,
    count: u64,
    last_count: u64,
    dropping: bool,
}

impl Codel {
    /// The state of an empty queue.
    #[must_use]
    pub fn new(profile: &CodelProfile, clock: TickRate) -> Self {
        let ticks = |us: u32| clock.ticks(u64::from(us) * 1_000);
        Self {
            target: ticks(profile.target_us),
            interval: ticks(profile.interval_us).max(Ticks(1)),
            first_above: None,
            drop_next: Ticks(0),
            count: 0,
            last_count: 0,
            dropping: false,
        }
    }

    /// Whether a packet's delay is one that is accepted.
    #[inline]
    pub fn accepts(&self, sojourn: Ticks) -> bool {
        sojourn < self.target
    }

    /// Whether to drop or mark the packet that has just been taken off the queue, having waited for
    /// `sojourn`; `rest` says whether more than a packet's worth is left behind it.
    #[inline]
    pub fn signals(&mut self, now: Ticks, sojourn: Ticks, rest: bool) -> bool {
        if self.accepts(sojourn) || !rest {
            // "went below - stay below for at least interval"
            self.first_above = None;
            self.dropping = false;
            return false;
        }
        self.is_above(now)
    }

    /// The rest of `deque()`, for a packet that has waited too long.
    #[cold]
    fn is_above(&mut self, now: Ticks) -> bool {
        match self.first_above {
            None => {
                // "just went above from below. if still above at first_above_time, will say it's ok
                // to drop."
                self.first_above = Some(now + self.interval);
                self.dropping = false;
                return false;
            }
            Some(then) if now < then => {
                self.dropping = false;
                return false;
            }
            Some(_) => {}
        }
        if self.dropping {
            // "It's time for the next drop."
            if now < self.drop_next {
                return false;
            }
            self.count += 1;
            self.drop_next = self.control_law(self.drop_next);
        } else {
            self.dropping = true;
            // "If min went above TARGET close to when it last went below, assume that the drop rate
            // that controlled the queue on the last cycle is a good starting point to control it
            // now."
            let delta = self.count.saturating_sub(self.last_count);
            let recent = now.since(self.drop_next).0 < self.interval.0.saturating_mul(16);
            self.count = if delta > 1 && recent { delta } else { 1 };
            self.drop_next = self.control_law(now);
            self.last_count = self.count;
        }
        true
    }

    /// The queue has become empty.
    #[inline]
    pub fn emptied(&mut self) {
        self.first_above = None;
        self.dropping = false;
    }

    /// "t + INTERVAL / sqrt(count)".
    fn control_law(&self, t: Ticks) -> Ticks {
        let interval = u128::from(self.interval.0);
        let step = (interval * interval / u128::from(self.count.max(1))).isqrt();
        t + Ticks(u64::try_from(step).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: u64 = 1_000_000_000;

    /// RFC 8289 section 5, word for word, with real numbers, over a queue of sojourn times. Gives
    /// the packets that it drops.
    fn model(packets: &[(u64, u64)], target: u64, interval: u64) -> Vec<usize> {
        let (mut first_above, mut drop_next, mut count, mut last_count) = (0_u64, 0_u64, 0_u64, 0);
        let mut dropping = false;
        let mut dropped = Vec::new();
        let law = |t: u64, count: u64| {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a model"
            )]
            let step = (interval as f64 / (count as f64).sqrt()) as u64;
            t + step
        };
        for (index, &(now, sojourn)) in packets.iter().enumerate() {
            let mut ok_to_drop = false;
            if sojourn < target {
                first_above = 0;
            } else if first_above == 0 {
                first_above = now + interval;
            } else if now >= first_above {
                ok_to_drop = true;
            }
            if dropping {
                if !ok_to_drop {
                    dropping = false;
                } else if now >= drop_next {
                    dropped.push(index);
                    count += 1;
                    drop_next = law(drop_next, count);
                }
            } else if ok_to_drop {
                dropped.push(index);
                dropping = true;
                let delta = count - last_count;
                count = if delta > 1 && now.saturating_sub(drop_next) < 16 * interval {
                    delta
                } else {
                    1
                };
                drop_next = law(now, count);
                last_count = count;
            }
        }
        dropped
    }

    proptest! {
        #[test]
        fn agrees_with_the_rfc(
            steps in prop::collection::vec(
                (1_000_u64..5_000_000, prop_oneof![1 => 0_u64..5_000_000, 60 => 5_000_000_u64..50_000_000]),
                1..600,
            ),
        ) {
            let mut codel = Codel::new(&CodelProfile::default(), TickRate::from_hz(CLOCK));
            let mut now = 1;
            let packets: Vec<_> = steps.iter().map(|&(step, sojourn)| { now += step; (now, sojourn) }).collect();
            let dropped: Vec<_> = packets
                .iter()
                .enumerate()
                .filter(|&(_, &(now, sojourn))| codel.signals(Ticks(now), Ticks(sojourn), true))
                .map(|(index, _)| index)
                .collect();
            let expected = model(&packets, 5_000_000, 100_000_000);
            // Real and whole square roots may differ by a tick, and so a packet by one place.
            prop_assert_eq!(dropped.len(), expected.len());
            for (ours, theirs) in dropped.iter().zip(&expected) {
                prop_assert!(ours.abs_diff(*theirs) <= 1, "{:?} {:?}", dropped, expected);
            }
        }
    }

    #[test]
    fn the_drops_come_faster_by_the_square_root() {
        let mut codel = Codel::new(&CodelProfile::default(), TickRate::from_hz(CLOCK));
        let mut drops = Vec::new();
        for millisecond in 0..1_000 {
            let now = Ticks(millisecond * 1_000_000);
            if codel.signals(now, Ticks(20_000_000), true) {
                drops.push(millisecond);
            }
        }
        // 100 ms after it went above; then 100, 100/√2, 100/√3 ms after the one before.
        assert_eq!(drops[..5], [100, 200, 271, 329, 379]);
    }

    #[test]
    fn a_last_packet_and_a_short_wait_are_let_go() {
        let mut codel = Codel::new(&CodelProfile::default(), TickRate::from_hz(CLOCK));
        for millisecond in 0..10_000 {
            let now = Ticks(millisecond * 1_000_000);
            assert!(!codel.signals(now, Ticks(4_999_999), true));
            assert!(!codel.signals(now, Ticks(50_000_000), false));
        }
    }
}
