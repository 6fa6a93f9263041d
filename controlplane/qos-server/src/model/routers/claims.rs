//! Which prefixes routers claim: those that are behind interfaces of theirs.
//!
//! A router may claim hundreds of thousands, so its claims change in slices ([`ClaimChange`]), each
//! of them under one hold of the lock. A claim holds the numbers of its router's first report that
//! has it and of the first later one that has not. A change prepares the claims of the next report;
//! they count from the moment when the router's record takes that number. Until then every address
//! is where the former report has it, from then on where the new one has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    hosts::NoHosts,
    registry::{Interface, Role, Router},
};
use crate::model::{ids::RouterId, links::Ports, shards::Shards};

/// Claims that change under one hold of the lock.
const SLICE: usize = 256;

/// Where an address was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The router.
    pub router: RouterId,
    /// Its interface: the first one, if several reach the address.
    pub interface: Arc<str>,
    /// Whether others of its interfaces reach the address, too.
    pub several: bool,
    /// The prefix that matched.
    pub prefix: IpNet,
}

impl Location {
    /// As `FlowEntry.ingress_interface` names where packets from here come in.
    pub fn ingress(&self) -> Arc<str> {
        if self.several {
            "*".into()
        } else {
            Arc::clone(&self.interface)
        }
    }
}

/// A router's claim of a prefix.
#[derive(Debug)]
pub(super) struct Claim {
    pub(in crate::model) location: Arc<Location>,
    /// The first report of the router that has it.
    from: u64,
    /// The first one that has it no more.
    until: u64,
}

impl Claim {
    /// Whether this report of its router has it.
    pub(super) fn is_in(&self, report: u64) -> bool {
        (self.from..self.until).contains(&report)
    }

    fn of(&self) -> (&RouterId, &str) {
        (&self.location.router, &self.location.interface)
    }
}

/// All claims, by prefix.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// In the order of routers and interfaces.
    by_prefix: Shards<IpNet, Vec<Claim>>,
    v4: Lengths,
    v6: Lengths,
}

/// How many prefixes there are of each length.
type Lengths = BTreeMap<u8, usize>;

impl Claims {
    /// The longest prefix with an address of which a claim counts, and all claims of that prefix.
    pub(in crate::model) fn longest(
        &self,
        address: IpAddr,
        counts: impl Fn(&Claim) -> bool,
    ) -> Option<(IpNet, &[Claim])> {
        let lengths = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        lengths.keys().rev().find_map(|length| {
            let prefix = IpNet::new(address, *length).ok()?.trunc();
            let claims = self.by_prefix.get(&prefix)?;
            claims.iter().any(&counts).then_some((prefix, &claims[..]))
        })
    }

    #[cfg(test)]
    pub(in crate::model) fn is_empty(&self) -> bool {
        self.by_prefix.len() == 0 && self.v4.is_empty() && self.v6.is_empty()
    }

    /// A router claims a prefix from this report on.
    fn begin(&mut self, location: &Arc<Location>, report: u64) {
        let claim = Claim {
            location: location.clone(),
            from: report,
            until: u64::MAX,
        };
        let prefix = location.prefix;
        let Some(claims) = self.by_prefix.get_mut(&prefix) else {
            self.by_prefix.add(prefix, vec![claim]);
            *self
                .lengths(&prefix)
                .entry(prefix.prefix_len())
                .or_default() += 1;
            return;
        };
        match claims.binary_search_by(|it| it.of().cmp(&claim.of())) {
            Ok(at) => claims[at] = claim,
            Err(at) => claims.insert(at, claim),
        }
    }

    /// A router claims a prefix no more from this report on.
    fn end(&mut self, location: &Location, report: u64) {
        let claims = self.by_prefix.get_mut(&location.prefix);
        let wanted = (&location.router, &*location.interface);
        if let Some(claim) = claims.and_then(|it| it.iter_mut().find(|it| it.of() == wanted)) {
            claim.until = report;
        }
    }

    /// Removes a claim that does not count any more.
    fn remove(&mut self, location: &Location) {
        let prefix = location.prefix;
        let Some(claims) = self.by_prefix.get_mut(&prefix) else {
            return;
        };
        claims.retain(|it| it.of() != (&location.router, &location.interface));
        if !claims.is_empty() {
            return;
        }
        self.by_prefix.take(&prefix);
        let length = prefix.prefix_len();
        let lengths = self.lengths(&prefix);
        if let Some(count) = lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&length);
            }
        }
    }

    fn lengths(&mut self, prefix: &IpNet) -> &mut Lengths {
        match prefix {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }
}

/// A router's report on its way into the registry, which is made and dropped without the lock.
/// First all of it is prepared, slice by slice, then the registry takes the report, then what is
/// gone is swept. Only one change of a router may be under way.
#[derive(Debug)]
pub struct ClaimChange {
    pub(in crate::model) report: u64,
    pub(crate) interfaces: Arc<[Interface]>,
    pub(super) no_hosts: Arc<NoHosts>,
    pub(in crate::model) ports: Arc<Ports>,
    added: Vec<Arc<Location>>,
    gone: Vec<Arc<Location>>,
    prepared: usize,
    swept: usize,
}

impl ClaimChange {
    /// From what a router reported last, if anything, to what it reports now.
    pub fn new(id: &RouterId, former: Option<&Router>, interfaces: Vec<Interface>) -> Self {
        let (old, new) = (
            claimed(former.map_or(&[], |it| &*it.interfaces)),
            claimed(&interfaces),
        );
        let added = locations(id, new.difference(&old));
        let gone = locations(id, old.difference(&new));
        Self {
            report: former.map_or(0, |it| it.report) + 1,
            no_hosts: Arc::new(NoHosts::of(id, &interfaces)),
            ports: Arc::new(Ports::of(id, &interfaces)),
            interfaces: interfaces.into(),
            added,
            gone,
            prepared: 0,
            swept: 0,
        }
    }

    /// Everything of a router that was forgotten, to be swept.
    pub fn forgotten(router: &Router) -> Self {
        Self::new(&router.identity.id, Some(router), Vec::new())
    }

    /// Prepares the next slice; false when there is no more.
    pub(super) fn prepare(&mut self, claims: &mut Claims) -> bool {
        let (added, total) = (self.added.len(), self.added.len() + self.gone.len());
        let end = total.min(self.prepared + SLICE);
        for index in self.prepared..end {
            match self.added.get(index) {
                Some(location) => claims.begin(location, self.report),
                None => claims.end(&self.gone[index - added], self.report),
            }
        }
        self.prepared = end;
        end < total
    }

    /// Removes the next slice of what is gone; false when there is no more.
    pub(super) fn sweep(&mut self, claims: &mut Claims) -> bool {
        let end = self.gone.len().min(self.swept + SLICE);
        for location in &self.gone[self.swept..end] {
            claims.remove(location);
        }
        self.swept = end;
        end < self.gone.len()
    }
}

fn locations<'a>(
    router: &RouterId,
    claims: impl Iterator<Item = &'a (IpNet, &'a Arc<str>)>,
) -> Vec<Arc<Location>> {
    let location = |(prefix, interface): &(IpNet, &Arc<str>)| {
        Arc::new(Location {
            router: router.clone(),
            interface: Arc::clone(interface),
            several: false,
            prefix: *prefix,
        })
    };
    claims.map(location).collect()
}

/// The prefixes whose hosts are behind these interfaces.
fn claimed(interfaces: &[Interface]) -> BTreeSet<(IpNet, &Arc<str>)> {
    let edges = interfaces
        .iter()
        .filter(|interface| interface.up && interface.role == Role::Edge);
    let claims = edges.flat_map(|interface| {
        let prefixes = interface.prefixes.iter();
        prefixes.map(move |prefix| (*prefix, &interface.name))
    });
    claims.collect()
}
