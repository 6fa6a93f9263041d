//! Pre-emption: less important sessions make way for a more important one.
//!
//! Under one hold of the lock the bandwidth of the victims becomes that of the new session, so no link is
//! ever promised more than its budget. The victims stay on their routers until the new session is
//! installed: if that fails, they have their bandwidth back and nobody has noticed. Otherwise they are
//! removed, and their packets go on as best effort.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::info;

use super::{Engine, events::Reaper, operation::Claim, state::State};
use crate::{
    events::Kind,
    model::{
        admission::{OnShrink, admit, budget_bps},
        error::Error,
        ids::{RouterId, SessionKey},
        links::{Charges, LinkId},
        placement::Share,
        preemption::make_room,
        session::SessionSpec,
        store::Phase,
    },
};

/// Links looked at under one hold of the lock.
const CHUNK: usize = 256;

/// Sessions that make way for another one. No operation runs on them meanwhile. Must not be dropped while
/// the lock is held.
#[derive(Debug, Default)]
pub(super) struct Victims(Vec<Victim>);

#[derive(Debug)]
struct Victim {
    key: SessionKey,
    /// What it took of links.
    charges: Charges,
    _claim: Claim,
}

impl Victims {
    /// What they took of links together.
    pub(super) fn charges(&self) -> Charges {
        Charges::sum(self.0.iter().map(|victim| &victim.charges))
    }
}

impl State {
    /// Whether a session may come in, and which sessions have to make way for it then.
    pub(super) fn admit(
        &self,
        spec: &SessionSpec,
        shares: &BTreeMap<RouterId, Share>,
        charges: &Charges,
    ) -> Result<Vec<SessionKey>, Error> {
        let (registry, store) = (&self.registry, &self.store);
        match admit(spec, shares, charges, registry, store, self.admission) {
            Ok(()) => Ok(Vec::new()),
            Err(full @ Error::LinkFull { .. }) if spec.may_preempt => {
                make_room(spec, charges, registry, store, |key| self.is_idle(key)).ok_or(full)
            }
            Err(error) => Err(error),
        }
    }

    fn is_idle(&self, key: &SessionKey) -> bool {
        let settled = |key| self.store.get(key).map(|it| it.phase) == Some(Phase::Settled);
        self.running.get(key).is_none() && settled(key)
    }

    /// Gives sessions their bandwidth back, for which there is room still.
    pub(super) fn reinstate(&mut self, victims: &mut Victims) {
        for victim in &mut victims.0 {
            let charges = std::mem::take(&mut victim.charges);
            self.store.charge(&victim.key, charges);
        }
    }
}

impl Engine {
    /// Takes the bandwidth of sessions, on which no operation runs.
    pub(super) fn evict(self: &Arc<Self>, state: &mut State, keys: Vec<SessionKey>) -> Victims {
        let victim = |key: SessionKey| {
            Some(Victim {
                _claim: self.claim_in(state, &key)?,
                charges: state.store.charge(&key, Charges::default()),
                key,
            })
        };
        Victims(keys.into_iter().filter_map(victim).collect())
    }

    /// Removes the sessions that have made way.
    pub(super) async fn dismiss(self: &Arc<Self>, victims: Victims, deadline: Instant) {
        let deadline = self.undone_by(deadline);
        let removals = victims.0.iter().map(|Victim { key, .. }| async move {
            let reaper = Reaper::Preempted;
            if self.take_away(key, deadline, Some(reaper)).await.is_some() {
                self.metrics.reaped(reaper);
                self.note(Kind::CallRemoved, key, || format!("removed: {reaper}"));
                info!(session = %key, %reaper, "removed");
            }
        });
        join_all(removals).await;
    }

    /// Pre-empts sessions on links whose budget has fallen below what is admitted, if that is wanted.
    pub(super) async fn shed(self: &Arc<Self>) {
        if self.settings.on_shrink == OnShrink::Keep {
            return;
        }
        let mut last: Option<Arc<LinkId>> = None;
        loop {
            let (victims, next) = self.shed_slice(last.as_deref());
            let deadline = self.clock().instant() + self.settings.acknowledge_timeout;
            self.dismiss(victims, deadline).await;
            match next {
                Some(next) => last = Some(next),
                None => return,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Looks at the next links; tells where it stopped.
    fn shed_slice(self: &Arc<Self>, after: Option<&LinkId>) -> (Victims, Option<Arc<LinkId>>) {
        let mut state = self.lock();
        let links = state.store.ledger().after(after).take(CHUNK);
        let links: Vec<Arc<LinkId>> = links.cloned().collect();
        let mut keys = Vec::new();
        let mut victims = Victims::default();
        for link in &links {
            let budget = budget_bps(&state.registry, link);
            while budget > 0
                && state.store.ledger().on(link).bps > budget.into()
                && victims.0.len() < CHUNK
            {
                let candidates = state.store.candidates();
                let Some(key) = candidates.first_on(link, |key| state.is_idle(key)) else {
                    break;
                };
                keys.push(key);
                let mut more = self.evict(&mut state, std::mem::take(&mut keys));
                victims.0.append(&mut more.0);
            }
        }
        (victims, links.last().cloned())
    }
}
