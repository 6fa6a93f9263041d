//! The pinned loop: bursts in, bursts out; commands and twin frames between; nothing else.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    control::{Answer, Command, Control, FlowReading, Reply, Request, Twins},
    counters::{Report, StallReport},
    device::Device,
    pipeline::{Fibs, Forwarding, Scheduling},
    policy::Policy,
    seconds::Seconds,
    session::FiveTuple,
    settings::{Idle, Settings},
    units::{InterfaceIndex, PortIndex, TickRate, Ticks},
};

/// Commands, and twin frames, that one turn of the loop takes at most.
const COMMANDS_A_TURN: usize = 32;

/// How long an adaptive worker sleeps at most.
const LONGEST_SLEEP_NS: u64 = 1_000_000;
/// How long it sleeps at most while packets have come lately.
const SHORT_SLEEP_NS: u64 = 50_000;
/// What "lately" means.
const LATELY_NS: u64 = 100_000_000;

/// For how long the loop stood still: see [`StallReport`].
#[derive(Debug)]
struct Stalls {
    /// When the last turn should have been over at the latest.
    expected: Ticks,
    /// Of the second that has begun, and of all before it.
    current: Ticks,
    before: Ticks,
    seconds: Seconds<Ticks>,
}

impl Stalls {
    fn new(clock: TickRate, now: Ticks) -> Self {
        Self {
            expected: now,
            current: Ticks(0),
            before: Ticks(0),
            seconds: Seconds::new(clock, now),
        }
    }

    /// A turn begins.
    #[inline]
    fn turn(&mut self, now: Ticks) {
        if self.seconds.is_over(now) {
            self.before = self.before.max(self.current);
            self.seconds.keep(self.current, now);
            self.current = Ticks(0);
        }
        self.current = self.current.max(now.since(self.expected));
        self.expected = now;
    }

    /// The loop has slept as it meant to.
    fn slept(&mut self, meant: Duration, clock: TickRate) {
        let nanoseconds = u64::try_from(meant.as_nanos()).unwrap_or(u64::MAX);
        self.expected = self.expected + clock.ticks(nanoseconds);
    }

    fn report(&self, into: &mut StallReport) {
        into.longest = self.before.max(self.current);
        self.seconds.report(self.current, &mut into.seconds);
    }
}

/// One core's whole data plane.
pub struct Worker<D: Device> {
    device: D,
    forwarding: Forwarding<D::Buffer>,
    scheduling: Scheduling<D::Buffer>,
    ports: u8,
    clock: TickRate,
    idle: Idle,
    last_packet: Ticks,
    stalls: Stalls,
    commands: Receiver<Command>,
    replies: Sender<Reply>,
    from_twins: Receiver<(InterfaceIndex, D::Buffer)>,
}

impl<D: Device> Worker<D> {
    /// A worker on a device whose ports are in the order of `settings.ports`; ports and VLANs are at
    /// most 255 together.
    pub fn new(settings: &Settings, device: D, fibs: Fibs) -> (Self, Control, Twins<D::Buffer>) {
        let (command_sender, commands) = bounded(settings.queue_capacity);
        let (replies, reply_receiver) = bounded(settings.queue_capacity);
        let (to_twins, from_worker) = bounded(settings.queue_capacity);
        let (to_worker, from_twins) = bounded(settings.queue_capacity);
        let (clock, now) = (device.tick_rate(), device.now());
        let worker = Self {
            forwarding: Forwarding::new(settings, fibs, to_twins, clock, now),
            scheduling: Scheduling::new(settings, clock, now),
            device,
            ports: u8::try_from(settings.ports.len()).unwrap_or(u8::MAX),
            clock,
            idle: settings.idle,
            last_packet: now,
            stalls: Stalls::new(clock, now),
            commands,
            replies,
            from_twins,
        };
        let control = Control {
            commands: command_sender,
            replies: reply_receiver,
        };
        (
            worker,
            control,
            Twins {
                from_worker,
                to_worker,
            },
        )
    }

    /// Runs until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let moved = self.turn();
            if self.idle == Idle::Adaptive && moved == 0 {
                let sleep = self.idle_sleep(self.device.now());
                if !sleep.is_zero() {
                    thread::sleep(sleep);
                    self.stalls.slept(sleep, self.clock);
                }
            }
        }
    }

    /// One turn of the loop; returns how many packets and commands it moved.
    pub fn turn(&mut self) -> usize {
        let now = self.device.now();
        self.stalls.turn(now);
        let mut received = 0;
        for port in (0..self.ports).map(PortIndex) {
            let (device, queues) = (&mut self.device, &mut self.scheduling);
            received += self.forwarding.ingress(device, port, queues, now);
        }
        if received > 0 {
            self.last_packet = now;
        }
        let mut moved = received;
        for (interface, frame) in self.from_twins.try_iter().take(COMMANDS_A_TURN) {
            let queues = &mut self.scheduling;
            self.forwarding.inject(interface, frame, queues, now);
            moved += 1;
        }
        moved += self.obey(now);
        // The clock anew: packets of this turn must not look as if they had waited for nothing.
        let now = self.device.now();
        for port in (0..self.ports).map(PortIndex) {
            moved += self.scheduling.egress(&mut self.device, port, now);
        }
        moved
    }

    /// Obeys another policy from now on, as [`Request::SetPolicy`]; gives the old one back.
    pub fn set_policy(&mut self, policy: Box<Policy>) -> Box<Policy> {
        self.forwarding.set_policy(policy)
    }

    /// The device, for tests that hold its other end.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Checks what must hold between turns.
    pub fn invariants(&mut self) {
        self.forwarding.sessions.invariants();
        self.forwarding.policy.invariants();
        self.scheduling.invariants();
    }

    /// Carries out commands, as long as there is room for their replies.
    fn obey(&mut self, now: Ticks) -> usize {
        let mut done = 0;
        while done < COMMANDS_A_TURN && !self.replies.is_full() {
            let Ok(Command { ticket, request }) = self.commands.try_recv() else {
                break;
            };
            let answer = self.answer(request, now);
            // There is room; a control side that is gone needs no reply.
            let _ = self.replies.try_send(Reply { ticket, answer });
            done += 1;
        }
        done
    }

    fn answer(&mut self, request: Request, now: Ticks) -> Answer {
        let forwarding = &mut self.forwarding;
        match request {
            Request::Session(change) => Answer::Session(forwarding.sessions.apply(&change, now)),
            Request::ReadFlows(flows) => {
                Answer::Flows(flows.iter().map(|flow| self.read(flow, now)).collect())
            }
            Request::SetRoute {
                prefix,
                length,
                next_hop,
            } => Answer::Route(forwarding.routes.insert(prefix, length, next_hop)),
            Request::RemoveRoute { prefix, length } => {
                Answer::Route(forwarding.routes.remove(prefix, length))
            }
            Request::SetAdjacency {
                next_hop,
                adjacency,
            } => Answer::Route(forwarding.set_adjacency(next_hop, adjacency)),
            Request::SetPaths { next_hop, paths } => {
                Answer::Route(forwarding.routes.set_paths(next_hop, *paths))
            }
            Request::SetLink { port, up } => {
                self.scheduling.set_link(port, up);
                Answer::Link
            }
            Request::SetPolicy(policy) => Answer::Policy(forwarding.set_policy(policy)),
            Request::Report(mut report) => {
                self.fill(&mut report, now);
                Answer::Report(report)
            }
        }
    }

    fn read(&self, flow: &FiveTuple, now: Ticks) -> Option<FlowReading> {
        let counters = self.forwarding.sessions.counters(flow)?;
        let idle_ns = counters
            .last_seen
            .map(|seen| self.clock.nanoseconds(now.since(seen)));
        Some(FlowReading { counters, idle_ns })
    }

    fn fill(&mut self, report: &mut Report, now: Ticks) {
        report.now = now;
        report.clock = self.clock;
        self.forwarding.fill_policy(&mut report.policy);
        self.stalls.report(&mut report.stalls);
        report.entries = self.forwarding.sessions.len();
        report.entry_capacity = self.forwarding.sessions.capacity();
        for (to, from) in report
            .interfaces
            .iter_mut()
            .zip(self.forwarding.interface_counters())
        {
            to.clone_from(from);
        }
        self.scheduling.fill(&mut report.ports, now);
        for (to, came) in report.ports.iter_mut().zip(self.forwarding.port_counters()) {
            to.port.rx_packets = came.rx_packets;
            to.port.rx_bytes = came.rx_bytes;
        }
    }

    /// How long nothing needs to be done: until a shaper opens, and never so long that a packet
    /// that comes meanwhile would notice.
    fn idle_sleep(&self, now: Ticks) -> Duration {
        let quiet = self.clock.nanoseconds(now.since(self.last_packet));
        let longest = if quiet < LATELY_NS {
            SHORT_SLEEP_NS
        } else {
            LONGEST_SLEEP_NS
        };
        let until_departure = self
            .scheduling
            .next_departure()
            .map_or(u64::MAX, |departure| {
                self.clock.nanoseconds(departure.since(now))
            });
        Duration::from_nanos(longest.min(until_departure))
    }
}
