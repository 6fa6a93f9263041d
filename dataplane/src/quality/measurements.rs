use voicelane_machine::{Allocator, Slab};

use super::{
    FlowQuality, PayloadTypes,
    clock::{Clocks, Moment},
    detail::Detail,
    kind::{Kind, Rtp},
    stream::Stream,
};
use crate::units::{TickRate, Ticks};

/// Bytes of RTP's fixed header (RFC 3550 section 5.1).
pub(crate) const RTP_LENGTH: usize = Rtp::LENGTH;

/// What is measured of the flows of one session table, in the places of their entries.
pub(crate) struct Measurements {
    streams: Slab<Stream>,
    details: Slab<Detail>,
    /// A bit for each place whose flow is measured: of others nothing else is touched.
    measured: Vec<u64>,
    clocks: Clocks,
    ticks: TickRate,
}

impl Measurements {
    /// For `capacity` entries; 0: nothing is measured.
    pub(crate) fn new(capacity: usize, ticks: TickRate, memory: &'static dyn Allocator) -> Self {
        Self {
            streams: Slab::with_capacity("streams", capacity, memory),
            details: Slab::with_capacity("stream details", capacity, memory),
            measured: vec![0; capacity.div_ceil(64)],
            clocks: Clocks::new(ticks),
            ticks,
        }
    }

    /// What [`Self::new`] takes of the allocator's memory.
    pub(crate) fn bytes(capacity: usize) -> usize {
        capacity * (size_of::<Stream>() + size_of::<Detail>())
    }

    /// Whether nothing can be measured.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.measured.is_empty()
    }

    /// A flow is in a place, and is measured if it has payload types. One that was there and was measured
    /// keeps what it has.
    pub(crate) fn install(&mut self, place: usize, new: bool, types: Option<PayloadTypes>) {
        let Some(types) = types.filter(|_| place < self.measured.len() * 64) else {
            return self.remove(place);
        };
        while self.streams.len() <= place {
            if !(self.streams.push(Stream::default()) && self.details.push(Detail::default())) {
                return;
            }
        }
        let keeps = !new && self.is_measured(place);
        self.measured[place / 64] |= 1 << (place % 64);
        let (stream, detail) = (&mut self.streams[place], &mut self.details[place]);
        if keeps {
            stream.forget_payload();
        } else {
            (*stream, *detail) = (Stream::default(), Detail::default());
        }
        detail.types = types;
    }

    /// The flow in a place is gone, or not measured any more.
    pub(crate) fn remove(&mut self, place: usize) {
        if let Some(bits) = self.measured.get_mut(place / 64) {
            *bits &= !(1 << (place % 64));
        }
    }

    #[inline(always)]
    pub(crate) fn is_measured(&self, place: usize) -> bool {
        let bits = self.measured.get(place / 64).copied();
        bits.unwrap_or_default() >> (place % 64) & 1 != 0
    }

    /// Asks the CPU for what the next packet of the flow in a place will touch.
    #[inline(always)]
    pub(crate) fn prefetch(&self, place: usize) {
        self.streams.prefetch(place);
    }

    /// Takes a packet whose UDP payload begins with these bytes, if it is the next one of the stream in
    /// a place; says whether it was. All others are for [`Self::take_other`].
    #[inline(always)]
    pub(crate) fn take_next(
        &mut self,
        place: usize,
        header: &[u8; RTP_LENGTH],
        moment: &mut Moment,
    ) -> bool {
        let stream = self.streams.get_mut(place);
        stream.is_some_and(|it| it.take_next(header, moment, &self.clocks))
    }

    /// Takes the UDP payload of any other packet; says whether that has a new number of the stream: no
    /// duplicate, nothing foreign, no other protocol.
    pub(crate) fn take_other(&mut self, place: usize, payload: &[u8], now: Ticks) -> bool {
        let stream = self.streams.get_mut(place);
        let Some((stream, detail)) = stream.zip(self.details.get_mut(place)) else {
            return false;
        };
        match (Kind::of(payload), payload.first_chunk()) {
            (Kind::Rtp, Some(header)) => {
                return stream.take(&Rtp::new(header), now, detail, &self.clocks);
            }
            (Kind::Rtcp, _) => detail.take_rtcp(payload),
            (kind, _) => detail.count(kind),
        }
        false
    }

    /// Counts a packet with a new number of the stream in a place that does not go on from here; so many
    /// new numbers of the same flow came after it. If the stream has begun since, it was a former one's.
    pub(crate) fn count_dropped(&mut self, place: usize, later: u32) {
        if let Some(detail) = self.details.get_mut(place)
            && let Some((base, highest)) = self.streams.get(place).and_then(|it| it.range(detail))
            && later <= highest.wrapping_sub(base)
        {
            detail.blocks.count_dropped(highest.wrapping_sub(later));
        }
    }

    /// What was measured of the flow in a place, if it is.
    pub(crate) fn reading(&self, place: usize) -> Option<FlowQuality> {
        let measured = self.streams.get(place).zip(self.details.get(place));
        let measured = measured.filter(|_| self.is_measured(place));
        measured.map(|(stream, detail)| FlowQuality::new(stream, detail, self.ticks))
    }
}
