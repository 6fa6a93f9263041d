//! WatchSessions: every change, with no gap after what was there already.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    watch,
};
use tokio::time::sleep_until;

use super::events::{Event, EventKind};
use crate::{
    engine::Engine,
    model::{error::Error, ids::SessionKey},
};

/// Existing sessions told at a time.
const CHUNK: usize = 64;
/// Between two looks at how far a watcher that reads nothing is behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a watcher is told no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WatchEnd {
    #[error(
        "the watcher read too slowly and missed {missed} events; list the sessions and watch again"
    )]
    TooSlow { missed: u64 },
    #[error(
        "the watcher read nothing for {} ms while there was an event for it; list the sessions and \
         watch again", .0.as_millis()
    )]
    NotReading(Duration),
    #[error("the server is shutting down; connect again")]
    Stopping,
}

/// One watcher's place in what happens.
#[derive(Debug)]
pub struct Watcher {
    engine: Arc<Engine>,
    agent: Option<String>,
    events: broadcast::Receiver<Arc<Event>>,
    stopping: watch::Receiver<bool>,
    ready: VecDeque<Arc<Event>>,
    existing: Existing,
    _permit: OwnedSemaphorePermit,
}

/// How far the sessions that were there already have been told.
#[derive(Debug)]
enum Existing {
    UpTo(Option<SessionKey>),
    Told,
}

impl Engine {
    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.settings
            .max_watchers
            .saturating_sub(self.watchers.available_permits())
    }

    /// Takes a watcher's place, for whoever is told of changes as long as it wants.
    pub fn admit_watcher(&self) -> Result<OwnedSemaphorePermit, Error> {
        if *self.stopping.borrow() {
            return Err(Error::ShuttingDown);
        }
        let permit = self.watchers.clone().try_acquire_owned();
        let limit = self.settings.max_watchers;
        permit.map_err(|_| Error::TooManyWatchers { limit })
    }

    /// How long a watcher may leave unread what it is told.
    pub fn read_timeout(&self) -> Duration {
        self.settings.read_timeout
    }

    /// Begins to watch one agent's sessions, or all.
    pub fn watch(
        self: &Arc<Self>,
        agent: Option<String>,
        include_existing: bool,
    ) -> Result<Watcher, Error> {
        let permit = self.admit_watcher()?;
        Ok(Watcher {
            engine: self.clone(),
            agent,
            events: self.events.subscribe(),
            stopping: self.stopping(),
            ready: VecDeque::new(),
            existing: if include_existing {
                Existing::UpTo(None)
            } else {
                Existing::Told
            },
            _permit: permit,
        })
    }
}

impl Watcher {
    /// What happened next.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchEnd> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                let key = &event.session.spec.key;
                if self.agent.as_ref().is_none_or(|agent| key.agent() == agent) {
                    return Ok(event);
                }
            }
            if let Existing::UpTo(last) = &self.existing {
                let last = last.clone();
                self.read_existing(last.as_ref())?;
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => self.ready.push_back(event),
                    Err(RecvError::Lagged(missed)) => return Err(WatchEnd::TooSlow { missed }),
                    Err(RecvError::Closed) => return Err(WatchEnd::Stopping),
                },
                _ = self.stopping.wait_for(|stopping| *stopping) => return Err(WatchEnd::Stopping),
            }
        }
    }

    /// Waits until the watcher, which does not take the next event, is to be told no more.
    pub async fn is_given_up(&self) -> WatchEnd {
        let timeout = self.engine.settings.read_timeout;
        let clock = self.engine.clock();
        let deadline = clock.instant() + timeout;
        loop {
            let behind = self
                .events
                .len()
                .saturating_sub(self.engine.settings.watch_buffer);
            if let Ok(missed @ 1..) = u64::try_from(behind) {
                return WatchEnd::TooSlow { missed };
            }
            if clock.instant() >= deadline {
                return WatchEnd::NotReading(timeout);
            }
            sleep_until(deadline.min(clock.instant() + LOOK_EVERY)).await;
        }
    }

    /// Takes the next sessions that were there, and what has happened meanwhile to those told
    /// already. What happened to others shows when they are told. The last of it under one hold of
    /// the lock, under which events are sent too: so nothing is missed or told twice.
    fn read_existing(&mut self, last: Option<&SessionKey>) -> Result<(), WatchEnd> {
        let engine = self.engine.clone();
        // Many may have happened, few while these are read.
        self.read_meanwhile(last)?;
        let state = engine.lock();
        self.read_meanwhile(last)?;
        let first = self.agent.as_deref().and_then(SessionKey::before_agent);
        let agent = self.agent.as_deref();
        let chunk = state
            .store
            .after(last.max(first.as_ref()))
            .take_while(|session| agent.is_none_or(|agent| session.spec.key.agent() == agent))
            .take(CHUNK);
        let mut end = None;
        for session in chunk {
            end = Some(session.spec.key.clone());
            // One that is being added is told when it has come.
            if session.told.is_some() {
                let session = state.view(session);
                self.ready.push_back(Arc::new(Event {
                    kind: EventKind::Existing,
                    session,
                    reaper: None,
                }));
            }
        }
        self.existing = end.map_or(Existing::Told, |end| Existing::UpTo(Some(end)));
        Ok(())
    }

    /// Takes what has happened to the sessions up to `last`.
    fn read_meanwhile(&mut self, last: Option<&SessionKey>) -> Result<(), WatchEnd> {
        loop {
            match self.events.try_recv() {
                Ok(event) if last.is_some_and(|last| event.session.spec.key <= *last) => {
                    self.ready.push_back(event);
                }
                Ok(_) => {}
                Err(TryRecvError::Lagged(missed)) => return Err(WatchEnd::TooSlow { missed }),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }
}
