//! The course of the measurement.

use std::{collections::BTreeMap, thread, time::Duration};

use voicelane_bench::Machine;
use voicelane_proto::v1::{ServiceClass, SessionKey};
use voicelane_testbed::{
    LabError, RouterOptions,
    control::{Agent, call_session},
    topology::{IpVersion, TwoSites},
    traffic::{Direction, Flow},
};
use voicelane_types::BitRate;

use super::{
    checks::check,
    figures::figures,
    plan::{CLASSES, Stream, streams},
    report::{LoadReport, Report},
    router,
    traffic::Traffic,
};
use crate::demo::{
    EF,
    course::{AGENT_ID, Progress, Voicelane, meet},
};

/// From the start of the traffic to the measured window: queues fill.
const SETTLE: Duration = Duration::from_secs(4);
/// From the traffic's end to the last packet: queues empty.
const DRAIN: Duration = Duration::from_millis(1_500);

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the core link, on the wire.
    pub rate: BitRate,
    /// Of each class's fair share, in percent.
    pub loads_percent: Vec<u64>,
    /// What everything goes by.
    pub ip: IpVersion,
    /// The measured window of each load.
    pub window: Duration,
    /// More keys of the core port's section in the routers' configuration, in TOML.
    pub core_toml: String,
}

/// Runs it. Progress goes to standard error.
pub fn run(options: &Options) -> Result<Report, LabError> {
    let progress = Progress::new();
    let mut loads = Vec::new();
    for &percent in &options.loads_percent {
        loads.push(measure(options, percent, progress)?);
    }
    Ok(Report {
        rate_bit_s: options.rate.bps(),
        ip: options.ip.number(),
        seconds: options.window.as_secs_f64(),
        checks: check(&loads, options.rate),
        loads,
        core_toml: options.core_toml.clone(),
        machine: Machine::read(),
        commit: voicelane_bench::commit(),
        notes: notes(options),
    })
}

fn measure(options: &Options, percent: u64, progress: Progress) -> Result<LoadReport, LabError> {
    let ip = options.ip;
    progress.say(format_args!(
        "load {}: building the network",
        times(percent)
    ));
    let sites = TwoSites::with_ip("classes", ip)?;
    let router = RouterOptions {
        core_rate: options.rate.to_string(),
        ipv6: ip == IpVersion::V6,
        trusts_bulk: true,
        more_toml: options.core_toml.clone(),
        ..RouterOptions::default()
    };
    // Twice the load is twice the calls that the link has room for.
    let voicelane = Voicelane::start_with(&sites, &["--admit-all"], [&router; 2], progress)?;
    meet(&sites, ip)?;

    let streams = streams(options.rate, percent, ip);
    let calls = add_sessions(&sites, &voicelane.agent, &streams)?;
    progress.say(format_args!(
        "load {}: {calls} calls and {} code points, {:.0} s",
        times(percent),
        streams.len() - calls,
        (SETTLE + options.window + DRAIN).as_secs_f64()
    ));
    let traffic = Traffic::start(&sites, &streams)?;
    thread::sleep(SETTLE);
    let (window, router) = router::pass(&voicelane.agent, options.window)?;
    let log = traffic.stop(DRAIN)?;
    Ok(LoadReport {
        load: times(percent),
        calls,
        classes: figures(&log, &streams, window, options.rate),
        router,
        sender_lapses: log.lapses,
        receiver_faults: log.faults,
        load_average: Machine::read().load_average,
    })
}

/// Each call is a session of its own. Returns how many.
fn add_sessions(sites: &TwoSites, agent: &Agent, streams: &[Stream]) -> Result<usize, LabError> {
    let calls = (0u32..).zip(streams.iter().filter(|stream| stream.is_call()));
    let mut count = 0;
    for (call, stream) in calls {
        let flow = Flow {
            call,
            direction: Direction::ToCallee,
            source_namespace: sites.caller.clone(),
            source: stream.source,
            destination_namespace: sites.callee.clone(),
            destination: stream.destination,
            tos: 0,
        };
        let key = SessionKey {
            agent_id: AGENT_ID.to_owned(),
            session_id: format!("call-{call}"),
        };
        let mut spec = call_session(key, &[flow]);
        let class = if stream.dscp == EF {
            ServiceClass::Telephony
        } else {
            ServiceClass::AdmittedTelephony
        };
        spec.service_class = class.into();
        agent.add_session(spec)?;
        count += 1;
    }
    Ok(count)
}

#[allow(clippy::cast_precision_loss)] // small numbers
fn times(percent: u64) -> f64 {
    percent as f64 / 100.0
}

fn notes(options: &Options) -> Vec<String> {
    let mut shares: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for class in CLASSES {
        shares
            .entry(class.share.to_string())
            .or_default()
            .push(class.name);
    }
    let shares: Vec<_> = shares
        .into_iter()
        .map(|(share, classes)| format!("{share}: {}", classes.join(", ")))
        .collect();
    vec![
        format!(
            "load 1 offers each class its fair share of {} on the wire ({}); all classes send at \
             once, from site A to site B",
            options.rate,
            shares.join("; ")
        ),
        "telephony and admitted telephony are calls of 50 packets a second with 172 bytes of RTP \
         (200 bytes of IPv4, 220 of IPv6), one way, a session each; all else is packets of 1,500 \
         bytes that come with their own marks to a port that keeps them, at random within their \
         pace; AF classes send a third with each drop precedence"
            .to_owned(),
        format!(
            "each load has new routers, {} s to fill its queues, and a window of {} s: offered, what \
             was sent in it; delivered and delay, what arrived in it; loss, what of that sent never \
             arrived. Rates are on the wire (IP and 38 bytes), delays one-way between sockets",
            SETTLE.as_secs_f64(),
            options.window.as_secs_f64(),
        ),
        "fair: what a class is offered or, when that is more, its minimum or its weight's part of \
         what the strict classes and the minimum leave"
            .to_owned(),
    ]
}
