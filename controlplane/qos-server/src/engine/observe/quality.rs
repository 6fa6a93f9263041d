//! How those calls sound that routers tell of: they lose packets, or are heard one way only. The counters of
//! both ends are read every two seconds at first, then every five, until all is well again.

mod verdict;

use std::{
    collections::BTreeMap,
    iter::repeat,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

pub(in crate::engine) use self::verdict::is_heard;
pub use self::verdict::{CallQuality, Place};
use crate::{
    engine::{Cause, Engine, FlowExplanation, Link, LocatedLoss, Segment, observe::explain::Known},
    events::Kind,
    model::ids::{RouterId, SessionKey, UnixMs},
};

/// The most calls that are looked at. While all of these are bad, no others are.
const MOST: usize = 1_024;
/// How many are looked at at once.
const AT_ONCE: usize = 32;
/// How often it is seen which are to be looked at.
const TICK: Duration = Duration::from_millis(250);
/// That part of its usual time a router has to answer then: a mute one is not to hold up others.
const PART: u32 = 5;
/// How often each is.
const EVERY: Duration = Duration::from_secs(5);
/// How often at first: its routers may not have judged the same packets yet, nor heard enough of its receiver.
const SOON: Duration = Duration::from_secs(2);
/// How many looks come that soon one after the other.
const FIRST_LOOKS: u32 = 4;
/// A call that routers tell of no more is looked at for so long if nothing is bad.
const KEEP: Duration = Duration::from_secs(15);
/// No flow loses more packets between two looks, whatever routers say.
const MOST_LOST: u64 = 100_000;
/// A call is good again when it was not bad so many times in a row.
const GOOD_LOOKS: u32 = 2;

/// The calls that routers tell of.
#[derive(Debug, Default)]
pub(in crate::engine) struct Watched(Mutex<BTreeMap<SessionKey, Call>>);

#[derive(Debug)]
struct Call {
    /// Who has told of it first.
    router: RouterId,
    /// When that was, by the wall clock.
    first: UnixMs,
    /// When a router has told of it last.
    told: Instant,
    /// When it is to be looked at.
    due: Instant,
    /// How often it has been looked at.
    looks: u32,
    /// What the last look has found; `None`: nobody can say.
    quality: Option<Arc<CallQuality>>,
    /// By flow, as far as it was ever known.
    totals: Vec<Option<LocatedLoss>>,
    /// By flow, what its receiver's reports are compared with.
    receivers: Vec<Option<Known>>,
    /// What is bad, and since when.
    bad: Option<(Cause, UnixMs)>,
    /// Looks in a row that have found nothing bad.
    good_looks: u32,
}

impl Watched {
    fn calls(&self) -> MutexGuard<'_, BTreeMap<SessionKey, Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a router tells, as far as there is room or some is made.
    fn hear(&self, router: &RouterId, keys: Vec<SessionKey>, now: Instant, at: UnixMs) {
        let mut calls = self.calls();
        let mut has_room = true;
        for key in keys {
            if let Some(call) = calls.get_mut(&key) {
                call.told = now;
                continue;
            }
            if has_room && calls.len() >= MOST {
                let goes = one_that_goes(&calls, router);
                has_room = goes.is_some_and(|key| calls.remove(&key).is_some());
            }
            if has_room {
                calls.insert(key, Call::new(router.clone(), now, at));
            }
        }
    }

    /// By flow of a call, what its receiver's reports are compared with.
    pub(super) fn receivers(&self, key: &SessionKey) -> Vec<Option<Known>> {
        let calls = self.calls();
        let call = calls.get(key);
        call.map_or(Vec::new(), |it| it.receivers.clone())
    }

    /// Those that are to be looked at now. What is well for long is forgotten.
    fn take_due(&self, now: Instant) -> Vec<SessionKey> {
        let mut calls = self.calls();
        calls.retain(|_, call| call.bad.is_some() || now.duration_since(call.told) < KEEP);
        let due = calls.iter_mut().filter(|(_, call)| call.due <= now);
        due.map(|(key, call)| {
            let is_known = call.bad.is_some() || call.looks >= FIRST_LOOKS;
            call.due = now + if is_known { EVERY } else { SOON };
            key.clone()
        })
        .collect()
    }
}

/// The call that makes room for one that a router tells of, when all places are taken: one that is well, or else,
/// while the router has less than its part of the places, one of the router that has most.
fn one_that_goes(calls: &BTreeMap<SessionKey, Call>, router: &RouterId) -> Option<SessionKey> {
    let told_first = |may_go: &dyn Fn(&Call) -> bool| {
        let those = calls.iter().filter(|(_, it)| may_go(it));
        let first = those.min_by_key(|(_, it)| it.told);
        first.map(|(key, _)| key.clone())
    };
    let well = told_first(&|it| it.looks > 0 && it.bad.is_none());
    well.or_else(|| {
        let mut places = BTreeMap::from([(router, 0_usize)]);
        for call in calls.values() {
            *places.entry(&call.router).or_default() += 1;
        }
        let part = MOST / places.len();
        let (most, _) = places.iter().max_by_key(|(_, places)| **places)?;
        let has_less = places.get(router).is_some_and(|own| *own < part);
        told_first(&|it| has_less && it.router == **most)
    })
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Bad(Cause),
    Good { after: Duration },
}

impl Call {
    fn new(router: RouterId, now: Instant, at: UnixMs) -> Self {
        Self {
            router,
            first: at,
            told: now,
            due: now,
            looks: 0,
            quality: None,
            totals: Vec::new(),
            receivers: Vec::new(),
            bad: None,
            good_looks: 0,
        }
    }

    /// Nobody can say any more that it is bad.
    fn forget_bad(&mut self) {
        self.good_looks += 1;
        if self.good_looks >= GOOD_LOOKS {
            self.bad = None;
        }
    }

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
        let router = link.router();
        let on_it = keys
            .iter()
            .filter(|key| self.lock().store.is_on(key, router));
        let keys = on_it.cloned().collect();
        let clock = self.clock();
        self.watched
            .hear(router, keys, clock.instant(), clock.unix());
    }

    /// How those calls sound that routers tell of.
    pub fn qualities(&self) -> BTreeMap<SessionKey, Arc<CallQuality>> {
        let calls = self.watched.calls();
        let looked_at = calls.iter();
        looked_at
            .filter_map(|(key, call)| Some((key.clone(), call.quality.clone()?)))
            .collect()
    }

    /// How many of them are bad, by what is.
    pub(super) fn bad_calls(&self) -> [(&'static str, u64); 3] {
        let [mut lossy, mut one_way, mut cut] = [0; 3];
        let calls = self.watched.calls();
        for (cause, _) in calls.values().filter_map(|call| call.bad.as_ref()) {
            match cause {
                Cause::OneWay => one_way += 1,
                Cause::Cut(..) => cut += 1,
                _ => lossy += 1,
            }
        }
        [("loses_packets", lossy), ("one_way", one_way), ("cut", cut)]
    }

    async fn look_at(&self, key: &SessionKey) {
        let Ok(session) = self.session(key) else {
            self.watched.calls().remove(key);
            return;
        };
        let flows = self.measured(&session, PART).await;
        let now = self.clock().unix();
        let (quality, news) = {
            let mut calls = self.watched.calls();
            let Some(call) = calls.get_mut(key) else {
                return;
            };
            self.count(&flows, &call.totals);
            let former = call.totals.iter().copied().chain(repeat(None));
            let totals = flows
                .iter()
                .zip(former)
                .map(|(it, former)| it.loss.map(|now| now.at_least(former)).or(former));
            call.totals = totals.collect();
            call.receivers = flows.iter().map(|it| it.receiver).collect();
            call.looks = call.looks.saturating_add(1);
            let Some(mut quality) = CallQuality::of(&session, &flows) else {
                call.quality = None;
                call.forget_bad();
                return;
            };
            let news = call.conclude(quality.cause.as_ref(), now);
            let bad = call.bad.as_ref().filter(|_| quality.cause.is_some());
            quality.since = Some(bad.map_or(call.first, |(_, since)| *since));
            let quality = Arc::new(quality);
            call.quality = Some(quality.clone());
            (quality, news)
        };
        match news {
            Some(News::Bad(Cause::OneWay)) => {
                self.note(Kind::OneWayAudio, key, || quality.describe());
            }
            Some(News::Bad(_)) => self.note(Kind::QualityBad, key, || quality.describe()),
            Some(News::Good { after }) => {
                let seconds = after.as_secs();
                self.note(Kind::QualityGood, key, || {
                    format!("is good again, after {seconds} s")
                });
            }
            None => {}
        }
    }

    /// Adds what flows have lost since the last look to the metrics.
    fn count(&self, flows: &[FlowExplanation], before: &[Option<LocatedLoss>]) {
        for (index, flow) in flows.iter().enumerate() {
            if let Some(score) = flow.score.filter(|_| is_heard(flow)) {
                self.metrics.scored(score.mos);
            }
            let (Some(now), Some(recent)) = (&flow.loss, &flow.recent_loss) else {
                continue;
            };
            for segment in Segment::ALL {
                let more = match before.get(index) {
                    Some(Some(before)) => now.lost_since(before, segment),
                    // What was lost before may have been counted when it was looked at earlier.
                    _ => recent.lost(segment).unwrap_or_default(),
                };
                self.metrics.lost(segment, more.min(MOST_LOST));
            }
        }
    }
}

/// Runs until the engine stops.
pub(in crate::engine) async fn watch(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        sleep(TICK).await;
        let due = engine.watched.take_due(engine.clock().instant());
        let engine = &engine;
        let look = |key| async move { engine.look_at(&key).await };
        stream::iter(due).for_each_concurrent(AT_ONCE, look).await;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn router(id: &str) -> RouterId {
        RouterId::parse("router", id).unwrap()
    }

    #[test]
    fn news_is_what_turns_bad_and_what_is_good_again() {
        let mut call = Call::new(router("a"), Instant::now(), UnixMs(0));
        let before = Cause::Loses(Place::Before(router("a")));
        let after = Cause::Loses(Place::After(router("b")));
        let mut at =
            |seconds: i64, cause: Option<&Cause>| call.conclude(cause, UnixMs(seconds * 1_000));
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

    #[test]
    fn a_call_that_nobody_can_judge_is_not_bad_for_ever() {
        let mut call = Call::new(router("a"), Instant::now(), UnixMs(0));
        call.conclude(Some(&Cause::OneWay), UnixMs(0));
        call.forget_bad();
        assert!(call.bad.is_some(), "once is not for ever");
        call.forget_bad();
        assert!(call.bad.is_none());
    }

    fn key(number: usize) -> SessionKey {
        SessionKey::new("x", &format!("{number:04}")).unwrap()
    }

    /// Calls of these numbers, told by a router.
    fn tell(watched: &Watched, router: &str, numbers: Range<usize>, now: Instant) {
        let keys = numbers.map(key).collect();
        watched.hear(&self::router(router), keys, now, UnixMs(0));
    }

    /// As many calls as there is room for, of two routers.
    fn full(now: Instant) -> Watched {
        let watched = Watched::default();
        tell(&watched, "a", 0..MOST / 2, now);
        tell(&watched, "b", MOST / 2..MOST, now);
        watched
    }

    /// Calls have been looked at.
    fn conclude(watched: &Watched, is_bad: impl Fn(&SessionKey) -> bool) {
        for (key, call) in watched.calls().iter_mut() {
            call.looks = call.looks.saturating_add(1);
            call.bad = is_bad(key).then_some((Cause::OneWay, UnixMs(0)));
        }
    }

    fn places(watched: &Watched, id: &str) -> usize {
        let calls = watched.calls();
        calls.values().filter(|it| it.router == router(id)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_looked_at_while_routers_tell_of_them_and_are_bounded() {
        let now = Instant::now();
        let watched = full(now);
        tell(&watched, "a", 5_000..5_001, now);
        assert_eq!(watched.take_due(now).len(), MOST);
        assert_eq!(watched.take_due(now).len(), 0);
        let later = now + EVERY;
        tell(&watched, "c", 7..8, later);
        assert_eq!(watched.take_due(later).len(), MOST);
        let told_no_more = now + KEEP;
        assert_eq!(watched.take_due(told_no_more), [key(7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_looked_at_soon_again_until_it_is_known() {
        let now = Instant::now();
        let watched = Watched::default();
        tell(&watched, "a", 0..1, now);
        let mut at = now;
        for _ in 0..FIRST_LOOKS {
            assert_eq!(watched.take_due(at), [key(0)]);
            conclude(&watched, |_| false);
            at += SOON;
        }
        assert_eq!(watched.take_due(at), [key(0)]);
        assert_eq!(watched.take_due(at + SOON), []);
        assert_eq!(watched.take_due(at + EVERY), [key(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_well_makes_room_for_another_one() {
        let now = Instant::now();
        let watched = full(now);
        conclude(&watched, |it| ![key(7), key(9)].contains(it));
        tell(&watched, "a", 7..8, now + TICK);
        watched.take_due(now);
        let hear = |number| {
            tell(&watched, "a", number..number + 1, now);
            watched.take_due(now)
        };
        assert_eq!(hear(5_001), [key(5_001)]);
        assert!(!watched.calls().contains_key(&key(9)), "told of before 7");
        assert_eq!(hear(5_002), [key(5_002)]);
        assert!(!watched.calls().contains_key(&key(7)));
        assert_eq!(hear(5_003), [], "all are bad, or not looked at yet");
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_a_router_tells_stay_while_there_is_room() {
        let now = Instant::now();
        let watched = Watched::default();
        tell(&watched, "a", 0..600, now);
        conclude(&watched, |_| false);
        watched.take_due(now);
        tell(&watched, "a", 0..600, now);
        assert_eq!(watched.take_due(now), [], "they are the same calls");
        assert_eq!(places(&watched, "a"), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn every_router_is_heard() {
        let now = Instant::now();
        let watched = Watched::default();
        // All calls between two routers are bad, and both tell of them.
        tell(&watched, "a", 0..MOST, now);
        tell(&watched, "b", 0..MOST, now);
        conclude(&watched, |_| true);
        assert_eq!(places(&watched, "a"), MOST);
        tell(&watched, "c", 3_000..3_900, now);
        assert_eq!(places(&watched, "c"), MOST / 2);
        tell(&watched, "d", 5_000..5_001, now);
        tell(&watched, "b", 0..2_000, now);
        let held = || ["a", "b", "c", "d"].map(|it| places(&watched, it));
        let before = held();
        assert_eq!((before[1], before[3]), (MOST / 4, 1));
        assert_eq!(before.iter().sum::<usize>(), MOST);
        tell(&watched, "a", 0..2_000, now);
        tell(&watched, "c", 3_000..3_900, now);
        tell(&watched, "b", 0..2_000, now);
        assert_eq!(held(), before, "nobody has less than its part");
    }
}
