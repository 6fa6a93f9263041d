//! The registry and the store against naive models.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use voicelane_types::{BitRate, ColourMode, MeterKind, MeterSpec};

mod admission;
mod arithmetic;
mod lengths;
mod silence;

use super::{
    course::Path,
    entries::{expand, fingerprint},
    error::Error,
    ids::{AttachmentId, Fingerprint, Revision, RouterId, SessionKey, UnixMs, session_key},
    leases::Moment,
    links::Charges,
    meter::Meter,
    placement::{place, shares},
    registry::{ClaimChange, Identity, Interface, Registry, Role},
    session::{MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, Terms},
    store::{Installation, Phase, RecordId, Session, Store},
};

const NOW: UnixMs = UnixMs(1_000_000);

fn router(name: &str) -> RouterId {
    RouterId::parse("id", name).unwrap()
}

fn identity(name: &str) -> Identity {
    Identity {
        id: router(name),
        epoch: 1,
        software_version: String::new(),
        entry_capacity: 0,
    }
}

fn interface(name: &str, role: Role, up: bool, prefixes: Vec<IpNet>) -> Interface {
    Interface {
        name: name.into(),
        role,
        up,
        addresses: Vec::new(),
        prefixes,
        refused: Vec::new(),
        rate_bps: 0,
        ef_budget_bps: 0,
        ef_ingress_budget_bps: 0,
        mtu_bytes: 1500,
        overhead_bytes: 0,
        vlan_id: 0,
        port: name.into(),
    }
}

fn spec(session: &str, ports: &[(u16, u16)]) -> SessionSpec {
    let flow = |(from, to): &(u16, u16)| {
        let end = |last, port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, last).into(), port);
        let path = Path::parse("flow", end(1, *from), end(2, *to)).unwrap();
        let terms = Terms::Policer {
            rate: RateBps::parse("rate", 80_000).unwrap(),
            burst: None,
        };
        MediaFlow::new(path, terms, Rtcp::NextPort)
    };
    let key = session_key("key", "agent", session).unwrap();
    let flows = ports.iter().map(flow).collect();
    SessionSpec::new(key, Revision::FIRST, flows, ServiceClass::Telephony)
}

/// It is in routers' memory across releases: a change of it would replace every call once.
#[test]
fn the_fingerprint_stays() {
    let entries = expand(&spec("c", &[(4000, 5000)]));
    assert_eq!(fingerprint(&entries), Fingerprint(FINGERPRINT));
    let mut changed = entries.clone();
    changed[0].rate_bps += 1;
    assert_ne!(fingerprint(&changed), fingerprint(&entries));
    let on = |first: &str, second: &str| {
        let mut entries = entries.clone();
        for (entry, name) in entries.iter_mut().zip([first, second]) {
            entry.ingress = Some(name.into()).filter(|_| !name.is_empty());
        }
        fingerprint(&entries)
    };
    assert_eq!(on("", ""), fingerprint(&entries));
    let all = [
        on("lan", ""),
        on("", "lan"),
        on("lan", "lan"),
        on("lan", "lan2"),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one) && *one != fingerprint(&entries));
    }
}

/// The same for one with a meter, which every field of it changes.
#[test]
fn the_fingerprint_has_all_of_a_meter() {
    let rate = |bps| BitRate::from_bps(bps).unwrap();
    let parameters = MeterSpec {
        kind: MeterKind::TrTcm {
            pir: rate(2_000_000),
            pbs_bytes: 40_000,
        },
        cir: rate(1_000_000),
        cbs_bytes: 20_000,
        mode: ColourMode::Blind,
    };
    let meter = Meter {
        spec: parameters,
        drop_red: false,
    };
    let of = |meter| {
        let mut spec = spec("c", &[(4000, 5000)]);
        spec.class = ServiceClass::MultimediaConferencing;
        spec.flows[0].terms = Terms::Meter(meter);
        let mut entries = expand(&spec);
        // What an older router polices to follows from the meter: only the meter is to count here.
        for entry in &mut entries {
            (entry.rate_bps, entry.burst_bytes) = (1_000, 1_500);
        }
        fingerprint(&entries)
    };
    assert_eq!(of(meter), Fingerprint(METER_FINGERPRINT));
    let others = [
        MeterKind::TrTcm {
            pir: rate(2_000_001),
            pbs_bytes: 40_000,
        },
        MeterKind::TrTcm {
            pir: rate(2_000_000),
            pbs_bytes: 40_001,
        },
        MeterKind::Rfc4115 {
            eir: rate(2_000_000),
            ebs_bytes: 40_000,
        },
        MeterKind::SrTcm { ebs_bytes: 40_000 },
    ]
    .map(|kind| MeterSpec { kind, ..parameters });
    let more = [
        MeterSpec {
            cir: rate(1_000_001),
            ..parameters
        },
        MeterSpec {
            cbs_bytes: 20_001,
            ..parameters
        },
        MeterSpec {
            mode: ColourMode::Aware,
            ..parameters
        },
    ];
    let others = others.into_iter().chain(more).map(|spec| Meter {
        spec,
        drop_red: false,
    });
    let drops = Meter {
        drop_red: true,
        ..meter
    };
    let all = [meter, drops].into_iter().chain(others);
    let distinct: BTreeSet<u64> = all.clone().map(|meter| of(meter).0).collect();
    assert_eq!(distinct.len(), all.count());
}
const METER_FINGERPRINT: u64 = 15_945_759_908_268_595_510;
const FINGERPRINT: u64 = 16_771_469_813_221_443_920;

#[test]
fn a_router_that_is_away_keeps_its_prefixes_from_others() {
    let mut registry = Registry::new(8);
    let prefix = |text: &str| text.parse::<IpNet>().unwrap();
    let lan = |text| vec![interface("lan0", Role::Edge, true, vec![prefix(text)])];
    let address: IpAddr = "10.1.2.3".parse().unwrap();
    for (index, (name, text)) in [("wide", "10.0.0.0/8"), ("near", "10.1.0.0/16")]
        .iter()
        .enumerate()
    {
        let id = AttachmentId(index as u64);
        registry.attach_at_once(name, lan(text), id).unwrap();
    }
    assert_eq!(
        registry.locate(address, NOW).unwrap().router,
        router("near")
    );
    assert!(
        !registry.detach(&router("near"), AttachmentId(0), "cut", NOW),
        "another stream's end"
    );
    assert!(registry.detach(&router("near"), AttachmentId(1), "cut", NOW));
    let later = UnixMs(NOW.0 + 12_500);
    let away = Error::RouterAway {
        field: String::new(),
        address,
        router: router("near"),
        seconds: 12,
    };
    assert_eq!(registry.locate(address, later), Err(away));
    // Another router with the very prefix takes over.
    registry
        .attach_at_once("spare", lan("10.1.0.0/16"), AttachmentId(2))
        .unwrap();
    assert_eq!(
        registry.locate(address, NOW).unwrap().router,
        router("spare")
    );
}

#[test]
fn there_are_only_so_many_routers() {
    let mut registry = Registry::new(1);
    registry
        .attach_at_once("a", vec![], AttachmentId(1))
        .unwrap();
    registry
        .attach_at_once("a", vec![], AttachmentId(2))
        .unwrap();
    let second = registry.attach_at_once("b", vec![], AttachmentId(3));
    assert_eq!(second, Err(Error::TooManyRouters { limit: 1 }));
}

#[derive(Clone, Debug)]
enum Change {
    Attach(usize, Vec<(bool, bool, Vec<Ipv4Net>)>),
    Report(usize, Vec<(bool, bool, Vec<Ipv4Net>)>),
    Detach(usize),
    Forget(usize),
}

/// Few bits, so that prefixes nest and collide.
fn prefix() -> impl Strategy<Value = Ipv4Net> {
    (0_u8..8, 24_u8..=32).prop_map(|(last, length)| {
        Ipv4Net::new(Ipv4Addr::new(10, 0, 0, last), length)
            .unwrap()
            .trunc()
    })
}

fn interfaces() -> impl Strategy<Value = Vec<(bool, bool, Vec<Ipv4Net>)>> {
    let one = (
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        prop::collection::vec(prefix(), 0..4),
    );
    prop::collection::vec(one, 0..3)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0_usize..4, interfaces()).prop_map(|(router, it)| Change::Attach(router, it)),
        (0_usize..4, interfaces()).prop_map(|(router, it)| Change::Report(router, it)),
        (0_usize..4).prop_map(Change::Detach),
        (0_usize..4).prop_map(Change::Forget),
    ]
}

fn build(interfaces: &[(bool, bool, Vec<Ipv4Net>)]) -> Vec<Interface> {
    let one = |(index, (edge, up, prefixes)): (usize, &(bool, bool, Vec<Ipv4Net>))| {
        let role = if *edge { Role::Edge } else { Role::Core };
        let prefixes = prefixes.iter().copied().map(IpNet::V4).collect();
        interface(&format!("if{index}"), role, *up, prefixes)
    };
    interfaces.iter().enumerate().map(one).collect()
}

proptest! {
    /// Whatever routers report and lose, an address is where a scan of everything finds it.
    #[test]
    fn the_registry_is_a_scan(changes in prop::collection::vec(change(), 1..40)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut registry = Registry::new(8);
        // Router to interfaces, and the stream if attached.
        let mut model: BTreeMap<usize, (Vec<Interface>, Option<AttachmentId>)> = BTreeMap::new();
        for (step, change) in changes.into_iter().enumerate() {
            let stream = AttachmentId(step as u64);
            match change {
                Change::Attach(at, it) => {
                    let it = build(&it);
                    registry.attach_at_once(NAMES[at], it.clone(), stream).unwrap();
                    model.insert(at, (it, Some(stream)));
                }
                Change::Report(at, it) => {
                    let it = build(&it);
                    if let Some((old, _)) = model.get_mut(&at) {
                        registry.report_at_once(NAMES[at], it.clone());
                        *old = it;
                    }
                }
                Change::Forget(at) => {
                    let known = registry.forget_at_once(NAMES[at]);
                    prop_assert_eq!(known, model.remove(&at).is_some());
                }
                Change::Detach(at) => {
                    if let Some((_, stream)) = model.get_mut(&at)
                        && let Some(stream) = stream.take()
                    {
                        let done = registry.detach(&router(NAMES[at]), stream, "cut", NOW);
                        prop_assert!(done);
                    }
                }
            }
            if model.is_empty() {
                prop_assert!(registry.claims_nothing());
            }
            for last in 0..8 {
                let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
                let mut claims = Vec::new();
                for (at, (interfaces, stream)) in &model {
                    for it in interfaces.iter().filter(|it| it.up && it.role == Role::Edge) {
                        for prefix in it.prefixes.iter().filter(|prefix| prefix.contains(&address)) {
                            claims.push((prefix.prefix_len(), *at, stream.is_some()));
                        }
                    }
                }
                let longest = claims.iter().map(|claim| claim.0).max();
                let best: BTreeSet<usize> = claims
                    .iter()
                    .filter(|claim| Some(claim.0) == longest && claim.2)
                    .map(|claim| claim.1)
                    .collect();
                let best: Vec<usize> = best.into_iter().collect();
                match (registry.locate(address, NOW), longest, best.as_slice()) {
                    (Ok(location), Some(length), [only]) => {
                        prop_assert_eq!(location.router.as_str(), NAMES[*only]);
                        prop_assert_eq!(location.prefix.prefix_len(), length);
                    }
                    (Err(Error::PrefixConflict { routers, .. }), Some(_), several) => {
                        prop_assert!(several.len() > 1);
                        let names: Vec<&str> = several.iter().map(|at| NAMES[*at]).collect();
                        let routers: Vec<&str> = routers.iter().map(RouterId::as_str).collect();
                        prop_assert_eq!(routers, names);
                    }
                    (Err(Error::RouterAway { .. }), Some(_), []) => {}
                    (Err(Error::UnknownAddress { .. }), None, []) => {}
                    other => prop_assert!(false, "{address}: {other:?}"),
                }
            }
        }
    }

    /// Whatever is put and removed, the indexes are what a scan of the sessions makes.
    #[test]
    fn the_store_is_a_map(
        steps in prop::collection::vec(
            (0_u8..6, prop::collection::vec((0_u16..12, 0_u16..3), 1..4), 0_usize..3, any::<bool>()),
            1..60,
        )
    ) {
        let mut registry = Registry::new(8);
        for (index, (name, net)) in [("a", "10.0.0.1/32"), ("b", "10.0.0.2/32")].iter().enumerate() {
            let lan = vec![interface("lan0", Role::Edge, true, vec![net.parse().unwrap()])];
            let id = AttachmentId(index as u64);
            registry.attach_at_once(name, lan, id).unwrap();
        }
        let mut store = Store::default();
        let mut model: BTreeMap<SessionKey, SessionSpec> = BTreeMap::new();
        for (name, ports, drop_routers, remove) in steps {
            let ports: Vec<(u16, u16)> =
                ports.iter().map(|(from, to)| (4000 + 2 * from, 5000 + 2 * to)).collect();
            let spec = spec(&name.to_string(), &ports);
            let key = spec.key.clone();
            if remove {
                prop_assert_eq!(store.remove(&key).is_some(), model.remove(&key).is_some());
            } else {
                let entries = expand(&spec);
                let holder = model.iter().find(|(other, held)| {
                    **other != key
                        && expand(held).iter().any(|a| entries.iter().any(|b| a.tuple == b.tuple))
                });
                let reserved = store.reserve(&key, &entries);
                prop_assert_eq!(reserved.is_err(), holder.is_some());
                if reserved.is_ok() {
                    let placement = place(&spec, &[], &registry, NOW).unwrap();
                    let shares = shares(&placement, &entries);
                    let installations = shares
                        .iter()
                        .take(drop_routers)
                        .map(|(router, share)| (router.clone(), Installation::of(share)));
                    store.put(Session {
                        learned: Box::default(),
                        heard: Box::default(),
                        charges: Charges::of(&spec, &[], &placement, &registry),
                        expires: (ports.len() > 2).then(Moment::default),
                        spec: Arc::new(spec.clone()),
                        placement,
                        installations: installations.collect(),
                        phase: Phase::Settled,
                        problem: None,
                        created: NOW,
                        updated: NOW,
                        told: None,
                        record: RecordId::default(),
                        agent_has_lease: false,
                    });
                    model.insert(key.clone(), spec);
                }
            }
            store.check();
            prop_assert_eq!(store.len(), model.len());
            prop_assert_eq!(store.len_of_agent("agent"), model.len() as u64);
            let keys: Vec<_> = store.after(None).map(|it| it.spec.key.clone()).collect();
            prop_assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>());
            let held: BTreeSet<String> = model
                .values()
                .flat_map(expand)
                .map(|entry| entry.tuple.to_string())
                .collect();
            prop_assert_eq!(store.held(), held);
        }
    }
}

impl Registry {
    fn attach_at_once(
        &mut self,
        name: &str,
        interfaces: Vec<Interface>,
        attachment: AttachmentId,
    ) -> Result<(), Error> {
        let id = router(name);
        self.has_room(&id)?;
        let mut change = ClaimChange::new(&id, self.router(&id), interfaces);
        while self.prepare(&mut change) {}
        self.attach(identity(name), String::new(), &change, attachment, NOW);
        while self.sweep(&mut change) {}
        Ok(())
    }

    fn report_at_once(&mut self, name: &str, interfaces: Vec<Interface>) {
        let id = router(name);
        let mut change = ClaimChange::new(&id, self.router(&id), interfaces);
        while self.prepare(&mut change) {}
        self.report(&id, &change);
        while self.sweep(&mut change) {}
    }

    /// False if there is no such router.
    fn forget_at_once(&mut self, name: &str) -> bool {
        let Some(router) = self.forget(&router(name)) else {
            return false;
        };
        let mut change = ClaimChange::forgotten(&router);
        while self.sweep(&mut change) {}
        true
    }
}

impl Store {
    /// The indexes are what a scan of the sessions makes.
    fn check(&self) {
        for name in ["a", "b"] {
            let id = router(name);
            let on: Vec<&Session> = self
                .after(None)
                .filter(|it| it.installations.contains_key(&id))
                .collect();
            assert_eq!(self.sessions_on(&id), on.len());
            let keys: Vec<&SessionKey> = on.iter().map(|it| &it.spec.key).collect();
            assert_eq!(self.keys_on(&id, None).collect::<Vec<_>>(), keys);
            let entries: u64 = on
                .iter()
                .map(|it| it.installations.get(&id).unwrap().entries)
                .sum();
            assert_eq!(self.entries_on(&id), entries);
        }
        let leased = self.after(None).filter(|it| it.expires.is_some());
        assert_eq!(self.leases().len(), leased.count());
        self.check_loads();
    }

    fn held(&self) -> BTreeSet<String> {
        self.tuples().map(|tuple| tuple.to_string()).collect()
    }
}
