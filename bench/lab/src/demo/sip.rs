//! The demo with calls that come and go by SIP alone.

use std::{
    thread,
    time::{Duration, Instant},
};

use voicelane_bench::Machine;
use voicelane_testbed::{
    LabError, Process, RouterOptions, Site, TwoSites,
    clock::Moment,
    quality::DRAIN,
    topology::{IpVersion, addresses},
};

use super::{
    Check, DELETED, EF, EF_MARKED_BULK, IDLE, OVERLOAD, Options, Ports, Report, SESSIONS, check,
    course::{Course, Progress, SETTLE, Voicelane, meet, start_bulk},
};
use crate::sip::{self, Callers, Feed, Gated, Ng, SipSite, Watch};

/// What a call of G.711 takes of a link, headers and RTCP included, bit/s.
const CALL_BITS_PER_SECOND: u64 = 99_504;
/// Calls that arrive in a second.
const PER_SECOND: u32 = 20;
const SIP_PORT: u16 = 5060;
const SETUP_BOUND: Duration = Duration::from_secs(20);
/// What a phase takes beside its window, and what may come between two.
const SLACK: Duration = Duration::from_secs(3);

/// Runs it, and gives the report to `finish` while the network is still up. First the calls run without
/// an agent; then they are hung up and made again with one, which learns them by HEP. In the end the
/// agent's gate guards the callers' link, and one call more than it admits asks for room.
pub fn run_sip<T>(
    options: Options,
    finish: impl FnOnce(&TwoSites, &Report) -> T,
) -> Result<T, LabError> {
    let (Ports::Routers(ports), IpVersion::V4) = (options.ports, options.ip) else {
        return Err(LabError::Invalid(
            "calls by SIP need the routers, and IPv4".to_owned(),
        ));
    };
    let progress = Progress::new();
    progress.say("building two sites, a SIP server and phones in namespaces");
    let sites = TwoSites::new("demo")?;
    let far = RouterOptions {
        ports,
        ..RouterOptions::default()
    };
    let near = RouterOptions {
        edge_rate: room_for(options.calls),
        ..far.clone()
    };
    let voicelane = Voicelane::start(&sites, [&near, &far], progress)?;
    meet(&sites, options.ip)?;
    let site = SipSite::new(&sites)?;
    let server = site.start_server(Feed::Hep)?;
    let _callees = site.start_callees(SIP_PORT, addresses::phone(Site::B), false)?;
    let flows = sites.calls(options.calls);
    let mut course = Course::start(&sites, options.ip, flows, options.phase, progress)?;
    let two_phases = 2 * (SETTLE + options.phase + DRAIN + SLACK);

    progress.say(format_args!(
        "{} calls by SIP, and no agent yet",
        options.calls
    ));
    let mut callers = place(&site, options.calls, two_phases)?;
    let mut phases = vec![course.measure(IDLE, "calls alone")?];
    let bulk = start_bulk(&sites, IpVersion::V4)?;
    phases.push(course.measure(OVERLOAD, "20 Mbit/s of bulk traffic into a core link of 10")?);
    callers.wait(two_phases + SETUP_BOUND)?;

    progress.say("the agent starts, and the calls are made again");
    let agent = site.start_agent(None, "")?;
    let watch = Watch::start(&voicelane.agent, addresses::phone(Site::A));
    let mut callers = place(&site, options.calls, two_phases)?;
    course.answers = answers(&watch, &course, &mut callers)?;
    phases.push(course.measure(
        SESSIONS,
        "the same, with the sessions that the agent made of SIP",
    )?);
    bulk.set_tos(EF << 2);
    phases.push(course.measure(
        EF_MARKED_BULK,
        "the same, with bulk marked EF by its sender",
    )?);
    bulk.set_tos(0);

    progress.say("the callers hang up, and their media goes on");
    callers.wait(two_phases + SETUP_BOUND)?;
    let gone = gone(&voicelane)?;
    course.answers.clear();
    phases.push(course.measure(DELETED, "the same, after the calls have ended by SIP")?);

    let mut checks = check(&phases, options.ip);
    checks.push(gone);
    drop((agent, server));
    checks.extend(gate(&site, options.calls, progress)?);
    checks.push(course.own_faults(bulk.lapses()));
    bulk.stop()?;
    course.calls.stop(false)?;
    let stall = voicelane.agent.longest_stall()?;
    let report = Report {
        phases,
        checks,
        longest_stall_ms: Some(stall.as_secs_f64() * 1e3),
        machine: Machine::read(),
        commit: voicelane_bench::commit(),
        ports: options.ports.name(),
        ip: options.ip.number(),
        notes: super::run::notes(options)
            .into_iter()
            .chain(["SIPp's calls go through Kamailio, which mirrors them to the agent; signalling takes \
                     the management network, and the phones' media does not wait for it"
                .to_owned()])
            .collect(),
    };
    Ok(finish(&sites, &report))
}

/// The rate of an edge port that admits so many calls: calls may take nine tenths of half of it.
fn room_for(calls: u16) -> String {
    let half_a_call_more = u64::from(calls) * CALL_BITS_PER_SECOND + CALL_BITS_PER_SECOND / 2;
    format!("{}kbit/s", half_a_call_more * 2 * 10 / 9 / 1_000)
}

fn place(site: &SipSite<'_>, calls: u16, hold: Duration) -> Result<Process, LabError> {
    site.start_callers(&Callers {
        name: "callers",
        sip_port: SIP_PORT,
        callees: SIP_PORT,
        media: addresses::phone(Site::A),
        ports: (0..calls)
            .map(|call| addresses::rtp(Site::A, call).port())
            .collect(),
        per_second: PER_SECOND,
        hold,
        with_media: false,
    })
}

/// Waits until each call has its session. When that was, call by call.
fn answers(watch: &Watch, course: &Course, callers: &mut Process) -> Result<Vec<Moment>, LabError> {
    let (at, moment) = (sip::now(), Moment::now());
    let end = Instant::now() + SETUP_BOUND;
    loop {
        let lives = watch.lives();
        let active = course.calls.flows().chunks(2).map(|flows| {
            let port = flows.first()?.source.port();
            let active = lives.get(&port)?.active?;
            Some(moment + active.saturating_sub(at))
        });
        if let Some(answers) = active.collect::<Option<Vec<_>>>() {
            return Ok(answers);
        }
        if Instant::now() >= end {
            let what = format!("a session for each call; {} have one", lives.len());
            return Err(LabError::timeout(what, SETUP_BOUND, callers.log_tail()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether all sessions go with their calls.
fn gone(voicelane: &Voicelane) -> Result<Check, LabError> {
    let left = sip::wait_until_gone(&voicelane.agent, Duration::from_secs(2))?;
    Ok(Check::new(
        "deleted: no session two seconds after the last BYE",
        left == 0,
        format!("{left} left"),
    ))
}

/// One call more than the callers' link admits, at the agent's gate.
fn gate(site: &SipSite<'_>, calls: u16, progress: Progress) -> Result<[Check; 3], LabError> {
    progress.say(format_args!(
        "{} calls at the gate of a link that admits {calls}",
        calls + 1
    ));
    let _server = site.start_server(Feed::Ng)?;
    let _agent = site.start_agent(Some(Ng::Gate), "")?;
    let recording = site.record()?;
    let hold = Duration::from_secs(u64::from(calls / 20) + 3);
    place(site, calls + 1, hold)?.wait(hold + SETUP_BOUND)?;
    thread::sleep(Duration::from_secs(1));
    let (pcap, missed) = recording.stop()?;
    let gated = Gated::of(&sip::read(&pcap)?);
    let answered = gated.answered;
    Ok([
        Check::new(
            "gate: as many calls as there is room for",
            answered == usize::from(calls),
            format!("{answered} answered, {calls} expected"),
        ),
        gated.refusals("gate: one call too many gets 503 and never rings", 1),
        Check::new(
            "gate: tcpdump saw all messages",
            missed == 0,
            format!("{missed} frames lost"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_port_for_twenty_calls() {
        // 0.9 * 0.5 * 4,533 kbit/s are 2.0399 Mbit/s: 20.5 calls.
        assert_eq!(room_for(20), "4532kbit/s");
    }
}
