//! Admission under everything that can happen, against a recount.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{NOW, arithmetic::hoeffding, interface, router};
use crate::model::{
    admission::{Load, Policy, admit, budget_bps},
    course::{Course, End},
    entries::expand,
    ids::{AttachmentId, Revision, SessionKey, session_key},
    leases::Moment,
    links::{Charges, LinkId, longest},
    placement::{Placement, place, shares},
    preemption::make_room,
    registry::{Interface, Registry, Role},
    session::{MediaFlow, Priority, RateBps, Rtcp, ServiceClass, SessionSpec, Terms},
    store::{Installation, Phase, Session, Store},
};

const ROUTERS: [&str; 3] = ["a", "b", "c"];

pub(super) fn terms(bps: u64) -> Terms {
    Terms::Policer {
        rate: RateBps::parse("rate", bps).unwrap(),
        burst: None,
    }
}

/// An edge port that reaches a network, and two core ports.
pub(super) fn interfaces(net: u8, budgets: [u64; 3], default_by: usize) -> Vec<Interface> {
    let prefix = |text: &str| -> IpNet { text.parse().unwrap() };
    let lan = vec![prefix(&format!("10.{net}.0.0/16"))];
    let mut wans = [vec![prefix("10.1.0.0/16")], vec![prefix("10.2.0.0/17")]];
    wans[default_by % 2].push(prefix("0.0.0.0/0"));
    for wan in &mut wans {
        wan.sort_unstable();
    }
    let [wan0, wan1] = wans;
    let mut all = vec![
        interface("lan0", Role::Edge, true, lan),
        interface("wan0", Role::Core, true, wan0),
        interface("wan1", Role::Core, true, wan1),
    ];
    for (interface, budget) in all.iter_mut().zip(budgets) {
        interface.ef_budget_bps = budget;
    }
    all
}

#[derive(Clone, Debug)]
struct Wanted {
    name: u8,
    from: u8,
    to: u8,
    bps: u64,
    priority: u8,
    half: u8,
    lifetime_s: u32,
    may_preempt: bool,
    preemptable: bool,
}

impl Wanted {
    fn spec(&self) -> SessionSpec {
        let port = 4000 + 2 * u16::from(self.name);
        let end = |net: u8, host: u8| SocketAddr::from(([10, net, 200, host], port));
        let (from, to) = (end(self.from, 1), end(self.to, 2));
        let course = match self.half {
            0 => Course::Half(End::Source, from),
            1 => Course::Half(End::Destination, to),
            _ => Course::parse("flow", Some(from), Some(to), None).unwrap(),
        };
        let key = session_key("key", "agent", &self.name.to_string()).unwrap();
        let back = Course::parse("flow", Some(to), Some(from), None).unwrap();
        let flows = [course, back].map(|it| MediaFlow::new(it, terms(self.bps), Rtcp::NextPort));
        let spec = SessionSpec::new(
            key,
            Revision::FIRST,
            flows.into(),
            ServiceClass::AdmittedTelephony,
        );
        SessionSpec {
            priority: Priority::parse("priority", self.priority.into()).unwrap(),
            lifetime_s: self.lifetime_s,
            may_preempt: self.may_preempt,
            preemptable: self.preemptable,
            ..spec
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// As an agent asks: it is done at once.
    Put(Wanted),
    /// A change begins, and ends well or not.
    Begin(Wanted),
    Commit(u8),
    Revert(u8),
    Delete(u8),
    /// A router reports another network, other budgets, other routes.
    Report(usize, u8, [u64; 3], usize),
    Detach(usize),
    Forget(usize),
    /// Time passes, seconds.
    Pass(u64),
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let bps = prop_oneof![Just(80_000_u64), Just(24_000), Just(500_000)];
    let lifetime = prop_oneof![Just(0_u32), 1_u32..100];
    let ends = (0_u8..3, 0_u8..3, 0_u8..6);
    let preempts = (any::<bool>(), any::<bool>());
    (0_u8..12, ends, bps, 0_u8..16, lifetime, preempts).prop_map(
        |(name, (from, to, half), bps, priority, lifetime_s, (may_preempt, preemptable))| Wanted {
            name,
            from,
            to,
            bps,
            priority,
            half,
            lifetime_s,
            may_preempt,
            preemptable,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let budget = || prop_oneof![Just(0_u64), 200_000_u64..2_000_000];
    let budgets = (budget(), budget(), budget()).prop_map(|(a, b, c)| [a, b, c]);
    prop_oneof![
        6 => wanted().prop_map(Step::Put),
        2 => wanted().prop_map(Step::Begin),
        2 => (0_u8..12).prop_map(Step::Commit),
        1 => (0_u8..12).prop_map(Step::Revert),
        2 => (0_u8..12).prop_map(Step::Delete),
        2 => (0_usize..3, 0_u8..4, budgets, 0_usize..2)
            .prop_map(|(at, net, budgets, by)| Step::Report(at, net, budgets, by)),
        1 => (0_usize..3).prop_map(Step::Detach),
        1 => (0_usize..3).prop_map(Step::Forget),
        1 => (1_u64..60).prop_map(Step::Pass),
    ]
}

/// A change that has begun: what it is to become, and what it took of links before.
struct Changing {
    spec: SessionSpec,
    placement: Arc<Placement>,
    charges: Charges,
    former: Charges,
}

struct World {
    registry: Registry,
    store: Store,
    changing: HashMap<SessionKey, Changing>,
    attachments: u64,
    now: Moment,
    policy: Policy,
}

impl World {
    fn attach(&mut self, at: usize, net: u8, budgets: [u64; 3], by: usize) {
        self.attachments += 1;
        let id = AttachmentId(self.attachments);
        let interfaces = interfaces(net, budgets, by);
        let attached = self.registry.attach_at_once(ROUTERS[at], interfaces, id);
        attached.unwrap();
    }

    /// What a session would take, if it may.
    fn admitted(&self, spec: &SessionSpec) -> Option<(Arc<Placement>, Charges)> {
        let placement = place(spec, &[], &self.registry, NOW).ok()?;
        let shares = shares(&placement, &expand(spec));
        let charges = Charges::of(spec, &[], &placement, &self.registry);
        admit(
            spec,
            &shares,
            &charges,
            &self.registry,
            &self.store,
            self.policy,
        )
        .ok()?;
        Some((placement, charges))
    }

    /// The same; removes those that make way for it.
    fn admitted_or_preempts(&mut self, spec: &SessionSpec) -> Option<(Arc<Placement>, Charges)> {
        let admitted = self.admitted(spec);
        if admitted.is_some() || !spec.may_preempt {
            return admitted;
        }
        let placement = place(spec, &[], &self.registry, NOW).ok()?;
        let charges = Charges::of(spec, &[], &placement, &self.registry);
        let is_idle = |key: &SessionKey| !self.changing.contains_key(key);
        let (registry, store) = (&self.registry, &self.store);
        let victims = make_room(spec, &charges, registry, store, self.policy, is_idle);
        let Some(victims) = victims else {
            // Not even all of them together would do.
            let former: Vec<_> = self.preemptable_by(spec);
            let former: Vec<_> = former
                .into_iter()
                .map(|key| (self.store.charge(&key, Charges::default()), key))
                .collect();
            assert!(self.admitted(spec).is_none());
            for (charges, key) in former {
                self.store.charge(&key, charges);
            }
            return None;
        };
        for key in &victims {
            assert!(self.preemptable_by(spec).contains(key), "{key}");
        }
        let former = victims
            .iter()
            .map(|key| self.store.charge(key, Charges::default()))
            .collect::<Vec<_>>();
        let admitted = self.admitted(spec);
        assert!(admitted.is_some());
        for (key, charges) in victims.iter().zip(former) {
            self.store.charge(key, charges);
            assert!(self.admitted(spec).is_none(), "{key} need not go");
            self.store.charge(key, Charges::default());
        }
        for key in &victims {
            self.store.remove(key);
        }
        admitted
    }

    fn preemptable_by(&self, spec: &SessionSpec) -> Vec<SessionKey> {
        let others = self.store.after(None).filter(|it| {
            let its = &it.spec;
            its.preemptable
                && its.priority > spec.priority
                && its.key != spec.key
                && !self.changing.contains_key(&its.key)
        });
        others.map(|it| it.spec.key.clone()).collect()
    }

    fn put(&mut self, spec: SessionSpec, placement: Arc<Placement>, charges: Charges) {
        let shares = shares(&placement, &expand(&spec));
        let installations = shares.iter();
        self.store.put(Session {
            learned: Box::default(),
            heard: Box::default(),
            placement,
            charges,
            expires: spec.lease().map(|lease| self.now.plus(lease)),
            installations: installations
                .map(|(router, share)| (router.clone(), Installation::of(share)))
                .collect(),
            phase: Phase::Settled,
            problem: None,
            created: NOW,
            updated: NOW,
            told: None,
            record: crate::model::store::RecordId::default(),
            agent_has_lease: false,
            spec: Arc::new(spec),
        });
    }

    /// Whether it was done with admission.
    fn make(&mut self, step: Step) -> bool {
        match step {
            Step::Put(wanted) => {
                let spec = wanted.spec();
                if !self.changing.contains_key(&spec.key)
                    && let Some((placement, charges)) = self.admitted_or_preempts(&spec)
                {
                    self.put(spec, placement, charges);
                }
            }
            Step::Begin(wanted) => {
                let spec = wanted.spec();
                let there = self.store.get(&spec.key).map(|it| it.charges.clone());
                if let Some(there) = there
                    && !self.changing.contains_key(&spec.key)
                    && let Some((placement, charges)) = self.admitted(&spec)
                {
                    let former = self.store.charge(&spec.key, there.or_more(&charges));
                    let key = spec.key.clone();
                    let changing = Changing {
                        spec,
                        placement,
                        charges,
                        former,
                    };
                    self.changing.insert(key, changing);
                }
            }
            Step::Commit(name) => {
                if let Some(it) = self.changing.remove(&key(name)) {
                    self.put(it.spec, it.placement, it.charges);
                }
            }
            Step::Revert(name) => {
                if let Some(it) = self.changing.remove(&key(name)) {
                    self.store.charge(&it.spec.key, it.former);
                }
            }
            Step::Delete(name) => {
                if !self.changing.contains_key(&key(name)) {
                    self.store.remove(&key(name));
                }
            }
            Step::Report(at, net, budgets, by) => {
                self.attach(at, net, budgets, by);
                return self.walk();
            }
            Step::Detach(at) => {
                let name = router(ROUTERS[at]);
                if let Some(id) = self.registry.attachment(&name) {
                    self.registry.detach(&name, id, "cut", NOW);
                }
            }
            Step::Forget(at) => {
                self.registry.forget_at_once(ROUTERS[at]);
                return self.walk();
            }
            Step::Pass(seconds) => {
                self.now = self.now.plus(Duration::from_secs(seconds));
                while let Some(key) = self.store.take_expired(self.now) {
                    if self.changing.contains_key(&key) {
                        continue;
                    }
                    self.store.remove(&key);
                }
            }
        }
        true
    }

    /// Looks at all sessions, as the engine does when what routers reach has changed: those that have
    /// moved are admitted anew, the others charge the links that their packets take now.
    fn walk(&mut self) -> bool {
        let all = self.store.after(None).map(|it| it.spec.key.clone());
        let keys: Vec<SessionKey> = all.filter(|it| !self.changing.contains_key(it)).collect();
        for key in &keys {
            let session = self.store.get(key).unwrap();
            let spec = SessionSpec::clone(&session.spec);
            let expires = session.expires;
            match place(&spec, &[], &self.registry, NOW) {
                Ok(placement) if placement == session.placement => {
                    let charges = Charges::of(&spec, &[], &placement, &self.registry);
                    self.store.charge(key, charges);
                }
                Ok(_) => {
                    if let Some((placement, charges)) = self.admitted(&spec) {
                        self.put(spec, placement, charges);
                        self.store.renew(key, expires);
                    }
                }
                Err(_) => {}
            }
        }
        false
    }

    fn loads(&self) -> BTreeMap<Arc<LinkId>, Load> {
        let loads = self.store.ledger().iter();
        loads.map(|(link, load)| (link.clone(), load)).collect()
    }
}

pub(super) fn key(name: u8) -> SessionKey {
    session_key("key", "agent", &name.to_string()).unwrap()
}

impl Store {
    /// What links are said to have is what their sessions take.
    pub(crate) fn check_loads(&self) {
        let mut counted: BTreeMap<Arc<LinkId>, Load> = BTreeMap::new();
        for session in self.after(None) {
            for (link, bps) in session.charges.iter() {
                let load = counted.entry(link.clone()).or_default();
                load.bps += u128::from(bps);
                load.squares += u128::from(bps) * u128::from(bps);
                load.sessions += 1;
            }
        }
        let loads: BTreeMap<_, _> = self
            .ledger()
            .iter()
            .map(|(link, load)| (link.clone(), load))
            .collect();
        assert_eq!(loads, counted);
        let preemptable = self.after(None).filter(|it| it.spec.preemptable);
        let pairs = preemptable.flat_map(|session| {
            let links = session.charges.iter();
            links.map(|(link, _)| (link.clone(), session.spec.key.clone()))
        });
        assert_eq!(self.candidates().pairs(), pairs.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 2, ..ProptestConfig::default() })]

    #[test]
    fn no_link_is_promised_more_than_it_has(
        steps in prop::collection::vec(step(), 1..120),
        policy in prop_oneof![Just(Policy::ByLink), Just(hoeffding())],
    ) {
        let mut world = World {
            registry: Registry::new(8),
            store: Store::default(),
            changing: HashMap::new(),
            attachments: 0,
            now: Moment::default(),
            policy,
        };
        for at in 0..3 {
            world.attach(at, u8::try_from(at).unwrap(), [1_000_000; 3], at);
        }
        for step in steps {
            let before = world.loads();
            let told = format!("{step:?}");
            let is_admission = world.make(step);
            world.store.check_loads();
            for (link, load) in world.loads() {
                let was = before.get(&link).copied().unwrap_or_default();
                let budget = budget_bps(&world.registry, &link);
                let is_no_more = load.bps <= was.bps && load.squares <= was.squares;
                prop_assert!(
                    !is_admission || is_no_more || budget == 0 || policy.fits(load, budget),
                    "{told}: {link}: {load:?} after {was:?}, of {budget}"
                );
            }
            let leased = world.store.after(None).filter(|it| it.expires.is_some()).count();
            prop_assert!(world.store.leases().len() <= leased);
        }
        // All that is reserved can be given back.
        let changing: Vec<_> = world.changing.drain().collect();
        for (key, it) in changing {
            world.store.charge(&key, it.former);
        }
        for name in 0..12 {
            world.store.remove(&key(name));
        }
        prop_assert_eq!(world.store.ledger().iter().count(), 0);
        prop_assert!(world.store.leases().is_empty());
    }

    #[test]
    fn the_longest_prefix_is_that_of_a_scan(
        nets in prop::collection::vec((any::<u32>(), 0_u8..=32, any::<bool>()), 0..40),
        address in any::<u32>(),
        near in 0_usize..40,
    ) {
        let mut prefixes: Vec<IpNet> = nets
            .iter()
            .map(|(bits, length, v6)| {
                let net = if *v6 {
                    IpNet::new(std::net::Ipv6Addr::from_bits(u128::from(*bits) << 96).into(), *length)
                } else {
                    IpNet::new(std::net::Ipv4Addr::from_bits(*bits).into(), *length)
                };
                net.unwrap().trunc()
            })
            .collect();
        // Some in each other.
        let inner: Vec<IpNet> = prefixes
            .iter()
            .filter_map(|net| IpNet::new(net.network(), net.prefix_len() / 2).ok())
            .map(|net| net.trunc())
            .collect();
        prefixes.extend(inner);
        prefixes.sort_unstable();
        prefixes.dedup();
        let near = prefixes.get(near).map(IpNet::broadcast);
        let address = near.unwrap_or_else(|| std::net::Ipv4Addr::from_bits(address).into());
        let scan = prefixes.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len());
        prop_assert_eq!(longest(&prefixes, address), scan.copied());
    }
}
