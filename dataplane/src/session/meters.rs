use super::{Policer, Terms};
use crate::{
    diffserv::{
        Colour, ColourAction, ColourMode, Dscp, Marking, Meter, MeterKind, MeterProfile, MeterSpec,
        TokenBucket,
    },
    stats::Count,
    units::{TickRate, Ticks},
};

/// A flow's three-colour meter, what becomes of each colour, and how many packets had it. Two cache
/// lines, touched for such flows only.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Metered {
    meter: Meter,
    spec: MeterSpec,
    marking: Marking,
    /// By [`Colour::index`].
    colours: [Count; 3],
}

impl Metered {
    /// Of a new flow; its terms have been admitted at this clock.
    pub(super) fn new(dscp: Dscp, terms: &Terms, clock: TickRate, now: Ticks) -> Self {
        let (spec, marking) = as_meter(dscp, terms);
        Self {
            meter: Meter::full(&MeterProfile::of_admitted(&spec, clock), now),
            spec,
            marking,
            colours: [Count::default(); 3],
        }
    }

    /// Of a flow that had a policer: its credit is what is committed, what conformed was green and
    /// what exceeded red.
    pub(super) fn after_policer(
        dscp: Dscp,
        terms: &Terms,
        clock: TickRate,
        bucket: TokenBucket,
        [conforming, exceeding]: [Count; 2],
    ) -> Self {
        let (spec, marking) = as_meter(dscp, terms);
        Self {
            meter: Meter::after_policer(&MeterProfile::of_admitted(&spec, clock), bucket),
            spec,
            marking,
            colours: [conforming, Count::default(), exceeding],
        }
    }

    /// Takes new terms, keeps the credit and the counters.
    pub(super) fn modify(&mut self, dscp: Dscp, terms: &Terms) {
        (self.spec, self.marking) = as_meter(dscp, terms);
    }

    /// Meters a packet that came with a code point: the one to mark it with; `None` if its
    /// colour is dropped. Not inlined: it would be in the way of the policers.
    #[inline(never)]
    pub(super) fn mark(
        &mut self,
        clock: TickRate,
        now: Ticks,
        ip_bytes: u32,
        came_with: Dscp,
    ) -> Option<Dscp> {
        let profile = MeterProfile::of_admitted(&self.spec, clock);
        let colour = self
            .meter
            .colour(&profile, now, ip_bytes, Colour::of(came_with));
        self.colours[colour.index()].add(ip_bytes);
        match self.marking.action(colour) {
            ColourAction::Keep => Some(came_with),
            ColourAction::Mark(dscp) => Some(dscp),
            ColourAction::Drop => None,
        }
    }

    pub(super) fn colours(&self) -> [Count; 3] {
        self.colours
    }

    /// Time of the last packet.
    pub(super) fn last(&self) -> Ticks {
        self.meter.last()
    }
}

/// A policer is a single-rate marker without an excess burst whose red is dropped, to the token:
/// so a flow that has once had a meter keeps its counters when it gets a policer again.
fn as_meter(dscp: Dscp, terms: &Terms) -> (MeterSpec, Marking) {
    let green = ColourAction::Mark(dscp);
    match *terms {
        Terms::Policer(Policer { rate, burst_bytes }) => {
            let spec = MeterSpec {
                kind: MeterKind::SrTcm { ebs_bytes: 0 },
                cir: rate,
                cbs_bytes: burst_bytes,
                mode: ColourMode::Blind,
            };
            let (yellow, red) = (ColourAction::Drop, ColourAction::Drop);
            (spec, Marking { green, yellow, red })
        }
        Terms::ThreeColour { spec, yellow, red } => (spec, Marking { green, yellow, red }),
    }
}

/// The meters of the flows that have one, each in a place of its own.
#[derive(Debug)]
pub(super) struct Meters {
    places: Vec<Metered>,
    free: Vec<u32>,
}

impl Meters {
    /// Room for as many. Memory is used as meters come.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: Vec::with_capacity(capacity),
            free: Vec::new(),
        }
    }

    /// Puts a meter into a free place.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are no more meters than flows, whose number fits"
    )]
    pub(super) fn insert(&mut self, metered: Metered) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = metered;
            return place;
        }
        self.places.push(metered);
        (self.places.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, place: u32) {
        self.free.push(place);
    }

    pub(super) fn at(&self, place: u32) -> &Metered {
        &self.places[place as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, place: u32) -> &mut Metered {
        &mut self.places[place as usize]
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_two_cache_lines() {
        assert_eq!(size_of::<Metered>(), 128);
    }
}
