//! The pinned loop: bursts in, bursts out; commands and twin frames between; nothing else.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use voicelane_dpdk::BURST;

use crate::{
    bell::Bell,
    control::{Answer, Command, Control, FlowReading, Reply, Request, Twins},
    counters::{DropReason, InterfaceCounters, Report},
    device::{Buffer, Device},
    fib::Fibs,
    pipeline::{Forwarding, HandOver, Outlet, Scheduling},
    policy::Policy,
    session::FiveTuple,
    settings::{Idle, Settings},
    spread::Spread,
    stalls::Stalls,
    twins::{self, FromKernel},
    units::{PortIndex, TickRate, Ticks},
};

/// Commands, and twin frames, that one turn of the loop takes at most.
const COMMANDS_A_TURN: usize = 32;
/// For how many turns they wait at most while whole bursts come: to look for them costs a fence each
/// time, behind which all that the burst has written must be done.
const TURNS_BETWEEN_COMMANDS: u32 = 8;

/// How long an adaptive worker sleeps at most.
const LONGEST_SLEEP_NS: u64 = 2_000_000;
/// How long at most while packets have come within [`LONG_AGO_NS`].
const LONG_SLEEP_NS: u64 = 1_000_000;
/// When packets have come long ago.
const LONG_AGO_NS: u64 = 1_000_000_000;
/// How long it sleeps at most while packets have come lately, as a call's do.
const SHORT_SLEEP_NS: u64 = 500_000;
/// What "lately" means.
const LATELY_NS: u64 = 100_000_000;
/// It sleeps for this part of the time since the last packet: what follows closely waits for little, and
/// a call's packet, 20 ms after the one before, costs some 60 sleeps.
const QUIET_PART: u64 = 8;
/// But not for less.
const SHORTEST_SLEEP_NS: u64 = 50_000;
/// For how long it stays awake when another core has just handed it something: waking it costs that
/// core a system call.
const LINGER_NS: u64 = 50_000;

/// One core's data plane: all of it, or its part in a [`Crew`](crate::crew::Crew).
pub struct Worker<D: Device> {
    device: Spread<D>,
    /// Nothing: this core only schedules.
    forwarding: Option<Forwarding<D::Buffer>>,
    /// The way to the queues that are on other cores; nothing: all are on this one.
    hand_over: Option<HandOver<D::Buffer>>,
    scheduling: Scheduling<D::Buffer>,
    ports: u8,
    clock: TickRate,
    idle: Idle,
    /// What wakes it when another core hands it something; nothing: none does.
    bell: Option<Bell>,
    /// The time that it has seen last: for it, time does not go back.
    now: Ticks,
    last_packet: Ticks,
    /// Turns since it looked for commands.
    turns: u32,
    stalls: Stalls,
    commands: Receiver<Command>,
    replies: Sender<Reply>,
    from_twins: FromKernel<D::Buffer>,
}

/// What a core's data plane consists of.
pub(crate) struct Parts<D: Device> {
    pub(crate) device: Spread<D>,
    pub(crate) forwarding: Option<Forwarding<D::Buffer>>,
    pub(crate) hand_over: Option<HandOver<D::Buffer>>,
    pub(crate) scheduling: Scheduling<D::Buffer>,
    pub(crate) bell: Option<Bell>,
    pub(crate) from_twins: FromKernel<D::Buffer>,
}

impl<D: Device> Worker<D> {
    /// The one worker of a device whose ports are in the order of `settings.ports`; ports and VLANs
    /// are at most 255 together.
    pub fn new(settings: &Settings, device: D, fibs: Fibs) -> (Self, Control, Twins<D::Buffer>) {
        let (clock, now) = (device.tick_rate(), device.now());
        let (to_twins, from_twins, twins) = twins::ways(settings.queue_capacity, clock);
        let all = (0..=u8::MAX).map(PortIndex).take(settings.ports.len());
        let parts = Parts {
            forwarding: Some(Forwarding::new(settings, fibs, to_twins, clock, now)),
            hand_over: None,
            scheduling: Scheduling::new(settings, all, Vec::new(), clock, now),
            device: Spread::new(device, Vec::new()),
            bell: None,
            from_twins,
        };
        let (worker, control) = Self::assemble(settings, parts);
        (worker, control, twins)
    }

    pub(crate) fn assemble(settings: &Settings, parts: Parts<D>) -> (Self, Control) {
        let (command_sender, commands) = bounded(settings.queue_capacity);
        let (replies, reply_receiver) = bounded(settings.queue_capacity);
        let Parts {
            device,
            forwarding,
            hand_over,
            scheduling,
            bell,
            from_twins,
        } = parts;
        let (clock, now) = (device.tick_rate(), device.now());
        let worker = Self {
            device,
            forwarding,
            hand_over,
            scheduling,
            ports: u8::try_from(settings.ports.len()).unwrap_or(u8::MAX),
            clock,
            idle: settings.idle,
            bell,
            now,
            last_packet: now,
            turns: 0,
            stalls: Stalls::new(clock, now),
            commands,
            replies,
            from_twins,
        };
        let control = Control {
            commands: command_sender,
            replies: reply_receiver,
        };
        (worker, control)
    }

    /// Runs until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let moved = self.turn();
            if self.idle == Idle::Adaptive && moved == 0 {
                let sleep = self.idle_sleep(self.device.now());
                if !sleep.is_zero() {
                    match &self.bell {
                        None => thread::sleep(sleep),
                        Some(bell) => bell.sleep(sleep, || self.has_mail()),
                    }
                    self.stalls.slept(sleep, self.clock);
                }
            }
        }
    }

    /// One turn of the loop; returns how many packets and commands it moved.
    pub fn turn(&mut self) -> usize {
        let now = self.time();
        self.stalls.turn(now);
        let mut moved = 0;
        if let Some(forwarding) = &mut self.forwarding {
            let mut intake = Intake {
                device: &mut self.device,
                forwarding,
                ports: self.ports,
                now,
            };
            moved = match &mut self.hand_over {
                None => intake.receive(&mut self.scheduling),
                Some(hand_over) => intake.receive(&mut hand_over.with(&mut self.scheduling)),
            };
        }
        moved += self.device.take_for_others() + self.scheduling.take_in();
        if moved > 0 {
            self.last_packet = now;
        }
        self.turns += 1;
        if moved < BURST || self.turns >= TURNS_BETWEEN_COMMANDS {
            self.turns = 0;
            moved += self.inject(now) + self.obey(now);
        }
        // The clock anew: packets of this turn must not look as if they had waited for nothing.
        let now = self.time();
        moved + self.scheduling.send(&mut self.device, now)
    }

    fn time(&mut self) -> Ticks {
        self.now = self.now.max(self.device.now());
        self.now
    }

    /// Obeys another policy from now on, as [`Request::SetPolicy`]; gives back the one that it does
    /// not obey.
    pub fn set_policy(&mut self, policy: Box<Policy>) -> Box<Policy> {
        match &mut self.forwarding {
            Some(forwarding) => forwarding.set_policy(policy),
            None => policy,
        }
    }

    /// The device, for tests that hold its other end.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device.device
    }

    /// Checks what must hold between turns.
    pub fn invariants(&mut self) {
        if let Some(forwarding) = &self.forwarding {
            forwarding.sessions.invariants();
            forwarding.policy.invariants();
        }
        self.scheduling.invariants();
    }

    /// Takes in frames that the kernel sends.
    fn inject(&mut self, now: Ticks) -> usize {
        let Some(forwarding) = &mut self.forwarding else {
            return 0;
        };
        let mut injected = 0;
        for (interface, frame) in self.from_twins.some(COMMANDS_A_TURN) {
            match &mut self.hand_over {
                None => forwarding.inject(interface, frame, &mut self.scheduling, now),
                Some(hand_over) => {
                    let queues = &mut hand_over.with(&mut self.scheduling);
                    forwarding.inject(interface, frame, queues, now);
                }
            }
            injected += 1;
        }
        injected
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
        let request = match request {
            Request::SetLink { port, up } => {
                self.scheduling.set_link(port, up);
                return Answer::Link;
            }
            Request::SetOpen { port, open } => {
                self.device.set_open(port, open);
                return Answer::Link;
            }
            Request::Report(mut report) => {
                self.fill(&mut report, now);
                return Answer::Report(report);
            }
            other => other,
        };
        let Some(forwarding) = &mut self.forwarding else {
            return Answer::NotHere;
        };
        match request {
            Request::Session(change) => Answer::Session(forwarding.sessions.apply(&change, now)),
            Request::ReadFlows(flows) => {
                let read = |flow| read(forwarding, flow, self.clock, now);
                Answer::Flows(flows.iter().map(read).collect())
            }
            Request::SetRoute {
                prefix,
                length,
                next_hop,
            } => Answer::Route(forwarding.routes.insert(prefix, length, next_hop, now)),
            Request::RemoveRoute { prefix, length } => {
                Answer::Route(forwarding.routes.remove(prefix, length, now))
            }
            Request::SetAdjacency {
                next_hop,
                adjacency,
            } => Answer::Route(forwarding.set_adjacency(next_hop, adjacency)),
            Request::SetPaths { next_hop, paths } => {
                Answer::Route(forwarding.routes.set_paths(next_hop, *paths))
            }
            Request::SetInterface { interface, state } => {
                forwarding.set_interface(interface, *state);
                Answer::Interface
            }
            Request::SetWaysIn {
                next_hop,
                interfaces,
            } => Answer::Route(forwarding.routes.set_ways_in(next_hop, interfaces)),
            Request::SetPolicy(policy) => Answer::Policy(forwarding.set_policy(policy)),
            Request::SetLink { .. } | Request::SetOpen { .. } | Request::Report(_) => {
                Answer::NotHere
            }
        }
    }

    fn fill(&mut self, report: &mut Report, now: Ticks) {
        report.now = now;
        report.clock = self.clock;
        self.stalls.report(&mut report.stalls);
        match &self.forwarding {
            Some(forwarding) => forwarding.fill(report),
            None => report.interfaces.fill(InterfaceCounters::default()),
        }
        let lost = report.ports.iter_mut().zip(&mut report.interfaces);
        for ((port, interface), (packets, bytes)) in lost.zip(self.device.lost()) {
            port.port.rx_packets += packets;
            port.port.rx_bytes += bytes;
            interface.rx_packets += packets;
            interface.rx_bytes += bytes;
            interface.drops[DropReason::RingFull.index()] += packets;
        }
        self.scheduling.fill(report, now);
    }

    /// Whether another core has handed this one something.
    fn has_mail(&self) -> bool {
        self.scheduling.has_mail() || self.device.has_mail()
    }

    /// How long nothing needs to be done: until a shaper opens, and never so long that a packet
    /// that comes meanwhile would notice.
    fn idle_sleep(&self, now: Ticks) -> Duration {
        let quiet = self.clock.nanoseconds(now.since(self.last_packet));
        if self.bell.is_some() && quiet < LINGER_NS {
            return Duration::ZERO;
        }
        let longest = match quiet {
            ..LATELY_NS => SHORT_SLEEP_NS,
            LATELY_NS..LONG_AGO_NS => LONG_SLEEP_NS,
            LONG_AGO_NS.. => LONGEST_SLEEP_NS,
        };
        let longest = longest.min((quiet / QUIET_PART).max(SHORTEST_SLEEP_NS));
        let until_departure = self
            .scheduling
            .next_departure()
            .map_or(u64::MAX, |departure| {
                self.clock.nanoseconds(departure.since(now))
            });
        Duration::from_nanos(longest.min(until_departure))
    }
}

/// What a forwarding core receives within one turn.
struct Intake<'a, D: Device> {
    device: &'a mut Spread<D>,
    forwarding: &'a mut Forwarding<D::Buffer>,
    ports: u8,
    now: Ticks,
}

impl<D: Device> Intake<'_, D> {
    /// Takes packets to their queues; returns how many there were.
    #[inline]
    fn receive(&mut self, queues: &mut impl Outlet<D::Buffer>) -> usize {
        let ports = (0..self.ports).map(PortIndex);
        ports
            .map(|port| (self.forwarding).ingress(self.device, port, queues, self.now))
            .sum()
    }
}

fn read<B: Buffer>(
    forwarding: &Forwarding<B>,
    flow: &FiveTuple,
    clock: TickRate,
    now: Ticks,
) -> Option<FlowReading> {
    let counters = forwarding.sessions.counters(flow)?;
    let idle_ns = counters
        .last_seen
        .map(|seen| clock.nanoseconds(now.since(seen)));
    Some(FlowReading { counters, idle_ns })
}
