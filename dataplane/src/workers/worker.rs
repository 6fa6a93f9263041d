//! The pinned loop: bursts in, bursts out; commands and twin frames between; nothing else.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{handoff::Handoff, software_rss::SoftwareRss, stalls::Stalls, wakeup::Wakeup};
use crate::{
    control::{
        Answer, Command, Control, FlowReading, Reply, Request, Twins,
        twins::{self, FromKernel},
    },
    device::{BURST, Buffer, Device},
    pipeline::{Egress, Ingress, Outlet},
    policy::Policy,
    routing::Fibs,
    session::FiveTuple,
    settings::{Idle, Settings},
    stats::{DropReason, InterfaceCounters, PortCounters, Report},
    units::{PortIndex, TickRate, Ticks},
};

/// Commands, and twin frames, that one turn of the loop takes at most.
const COMMANDS_A_TURN: usize = 32;
/// For how many turns they wait at most while whole bursts come: to look for them costs a fence each
/// time, behind which all that the burst has written must be done.
const TURNS_BETWEEN_COMMANDS: u32 = 8;

/// Of how many flows one answer says what they have learned.
const LATCHED_AT_ONCE: usize = 64;

/// How long an adaptive worker sleeps at most.
const LONGEST_SLEEP_NS: u64 = 2_000_000;
/// How long at most while packets have come within [`LONG_AGO_NS`].
const LONG_SLEEP_NS: u64 = 1_000_000;
/// When packets have come long ago.
const LONG_AGO_NS: u64 = 1_000_000_000;
/// How long it sleeps at most while packets have come lately, as a call's do.
const SHORT_SLEEP_NS: u64 = 500_000;
const LATELY_NS: u64 = 100_000_000;
/// It sleeps for this part of the time since the last packet: what follows closely waits for little, and
/// a call's packet, 20 ms after the one before, costs some 60 sleeps.
const QUIET_PART: u64 = 8;
/// But not for less.
const SHORTEST_SLEEP_NS: u64 = 50_000;
/// Traced packets that have waited in a queue for longer are told as waiting.
const LONGEST_HELD_NS: u64 = 1_000_000_000;
/// For how long it stays awake when another core has just handed it something: waking it costs that
/// core a system call.
const LINGER_NS: u64 = 50_000;

/// One core's data plane: all of it, or its part in a [`Workers`](super::Workers).
pub struct Worker<D: Device> {
    device: SoftwareRss<D>,
    /// `None`: this core only schedules.
    ingress: Option<Ingress<D::Buffer>>,
    /// The way to the queues that are on other cores; `None`: all are on this one.
    handoff: Option<Handoff<D::Buffer>>,
    egress: Egress<D::Buffer>,
    ports: u8,
    clock: TickRate,
    idle: Idle,
    /// What wakes it when another core hands it something; `None`: none does.
    wakeup: Option<Wakeup>,
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
pub(super) struct WorkerParts<D: Device> {
    pub(super) device: SoftwareRss<D>,
    pub(super) ingress: Option<Ingress<D::Buffer>>,
    pub(super) handoff: Option<Handoff<D::Buffer>>,
    pub(super) egress: Egress<D::Buffer>,
    pub(super) wakeup: Option<Wakeup>,
    pub(super) from_twins: FromKernel<D::Buffer>,
}

impl<D: Device> Worker<D> {
    /// The one worker of a device whose ports are in the order of `settings.ports`; ports and VLANs
    /// are at most 255 together.
    pub fn new(settings: &Settings, device: D, fibs: Fibs) -> (Self, Control, Twins<D::Buffer>) {
        let (clock, now) = (device.tick_rate(), device.now());
        let (to_twins, from_twins, twins) = twins::channels(settings.queue_capacity, clock);
        let all = (0..=u8::MAX).map(PortIndex).take(settings.ports.len());
        let parts = WorkerParts {
            ingress: Some(Ingress::new(settings, fibs, to_twins, clock, now)),
            handoff: None,
            egress: Egress::new(settings, all, Vec::new(), clock, now),
            device: SoftwareRss::new(device, Vec::new()),
            wakeup: None,
            from_twins,
        };
        let (worker, control) = Self::assemble(settings, parts);
        (worker, control, twins)
    }

    pub(super) fn assemble(settings: &Settings, parts: WorkerParts<D>) -> (Self, Control) {
        let (command_sender, commands) = bounded(settings.queue_capacity);
        let (replies, reply_receiver) = bounded(settings.queue_capacity);
        let WorkerParts {
            device,
            ingress,
            handoff,
            egress,
            wakeup,
            from_twins,
        } = parts;
        let (clock, now) = (device.tick_rate(), device.now());
        let worker = Self {
            device,
            ingress,
            handoff,
            egress,
            ports: u8::try_from(settings.ports.len()).unwrap_or(u8::MAX),
            clock,
            idle: settings.idle,
            wakeup,
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
                    match &self.wakeup {
                        None => thread::sleep(sleep),
                        Some(wakeup) => wakeup.sleep(sleep, || self.has_mail()),
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
        if let Some(ingress) = &mut self.ingress {
            let mut intake = Intake {
                device: &mut self.device,
                ingress,
                ports: self.ports,
                now,
            };
            moved = match &mut self.handoff {
                None => intake.receive(&mut self.egress),
                Some(handoff) => intake.receive(&mut handoff.with(&mut self.egress)),
            };
        }
        moved += self.device.take_for_others() + self.egress.take_in();
        if moved > 0 {
            self.last_packet = now;
        }
        self.turns += 1;
        let listens = moved < BURST || self.turns >= TURNS_BETWEEN_COMMANDS;
        if listens {
            self.turns = 0;
            moved += self.inject(now);
        }
        // The clock anew: packets of this turn must not look as if they had waited for nothing.
        let now = self.time();
        let tracer = self.ingress.as_mut().and_then(Ingress::waiting_tracer);
        moved += self.egress.send(&mut self.device, tracer, now);
        // Last, so that a report has all of what this turn has moved, or nothing: what goes past the queues
        // is counted when it leaves.
        if listens {
            moved += self.obey(now);
        }
        moved
    }

    fn time(&mut self) -> Ticks {
        self.now = self.now.max(self.device.now());
        self.now
    }

    /// Applies another policy from now on, as [`Request::SetPolicy`]; returns the previous one, or this one
    /// on a core that only schedules.
    pub fn set_policy(&mut self, policy: Box<Policy>) -> Box<Policy> {
        match &mut self.ingress {
            Some(ingress) => ingress.set_policy(policy),
            None => policy,
        }
    }

    /// The device, for tests that hold its other end.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device.device
    }

    /// Checks what must hold between turns.
    pub fn invariants(&mut self) {
        if let Some(ingress) = &self.ingress {
            ingress.sessions.invariants();
            ingress.policy.invariants();
        }
        self.egress.invariants();
    }

    /// Takes in frames that the kernel sends.
    fn inject(&mut self, now: Ticks) -> usize {
        let Some(ingress) = &mut self.ingress else {
            return 0;
        };
        let mut injected = 0;
        for (interface, frame) in self.from_twins.some(COMMANDS_A_TURN) {
            match &mut self.handoff {
                None => ingress.inject(interface, frame, &mut self.egress, now),
                Some(handoff) => {
                    let queues = &mut handoff.with(&mut self.egress);
                    ingress.inject(interface, frame, queues, now);
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
                self.egress.set_link(port, up);
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
        let Some(ingress) = &mut self.ingress else {
            return Answer::NotHere;
        };
        match request {
            Request::Session(change) => Answer::Session(ingress.sessions.apply(&change, now)),
            Request::ReadFlows(flows) => {
                let has_queues = self.handoff.is_none();
                let read = |flow| {
                    let mut reading = read(ingress, flow, self.clock, now)?;
                    if let Some(quality) = reading.quality.as_mut().filter(|_| !has_queues) {
                        quality.forget_dropped();
                    }
                    Some(reading)
                };
                Answer::Flows(flows.iter().map(read).collect())
            }
            Request::ReadLatched => {
                let learned = ingress.sessions.latches.learned(LATCHED_AT_ONCE);
                Answer::Latched(learned.collect())
            }
            Request::SetRoute {
                prefix,
                length,
                next_hop,
            } => Answer::Route(ingress.routes.insert(prefix, length, next_hop, now)),
            Request::RemoveRoute { prefix, length } => {
                Answer::Route(ingress.routes.remove(prefix, length, now))
            }
            Request::SetAdjacency {
                next_hop,
                adjacency,
            } => Answer::Route(ingress.set_adjacency(next_hop, adjacency)),
            Request::SetPaths { next_hop, paths } => {
                Answer::Route(ingress.routes.set_paths(next_hop, *paths))
            }
            Request::SetInterface { interface, state } => {
                ingress.set_interface(interface, *state);
                Answer::Interface
            }
            Request::SetWaysIn {
                next_hop,
                interfaces,
            } => Answer::Route(ingress.routes.set_ways_in(next_hop, interfaces)),
            Request::SetPolicy(policy) => Answer::Policy(ingress.set_policy(policy)),
            Request::Trace(tracer) => {
                let held = self.clock.ticks(LONGEST_HELD_NS);
                Answer::Traced(ingress.set_tracer(tracer, (now, held)))
            }
            Request::SetLink { .. } | Request::SetOpen { .. } | Request::Report(_) => {
                Answer::NotHere
            }
        }
    }

    fn fill(&mut self, report: &mut Report, now: Ticks) {
        report.now = now;
        report.clock = self.clock;
        self.stalls.report(&mut report.stalls);
        match &self.ingress {
            Some(ingress) => ingress.fill(report),
            None => {
                let ports = report.ports.iter_mut();
                ports.for_each(|port| port.port = PortCounters::default());
                report.interfaces.fill(InterfaceCounters::default());
            }
        }
        let lost = report.ports.iter_mut().zip(&mut report.interfaces);
        for ((port, interface), (packets, bytes)) in lost.zip(self.device.lost()) {
            port.port.rx_packets += packets;
            port.port.rx_bytes += bytes;
            interface.rx_packets += packets;
            interface.rx_bytes += bytes;
            interface.drops[DropReason::RingFull.index()] += packets;
        }
        self.egress.fill(report, now);
    }

    /// Whether another core has handed this one something.
    fn has_mail(&self) -> bool {
        self.egress.has_mail() || self.device.has_mail()
    }

    /// How long nothing needs to be done: until a shaper opens, and never so long that a packet
    /// that comes meanwhile would notice.
    fn idle_sleep(&self, now: Ticks) -> Duration {
        let quiet = self.clock.nanoseconds(now.since(self.last_packet));
        if self.wakeup.is_some() && quiet < LINGER_NS {
            return Duration::ZERO;
        }
        let longest = match quiet {
            ..LATELY_NS => SHORT_SLEEP_NS,
            LATELY_NS..LONG_AGO_NS => LONG_SLEEP_NS,
            LONG_AGO_NS.. => LONGEST_SLEEP_NS,
        };
        let longest = longest.min((quiet / QUIET_PART).max(SHORTEST_SLEEP_NS));
        let until_departure = self.egress.next_departure().map_or(u64::MAX, |departure| {
            self.clock.nanoseconds(departure.since(now))
        });
        Duration::from_nanos(longest.min(until_departure))
    }
}

/// What a worker receives within one turn.
struct Intake<'a, D: Device> {
    device: &'a mut SoftwareRss<D>,
    ingress: &'a mut Ingress<D::Buffer>,
    ports: u8,
    now: Ticks,
}

impl<D: Device> Intake<'_, D> {
    /// Takes packets to their queues; returns how many there were.
    #[inline]
    fn receive(&mut self, queues: &mut impl Outlet<D::Buffer>) -> usize {
        let ports = (0..self.ports).map(PortIndex);
        ports
            .map(|port| (self.ingress).receive(self.device, port, queues, self.now))
            .sum()
    }
}

fn read<B: Buffer>(
    ingress: &Ingress<B>,
    flow: &FiveTuple,
    clock: TickRate,
    now: Ticks,
) -> Option<FlowReading> {
    let counters = ingress.sessions.counters(flow)?;
    let idle_ns = counters
        .last_seen
        .map(|seen| clock.nanoseconds(now.since(seen)));
    Some(FlowReading {
        counters,
        idle_ns,
        quality: ingress.sessions.quality(flow),
    })
}

#[cfg(test)]
mod tests;
