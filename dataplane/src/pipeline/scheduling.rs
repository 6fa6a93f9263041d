use arrayvec::ArrayVec;
use voicelane_dpdk::BURST;

use super::{schedule::PortScheduler, tx};
use crate::{
    counters::{DropReason, PortCounters, PortReport},
    device::{Buffer, Device},
    diffserv::{Dscp, Phb},
    settings::Settings,
    units::{PortIndex, TickRate, Ticks},
};

/// A port, as the stages from its queues on see it.
#[derive(Debug)]
struct Port<B> {
    /// Whether its link is there.
    up: bool,
    /// Of what went out.
    counters: PortCounters,
    scheduler: PortScheduler<B>,
    /// Scheduled, and not taken by the device yet.
    leaving: ArrayVec<B, BURST>,
}

/// The scheduling half of the packet's way: the ports' queues, and what is behind them.
#[derive(Debug)]
pub(crate) struct Scheduling<B> {
    ports: Vec<Port<B>>,
}

impl<B: Buffer> Scheduling<B> {
    pub(crate) fn new(settings: &Settings, clock: TickRate, now: Ticks) -> Self {
        let ports = settings.ports.iter().map(|port| Port {
            up: true,
            counters: PortCounters::default(),
            scheduler: PortScheduler::new(port, clock, now),
            leaving: ArrayVec::new(),
        });
        Self {
            ports: ports.collect(),
        }
    }

    /// Adds packets of one code point to their class's queue at a port, which counts them. Those that
    /// are refused are dropped, and `refused` hears why.
    #[inline]
    pub(super) fn enqueue(
        &mut self,
        egress: PortIndex,
        (phb, dscp): (Phb, Dscp),
        buffers: impl Iterator<Item = B>,
        now: Ticks,
        refused: impl FnMut(DropReason),
    ) {
        let scheduler = &mut self.ports[egress.index()].scheduler;
        scheduler.enqueue(phb, dscp, buffers, now, refused);
    }

    /// Sends what a port's shaper lets go; returns how many packets were sent.
    pub(crate) fn egress<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        egress: PortIndex,
        now: Ticks,
    ) -> usize {
        let port = &mut self.ports[egress.index()];
        port.scheduler.schedule(&mut port.leaving, now);
        if !port.up {
            // A driver would keep it, and send it when the link is back and it is of no use any more.
            let lost = port.leaving.len();
            port.leaving.clear();
            port.counters.link_lost_packets += lost as u64;
            return lost;
        }
        tx::transmit(&mut port.leaving, device, egress, &mut port.counters)
    }

    /// Says whether a port's link is there.
    pub(crate) fn set_link(&mut self, port: PortIndex, up: bool) {
        if let Some(port) = self.ports.get_mut(port.index()) {
            port.up = up;
        }
    }

    /// When the ports' queues next have something to send; nothing when they are empty.
    pub(crate) fn next_departure(&self) -> Option<Ticks> {
        self.ports
            .iter()
            .filter_map(|port| port.scheduler.next_departure())
            .min()
    }

    /// Writes down each port's counters and queues.
    pub(crate) fn fill(&mut self, reports: &mut [PortReport], now: Ticks) {
        for (to, port) in reports.iter_mut().zip(&mut self.ports) {
            to.port = port.counters;
            for (to, from) in to.queues.iter_mut().zip(port.scheduler.queue_counters()) {
                to.copy_from(from);
            }
            port.scheduler.report_ef(&mut to.ef, now);
        }
    }

    /// Checks what must hold between turns.
    pub(crate) fn invariants(&self) {
        for port in &self.ports {
            port.scheduler.invariants();
        }
    }
}
