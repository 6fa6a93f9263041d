//! The installer: gives routers their shares of a session, for whatever operation needs that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::link::{Command, Link, NoReply, Patience};
use crate::{
    engine::{Engine, state::State},
    model::{
        error::Error,
        ids::{AttachmentId, Revision, RouterId, SessionKey},
        placement::Share,
        store::{Acknowledged, Session},
    },
};

/// A share of a session to install, and the stream of the router that it goes to.
pub(in crate::engine) struct Target {
    pub(in crate::engine) link: Arc<Link>,
    pub(in crate::engine) share: Share,
}

/// The routers that acknowledged, each with the stream that it did so on.
pub(in crate::engine) type Acknowledgements = BTreeMap<RouterId, AttachmentId>;

impl Engine {
    /// Waits as long as a router has to acknowledge a command that an agent waits for.
    pub(in crate::engine) fn until_timeout(&self) -> Patience {
        Patience::Until(self.clock().instant() + self.settings.acknowledge_timeout)
    }

    /// The error of an acknowledgement that came on a stream which has ended since.
    pub(in crate::engine) fn lost_of(&self, acknowledged: &Acknowledgements) -> Error {
        let state = self.lock();
        let gone = |(router, on): &(&RouterId, &AttachmentId)| {
            state.registry.attachment(router) != Some(**on)
        };
        match acknowledged.iter().find(gone) {
            Some((router, _)) => Error::RouterLost(router.clone()),
            None => Error::Internal("a router was lost and came back".into()),
        }
    }

    /// Installs all shares. Waits for every router's answer even if one refuses, so that later
    /// commands follow it; then returns the error of the router that has been silent longest.
    pub(in crate::engine) async fn install_all(
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
        // A silent router makes others refuse or time out: a conflicting session that it holds up
        // cannot be removed from them. So the error of the longest silent router is the cause.
        let silence = |error: &Error| match error {
            Error::NotAcknowledged { router, .. } => {
                let state = self.lock();
                let owes = state.links.get(router)?.owes(self.clock().instant()).0;
                Some(owes.unwrap_or_default())
            }
            Error::RouterLost(_) => Some(Duration::ZERO),
            _ => None,
        };
        match errors.into_iter().rev().max_by_key(silence) {
            Some(error) => Err(error),
            None => Ok(acknowledged),
        }
    }

    /// Installs a share on one router, unless the router has it from before the server's start.
    /// Removes conflicting sessions that this router should no longer have.
    pub(in crate::engine) async fn install(
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
            // Each conflicting session is removed once, whatever the router answers next.
            if let Some(owner) = refusal.owner.as_ref().filter(|owner| *owner != key)
                && cleared.insert(owner.clone())
                && self
                    .clear(router, owner, patience.deadline(self.clock().instant()))
                    .await
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

    /// Installs a share and records the outcome at the session: what fails is tried again.
    pub(super) async fn install_noted(
        self: &Arc<Self>,
        key: &SessionKey,
        revision: Revision,
        target: Target,
        patience: Patience,
    ) -> Result<(), Error> {
        let link = target.link.clone();
        let installed = self.install(key, revision, target, patience).await;
        let router = link.router();
        let mut state = self.lock();
        let state = &mut *state;
        if installed.is_err() {
            state.unsettled.insert(key.clone());
        }
        if let Some(session) = state.store.get_mut(key) {
            match &installed {
                Ok(()) => session.acknowledge(&[(router.clone(), link.attachment())].into()),
                Err(error @ Error::Refused { .. }) => {
                    let failure = error.to_string();
                    if let Some(installation) = session.installations.get_mut(router)
                        && installation.failure.as_ref() != Some(&failure)
                    {
                        warn!(%router, session = %key, %error, "not installed; will be tried again");
                        installation.failure = Some(failure);
                    }
                }
                Err(_) => {}
            }
        }
        self.tell_state(state, key);
        installed
    }

    /// Removes a session from a router that should not have it: mostly one from before the server's
    /// start that no agent has added again. False if the router should have it, or if an operation
    /// on it does not end before the deadline.
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
        // Bounded, because the caller holds a claim of its own, for which others may wait.
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
    /// These shares with the streams of their routers; an error if one is away.
    pub(in crate::engine) fn targets(
        &self,
        shares: BTreeMap<RouterId, Share>,
    ) -> Result<Vec<Target>, Error> {
        let target = |(router, share)| match self.links.get(&router) {
            Some(link) => Ok(Target {
                link: link.clone(),
                share,
            }),
            None => Err(Error::RouterLost(router)),
        };
        shares.into_iter().map(target).collect()
    }

    /// Whether every acknowledgement came on a stream that its router still has.
    pub(in crate::engine) fn still_attached(&self, acknowledged: &Acknowledgements) -> bool {
        acknowledged
            .iter()
            .all(|(router, on)| self.registry.attachment(router) == Some(*on))
    }
}

impl Session {
    /// Records that these routers have what the session should be there.
    pub(in crate::engine) fn acknowledge(&mut self, acknowledged: &Acknowledgements) {
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
