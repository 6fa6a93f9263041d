//! The comparison's course.

use std::{net::SocketAddr, time::Duration};

use voicelane_bench::Machine;
use voicelane_testbed::{
    LabError, RouterOptions,
    quality::{DRAIN, FIXED_DELAY_MS},
    topology::{IpVersion, Site, TwoSites},
    traffic::{Bulk, Sink},
};
use voicelane_types::BitRate;

use super::{CHEAT, Candidate, Figures, Report, htb::forward_by_htb, report::check};
use crate::demo::{
    self, BULK_PACKET_BYTES, EF, IDLE, OVERLOAD,
    course::{Course, Progress, SETTLE, Voicelane, meet},
};

/// A port of the calls' range, for the bulk sender that cheats.
const CHEATING_PORT: u16 = 30_000;

/// How the comparison is to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub calls: u16,
    /// Of the core link. Bulk sends twice as much at the IP layer.
    pub rate: BitRate,
    /// What calls and bulk go by.
    pub ip: IpVersion,
    /// The measured window of each phase.
    pub phase: Duration,
}

/// Runs it. Progress goes to standard error.
pub fn run(options: Options) -> Result<Report, LabError> {
    let progress = Progress::new();
    let mut results = Vec::new();
    let (mut checks, mut longest_stall) = (Vec::new(), None);
    for candidate in Candidate::ALL {
        progress.say(format_args!("{}: building the network", candidate.name()));
        let (figures, own, stall) = measure(candidate, options, progress)?;
        longest_stall = longest_stall.max(stall);
        checks.push(demo::Check {
            name: format!("{}: {}", candidate.name(), own.name),
            ..own
        });
        results.push(figures);
    }
    checks.splice(0..0, check(&results));
    Ok(Report {
        rate_bit_s: options.rate.bps(),
        ip: options.ip.number(),
        calls: options.calls,
        results,
        checks,
        longest_stall_ms: longest_stall.map(|stall| stall.as_secs_f64() * 1e3),
        machine: Machine::read(),
        commit: voicelane_bench::commit(),
        notes: notes(options),
    })
}

fn measure(
    candidate: Candidate,
    options: Options,
    progress: Progress,
) -> Result<(Figures, demo::Check, Option<Duration>), LabError> {
    let Options { rate, ip, .. } = options;
    let sites = TwoSites::with_ip(candidate.name(), ip)?;
    let mut voicelane = None;
    let mut commands = Vec::new();
    match candidate {
        Candidate::Voicelane => {
            let router = RouterOptions {
                core_rate: rate.to_string(),
                ipv6: ip == IpVersion::V6,
                ..RouterOptions::default()
            };
            voicelane = Some(Voicelane::start(&sites, [&router; 2], progress)?);
        }
        Candidate::Htb(classifier) => commands = forward_by_htb(&sites, rate, ip, classifier)?,
    }
    meet(&sites, ip)?;

    // The same packets for all: phones mark EF themselves.
    let mut flows = sites.calls_over(ip, options.calls);
    flows.iter_mut().for_each(|flow| flow.tos = EF << 2);
    let [from, to] = Site::BOTH.map(|site| site.bulk(ip));
    let [cheating_from, cheating_to] =
        [from, to].map(|address| SocketAddr::new(address.ip(), CHEATING_PORT));
    let mut course = Course::start(&sites, ip, flows, options.phase, progress)?;
    course
        .sinks
        .push(Sink::start(&sites.bulk_sink, cheating_to)?);
    if let Some(voicelane) = &voicelane {
        course.add_sessions(&voicelane.agent)?;
    }
    let mut phases = vec![course.measure(IDLE, "calls alone")?];

    let bulk = |from, to| Bulk::start(&sites.bulk_src, from, to, 2 * rate.bps(), BULK_PACKET_BYTES);
    let honest = bulk(from, to)?;
    phases.push(course.measure(OVERLOAD, "bulk of twice the link's rate beside them")?);
    let mut lapses = honest.lapses();
    honest.stop()?;

    let cheat = bulk(cheating_from, cheating_to)?;
    cheat.set_tos(EF << 2);
    phases.push(course.measure(CHEAT, "bulk marks itself EF and uses a port of the calls")?);
    lapses += cheat.lapses();
    cheat.stop()?;
    let own = course.own_faults(lapses);
    let stall = voicelane.as_ref().map(|it| it.agent.longest_stall());
    let stall = stall.transpose()?;
    course.calls.stop(false)?;
    Ok((
        Figures {
            candidate: candidate.name(),
            what: candidate.what(),
            phases,
            commands,
        },
        own,
        stall,
    ))
}

fn notes(options: Options) -> Vec<String> {
    vec![
        format!(
            "{} calls both ways and bulk of {:.0} Mbit/s (packets of {BULK_PACKET_BYTES} bytes) one \
             way, over IPv{}; the core link is shaped to {} on the wire at both ends",
            options.calls,
            2.0 * options.rate.mbit_s(),
            options.ip.number(),
            options.rate,
        ),
        format!(
            "phases: idle, calls alone; overload, with bulk; cheat, bulk marks itself EF and sends \
             from and to UDP port {CHEATING_PORT}, which is in the calls' range"
        ),
        "phones mark EF in all phases; with Voicelane each call has a session".to_owned(),
        "HTB that also asks for the phones' addresses withstands this cheat, but not one that comes \
         from a phone's own address or prefix, such as that of a computer with a softphone"
            .to_owned(),
        format!(
            "HTB sends a packet of a class that is within its own rate at once, whatever went just \
             before, and the virtual link takes no time for either: its delays are without the \
             {:.1} ms that a wire of this rate would still be busy with a packet of bulk at most. \
             Voicelane's shaper lets one packet's time pass before the next, as such a wire does",
            f64::from(BULK_PACKET_BYTES + 38) * 8.0 / options.rate.mbit_s() / 1e3,
        ),
        format!(
            "each phase is measured over {} s, from {} s after its beginning, and {} s are left for \
             packets under way; each figure of the calls is that of the worse direction; MOS by the \
             E-model for G.711 with concealment, with {FIXED_DELAY_MS} ms for packetisation and \
             playout",
            options.phase.as_secs_f64(),
            SETTLE.as_secs_f64(),
            DRAIN.as_secs_f64(),
        ),
    ]
}
