//! Whether a session may come in. The one place that says no for want of capacity: of a router's
//! table, and of the links that calls go over.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::Deserialize;

use super::links::{Charges, LinkId};
use crate::model::{
    error::Error,
    ids::{RouterId, SessionKey},
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
    /// No link is likely to have more than its budget.
    Hoeffding(Hoeffding),
    /// Nothing: what sessions take of links is counted only.
    All,
}

impl Policy {
    /// Whether a link carries this within so much, bit/s on the wire.
    pub fn fits(&self, load: Load, limit_bps: u64) -> bool {
        match self {
            Self::ByLink => load.bps <= limit_bps.into(),
            Self::Hoeffding(bound) => bound.holds(load, limit_bps),
            Self::All => true,
        }
    }
}

/// Calls send part of the time, each on its own. By Hoeffding's inequality (Journal of the American
/// Statistical Association 58, 1963, theorem 2) calls of which each takes at most C, and `a` of that in the
/// mean, take more than `a ΣC + sqrt(½ ln(1/e) ΣC²)` together in at most `e` of the time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Odds")]
pub struct Hoeffding {
    /// `a`, in millionths, rounded up.
    activity: u128,
    /// `½ ln(1/e)`, in millionths, rounded up.
    spread: u128,
}

/// As the file says them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Odds {
    activity: f64,
    overflow: f64,
}

impl TryFrom<Odds> for Hoeffding {
    type Error = String;

    fn try_from(Odds { activity, overflow }: Odds) -> Result<Self, String> {
        Self::new(activity, overflow)
    }
}

impl Hoeffding {
    const MILLION: u128 = 1_000_000;

    /// With calls that send `activity` of the time, and links that may have too much for `overflow` of it.
    ///
    /// # Errors
    ///
    /// If `activity` is not above 0 and at most 1, or `overflow` not 1e-12 to 0.1.
    pub fn new(activity: f64, overflow: f64) -> Result<Self, String> {
        if !(activity > 0.0 && activity <= 1.0) {
            return Err(format!(
                "activity is {activity}; give more than 0, at most 1"
            ));
        }
        if !(1e-12..=0.1).contains(&overflow) {
            return Err(format!("overflow is {overflow}; give 1e-12 to 0.1"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are above 0 and below 100"
        )]
        let millionths = |value: f64| (value * 1e6).ceil() as u128;
        Ok(Self {
            activity: millionths(activity),
            spread: millionths(-overflow.ln() / 2.0),
        })
    }

    /// Compares squares, rounded against the calls.
    fn holds(self, load: Load, limit_bps: u64) -> bool {
        let mean = load
            .bps
            .saturating_mul(self.activity)
            .div_ceil(Self::MILLION);
        let Some(room) = u128::from(limit_bps).checked_sub(mean) else {
            return false;
        };
        let spread = load.squares.checked_mul(self.spread);
        let spread = spread.map(|it| it.div_ceil(Self::MILLION));
        spread.is_some_and(|spread| spread <= room.saturating_mul(room))
    }
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
    /// The squares of what each takes, added up.
    pub squares: u128,
    /// How many sessions.
    pub sessions: u64,
}

impl Load {
    /// With a session more.
    pub(in crate::model) fn add(&mut self, bps: u64) {
        let bps = u128::from(bps);
        self.bps += bps;
        self.squares += bps * bps;
        self.sessions += 1;
    }

    /// With a session less.
    pub(in crate::model) fn take(&mut self, bps: u64) {
        let bps = u128::from(bps);
        self.bps = self.bps.saturating_sub(bps);
        self.squares = self.squares.saturating_sub(bps * bps);
        self.sessions = self.sessions.saturating_sub(1);
    }
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
    pub(in crate::model) fn take(&mut self, charges: &Charges) {
        for (link, bps) in charges.iter() {
            self.0.entry(link.clone()).or_default().add(bps);
        }
    }

    /// A session gives back what it took.
    pub(in crate::model) fn give_back(&mut self, charges: &Charges) {
        for (link, bps) in charges.iter() {
            if let Some(load) = self.0.get_mut(link) {
                load.take(bps);
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
    for (link, bps) in charges.iter() {
        let Some(limit) = limit_bps(spec, registry, link) else {
            continue;
        };
        let load = store.ledger().on(link).bps;
        if let Some(wanted) = load_with(store, &spec.key, link, bps)
            && !policy.fits(wanted, limit)
        {
            let budget = budget_bps(registry, link);
            let wanted = wanted.bps.saturating_sub(load);
            return Err(Error::LinkFull {
                link: link.clone(),
                budget,
                kept: budget - limit,
                load,
                wanted: u64::try_from(wanted).unwrap_or(u64::MAX),
            });
        }
    }
    Ok(())
}

/// What a link would have if a session took this of it in place of what it holds there; absent if that
/// is not more.
pub(super) fn load_with(store: &Store, key: &SessionKey, link: &LinkId, bps: u64) -> Option<Load> {
    let held = store.get(key).map_or(0, |session| session.charges.on(link));
    (bps > held).then(|| {
        let mut load = store.ledger().on(link);
        if held > 0 {
            load.take(held);
        }
        load.add(bps);
        load
    })
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
