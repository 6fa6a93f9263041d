//! Where the forwarding half leaves packets for the scheduling half: by a call where both are on
//! one core, through rings where they are not.
//!
//! Each pair of cores has a ring of its own, with one core that writes and one that reads. A burst's
//! packets are written together and published at once, and what was written is read together: two
//! indices change hands a burst, and no line of memory is written by both cores for a packet. The
//! room that is left is asked for only when what is known of it runs short.

use arrayvec::ArrayVec;

use super::ring::RingWriter;
use crate::{
    device::{BURST, Buffer},
    diffserv::{ClassSettings, Service},
    packet_mask::first_packets,
    pipeline::{Admission, Departing, Egress, Outlet, RunKey},
    settings::PortSettings,
    stats::{DropReason, Drops},
    units::PortIndex,
};

/// Where a port's queues are.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortLocation {
    /// The ring that leads there; `None`: on this core.
    pub(super) ring: Option<usize>,
    /// Which of that core's ports it is.
    pub(super) port: PortIndex,
    /// A bit for each strict class.
    strict: u16,
}

impl PortLocation {
    pub(super) fn new(settings: &PortSettings, ring: Option<usize>, port: PortIndex) -> Self {
        let strict = |(index, class): (usize, &ClassSettings)| {
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

/// Sends packets to the ports' queues, some of which are on other cores.
#[derive(Debug)]
pub(super) struct Handoff<B> {
    ports: Vec<PortLocation>,
    rings: Vec<RingWriter<Departing<B>>>,
}

impl<B: Buffer> Handoff<B> {
    /// `ports` in the order of [`PortIndex`]; a port's `ring` is an index into `rings`.
    pub(super) fn new(ports: Vec<PortLocation>, rings: Vec<RingWriter<Departing<B>>>) -> Self {
        Self { ports, rings }
    }

    /// An outlet that also has the queues of this core.
    pub(super) fn with<'a>(&'a mut self, here: &'a mut Egress<B>) -> impl Outlet<B> + 'a {
        Both { there: self, here }
    }
}

struct Both<'a, B> {
    there: &'a mut Handoff<B>,
    here: &'a mut Egress<B>,
}

impl<B> Both<'_, B> {
    /// Which of the rings leads to a run's queues, whether it is served before others, and the run as it
    /// is called there; no ring: the queues are here.
    #[inline]
    fn locate(&self, run: &RunKey) -> (Option<usize>, bool, RunKey) {
        let location = self.there.ports[run.egress.index()];
        let strict = location.strict >> run.phb.index() & 1 == 1;
        let egress = location.port;
        (location.ring, strict, RunKey { egress, ..*run })
    }
}

impl<B: Buffer> Outlet<B> for Both<'_, B> {
    #[inline]
    fn admit(&mut self, run: &RunKey, packets: usize, drops: &mut Drops) -> Admission {
        let (ring, strict, run) = self.locate(run);
        let Some(ring) = ring else {
            return self.here.admit(&run, packets, drops);
        };
        let admitted = packets.min(self.there.rings[ring].room(strict));
        drops[DropReason::RingFull.index()] += (packets - admitted) as u64;
        Admission {
            mask: first_packets(admitted),
            packets,
            passing: 0,
            is_here: false,
        }
    }

    #[inline]
    fn enqueue(&mut self, run: &RunKey, admission: Admission, buffers: impl Iterator<Item = B>) {
        let (ring, _, run) = self.locate(run);
        let Some(ring) = ring else {
            return self.here.enqueue(&run, admission, buffers);
        };
        let departing = buffers.map(|buffer| Departing { buffer, run });
        self.there.rings[ring].staged.extend(departing);
    }

    #[inline]
    fn pass(&mut self, run: &RunKey, buffers: &mut ArrayVec<B, BURST>) -> bool {
        let (ring, _, run) = self.locate(run);
        ring.is_none() && self.here.pass(&run, buffers)
    }

    fn waiting(&self, run: &RunKey) -> Option<usize> {
        let (ring, _, run) = self.locate(run);
        ring.map_or_else(|| self.here.waiting(&run), |_| None)
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
