//! Whether a session may come in. The one place that says no for want of capacity: of a router's
//! table, and of the links that calls go over.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{
    error::Error,
    ids::RouterId,
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
    let own = store.get(&spec.key).map(|session| &session.charges);
    for (link, bps) in charges.iter() {
        let wanted = bps.saturating_sub(own.map_or(0, |own| own.on(link)));
        let budget = budget_bps(registry, link);
        if wanted == 0 || budget == 0 {
            continue;
        }
        let kept = if spec.priority.is_emergency() {
            0
        } else {
            reserve_bps(budget)
        };
        let load = store.ledger().on(link).bps;
        if load + u128::from(wanted) > u128::from(budget - kept) {
            return Err(Error::LinkFull {
                link: link.clone(),
                budget,
                kept,
                load,
                wanted,
            });
        }
    }
    Ok(())
}

/// How much telephony a link may have, bit/s on the wire; 0: not limited, or not known any more.
pub fn budget_bps(registry: &Registry, link: &LinkId) -> u64 {
    let router = registry.router(&link.router);
    let port = router.and_then(|router| router.ports.get(&link.port));
    port.map_or(0, |port| port.budget_bps(link.direction))
}
