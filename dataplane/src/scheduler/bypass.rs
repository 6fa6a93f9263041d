use arrayvec::ArrayVec;

use super::{Queues, queue::Run, set};
use crate::{
    device::BURST,
    diffserv::{BucketProfile, ClassSettings, EfMeter, Phb},
};

/// What goes past the queues: packets that find all of them empty, at a shaper that would let a whole
/// burst go, would leave them in the same turn. They leave without having been there, and are counted
/// as if they had.
#[derive(Debug)]
pub(super) struct Bypass {
    /// The classes whose packets may.
    pub(super) classes: Queues,
    pub(super) passed: ArrayVec<(Phb, Run), BURST>,
    /// Where each class's last run is among these, if it has one.
    last: [usize; Phb::COUNT],
    /// What they cost in all.
    pub(super) cost: i64,
    /// What the longest burst costs: with less credit somebody may have to wait, and the queues
    /// decide who.
    pub(super) burst_cost: i64,
    /// Where those that have strict priority end among the packets that leave.
    pub(super) strict_end: usize,
}

impl Bypass {
    pub(super) fn new(
        classes: &[ClassSettings; Phb::COUNT],
        longest: u32,
        profile: &BucketProfile,
    ) -> Self {
        // A maximum is charged with each packet.
        let may = |class: &ClassSettings| class.maximum.is_none();
        Self {
            classes: set(&classes.each_ref().map(may)),
            passed: ArrayVec::new(),
            last: [0; Phb::COUNT],
            cost: 0,
            burst_cost: profile.cost(longest) * BURST as i64,
            strict_end: 0,
        }
    }

    /// Writes down packets that have passed by: with the last ones of their class, where these are
    /// alike.
    #[inline]
    pub(super) fn note(
        &mut self,
        phb: Phb,
        mut run: Run,
        profile: &BucketProfile,
        ef: Option<&mut EfMeter>,
    ) {
        if run.packets == 0 {
            return;
        }
        let strict = ef.is_some();
        if let Some(ef) = ef {
            run.number = ef.arrive(run.packets);
        }
        self.cost += profile.cost(run.wire_bytes) * i64::from(run.packets);
        if let Some((class, last)) = self.passed.get_mut(self.last[phb.index()])
            && *class == phb
            && last.goes_on_with(&run, strict)
        {
            last.packets += run.packets;
        } else {
            self.last[phb.index()] = self.passed.len();
            self.passed.push((phb, run));
        }
    }
}
