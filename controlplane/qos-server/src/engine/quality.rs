//! How those calls sound that routers tell of: they lose packets, or are heard one way only. The counters of
//! both ends are read every five seconds, until all is well again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    Cause, Engine, EntryCounters, FlowExplanation, Link, LocatedLoss, Score, Segment, SessionView,
};
use crate::{
    events::Kind,
    model::{
        entries::FlowKind,
        ids::{RouterId, SessionKey, UnixMs},
    },
};

/// The most calls that are looked at; others are not, until one of these is well.
const MOST: usize = 1_024;
/// How many are looked at together.
const AT_ONCE: usize = 32;
/// How often it is seen which are to be looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often each is.
const EVERY: Duration = Duration::from_secs(5);
/// A call that routers tell of no more is looked at for so long if nothing is bad.
const KEEP: Duration = Duration::from_secs(15);
/// A call is good again when it was not bad so many times in a row.
const GOOD_LOOKS: u32 = 2;
/// A way that loses one in so many packets is bad.
const BAD: u64 = 100;
/// Fewer packets tell nothing of that.
const ENOUGH: u64 = 64;
/// A flow whose last packet is no older is heard.
const HEARD_MS: u64 = 1_000;
/// A flow whose last packet is older is silent.
const SILENT_MS: u64 = 2_000;
/// Fewer packets of one way only may be a call that begins.
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

/// How the worst way of a call sounds.
#[derive(Clone, Debug)]
pub struct CallQuality {
    /// Its flow.
    pub flow: usize,
    /// What it has lost lately.
    pub loss: LocatedLoss,
    /// How its last packets sounded, if that is known.
    pub score: Option<Score>,
    /// What is bad.
    pub cause: Option<Cause>,
    /// Where nothing comes from, of a call that is heard one way only.
    silent: Option<String>,
}

/// The calls that routers tell of.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<BTreeMap<SessionKey, Call>>);

#[derive(Debug)]
struct Call {
    /// When a router has told of it last.
    told: Instant,
    /// When it is to be looked at.
    due: Instant,
    now: Option<Arc<CallQuality>>,
    /// By flow, at the last look.
    totals: Vec<LocatedLoss>,
    bad: Option<(Cause, UnixMs)>,
    /// Since it was bad.
    good_looks: u32,
}

impl Watched {
    fn calls(&self) -> MutexGuard<'_, BTreeMap<SessionKey, Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, key: &SessionKey, now: Instant) {
        let mut calls = self.calls();
        if let Some(call) = calls.get_mut(key) {
            call.told = now;
        } else if calls.len() < MOST {
            let call = Call {
                told: now,
                due: now,
                now: None,
                totals: Vec::new(),
                bad: None,
                good_looks: 0,
            };
            calls.insert(key.clone(), call);
        }
    }

    /// Those that are to be looked at now. What is well for long is forgotten.
    fn take_due(&self, now: Instant) -> Vec<SessionKey> {
        let mut calls = self.calls();
        calls.retain(|_, call| call.bad.is_some() || now.duration_since(call.told) < KEEP);
        let due = calls.iter_mut().filter(|(_, call)| call.due <= now);
        due.map(|(key, call)| {
            call.due = now + EVERY;
            key.clone()
        })
        .collect()
    }
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Bad(Cause),
    Good { after: Duration },
}

impl Call {
    /// Takes what a look has found.
    fn conclude(&mut self, cause: Option<&Cause>, now: UnixMs) -> Option<News> {
        match (cause, &mut self.bad) {
            (Some(cause), bad) => {
                self.good_looks = 0;
                let is_news = match bad {
                    // It may lose more here and then more there.
                    Some((Cause::Loses(_), _)) => !matches!(cause, Cause::Loses(_)),
                    Some((before, _)) => before != cause,
                    None => true,
                };
                let since = bad.as_ref().map_or(now, |(_, since)| *since);
                *bad = Some((cause.clone(), since));
                is_news.then(|| News::Bad(cause.clone()))
            }
            (None, Some((_, since))) => {
                self.good_looks += 1;
                let after = now.since(*since);
                (self.good_looks >= GOOD_LOOKS).then(|| {
                    self.bad = None;
                    News::Good { after }
                })
            }
            (None, None) => None,
        }
    }
}

impl Engine {
    /// A router says which of its sessions lose packets or are heard one way only.
    pub fn troubled(&self, link: &Link, keys: &[SessionKey]) {
        let now = self.clock().instant();
        for key in keys {
            let is_on = self.lock().store.is_on(key, link.router());
            if is_on {
                self.watched.hear(key, now);
            }
        }
    }

    /// How those calls sound that routers tell of.
    pub fn qualities(&self) -> BTreeMap<SessionKey, Arc<CallQuality>> {
        let calls = self.watched.calls();
        let looked_at = calls.iter();
        looked_at
            .filter_map(|(key, call)| Some((key.clone(), call.now.clone()?)))
            .collect()
    }

    /// How many of them are bad.
    pub(super) fn bad_calls(&self) -> u64 {
        let calls = self.watched.calls();
        calls.values().filter(|call| call.bad.is_some()).count() as u64
    }

    async fn look_at(&self, key: &SessionKey) {
        let Ok(session) = self.session(key) else {
            self.watched.calls().remove(key);
            return;
        };
        let flows = self.measured(&session).await;
        let now = self.clock().unix();
        let (quality, news) = {
            let mut calls = self.watched.calls();
            let Some(call) = calls.get_mut(key) else {
                return;
            };
            let recent = recent(&flows, &call.totals);
            self.count(&flows, &call.totals);
            call.totals = flows
                .iter()
                .map(|it| it.loss.unwrap_or_default())
                .collect();
            let Some(quality) = worst(&session, &flows, &recent) else {
                // Nothing is known of it now.
                return;
            };
            let quality = Arc::new(quality);
            call.now = Some(quality.clone());
            (quality.clone(), call.conclude(quality.cause.as_ref(), now))
        };
        match news {
            Some(News::Bad(Cause::OneWay)) => {
                let silent = quality.silent.as_deref().unwrap_or_default();
                self.note(Kind::OneWayAudio, key, || {
                    format!("is heard one way only: nothing comes from {silent}")
                });
            }
            Some(News::Bad(cause)) => {
                self.note(Kind::QualityBad, key, || describe(&quality, &cause));
            }
            Some(News::Good { after }) => {
                let seconds = after.as_secs();
                self.note(Kind::QualityGood, key, || format!("is good again, after {seconds} s"));
            }
            None => {}
        }
    }

    /// Adds what flows have lost since the last look to the metrics.
    fn count(&self, flows: &[FlowExplanation], before: &[LocatedLoss]) {
        for (index, flow) in flows.iter().enumerate() {
            if let Some(score) = &flow.score {
                self.metrics.scored(score.mos);
            }
            let (Some(now), Some(recent)) = (&flow.loss, &flow.recent_loss) else {
                continue;
            };
            for segment in Segment::ALL {
                let of = |loss: &LocatedLoss| loss.lost(segment).unwrap_or_default();
                // What was lost before the first look may have been counted when it was looked at earlier.
                let more = match before.get(index).map(of) {
                    None => of(recent),
                    // A stream that began anew counts from 0.
                    Some(before) => of(now).checked_sub(before).unwrap_or(of(now)),
                };
                self.metrics.lost(segment, more);
            }
        }
    }
}

/// What flows have lost lately; of what receivers say, since the last look.
fn recent(flows: &[FlowExplanation], before: &[LocatedLoss]) -> Vec<LocatedLoss> {
    let recent = |(index, flow): (usize, &FlowExplanation)| {
        let mut recent = flow.recent_loss.unwrap_or_default();
        let all = flow.loss.unwrap_or_default();
        if let Some(before) = before.get(index) {
            recent.reported_packets = all.reported_packets.saturating_sub(before.reported_packets);
            recent.after_destination = all
                .after_destination
                .map(|lost| lost.saturating_sub(before.after_destination.unwrap_or_default()));
        }
        recent
    };
    flows.iter().enumerate().map(recent).collect()
}

/// The way that is worst, and what is bad about it; `None` where no flow is measured and none is heard.
fn worst(
    session: &SessionView,
    flows: &[FlowExplanation],
    recent: &[LocatedLoss],
) -> Option<CallQuality> {
    let loses = recent.iter().enumerate().filter_map(|(index, loss)| {
        let (segment, parts) = Segment::ALL
            .into_iter()
            .map(|segment| (segment, parts_lost(loss, segment)))
            .max_by_key(|(_, parts)| *parts)?;
        flows.get(index)?.loss.as_ref()?;
        Some((index, segment, parts))
    });
    let loses = loses.max_by_key(|(_, _, parts)| *parts);
    let silent = silent_way(flows);
    let one_way = silent.is_some().then_some(Cause::OneWay);
    let (flow, bad) = match loses {
        Some((flow, segment, parts)) if parts >= PARTS / BAD => {
            (flow, place(session, flow, segment).map(Cause::Loses))
        }
        Some((flow, ..)) => (flow, None),
        None => (0, None),
    };
    if loses.is_none() && one_way.is_none() {
        return None;
    }
    Some(CallQuality {
        flow,
        loss: recent.get(flow).copied().unwrap_or_default(),
        score: flows.get(flow).and_then(|it| it.score),
        cause: one_way.max(bad),
        silent,
    })
}

/// Shares of loss are compared in parts of so many.
const PARTS: u64 = 100_000;

fn parts_lost(loss: &LocatedLoss, segment: Segment) -> u64 {
    let packets = loss.packets_of(segment);
    let lost = loss.lost(segment).filter(|_| packets >= ENOUGH);
    lost.unwrap_or_default().saturating_mul(PARTS) / packets.max(1)
}

fn place(session: &SessionView, flow: usize, segment: Segment) -> Option<Place> {
    let media = &session.placement.get(flow)?.media;
    let a = media.source.as_ref()?.router.clone();
    let b = media.destination.as_ref()?.router.clone();
    Some(match segment {
        Segment::Before => Place::Before(a),
        Segment::InSource => Place::In(a),
        Segment::Between => Place::Between(a, b),
        Segment::InDestination => Place::In(b),
        Segment::After => Place::After(b),
    })
}

/// Whose packets do not come, while those of the other way do.
fn silent_way(flows: &[FlowExplanation]) -> Option<String> {
    let at_source = |flow: &FlowExplanation| -> Option<EntryCounters> {
        let rtp = |it: &&EntryCounters| it.kind == Some(FlowKind::Rtp);
        flow.source_counters.iter().find(rtp).cloned()
    };
    let all: Vec<EntryCounters> = flows.iter().filter_map(at_source).collect();
    let silent = |it: &EntryCounters| it.last_seen_ms_ago.is_none_or(|ago| ago > SILENT_MS);
    all.iter().find_map(|it| {
        let from = it.tuple?.0;
        let back = all.iter().find(|back| {
            let to = back.tuple.map(|it| it.0);
            to.is_some_and(|to| {
                to.source() == from.destination() && to.destination() == from.source()
            })
        })?;
        let is_heard = back.last_seen_ms_ago.is_some_and(|ago| ago <= HEARD_MS);
        let is_one_way = silent(it) && is_heard && back.packets >= ESTABLISHED;
        is_one_way.then(|| from.source().to_string())
    })
}

fn describe(quality: &CallQuality, cause: &Cause) -> String {
    let parts = Segment::ALL.map(|it| parts_lost(&quality.loss, it));
    let [whole, rest] = [PARTS / 100, PARTS / 1_000].map(|unit| parts.iter().sum::<u64>() / unit);
    let flow = quality.flow;
    let heard = quality.score.map(|it| format!("; MOS {:.1}", it.mos));
    let heard = heard.unwrap_or_default();
    format!("{cause}: {whole}.{} % of flow {flow}{heard}", rest % 10)
}

/// Runs until the engine stops.
pub(super) async fn watch(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        sleep(TICK).await;
        let due = engine.watched.take_due(engine.clock().instant());
        for part in due.chunks(AT_ONCE) {
            join_all(part.iter().map(|key| engine.look_at(key))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(id: &str) -> RouterId {
        RouterId::parse("router", id).unwrap()
    }

    #[test]
    fn news_is_what_turns_bad_and_what_is_good_again() {
        let now = Instant::now();
        let mut call = Call {
            told: now,
            due: now,
            now: None,
            totals: Vec::new(),
            bad: None,
            good_looks: 0,
        };
        let before = Cause::Loses(Place::Before(router("a")));
        let after = Cause::Loses(Place::After(router("b")));
        let mut at = |seconds: i64, cause: Option<&Cause>| call.conclude(cause, UnixMs(seconds * 1_000));
        assert_eq!(at(0, None), None);
        assert_eq!(at(5, Some(&before)), Some(News::Bad(before.clone())));
        assert_eq!(at(10, Some(&after)), None, "it is known to be bad");
        assert_eq!(at(15, Some(&Cause::OneWay)), Some(News::Bad(Cause::OneWay)));
        assert_eq!(at(20, None), None, "once is not good");
        assert_eq!(at(25, Some(&Cause::OneWay)), None);
        assert_eq!(at(30, None), None);
        let after = Duration::from_secs(30);
        assert_eq!(at(35, None), Some(News::Good { after }));
        assert_eq!(at(40, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_looked_at_while_routers_tell_of_them_and_are_bounded() {
        let watched = Watched::default();
        let key = |number: usize| SessionKey::new("x", &format!("{number:04}")).unwrap();
        let now = Instant::now();
        for number in 0..=MOST {
            watched.hear(&key(number), now);
        }
        assert_eq!(watched.take_due(now).len(), MOST);
        assert_eq!(watched.take_due(now).len(), 0);
        let later = now + EVERY;
        watched.hear(&key(7), later);
        assert_eq!(watched.take_due(later).len(), MOST);
        let told_no_more = now + KEEP;
        assert_eq!(watched.take_due(told_no_more), [key(7)]);
    }

    #[test]
    fn shares_are_of_enough_packets() {
        let loss = LocatedLoss {
            packets: 256,
            between: Some(3),
            after_destination: Some(5),
            reported_packets: 63,
            ..LocatedLoss::default()
        };
        assert_eq!(parts_lost(&loss, Segment::Between), 1_171);
        assert_eq!(parts_lost(&loss, Segment::After), 0, "too few");
        let quality = CallQuality {
            flow: 1,
            loss,
            score: None,
            cause: None,
            silent: None,
        };
        let cause = Cause::Loses(Place::Between(router("a"), router("b")));
        assert_eq!(
            describe(&quality, &cause),
            "packets are lost between routers a and b: 1.1 % of flow 1"
        );
    }
}
