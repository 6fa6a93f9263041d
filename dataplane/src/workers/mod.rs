//! Several cores that forward together.
//!
//! Two roles: a worker forwards, from its receive queues to the handoff; a scheduler has the queues
//! of some ports, their shapers and their transmit queues. Each port is exactly one core's. Without
//! cores for schedulers alone, workers are schedulers, too, and what they forward to their own ports
//! crosses no ring.

mod fan_out;
mod handoff;
mod layout;
mod ring;
mod software_rss;
mod stalls;
mod wakeup;
mod worker;

use rtrb::Consumer;

pub use fan_out::FanOut;
pub use layout::Layout;
pub use worker::Worker;

use handoff::{Handoff, PortLocation};
use ring::ring;
use software_rss::{Distributor, ReceiveQueue, SoftwareRss};
use wakeup::Wakeup;
use worker::WorkerParts;

use crate::{
    control::{
        Control, Twins,
        twins::{self, FromKernel},
    },
    device::Device,
    pipeline::{Departing, Egress, Ingress},
    routing::Fibs,
    settings::{Idle, Settings},
    units::{PortIndex, TickRate},
};

/// How many packets wait between two cores at most.
pub const RING_PACKETS: usize = 1024;

/// The cores of a data plane, each with its part, and the ways to them all.
pub struct Workers<D: Device> {
    /// In the order of [`Layout`].
    pub cores: Vec<Worker<D>>,
    /// Asks all of them as if they were one.
    pub control: Control,
    /// The kernel twins' frames.
    pub twins: Twins<D::Buffer>,
    /// What makes one of them; to be run beside them. `None`: there is one only.
    pub fan_out: Option<FanOut>,
}

impl<D: Device> Workers<D> {
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
        let (to_twins, from_twins, twins) = twins::channels(settings.queue_capacity, clock);
        let worker_settings = Settings {
            punt: settings.punt.share(layout.workers),
            ..settings.clone()
        };
        let mut from_twins = Some(from_twins);
        let sleeps = settings.idle == Idle::Adaptive;
        let wakeups: Vec<_> = (0..layout.cores()).map(|_| Wakeup::new(sleeps)).collect();
        let mut inlets: Vec<Vec<Consumer<Departing<D::Buffer>>>> =
            (0..layout.cores()).map(|_| Vec::new()).collect();
        let mut handoff = |from: usize| {
            let mut rings = Vec::new();
            let mut behind = vec![None; layout.cores()];
            for to in (0..layout.cores()).filter(|&to| to != from) {
                if layout.own(to, ports).next().is_some() {
                    let (writer, reader) = ring(RING_PACKETS, wakeups[to].clone());
                    inlets[to].push(reader);
                    behind[to] = Some(rings.len());
                    rings.push(writer);
                }
            }
            let locations = (0..).map(PortIndex).zip(&settings.ports);
            let locations = locations.map(|(port, settings)| {
                let core = layout.scheduler(port);
                let before = layout.own(core, port.index()).count();
                let there = PortIndex(u8::try_from(before).unwrap_or(u8::MAX));
                PortLocation::new(settings, behind[core], there)
            });
            (!rings.is_empty()).then(|| Handoff::new(locations.collect(), rings))
        };
        let outlets: Vec<_> = (0..layout.workers).map(&mut handoff).collect();

        let forwards = workers
            .into_iter()
            .zip(outlets)
            .map(|((device, fibs), outlet)| {
                let (clock, now) = (device.tick_rate(), device.now());
                let twins = to_twins.clone();
                let ingress = Ingress::new(&worker_settings, fibs, twins, clock, now);
                (device, Some(ingress), outlet)
            });
        let schedules = schedulers.into_iter().map(|device| (device, None, None));
        let mut receive_queues =
            receive_queues::<D::Buffer>(settings, layout, &wakeups).into_iter();
        let mut controls = Vec::new();
        let mut cores = Vec::new();
        for (core, (device, ingress, handoff)) in forwards.chain(schedules).enumerate() {
            let (clock, now) = (device.tick_rate(), device.now());
            let rings = std::mem::take(&mut inlets[core]);
            let receive_queues = receive_queues.next().unwrap_or_default();
            let handed = receive_queues
                .iter()
                .any(|queue| matches!(queue, ReceiveQueue::Handed(_)));
            let is_fed = handed || !rings.is_empty();
            let wakeup = (is_fed && sleeps).then(|| wakeups[core].clone());
            let own = layout.own(core, ports);
            let parts = WorkerParts {
                egress: Egress::new(settings, own, rings, clock, now),
                device: SoftwareRss::new(device, receive_queues),
                ingress,
                handoff,
                wakeup,
                // The first core takes what the kernel sends.
                from_twins: from_twins.take().unwrap_or_else(FromKernel::none),
            };
            let (core, control) = Worker::assemble(settings, parts);
            cores.push(core);
            controls.push(control);
        }
        let (control, fan_out) = FanOut::before(controls, layout.workers, settings);
        Self {
            cores,
            control,
            twins,
            fan_out,
        }
    }
}

/// Where each worker's packets come from, port by port.
fn receive_queues<B>(
    settings: &Settings,
    layout: Layout,
    wakeups: &[Wakeup],
) -> Vec<Vec<ReceiveQueue<B>>> {
    let seed = rand::random();
    let mut receive_queues: Vec<Vec<_>> = (0..layout.workers).map(|_| Vec::new()).collect();
    for (port, settings) in (0..).map(PortIndex).zip(&settings.ports) {
        if !settings.one_receiver {
            receive_queues
                .iter_mut()
                .for_each(|of| of.push(ReceiveQueue::Own));
            continue;
        }
        let receiver = layout.receiver(port);
        let mut workers = Vec::new();
        for (worker, (of, wakeup)) in receive_queues.iter_mut().zip(wakeups).enumerate() {
            workers.push((worker != receiver).then(|| {
                let (writer, reader) = ring(RING_PACKETS, wakeup.clone());
                of.push(ReceiveQueue::Handed(reader));
                writer
            }));
        }
        receive_queues[receiver].push(ReceiveQueue::Distributed(Distributor {
            workers,
            seed,
            lost: (0, 0),
        }));
    }
    receive_queues
}
