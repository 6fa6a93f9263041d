//! Brings a router to exactly the server's state by differences.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tracing::{info, warn};

use super::{
    install::Target,
    link::{Command, Ended, Link, Patience, Summary, ToRouter},
};
use crate::{
    engine::Engine,
    events::Kind,
    model::{
        error::Error,
        ids::{Revision, SessionKey},
        placement::shares,
        store::Reported,
    },
};

/// Sessions named under one hold of the lock.
const CHUNK: usize = 128;

enum Difference {
    None,
    Installed,
    Replaced,
    Removed,
    Unchanged,
    /// The router said no, which is noted at the session.
    Refused,
    /// The router did not answer: the stream is over.
    Failed,
}

impl Engine {
    pub(in crate::engine) async fn synchronise(
        self: Arc<Self>,
        link: Arc<Link>,
        mut reported: BTreeMap<SessionKey, Reported>,
    ) {
        // Fails never: it is not closed.
        let _place = tokio::select! {
            biased;
            place = self.synchronising.acquire() => place,
            _ = link.ended() => return,
        };
        let mut summary = Summary::default();
        // First, so that what takes their place finds room and the five-tuples free.
        let unwanted = self.take_unwanted(&link, &mut reported);
        if !self.apply(&link, unwanted, &mut summary).await {
            return;
        }
        let mut last: Option<SessionKey> = None;
        loop {
            let desired: Vec<SessionKey> = {
                let state = self.lock();
                state
                    .store
                    .keys_on(link.router(), last.as_ref())
                    .take(CHUNK)
                    .cloned()
                    .collect()
            };
            let Some(end) = desired.last().cloned() else {
                break;
            };
            last = Some(end);
            let pairs = desired.into_iter().map(|key| {
                let has = reported.remove(&key);
                (key, has)
            });
            if !self.apply(&link, pairs.collect(), &mut summary).await {
                return;
            }
        }
        // What has gone from here meanwhile.
        let gone = reported
            .into_iter()
            .map(|(key, has)| (key, Some(has)))
            .collect();
        if !self.apply(&link, gone, &mut summary).await {
            return;
        }
        link.say(ToRouter::Synchronised(summary));
        link.synchronised();
        let settled = {
            let mut state = self.lock();
            let (id, attachment) = (link.router(), link.attachment());
            let current = state.registry.synchronised(id, attachment);
            current.then(|| state.grace.synchronised(id))
        };
        drop(settled);
        info!(
            router = %link.router(), installed = summary.installed, replaced = summary.replaced,
            removed = summary.removed, unchanged = summary.unchanged, "synchronised"
        );
        self.note(Kind::RouterSynchronised, link.router(), || {
            format!(
                "synchronised: {} calls installed, {} replaced, {} removed, {} unchanged",
                summary.installed, summary.replaced, summary.removed, summary.unchanged
            )
        });
    }

    /// Takes out of what a router has what it is not to have.
    fn take_unwanted(
        &self,
        link: &Link,
        reported: &mut BTreeMap<SessionKey, Reported>,
    ) -> Vec<(SessionKey, Option<Reported>)> {
        let keys: Vec<SessionKey> = reported.keys().cloned().collect();
        let mut unwanted = Vec::new();
        for keys in keys.chunks(CHUNK) {
            let state = self.lock();
            let not_here = keys.iter().filter(|key| {
                let session = state.store.get(key);
                !session.is_some_and(|it| it.installations.contains_key(link.router()))
            });
            unwanted.extend(not_here.cloned());
        }
        unwanted
            .into_iter()
            .map(|key| {
                let has = reported.remove(&key);
                (key, has)
            })
            .collect()
    }

    /// False if the stream is over.
    async fn apply(
        self: &Arc<Self>,
        link: &Arc<Link>,
        sessions: Vec<(SessionKey, Option<Reported>)>,
        summary: &mut Summary,
    ) -> bool {
        let mut differences = stream::iter(sessions)
            .map(|(key, has)| async move { self.reconcile(link, &key, has).await })
            .buffer_unordered(self.settings.synchronise_window.max(1));
        while let Some(difference) = differences.next().await {
            match difference {
                Difference::None | Difference::Refused => {}
                Difference::Installed => summary.installed += 1,
                Difference::Replaced => summary.replaced += 1,
                Difference::Removed => summary.removed += 1,
                Difference::Unchanged => summary.unchanged += 1,
                Difference::Failed => {
                    link.end(Ended::NotSynchronised);
                    return false;
                }
            }
        }
        true
    }

    /// Compares what a router has of a session with what it is to have, and mends it.
    async fn reconcile(
        self: &Arc<Self>,
        link: &Arc<Link>,
        key: &SessionKey,
        has: Option<Reported>,
    ) -> Difference {
        let _claim = self.claim(key).await;
        let has = has.filter(|_| !link.has_commanded(key));
        // Nobody waits for this one, and a router that is busy is not to be thrown out for it.
        let patience = Patience::WhileItAnswers(self.settings.acknowledge_timeout);
        let (revision, share) = {
            let mut state = self.lock();
            let state = &mut *state;
            let router = link.router();
            if state.registry.attachment(router) != Some(link.attachment()) {
                return Difference::Failed;
            }
            let known = state.store.get(key).is_some();
            let session = state.store.get_mut(key);
            match session.filter(|session| session.installations.contains_key(router)) {
                None => match has {
                    None => return Difference::None,
                    Some(has) if !known && state.grace.covers(router, key) => {
                        state.grace.leave(router, key, has);
                        return Difference::Unchanged;
                    }
                    Some(_) => (Revision::FIRST, None),
                },
                Some(session) => {
                    let revision = session.spec.revision;
                    let right = session.installations.get(router).is_some_and(|wanted| {
                        wanted.holds(revision, link.attachment())
                            || has.is_some_and(|has| has.is(revision, wanted.fingerprint))
                    });
                    if right {
                        session.acknowledge(&[(router.clone(), link.attachment())].into());
                        self.tell_state(state, key);
                        return Difference::Unchanged;
                    }
                    let mut all = shares(&session.placement, &session.entries());
                    (revision, all.remove(router))
                }
            }
        };
        let Some(share) = share else {
            return match link.ask(Command::Remove(key.clone()), patience).await {
                Ok(Ok(_)) => {
                    self.lock().grace.settles(link.router(), key);
                    Difference::Removed
                }
                Ok(Err(refusal)) => {
                    let router = link.router();
                    warn!(%router, session = %key, %refusal, "removal refused; will be tried again");
                    self.lock().refuses(router, key);
                    Difference::Refused
                }
                Err(_) => Difference::Failed,
            };
        };
        let target = Target {
            link: link.clone(),
            share,
        };
        let installed = self.install_noted(key, revision, target, patience).await;
        match installed {
            Ok(()) if has.is_some() => Difference::Replaced,
            Ok(()) => Difference::Installed,
            Err(Error::Refused { .. }) => Difference::Refused,
            Err(_) => Difference::Failed,
        }
    }
}
