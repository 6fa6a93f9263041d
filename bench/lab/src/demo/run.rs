//! The demo's course.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use voicelane_proto::v1::SessionKey;

use super::{
    BULK_BITS_PER_SECOND, BULK_PACKET_BYTES, Check, DELETED, DelayMs, EF, EF_MARKED_BULK, IDLE,
    Machine, OVERLOAD, Phase, Report, SESSIONS, check, machine,
};
use crate::{
    clock::{Moment, Window},
    control::{Agent, call_session},
    error::LabError,
    process::Process,
    programs::{PortDriver, RouterOptions},
    quality::{DRAIN, Delay, FIXED_DELAY_MS},
    topology::{RouterProcess, Site, TwoSites, addresses},
    traffic::{Bulk, Calls, Direction, Flow, Sink},
};

/// From the start of a phase to its measured window.
const SETTLE: Duration = Duration::from_secs(1);
const PING_BOUND: Duration = Duration::from_secs(20);
const AGENT_ID: &str = "demo";

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Voicelane, over this driver.
    Routers(PortDriver),
    /// The kernel, without sessions: to look at the testbed's own figures.
    Kernel,
}

impl Ports {
    const fn name(self) -> &'static str {
        match self {
            Self::Routers(PortDriver::AfPacket) => "af_packet",
            Self::Routers(PortDriver::Tap) => "tap",
            Self::Kernel => "kernel",
        }
    }
}

/// How the demo is to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many calls.
    pub calls: u16,
    /// What forwards.
    pub ports: Ports,
    /// The measured window of each phase.
    pub phase: Duration,
}

/// Runs it, and gives the report to `finish` while the network is still up. Progress goes to standard
/// error.
pub fn run<T>(
    options: Options,
    finish: impl FnOnce(&TwoSites, &Report) -> T,
) -> Result<T, LabError> {
    let progress = Progress(Instant::now());
    progress.say("building two sites, a core link and a management network in namespaces");
    let sites = TwoSites::new("demo")?;
    let voicelane = Voicelane::start(&sites, options.ports, &progress)?;
    meet(&sites)?;

    progress.say(format_args!("starting {} calls", options.calls));
    let mut course = Course {
        calls: Calls::start(sites.calls(options.calls))?,
        sink: Sink::start(&sites.bulk_sink, addresses::bulk(Site::B))?,
        answers: Vec::new(),
        length: options.phase,
        progress,
    };
    let mut phases = vec![course.measure(IDLE, "calls alone")?];

    let bulk = Bulk::start(
        &sites.bulk_src,
        addresses::bulk(Site::A),
        addresses::bulk(Site::B),
        BULK_BITS_PER_SECOND,
        BULK_PACKET_BYTES,
    )?;
    phases.push(course.measure(OVERLOAD, "20 Mbit/s of bulk traffic into a core link of 10")?);

    let control = course.add_sessions(&voicelane)?;
    phases.push(Phase {
        control_ms: control,
        ..course.measure(SESSIONS, "the same, with the calls' sessions")?
    });

    bulk.set_tos(EF << 2);
    phases.push(course.measure(
        EF_MARKED_BULK,
        "the same, with bulk marked EF by its sender",
    )?);
    bulk.set_tos(0);

    let control = course.delete_sessions(&voicelane)?;
    phases.push(Phase {
        control_ms: control,
        ..course.measure(DELETED, "the same, with the sessions deleted again")?
    });

    let mut checks = check(&phases);
    checks.push(course.own_faults(&bulk));
    bulk.stop()?;
    course.calls.stop(false)?;
    let report = Report {
        phases,
        checks,
        machine: Machine::new(),
        commit: machine::commit(),
        ports: options.ports.name(),
        notes: notes(options.phase),
    };
    Ok(finish(&sites, &report))
}

fn notes(phase: Duration) -> Vec<String> {
    vec![
        format!(
            "each phase is measured over {} s, from {} s after its beginning; packets sent in this \
             window count as lost when they have not arrived {} s after its end",
            phase.as_secs_f64(),
            SETTLE.as_secs_f64(),
            DRAIN.as_secs_f64(),
        ),
        "calls go both ways; each figure of a phase is that of the worse direction, and a call's MOS \
         that of its worse direction"
            .to_owned(),
        format!(
            "MOS by the E-model for G.711 with concealment, from each call's loss, burst ratio and \
             mean network delay plus {FIXED_DELAY_MS} ms for packetisation and playout"
        ),
    ]
}

/// Says what happens, and since when.
struct Progress(Instant);

impl Progress {
    fn say(&self, what: impl fmt::Display) {
        eprintln!("[{:5.1} s] {what}", self.0.elapsed().as_secs_f64());
    }
}

/// The programs under test; nothing where the kernel forwards.
struct Voicelane {
    agent: Option<Agent>,
    _routers: Vec<RouterProcess>,
    _server: Option<Process>,
}

impl Voicelane {
    fn start(sites: &TwoSites, ports: Ports, progress: &Progress) -> Result<Self, LabError> {
        let Ports::Routers(driver) = ports else {
            sites.forward_by_kernel(Some("10mbit"))?;
            return Ok(Self {
                agent: None,
                _routers: Vec::new(),
                _server: None,
            });
        };
        progress.say("starting the QoS server");
        let server = sites.start_server()?;
        let options = RouterOptions {
            ports: driver,
            ..RouterOptions::default()
        };
        let mut routers = Vec::new();
        for site in Site::BOTH {
            progress.say(format_args!("starting router {}", site.router_id()));
            routers.push(sites.start_router(site, &options)?);
        }
        for router in &mut routers {
            router.wait_attached()?;
        }
        let agent = Some(sites.connect_agent()?);
        Ok(Self {
            agent,
            _routers: routers,
            _server: Some(server),
        })
    }
}

/// Lets each host meet its neighbour, so that no call waits for an address to be resolved.
fn meet(sites: &TwoSites) -> Result<(), LabError> {
    let pairs = [
        (&sites.caller, addresses::phone(Site::B)),
        (&sites.bulk_src, addresses::bulk(Site::B).ip()),
    ];
    for (from, to) in pairs {
        let to = to.to_string();
        from.run(
            "ping",
            &["-n", "-c", "3", "-i", "0.2", "-W", "2", &to],
            PING_BOUND,
        )?;
    }
    Ok(())
}

struct Course {
    calls: Calls,
    sink: Sink,
    /// By call: when AddSession's answer was there. Empty without sessions.
    answers: Vec<Moment>,
    length: Duration,
    progress: Progress,
}

impl Course {
    fn measure(&mut self, name: &'static str, what: &str) -> Result<Phase, LabError> {
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
        let bulk = self.sink.figures(window);
        Ok(Phase {
            seconds: window.seconds(),
            bulk_mbit_s: bulk.mbit_s,
            bulk_dscp: bulk.dscp,
            unmarked_after_answer: self.unmarked(window.to),
            ..Phase::of_calls(name, &to_callee, &to_caller)
        })
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

    fn add_sessions(&mut self, voicelane: &Voicelane) -> Result<Option<DelayMs>, LabError> {
        let Some(agent) = &voicelane.agent else {
            return Ok(None);
        };
        self.progress
            .say("adding the calls' sessions over gRPC, with traffic running");
        let mut took = Delay::new();
        for flows in self.calls.flows().chunks(2) {
            let asked = Moment::now();
            let (_, answer) = agent.add_session(call_session(key(flows), flows))?;
            took.packet(answer.since(asked));
            self.answers.push(answer);
        }
        Ok(Some(DelayMs::of(&took)))
    }

    fn delete_sessions(&mut self, voicelane: &Voicelane) -> Result<Option<DelayMs>, LabError> {
        let Some(agent) = &voicelane.agent else {
            return Ok(None);
        };
        self.progress.say("deleting the sessions");
        let mut took = Delay::new();
        for flows in self.calls.flows().chunks(2) {
            let asked = Moment::now();
            agent.delete_session(key(flows))?;
            took.packet(Moment::now().since(asked));
        }
        self.answers.clear();
        Ok(Some(DelayMs::of(&took)))
    }

    /// Whether the testbed itself kept up: otherwise its figures are not the routers'.
    fn own_faults(&self, bulk: &Bulk) -> Check {
        let calls = self.calls.send_failures() + self.calls.kernel_drops() + self.calls.strangers();
        Check::timed(
            "the testbed kept up",
            calls == 0 && self.sink.kernel_drops() == 0 && bulk.lapses() == 0,
            format!(
                "call packets not sent {}, dropped by sockets {}, strange {}; bulk dropped by its \
                 socket {}, lapses of its sender {}",
                self.calls.send_failures(),
                self.calls.kernel_drops(),
                self.calls.strangers(),
                self.sink.kernel_drops(),
                bulk.lapses(),
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
