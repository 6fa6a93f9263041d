//! What a store holds, as the model has it: every record is checked as a request would be.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use prost::Message as _;

use super::{
    Backend, Space, StoreError,
    head::digest,
    record::{
        RouterRecords, StoredCharge, StoredFlow, StoredLocation, StoredRouter, StoredSession,
        StoredSource,
    },
};
use crate::{
    grpc::parse,
    model::{
        entries::{FlowKind, expand_distinct},
        ids::{RouterId, SessionKey, UnixMs},
        links::{Charges, Direction, LinkId},
        placement::{FlowPlacement, Placement, Places, shares},
        registry::{ClaimChange, Location, Registry},
        session::{Learned, SessionSpec, SessionState},
        store::{Installation, Phase, RecordId, Session, Store},
    },
};

/// What a store holds, as the model has it.
#[derive(Debug)]
pub struct Contents {
    /// The routers, all of them away.
    pub registry: Registry,
    /// Sessions as they were committed, before any router attaches.
    pub store: Store,
    /// The records of the routers.
    pub router_records: RouterRecords,
    /// The sessions that have a lease; it has not begun.
    pub leased: Vec<SessionKey>,
    /// The agents that had a lease, as far as they have sessions.
    pub agents: BTreeSet<Box<str>>,
    /// A number that no session has.
    pub next_id: u64,
    now: UnixMs,
    known: Known,
}

/// What many sessions share.
#[derive(Debug, Default)]
struct Known {
    locations: BTreeSet<Arc<Location>>,
    links: BTreeSet<Arc<LinkId>>,
}

/// The one of these that is equal.
fn shared<T: Ord>(known: &mut BTreeSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(there) = known.get(&value) {
        return there.clone();
    }
    let value = Arc::new(value);
    known.insert(value.clone());
    value
}

impl Contents {
    /// Empty, for records to be added.
    pub fn new(max_routers: usize, now: UnixMs) -> Self {
        Self {
            registry: Registry::new(max_routers),
            store: Store::default(),
            router_records: RouterRecords::default(),
            leased: Vec::new(),
            agents: BTreeSet::new(),
            next_id: 1,
            now,
            known: Known::default(),
        }
    }

    /// All of a store.
    pub fn load(
        backend: &mut impl Backend,
        max_routers: usize,
        now: UnixMs,
    ) -> Result<Self, StoreError> {
        let mut contents = Self::new(max_routers, now);
        backend.load(&mut |space, key, value| {
            let taken = contents.take(space, key, value);
            taken.map_err(|reason| format!("{}: {reason}", space.record(key)))
        })?;
        contents.known = Known::default();
        Ok(contents)
    }

    /// Takes a record in; says why not. Routers come before sessions.
    pub fn take(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<(), String> {
        match space {
            Space::Routers => self.take_router(key, value),
            Space::Sessions => {
                let id = key.try_into().map_err(|_| "its key is no number")?;
                self.take_session(u64::from_be_bytes(id), value)
            }
        }
    }

    fn take_router(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let stored = StoredRouter::decode(value).map_err(|it| it.to_string())?;
        let identity = parse::hello(stored.hello.unwrap_or_default()).map_err(text)?;
        let interfaces = stored.interfaces.unwrap_or_default();
        let interfaces = parse::kept_interfaces(interfaces).map_err(text)?;
        let id = identity.id.clone();
        if id.as_str().as_bytes() != key {
            return Err(format!("it calls itself {id}"));
        }
        let mut change = ClaimChange::new(&id, None, interfaces);
        while self.registry.prepare(&mut change) {}
        self.registry.restore(identity, &change, self.now);
        let hash = digest(Space::Routers, key, value);
        self.router_records.know(id, hash);
        Ok(())
    }

    fn take_session(&mut self, id: u64, value: &[u8]) -> Result<(), String> {
        let stored = StoredSession::decode(value).map_err(|it| it.to_string())?;
        let hash = digest(Space::Sessions, &id.to_be_bytes(), value);
        let session = self.session(
            stored,
            RecordId {
                id,
                digest: Some(hash),
            },
        )?;
        let key = session.spec.key.clone();
        if self.store.get(&key).is_some() {
            return Err(format!("{key} is there twice"));
        }
        let entries = expand_distinct(&session.spec, &session.learned).map_err(text)?;
        self.store.reserve(&key, &entries).map_err(text)?;
        if session.agent_has_lease && !self.agents.contains(key.agent()) {
            self.agents.insert(key.agent().into());
        }
        if session.spec.lease().is_some() {
            self.leased.push(key);
        }
        self.store.put(session);
        self.next_id = self.next_id.max(id.saturating_add(1));
        Ok(())
    }

    fn session(&mut self, stored: StoredSession, record: RecordId) -> Result<Session, String> {
        let spec = Arc::new(parse::spec(stored.spec).map_err(text)?);
        let locations = stored.locations.into_iter().map(|it| self.location(it));
        let locations: Vec<Arc<Location>> = locations.collect::<Result<_, _>>()?;
        let at = |number: u32| match usize::try_from(number)
            .ok()
            .and_then(|it| it.checked_sub(1))
        {
            None => Ok(None),
            Some(index) => match locations.get(index) {
                Some(at) => Ok(Some(at.clone())),
                None => Err(format!("it has no location {number}")),
            },
        };
        let places = |source, destination| -> Result<Places, String> {
            Ok(Places {
                source: at(source)?,
                destination: at(destination)?,
            })
        };
        let flow = |it: &StoredFlow| -> Result<FlowPlacement, String> {
            let rtcp = it
                .has_rtcp
                .then(|| places(it.rtcp_source, it.rtcp_destination));
            Ok(FlowPlacement {
                media: places(it.source, it.destination)?,
                rtcp: rtcp.transpose()?.map(Box::new),
            })
        };
        let placement = stored.placement.iter().map(flow);
        let placement: Arc<Placement> = placement.collect::<Result<_, _>>()?;
        if placement.len() != spec.flows.len() {
            let (placed, flows) = (placement.len(), spec.flows.len());
            return Err(format!("{placed} of its {flows} flows are placed"));
        }
        let charges = stored.charges.into_iter().map(|it| self.charge(it));
        let charges = charges.collect::<Result<Charges, String>>()?;
        let sources = |all: &[StoredSource]| -> Result<Box<[Learned]>, String> {
            all.iter().map(|it| source(it, &spec)).collect()
        };
        let (learned, heard) = (sources(&stored.learned)?, sources(&stored.heard)?);
        let entries = expand_distinct(&spec, &learned).map_err(text)?;
        let installations = shares(&placement, &entries);
        let installations = installations
            .iter()
            .map(|(router, share)| (router.clone(), Installation::of(share)));
        Ok(Session {
            installations: installations.collect(),
            learned,
            heard,
            placement,
            charges,
            expires: None,
            phase: Phase::Settled,
            problem: None,
            created: UnixMs(stored.created_unix_ms),
            updated: UnixMs(stored.updated_unix_ms),
            // Its routers are away.
            told: Some(SessionState::Degraded),
            record,
            agent_has_lease: stored.agent_has_lease,
            spec,
        })
    }

    fn location(&mut self, stored: StoredLocation) -> Result<Arc<Location>, String> {
        let prefix = stored.prefix.parse();
        let location = Location {
            router: RouterId::parse("router", &stored.router).map_err(text)?,
            interface: stored.interface.into(),
            several: stored.several,
            prefix: prefix.map_err(|_| format!("{:?} is no prefix", stored.prefix))?,
        };
        Ok(shared(&mut self.known.locations, location))
    }

    fn charge(&mut self, stored: StoredCharge) -> Result<(Arc<LinkId>, u64), String> {
        let link = LinkId {
            router: RouterId::parse("router", &stored.router).map_err(text)?,
            port: stored.port.into(),
            direction: if stored.out {
                Direction::Out
            } else {
                Direction::In
            },
        };
        Ok((shared(&mut self.known.links, link), stored.bps))
    }
}

fn source(stored: &StoredSource, spec: &SessionSpec) -> Result<Learned, String> {
    let flow = usize::try_from(stored.flow).unwrap_or(usize::MAX);
    let source: Result<SocketAddr, _> = stored.source.parse();
    let Ok(source) = source else {
        return Err(format!("{:?} is no address and port", stored.source));
    };
    if spec.flows.get(flow).is_none() {
        return Err(format!(
            "it learned a source of flow {flow}, which it lacks"
        ));
    }
    let kind = if stored.rtcp {
        FlowKind::Rtcp
    } else {
        FlowKind::Rtp
    };
    Ok(Learned { flow, kind, source })
}

#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use voicelane_proto::v1;

    use super::*;

    #[test]
    fn a_router_with_more_interfaces_than_it_may_have_is_read_all_the_same() {
        let interface = |number: u32| v1::Interface {
            name: format!("wan{number}"),
            role: v1::interface::Role::Core.into(),
            addresses: vec!["10.1.0.1/24".to_owned(); 5],
            ..v1::Interface::default()
        };
        let router = StoredRouter {
            hello: Some(v1::Hello {
                router_id: "a".to_owned(),
                ..v1::Hello::default()
            }),
            interfaces: Some(v1::InterfaceReport {
                interfaces: (0..1_025).map(interface).collect(),
                more: false,
            }),
        };
        let mut contents = Contents::new(usize::MAX, UnixMs::now());
        let record = router.encode_to_vec();
        contents.take(Space::Routers, b"a", &record).unwrap();
        let id = RouterId::parse("id", "a").unwrap();
        let interfaces = &contents.registry.router(&id).unwrap().interfaces;
        assert_eq!(interfaces.len(), 1_025);
    }
}
