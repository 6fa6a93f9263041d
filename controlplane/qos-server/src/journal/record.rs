//! What is kept of a session and of a router.

use std::{collections::HashMap, sync::Arc};

use prost::Message as _;
use serde::{Deserialize, Serialize};
use voicelane_proto::v1;

use super::{Change, Space};
use crate::{
    grpc::render,
    model::{
        entries::FlowKind,
        ids::{RouterId, UnixMs},
        links::{Charges, Direction, LinkId},
        placement::{FlowPlacement, Placement},
        registry::{Identity, Interface, Location, Role},
        session::{Learned, SessionSpec},
        store::{RecordId, Session},
    },
};

/// A session as it is kept. Which entries each router has of it follows from this.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredSession {
    /// As an agent asked for it.
    #[prost(message, optional, tag = "1")]
    pub spec: Option<v1::SessionSpec>,
    /// Where its ends were found, each once.
    #[prost(message, repeated, tag = "2")]
    pub locations: Vec<StoredLocation>,
    /// Of each flow, in the order of the flows.
    #[prost(message, repeated, tag = "3")]
    pub placement: Vec<StoredFlow>,
    /// What it takes of links.
    #[prost(message, repeated, tag = "4")]
    pub charges: Vec<StoredCharge>,
    /// The sources that latching flows have learned and that it is installed with.
    #[prost(message, repeated, tag = "5")]
    pub learned: Vec<StoredSource>,
    /// The same with what routers had told besides.
    #[prost(message, repeated, tag = "6")]
    pub heard: Vec<StoredSource>,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "7")]
    pub created_unix_ms: i64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "8")]
    pub updated_unix_ms: i64,
    /// Its agent has a lease.
    #[prost(bool, tag = "9")]
    pub agent_has_lease: bool,
}

/// A place behind a router.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredLocation {
    /// Id of the router.
    #[prost(string, tag = "1")]
    pub router: String,
    /// The name of its interface.
    #[prost(string, tag = "2")]
    pub interface: String,
    /// Whether others of its interfaces reach it, too.
    #[prost(bool, tag = "3")]
    pub several: bool,
    /// The prefix that matched.
    #[prost(string, tag = "4")]
    pub prefix: String,
}

/// Where a flow was found: numbers of `locations`, from 1; 0: not known.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredFlow {
    /// Where its media come from.
    #[prost(uint32, tag = "1")]
    pub source: u32,
    /// Where they go to.
    #[prost(uint32, tag = "2")]
    pub destination: u32,
    /// Whether its RTCP has places of its own, which follow.
    #[prost(bool, tag = "3")]
    pub has_rtcp: bool,
    /// Where its RTCP comes from.
    #[prost(uint32, tag = "4")]
    pub rtcp_source: u32,
    /// Where it goes to.
    #[prost(uint32, tag = "5")]
    pub rtcp_destination: u32,
}

/// What is taken of a link.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredCharge {
    /// The router's id.
    #[prost(string, tag = "1")]
    pub router: String,
    /// Name of the DPDK port.
    #[prost(string, tag = "2")]
    pub port: String,
    /// What the router sends, not what comes in.
    #[prost(bool, tag = "3")]
    pub out: bool,
    /// Bit/s on the wire.
    #[prost(uint64, tag = "4")]
    pub bps: u64,
}

/// A source that was learned.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredSource {
    /// Index of the flow in the session, from 0.
    #[prost(uint32, tag = "1")]
    pub flow: u32,
    /// Whether the source is of its RTCP, not of its media.
    #[prost(bool, tag = "2")]
    pub rtcp: bool,
    /// `address:port`, IPv6 in brackets.
    #[prost(string, tag = "3")]
    pub source: String,
}

/// A router as it is kept: what it last said of itself, without what its core interfaces reach. That is
/// asked for only when it is attached, and then it has told it anew.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredRouter {
    /// Id and release, as it attached.
    #[prost(message, optional, tag = "1")]
    pub hello: Option<v1::Hello>,
    /// Its last report, without prefixes of core interfaces.
    #[prost(message, optional, tag = "2")]
    pub interfaces: Option<v1::InterfaceReport>,
}

impl RecordId {
    /// Writes a session there.
    pub(crate) fn put(&mut self, session: &StoredSession) -> Change {
        let value = session.encode_to_vec();
        let change = Change::put(Space::Sessions, &self.id.to_be_bytes(), value, self.digest);
        self.digest = Some(change.digest());
        change
    }

    /// Takes it out, if it is there.
    pub(crate) fn remove(&mut self) -> Option<Change> {
        let former = self.digest.take()?;
        let key = self.id.to_be_bytes();
        Some(Change::remove(Space::Sessions, &key, former))
    }
}

/// A session's parts that are kept.
pub(crate) struct Parts<'a> {
    pub(crate) spec: &'a SessionSpec,
    pub(crate) placement: &'a Placement,
    pub(crate) charges: &'a Charges,
    pub(crate) learned: &'a [Learned],
    pub(crate) heard: &'a [Learned],
    pub(crate) created: UnixMs,
    pub(crate) updated: UnixMs,
}

impl<'a> From<&'a Session> for Parts<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            spec: &session.spec,
            placement: &session.placement,
            charges: &session.charges,
            learned: &session.learned,
            heard: &session.heard,
            created: session.created,
            updated: session.updated,
        }
    }
}

impl From<Parts<'_>> for StoredSession {
    fn from(parts: Parts<'_>) -> Self {
        let mut locations: Vec<Arc<Location>> = Vec::new();
        let mut numbered = |at: &Option<Arc<Location>>| {
            let Some(at) = at else {
                return 0;
            };
            let there = locations.iter().position(|it| it == at);
            let index = there.unwrap_or_else(|| {
                locations.push(at.clone());
                locations.len() - 1
            });
            narrow(index + 1)
        };
        let flow = |at: &FlowPlacement| {
            let rtcp = at.rtcp.as_deref();
            StoredFlow {
                source: numbered(&at.media.source),
                destination: numbered(&at.media.destination),
                has_rtcp: rtcp.is_some(),
                rtcp_source: rtcp.map_or(0, |it| numbered(&it.source)),
                rtcp_destination: rtcp.map_or(0, |it| numbered(&it.destination)),
            }
        };
        let placement = parts.placement.iter().map(flow).collect();
        let location = |at: &Arc<Location>| StoredLocation {
            router: at.router.to_string(),
            interface: at.interface.to_string(),
            several: at.several,
            prefix: at.prefix.to_string(),
        };
        let charge = |(link, bps): (&Arc<LinkId>, u64)| StoredCharge {
            router: link.router.to_string(),
            port: link.port.to_string(),
            out: link.direction == Direction::Out,
            bps,
        };
        let source = |it: &Learned| StoredSource {
            flow: narrow(it.flow),
            rtcp: it.kind == FlowKind::Rtcp,
            source: it.source.to_string(),
        };
        Self {
            spec: Some(render::spec(parts.spec)),
            locations: locations.iter().map(location).collect(),
            placement,
            charges: parts.charges.iter().map(charge).collect(),
            learned: parts.learned.iter().map(source).collect(),
            heard: parts.heard.iter().map(source).collect(),
            created_unix_ms: parts.created.0,
            updated_unix_ms: parts.updated.0,
            agent_has_lease: false,
        }
    }
}

impl StoredRouter {
    /// What is kept of a router.
    pub(crate) fn of(identity: &Identity, interfaces: &[Interface]) -> Self {
        let interface = |it: &Interface| {
            let shown = match it.role {
                Role::Edge => it.prefixes.len(),
                Role::Core => 0,
            };
            render::interface(it, shown)
        };
        Self {
            hello: Some(v1::Hello {
                router_id: identity.id.to_string(),
                epoch: identity.epoch,
                software_version: identity.software_version.clone(),
                entry_capacity: identity.entry_capacity,
            }),
            interfaces: Some(v1::InterfaceReport {
                interfaces: interfaces.iter().map(interface).collect(),
                more: false,
            }),
        }
    }
}

/// Which records of routers there are, so that each report is written once.
#[derive(Debug, Default)]
pub struct RouterRecords(HashMap<RouterId, u64>);

impl RouterRecords {
    /// There is a record of this hash.
    pub(super) fn know(&mut self, id: RouterId, digest: u64) {
        self.0.insert(id, digest);
    }

    /// Writes a router's report; absent if just that is there.
    pub(crate) fn put(&mut self, id: &RouterId, router: &StoredRouter) -> Option<Change> {
        let (key, value) = (id.as_str().as_bytes(), router.encode_to_vec());
        let former = self.0.get(id).copied();
        let change = Change::put(Space::Routers, key, value, former);
        if former == Some(change.digest()) {
            return None;
        }
        self.0.insert(id.clone(), change.digest());
        Some(change)
    }

    /// Takes a router out, if it is there.
    pub(crate) fn remove(&mut self, id: &RouterId) -> Option<Change> {
        let former = self.0.remove(id)?;
        Some(Change::remove(
            Space::Routers,
            id.as_str().as_bytes(),
            former,
        ))
    }
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
