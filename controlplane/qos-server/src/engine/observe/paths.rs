//! How long packets take from one router to another and back: of each two routers that calls go between,
//! the marks of one call are compared now and then. Which call that is makes no difference, so few are read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{task::yield_now, time::sleep_until};

use super::quality::is_heard;
use crate::{
    engine::{Engine, SessionView},
    model::{
        ids::{RouterId, SessionKey},
        session::SessionState,
    },
};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(10);
/// From one look to the next is at least so many times as long as it takes to look through all sessions.
const REST: u32 = 9;
/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 64;
/// The most pairs of routers: metrics have no more.
const MOST: usize = 256;
/// The most calls of a pair that are read at a look, until one is heard both ways. The next look has others.
const TRIES: usize = 8;

/// Two routers, in the order of their ids.
type Pair = (RouterId, RouterId);

/// Whose turn it is of a pair's calls.
#[derive(Debug, Default)]
struct Turn {
    /// The one that was heard last time, which comes first while it is there.
    heard: Option<SessionKey>,
    /// The same, as it is now.
    still_there: Option<Arc<SessionView>>,
    /// The last one that was read.
    after: Option<SessionKey>,
    /// Those that follow it.
    next: Vec<Arc<SessionView>>,
    /// Those that come first of all, up to it.
    first: Vec<Arc<SessionView>>,
}

impl Turn {
    /// A flow's call between the two routers. They come in the order of their keys.
    fn offer(&mut self, call: &Arc<SessionView>) {
        if self.heard.as_ref() == Some(&call.spec.key) {
            self.still_there = Some(call.clone());
            return;
        }
        let is_next = self.after.as_ref().is_none_or(|it| *it < call.spec.key);
        let some = match is_next {
            true => &mut self.next,
            false => &mut self.first,
        };
        let is_new = some.last().is_none_or(|it| it.spec.key != call.spec.key);
        if is_new && some.len() < TRIES {
            some.push(call.clone());
        }
    }

    fn has_calls(&self) -> bool {
        self.still_there.is_some() || !self.next.is_empty() || !self.first.is_empty()
    }

    /// Those that are to be read.
    fn take(&mut self) -> Vec<Arc<SessionView>> {
        self.heard = None;
        let mut calls: Vec<_> = self.still_there.take().into_iter().collect();
        calls.append(&mut self.next);
        calls.append(&mut self.first);
        calls.truncate(TRIES);
        calls
    }
}

impl Engine {
    /// Measures the delay between routers for the metrics, until the engine stops.
    pub async fn watch_paths(self: Arc<Self>) {
        let mut stopping = self.stopping();
        let mut turns = BTreeMap::new();
        loop {
            let began = self.clock().instant();
            self.offer_calls(&mut turns).await;
            let next = began + EVERY.max(began.elapsed() * REST);
            let measured = turns
                .iter_mut()
                .map(|(pair, turn)| self.measure_path(pair, turn));
            join_all(measured).await;
            tokio::select! {
                () = sleep_until(next) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Offers each pair its calls. Pairs that have none any more are forgotten.
    async fn offer_calls(&self, turns: &mut BTreeMap<Pair, Turn>) {
        let mut last: Option<SessionKey> = None;
        loop {
            let page = self.sessions(None, last.as_ref(), CHUNK);
            for call in &page.sessions {
                if call.state != SessionState::Active {
                    continue;
                }
                for pair in (0..call.placement.len()).filter_map(|flow| pair_of(call, flow)) {
                    if turns.len() < MOST || turns.contains_key(&pair) {
                        turns.entry(pair).or_default().offer(call);
                    }
                }
            }
            last = page.sessions.last().map(|it| it.spec.key.clone());
            if !page.more {
                break;
            }
            yield_now().await;
        }
        turns.retain(|_, turn| turn.has_calls());
    }

    async fn measure_path(&self, pair: &Pair, turn: &mut Turn) {
        for call in turn.take() {
            let flows = self.measured(&call, 2).await;
            turn.after = Some(call.spec.key.clone());
            let delays = flows.iter().enumerate().filter_map(|(index, flow)| {
                let is_along = pair_of(&call, index).as_ref() == Some(pair);
                flow.two_way_delay_ns.filter(|_| is_along && is_heard(flow))
            });
            if let Some(delay) = delays.min() {
                let (one, other) = pair;
                let delay = Duration::from_nanos(delay);
                self.metrics
                    .path_delay([one, other].map(RouterId::as_str), delay);
                turn.heard = Some(call.spec.key.clone());
                return;
            }
        }
    }
}

/// The routers that a flow goes between; `None` where there is only one.
fn pair_of(session: &SessionView, flow: usize) -> Option<Pair> {
    let media = &session.placement.get(flow)?.media;
    let ends = [&media.source, &media.destination];
    let [one, other] = ends.map(|at| at.as_ref().map(|it| it.router.clone()));
    let (one, other) = (one?, other?);
    (one != other).then(|| {
        if one < other {
            (one, other)
        } else {
            (other, one)
        }
    })
}
