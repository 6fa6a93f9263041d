use std::mem;

use arrayvec::ArrayVec;
use rtrb::Consumer;

use super::{
    outlet::{Admission, Departing, Outlet, RunKey},
    stages::tx,
};
use crate::{
    device::{BURST, Buffer, Device},
    scheduler::PortScheduler,
    settings::Settings,
    stats::{Drops, InterfaceCounters, PortCounters, Report, Table as _},
    trace::Tracer,
    units::{PortIndex, TickRate, Ticks},
};

/// A port, as the stages from its queues on see it.
#[derive(Debug)]
struct Port<B> {
    index: PortIndex,
    /// Whether its link is there.
    up: bool,
    /// Of what went out.
    counters: PortCounters,
    scheduler: PortScheduler<B>,
    /// Scheduled, and not taken by the device yet.
    leaving: ArrayVec<B, BURST>,
}

/// The scheduling half of the packet's way: the queues of some ports, and what is behind them.
#[derive(Debug)]
pub(crate) struct Egress<B> {
    ports: Vec<Port<B>>,
    /// What forwarding halves on other cores have handed over.
    rings: Vec<Consumer<Departing<B>>>,
    /// Of that, the telephony that was queued and what was refused, by the interface where it came in.
    handed: Vec<InterfaceCounters>,
}

impl<B: Buffer> Port<B> {
    /// Sends what the shaper lets go.
    #[inline]
    fn send<D: Device<Buffer = B>>(&mut self, device: &mut D, now: Ticks) -> usize {
        self.scheduler.schedule(&mut self.leaving, now);
        self.transmit(device)
    }

    /// The same; tells what has left the queues, and what became of it.
    #[cold]
    fn send_traced<D>(&mut self, device: &mut D, tracer: &mut Tracer, now: Ticks) -> usize
    where
        D: Device<Buffer = B>,
    {
        let before = self.scheduler.lengths();
        self.scheduler.schedule(&mut self.leaving, now);
        let after = self.scheduler.lengths();
        tracer.left(self.index, (&before, &after), &self.leaving, now);
        let moved = self.transmit(device);
        tracer.gone(self.index, self.up, &self.leaving, now);
        moved
    }

    /// Hands the device what has left the queues; returns how much of it is gone.
    #[inline]
    fn transmit<D: Device<Buffer = B>>(&mut self, device: &mut D) -> usize {
        if !self.up {
            // A driver would keep it, and send it when the link is back and it is of no use any more.
            let lost = self.leaving.len();
            self.leaving.clear();
            self.counters.link_lost_packets += lost as u64;
            return lost;
        }
        tx::transmit(&mut self.leaving, device, self.index, &mut self.counters)
    }
}

impl<B: Buffer> Outlet<B> for Egress<B> {
    #[inline]
    fn admit(&mut self, run: &RunKey, packets: usize, drops: &mut Drops) -> Admission {
        let port = &mut self.ports[run.egress.index()];
        port.scheduler.admit(run, packets, &port.leaving, drops)
    }

    #[inline]
    fn enqueue(&mut self, run: &RunKey, admission: Admission, buffers: impl Iterator<Item = B>) {
        let port = &mut self.ports[run.egress.index()];
        let leaving = &mut port.leaving;
        port.scheduler.enqueue(run, admission, buffers, leaving);
    }

    #[inline]
    fn pass(&mut self, run: &RunKey, buffers: &mut ArrayVec<B, BURST>) -> bool {
        let port = &mut self.ports[run.egress.index()];
        let passes = port.leaving.is_empty() && port.scheduler.pass_all(run, buffers.len());
        if passes {
            mem::swap(buffers, &mut port.leaving);
        }
        passes
    }

    fn waiting(&self, run: &RunKey) -> Option<usize> {
        let port = self.ports.get(run.egress.index())?;
        Some(port.scheduler.lengths()[run.phb.index()])
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.ports.iter().all(|port| port.scheduler.is_empty())
    }

    #[inline]
    fn flush(&mut self) {}
}

impl<B: Buffer> Egress<B> {
    /// For these of the ports, fed by these rings beside what is enqueued here.
    pub(crate) fn new(
        settings: &Settings,
        own: impl Iterator<Item = PortIndex>,
        rings: Vec<Consumer<Departing<B>>>,
        clock: TickRate,
        now: Ticks,
    ) -> Self {
        let port = |index: PortIndex| {
            let seed = settings.seed ^ u64::from(index.0) << 32;
            Some(Port {
                index,
                up: true,
                counters: PortCounters::default(),
                scheduler: PortScheduler::new(settings.ports.get(index.index())?, clock, now, seed),
                leaving: ArrayVec::new(),
            })
        };
        Self {
            ports: own.filter_map(port).collect(),
            rings,
            handed: vec![InterfaceCounters::default(); settings.interfaces().count()],
        }
    }

    /// Takes a burst from each ring to its queues; returns how many packets there were.
    pub(crate) fn take_in(&mut self) -> usize {
        let mut taken = 0;
        for ring in &mut self.rings {
            let count = ring.slots().min(BURST);
            if count == 0 {
                continue;
            }
            let Ok(mut chunk) = ring.read_chunk(count) else {
                continue;
            };
            let (first, second) = chunk.as_mut_slices();
            let mut runs: ArrayVec<(RunKey, usize), BURST> = ArrayVec::new();
            for Departing { buffer, run } in first.iter().chain(second.iter()) {
                buffer.prefetch_handle();
                match runs.last_mut() {
                    Some((last, packets)) if last == run => *packets += 1,
                    _ => runs.push((*run, 1)),
                }
            }
            let mut arrived = chunk.into_iter().map(|packet| packet.buffer);
            // Not reported: the kernel's own packets were received on no interface.
            let mut uncounted = InterfaceCounters::default();
            for (run, packets) in &runs {
                let counters = run.ingress.and_then(|it| self.handed.get_mut(it.index()));
                let counters = counters.unwrap_or(&mut uncounted);
                let Port {
                    scheduler, leaving, ..
                } = &mut self.ports[run.egress.index()];
                let admission = scheduler.admit(run, *packets, leaving, &mut counters.drops);
                let frame_bytes = run.frame_bytes.saturating_sub(run.tag_bytes.into());
                counters.queued(run.phb, admission.mask.count_ones(), frame_bytes);
                let buffers = arrived.by_ref().take(*packets).enumerate();
                let buffers = buffers
                    .filter(|(place, _)| admission.mask >> place & 1 == 1)
                    .map(|(_, buffer)| buffer);
                scheduler.enqueue(run, admission, buffers, leaving);
            }
            taken += count;
        }
        taken
    }

    /// Whether something is in a ring.
    pub(crate) fn has_mail(&self) -> bool {
        self.rings.iter().any(|ring| !ring.is_empty())
    }

    /// Sends what the shapers let go; returns how many packets were sent. Where several cores hand
    /// packets over, each port may send a burst for each. A tracer is there while it waits for packets.
    pub(crate) fn send<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        mut tracer: Option<&mut Tracer>,
        now: Ticks,
    ) -> usize {
        let mut sent = 0;
        for port in 0..self.ports.len() {
            for _ in 0..self.rings.len().max(1) {
                let burst = self.egress(device, port, tracer.as_deref_mut(), now);
                sent += burst;
                if burst < BURST {
                    break;
                }
            }
        }
        sent
    }

    /// Sends what one port's shaper lets go.
    fn egress<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        port: usize,
        tracer: Option<&mut Tracer>,
        now: Ticks,
    ) -> usize {
        let port = &mut self.ports[port];
        match tracer {
            None => port.send(device, now),
            Some(tracer) => port.send_traced(device, tracer, now),
        }
    }

    /// Says whether a port's link is there, if it is one of these.
    pub(crate) fn set_link(&mut self, port: PortIndex, up: bool) {
        for port in self.ports.iter_mut().filter(|own| own.index == port) {
            port.up = up;
        }
    }

    /// When the ports' queues next have something to send; `None` when they are empty.
    pub(crate) fn next_departure(&self) -> Option<Ticks> {
        self.ports
            .iter()
            .filter_map(|port| port.scheduler.next_departure())
            .min()
    }

    /// Adds these ports' counters and, where it came in, what was handed over; writes down their queues.
    pub(crate) fn fill(&mut self, report: &mut Report, now: Ticks) {
        for port in &mut self.ports {
            let Some(to) = report.ports.get_mut(port.index.index()) else {
                continue;
            };
            to.port.add_counts(&port.counters);
            for (to, from) in to.queues.iter_mut().zip(port.scheduler.queue_counters()) {
                to.copy_from(from);
            }
            port.scheduler.report_ef(&mut to.ef, now);
        }
        for (to, handed) in report.interfaces.iter_mut().zip(&self.handed) {
            to.add_counts(handed);
        }
    }

    /// Checks what must hold between turns.
    pub(crate) fn invariants(&self) {
        for port in &self.ports {
            port.scheduler.invariants();
        }
    }
}
