use thiserror::Error;
pub use voicelane_types::{Colour, ColourMode, MeterKind, MeterSpec};

use super::{BucketError, BucketProfile, Dscp, TokenBucket};
use crate::units::{BitRate, TickRate, Ticks};

/// What becomes of a packet of one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourAction {
    /// Leaves the packet the code point that it has.
    Keep,
    /// Gives the packet this code point.
    Mark(Dscp),
    /// Drops the packet.
    Drop,
}

/// What becomes of the packets of each colour: the marker behind the meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marking {
    /// Of those within what was committed.
    pub green: ColourAction,
    /// Of those over it.
    pub yellow: ColourAction,
    /// Of those over all.
    pub red: ColourAction,
}

impl Marking {
    /// What becomes of a colour.
    #[inline]
    #[must_use]
    pub const fn action(&self, colour: Colour) -> ColourAction {
        match colour {
            Colour::Green => self.green,
            Colour::Yellow => self.yellow,
            Colour::Red => self.red,
        }
    }
}

/// Terms that no meter can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MeterError {
    /// Nothing would ever be green or yellow (RFC 2697 section 2: at least one must be larger
    /// than 0).
    #[error("CBS and EBS are both 0: every packet would be red; give one of them a size")]
    NoBurst,
    /// RFC 2698 section 2: the PIR must be equal to or greater than the CIR.
    #[error("PIR {pir} is under CIR {cir}: the peak must be at least what is committed")]
    PeakUnderCommitted { cir: BitRate, pir: BitRate },
    /// One that must not be 0, or does not fit the clock.
    #[error("{name}: {reason}")]
    Burst {
        /// "CBS", "EBS" or "PBS".
        name: &'static str,
        /// What is wrong with it.
        reason: BucketError,
    },
}

/// A meter's terms, in the clock's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterProfile {
    marker: Marker,
    mode: ColourMode,
    committed: BucketProfile,
    /// E or P. Of the single-rate marker only its depth counts: C fills it.
    second: BucketProfile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    SingleRate,
    TwoRate,
    Rfc4115,
}

impl MeterProfile {
    /// Checks a specification against its RFC and the clock.
    pub fn new(spec: &MeterSpec, clock: TickRate) -> Result<Self, MeterError> {
        let bucket = |name, rate: BitRate, bytes: u32, may_be_empty: bool| {
            BucketProfile::new(rate, bytes.into(), clock)
                .or_else(|reason| match reason {
                    BucketError::EmptyBurst if may_be_empty => {
                        Ok(BucketProfile::of_admitted(rate, 0, clock))
                    }
                    other => Err(other),
                })
                .map_err(|reason| MeterError::Burst { name, reason })
        };
        match spec.kind {
            MeterKind::SrTcm { ebs_bytes } | MeterKind::Rfc4115 { ebs_bytes, .. } => {
                if spec.cbs_bytes == 0 && ebs_bytes == 0 {
                    return Err(MeterError::NoBurst);
                }
                bucket("CBS", spec.cir, spec.cbs_bytes, true)?;
                bucket("EBS", spec.cir, ebs_bytes, true)?;
            }
            MeterKind::TrTcm { pir, pbs_bytes } => {
                if pir < spec.cir {
                    let cir = spec.cir;
                    return Err(MeterError::PeakUnderCommitted { cir, pir });
                }
                // RFC 2698 section 2: "both of them must be configured to be greater than 0".
                bucket("CBS", spec.cir, spec.cbs_bytes, false)?;
                bucket("PBS", pir, pbs_bytes, false)?;
            }
        }
        Ok(Self::of_admitted(spec, clock))
    }

    /// The same as [`Self::new`] of a specification that it has accepted at this clock: without the
    /// checks, for each packet.
    #[inline]
    pub(crate) fn of_admitted(spec: &MeterSpec, clock: TickRate) -> Self {
        let (marker, rate, bytes) = match spec.kind {
            MeterKind::SrTcm { ebs_bytes } => (Marker::SingleRate, spec.cir, ebs_bytes),
            MeterKind::TrTcm { pir, pbs_bytes } => (Marker::TwoRate, pir, pbs_bytes),
            MeterKind::Rfc4115 { eir, ebs_bytes } => (Marker::Rfc4115, eir, ebs_bytes),
        };
        Self {
            marker,
            mode: spec.mode,
            committed: BucketProfile::of_admitted(spec.cir, spec.cbs_bytes, clock),
            second: BucketProfile::of_admitted(rate, bytes, clock),
        }
    }
}

/// The colour by what is committed, and by the excess over it.
#[inline]
fn by_excess(came_with: Colour, is_committed: bool, is_excess: bool) -> Colour {
    if came_with == Colour::Green && is_committed {
        Colour::Green
    } else if came_with != Colour::Red && is_excess {
        Colour::Yellow
    } else {
        Colour::Red
    }
}

/// A three-colour marker's state. Time is an argument; it may stand still, and going back counts as
/// standing still. It may be given another profile at any time: it goes on with the credit that it
/// has, as far as the new bursts hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    committed: TokenBucket,
    second: TokenBucket,
}

impl Meter {
    /// "The token buckets are initially (at time 0) full" (section 3 of each RFC).
    #[must_use]
    pub fn full(profile: &MeterProfile, now: Ticks) -> Self {
        Self {
            committed: TokenBucket::full(&profile.committed, now),
            second: TokenBucket::full(&profile.second, now),
        }
    }

    /// Of a flow that had a policer until now: its credit goes on as what is committed, and the
    /// second bucket is full.
    pub(crate) fn after_policer(profile: &MeterProfile, policer: TokenBucket) -> Self {
        Self {
            committed: policer,
            second: TokenBucket::full(&profile.second, policer.last()),
        }
    }

    /// The colour of a packet of `bytes` at the IP layer that came with the colour `came_with`.
    #[inline]
    pub fn colour(
        &mut self,
        profile: &MeterProfile,
        now: Ticks,
        bytes: u32,
        came_with: Colour,
    ) -> Colour {
        let came_with = match profile.mode {
            // "The Meter assumes that the packet stream is uncolored": the rules for green ones.
            ColourMode::Blind => Colour::Green,
            ColourMode::Aware => came_with,
        };
        if profile.marker == Marker::SingleRate {
            // RFC 2697 section 3: "If Tc is less than CBS, Tc is incremented by one, else if Te is less
            // than EBS, Te is incremented by one, else neither".
            let overflow = self.committed.refill_with_overflow(&profile.committed, now);
            self.second.pour(&profile.second, now, overflow);
        } else {
            self.committed.refill(&profile.committed, now);
            self.second.refill(&profile.second, now);
        }
        let left = self.committed.left_after(&profile.committed, bytes);
        let second_left = self.second.left_after(&profile.second, bytes);
        let colour = match profile.marker {
            // RFC 2697 section 3: "If the packet has been precolored as green and Tc(t)-B >= 0, the
            // packet is green and Tc is decremented by B, else if the packet has been precolored as
            // green or yellow and if Te(t)-B >= 0, the packet is yellow and Te is decremented by B, else
            // the packet is red".
            Marker::SingleRate => by_excess(came_with, left >= 0, second_left >= 0),
            // RFC 2698 section 3: "If the packet has been precolored as red or if Tp(t)-B < 0, the packet
            // is red, else if the packet has been precolored as yellow or if Tc(t)-B < 0, the packet is
            // yellow and Tp is decremented by B, else the packet is green and both Tp and Tc are
            // decremented by B".
            Marker::TwoRate if came_with == Colour::Red || second_left < 0 => Colour::Red,
            Marker::TwoRate if came_with == Colour::Yellow || left < 0 => Colour::Yellow,
            Marker::TwoRate => Colour::Green,
            // RFC 4115, of a green packet: "if Tc(t)-B > 0, the packet is green, and Tc(t) is decremented
            // by B; else if Te(t)-B > 0, the packet is yellow, and Te(t) is decremented by B; else red".
            // Of a yellow one: only the second half. "Incoming red packets are not tested". More than 0,
            // not 0 or more as in the other two.
            Marker::Rfc4115 => by_excess(came_with, left > 0, second_left > 0),
        };
        if colour == Colour::Green {
            self.committed.charge(&profile.committed, bytes);
        }
        let takes_both = colour == Colour::Green && profile.marker == Marker::TwoRate;
        if colour == Colour::Yellow || takes_both {
            self.second.charge(&profile.second, bytes);
        }
        colour
    }

    /// Time of the last packet.
    #[must_use]
    pub fn last(&self) -> Ticks {
        self.committed.last()
    }

    /// Checks what must hold between calls with one profile.
    pub fn invariants(&self, profile: &MeterProfile) {
        self.committed.invariants(&profile.committed);
        self.second.invariants(&profile.second);
        debug_assert!(
            self.committed.left_after(&profile.committed, 0) >= 0
                && self.second.left_after(&profile.second, 0) >= 0,
            "a meter never owes"
        );
    }
}

#[cfg(test)]
mod tests;
