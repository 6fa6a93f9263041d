//! How long packets take from one router to another and back: of each two routers that calls go between,
//! the marks of one call are compared now and then. Which call that is makes no difference, so few are read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep_until;

use super::quality::is_heard;
use crate::{
    engine::Engine,
    model::{
        ids::{RouterId, SessionKey},
        placement::Placement,
        session::SessionState,
    },
};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(10);
/// From one look to the next is at least so many times as long as it takes to look through all sessions.
const REST: u32 = 9;
/// The most pairs of routers: metrics have no more.
const MOST: usize = 256;
/// The most calls of a pair that are read at a look, until one is heard both ways. The next look has others.
const TRIES: usize = 8;

/// Two routers, in the order of their ids.
type Pair = (RouterId, RouterId);

/// Whose turn it is of a pair's calls.
#[derive(Debug, Default)]
struct Turn {
    /// The one that was heard last time, which comes first.
    heard: Option<SessionKey>,
    /// The last one that was read.
    after: Option<SessionKey>,
    /// Those that follow it.
    next: Vec<SessionKey>,
    /// Those that come first of all, up to it.
    first: Vec<SessionKey>,
}

impl Turn {
    /// A flow's call between the two routers. They come in the order of their keys.
    fn offer(&mut self, key: &SessionKey) {
        let some = match self.after.as_ref().is_none_or(|it| it < key) {
            true => &mut self.next,
            false => &mut self.first,
        };
        if some.last() != Some(key) && some.len() < TRIES {
            some.push(key.clone());
        }
    }

    /// Those that are to be read.
    fn take(&mut self) -> Vec<SessionKey> {
        let mut calls: Vec<_> = self.heard.take().into_iter().collect();
        for key in self.next.drain(..).chain(self.first.drain(..)) {
            if !calls.contains(&key) {
                calls.push(key);
            }
        }
        calls.truncate(TRIES);
        calls
    }
}

impl Engine {
    /// Measures the delay between routers for the metrics, until the engine stops.
    pub async fn watch_paths(self: Arc<Self>) {
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
                () = self.stopped() => return,
            }
        }
    }

    /// Offers each pair its calls. Pairs that have none any more are forgotten.
    async fn offer_calls(&self, turns: &mut BTreeMap<Pair, Turn>) {
        self.each_session(|state, session| {
            if session.state(&state.registry) != SessionState::Active {
                return;
            }
            let placement = &session.placement;
            for pair in (0..placement.len()).filter_map(|flow| pair_of(placement, flow)) {
                if turns.len() < MOST || turns.contains_key(&pair) {
                    turns.entry(pair).or_default().offer(&session.spec.key);
                }
            }
        })
        .await;
        turns.retain(|_, turn| !turn.next.is_empty() || !turn.first.is_empty());
    }

    async fn measure_path(&self, pair: &Pair, turn: &mut Turn) {
        for key in turn.take() {
            let Ok(call) = self.session(&key) else {
                continue;
            };
            let flows = self.measured(&call, 2).await;
            let delays = flows.iter().enumerate().filter_map(|(index, flow)| {
                let is_along = pair_of(&call.placement, index).as_ref() == Some(pair);
                flow.two_way_delay_ns.filter(|_| is_along && is_heard(flow))
            });
            if let Some(delay) = delays.min() {
                let (one, other) = pair;
                let delay = Duration::from_nanos(delay);
                self.metrics
                    .path_delay([one, other].map(RouterId::as_str), delay);
                turn.heard = Some(key.clone());
                turn.after = Some(key);
                return;
            }
            turn.after = Some(key);
        }
    }
}

/// The routers that a flow goes between; `None` where there is only one.
fn pair_of(placement: &Placement, flow: usize) -> Option<Pair> {
    let media = &placement.get(flow)?.media;
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
