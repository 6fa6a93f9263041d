//! The routers, and which of them reaches an address: the longest prefix over what their edge
//! interfaces report now.
//!
//! A core interface leads to other routers, so its prefixes attach nobody. A router that is away
//! keeps its prefixes, so that an address behind it is known to be behind it: no new session is
//! placed there until it returns, or is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::{
    error::Error,
    ids::{AttachmentId, RouterId, UnixMs},
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
    /// What is reached through it; host bits are zero.
    pub prefixes: Vec<IpNet>,
    /// Shaper rate, bit/s on the wire.
    pub rate_bps: u64,
    /// How much of it strict-priority traffic may take, bit/s on the wire.
    pub ef_budget_bps: u64,
    /// Largest packet, bytes.
    pub mtu_bytes: u32,
    /// The VLAN that it is; 0: it has no tag.
    pub vlan_id: u32,
    /// The port whose rate and budget it shares; empty: the router did not say.
    pub port: Arc<str>,
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

/// A router that has attached at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// What it said of itself.
    pub identity: Identity,
    /// Where its connection came from.
    pub peer: String,
    /// As last reported; shared, since there may be a million prefixes in it.
    pub interfaces: Arc<[Interface]>,
    /// Whether its stream is there.
    pub presence: Presence,
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

/// All routers that have attached.
#[derive(Debug)]
pub struct Registry {
    routers: BTreeMap<RouterId, Router>,
    /// Who claims a prefix, through which interface.
    claims: JointPrefixMap<IpNet, BTreeSet<Arc<Location>>>,
    max_routers: usize,
    expects_more: bool,
}

impl Registry {
    /// An empty one, for at most so many routers.
    pub fn new(max_routers: usize) -> Self {
        Self {
            routers: BTreeMap::new(),
            claims: JointPrefixMap::new(),
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
            .map(|(_, router)| router)
    }

    /// One router.
    pub fn router(&self, id: &RouterId) -> Option<&Router> {
        self.routers.get(id)
    }

    /// The router's stream, if it is attached.
    pub fn attachment(&self, id: &RouterId) -> Option<AttachmentId> {
        self.router(id)?.attachment()
    }

    /// A router's stream began. Whatever was known of the router is replaced.
    pub fn attach(
        &mut self,
        identity: Identity,
        peer: String,
        interfaces: Vec<Interface>,
        attachment: AttachmentId,
        now: UnixMs,
    ) -> Result<(), Error> {
        let id = identity.id.clone();
        if !self.routers.contains_key(&id) && self.routers.len() >= self.max_routers {
            return Err(Error::TooManyRouters {
                limit: self.max_routers,
            });
        }
        self.withdraw(&id);
        let lasted = self.routers.get(&id).map_or(Duration::ZERO, |it| it.lasted);
        let presence = Presence::Attached {
            attachment,
            since: now,
            synchronised: false,
        };
        self.claim(&id, &interfaces);
        self.routers.insert(
            id,
            Router {
                identity,
                peer,
                interfaces: interfaces.into(),
                presence,
                lasted,
            },
        );
        Ok(())
    }

    /// Whether there is no room for one more router.
    pub fn is_full(&self) -> bool {
        self.routers.len() >= self.max_routers
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

    /// Forgets a router and what it reached.
    pub fn forget(&mut self, id: &RouterId) -> Option<Router> {
        self.withdraw(id);
        self.routers.remove(id)
    }

    /// A router reported its interfaces anew. True if that changed anything.
    pub fn report(&mut self, id: &RouterId, interfaces: Vec<Interface>) -> bool {
        if self
            .routers
            .get(id)
            .is_none_or(|router| *router.interfaces == *interfaces)
        {
            return false;
        }
        self.withdraw(id);
        self.claim(id, &interfaces);
        if let Some(router) = self.routers.get_mut(id) {
            router.interfaces = interfaces.into();
        }
        true
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
                true
            }
            _ => false,
        }
    }

    /// Who reaches an address; `field` is where the address came from.
    pub fn locate(
        &self,
        field: &str,
        address: IpAddr,
        now: UnixMs,
    ) -> Result<Arc<Location>, Error> {
        let unknown = || {
            let field = field.to_owned();
            if self.expects_more {
                Error::NotReachedYet { field, address }
            } else {
                Error::UnknownAddress { field, address }
            }
        };
        let (prefix, claims) = self
            .claims
            .get_lpm(&IpNet::from(address))
            .ok_or_else(unknown)?;
        let mut attached = claims
            .iter()
            .filter(|at| self.attachment(&at.router).is_some());
        let Some(location) = attached.next() else {
            return Err(self
                .away(field, address, claims, now)
                .unwrap_or_else(unknown));
        };
        let (same, others): (Vec<_>, Vec<_>) =
            attached.partition(|at| at.router == location.router);
        if !others.is_empty() {
            let mut routers = vec![location.router.clone()];
            routers.extend(others.into_iter().map(|at| at.router.clone()));
            routers.dedup();
            return Err(Error::PrefixConflict {
                field: field.to_owned(),
                address,
                prefix,
                routers,
            });
        }
        if let Some(reason) = self.no_host(&location.router, address) {
            return Err(Error::invalid(field, format!("{address} is {reason}")));
        }
        Ok(if same.is_empty() {
            Arc::clone(location)
        } else {
            Arc::new(Location {
                several: true,
                ..Location::clone(location)
            })
        })
    }

    /// Why an address that is behind a router cannot be a host's.
    fn no_host(&self, router: &RouterId, address: IpAddr) -> Option<String> {
        let interfaces = self.router(router)?.interfaces.iter();
        let subnets = interfaces.flat_map(|it| it.addresses.iter().map(move |net| (&it.name, net)));
        for (interface, subnet) in subnets {
            // RFC 3021, RFC 6164: the longest ones have neither.
            let has_ends = subnet.prefix_len() + 1 < subnet.max_prefix_len();
            let what = match address {
                _ if address == subnet.addr() => "router's own address",
                IpAddr::V4(_) if has_ends && address == subnet.network() => "network address",
                IpAddr::V4(_) if has_ends && address == subnet.broadcast() => "broadcast address",
                // RFC 4291 section 2.6.1.
                IpAddr::V6(_) if has_ends && address == subnet.network() => {
                    "subnet-router anycast address"
                }
                _ => continue,
            };
            return Some(format!(
                "the {what} of {subnet} on {interface} of router {router}; give a host's address"
            ));
        }
        None
    }

    /// The most recently lost of those who claim the address.
    fn away(
        &self,
        field: &str,
        address: IpAddr,
        claims: &BTreeSet<Arc<Location>>,
        now: UnixMs,
    ) -> Option<Error> {
        let lost = claims
            .iter()
            .filter_map(|at| Some((self.router(&at.router)?.away_since()?, &at.router)));
        let (since, router) = lost.max()?;
        Some(Error::RouterAway {
            field: field.to_owned(),
            address,
            router: router.clone(),
            seconds: now.seconds_since(since),
        })
    }

    fn claim(&mut self, id: &RouterId, interfaces: &[Interface]) {
        for (interface, prefix) in claimed(interfaces) {
            self.claims
                .entry(prefix)
                .or_default()
                .insert(Arc::new(location(id, interface, prefix)));
        }
    }

    fn withdraw(&mut self, id: &RouterId) {
        let Some(router) = self.routers.get(id) else {
            return;
        };
        for (interface, prefix) in claimed(&router.interfaces) {
            if let Some(claims) = self.claims.get_mut(&prefix) {
                claims.remove(&location(id, interface, prefix));
                if claims.is_empty() {
                    self.claims.remove(&prefix);
                }
            }
        }
    }
}

fn location(router: &RouterId, interface: &Interface, prefix: IpNet) -> Location {
    Location {
        router: router.clone(),
        interface: interface.name.clone(),
        several: false,
        prefix,
    }
}

/// The prefixes whose hosts are behind these interfaces.
fn claimed(interfaces: &[Interface]) -> impl Iterator<Item = (&Interface, IpNet)> {
    let edges = interfaces
        .iter()
        .filter(|interface| interface.up && interface.role == Role::Edge);
    edges.flat_map(|interface| {
        interface
            .prefixes
            .iter()
            .map(move |prefix| (interface, *prefix))
    })
}
