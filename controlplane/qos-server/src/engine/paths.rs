//! How long packets take from one router to another and back: of each two routers that calls go between,
//! the marks of one call are compared now and then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{Engine, SessionView, quality::is_heard};
use crate::model::{ids::RouterId, session::SessionState};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(10);
/// Sessions of which calls are chosen at a look, each time the next ones.
const CHUNK: usize = 64;

/// Two routers, in the order of their ids.
type Pair = (RouterId, RouterId);

impl Engine {
    /// Measures the delay between routers for the metrics, until the engine stops.
    pub async fn watch_paths(self: Arc<Self>) {
        let mut stopping = self.stopping();
        let mut last = None;
        loop {
            let page = self.sessions(None, last.as_ref(), CHUNK);
            let end = page.sessions.last().filter(|_| page.more);
            last = end.map(|session| session.spec.key.clone());
            let calls = one_for_each_pair(page.sessions);
            join_all(
                calls
                    .iter()
                    .map(|(pair, call)| self.measure_path(pair, call)),
            )
            .await;
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    async fn measure_path(&self, pair: &Pair, call: &SessionView) {
        let flows = self.measured(call, 2).await;
        let delays = flows.iter().enumerate().filter_map(|(index, flow)| {
            let is_along = pair_of(call, index).as_ref() == Some(pair);
            flow.two_way_delay_ns.filter(|_| is_along && is_heard(flow))
        });
        if let Some(delay) = delays.min() {
            let (one, other) = pair;
            let delay = Duration::from_nanos(delay);
            self.metrics
                .path_delay([one, other].map(RouterId::as_str), delay);
        }
    }
}

fn one_for_each_pair(sessions: Vec<Arc<SessionView>>) -> BTreeMap<Pair, Arc<SessionView>> {
    let mut calls = BTreeMap::new();
    for session in sessions {
        if session.state != SessionState::Active {
            continue;
        }
        for flow in 0..session.placement.len() {
            if let Some(pair) = pair_of(&session, flow) {
                calls.entry(pair).or_insert_with(|| session.clone());
            }
        }
    }
    calls
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
