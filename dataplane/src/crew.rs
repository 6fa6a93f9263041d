//! Several cores that forward together.
//!
//! Two roles: a worker forwards, from its receive queues to the hand-over; a scheduler has the queues
//! of some ports, their shapers and their transmit queues. Each port is exactly one core's. Without
//! cores for schedulers alone, workers are schedulers, too, and what they forward to their own ports
//! crosses no ring.

use rtrb::Consumer;

use crate::{
    bell::Bell,
    control::{Control, Twins},
    device::Device,
    fib::Fibs,
    pipeline::{Departing, Forwarding, HandOver, Scheduling, Way, ring},
    relay::Relay,
    settings::{Idle, Settings},
    spread::{Shared, Source, Spread},
    twins::{self, FromKernel},
    units::{PortIndex, TickRate},
    worker::{Parts, Worker},
};

/// How many packets wait between two cores at most.
pub const RING_PACKETS: usize = 1024;

/// How many cores do what. They are numbered from the workers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cores that forward, at least one.
    pub workers: usize,
    /// Cores that schedule only. Without any, workers schedule.
    pub schedulers: usize,
}

impl Layout {
    /// One core for all.
    pub const FUSED: Self = Self {
        workers: 1,
        schedulers: 0,
    };

    /// All cores.
    #[must_use]
    pub fn cores(self) -> usize {
        self.workers + self.schedulers
    }

    /// Which core has a port's queues.
    #[must_use]
    pub fn scheduler(self, port: PortIndex) -> usize {
        match self.schedulers {
            0 => port.index() % self.workers.max(1),
            schedulers => self.workers + port.index() % schedulers,
        }
    }

    /// Which worker receives all of a port that has one receive queue.
    #[must_use]
    pub fn receiver(self, port: PortIndex) -> usize {
        port.index() % self.workers.max(1)
    }

    /// How many rings there are from one core to another.
    #[must_use]
    pub fn rings(self, ports: usize) -> usize {
        let feeds = |from: usize, to: usize| from != to && self.own(to, ports).next().is_some();
        let workers = 0..self.workers;
        workers
            .map(|from| (0..self.cores()).filter(|&to| feeds(from, to)).count())
            .sum()
    }

    /// How many rings there are between workers for each port with [`PortSettings::one_receiver`].
    ///
    /// [`PortSettings::one_receiver`]: crate::settings::PortSettings::one_receiver
    #[must_use]
    pub fn spreading_rings(self) -> usize {
        self.workers.saturating_sub(1)
    }

    /// The ports whose queues a core has.
    fn own(self, core: usize, ports: usize) -> impl Iterator<Item = PortIndex> {
        let all = (0..=u8::MAX).map(PortIndex).take(ports);
        all.filter(move |&port| self.scheduler(port) == core)
    }
}

/// The cores of a data plane, each with its part, and the ways to them all.
pub struct Crew<D: Device> {
    /// In the order of [`Layout`].
    pub members: Vec<Worker<D>>,
    /// Asks all of them as if they were one.
    pub control: Control,
    /// The kernel twins' frames.
    pub twins: Twins<D::Buffer>,
    /// What makes one of them; to be run beside them. Nothing: there is one only.
    pub relay: Option<Relay>,
}

impl<D: Device> Crew<D> {
    /// Workers, each with its receive queues and route tables, and cores that schedule only; each
    /// core has the transmit queues of its own ports ([`Layout::scheduler`]).
    ///
    /// Workers share what the kernel gets ([`Settings::punt`]) in equal parts.
    pub fn new(settings: &Settings, workers: Vec<(D, Fibs)>, schedulers: Vec<D>) -> Self {
        let layout = Layout {
            workers: workers.len(),
            schedulers: schedulers.len(),
        };
        let ports = settings.ports.len();
        let clock = workers.first().map(|(device, _)| device.tick_rate());
        let clock = clock.unwrap_or(TickRate::from_hz(1));
        let (to_twins, from_twins, twins) = twins::ways(settings.queue_capacity, clock);
        let worker_settings = Settings {
            punt: settings.punt.share(layout.workers),
            ..settings.clone()
        };
        let mut from_twins = Some(from_twins);
        let sleeps = settings.idle == Idle::Adaptive;
        let bells: Vec<_> = (0..layout.cores()).map(|_| Bell::new(sleeps)).collect();
        let mut inlets: Vec<Vec<Consumer<Departing<D::Buffer>>>> =
            (0..layout.cores()).map(|_| Vec::new()).collect();
        let mut hand_over = |from: usize| {
            let mut rings = Vec::new();
            let mut behind = vec![None; layout.cores()];
            for to in (0..layout.cores()).filter(|&to| to != from) {
                if layout.own(to, ports).next().is_some() {
                    let (writer, reader) = ring(RING_PACKETS, bells[to].clone());
                    inlets[to].push(reader);
                    behind[to] = Some(rings.len());
                    rings.push(writer);
                }
            }
            let ways = (0..).map(PortIndex).zip(&settings.ports);
            let ways = ways.map(|(port, settings)| {
                let core = layout.scheduler(port);
                let before = layout.own(core, port.index()).count();
                let there = PortIndex(u8::try_from(before).unwrap_or(u8::MAX));
                Way::new(settings, behind[core], there)
            });
            (!rings.is_empty()).then(|| HandOver::new(ways.collect(), rings))
        };
        let outlets: Vec<_> = (0..layout.workers).map(&mut hand_over).collect();

        let forwards = workers
            .into_iter()
            .zip(outlets)
            .map(|((device, fibs), outlet)| {
                let (clock, now) = (device.tick_rate(), device.now());
                let twins = to_twins.clone();
                let forwarding = Forwarding::new(&worker_settings, fibs, twins, clock, now);
                (device, Some(forwarding), outlet)
            });
        let schedules = schedulers.into_iter().map(|device| (device, None, None));
        let mut sources = sources::<D::Buffer>(settings, layout, &bells).into_iter();
        let mut controls = Vec::new();
        let mut members = Vec::new();
        for (core, (device, forwarding, hand_over)) in forwards.chain(schedules).enumerate() {
            let (clock, now) = (device.tick_rate(), device.now());
            let rings = std::mem::take(&mut inlets[core]);
            let sources = sources.next().unwrap_or_default();
            let handed = sources
                .iter()
                .any(|source| matches!(source, Source::Handed(_)));
            let is_fed = handed || !rings.is_empty();
            let bell = (is_fed && sleeps).then(|| bells[core].clone());
            let own = layout.own(core, ports);
            let parts = Parts {
                scheduling: Scheduling::new(settings, own, rings, clock, now),
                device: Spread::new(device, sources),
                forwarding,
                hand_over,
                bell,
                // The first core takes what the kernel sends.
                from_twins: from_twins.take().unwrap_or_else(FromKernel::none),
            };
            let (member, control) = Worker::assemble(settings, parts);
            members.push(member);
            controls.push(control);
        }
        let (control, relay) = Relay::before(controls, layout.workers, settings);
        Self {
            members,
            control,
            twins,
            relay,
        }
    }
}

/// Where each worker's packets come from, port by port.
fn sources<B>(settings: &Settings, layout: Layout, bells: &[Bell]) -> Vec<Vec<Source<B>>> {
    let seed = rand::random();
    let mut sources: Vec<Vec<_>> = (0..layout.workers).map(|_| Vec::new()).collect();
    for (port, settings) in (0..).map(PortIndex).zip(&settings.ports) {
        if !settings.one_receiver {
            sources.iter_mut().for_each(|of| of.push(Source::Own));
            continue;
        }
        let receiver = layout.receiver(port);
        let mut workers = Vec::new();
        for (worker, (of, bell)) in sources.iter_mut().zip(bells).enumerate() {
            workers.push((worker != receiver).then(|| {
                let (writer, reader) = ring(RING_PACKETS, bell.clone());
                of.push(Source::Handed(reader));
                writer
            }));
        }
        sources[receiver].push(Source::Shared(Shared {
            workers,
            seed,
            lost: (0, 0),
        }));
    }
    sources
}
