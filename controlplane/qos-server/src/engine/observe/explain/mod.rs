//! ExplainSession: follows each flow from what is desired to what is seen, and names the first
//! link that is broken.
//!
//! Counters are read twice, so that what is judged is what happens now and not what happened since
//! the session was installed: a fault that was mended does not show any more.

mod counted;
mod links;
mod loss;
mod quality;
mod receiver;
mod segment;

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use tokio::time::sleep;

pub(in crate::engine) use self::{counted::Earlier, quality::whole_score, receiver::Known};
use self::{
    counted::{Counted, Reading, Readings},
    loss::{Measured, locate},
};
pub use self::{loss::LocatedLoss, quality::Score, segment::Segment};
use crate::{
    engine::{
        Command, Engine, EntryCounters, SessionView,
        routers::link::{NoReply, Patience},
    },
    model::{
        entries::{FlowKind, expand_learned},
        error::{Error, Refusal, RefusalKind},
        ids::{RouterId, SessionKey},
        placement::shares,
    },
};

/// The links of the chain, in the order in which a packet depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// The server wants it.
    Desired,
    /// Both ends are behind known routers.
    Placed,
    /// The router has a stream, and answers on it.
    Attached,
    /// The router has the entries.
    Installed,
    /// RTP packets come.
    Seen,
    /// What the source's router sends on comes to the destination's.
    Carried,
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
    /// Nothing says so, and nothing says that it is broken: mostly because one before it is.
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
    /// Where the stream that is now lost packets.
    pub loss: Option<LocatedLoss>,
    /// Where it did lately.
    pub recent_loss: Option<LocatedLoss>,
    /// From the source's router to the destination's and back.
    pub two_way_delay_ns: Option<u64>,
    /// How the last packets sounded.
    pub score: Option<Score>,
    /// What the receiver's later reports are compared with.
    pub(in crate::engine) receiver: Option<Known>,
}

impl FlowExplanation {
    /// What the source's router has counted of the flow's RTP.
    pub fn at_source(&self) -> Option<&EntryCounters> {
        media_of(&self.source_counters)
    }

    /// What the destination's router has.
    pub fn at_destination(&self) -> Option<&EntryCounters> {
        media_of(&self.destination_counters)
    }

    /// A flow that no router has counted packets of.
    fn uncounted(steps: Vec<Step>) -> Self {
        Self {
            steps,
            source_counters: Vec::new(),
            destination_counters: Vec::new(),
            loss: None,
            recent_loss: None,
            two_way_delay_ns: None,
            score: None,
            receiver: None,
        }
    }
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
    /// The same of links that are unknown.
    pub first_unknown: Option<Step>,
}

impl Engine {
    /// Compares desired, installed and seen.
    pub async fn explain(&self, key: &SessionKey) -> Result<Explanation, Error> {
        let session = self.session(key)?;
        let first = self.read_counters(&session, self.until_timeout()).await;
        // Where a router does not tell, that is the first thing to mend.
        let all_tell = first
            .values()
            .all(|reading| matches!(reading.reply, Ok(Ok(_))));
        let is_worth_it = |reading: &Reading| reading.moves() || reading.is_silent();
        let counted = if all_tell && first.values().any(is_worth_it) {
            sleep(self.settings.explain_sample.max(counted::sample(&first))).await;
            let half = self.clock().instant() + self.settings.acknowledge_timeout / 2;
            let second = self.read_counters(&session, Patience::Until(half)).await;
            Counted::between(first, second)
        } else {
            Counted::once(first)
        };
        // As it is now: a router may have been lost while it was asked.
        let session = self.session(key)?;
        let now = self.clock().instant();
        let counted = self.earlier().compare(&session, counted, now);
        let mut flows = self.explain_flows(&session, &counted);
        self.add_strays(&session, &mut flows);
        let first = |verdict| {
            let steps = flows.iter().flat_map(|flow| &flow.steps);
            let steps = steps.filter(|step| step.verdict == verdict);
            steps.min_by_key(|step| step.link).cloned()
        };
        Ok(Explanation {
            first_broken: first(Verdict::Broken),
            first_unknown: first(Verdict::Unknown),
            session,
            flows,
        })
    }

    /// How a session's flows stand, of one reading that no operator has asked for. Routers have that part of
    /// the usual time for it.
    pub(super) async fn measured(&self, session: &SessionView, part: u32) -> Vec<FlowExplanation> {
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout / part;
        let reading = self.read_counters(session, Patience::AtMost(deadline));
        self.explain_flows(session, &Counted::once(reading.await))
    }

    fn explain_flows(&self, session: &SessionView, counted: &Counted) -> Vec<FlowExplanation> {
        let mut flows: Vec<FlowExplanation> = (0..session.spec.flows.len())
            .map(|flow| explain_flow(session, flow, counted))
            .collect();
        let known = self.watched.receivers(&session.spec.key);
        quality::judge(session, &mut flows, &known);
        flows
    }

    /// Asks every router of a session.
    async fn read_counters(&self, session: &SessionView, patience: Patience) -> Readings {
        let sent = self.clock().instant();
        let entries = expand_learned(&session.spec, &session.learned);
        let shares = shares(&session.placement, &entries);
        let shares = &shares;
        let reads = session.installations.iter().map(|on| async move {
            let link = self.lock().links.get(&on.router).cloned();
            let mut reply = match link {
                Some(link) => {
                    link.ask(Command::Read(session.spec.key.clone()), patience)
                        .await
                }
                None => Err(NoReply::Lost),
            };
            let entries = shares.get(&on.router).map_or(0, |it| it.entries.len());
            if let Ok(Ok(counters)) = &reply
                && counters.len() > entries
            {
                let detail = format!("it told {} counters of {entries} entries", counters.len());
                reply = Ok(Err(Refusal {
                    kind: RefusalKind::Implausible,
                    detail,
                    owner: None,
                }));
            }
            let reading = Reading {
                sent,
                received: self.clock().instant(),
                reply,
            };
            (on.router.clone(), reading)
        });
        join_all(reads).await.into_iter().collect()
    }
}

fn media_of(counters: &[EntryCounters]) -> Option<&EntryCounters> {
    counters.iter().find(|it| it.kind == Some(FlowKind::Rtp))
}

fn explain_flow(session: &SessionView, flow: usize, counted: &Counted) -> FlowExplanation {
    let mut steps = vec![links::desired(session), links::placed(session, flow)];
    let Some(placement) = session.placement.get(flow) else {
        return FlowExplanation::uncounted(steps);
    };
    let on = |router: &RouterId| session.installations.iter().find(|on| on.router == *router);
    let waits = links::waits(session, flow);
    let media_at = &placement.media;
    let (Some(source), Some(destination), false) = (&media_at.source, &media_at.destination, waits)
    else {
        // Nothing is installed for what is reserved; what latches is on one router.
        let at = placement.locations().map(|at| &at.router);
        let has_it: BTreeSet<&RouterId> =
            at.filter(|router| waits && on(router).is_some()).collect();
        let (mut attached, mut installed) = (Vec::new(), Vec::new());
        for router in has_it {
            attached.push(links::attached(router, on(router), counted.reply(router)));
            installed.push(links::installed(router, on(router), counted.reply(router)));
        }
        steps.extend(attached.into_iter().chain(installed));
        return FlowExplanation::uncounted(steps);
    };
    let (source, destination) = (&source.router, &destination.router);
    let rtcp = placement
        .rtcp
        .iter()
        .flat_map(|rtcp| [&rtcp.source, &rtcp.destination]);
    let mut others: BTreeSet<&RouterId> = rtcp.flatten().map(|at| &at.router).collect();
    others.remove(source);
    others.remove(destination);
    let mut routers = vec![source];
    routers.extend((destination != source).then_some(destination));
    let all = || routers.iter().copied().chain(others.iter().copied());
    steps.extend(all().map(|router| links::attached(router, on(router), counted.reply(router))));
    steps.extend(all().map(|router| links::installed(router, on(router), counted.reply(router))));
    let media = |router| counted.media(router, flow);
    let seen_at_source = media(source).is_some_and(links::is_seen);
    steps.extend(routers.iter().map(|router| {
        let is_behind = *router != source && seen_at_source;
        links::seen(router, media(router), is_behind)
    }));
    if source != destination {
        steps.push(links::carried(
            source,
            destination,
            &counted.carried(source, destination, flow),
        ));
    }
    steps.extend(routers.iter().map(|router| {
        links::conforming(
            router,
            &counted.of_flow(router, flow),
            counted.dropped(router, flow),
        )
    }));
    let measured = |router| media(router)?.quality.as_ref();
    let located = measured(source).and_then(|near| {
        locate(match source == destination {
            true => Measured::Once(near),
            false => Measured::Twice(near, measured(destination)),
        })
    });
    FlowExplanation {
        loss: located.map(|it| it.all),
        recent_loss: located.map(|it| it.recent),
        source_counters: counted.of_flow(source, flow),
        destination_counters: counted.of_flow(destination, flow),
        ..FlowExplanation::uncounted(steps)
    }
}
