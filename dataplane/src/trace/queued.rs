//! What becomes of traced packets in their queues. A packet is known by its place there, and by where its frame
//! lies once it has left: of what controlled delay drops, no frame leaves.

use std::mem;

use super::{QueueEnd, TraceRecord, Tracer};
use crate::{
    device::Buffer,
    diffserv::Phb,
    units::{InterfaceIndex, PortIndex, Ticks},
};

/// How many packets each queue of a port has.
pub(crate) type Lengths = [usize; Phb::COUNT];

/// A traced packet in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Its record's place.
    record: usize,
    port: PortIndex,
    phb: Phb,
    /// How many packets leave before it.
    ahead: usize,
    /// Where its frame lies.
    frame: usize,
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

    /// A packet of the burst that came in at `ingress` at `now` has joined its queue behind so many others, or was sent
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
        let end = match ahead {
            Some(ahead) => {
                let frame = address(buffer);
                self.waiting.push(Waiting {
                    record,
                    port,
                    phb,
                    ahead,
                    frame,
                });
                QueueEnd::Waits
            }
            None => QueueEnd::Sent(now),
        };
        if let Some(record) = self.records.get_mut(record) {
            record.queue_end = Some(end);
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
            if it.port != port {
                return true;
            }
            let queue = it.phb.index();
            let left = before[queue].saturating_sub(after[queue]);
            if let Some(ahead) = it.ahead.checked_sub(left) {
                it.ahead = ahead;
                return true;
            }
            let is_sent = leaving.iter().any(|buffer| address(buffer) == it.frame);
            if let Some(record) = records.get_mut(it.record) {
                record.queue_end = Some(match is_sent {
                    true => QueueEnd::Sent(now),
                    false => QueueEnd::Dropped(now),
                });
            }
            false
        });
    }

    /// Leaves to the next tracer the packets that wait since `since` or later, and those that came after the first
    /// of them.
    pub(crate) fn hand_on(&mut self, next: &mut Self, since: Ticks) {
        let came = |records: &[TraceRecord], it: &Waiting| records.get(it.record).map(|it| it.at);
        let mut waiting = mem::take(&mut self.waiting);
        waiting.retain(|it| came(&self.records, it).is_some_and(|at| at >= since));
        let Some(first) = waiting
            .iter()
            .filter_map(|it| came(&self.records, it))
            .min()
        else {
            return;
        };
        let from = self.records.partition_point(|record| record.at < first);
        let held = self.records.drain(from..);
        let (count, room) = (held.len(), next.room);
        next.records.extend(held.take(room));
        next.missed += count.saturating_sub(room) as u64;
        let moved = waiting.into_iter().filter_map(|it| {
            let record = it.record.checked_sub(from)?;
            (record < room).then_some(Waiting { record, ..it })
        });
        next.waiting.extend(moved);
    }
}
