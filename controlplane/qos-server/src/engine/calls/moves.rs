//! Moves sessions whose addresses are behind other routers now.
//!
//! Sessions that a mute router has a part in are moved in a lane of their own: each of them may take
//! as long as a router has to acknowledge, and the others must not wait for that.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;

use crate::{
    engine::{Engine, state::State},
    model::{
        ids::{RouterId, SessionKey},
        placement::{FlowPlacement, place},
    },
};

/// Sessions of a lane moved at once.
pub(in crate::engine) const WINDOW: usize = 32;

/// Which sessions are moved together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Lane {
    /// Of routers that answer.
    Ordinary,
    /// A router of it, or one that it is to be on, answers nothing.
    Mute,
}

/// Sessions whose place is to be looked at.
#[derive(Debug, Default)]
pub(in crate::engine) struct Moves {
    ordinary: BTreeSet<SessionKey>,
    mute: BTreeSet<SessionKey>,
    /// When the operation on them that runs has ended.
    busy: BTreeSet<SessionKey>,
}

impl Moves {
    pub(in crate::engine) fn add(&mut self, lane: Lane, key: SessionKey) {
        self.of(lane).insert(key);
    }

    pub(in crate::engine) fn take(&mut self, lane: Lane) -> Option<SessionKey> {
        self.of(lane).pop_first()
    }

    /// An operation runs on the session.
    pub(in crate::engine) fn busy(&mut self, key: &SessionKey) {
        self.busy.insert(key.clone());
    }

    /// An operation on the session has ended. Tells whether the session is to be looked at now.
    pub(super) fn no_longer_busy(&mut self, key: &SessionKey) -> bool {
        // Mostly empty, which costs nothing to find out.
        let due = !self.busy.is_empty() && self.busy.remove(key);
        if due {
            self.ordinary.insert(key.clone());
        }
        due
    }

    fn of(&mut self, lane: Lane) -> &mut BTreeSet<SessionKey> {
        match lane {
            Lane::Ordinary => &mut self.ordinary,
            Lane::Mute => &mut self.mute,
        }
    }
}

/// Wakes those who move sessions.
#[derive(Debug, Default)]
pub(in crate::engine) struct Bells {
    ordinary: Notify,
    mute: Notify,
}

impl Bells {
    pub(in crate::engine) fn ring(&self) {
        self.ordinary.notify_one();
        self.mute.notify_one();
    }

    async fn rung(&self, lane: Lane) {
        match lane {
            Lane::Ordinary => self.ordinary.notified().await,
            Lane::Mute => self.mute.notified().await,
        }
    }
}

impl State {
    /// Which lane a session belongs to.
    pub(in crate::engine) fn lane(&self, key: &SessionKey, engine: &Engine) -> Lane {
        let timeout = engine.settings.acknowledge_timeout;
        let mute = |router: &RouterId| self.links.get(router).is_some_and(|it| it.is_mute(timeout));
        let Some(session) = self.store.get(key) else {
            return Lane::Ordinary;
        };
        let goes_to_mute = || {
            let learned = self.placeable(session, &session.spec);
            let placement = place(&session.spec, &learned, &self.registry, self.clock.unix());
            placement.is_ok_and(|placement| {
                let mut ends = placement.iter().flat_map(FlowPlacement::locations);
                ends.any(|end| mute(&end.router))
            })
        };
        if session.installations.keys().any(mute) || goes_to_mute() {
            Lane::Mute
        } else {
            Lane::Ordinary
        }
    }
}

/// Moves the sessions of a lane, until the engine stops.
pub(in crate::engine) async fn run(engine: Arc<Engine>, lane: Lane) {
    let mut running = FuturesUnordered::new();
    while !*engine.stopping.borrow() {
        while running.len() < WINDOW
            && let Some(key) = engine.take_move(lane)
        {
            let engine = engine.clone();
            running.push(async move { engine.follow_one(&key, lane).await });
        }
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            () = engine.moves_due.rung(lane) => {}
        }
    }
}

impl Engine {
    fn take_move(&self, lane: Lane) -> Option<SessionKey> {
        self.lock().moves.take(lane)
    }
}
