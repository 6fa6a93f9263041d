//! The routers, and which of them reaches an address: the longest prefix over what their edge
//! interfaces report now.
//!
//! A core interface leads to other routers, so its prefixes attach nobody. A router that is away
//! keeps its prefixes, so that an address behind it is known to be behind it: no new session is
//! placed there until it returns, or is forgotten.

use std::{collections::BTreeMap, net::IpAddr, ops::Bound, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use super::claims::{ClaimChange, Location};
use super::{
    claims::{Claim, Claims},
    hosts::NoHosts,
};
use crate::model::{
    error::Error,
    ids::{AttachmentId, RouterId, UnixMs},
    links::Ports,
    work,
};

/// What a router says of itself when it attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub id: RouterId,
    /// Differs for each start of its process.
    pub epoch: u64,
    /// Its release.
    pub software_version: String,
    /// How many entries its table holds; 0: it did not say.
    pub entry_capacity: u64,
}

/// What is behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hosts.
    Edge,
    /// Other routers.
    Core,
}

/// One interface of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, unique on the router.
    pub name: Arc<str>,
    /// What is behind it.
    pub role: Role,
    /// Whether its link is up.
    pub up: bool,
    /// Its own addresses, with their prefix length.
    pub addresses: Vec<IpNet>,
    /// What is reached through it; host bits are zero, and they are in order, each once.
    pub prefixes: Vec<IpNet>,
    /// What it would reach, had the router the right to claim it.
    pub refused: Vec<IpNet>,
    /// Shaper rate, bit/s on the wire.
    pub rate_bps: u64,
    /// How much of it strict-priority traffic may take, bit/s on the wire.
    pub ef_budget_bps: u64,
    /// The same of what comes in; 0: the same.
    pub ef_ingress_budget_bps: u64,
    /// Largest packet, bytes.
    pub mtu_bytes: u32,
    /// What a packet takes on the wire beside its headers and tag, bytes; 0: the router did not say.
    pub overhead_bytes: u32,
    /// The VLAN that it is; 0: it has no tag.
    pub vlan_id: u32,
    /// The port whose rate and budget it shares; empty: the router did not say.
    pub port: Arc<str>,
}

impl Interface {
    /// Puts back what was refused, as the router reported it.
    pub fn unsift(&mut self) {
        if !self.refused.is_empty() {
            self.prefixes.append(&mut self.refused);
            self.prefixes.sort_unstable();
        }
    }
}

/// Whether a router's stream is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Attached {
        /// Which stream.
        attachment: AttachmentId,
        /// Since when.
        since: UnixMs,
        /// Whether the differences have been applied.
        synchronised: bool,
    },
    /// It is not.
    Away {
        /// Since when.
        since: UnixMs,
        /// How its stream ended.
        reason: String,
    },
}

/// What a port carries, bit/s on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Strict-priority traffic that leaves by it.
    pub out_bps: u64,
    /// Telephony that comes in by it and goes on; `None`: its router does not count that.
    pub in_bps: Option<u64>,
}

/// What ports carry, by name.
pub type Traffic = BTreeMap<Arc<str>, Carried>;

/// A router that has attached at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// What it said of itself.
    pub identity: Identity,
    /// Where its connection came from.
    pub peer: String,
    /// As last reported; shared, since there may be a million prefixes in it.
    pub interfaces: Arc<[Interface]>,
    /// The number of that report.
    pub report: u64,
    /// What follows from the interfaces' addresses.
    pub no_hosts: Arc<NoHosts>,
    /// The ports that they are on.
    pub ports: Arc<Ports>,
    /// Whether its stream is there.
    pub presence: Presence,
    /// What its ports carry, as it last said on this stream.
    pub traffic: Traffic,
    /// The longest that one of its streams lasted which have ended.
    pub lasted: Duration,
}

impl Router {
    /// The stream, if there is one.
    pub fn attachment(&self) -> Option<AttachmentId> {
        match self.presence {
            Presence::Attached { attachment, .. } => Some(attachment),
            Presence::Away { .. } => None,
        }
    }

    /// When its stream ended, if it has none.
    pub fn away_since(&self) -> Option<UnixMs> {
        match self.presence {
            Presence::Attached { .. } => None,
            Presence::Away { since, .. } => Some(since),
        }
    }
}

/// All routers that have attached.
#[derive(Debug)]
pub struct Registry {
    routers: BTreeMap<RouterId, Router>,
    claims: Claims,
    max_routers: usize,
    expects_more: bool,
}

impl Registry {
    /// An empty one, for at most so many routers.
    pub fn new(max_routers: usize) -> Self {
        Self {
            routers: BTreeMap::new(),
            claims: Claims::default(),
            max_routers,
            expects_more: false,
        }
    }

    /// Says whether routers may come that an address is behind of which nothing is known.
    pub fn expect_more(&mut self, expects_more: bool) {
        self.expects_more = expects_more;
    }

    /// Whether such routers may come.
    pub fn expects_more(&self) -> bool {
        self.expects_more
    }

    /// How many routers.
    pub fn len(&self) -> usize {
        self.routers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// Routers by name, after `after`.
    pub fn after(&self, after: Option<&RouterId>) -> impl Iterator<Item = &Router> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.routers
            .range::<RouterId, _>((start, Bound::Unbounded))
            .inspect(|_| work::step())
            .map(|(_, router)| router)
    }

    /// One router.
    pub fn router(&self, id: &RouterId) -> Option<&Router> {
        work::step();
        self.routers.get(id)
    }

    /// The router's stream, if it is attached.
    pub fn attachment(&self, id: &RouterId) -> Option<AttachmentId> {
        self.router(id)?.attachment()
    }

    /// Prepares the next claims of a change; false when there are no more. They count when the
    /// report has been taken by [`attach`](Self::attach) or [`report`](Self::report).
    pub fn prepare(&mut self, change: &mut ClaimChange) -> bool {
        change.prepare(&mut self.claims)
    }

    /// Removes the next claims that a change has ended; false when there are no more.
    pub fn sweep(&mut self, change: &mut ClaimChange) -> bool {
        change.sweep(&mut self.claims)
    }

    /// A router's stream began, with a report that has been prepared. Whatever was known of the
    /// router is replaced, and returned to be dropped without the lock. There must be room for it.
    pub fn attach(
        &mut self,
        identity: Identity,
        peer: String,
        change: &ClaimChange,
        attachment: AttachmentId,
        now: UnixMs,
    ) -> Option<Router> {
        let id = identity.id.clone();
        let lasted = self.routers.get(&id).map_or(Duration::ZERO, |it| it.lasted);
        let presence = Presence::Attached {
            attachment,
            since: now,
            synchronised: false,
        };
        let router = Router {
            identity,
            peer,
            interfaces: change.interfaces.clone(),
            report: change.report,
            no_hosts: change.no_hosts.clone(),
            ports: change.ports.clone(),
            presence,
            traffic: Traffic::new(),
            lasted,
        };
        self.routers.insert(id, router)
    }

    /// Puts back a router that was known before the server's start, with a report that has been
    /// prepared. It is away until it attaches.
    pub fn restore(&mut self, identity: Identity, change: &ClaimChange, now: UnixMs) {
        let router = Router {
            peer: String::new(),
            interfaces: change.interfaces.clone(),
            report: change.report,
            no_hosts: change.no_hosts.clone(),
            ports: change.ports.clone(),
            presence: Presence::Away {
                since: now,
                reason: "the server was started, and the router has not come back yet".to_owned(),
            },
            traffic: Traffic::new(),
            lasted: Duration::ZERO,
            identity,
        };
        self.routers.insert(router.identity.id.clone(), router);
    }

    /// Says no if one more router is one too many.
    pub fn has_room(&self, id: &RouterId) -> Result<(), Error> {
        let limit = self.max_routers;
        if self.routers.contains_key(id) || self.routers.len() < limit {
            return Ok(());
        }
        Err(Error::TooManyRouters { limit })
    }

    /// The router that is missed least: it is away, has nothing to do, and of those never had a
    /// stream that lasted longer than the others', or was lost first.
    pub fn least_missed(&self, is_idle: impl Fn(&RouterId) -> bool) -> Option<RouterId> {
        let away = self.routers.iter().filter_map(|(id, router)| {
            let since = router.away_since()?;
            is_idle(id).then_some(((router.lasted, since), id))
        });
        Some(away.min()?.1.clone())
    }

    /// The routers that were lost before this.
    pub fn lost_before(&self, then: UnixMs) -> Vec<RouterId> {
        let lost = |(_, router): &(_, &Router)| router.away_since().is_some_and(|it| it < then);
        self.routers
            .iter()
            .filter(lost)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Forgets a router and what it reached. Its claims are to be swept before it attaches again.
    pub fn forget(&mut self, id: &RouterId) -> Option<Router> {
        self.routers.remove(id)
    }

    /// Takes a router's report that has been prepared.
    pub fn report(&mut self, id: &RouterId, change: &ClaimChange) {
        if let Some(router) = self.routers.get_mut(id) {
            router.interfaces = change.interfaces.clone();
            router.report = change.report;
            router.no_hosts = change.no_hosts.clone();
            router.ports = change.ports.clone();
        }
    }

    /// The differences have been applied on this stream. False if the router has another by now.
    pub fn synchronised(&mut self, id: &RouterId, on: AttachmentId) -> bool {
        if let Some(Presence::Attached {
            attachment,
            synchronised,
            ..
        }) = self.routers.get_mut(id).map(|router| &mut router.presence)
            && *attachment == on
        {
            *synchronised = true;
            return true;
        }
        false
    }

    /// What a router's ports carry now. Gives back what was known before or, if the router has another stream
    /// by now, this.
    pub fn carries(&mut self, id: &RouterId, on: AttachmentId, traffic: Traffic) -> Traffic {
        match self.routers.get_mut(id) {
            Some(router) if router.attachment() == Some(on) => {
                std::mem::replace(&mut router.traffic, traffic)
            }
            _ => traffic,
        }
    }

    /// A stream ended. False if the router has another by now.
    pub fn detach(
        &mut self,
        id: &RouterId,
        attachment: AttachmentId,
        reason: &str,
        now: UnixMs,
    ) -> bool {
        match self.routers.get_mut(id) {
            Some(router) if router.attachment() == Some(attachment) => {
                if let Presence::Attached { since, .. } = router.presence {
                    router.lasted = router.lasted.max(now.since(since));
                }
                router.presence = Presence::Away {
                    since: now,
                    reason: reason.to_owned(),
                };
                router.traffic = Traffic::new();
                true
            }
            _ => false,
        }
    }

    /// Who reaches an address. An error names no field: see [`Error::of_field`].
    pub fn locate(&self, address: IpAddr, now: UnixMs) -> Result<Arc<Location>, Error> {
        let unknown = || {
            let field = String::new();
            if self.expects_more {
                Error::NotReachedYet { field, address }
            } else {
                Error::UnknownAddress { field, address }
            }
        };
        let (prefix, claims) = self
            .claims
            .longest(address, |claim| self.standing(claim).is_some())
            .ok_or_else(unknown)?;
        let mut attached = claims
            .iter()
            .filter_map(|claim| self.standing(claim))
            .filter(|(_, router)| router.attachment().is_some());
        let Some((location, router)) = attached.next() else {
            return Err(self.away(address, claims, now).unwrap_or_else(unknown));
        };
        let mut several = false;
        let mut others = Vec::new();
        for (at, other) in attached {
            if other.identity.id == router.identity.id {
                several = true;
            } else {
                others.push(at.router.clone());
            }
        }
        if !others.is_empty() {
            let mut routers = vec![location.router.clone()];
            routers.append(&mut others);
            routers.dedup();
            return Err(Error::PrefixConflict {
                field: String::new(),
                address,
                prefix,
                routers,
            });
        }
        if let Some(reason) = router.no_hosts.why(address) {
            return Err(Error::invalid("", format!("{address} is {reason}")));
        }
        Ok(if several {
            Arc::new(Location {
                several,
                ..Location::clone(location)
            })
        } else {
            Arc::clone(location)
        })
    }

    /// Where a claim leads, and its router, if that router's last report has it.
    fn standing<'a>(&'a self, claim: &'a Claim) -> Option<(&'a Arc<Location>, &'a Router)> {
        let router = self.router(&claim.location.router)?;
        let stands = claim.is_in(router.report);
        stands.then_some((&claim.location, router))
    }

    /// The most recently lost of those who claim the address.
    fn away(&self, address: IpAddr, claims: &[Claim], now: UnixMs) -> Option<Error> {
        let standing = claims.iter().filter_map(|claim| self.standing(claim));
        let lost = standing.filter_map(|(at, router)| Some((router.away_since()?, &at.router)));
        let (since, router) = lost.max()?;
        Some(Error::RouterAway {
            field: String::new(),
            address,
            router: router.clone(),
            seconds: now.seconds_since(since),
        })
    }

    #[cfg(test)]
    pub(in crate::model) fn claims_nothing(&self) -> bool {
        self.claims.is_empty()
    }
}
