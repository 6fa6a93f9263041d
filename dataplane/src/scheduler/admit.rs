//! The way into a port's queues, or past them.

use arrayvec::ArrayVec;

use super::{PortScheduler, SHORTEST_FRAME, queue::Run};
use crate::{
    device::{BURST, Buffer},
    diffserv::Phb,
    packet_mask::first_packets,
    pipeline::{Admission, RunKey},
    stats::Drops,
};

impl<B: Buffer> PortScheduler<B> {
    /// Decides which of so many packets that are alike may join their class's queue or, where nothing
    /// waits and the shaper would let them go at once, go past it to those that leave; counts the others.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        key: &RunKey,
        packets: usize,
        leaving: &ArrayVec<B, BURST>,
        drops: &mut Drops,
    ) -> Admission {
        let passing = if self.lets_by(key) {
            packets.min(leaving.remaining_capacity())
        } else {
            0
        };
        let mut mask = first_packets(passing);
        if passing < packets {
            let run = self.run(key);
            let queue = &mut self.queues[key.phb.index()];
            let bounds = if self.strict >> key.phb.index() & 1 == 1 {
                (usize::MAX, usize::MAX)
            } else {
                (self.shared.limit(), self.shared.room(queue.len()))
            };
            let rest = packets - passing;
            mask |= queue.admit(key.dscp, &run, (rest, bounds), drops) << passing;
        }
        Admission {
            mask,
            packets,
            passing,
            is_here: true,
        }
    }

    /// Takes the packets that [`admit`](Self::admit) let in, or fewer.
    #[inline]
    pub(crate) fn enqueue(
        &mut self,
        key: &RunKey,
        admission: Admission,
        mut buffers: impl Iterator<Item = B>,
        leaving: &mut ArrayVec<B, BURST>,
    ) {
        let (phb, run) = (key.phb, self.run(key));
        let Admission {
            packets, passing, ..
        } = admission;
        if passing > 0 {
            self.pass_by(phb, run, buffers.by_ref().take(passing), leaving);
        }
        if passing < packets {
            let bit = 1 << phb.index();
            let strict = self.strict & bit != 0;
            let queue = &mut self.queues[phb.index()];
            let joined = queue.join(run, buffers, strict.then_some(&mut self.ef));
            if !strict {
                self.shared.take(joined);
            }
            if !queue.is_empty() {
                self.waiting |= bit;
            }
        }
    }

    /// Whether all of a burst go past their queue, when nobody leaves before them.
    #[inline]
    pub(crate) fn pass_all(&mut self, key: &RunKey, packets: usize) -> bool {
        let passes = self.lets_by(key);
        if passes {
            let run = self.run(key);
            self.note_passed(key.phb, run, (0, packets));
        }
        passes
    }

    #[inline]
    fn run(&self, key: &RunKey) -> Run {
        let frame_bytes = key.frame_bytes.max(SHORTEST_FRAME);
        let wire_bytes = self.overhead_bytes.saturating_add(frame_bytes.into());
        Run::of(wire_bytes, key.since)
    }

    /// Whether packets may go past the queues: all are empty, and the shaper would let go a whole burst
    /// of any.
    #[inline]
    fn lets_by(&mut self, key: &RunKey) -> bool {
        let index = key.phb.index();
        if self.waiting != 0
            || self.bypass.classes >> index & 1 == 0
            || !self.queues[index].lets_pass()
        {
            return false;
        }
        self.shaper.refill(key.since);
        self.shaper.bucket.credit() - self.bypass.cost >= self.bypass.burst_cost
    }

    /// Lets packets go past their empty queue, for which there is room.
    #[inline]
    fn pass_by(
        &mut self,
        phb: Phb,
        run: Run,
        buffers: impl Iterator<Item = B>,
        leaving: &mut ArrayVec<B, BURST>,
    ) {
        let before = leaving.len();
        leaving.extend(buffers);
        let passed = leaving.len() - before;
        let strict_end = self.note_passed(phb, run, (before, passed));
        // What has strict priority goes before what has not, of one burst, too.
        if before > strict_end
            && let Some(behind) = leaving.get_mut(strict_end..)
        {
            behind.rotate_right(passed);
        }
    }

    /// Writes down that packets go past their queue, behind so many others that leave. Says where they
    /// belong among these.
    #[inline]
    fn note_passed(&mut self, phb: Phb, mut run: Run, (before, passed): (usize, usize)) -> usize {
        let bypass = &mut self.bypass;
        if bypass.passed.is_empty() {
            bypass.strict_end = before;
        }
        let strict = self.strict >> phb.index() & 1 == 1;
        run.packets = u32::try_from(passed).unwrap_or(u32::MAX);
        let ef = strict.then_some(&mut self.ef);
        bypass.note(phb, run, &self.shaper.profile, ef);
        if !strict {
            return before;
        }
        let strict_end = bypass.strict_end;
        bypass.strict_end += passed;
        strict_end
    }
}
