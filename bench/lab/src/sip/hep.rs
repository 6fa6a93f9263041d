//! Many calls whose signalling the SIP server mirrors to the agent.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use voicelane_testbed::{
    LabError, Process, RouterOptions, Site, TwoSites,
    control::Agent,
    quality::Delay,
    topology::{IpVersion, addresses},
    traffic::Sink,
};

use super::{
    calls::{self, Call},
    media::{Media, MediaFigures},
    report::{Figures, saw_all},
    sessions::{Life, Watch, now},
    site::{Callers, Feed, SipSite},
};
use crate::demo::{
    Check, DelayMs,
    course::{Progress, Voicelane, meet, start_bulk},
};

/// SIP ports of the callees whose media crosses the core link, and of those at site A.
const FAR: u16 = 5060;
const NEAR: u16 = 5062;
/// RTP ports of calls within site A.
const NEAR_PORTS: std::ops::RangeFrom<u16> = 30_000..;
/// How soon a session must exist after its call was answered, and be gone after its end.
const SETUP_MS: f64 = 300.0;
const REMOVAL: Duration = Duration::from_secs(2);
/// After the last call nothing may be left any more.
const LAST: Duration = Duration::from_secs(60);
/// Of a session that the agent does not renew.
const LIFETIME_S: u32 = 60;

/// What goes wrong meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every message arrives once.
    None,
    /// 2 of 100 HEP datagrams get lost, and 2 come twice.
    Datagrams,
    /// The agent is killed when half of the calls have been made, and started again two seconds later.
    Kill,
}

/// How many calls, and how.
#[derive(Clone, Copy, Debug)]
pub struct HepOptions {
    pub calls: u16,
    /// Of these, those with media: they cross the core link, the others stay within site A.
    pub media: u16,
    /// Calls that SIPp begins a second.
    pub per_second: u32,
    /// From the answer to the BYE.
    pub hold: Duration,
    pub trouble: Trouble,
}

/// Makes the calls, under bulk traffic of twice the core link's rate, and judges.
pub fn hep(options: HepOptions) -> Result<Figures, LabError> {
    let progress = Progress::new();
    progress.say("building two sites, a SIP server and phones in namespaces");
    let sites = TwoSites::new("sip")?;
    let voicelane = Voicelane::start(&sites, [&RouterOptions::default(); 2], progress)?;
    meet(&sites, IpVersion::V4)?;
    let sip = SipSite::new(&sites)?;
    let _server = sip.start_server(Feed::Hep)?;
    let mut agent = start_agent(&sip)?;
    if options.trouble == Trouble::Datagrams {
        sip.disturb_hep(2, 2)?;
    }
    let watch = Watch::start(&voicelane.agent, addresses::phone(Site::A));
    let recording = sip.record()?;
    let _sink = Sink::start(&sites.bulk_sink, addresses::bulk(Site::B))?;
    let bulk = start_bulk(&sites, IpVersion::V4)?;
    let media = Media::start(&sites, options.media)?;
    let _callees = [
        sip.start_callees(FAR, addresses::phone(Site::B), false)?,
        sip.start_callees(NEAR, addresses::bulk(Site::A).ip(), false)?,
    ];

    progress.say(format_args!(
        "{} calls, {} a second, {} s each, {} of them with media",
        options.calls,
        options.per_second,
        options.hold.as_secs(),
        options.media
    ));
    let mut callers = start_callers(&sip, options, media.ports())?;
    let making =
        Duration::from_secs(u64::from(options.calls) / u64::from(options.per_second.max(1)));
    let mut killed = None;
    if options.trouble == Trouble::Kill {
        thread::sleep(making / 2);
        progress.say("killing the agent");
        let from = now();
        agent.kill()?;
        thread::sleep(Duration::from_secs(2));
        agent = start_agent(&sip)?;
        killed = Some((from, now()));
        progress.say("the agent is there again");
    }
    let bound = making + options.hold + LAST;
    for callers in &mut callers {
        callers.wait(bound)?;
    }
    progress.say("the last call has ended");
    let bound = match options.trouble {
        Trouble::None => REMOVAL,
        Trouble::Datagrams | Trouble::Kill => LAST,
    };
    let left = wait_until_gone(&voicelane.agent, bound)?;
    Media::drain();
    let (pcap, missed) = recording.stop()?;
    let calls = calls::read(&pcap)?;
    let lives = watch.lives();
    let media = media.stop(|port| during(port, &calls, &lives))?;
    bulk.stop()?;
    drop(agent);

    let mut figures = Figures {
        case: match options.trouble {
            Trouble::None => "hep",
            Trouble::Datagrams => "hep-lossy",
            Trouble::Kill => "agent-killed",
        },
        sessions_at_once: watch.most(),
        left,
        longest_stall_ms: Some(longest_stall_ms(&voicelane.agent)?),
        ..figures(&calls, &lives, media)
    };
    figures.checks = checks(options, &figures, &calls, &lives, killed);
    figures.checks.push(saw_all(missed, &watch));
    Ok(figures)
}

fn start_agent(sip: &SipSite<'_>) -> Result<Process, LabError> {
    sip.start_agent(None, &format!("[sessions]\nlifetime_s = {LIFETIME_S}\n"))
}

fn start_callers(
    sip: &SipSite<'_>,
    options: HepOptions,
    far: Vec<u16>,
) -> Result<Vec<Process>, LabError> {
    let near = options.calls.saturating_sub(options.media);
    let share = |calls: u16| {
        let rate =
            f64::from(options.per_second) * f64::from(calls) / f64::from(options.calls.max(1));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "calls a second"
        )]
        let whole = rate.round() as u32;
        whole.max(1)
    };
    let near_ports = NEAR_PORTS.step_by(2).take(near.into()).collect();
    let groups = [
        ("callers-far", 5060, FAR, far, share(options.media)),
        ("callers-near", 5062, NEAR, near_ports, share(near)),
    ];
    let mut callers = Vec::new();
    for (name, sip_port, callees, ports, per_second) in groups {
        if ports.is_empty() {
            continue;
        }
        callers.push(sip.start_callers(&Callers {
            name,
            sip_port,
            callees,
            media: addresses::phone(Site::A),
            ports,
            per_second,
            hold: options.hold,
            with_media: false,
        })?);
    }
    Ok(callers)
}

/// Waits until the server has no session; how many are left when they should be gone.
pub(crate) fn wait_until_gone(agent: &Agent, bound: Duration) -> Result<usize, LabError> {
    let end = Instant::now() + bound;
    loop {
        let left = agent.sessions()?.len();
        if left == 0 || Instant::now() >= end {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// For how long a router's loop has stood still at most.
pub(super) fn longest_stall_ms(agent: &Agent) -> Result<f64, LabError> {
    Ok(agent.longest_stall()?.as_secs_f64() * 1e3)
}

/// When a call had both a session and a caller.
pub(super) fn during(
    port: u16,
    calls: &BTreeMap<String, Call>,
    lives: &BTreeMap<u16, Life>,
) -> Option<(Duration, Duration)> {
    let call = calls.values().find(|call| call.port == port)?;
    Some((lives.get(&port)?.active?, call.ended?))
}

/// What signalling and sessions come to, held against each other.
pub(super) fn figures(
    calls: &BTreeMap<String, Call>,
    lives: &BTreeMap<u16, Life>,
    media: MediaFigures,
) -> Figures {
    let mut figures = Figures {
        media_calls: media.calls,
        media_sent: media.sent,
        media_lost: media.lost,
        media_unmarked: media.unmarked,
        mos_min: media.mos_min,
        ..Figures::default()
    };
    let (mut setup, mut removal) = (Delay::default(), Delay::default());
    for call in calls.values() {
        figures.calls += 1;
        figures.refused += usize::from(call.refused.is_some());
        let Some(answered) = call.answered else {
            continue;
        };
        figures.answered += 1;
        let Some(life) = lives.get(&call.port) else {
            continue;
        };
        if let Some(active) = life.active {
            figures.with_session += 1;
            setup.packet(active.saturating_sub(answered));
        }
        if let (Some(ended), Some(deleted)) = (call.ended, life.deleted) {
            removal.packet(deleted.saturating_sub(ended));
        }
    }
    figures.setup_ms = DelayMs::of(&setup);
    figures.removal_ms = DelayMs::of(&removal);
    figures
}

fn checks(
    options: HepOptions,
    figures: &Figures,
    calls: &BTreeMap<String, Call>,
    lives: &BTreeMap<u16, Life>,
    killed: Option<(Duration, Duration)>,
) -> Vec<Check> {
    let mut checks = vec![Check::new(
        "every call is answered",
        figures.answered == usize::from(options.calls),
        format!("{} of {}", figures.answered, options.calls),
    )];
    // Whoever was called while no agent listened has no session: HEP is said once.
    let heard = |call: &&Call| match (call.answered, killed) {
        (Some(at), Some((from, to))) => at + Duration::from_millis(500) < from || to < at,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let without = calls.values().filter(heard).filter(|call| {
        lives
            .get(&call.port)
            .is_none_or(|life| life.active.is_none())
    });
    let without: Vec<_> = without.collect();
    let allowed = match options.trouble {
        // A hop's offer and answer belong together, and both come with a chance of 96 in 100; of neither hop
        // with one of 16 in 10,000.
        Trouble::Datagrams => usize::from(options.calls) / 200 + 3,
        Trouble::None | Trouble::Kill => 0,
    };
    checks.push(Check::new(
        "every call has its session",
        without.len() <= allowed,
        format!(
            "{} calls without {without:?}, {allowed} expected at most",
            without.len()
        ),
    ));
    if options.trouble == Trouble::None {
        checks.push(Check::timed(
            "a session exists soon after its 200 OK",
            figures.setup_ms.p99 <= SETUP_MS,
            format!(
                "p99 {:.1} ms, at most {SETUP_MS} ms expected",
                figures.setup_ms.p99
            ),
        ));
        let late = calls.values().filter(|call| {
            let deleted = lives.get(&call.port).and_then(|life| life.deleted);
            call.ended
                .is_some_and(|ended| deleted.is_none_or(|at| at > ended + REMOVAL))
        });
        let late: Vec<_> = late.map(|call| (call, lives.get(&call.port))).collect();
        checks.push(Check::timed(
            "no session two seconds after its BYE",
            late.is_empty(),
            format!(
                "{} later {late:?}; p99 {:.1} ms",
                late.len(),
                figures.removal_ms.p99
            ),
        ));
    }
    let early = calls.values().filter(|call| {
        let deleted = lives.get(&call.port).and_then(|life| life.deleted);
        matches!((call.ended, deleted), (Some(ended), Some(at)) if at < ended)
    });
    let early = early.count();
    checks.push(Check::new(
        "no session ends before its call",
        early == 0,
        format!("{early} did"),
    ));
    checks.push(Check::new(
        "no session is left at the end",
        figures.left == 0,
        format!("{} left", figures.left),
    ));
    checks.push(Check::new(
        "calls with media lose nothing",
        figures.media_lost == 0 && figures.media_sent > 0 && figures.media_unmarked == 0,
        format!(
            "{} of {} packets of {} calls lost, {} arrived without EF",
            figures.media_lost, figures.media_sent, figures.media_calls, figures.media_unmarked
        ),
    ));
    checks
}
