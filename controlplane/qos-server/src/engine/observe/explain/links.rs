//! What each link of the chain says.

use super::{
    LinkName, Step, Verdict,
    counted::{Carried, Dropped},
};
use crate::{
    engine::{EntryCounters, InstallationView, Reply, SessionView, routers::link::NoReply},
    model::{
        course::{Course, End},
        entries::FlowKind,
        error::RefusalKind,
        ids::RouterId,
        registry::Location,
        session::{MediaFlow, SessionState},
        store::InstallationState,
    },
};

/// RTP packets farther apart than this are silence that somebody hears.
pub(super) const SEEN_WITHIN_MS: u64 = 5_000;

fn step(link: LinkName, router: Option<&RouterId>, verdict: Verdict, detail: String) -> Step {
    Step {
        link,
        router: router.cloned(),
        verdict,
        detail,
    }
}

pub(super) fn desired(session: &SessionView) -> Step {
    let revision = session.spec.revision.get();
    let (verdict, detail) = match session.state {
        SessionState::Removing => (
            Verdict::Broken,
            "the session is being deleted; add it again".to_owned(),
        ),
        _ => (Verdict::Ok, format!("revision {revision}")),
    };
    step(LinkName::Desired, None, verdict, detail)
}

/// Whether a flow latches and has learned nothing yet, or what it has learned is not installed yet.
pub(super) fn waits(session: &SessionView, flow: usize) -> bool {
    let latches = |flow: &MediaFlow| matches!(flow.course, Course::Latching(_));
    let mut learned = session.learned.iter().filter(|it| it.flow == flow);
    session.spec.flows.get(flow).is_some_and(latches) && learned.all(|it| it.kind != FlowKind::Rtp)
}

pub(super) fn placed(session: &SessionView, flow: usize) -> Step {
    let course = session.spec.flows.get(flow).map(|flow| flow.course);
    let (verdict, detail) = match (&session.problem, session.placement.get(flow), course) {
        (Some(problem), _, _) => (Verdict::Broken, problem.clone()),
        (None, Some(at), Some(Course::Half(end, _))) => {
            let known = match end {
                End::Source => at.media.source.as_deref(),
                End::Destination => at.media.destination.as_deref(),
            };
            let detail = format!(
                "reserved: {} not known yet; {} {}; ModifySession with both completes it",
                end.other().name(),
                end.name(),
                known.map(place).unwrap_or_default()
            );
            (Verdict::Unknown, detail)
        }
        (None, Some(at), Some(Course::Latching(latch))) if waits(session, flow) => {
            let from = match latch.from {
                Some(from) => format!(" from {from}"),
                None => String::new(),
            };
            let to = at.media.destination.as_deref().map(place);
            let detail = format!(
                "latching: source not known yet; it is learned from the first packet{from} to {}, which \
                 is {}",
                latch.destination,
                to.unwrap_or_default()
            );
            (Verdict::Unknown, detail)
        }
        (None, Some(at), _) => {
            let [from, to] = [&at.media.source, &at.media.destination]
                .map(|it| it.as_deref().map(place).unwrap_or_default());
            let mut heard = session.heard.iter().filter(|it| it.flow == flow);
            let learned = heard.find(|it| it.kind == FlowKind::Rtp);
            let learned = learned.map(|it| format!("; the source {} was learned", it.source));
            let detail = format!("from {from} to {to}{}", learned.unwrap_or_default());
            (Verdict::Ok, detail)
        }
        (None, None, _) => (Verdict::Broken, "no place was found for it".to_owned()),
    };
    step(LinkName::Placed, None, verdict, detail)
}

fn place(at: &Location) -> String {
    format!("{} on {} ({})", at.interface, at.router, at.prefix)
}

pub(super) fn attached(
    router: &RouterId,
    on: Option<&InstallationView>,
    reply: Option<&Result<Reply, NoReply>>,
) -> Step {
    let (verdict, detail) = match (on, reply) {
        (
            Some(InstallationView {
                state: InstallationState::Away,
                detail,
                ..
            }),
            _,
        ) => (
            Verdict::Broken,
            format!("{detail}; it serves what it has; see that it runs and reaches this server"),
        ),
        (_, Some(Err(NoReply::Late))) => (
            Verdict::Broken,
            "it has a stream, but does not answer: it is stopped or overloaded; look at its \
             process, its load and its log"
                .to_owned(),
        ),
        (_, Some(Err(NoReply::Lost)) | None) => (
            Verdict::Broken,
            "it was lost while it was asked; ask again, and see that it runs".to_owned(),
        ),
        (_, Some(Ok(_))) => (Verdict::Ok, String::new()),
    };
    step(LinkName::Attached, Some(router), verdict, detail)
}

pub(super) fn installed(
    router: &RouterId,
    on: Option<&InstallationView>,
    reply: Option<&Result<Reply, NoReply>>,
) -> Step {
    let (verdict, detail) = match (on.map(|on| &on.state), reply) {
        (Some(InstallationState::Away), _) => (
            Verdict::Unknown,
            "the router is away, so it cannot be asked".to_owned(),
        ),
        (Some(InstallationState::Failed(why)), _) => (
            Verdict::Broken,
            format!("{why}; mend that: it is tried again every few seconds"),
        ),
        (_, Some(Ok(Err(refusal)))) if refusal.kind == RefusalKind::NotFound => (
            Verdict::Broken,
            "the router does not have the session; restart its connection to synchronise it"
                .to_owned(),
        ),
        (_, Some(Ok(Err(refusal)))) if refusal.kind == RefusalKind::Implausible => {
            (Verdict::Broken, refusal.to_string())
        }
        (_, Some(Ok(Err(refusal)))) => (
            Verdict::Unknown,
            format!("the router would not tell: {refusal}"),
        ),
        (_, Some(Err(_)) | None) => (
            Verdict::Unknown,
            "the router does not answer, so nobody knows what it has".to_owned(),
        ),
        (Some(InstallationState::Pending) | None, Some(Ok(Ok(_)))) => (
            Verdict::Broken,
            "the router has not acknowledged it yet; ask again in a moment".to_owned(),
        ),
        (Some(InstallationState::Installed), Some(Ok(Ok(counters)))) => {
            (Verdict::Ok, format!("{} entries", counters.len()))
        }
    };
    step(LinkName::Installed, Some(router), verdict, detail)
}

pub(super) fn is_seen(counters: &EntryCounters) -> bool {
    counters
        .last_seen_ms_ago
        .is_some_and(|ago| ago <= SEEN_WITHIN_MS)
}

pub(super) fn seen(router: &RouterId, media: Option<&EntryCounters>, at_source: bool) -> Step {
    let hint = if at_source {
        "the source router sees it, so it is lost between the two: check the routes and the core"
    } else {
        "check that the sender sends from and to exactly these ports, through this router"
    };
    let (verdict, detail) = match media {
        None => (
            Verdict::Unknown,
            "the router told no counters of its RTP".to_owned(),
        ),
        Some(counters) => match counters.last_seen_ms_ago {
            None => {
                let spoofed = spoofed(counters);
                let detail = format!("no RTP packet ever came{spoofed}; {hint}");
                (Verdict::Broken, detail)
            }
            Some(ago) if ago > SEEN_WITHIN_MS => {
                let spoofed = spoofed(counters);
                let detail = format!("the last RTP packet came {ago} ms ago{spoofed}; {hint}");
                (Verdict::Broken, detail)
            }
            Some(ago) => {
                let (packets, spoofed) = (counters.packets, spoofed(counters));
                let detail = format!("{packets} RTP packets, the last {ago} ms ago{spoofed}");
                (Verdict::Ok, detail)
            }
        },
    };
    step(LinkName::Seen, Some(router), verdict, detail)
}

/// What else came with the entry's five-tuple.
fn spoofed(counters: &EntryCounters) -> String {
    let (packets, interface) = (counters.spoofed_packets, &counters.spoofed_interface);
    if packets == 0 {
        return String::new();
    }
    format!(
        "; {packets} packets with this call's five-tuple came in elsewhere, the last on \
         {interface}, and are not served as its own: somebody spoofs it, or its source has moved"
    )
}

pub(super) fn carried(source: &RouterId, destination: &RouterId, carried: &Carried) -> Step {
    let (verdict, detail) = match carried {
        Carried::NotCounted => (
            Verdict::Unknown,
            format!("between {source} and {destination}: not both have counted RTP"),
        ),
        Carried::Restarted => (
            Verdict::Unknown,
            format!(
                "between {source} and {destination}: a router counts anew since a moment ago; ask \
                 again"
            ),
        ),
        Carried::TooFew { sent, seconds } => (
            Verdict::Ok,
            format!("{sent} packets in {seconds:.1} s, too few to compare"),
        ),
        Carried::Compared {
            sent,
            came,
            seconds,
        } => (
            Verdict::Ok,
            format!("{source} sent {sent} packets on in {seconds:.1} s, {destination} got {came}"),
        ),
        Carried::Lost { sent, came, since } => (
            Verdict::Broken,
            format!(
                "between {source} and {destination}: {} % of the packets are lost: {source} sent \
                 {sent} on {since}, {destination} got {came}; check {source}'s core port (its \
                 rate, its drops), the links behind it and the routes",
                100 - (came.saturating_mul(100) / (*sent).max(1)).min(100)
            ),
        ),
    };
    step(LinkName::Carried, None, verdict, detail)
}

pub(super) fn conforming(router: &RouterId, counters: &[EntryCounters], dropped: Dropped) -> Step {
    let colours = counters.iter().find_map(|entry| entry.colours);
    let Dropped {
        lately,
        seconds,
        ever,
    } = dropped;
    let (verdict, detail) = match (lately, colours) {
        _ if counters.is_empty() => (Verdict::Unknown, "the router told no counters".to_owned()),
        (0, _) if ever > 0 => (
            Verdict::Ok,
            format!(
                "nothing dropped in the last {seconds:.1} s; {ever} packets since it was installed"
            ),
        ),
        (0, None) => (Verdict::Ok, "nothing policed".to_owned()),
        (0, Some(colours)) => (Verdict::Ok, format!("nothing dropped; {colours}")),
        (_, Some(colours)) => (
            Verdict::Broken,
            format!(
                "{lately} packets were dropped ({colours}) in the last {seconds:.1} s; modify the \
                 session with the media's real rate, or without drop_red to have red ones marked"
            ),
        ),
        (_, None) => (
            Verdict::Broken,
            format!(
                "{lately} packets exceeded the rate and were dropped in the last {seconds:.1} s; \
                 modify the session with the codec's real rate (SRTP adds 10 to 16 bytes a packet)"
            ),
        ),
    };
    step(LinkName::Conforming, Some(router), verdict, detail)
}
