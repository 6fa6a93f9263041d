//! AddSession, and what adding and changing have in common: telling routers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::{
    Engine,
    events::EventKind,
    link::{Command, Link, NoReply, Patience},
    operation::{Outcome, Work},
    state::State,
};
use crate::model::{
    admission::admit,
    entries::expand_distinct,
    error::Error,
    ids::{AttachmentId, Revision, RouterId, SessionKey, UnixMs},
    links::Charges,
    placement::{Share, place, shares},
    session::SessionSpec,
    store::{Acknowledged, Installation, Phase, Session},
};

/// A router that is to get a share of a session, over the stream that it has now.
pub(super) struct Target {
    pub(super) link: Arc<Link>,
    pub(super) share: Share,
}

/// Who said yes, on which stream.
pub(super) type Acknowledgements = BTreeMap<RouterId, AttachmentId>;

impl Engine {
    /// Admits a session and installs it; answers when every router of it has acknowledged.
    pub async fn add(self: &Arc<Self>, spec: SessionSpec) -> Outcome {
        let spec = Arc::new(spec);
        let key = spec.key.clone();
        let work = Work::Add(spec.clone());
        self.operate(&key, work, move |engine| engine.add_now(spec.clone()))
            .await
    }

    async fn add_now(self: Arc<Self>, spec: Arc<SessionSpec>) -> Outcome {
        let key = &spec.key;
        let deadline = Instant::now() + self.settings.acknowledge_timeout;
        let targets = {
            let mut state = self.lock();
            if let Some(there) = state.store.get(key) {
                if *there.spec == *spec {
                    return state.renewed(&spec);
                }
                let revision = there.spec.revision.get();
                return Err(Error::Exists {
                    key: key.clone(),
                    revision,
                });
            }
            self.admit_new(&mut state, &spec)?
        };
        match self
            .install_all(key, spec.revision, targets, deadline)
            .await
        {
            Ok(acknowledged) => {
                if let Some(view) = self.settle_added(key, &acknowledged) {
                    debug!(session = %key, "added");
                    return Ok(view);
                }
                let lost = self.lost_of(&acknowledged);
                self.undo_add(key, deadline).await;
                Err(lost)
            }
            Err(error) => {
                self.undo_add(key, deadline).await;
                Err(error)
            }
        }
    }

    fn admit_new(&self, state: &mut State, spec: &Arc<SessionSpec>) -> Result<Vec<Target>, Error> {
        let now = UnixMs::now();
        if state.store.len() >= self.settings.max_sessions {
            return Err(Error::ServerFull {
                limit: self.settings.max_sessions,
            });
        }
        let entries = expand_distinct(spec, &[])?;
        let placement = place(spec, &[], &state.registry, now)
            .map_err(|error| state.or_not_yet(error, &spec.key))?;
        let shares = shares(&placement, &entries);
        let charges = Charges::of(spec, &[], &placement, &state.registry);
        admit(
            spec,
            &shares,
            &charges,
            &state.registry,
            &state.store,
            state.admission,
        )?;
        let targets = state.targets(shares.clone())?;
        state.store.reserve(&spec.key, &entries)?;
        state.grace.dig_up(&spec.key);
        state.store.put(Session {
            spec: spec.clone(),
            learned: Box::default(),
            heard: Box::default(),
            placement,
            charges,
            expires: None,
            installations: shares
                .iter()
                .map(|(router, share)| (router.clone(), Installation::of(share)))
                .collect(),
            phase: Phase::Installing,
            problem: None,
            created: now,
            updated: now,
            told: None,
        });
        Ok(targets)
    }

    /// Absent if a router that said yes has gone since.
    fn settle_added(
        &self,
        key: &SessionKey,
        acknowledged: &Acknowledgements,
    ) -> Option<Arc<super::SessionView>> {
        let mut state = self.lock();
        let state = &mut *state;
        if !state.still_attached(acknowledged) {
            return None;
        }
        let session = state.store.get_mut(key)?;
        session.phase = Phase::Settled;
        session.updated = UnixMs::now();
        session.acknowledge(acknowledged);
        let spec = session.spec.clone();
        let expires = state.lease(&spec);
        state.store.renew(key, expires);
        self.tell(state, EventKind::Added, key);
        state
            .store
            .get(key)
            .map(|session| state.view(session, UnixMs::now()))
    }

    async fn undo_add(self: &Arc<Self>, key: &SessionKey, deadline: Instant) {
        let routers = {
            let mut state = self.lock();
            let Some(session) = state.store.get_mut(key) else {
                return;
            };
            session.phase = Phase::Removing;
            session.installations.keys().cloned().collect()
        };
        self.withdraw(key, routers, self.undone_by(deadline)).await;
        let removed = self.lock().store.remove(key);
        drop(removed);
    }

    /// As long as a router has to acknowledge a command for which an agent waits.
    pub(super) fn until_timeout(&self) -> Patience {
        Patience::Until(Instant::now() + self.settings.acknowledge_timeout)
    }

    /// Names the router of these that is not on the stream any more on which it said yes.
    pub(super) fn lost_of(&self, acknowledged: &Acknowledgements) -> Error {
        let state = self.lock();
        let gone = |(router, on): &(&RouterId, &AttachmentId)| {
            state.registry.attachment(router) != Some(**on)
        };
        match acknowledged.iter().find(gone) {
            Some((router, _)) => Error::RouterLost(router.clone()),
            None => Error::Internal("a router was lost and came back".into()),
        }
    }

    /// Installs all shares. Waits for every router's answer even if one says no, so that what
    /// follows comes after it; then tells the first no.
    pub(super) async fn install_all(
        self: &Arc<Self>,
        key: &SessionKey,
        revision: Revision,
        targets: Vec<Target>,
        deadline: Instant,
    ) -> Result<Acknowledgements, Error> {
        let patience = Patience::Until(deadline);
        let installs = targets.into_iter().map(|target| async move {
            let router = target.link.router().clone();
            let attachment = target.link.attachment();
            self.install(key, revision, target, patience)
                .await
                .map(|()| (router, attachment))
        });
        let (mut acknowledged, mut errors) = (Acknowledgements::new(), Vec::new());
        for installed in join_all(installs).await {
            match installed {
                Ok((router, attachment)) => drop(acknowledged.insert(router, attachment)),
                Err(error) => errors.push(error),
            }
        }
        // One router's silence makes others refuse, or late: a session in the way that it holds
        // up cannot be removed from them. So the one that has been silent longest is to blame.
        let silence = |error: &Error| match error {
            Error::NotAcknowledged { router, .. } => {
                let state = self.lock();
                let owes = state.links.get(router)?.owes(Instant::now()).0;
                Some(owes.unwrap_or_default())
            }
            Error::RouterLost(_) => Some(std::time::Duration::ZERO),
            _ => None,
        };
        match errors.into_iter().rev().max_by_key(silence) {
            Some(error) => Err(error),
            None => Ok(acknowledged),
        }
    }

    /// Installs a share on one router, unless a router of before our start has just that. What
    /// stands in its way there though it is not wanted there any more is removed.
    pub(super) async fn install(
        self: &Arc<Self>,
        key: &SessionKey,
        revision: Revision,
        target: Target,
        patience: Patience,
    ) -> Result<(), Error> {
        let Target { link, share } = target;
        let router = link.router();
        let stray = self.lock().grace.take_stray(router, key);
        // What an entry that latches has learned is told when it is installed.
        let latches = share.entries.iter().any(|entry| entry.latch.is_some());
        if !latches && stray.is_some_and(|stray| stray.is(revision, share.fingerprint)) {
            return Ok(());
        }
        let command = Command::Install {
            key: key.clone(),
            revision,
            fingerprint: share.fingerprint,
            entries: share.entries,
        };
        let mut cleared = BTreeSet::new();
        loop {
            let refusal = match link.ask(command.clone(), patience).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(refusal)) => refusal,
                Err(NoReply::Lost) => return Err(Error::RouterLost(router.clone())),
                Err(NoReply::Late) => {
                    return Err(Error::NotAcknowledged {
                        router: router.clone(),
                        millis: u64::try_from(self.settings.acknowledge_timeout.as_millis())
                            .unwrap_or(u64::MAX),
                    });
                }
            };
            // Each session in the way is removed once, whatever the router says then.
            if let Some(owner) = refusal.owner.as_ref().filter(|owner| *owner != key)
                && cleared.insert(owner.clone())
                && self.clear(router, owner, patience.deadline()).await
            {
                info!(%router, session = %key, %owner, "removed what it was in conflict with");
                continue;
            }
            return Err(Error::Refused {
                router: router.clone(),
                refusal,
            });
        }
    }

    /// Removes a session from a router that is not to have it: mostly one of before our start that
    /// no agent has added again. False if the router is to have it, or that is not settled in time.
    async fn clear(
        self: &Arc<Self>,
        router: &RouterId,
        key: &SessionKey,
        deadline: Instant,
    ) -> bool {
        let wanted = || self.lock().store.is_on(key, router);
        if wanted() {
            return false;
        }
        // The deadline, because our caller has a claim of its own, for which others may wait.
        let Ok(_claim) = timeout_at(deadline, self.claim(key)).await else {
            return false;
        };
        if wanted() {
            return false;
        }
        self.withdraw(key, vec![router.clone()], deadline).await;
        true
    }
}

impl State {
    /// An address that nobody reaches may be behind a router that is not back yet, if another one
    /// still has the session from before the server's start.
    fn or_not_yet(&self, error: Error, key: &SessionKey) -> Error {
        match error {
            Error::UnknownAddress { field, address } if self.grace.is_stray(key) => {
                Error::NotReachedYet { field, address }
            }
            error => error,
        }
    }

    /// The streams to send these shares on.
    pub(super) fn targets(&self, shares: BTreeMap<RouterId, Share>) -> Result<Vec<Target>, Error> {
        let target = |(router, share)| match self.links.get(&router) {
            Some(link) => Ok(Target {
                link: link.clone(),
                share,
            }),
            None => Err(Error::RouterLost(router)),
        };
        shares.into_iter().map(target).collect()
    }

    pub(super) fn still_attached(&self, acknowledged: &Acknowledgements) -> bool {
        acknowledged
            .iter()
            .all(|(router, on)| self.registry.attachment(router) == Some(*on))
    }
}

impl Session {
    /// Notes who said yes to what is to be there.
    pub(super) fn acknowledge(&mut self, acknowledged: &Acknowledgements) {
        let revision = self.spec.revision;
        for (router, attachment) in acknowledged {
            if let Some(installation) = self.installations.get_mut(router) {
                let fingerprint = installation.fingerprint;
                installation.failure = None;
                installation.acknowledged = Some(Acknowledged {
                    attachment: *attachment,
                    revision,
                    fingerprint,
                });
            }
        }
    }
}
