//! The agent between the SIP server and a real rtpengine.

use std::{collections::BTreeMap, thread, time::Duration};

use voicelane_testbed::{
    Capture, LabError, Process, RouterOptions, Site, TwoSites,
    topology::{IpVersion, addresses},
};

use super::{
    calls,
    hep::{figures, longest_stall_ms, wait_until_gone},
    media::MediaFigures,
    report::{Figures, saw_all},
    sessions::{Watch, now},
    site::{Callers, Feed, Ng, SipSite},
};
use crate::demo::{
    Check,
    course::{Progress, Voicelane, meet},
};

const CALLS: u16 = 4;
/// From the answer to the BYE. The recording that the phones send is as long.
const HOLD: Duration = Duration::from_secs(7);
/// How much later than wanted a BYE may come: less than what ends a call whose BYE is lost, and more than what a
/// busy machine takes.
const LATE: Duration = Duration::from_secs(10);
/// How long sessions may stay of calls whose end nobody told the agent, as Kamailio asks no relay that it
/// holds for dead: the agent asks after them when it renews them, and again until 30 s are silent.
const GONE: Duration = Duration::from_secs(100);
const LIFETIME: &str = "[sessions]\nlifetime_s = 60\n";
/// From a flow's first packet until all of it must be marked.
const SETTLED: f64 = 0.5;
/// Each call has caller to relay, relay to callee, and back.
const FLOWS: usize = 4 * CALLS as usize;

/// What the phones and the relay received of a flow.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    packets: u64,
    unmarked: u64,
    first: f64,
}

/// By source and destination, each "address:port".
type Flows = BTreeMap<(String, String), Received>;

/// Lets calls go through the relay; then stops the relay under running calls, and judges.
pub fn relay() -> Result<Figures, LabError> {
    let progress = Progress::new();
    progress.say("building two sites, a SIP server, a relay and phones in namespaces");
    let sites = TwoSites::new("relay")?;
    let voicelane = Voicelane::start(&sites, [&RouterOptions::default(); 2], progress)?;
    meet(&sites, IpVersion::V4)?;
    let sip = SipSite::new(&sites)?;
    let _server = sip.start_server(Feed::Ng)?;
    let mut relay = sip.start_relay()?;
    let _agent = sip.start_agent(Some(Ng::Relay), LIFETIME)?;
    let watch = Watch::start(&voicelane.agent, addresses::phone(Site::A));
    let _callees = sip.start_callees(5060, addresses::phone(Site::B), true)?;

    progress.say(format_args!("{CALLS} calls through the relay"));
    let recording = sip.record()?;
    let captures = capture(&sites)?;
    let mut callers = sip.start_callers(&callers("callers"))?;
    callers.wait(HOLD + Duration::from_secs(60))?;
    thread::sleep(Duration::from_secs(2));
    let left = voicelane.agent.sessions()?.len();
    let mut flows = Flows::new();
    let (pcap, mut missed) = recording.stop()?;
    for capture in captures {
        let (pcap, missed_here) = capture.stop()?;
        add_flows(&pcap, &mut flows)?;
        missed += missed_here;
    }
    let calls = calls::read(&pcap)?;

    progress.say("the same, and the relay stops under running calls");
    let cut = cut(&sip, &mut relay, progress)?;
    let left_after_cut = wait_until_gone(&voicelane.agent, GONE)?;
    let media: Vec<_> = flows.values().filter(|flow| flow.packets > 100).collect();
    let unmarked: u64 = media.iter().map(|flow| flow.unmarked).sum();
    let packets: u64 = media.iter().map(|flow| flow.packets).sum();
    let of_media = MediaFigures {
        calls: CALLS.into(),
        sent: packets,
        unmarked,
        ..MediaFigures::default()
    };
    let mut figures = Figures {
        case: "relay",
        sessions_at_once: watch.most(),
        left,
        longest_stall_ms: Some(longest_stall_ms(&voicelane.agent)?),
        ..figures(&calls, &watch.lives(), of_media)
    };
    figures.checks = vec![
        Check::new(
            "every call is answered",
            figures.answered == usize::from(CALLS),
            format!("{} of {CALLS}", figures.answered),
        ),
        Check::new(
            "four flows a call, each with EF",
            media.len() == FLOWS && unmarked == 0,
            format!(
                "{} flows of {FLOWS}; {unmarked} of {packets} packets without EF, {SETTLED} s after a \
                 flow's first one",
                media.len()
            ),
        ),
        Check::new(
            "no session two seconds after the last BYE",
            left == 0,
            format!("{left} left"),
        ),
        Check::new(
            "calls go on without the relay",
            cut.outlived == usize::from(CALLS) && cut.whole == usize::from(CALLS),
            format!(
                "{} of {CALLS} ran when it died, {} ended by their BYE in their own time",
                cut.outlived, cut.whole
            ),
        ),
        Check::new(
            "nor do their sessions stay",
            left_after_cut == 0,
            format!(
                "{left_after_cut} left {} s after the last BYE",
                GONE.as_secs()
            ),
        ),
        Check::new(
            "a call without a relay is refused, as without an agent",
            cut.refused == 1,
            format!("{} of 1", cut.refused),
        ),
        saw_all(missed + cut.missed, &watch),
    ];
    Ok(figures)
}

fn callers(name: &'static str) -> Callers {
    Callers {
        name,
        sip_port: 5060,
        callees: 5060,
        media: addresses::phone(Site::A),
        ports: vec![0; CALLS.into()],
        per_second: 4,
        hold: HOLD,
        with_media: true,
    }
}

/// What is received by callers, callees and relay, each in its own namespace.
fn capture(sites: &TwoSites) -> Result<Vec<Capture>, LabError> {
    let hosts = [
        (&sites.caller, addresses::phone(Site::A)),
        (&sites.callee, addresses::phone(Site::B)),
        (&sites.bulk_src, addresses::bulk(Site::A).ip()),
    ];
    hosts
        .into_iter()
        .map(|(host, own)| {
            Capture::start(&sites.lab, host, "eth0", &format!("udp and dst host {own}"))
        })
        .collect()
}

fn add_flows(pcap: &std::path::Path, flows: &mut Flows) -> Result<(), LabError> {
    let fields = [
        "frame.time_epoch",
        "ip.src",
        "udp.srcport",
        "ip.dst",
        "udp.dstport",
        "ip.dsfield.dscp",
    ];
    for row in Capture::fields(pcap, "udp", &fields)? {
        let [at, source, source_port, destination, destination_port, dscp] = row.as_slice() else {
            continue;
        };
        let at: f64 = at.parse().unwrap_or(0.0);
        let key = (
            format!("{source}:{source_port}"),
            format!("{destination}:{destination_port}"),
        );
        let flow = flows.entry(key).or_insert(Received {
            first: at,
            ..Received::default()
        });
        flow.packets += 1;
        flow.unmarked += u64::from(at - flow.first > SETTLED && dscp != "46");
    }
    Ok(())
}

struct Cut {
    /// Calls that were answered before the relay died, and whose BYE came later.
    outlived: usize,
    /// Of these, those that were as long as their callers wanted.
    whole: usize,
    refused: usize,
    missed: u64,
}

/// Stops the relay while calls run. They must end by their BYE; a new one cannot begin.
fn cut(sip: &SipSite<'_>, relay: &mut Process, progress: Progress) -> Result<Cut, LabError> {
    let recording = sip.record()?;
    let mut running = sip.start_callers(&callers("callers-2"))?;
    thread::sleep(Duration::from_secs(3));
    relay.kill()?;
    let died = now();
    progress.say("the relay is dead");
    let one = Callers {
        sip_port: 5064,
        ports: vec![0],
        ..callers("callers-3")
    };
    let mut refused = sip.start_callers(&one)?;
    refused.wait(HOLD + Duration::from_secs(60))?;
    running.wait(HOLD + Duration::from_secs(60))?;
    // Until the last messages are recorded.
    thread::sleep(Duration::from_secs(1));
    let (pcap, missed) = recording.stop()?;
    let calls = calls::read(&pcap)?;
    let lengths: Vec<Duration> = calls
        .values()
        .filter_map(|call| Some((call.answered?, call.ended?)))
        .filter(|(answered, ended)| *answered < died && died < *ended)
        .map(|(answered, ended)| ended - answered)
        .collect();
    let is_whole = |length: &&Duration| HOLD <= **length && **length < HOLD + LATE;
    Ok(Cut {
        outlived: lengths.len(),
        whole: lengths.iter().filter(is_whole).count(),
        refused: calls.values().filter(|call| call.refused.is_some()).count(),
        missed,
    })
}
