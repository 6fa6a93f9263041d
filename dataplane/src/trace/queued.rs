//! What becomes of traced packets in their queues and behind them. A packet is known by its place in its queue, and
//! by where its frame lies once it has left that: of what controlled delay drops, no frame leaves.

use super::{QueueEnd, TraceRecord, Tracer};
use crate::{
    device::Buffer,
    diffserv::Phb,
    units::{InterfaceIndex, PortIndex, Ticks},
};

/// How many packets each queue of a port has.
pub(crate) type Lengths = [usize; Phb::COUNT];

/// A traced packet that the device has not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Its record's place.
    record: usize,
    port: PortIndex,
    phb: Phb,
    place: Place,
    /// Where its frame lies.
    frame: usize,
}

/// Where such a packet is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In its queue, behind so many others.
    Queue(usize),
    /// Past its queue: the device may take it at once.
    Passed,
    /// Out of its queue.
    Leaving,
}

impl Waiting {
    fn is_among<B: Buffer>(&self, buffers: &[B]) -> bool {
        buffers.iter().any(|buffer| address(buffer) == self.frame)
    }
}

/// Where a frame lies, which no other one does as long as it is there.
fn address<B: Buffer>(buffer: &B) -> usize {
    buffer.bytes().as_ptr().addr()
}

impl Tracer {
    /// Whether somebody has to tell what leaves the queues.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A packet of the burst that came in at `ingress` at `now` has joined its queue behind so many others, or has gone
    /// past it.
    pub(crate) fn queued<B: Buffer>(
        &mut self,
        (now, ingress, place): (Ticks, InterfaceIndex, usize),
        (port, phb): (PortIndex, Phb),
        ahead: Option<usize>,
        buffer: &B,
    ) {
        let mut records = self.records.iter();
        // Bursts of several ports have one time.
        let is_its = |it: &TraceRecord| (it.at, it.ingress, it.place) == (now, ingress, place);
        let Some(record) = records.rposition(is_its) else {
            return;
        };
        self.waiting.push(Waiting {
            record,
            port,
            phb,
            place: ahead.map_or(Place::Passed, Place::Queue),
            frame: address(buffer),
        });
        if let Some(record) = self.records.get_mut(record) {
            record.queue_end = Some(QueueEnd::Waits);
        }
    }

    /// Packets have left a port's queues, and are among these unless they were dropped.
    #[cold]
    pub(crate) fn left<B: Buffer>(
        &mut self,
        port: PortIndex,
        (before, after): (&Lengths, &Lengths),
        leaving: &[B],
        now: Ticks,
    ) {
        let Self {
            waiting, records, ..
        } = self;
        waiting.retain_mut(|it| {
            let Place::Queue(ahead) = it.place else {
                return true;
            };
            if it.port != port {
                return true;
            }
            let queue = it.phb.index();
            let left = before[queue].saturating_sub(after[queue]);
            if let Some(ahead) = ahead.checked_sub(left) {
                it.place = Place::Queue(ahead);
                return true;
            }
            it.place = Place::Leaving;
            let leaves = it.is_among(leaving);
            if !leaves && let Some(record) = records.get_mut(it.record) {
                record.queue_end = Some(QueueEnd::Dropped(now));
            }
            leaves
        });
    }

    /// A port's device has taken what had left the queues but for `kept`, or that was dropped as its link is down.
    #[cold]
    pub(crate) fn gone<B: Buffer>(&mut self, port: PortIndex, up: bool, kept: &[B], now: Ticks) {
        let Self {
            waiting, records, ..
        } = self;
        waiting.retain_mut(|it| {
            if it.port != port || matches!(it.place, Place::Queue(_)) {
                return true;
            }
            let passed = matches!(it.place, Place::Passed);
            it.place = Place::Leaving;
            let is_kept = it.is_among(kept);
            if !is_kept && let Some(record) = records.get_mut(it.record) {
                record.queue_end = Some(match up {
                    true if passed => QueueEnd::Sent(record.at),
                    true => QueueEnd::Sent(now),
                    false => QueueEnd::LinkDown(now),
                });
            }
            is_kept
        });
    }

    /// Leaves to the next tracer the packets that wait since `since` or later, and those that came after the first
    /// of them.
    pub(crate) fn hand_on(&mut self, next: &mut Self, since: Ticks) {
        let Self {
            waiting, records, ..
        } = self;
        let came = |records: &[TraceRecord], it: &Waiting| records.get(it.record).map(|it| it.at);
        waiting.retain(|it| came(records, it).is_some_and(|at| at >= since));
        let times = waiting.iter().filter_map(|it| came(records, it));
        let Some(first) = times.min() else {
            return;
        };
        let from = records.partition_point(|record| record.at < first);
        let held = records.drain(from..);
        let (count, room) = (held.len(), next.room);
        next.records.extend(held.take(room));
        next.missed += count.saturating_sub(room) as u64;
        // Each keeps its memory, which only the control side frees.
        let moved = waiting.drain(..).filter_map(|it| {
            let record = it.record.checked_sub(from)?;
            (record < room).then_some(Waiting { record, ..it })
        });
        next.waiting.extend(moved);
    }
}

#[cfg(test)]
mod tests {
    use arrayvec::ArrayVec;

    use super::*;
    use crate::trace::{Fate, TraceFilter};

    fn waits(at: u64) -> TraceRecord {
        TraceRecord {
            at: Ticks(at),
            ingress: InterfaceIndex(0),
            frame: ArrayVec::new(),
            frame_bytes: 60,
            header: None,
            session: None,
            spoofed: None,
            rule: None,
            marked: None,
            exit: None,
            fate: Fate::Queued,
            queue_end: Some(QueueEnd::Waits),
            place: 0,
        }
    }

    /// A worker neither allocates nor frees: a tracer that is given back has the memory that it came with.
    #[test]
    fn what_is_handed_on_leaves_its_memory_behind() {
        let room = |tracer: &Tracer| {
            let Tracer {
                records, waiting, ..
            } = tracer;
            let records = (records.as_ptr().addr(), records.capacity());
            (records, waiting.as_ptr().addr(), waiting.capacity())
        };
        for since in [0, 1, 9] {
            let mut tracers = [10, 1].map(|room| Tracer::new(TraceFilter::default(), room));
            let before = tracers.each_ref().map(|tracer| room(tracer));
            let [old, next] = &mut tracers;
            old.records.extend([0, 1, 2].map(waits));
            old.waiting.extend([0, 1, 2].map(|record| Waiting {
                record,
                port: PortIndex(0),
                phb: Phb::Standard,
                place: Place::Queue(record),
                frame: 0,
            }));
            old.hand_on(next, Ticks(since));
            let left = usize::try_from(since).unwrap().min(3);
            let moved = usize::from(left < 3);
            assert_eq!((old.records.len(), old.waiting.len()), (left, 0));
            assert_eq!((next.records.len(), next.waiting.len()), (moved, moved));
            assert_eq!(tracers.each_ref().map(|tracer| room(tracer)), before);
        }
    }
}
