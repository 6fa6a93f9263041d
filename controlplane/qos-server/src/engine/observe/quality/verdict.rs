use std::{cmp::Ordering, fmt};

use crate::{
    engine::{Cause, EntryCounters, FlowExplanation, LocatedLoss, Score, Segment, SessionView},
    model::ids::{RouterId, UnixMs},
};

/// A flow that loses one in so many packets is bad.
const BAD: u64 = 100;
/// Loss is judged of so many packets, at least.
const ENOUGH: u64 = 64;
/// Shares of loss are compared in parts of so many.
const PARTS: u64 = 100_000;
/// A flow whose last packet is no older is heard.
const HEARD_MS: u64 = 1_000;
/// A flow whose last packet is older is silent.
const SILENT_MS: u64 = 2_000;
/// A call in which fewer packets of one way have come may just begin.
const ESTABLISHED: u64 = 250;

/// Where packets are lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before they come to the first router.
    Before(RouterId),
    /// In a router: by its policer, or as no queue has room.
    In(RouterId),
    /// From one to another.
    Between(RouterId, RouterId),
    /// After they have left the last one, by what the receiver says.
    After(RouterId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(router) => write!(f, "before router {router}"),
            Self::In(router) => write!(f, "in router {router}"),
            Self::Between(a, b) => write!(f, "between routers {a} and {b}"),
            Self::After(router) => write!(f, "after router {router}"),
        }
    }
}

/// How the worst flow of a call sounds.
#[derive(Clone, Debug, Default)]
pub struct CallQuality {
    /// Its index in the session.
    pub flow: usize,
    /// What it has lost lately; of no packets where it is not heard.
    pub loss: LocatedLoss,
    /// How its last packets sounded, if that is known.
    pub score: Option<Score>,
    /// What is bad.
    pub cause: Option<Cause>,
    /// Since when, or, if nothing is bad, since when routers have told that it loses packets, with no pause of
    /// more than 15 s.
    pub since: Option<UnixMs>,
    /// Where its packets come from.
    source: String,
}

impl CallQuality {
    /// `None` where routers have not told enough to say so.
    pub(super) fn of(session: &SessionView, flows: &[FlowExplanation]) -> Option<Self> {
        let is_known =
            |it: &FlowExplanation| it.at_source().is_some() && it.at_destination().is_some();
        if !flows.iter().any(is_known) {
            return None;
        }
        let heard = flows.iter().enumerate().filter(|(_, it)| is_heard(it));
        let lossiest = heard.max_by_key(|(_, it)| parts_lost(&loss(it)));
        let loses = lossiest.and_then(|(index, flow)| {
            let loss = loss(flow);
            let is_bad = parts_lost(&loss) >= PARTS / BAD;
            let place = place(session, index, &loss).filter(|_| is_bad)?;
            Some((Cause::Loses(place), index))
        });
        let one_way = silent(session, flows).map(|index| (Cause::OneWay, index));
        let causes = [loses, one_way, cut(session, flows)];
        let worst = causes.into_iter().flatten().max();
        let (cause, index) = match worst {
            Some((cause, index)) => (Some(cause), index),
            None => (None, lossiest.map_or(0, |(index, _)| index)),
        };
        let flow = flows.get(index)?;
        let tuple = flow.at_source().and_then(|it| it.tuple);
        Some(Self {
            flow: index,
            loss: loss(flow),
            score: flow.score.filter(|_| is_heard(flow)),
            cause,
            since: None,
            source: tuple.map_or_else(String::new, |it| it.0.source().to_string()),
        })
    }

    /// Whether it has lost packets lately.
    pub fn loses(&self) -> bool {
        parts_lost(&self.loss) > 0
    }

    /// Whether a part of the flow's way loses 1 % or more, or the most of what the flow loses where that is bad.
    pub fn is_bad_in(&self, segment: Segment) -> bool {
        let is_most = || {
            let loses = matches!(self.cause, Some(Cause::Loses(_)));
            loses && most(&self.loss) == Some(segment)
        };
        parts_lost_in(&self.loss, segment) >= PARTS / BAD || is_most()
    }

    /// How many packets a part of the flow's way has lost lately, and of how many; `None` where these are too few to
    /// judge.
    pub fn lost_in(&self, segment: Segment) -> Option<(u64, u64)> {
        lost_in(&self.loss, segment)
    }

    /// Compares two calls that are bad for causes of one kind: the one that loses more is greater, then the one
    /// that sounds worse.
    pub(in crate::engine) fn compare(one: Option<&Self>, other: Option<&Self>) -> Ordering {
        let lost = |it: Option<&Self>| it.map_or(0, |it| parts_lost(&it.loss));
        let mos = |it: Option<&Self>| it.and_then(|it| it.score).map_or(f64::MAX, |it| it.mos);
        let loses_more = lost(one).cmp(&lost(other));
        loses_more.then_with(|| mos(other).total_cmp(&mos(one)))
    }

    /// What is bad, with figures.
    pub(super) fn describe(&self) -> String {
        let flow = self.flow;
        match &self.cause {
            None => String::new(),
            Some(Cause::OneWay) => {
                format!("is heard one way only: nothing comes from {}", self.source)
            }
            Some(cause @ Cause::Cut(..)) => format!("{cause}: flow {flow}, from {}", self.source),
            Some(cause) => {
                let parts = parts_lost(&self.loss);
                let (whole, tenths) = (parts * 100 / PARTS, parts * 1_000 / PARTS % 10);
                let heard = self.score.map(|it| format!("; MOS {:.1}", it.mos));
                let heard = heard.unwrap_or_default();
                format!("{cause}: {whole}.{tenths} % of flow {flow}{heard}")
            }
        }
    }
}

/// Whether packets of a flow have come to one of its routers lately.
pub(in crate::engine) fn is_heard(flow: &FlowExplanation) -> bool {
    let ends = [flow.at_source(), flow.at_destination()];
    ends.into_iter().flatten().any(comes)
}

fn comes(counters: &EntryCounters) -> bool {
    let ago = counters.last_seen_ms_ago;
    ago.is_some_and(|ago| ago <= HEARD_MS)
}

fn is_silent(counters: &EntryCounters) -> bool {
    let ago = counters.last_seen_ms_ago;
    ago.is_none_or(|ago| ago > SILENT_MS)
}

/// What a flow that is heard has lost lately.
fn loss(flow: &FlowExplanation) -> LocatedLoss {
    let recent = flow.recent_loss.filter(|_| is_heard(flow));
    recent.unwrap_or_default()
}

/// How much was lost in all segments.
fn parts_lost(loss: &LocatedLoss) -> u64 {
    Segment::ALL.map(|it| parts_lost_in(loss, it)).iter().sum()
}

fn parts_lost_in(loss: &LocatedLoss, segment: Segment) -> u64 {
    let judged = lost_in(loss, segment);
    judged.map_or(0, |(lost, packets)| lost.saturating_mul(PARTS) / packets)
}

fn lost_in(loss: &LocatedLoss, segment: Segment) -> Option<(u64, u64)> {
    let packets = loss.packets_of(segment);
    let lost = loss.lost(segment).filter(|_| packets >= ENOUGH)?;
    Some((lost, packets))
}

/// Where a flow loses most.
fn most(loss: &LocatedLoss) -> Option<Segment> {
    let segments = Segment::ALL.into_iter();
    segments.max_by_key(|it| parts_lost_in(loss, *it))
}

/// The same, with the routers' names.
fn place(session: &SessionView, flow: usize, loss: &LocatedLoss) -> Option<Place> {
    let (a, b) = ends(session, flow)?;
    Some(match most(loss)? {
        Segment::Before => Place::Before(a),
        Segment::InSource => Place::In(a),
        Segment::Between => Place::Between(a, b),
        Segment::InDestination => Place::In(b),
        Segment::After => Place::After(b),
    })
}

/// The routers of a flow's media.
fn ends(session: &SessionView, flow: usize) -> Option<(RouterId, RouterId)> {
    let media = &session.placement.get(flow)?.media;
    let (a, b) = (media.source.as_ref()?, media.destination.as_ref()?);
    Some((a.router.clone(), b.router.clone()))
}

/// The flow of which no packets come, while those of the other way do. A call on hold may be so.
fn silent(session: &SessionView, flows: &[FlowExplanation]) -> Option<usize> {
    if session.spec.hold {
        return None;
    }
    flows.iter().position(|flow| {
        let Some(here) = flow.at_source().filter(|it| is_silent(it)) else {
            return false;
        };
        let mut others = flows.iter().filter_map(FlowExplanation::at_source);
        others.any(|other| {
            let paths = here
                .tuple
                .zip(other.tuple)
                .map(|(one, other)| (one.0, other.0));
            let is_back = paths.is_some_and(|(there, back)| {
                back.source() == there.destination() && back.destination() == there.source()
            });
            is_back && comes(other) && other.packets >= ESTABLISHED
        })
    })
}

/// The flow whose packets come to the first router, and of which none come to the second.
fn cut(session: &SessionView, flows: &[FlowExplanation]) -> Option<(Cause, usize)> {
    flows.iter().enumerate().find_map(|(index, flow)| {
        let (a, b) = ends(session, index).filter(|(a, b)| a != b)?;
        let (near, far) = (flow.at_source()?, flow.at_destination()?);
        let is_cut = comes(near) && near.packets >= ESTABLISHED && is_silent(far);
        is_cut.then_some((Cause::Cut(a, b), index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_enough_packets() {
        let router = |id: &str| RouterId::parse("router", id).unwrap();
        let loss = LocatedLoss {
            packets: 256,
            before_source: Some(1),
            between: Some(3),
            after_destination: Some(5),
            reported_packets: 63,
            ..LocatedLoss::default()
        };
        assert_eq!(parts_lost_in(&loss, Segment::Between), 1_171);
        assert_eq!(parts_lost_in(&loss, Segment::After), 0, "too few");
        let quality = CallQuality {
            flow: 1,
            loss,
            score: None,
            cause: Some(Cause::Loses(Place::Between(router("a"), router("b")))),
            ..CallQuality::default()
        };
        assert_eq!(
            quality.describe(),
            "packets are lost between routers a and b: 1.5 % of flow 1"
        );
        assert!(quality.is_bad_in(Segment::Between));
        assert_eq!(quality.lost_in(Segment::Between), Some((3, 256)));
        assert_eq!(quality.lost_in(Segment::After), None, "5 of 63");
        assert!(!quality.is_bad_in(Segment::Before), "1 of 256");
        let little = LocatedLoss {
            before_source: Some(2),
            between: Some(1),
            ..loss
        };
        let cause = Some(Cause::Loses(Place::Before(router("a"))));
        let quality = CallQuality {
            loss: little,
            cause,
            ..quality
        };
        assert!(quality.is_bad_in(Segment::Before), "the most of it");
        assert!(!quality.is_bad_in(Segment::Between));
    }

    #[test]
    fn what_loses_more_is_worse_then_what_sounds_worse() {
        let quality = |lost, mos: Option<f64>| CallQuality {
            loss: LocatedLoss {
                packets: 256,
                between: Some(lost),
                ..LocatedLoss::default()
            },
            score: mos.map(|mos| Score {
                mos,
                rating: 0.0,
                packets: 256,
                lost: 0,
            }),
            ..CallQuality::default()
        };
        let calls = [
            None,
            Some(quality(3, Some(4.0))),
            Some(quality(4, None)),
            Some(quality(4, Some(4.1))),
            Some(quality(4, Some(3.9))),
        ];
        assert!(calls.is_sorted_by(|one, other| {
            CallQuality::compare(one.as_ref(), other.as_ref()).is_lt()
        }));
    }
}
