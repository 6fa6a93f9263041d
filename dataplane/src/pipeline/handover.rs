//! Where the forwarding half leaves packets for the scheduling half: by a call where both are on
//! one core, through rings where they are not.
//!
//! Each pair of cores has a ring of its own, with one core that writes and one that reads. A burst's
//! packets are written together and published at once, and what was written is read together: two
//! indices change hands a burst, and no line of memory is written by both cores for a packet. The
//! room that is left is asked for only when what is known of it runs short.

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};
use voicelane_dpdk::BURST;

use super::Scheduling;
use crate::{
    bell::Bell,
    counters::{DropReason, Drops},
    device::Buffer,
    diffserv::{Dscp, Phb, Service},
    places::{Places, first_places},
    settings::PortSettings,
    units::{InterfaceIndex, PortIndex, Ticks},
};

/// What packets have in common that came together, are equally long and go to one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Together {
    /// When their burst came in.
    pub(super) since: Ticks,
    /// In a ring: which of the scheduling core's own ports.
    pub(super) egress: PortIndex,
    pub(super) phb: Phb,
    pub(super) dscp: Dscp,
    /// How long each frame is, without FCS.
    pub(super) frame_bytes: u16,
    /// Where they came in, and are counted if their queue refuses them; nothing when they are the
    /// kernel's.
    pub(super) ingress: Option<InterfaceIndex>,
}

/// A packet on its way to another core.
#[derive(Debug)]
pub(crate) struct Departing<B> {
    pub(super) buffer: B,
    pub(super) run: Together,
}

/// Takes the packets that are to be sent.
pub(crate) trait Outlet<B> {
    /// Takes those that are let in of so many packets, at most a burst, that have a run in common: `hand`
    /// hears which, a bit for each, the first one's lowest, and gives them, or fewer. The others are
    /// counted.
    fn offer<I: Iterator<Item = B>>(
        &mut self,
        run: &Together,
        packets: usize,
        drops: &mut Drops,
        hand: impl FnOnce(Places, &mut Drops) -> I,
    );
    /// Takes a whole burst, if nothing is in its way; says so.
    fn pass(&mut self, run: &Together, buffers: &mut ArrayVec<B, BURST>) -> bool;
    /// Whether whatever comes now is most likely let in.
    fn is_open(&self) -> bool;
    /// The burst is over.
    fn flush(&mut self);
}

/// The writing end of a ring, with what is written of a burst and not published yet.
#[derive(Debug)]
pub(crate) struct RingWriter<T> {
    producer: Producer<T>,
    staged: ArrayVec<T, BURST>,
    /// How many more there was room for when the burst began.
    room: usize,
    reader: Bell,
}

/// A ring for `capacity` items, whose reader wakes at the bell.
pub(crate) fn ring<T>(capacity: usize, reader: Bell) -> (RingWriter<T>, Consumer<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let writer = RingWriter {
        producer,
        staged: ArrayVec::new(),
        room: 0,
        reader,
    };
    (writer, consumer)
}

impl<T> RingWriter<T> {
    /// The part of the ring that is kept for what may not be held up by the rest.
    fn reserve(&self) -> usize {
        self.producer.buffer().capacity() / 4
    }

    /// For how many more items there is room, beside what is kept for `favoured` ones.
    #[inline]
    fn room(&mut self, favoured: bool) -> usize {
        let reserve = self.reserve();
        if self.staged.is_empty() {
            self.room = self.producer.cached_slots();
            if self.room < BURST + reserve {
                self.room = self.producer.slots();
            }
        }
        let kept = if favoured { 0 } else { reserve };
        let room = self.room.saturating_sub(self.staged.len() + kept);
        room.min(self.staged.remaining_capacity())
    }

    /// Writes one item, if there is room.
    #[inline]
    pub(crate) fn write(&mut self, item: T, favoured: bool) -> Result<(), DropReason> {
        if self.room(favoured) == 0 {
            return Err(DropReason::RingFull);
        }
        self.staged.try_push(item).map_err(|_| DropReason::RingFull)
    }

    /// Publishes what was written, and wakes the reader.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        // There is room: it was asked for, and nobody else writes.
        if let Ok(chunk) = self.producer.write_chunk_uninit(self.staged.len()) {
            chunk.fill_from_iter(self.staged.drain(..));
        }
        self.reader.ring();
    }
}

/// Where a port's queues are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Behind which ring; nothing: on this core.
    pub(crate) ring: Option<usize>,
    /// Which of that core's ports it is.
    pub(crate) port: PortIndex,
    /// A bit for each strict class.
    strict: u16,
}

impl Way {
    pub(crate) fn new(settings: &PortSettings, ring: Option<usize>, port: PortIndex) -> Self {
        let strict = |(index, class): (usize, &crate::diffserv::ClassSettings)| {
            u16::from(class.service == Service::Strict) << index
        };
        let classes = settings.classes.iter().enumerate();
        Self {
            ring,
            port,
            strict: classes.map(strict).sum(),
        }
    }
}

/// The ways to the queues that are not all on this core.
#[derive(Debug)]
pub(crate) struct HandOver<B> {
    ways: Vec<Way>,
    rings: Vec<RingWriter<Departing<B>>>,
}

impl<B: Buffer> HandOver<B> {
    /// The ways to the ports, in their order.
    pub(crate) fn new(ways: Vec<Way>, rings: Vec<RingWriter<Departing<B>>>) -> Self {
        Self { ways, rings }
    }

    /// With the queues that are on this core.
    pub(crate) fn with<'a>(&'a mut self, here: &'a mut Scheduling<B>) -> impl Outlet<B> + 'a {
        Both { there: self, here }
    }
}

struct Both<'a, B> {
    there: &'a mut HandOver<B>,
    here: &'a mut Scheduling<B>,
}

impl<B> Both<'_, B> {
    /// Which of the rings leads to a run's queues, whether it is served before others, and the run as it
    /// is called there; no ring: the queues are here.
    #[inline]
    fn way(&self, run: &Together) -> (Option<usize>, bool, Together) {
        let way = self.there.ways[run.egress.index()];
        let strict = way.strict >> run.phb.index() & 1 == 1;
        let egress = way.port;
        (way.ring, strict, Together { egress, ..*run })
    }
}

impl<B: Buffer> Outlet<B> for Both<'_, B> {
    #[inline]
    fn offer<I: Iterator<Item = B>>(
        &mut self,
        run: &Together,
        packets: usize,
        drops: &mut Drops,
        hand: impl FnOnce(Places, &mut Drops) -> I,
    ) {
        let (ring, strict, run) = self.way(run);
        let Some(ring) = ring else {
            return self.here.offer(&run, packets, drops, hand);
        };
        let ring = &mut self.there.rings[ring];
        let admitted = packets.min(ring.room(strict));
        drops[DropReason::RingFull.index()] += (packets - admitted) as u64;
        let buffers = hand(first_places(admitted), drops);
        let departing = buffers.map(|buffer| Departing { buffer, run });
        ring.staged.extend(departing);
    }

    #[inline]
    fn pass(&mut self, run: &Together, buffers: &mut ArrayVec<B, BURST>) -> bool {
        let (ring, _, run) = self.way(run);
        ring.is_none() && self.here.pass(&run, buffers)
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.here.is_open()
    }

    #[inline]
    fn flush(&mut self) {
        for ring in &mut self.there.rings {
            ring.publish();
        }
    }
}
