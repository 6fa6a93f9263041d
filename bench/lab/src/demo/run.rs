//! The demo's course.

use std::time::Duration;

use voicelane_bench::Machine;
use voicelane_testbed::{
    LabError, PortDriver, RouterOptions,
    quality::{DRAIN, FIXED_DELAY_MS},
    topology::{IpVersion, TwoSites, addresses::PAGE},
};

use super::{
    DELETED, EF, EF_MARKED_BULK, IDLE, OVERLOAD, Phase, Report, SESSIONS, check,
    course::{Course, Progress, SETTLE, Voicelane, meet, start_bulk},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Voicelane, over this driver.
    Routers(PortDriver),
    /// The kernel, without sessions: to look at the testbed's own figures.
    Kernel,
}

impl Ports {
    pub(super) const fn name(self) -> &'static str {
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
    pub calls: u16,
    pub ports: Ports,
    /// What calls and bulk go by.
    pub ip: IpVersion,
    /// The measured window of each phase.
    pub phase: Duration,
    /// Whether the server serves the operators' page.
    pub has_page: bool,
    /// Whether calls, sessions and bulk are left there for `finish`.
    pub stays: bool,
}

/// Runs it: tells `ready` when the programs run, and gives the report to `finish` while the network is
/// still up. Progress goes to standard error.
pub fn run<T>(
    options: Options,
    ready: impl FnOnce(&TwoSites),
    finish: impl FnOnce(&TwoSites, &Report) -> T,
) -> Result<T, LabError> {
    let progress = Progress::new();
    progress.say("building two sites, a core link and a management network in namespaces");
    let ip = options.ip;
    let sites = TwoSites::with_ip("demo", ip)?;
    let voicelane = start(&sites, options, progress)?;
    let agent = voicelane.as_ref().map(|voicelane| &voicelane.agent);
    ready(&sites);
    meet(&sites, ip)?;

    progress.say(format_args!(
        "starting {} calls over IPv{}",
        options.calls,
        ip.number()
    ));
    let flows = sites.calls_over(ip, options.calls);
    let mut course = Course::start(&sites, ip, flows, options.phase, progress)?;
    let mut phases = vec![course.measure(IDLE, "calls alone")?];

    let bulk = start_bulk(&sites, ip)?;
    phases.push(course.measure(OVERLOAD, "20 Mbit/s of bulk traffic into a core link of 10")?);

    let control = agent.map(|agent| course.add_sessions(agent)).transpose()?;
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

    let control = agent
        .map(|agent| course.delete_sessions(agent))
        .transpose()?;
    phases.push(Phase {
        control_ms: control,
        ..course.measure(DELETED, "the same, with the sessions deleted again")?
    });

    let mut checks = check(&phases, ip);
    checks.push(course.own_faults(bulk.lapses()));
    let bulk = if options.stays {
        if let Some(agent) = agent {
            course.add_sessions(agent)?;
        }
        Some(bulk)
    } else {
        bulk.stop()?;
        course.calls.stop(false)?;
        None
    };
    let stall = agent.map(|agent| agent.longest_stall()).transpose()?;
    let report = Report {
        phases,
        checks,
        longest_stall_ms: stall.map(|stall| stall.as_secs_f64() * 1e3),
        machine: Machine::read(),
        commit: voicelane_bench::commit(),
        ports: options.ports.name(),
        ip: ip.number(),
        notes: notes(options),
    };
    let finished = finish(&sites, &report);
    drop(bulk);
    Ok(finished)
}

/// The programs under test; nothing where the kernel forwards.
fn start(
    sites: &TwoSites,
    options: Options,
    progress: Progress,
) -> Result<Option<Voicelane>, LabError> {
    let ipv6 = options.ip == IpVersion::V6;
    let Ports::Routers(ports) = options.ports else {
        sites.forward_by_kernel(Some("10mbit"))?;
        if ipv6 {
            sites.forward_ipv6_by_kernel()?;
        }
        return Ok(None);
    };
    let router = RouterOptions {
        ports,
        ipv6,
        ..RouterOptions::default()
    };
    let page = PAGE.to_string();
    let page: &[&str] = if options.has_page {
        &["--web", &page]
    } else {
        &[]
    };
    Voicelane::start_with(sites, page, [&router; 2], progress).map(Some)
}

pub(super) fn notes(options: Options) -> Vec<String> {
    vec![
        format!("calls and bulk go over IPv{}", options.ip.number()),
        format!(
            "each phase is measured over {} s, from {} s after its beginning; packets sent in this \
             window count as lost when they have not arrived {} s after its end",
            options.phase.as_secs_f64(),
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
