//! What is done under one hold of the lock is bounded, however much there is of everything.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    Command, Engine, Holds, Latched, Link, Outgoing, Settings, ToRouter, calls::moves::Lane,
    routers::link::Patience,
};
use crate::model::{
    course::Path,
    entries::{FlowKind, expand},
    ids::{Fingerprint, Revision, RouterId, SessionKey, UnixMs},
    links::Charges,
    placement::{place, shares},
    registry::{Identity, Interface, Location, Role},
    session::{Learned, MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, SessionState, Terms},
    store::{Installation, Phase, RecordId, Reported, Session},
    work,
};

impl Engine {
    /// What a router is to have.
    pub(crate) fn wanted_on(&self, id: &RouterId) -> BTreeMap<SessionKey, (Revision, Fingerprint)> {
        let state = self.lock();
        let keys = state.store.keys_on(id, None);
        let wanted = keys.filter_map(|key| {
            let session = state.store.get(key)?;
            let fingerprint = session.installations.get(id)?.fingerprint;
            Some((key.clone(), (session.spec.revision, fingerprint)))
        });
        wanted.collect()
    }

    /// All sessions.
    pub(crate) fn revisions(&self) -> BTreeMap<SessionKey, u64> {
        let state = self.lock();
        let all = state.store.after(None);
        all.map(|it| (it.spec.key.clone(), it.spec.revision.get()))
            .collect()
    }

    /// What is taken of links is what sessions take, and of core links no more than the budget.
    pub(crate) fn check_loads(&self, budget_bps: u64) {
        let state = self.lock();
        state.store.check_loads();
        for (link, load) in state.store.ledger().iter() {
            let is_limited = link.port.starts_with("wan");
            assert!(
                !is_limited || load.bps <= budget_bps.into(),
                "{load:?} {link}"
            );
        }
    }
}

const PREFIXES: u32 = 500_000;
/// Keys that a hold of the lock may look at. 2,000 take half a millisecond where they are farthest
/// apart.
const MOST: u64 = 2_000;

static LONGEST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The steps of this thread before it took the lock.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

fn engine() -> Arc<Engine> {
    Engine::start(Settings {
        adopt_for: Duration::ZERO,
        retry_every: Duration::from_secs(3_600),
        holds: Some(Holds {
            taken: |_| TAKEN.set(work::steps()),
            given: || {
                let steps = work::steps() - TAKEN.get();
                LONGEST.fetch_max(steps, Ordering::Relaxed);
            },
        }),
        ..Settings::default()
    })
}

#[track_caller]
fn held_briefly(what: &str) {
    let longest = LONGEST.swap(0, Ordering::Relaxed);
    eprintln!("{what}: {longest}");
    assert!(longest < MOST, "{what}: {longest} keys under one hold");
}

fn id(name: &str) -> RouterId {
    RouterId::parse("id", name).unwrap()
}

fn identity(name: &str) -> Identity {
    Identity {
        id: id(name),
        epoch: 1,
        software_version: String::new(),
        entry_capacity: 0,
    }
}

fn edge(name: &str, prefixes: Vec<IpNet>) -> Interface {
    Interface {
        name: name.into(),
        role: Role::Edge,
        up: true,
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

/// Half a million addresses from 10.1.0.0 on, each a prefix.
fn hosts() -> Vec<IpNet> {
    let host = |index| Ipv4Addr::from(0x0a01_0000 + index);
    let hosts = (0..PREFIXES).map(|index| Ipv4Net::new_assert(host(index), 32));
    hosts.map(IpNet::V4).collect()
}

async fn attach(
    engine: &Arc<Engine>,
    name: &str,
    interfaces: Vec<Interface>,
    has: BTreeMap<SessionKey, Reported>,
) -> (Arc<Link>, Outgoing) {
    let attached = engine.attach(identity(name), String::new(), interfaces, has);
    attached.await.unwrap()
}

fn locate(engine: &Engine, last: u8) -> Option<Arc<Location>> {
    let address = IpAddr::from([10, 1, 0, last]);
    let now = UnixMs(0);
    engine.lock().registry.locate(address, now).ok()
}

/// Through which interface the first and the last of the hosts are reached.
fn ends(engine: &Engine) -> [String; 2] {
    let state = engine.lock();
    [0, PREFIXES - 1].map(|index| {
        let address = Ipv4Addr::from(0x0a01_0000 + index).into();
        let at = state.registry.locate(address, UnixMs(0)).unwrap();
        at.ingress().to_string()
    })
}

#[tokio::test]
async fn half_a_million_prefixes_change_in_slices_and_all_at_once_for_those_who_look() {
    let engine = engine();
    let wide = vec![edge("wide", vec!["10.0.0.0/8".parse().unwrap()])];
    let (_b, _b_messages) = attach(&engine, "b", wide, BTreeMap::new()).await;
    assert_eq!(&*locate(&engine, 1).unwrap().interface, "wide");
    // Looks whenever the lock is free: where the first and the last of the prefixes are.
    let seen = tokio::spawn({
        let engine = engine.clone();
        async move {
            let mut seen: Vec<String> = Vec::new();
            while seen.last().is_none_or(|it| it != "*") {
                let [first, last] = ends(&engine);
                assert_eq!(first, last);
                if seen.last() != Some(&first) {
                    seen.push(first);
                }
                tokio::task::yield_now().await;
            }
            seen
        }
    });
    let (a, _a_messages) = attach(&engine, "a", vec![edge("lan0", hosts())], BTreeMap::new()).await;
    held_briefly("attach");
    engine.report(&a, vec![edge("lan1", hosts())]);
    while &*locate(&engine, 0).unwrap().interface != "lan1" {
        tokio::task::yield_now().await;
    }
    drop(engine.reports.lock().await);
    held_briefly("report");
    // A new stream of it, with other interfaces again.
    let both = vec![edge("lan1", hosts()), edge("lan2", hosts())];
    let (a, _a_messages) = attach(&engine, "a", both, BTreeMap::new()).await;
    held_briefly("attach again");
    assert_eq!(seen.await.unwrap(), ["wide", "lan0", "lan1", "*"]);
    engine.detach(&a, "cut");
    held_briefly("detach");
    assert_eq!(locate(&engine, 1), None);
    engine.forget_router(&id("a")).await.unwrap();
    assert_eq!(&*locate(&engine, 1).unwrap().interface, "wide");
    held_briefly("forget");
}

/// A call one way, with a five-tuple that no other has.
fn spec(index: u32) -> SessionSpec {
    let [_, high, middle, low] = index.to_be_bytes();
    let end = |net| SocketAddr::from(([10, net, middle, low], 4_000 + u16::from(high)));
    let path = Path::parse("flow", end(1), end(2)).unwrap();
    let terms = Terms::Policer {
        rate: RateBps::parse("rate", 80_000).unwrap(),
        burst: None,
    };
    let flow = MediaFlow::new(path, terms, Rtcp::None);
    let key = SessionKey::new("agent", &format!("call-{index:06}")).unwrap();
    SessionSpec::new(key, Revision::FIRST, vec![flow], ServiceClass::Telephony)
}

/// As it stands when its routers have to be told again; what a router has of it.
fn put(engine: &Engine, index: u32) -> (SessionKey, Reported) {
    let spec = Arc::new(spec(index));
    let key = spec.key.clone();
    let entries = expand(&spec);
    let mut state = engine.lock();
    let placement = place(&spec, &[], &state.registry, UnixMs(0)).unwrap();
    let shares = shares(&placement, &entries);
    let has = Reported {
        revision: 1,
        fingerprint: shares[&id("a")].fingerprint,
    };
    let installations = shares.iter();
    let installations = installations.map(|(id, share)| (id.clone(), Installation::of(share)));
    state.store.reserve(&key, &entries).unwrap();
    let charges = Charges::of(&spec, &[], &placement, &state.registry);
    state.store.put(Session {
        learned: Box::default(),
        heard: Box::default(),
        charges,
        expires: None,
        spec,
        placement,
        installations: installations.collect(),
        phase: Phase::Settled,
        problem: None,
        created: UnixMs(0),
        updated: UnixMs(0),
        told: Some(SessionState::Degraded),
        record: RecordId::default(),
        agent_has_lease: false,
    });
    (key, has)
}

#[tokio::test]
async fn sessions_are_looked_at_in_slices_at_any_size() {
    for sessions in [2_000, 20_000, 200_000] {
        look_at_all(sessions).await;
    }
}

async fn look_at_all(sessions: u32) {
    eprintln!("{sessions} sessions");
    let engine = engine();
    let lan = |net: u8| {
        vec![edge(
            "lan",
            vec![format!("10.{net}.0.0/16").parse().unwrap()],
        )]
    };
    let (_b, _b_messages) = attach(&engine, "b", lan(2), BTreeMap::new()).await;
    let (a, _a_messages) = attach(&engine, "a", lan(1), BTreeMap::new()).await;
    let has: BTreeMap<_, _> = (0..sessions).map(|index| put(&engine, index)).collect();
    held_briefly("put");
    {
        let mut state = engine.lock();
        for key in has.keys().filter(|key| key.session().ends_with('7')) {
            state.unsettled.insert(key.clone());
            state.refused.insert((key.clone(), id("a")));
        }
    }
    LONGEST.store(0, Ordering::Relaxed);
    // Comes back with all of it.
    engine.detach(&a, "cut");
    let (a, mut messages) = attach(&engine, "a", lan(1), has).await;
    while let Some(message) = messages.recv().await {
        match message {
            ToRouter::Welcome { .. } => {}
            ToRouter::Synchronised(summary) => {
                assert_eq!(summary.unchanged, u64::from(sessions));
                break;
            }
            ToRouter::Command { id, .. } => drop(a.answer(id, Ok(Vec::new()))),
        }
    }
    held_briefly("synchronise");
    engine.report(
        &a,
        vec![edge("other", vec!["10.1.0.0/17".parse().unwrap()])],
    );
    // The one that follows may be woken for it, too.
    let is_taken = || {
        let state = engine.lock();
        let a = state.registry.router(&id("a")).unwrap();
        &*a.interfaces[0].name == "other"
    };
    while !is_taken() {
        tokio::task::yield_now().await;
    }
    super::calls::follow::walk(&engine).await;
    held_briefly("follow");
    let snapshot = engine.snapshot().await;
    assert_eq!(
        snapshot.sessions.iter().map(|it| it.1).sum::<u64>(),
        u64::from(sessions)
    );
    held_briefly("snapshot");
    for lane in [Lane::Ordinary, Lane::Mute] {
        super::routers::retry::due(&engine, lane).await;
    }
    held_briefly("retry");
    let mut watcher = engine.watch(None, true).unwrap();
    let state = engine.sessions(None, None, 64);
    assert_eq!((state.total, state.more), (u64::from(sessions), true));
    for _ in 0..sessions {
        watcher.next().await.unwrap();
    }
    held_briefly("watch");
    engine.detach(&a, "cut");
    held_briefly("lose");
}

/// A router attached again, and what it wrote to the stream that it had before is still under way.
#[tokio::test]
async fn what_a_former_stream_brings_changes_nothing() {
    let engine = engine();
    let lan = |name| vec![edge(name, vec!["10.1.0.0/16".parse().unwrap()])];
    let (former, _former_messages) = attach(&engine, "a", lan("lan"), BTreeMap::new()).await;
    let (now, mut messages) = attach(&engine, "a", lan("lan"), BTreeMap::new()).await;
    let key = SessionKey::new("agent", "call").unwrap();
    let asked = tokio::spawn({
        let (now, key) = (now.clone(), key.clone());
        async move {
            let patience = Patience::WhileTheStreamLasts(Duration::from_secs(60));
            now.ask(Command::Read(key), patience).await
        }
    });
    let id = loop {
        if let ToRouter::Command { id, .. } = messages.recv().await.unwrap() {
            break id;
        }
    };
    // Both streams number their commands from 1 on.
    assert!(!former.answer(id, Ok(Vec::new())));
    engine.report(&former, lan("former"));
    engine.latched(
        &former,
        &Latched {
            key,
            learned: Learned {
                flow: 0,
                kind: FlowKind::Rtp,
                source: SocketAddr::from(([10, 1, 0, 5], 4_000)),
            },
            destination: SocketAddr::from(([10, 2, 0, 5], 4_000)),
        },
    );
    engine.detach(&former, "cut");
    // Until the report is taken.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(engine.reports.lock().await);
    assert_eq!(now.waiters(), 1, "the former answer is to another command");
    assert_eq!(&*locate(&engine, 1).unwrap().interface, "lan");
    {
        let state = engine.lock();
        assert_eq!(
            state.registry.attachment(&self::id("a")),
            Some(now.attachment())
        );
        assert!(state.links.contains_key(&self::id("a")));
    }
    assert!(now.answer(id, Ok(Vec::new())));
    assert_eq!(asked.await.unwrap(), Ok(Ok(Vec::new())));
}
