//! Pre-emption: less important sessions make way for a more important one.
//!
//! Under one hold of the lock the bandwidth of the victims becomes that of the new session, so no link is
//! ever promised more than its budget. The victims stay on their routers until the new session is
//! installed: if that fails, they have their bandwidth back and nobody has noticed. Otherwise the answer
//! waits until their ends are committed, and not for their routers, one of which may be mute. Their packets
//! go on as best effort.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::task::JoinHandle;

use super::{delete::Leaving, operation::Claim};
use crate::{
    engine::{Engine, Settings, state::State},
    journal::Committed,
    model::{
        admission::{OnShrink, Policy, admit, budget_bps},
        error::Error,
        ids::{RouterId, SessionKey},
        leases::Reaper,
        links::{Charges, LinkId},
        placement::Share,
        preemption::make_room,
        session::SessionSpec,
        store::Phase,
    },
};

/// Links looked at under one hold of the lock.
const CHUNK: usize = 256;
/// Sessions shed under one hold of the lock.
const MOST_SHED: usize = 32;
/// So many times that many leave their routers at once.
const WINDOW: usize = 8;
/// How long the routers of a session that has made way are waited for, as by
/// [`lease`](crate::engine::leases::lease).
const PATIENCE: Duration = Duration::from_secs(1);

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

/// Victims that have made way for good. Must not be dropped while the lock is held.
#[derive(Debug, Default)]
pub(super) struct Dismissed {
    victims: Vec<(Victim, Option<Leaving>)>,
    commits: Vec<Committed>,
}

impl Dismissed {
    /// Something more that is to be committed.
    pub(super) fn also(&mut self, commit: Committed) {
        self.commits.push(commit);
    }

    /// Resolves when all their ends are committed.
    pub(in crate::engine) async fn committed(&mut self) {
        for commit in self.commits.drain(..) {
            commit.done().await;
        }
    }
}

impl Victims {
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they took of links together.
    pub(in crate::engine) fn charges(&self) -> Charges {
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
                let is_idle = |key: &SessionKey| self.is_idle(key);
                make_room(spec, charges, registry, store, self.admission, is_idle).ok_or(full)
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

    /// Commits that sessions which have made way are no more.
    pub(super) fn dismiss(&self, state: &mut State, victims: Victims) -> Dismissed {
        let mut dismissed = Dismissed::default();
        for victim in victims.0 {
            let begun = self.begin_delete(state, &victim.key);
            let (leaving, committed) = begun.unzip();
            dismissed.commits.extend(committed);
            dismissed.victims.push((victim, leaving));
        }
        dismissed
    }

    /// Removes dismissed sessions from their routers, for which nobody waits. Each has its claim, so there
    /// are no more of these tasks than sessions.
    pub(super) fn see_off(self: &Arc<Self>, dismissed: Dismissed) -> JoinHandle<()> {
        let engine = self.clone();
        tokio::spawn(async move {
            let timeout = engine.settings.acknowledge_timeout.min(PATIENCE);
            let deadline = engine.clock().instant() + timeout;
            let removals = dismissed.victims.into_iter().map(|(victim, leaving)| {
                let engine = &engine;
                async move {
                    // All of it: a block takes the fields that it names, and the claim is to be kept.
                    let victim = victim;
                    let (reaper, key) = (Reaper::Preempted, &victim.key);
                    let Some(leaving) = leaving else {
                        return;
                    };
                    engine
                        .end_delete(key, leaving, deadline, Some(reaper))
                        .await;
                    engine.note_reaped(key, reaper);
                }
            });
            join_all(removals).await;
        })
    }

    /// Pre-empts sessions on links whose budget has fallen below what is admitted.
    async fn shed(self: &Arc<Self>) {
        let mut last: Option<Arc<LinkId>> = None;
        let mut leaving = FuturesUnordered::new();
        loop {
            let (mut dismissed, next) = self.shed_slice(last.as_deref());
            // There may be more on the same links.
            let is_full = dismissed.victims.len() >= MOST_SHED;
            dismissed.committed().await;
            leaving.push(self.see_off(dismissed));
            if leaving.len() >= WINDOW {
                leaving.next().await;
            }
            match next {
                _ if is_full => {}
                Some(next) => last = Some(next),
                None => return,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Looks at the next links; tells where it stopped.
    fn shed_slice(self: &Arc<Self>, after: Option<&LinkId>) -> (Dismissed, Option<Arc<LinkId>>) {
        let mut state = self.lock();
        let links = state.store.ledger().after(after).take(CHUNK);
        let links: Vec<Arc<LinkId>> = links.cloned().collect();
        let mut victims = Victims::default();
        for link in &links {
            let budget = budget_bps(&state.registry, link);
            while budget > 0
                && !state.admission.fits(state.store.ledger().on(link), budget)
                && victims.0.len() < MOST_SHED
            {
                let candidates = state.store.candidates();
                let Some(key) = candidates.first_on(link, |key| state.is_idle(key)) else {
                    break;
                };
                let mut more = self.evict(&mut state, vec![key]);
                victims.0.append(&mut more.0);
            }
        }
        let dismissed = self.dismiss(&mut state, victims);
        (dismissed, links.last().cloned())
    }
}

/// Sheds sessions whenever links may have shrunk, if that is wanted, until the engine stops.
pub(in crate::engine) async fn run(engine: Arc<Engine>) {
    let Settings {
        on_shrink,
        admission,
        ..
    } = engine.settings;
    if on_shrink == OnShrink::Keep || admission == Policy::All {
        return;
    }
    loop {
        engine.links_changed.notified().await;
        if *engine.stopping.borrow() {
            return;
        }
        engine.shed().await;
    }
}
