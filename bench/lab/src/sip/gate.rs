//! More calls than a link admits, behind the agent's gate.

use std::{thread, time::Duration};

use voicelane_testbed::{
    LabError, RouterOptions, Site, TwoSites,
    topology::{IpVersion, addresses},
    traffic::Sink,
};

use super::{
    calls::{self, Gated},
    hep::{during, figures, longest_stall_ms},
    media::Media,
    report::{Figures, saw_all},
    sessions::Watch,
    site::{Callers, Feed, Ng, SipSite},
};
use crate::demo::{
    Check,
    course::{Progress, Voicelane, meet, start_bulk},
};

/// Calls that are tried, and those that the callers' link admits.
const TRIED: u16 = 50;
const ROOM: usize = 20;
/// A call of G.711 takes 99,504 bit/s of a link, calls may take 9/10 of its budget, and that is half of
/// its rate: room for 20.35 calls.
const EDGE_RATE: &str = "4500kbit/s";
const PER_SECOND: u32 = 10;
/// A call that this is the worst of is as good as G.711 gets, all but.
const GOOD_MOS: f64 = 4.3;

/// Lets 50 calls ask for room on a link that admits 20, under bulk traffic, and judges.
pub fn gate(hold: Duration) -> Result<Figures, LabError> {
    let progress = Progress::new();
    progress.say("building two sites, a SIP server and phones in namespaces");
    let sites = TwoSites::new("gate")?;
    let narrow = RouterOptions {
        edge_rate: EDGE_RATE.to_owned(),
        ..RouterOptions::default()
    };
    let voicelane = Voicelane::start(&sites, [&narrow, &RouterOptions::default()], progress)?;
    meet(&sites, IpVersion::V4)?;
    let sip = SipSite::new(&sites)?;
    let _server = sip.start_server(Feed::Ng)?;
    let _agent = sip.start_agent(Some(Ng::Gate), "")?;
    let watch = Watch::start(&voicelane.agent, addresses::phone(Site::A));
    let recording = sip.record()?;
    let _sink = Sink::start(&sites.bulk_sink, addresses::bulk(Site::B))?;
    let bulk = start_bulk(&sites, IpVersion::V4)?;
    let media = Media::start(&sites, TRIED)?;
    let _callees = sip.start_callees(5060, addresses::phone(Site::B), false)?;

    progress.say(format_args!(
        "{TRIED} calls, {PER_SECOND} a second; the callers' link admits {ROOM}"
    ));
    let mut callers = sip.start_callers(&Callers {
        name: "callers",
        sip_port: 5060,
        callees: 5060,
        media: addresses::phone(Site::A),
        ports: media.ports(),
        per_second: PER_SECOND,
        hold,
        with_media: false,
    })?;
    callers.wait(hold + Duration::from_secs(60))?;
    thread::sleep(Duration::from_secs(2));
    let left = voicelane.agent.sessions()?.len();
    let (pcap, missed) = recording.stop()?;
    let calls = calls::read(&pcap)?;
    let lives = watch.lives();
    let media = media.stop(|port| during(port, &calls, &lives))?;
    bulk.stop()?;

    let gated = Gated::of(&calls);
    let mut figures = Figures {
        case: "gate",
        sessions_at_once: watch.most(),
        left,
        longest_stall_ms: Some(longest_stall_ms(&voicelane.agent)?),
        ..figures(&calls, &lives, media)
    };
    figures.checks = vec![
        Check::new(
            "as many calls as there is room for",
            gated.answered == ROOM && figures.with_session == ROOM,
            format!(
                "{} answered, {} with a session, {ROOM} expected",
                gated.answered, figures.with_session
            ),
        ),
        gated.refusals(
            "all others get 503 and never ring",
            usize::from(TRIED) - ROOM,
        ),
        Check::new(
            "calls with room are perfect",
            media.lost == 0
                && media.unmarked == 0
                && media.sent > 0
                && media.mos_min.is_some_and(|mos| mos >= GOOD_MOS),
            format!(
                "{} of {} packets lost, {} without EF, MOS of the worst call {:.2?}",
                media.lost, media.sent, media.unmarked, media.mos_min
            ),
        ),
        Check::new(
            "no session is left at the end",
            left == 0,
            format!("{left} left"),
        ),
        saw_all(missed, &watch),
    ];
    Ok(figures)
}
