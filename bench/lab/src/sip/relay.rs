//! The agent between the SIP server and a real rtpengine.

use std::{collections::BTreeMap, thread, time::Duration};

use voicelane_testbed::{
    Capture, LabError, Process, RouterOptions, Site, TwoSites,
    topology::{IpVersion, addresses},
};

use super::{
    calls,
    hep::figures,
    report::Figures,
    sessions::Watch,
    site::{Callers, Feed, Ng, SipSite},
};
use crate::demo::{
    Check,
    course::{Progress, Voicelane, meet},
};

const CALLS: u16 = 4;
/// From the answer to the BYE. The recording that the phones send is as long.
const HOLD: Duration = Duration::from_secs(7);
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
    let _agent = sip.start_agent(Some(Ng::Relay), "")?;
    let watch = Watch::start(&voicelane.agent, addresses::phone(Site::A));
    let _callees = sip.start_callees_with_media(5060, addresses::phone(Site::B))?;

    progress.say(format_args!("{CALLS} calls through the relay"));
    let recording = sip.record()?;
    let captures = capture(&sites)?;
    let mut callers = sip.start_callers_with_media(&callers("callers"))?;
    callers.wait(HOLD + Duration::from_secs(60))?;
    thread::sleep(Duration::from_secs(2));
    let left = voicelane.agent.sessions()?.len();
    let mut flows = Flows::new();
    for capture in captures {
        add_flows(&capture.stop()?.0, &mut flows)?;
    }
    let (pcap, _) = recording.stop()?;
    let calls = calls::read(&pcap)?;

    progress.say("the same, and the relay stops under running calls");
    let cut = cut(&sip, &mut relay, progress)?;
    let media: Vec<_> = flows.values().filter(|flow| flow.packets > 100).collect();
    let unmarked: u64 = media.iter().map(|flow| flow.unmarked).sum();
    let packets: u64 = media.iter().map(|flow| flow.packets).sum();
    let mut figures = Figures {
        case: "relay",
        sessions_at_once: watch.most(),
        left,
        media_calls: CALLS.into(),
        media_sent: packets,
        media_unmarked: unmarked,
        ..figures(&calls, &watch.lives())
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
            cut.answered == usize::from(CALLS) && cut.ended == usize::from(CALLS),
            format!(
                "{} answered, {} ended by their BYE",
                cut.answered, cut.ended
            ),
        ),
        Check::new(
            "a call without a relay is refused, as without an agent",
            cut.refused == 1,
            format!("{} of 1", cut.refused),
        ),
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
    answered: usize,
    ended: usize,
    refused: usize,
}

/// Stops the relay while calls run. They must end by their BYE; a new one cannot begin.
fn cut(sip: &SipSite<'_>, relay: &mut Process, progress: Progress) -> Result<Cut, LabError> {
    let recording = sip.record()?;
    let mut running = sip.start_callers_with_media(&callers("callers-2"))?;
    thread::sleep(Duration::from_secs(3));
    relay.kill()?;
    progress.say("the relay is dead");
    let one = Callers {
        sip_port: 5064,
        ports: vec![0],
        ..callers("callers-3")
    };
    let mut refused = sip.start_callers_with_media(&one)?;
    refused.wait(HOLD + Duration::from_secs(60))?;
    running.wait(HOLD + Duration::from_secs(60))?;
    // Until the last messages are recorded.
    thread::sleep(Duration::from_secs(1));
    let calls = calls::read(&recording.stop()?.0)?;
    let count = |is: &dyn Fn(&calls::Call) -> bool| calls.values().filter(|call| is(call)).count();
    Ok(Cut {
        answered: count(&|call| call.answered.is_some()),
        ended: count(&|call| call.answered.is_some() && call.ended.is_some()),
        refused: count(&|call| call.refused.is_some()),
    })
}
