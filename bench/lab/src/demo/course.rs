//! What the demo and the comparison do alike: start what forwards, let calls and bulk run, add and
//! delete sessions, and take a phase's figures.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use voicelane_proto::v1::SessionKey;
use voicelane_testbed::{
    LabError, Process, RouterOptions,
    clock::{Moment, Window},
    control::{Agent, call_session},
    quality::{DRAIN, Delay},
    topology::{IpVersion, RouterProcess, Site, TwoSites},
    traffic::{Bulk, Calls, Direction, Flow, Sink},
};

use super::{BULK_BITS_PER_SECOND, BULK_PACKET_BYTES, Check, DelayMs, EF, Phase};

/// From the start of a phase to its measured window.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
const PING_BOUND: Duration = Duration::from_secs(20);
const MEET_BOUND: Duration = Duration::from_secs(15);
/// Whose certificate the lab's own calls are added with.
pub(crate) const AGENT_ID: &str = "demo";

/// Says what happens, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn say(&self, what: impl fmt::Display) {
        eprintln!("[{:5.1} s] {what}", self.0.elapsed().as_secs_f64());
    }
}

/// The programs under test.
pub(crate) struct Voicelane {
    // In the order in which they are taken down.
    pub(crate) agent: Agent,
    pub(crate) _routers: Vec<RouterProcess>,
    pub(crate) _server: Process,
}

impl Voicelane {
    pub(crate) fn start(
        sites: &TwoSites,
        options: [&RouterOptions; 2],
        progress: Progress,
    ) -> Result<Self, LabError> {
        Self::start_with(sites, &[], options, progress)
    }

    /// The same with more arguments for the server.
    pub(crate) fn start_with(
        sites: &TwoSites,
        server: &[&str],
        options: [&RouterOptions; 2],
        progress: Progress,
    ) -> Result<Self, LabError> {
        progress.say("starting the QoS server");
        let server = sites.start_server_with(server)?;
        let routers = start_routers(sites, options, progress)?;
        Ok(Self {
            agent: sites.connect_agent_as(AGENT_ID)?,
            _routers: routers,
            _server: server,
        })
    }
}

/// Starts the router of each site; returns when both are attached.
pub(crate) fn start_routers(
    sites: &TwoSites,
    options: [&RouterOptions; 2],
    progress: Progress,
) -> Result<Vec<RouterProcess>, LabError> {
    let mut routers = Vec::new();
    for (site, options) in Site::BOTH.into_iter().zip(options) {
        progress.say(format_args!("starting router {}", site.router_id()));
        routers.push(sites.start_router(site, options)?);
    }
    for router in &mut routers {
        router.wait_attached()?;
    }
    Ok(routers)
}

/// Begins to send bulk from site A to B: twice the core link's rate.
pub(crate) fn start_bulk(sites: &TwoSites, ip: IpVersion) -> Result<Bulk, LabError> {
    let [from, to] = Site::BOTH.map(|site| site.bulk(ip));
    Bulk::start(
        &sites.bulk_src,
        from,
        to,
        BULK_BITS_PER_SECOND,
        BULK_PACKET_BYTES,
    )
}

/// Lets each host meet its neighbour, so that no call waits for an address to be resolved. Routers
/// may need some seconds to know their own neighbours and routes.
pub(crate) fn meet(sites: &TwoSites, ip: IpVersion) -> Result<(), LabError> {
    let pairs = [
        (&sites.caller, Site::B.phone(ip)),
        (&sites.bulk_src, Site::B.bulk(ip).ip()),
    ];
    let end = Instant::now() + MEET_BOUND;
    for (from, to) in pairs {
        let to = to.to_string();
        let args = ["-n", "-c", "3", "-i", "0.2", "-W", "1", &to];
        while let Err(error) = from.run("ping", &args, PING_BOUND) {
            if Instant::now() >= end {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Calls and sinks that run, and what is known of them.
pub(crate) struct Course {
    pub(crate) calls: Calls,
    pub(crate) sinks: Vec<Sink>,
    /// By call: when AddSession's answer was there. Empty without sessions.
    pub(crate) answers: Vec<Moment>,
    /// Of each phase's measured window.
    pub(crate) length: Duration,
    pub(crate) progress: Progress,
}

impl Course {
    /// With a sink for bulk; none has a session.
    pub(crate) fn start(
        sites: &TwoSites,
        ip: IpVersion,
        flows: Vec<Flow>,
        length: Duration,
        progress: Progress,
    ) -> Result<Self, LabError> {
        Ok(Self {
            calls: Calls::start(flows)?,
            sinks: vec![Sink::start(&sites.bulk_sink, Site::B.bulk(ip))?],
            answers: Vec::new(),
            length,
            progress,
        })
    }

    /// Lets a phase pass and takes its figures.
    pub(crate) fn measure(&mut self, name: &'static str, what: &str) -> Result<Phase, LabError> {
        let whole = SETTLE + self.length + DRAIN;
        self.progress
            .say(format_args!("{name}: {what}, {:.0} s", whole.as_secs_f64()));
        thread::sleep(SETTLE);
        let window = Window::pass(self.length);
        thread::sleep(DRAIN);

        let (mut to_callee, mut to_caller) = (Vec::new(), Vec::new());
        for (index, flow) in self.calls.flows().iter().enumerate() {
            let figures = self.calls.figures(index, window);
            match flow.direction {
                Direction::ToCallee => to_callee.extend(figures),
                Direction::ToCaller => to_caller.extend(figures),
            }
        }
        let mut phase = Phase {
            seconds: window.seconds(),
            unmarked_after_answer: self.unmarked(window.to),
            ..Phase::of_calls(name, &to_callee, &to_caller)
        };
        for sink in &self.sinks {
            let bulk = sink.figures(window);
            phase.bulk_mbit_s += bulk.mbit_s;
            for (dscp, packets) in bulk.dscp {
                *phase.bulk_dscp.entry(dscp).or_default() += packets;
            }
        }
        Ok(phase)
    }

    /// Counts packets without EF that were sent between their session's answer and `end`.
    fn unmarked(&self, end: Moment) -> Option<u64> {
        if self.answers.is_empty() {
            return None;
        }
        let mut unmarked = 0;
        for (index, flow) in self.calls.flows().iter().enumerate() {
            let call = usize::try_from(flow.call).unwrap_or(usize::MAX);
            let Some(&answer) = self.answers.get(call) else {
                continue;
            };
            let arrivals = self.calls.arrivals(index);
            let count = arrivals
                .iter()
                .filter(|(sent, arrival)| answer <= *sent && *sent < end && arrival.dscp() != EF)
                .count();
            unmarked += count as u64;
        }
        Some(unmarked)
    }

    pub(crate) fn add_sessions(&mut self, agent: &Agent) -> Result<DelayMs, LabError> {
        self.progress
            .say("adding the calls' sessions over gRPC, with traffic running");
        let mut took = Delay::default();
        for flows in self.calls.flows().chunks(2) {
            let asked = Moment::now();
            let (_, answer) = agent.add_session(call_session(key(flows), flows))?;
            took.packet(answer.since(asked));
            self.answers.push(answer);
        }
        Ok(DelayMs::of(&took))
    }

    pub(crate) fn delete_sessions(&mut self, agent: &Agent) -> Result<DelayMs, LabError> {
        self.progress.say("deleting the sessions");
        let mut took = Delay::default();
        for flows in self.calls.flows().chunks(2) {
            let asked = Moment::now();
            agent.delete_session(key(flows))?;
            took.packet(Moment::now().since(asked));
        }
        self.answers.clear();
        Ok(DelayMs::of(&took))
    }

    /// Whether the testbed itself kept up: otherwise its figures are not the routers'.
    pub(crate) fn own_faults(&self, lapses: u64) -> Check {
        let sinks: u64 = self.sinks.iter().map(Sink::kernel_drops).sum();
        let calls = self.calls.send_failures() + self.calls.kernel_drops() + self.calls.strangers();
        Check::timed(
            "the testbed kept up",
            calls == 0 && sinks == 0 && lapses == 0,
            format!(
                "call packets not sent {}, dropped by sockets {}, strange {}; bulk dropped by its \
                 socket {sinks}, lapses of its sender {lapses}",
                self.calls.send_failures(),
                self.calls.kernel_drops(),
                self.calls.strangers(),
            ),
        )
    }
}

fn key(flows: &[Flow]) -> SessionKey {
    let call = flows.first().map_or(0, |flow| flow.call);
    SessionKey {
        agent_id: AGENT_ID.to_owned(),
        session_id: format!("call-{call}"),
    }
}
