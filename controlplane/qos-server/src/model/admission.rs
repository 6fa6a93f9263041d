//! Whether a session may come in. The one place that says no for want of capacity: of a router's
//! table, and of the links that calls go over.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::Deserialize;

use super::{
    error::Error,
    ids::{RouterId, SessionKey},
    links::{Charges, LinkId},
    placement::Share,
    registry::Registry,
    session::SessionSpec,
    store::Store,
};

/// What a link keeps for the most important calls: a tenth of its budget.
pub fn reserve_bps(budget_bps: u64) -> u64 {
    budget_bps / 10
}

/// What links are to limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// No link is promised more than its budget.
    #[default]
    ByLink,
    /// Nothing: what sessions take of links is counted only.
    All,
}

/// What becomes of calls on a link whose budget falls below what they take.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnShrink {
    /// They stay; none more is admitted.
    #[default]
    Keep,
    /// Those that may be pre-empted go, until the others fit.
    Preempt,
}

/// What sessions take of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bit/s on the wire.
    pub bps: u128,
    /// How many sessions.
    pub sessions: u64,
}

/// What sessions take of each link. Only links of which something is taken are in it.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<Arc<LinkId>, Load>);

impl Ledger {
    /// What is taken of a link.
    pub fn on(&self, link: &LinkId) -> Load {
        self.0.get(link).copied().unwrap_or_default()
    }

    /// Every link of which something is taken, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<LinkId>, Load)> {
        self.0.iter().map(|(link, load)| (link, *load))
    }

    /// Links of which something is taken, in order, after `after`.
    pub fn after(&self, after: Option<&LinkId>) -> impl Iterator<Item = &Arc<LinkId>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let links = self.0.range::<LinkId, _>((start, Bound::Unbounded));
        links.map(|(link, _)| link)
    }

    /// Those of a router.
    pub fn of_router(&self, router: &RouterId) -> impl Iterator<Item = &Arc<LinkId>> {
        let links = self.0.range::<LinkId, _>(LinkId::first_of(router)..);
        let router = router.clone();
        links
            .map(|(link, _)| link)
            .take_while(move |link| link.router == router)
    }

    /// The first router after another of whose links something is taken.
    pub fn router_after(&self, after: Option<&RouterId>) -> Option<&RouterId> {
        let start = after.map(LinkId::first_of);
        let start = start.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let mut links = self.0.range::<LinkId, _>((start, Bound::Unbounded));
        let next = links.find(|(link, _)| Some(&link.router) != after);
        next.map(|(link, _)| &link.router)
    }

    /// A session takes this.
    pub(super) fn take(&mut self, charges: &Charges) {
        for (link, bps) in charges.iter() {
            let load = self.0.entry(link.clone()).or_default();
            load.bps += u128::from(bps);
            load.sessions += 1;
        }
    }

    /// A session gives back what it took.
    pub(super) fn give_back(&mut self, charges: &Charges) {
        for (link, bps) in charges.iter() {
            if let Some(load) = self.0.get_mut(link) {
                load.bps = load.bps.saturating_sub(bps.into());
                load.sessions = load.sessions.saturating_sub(1);
                if load.sessions == 0 {
                    self.0.remove(link);
                }
            }
        }
    }
}

/// Says no if a router of the session has no room for its share, or a link for what the session takes
/// of it more than it has. What it holds already counts as free, since it is replaced.
pub fn admit(
    spec: &SessionSpec,
    shares: &BTreeMap<RouterId, Share>,
    charges: &Charges,
    registry: &Registry,
    store: &Store,
    policy: Policy,
) -> Result<(), Error> {
    for (router, share) in shares {
        let capacity = registry
            .router(router)
            .map_or(0, |router| router.identity.entry_capacity);
        let held = store.entries_on(router);
        let own = store
            .get(&spec.key)
            .and_then(|session| session.installations.get(router))
            .map_or(0, |installation| installation.entries);
        let wanted = (share.entries.len() as u64).saturating_sub(own);
        if capacity != 0 && held + wanted > capacity {
            return Err(Error::RouterFull {
                router: router.clone(),
                capacity,
                held,
                wanted,
            });
        }
    }
    if policy == Policy::All {
        return Ok(());
    }
    for (link, bps) in charges.iter() {
        let wanted = wanted_bps(store, &spec.key, link, bps);
        let Some(limit) = limit_bps(spec, registry, link).filter(|_| wanted > 0) else {
            continue;
        };
        let load = store.ledger().on(link).bps;
        if load + u128::from(wanted) > u128::from(limit) {
            let budget = budget_bps(registry, link);
            return Err(Error::LinkFull {
                link: link.clone(),
                budget,
                kept: budget - limit,
                load,
                wanted,
            });
        }
    }
    Ok(())
}

/// What a session would take of a link beside what it holds there.
pub(super) fn wanted_bps(store: &Store, key: &SessionKey, link: &LinkId, bps: u64) -> u64 {
    let held = store.get(key).map_or(0, |session| session.charges.on(link));
    bps.saturating_sub(held)
}

/// Up to what load a session may be admitted to a link; absent: to any.
pub(super) fn limit_bps(spec: &SessionSpec, registry: &Registry, link: &LinkId) -> Option<u64> {
    let budget = budget_bps(registry, link);
    let kept = if spec.priority.is_emergency() {
        0
    } else {
        reserve_bps(budget)
    };
    (budget > 0).then(|| budget - kept)
}

/// How much telephony a link may have, bit/s on the wire; 0: not limited, or not known any more.
pub fn budget_bps(registry: &Registry, link: &LinkId) -> u64 {
    let router = registry.router(&link.router);
    let port = router.and_then(|router| router.ports.get(&link.port));
    port.map_or(0, |port| port.budget_bps(link.direction))
}
