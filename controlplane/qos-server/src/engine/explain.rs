//! ExplainSession: follows each flow from what is desired to what is seen, and names the first
//! link that is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Engine, EntryCounters, InstallationView, SessionView,
    link::{Command, NoReply, Reply},
};
use crate::model::{
    entries::FlowKind,
    error::{Error, RefusalKind},
    ids::{RouterId, SessionKey},
    session::SessionState,
    store::InstallationState,
};

/// RTP packets farther apart than this are silence that somebody hears.
const SEEN_WITHIN_MS: u64 = 5_000;

/// The links of the chain, in the order in which a packet depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// The server wants it.
    Desired,
    /// Both ends are behind known routers.
    Placed,
    /// The router has a stream.
    Attached,
    /// The router has the entries.
    Installed,
    /// RTP packets come.
    Seen,
    /// No packet exceeds what was asked for.
    Conforming,
}

/// Whether a link holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Ok,
    /// It does not.
    Broken,
    /// It could not be asked.
    Unknown,
}

/// One link of a flow's chain.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which link.
    pub link: LinkName,
    /// Where; absent for what is the server's.
    pub router: Option<RouterId>,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was found, and if broken what to do.
    pub detail: String,
}

/// A flow's chain.
#[derive(Clone, Debug)]
pub struct FlowExplanation {
    /// The links in order, the source router's before the destination router's.
    pub steps: Vec<Step>,
    /// What the source router counted.
    pub source_counters: Vec<EntryCounters>,
    /// What the destination router counted.
    pub destination_counters: Vec<EntryCounters>,
}

/// A session's chains.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The session.
    pub session: Arc<SessionView>,
    /// One for each flow.
    pub flows: Vec<FlowExplanation>,
    /// The broken link that comes first in the chain, over all flows.
    pub first_broken: Option<Step>,
}

type Replies = BTreeMap<RouterId, Result<Reply, NoReply>>;

impl Engine {
    /// Compares desired, installed and seen.
    pub async fn explain(&self, key: &SessionKey) -> Result<Explanation, Error> {
        let session = self.session(key)?;
        let replies = self.read_counters(&session).await;
        let flows: Vec<FlowExplanation> = (0..session.spec.flows.len())
            .map(|flow| explain_flow(&session, flow, &replies))
            .collect();
        let broken = flows
            .iter()
            .flat_map(|flow| &flow.steps)
            .filter(|step| step.verdict == Verdict::Broken);
        let first_broken = broken.min_by_key(|step| step.link).cloned();
        Ok(Explanation {
            session,
            flows,
            first_broken,
        })
    }

    async fn read_counters(&self, session: &SessionView) -> Replies {
        let deadline = Instant::now() + self.settings.acknowledge_timeout;
        let reads = session.installations.iter().map(|on| async move {
            let link = self.lock().links.get(&on.router).cloned();
            let reply = match link {
                Some(link) => {
                    link.ask(Command::Read(session.spec.key.clone()), deadline)
                        .await
                }
                None => Err(NoReply::Lost),
            };
            (on.router.clone(), reply)
        });
        join_all(reads).await.into_iter().collect()
    }
}

fn explain_flow(session: &SessionView, flow: usize, replies: &Replies) -> FlowExplanation {
    let counters_of = |router: &RouterId| -> Vec<EntryCounters> {
        let read = replies
            .get(router)
            .and_then(|reply| reply.as_ref().ok()?.as_ref().ok());
        let of_flow = |entry: &&EntryCounters| usize::try_from(entry.flow) == Ok(flow);
        read.into_iter()
            .flatten()
            .filter(of_flow)
            .cloned()
            .collect()
    };
    let mut steps = vec![desired(session), placed(session, flow)];
    let Some(placement) = session.placement.get(flow) else {
        return FlowExplanation {
            steps,
            source_counters: Vec::new(),
            destination_counters: Vec::new(),
        };
    };
    let (source, destination) = (&placement.source.router, &placement.destination.router);
    let rtcp = placement
        .rtcp
        .iter()
        .flat_map(|(from, to)| [&from.router, &to.router]);
    let mut others: BTreeSet<&RouterId> = rtcp.collect();
    others.remove(source);
    others.remove(destination);
    let mut routers = vec![source];
    routers.extend((destination != source).then_some(destination));
    let on = |router: &RouterId| session.installations.iter().find(|on| on.router == *router);
    let all = || routers.iter().copied().chain(others.iter().copied());
    steps.extend(all().map(|router| attached(router, on(router))));
    steps.extend(all().map(|router| installed(router, on(router), replies.get(router))));
    let media = |router: &RouterId| {
        counters_of(router)
            .into_iter()
            .find(|entry| entry.kind == Some(FlowKind::Rtp))
    };
    let seen_at_source = media(source).is_some_and(|counters| is_seen(&counters));
    steps.extend(routers.iter().map(|router| {
        seen(
            router,
            media(router).as_ref(),
            *router != source && seen_at_source,
        )
    }));
    steps.extend(
        routers
            .iter()
            .map(|router| conforming(router, &counters_of(router))),
    );
    FlowExplanation {
        steps,
        source_counters: counters_of(source),
        destination_counters: counters_of(destination),
    }
}

fn step(link: LinkName, router: Option<&RouterId>, verdict: Verdict, detail: String) -> Step {
    Step {
        link,
        router: router.cloned(),
        verdict,
        detail,
    }
}

fn desired(session: &SessionView) -> Step {
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

fn placed(session: &SessionView, flow: usize) -> Step {
    let (verdict, detail) = match (&session.problem, session.placement.get(flow)) {
        (Some(problem), _) => (Verdict::Broken, problem.clone()),
        (None, Some(at)) => (
            Verdict::Ok,
            format!(
                "from {} on {} ({}) to {} on {} ({})",
                at.source.interface,
                at.source.router,
                at.source.prefix,
                at.destination.interface,
                at.destination.router,
                at.destination.prefix
            ),
        ),
        (None, None) => (Verdict::Broken, "no place was found for it".to_owned()),
    };
    step(LinkName::Placed, None, verdict, detail)
}

fn attached(router: &RouterId, on: Option<&InstallationView>) -> Step {
    let (verdict, detail) = match on {
        Some(InstallationView {
            state: InstallationState::Away,
            detail,
            ..
        }) => (
            Verdict::Broken,
            format!("{detail}; it serves what it has; see that it runs and reaches this server"),
        ),
        _ => (Verdict::Ok, String::new()),
    };
    step(LinkName::Attached, Some(router), verdict, detail)
}

fn installed(
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
        (_, Some(Ok(Err(refusal)))) => (
            Verdict::Unknown,
            format!("the router would not tell: {refusal}"),
        ),
        (_, Some(Err(NoReply::Late))) => (
            Verdict::Unknown,
            "the router did not answer in time; look at its load and its log".to_owned(),
        ),
        (_, Some(Err(NoReply::Lost)) | None) => (
            Verdict::Unknown,
            "the router was lost while it was asked".to_owned(),
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

fn is_seen(counters: &EntryCounters) -> bool {
    counters
        .last_seen_ms_ago
        .is_some_and(|ago| ago <= SEEN_WITHIN_MS)
}

fn seen(router: &RouterId, media: Option<&EntryCounters>, at_source: bool) -> Step {
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
            None => (Verdict::Broken, format!("no RTP packet ever came; {hint}")),
            Some(ago) if ago > SEEN_WITHIN_MS => (
                Verdict::Broken,
                format!("the last RTP packet came {ago} ms ago; {hint}"),
            ),
            Some(ago) => (
                Verdict::Ok,
                format!("{} RTP packets, the last {ago} ms ago", counters.packets),
            ),
        },
    };
    step(LinkName::Seen, Some(router), verdict, detail)
}

fn conforming(router: &RouterId, counters: &[EntryCounters]) -> Step {
    let policed: u64 = counters.iter().map(|entry| entry.policed_packets).sum();
    let colours = counters.iter().find_map(|entry| entry.colours);
    let (verdict, detail) = match (policed, colours) {
        _ if counters.is_empty() => (Verdict::Unknown, "the router told no counters".to_owned()),
        (0, None) => (Verdict::Ok, "nothing policed".to_owned()),
        (0, Some(colours)) => (Verdict::Ok, format!("nothing dropped; {colours}")),
        (_, Some(colours)) => (
            Verdict::Broken,
            format!(
                "{policed} packets were dropped ({colours}); modify the session with the media's \
                 real rate, or without drop_red to have red ones marked"
            ),
        ),
        (_, None) => (
            Verdict::Broken,
            format!(
                "{policed} packets exceeded the rate and were dropped; modify the session with \
                 the codec's real rate (SRTP adds 10 to 16 bytes a packet)"
            ),
        ),
    };
    step(LinkName::Conforming, Some(router), verdict, detail)
}
