//! Whatever comes in whatever order: when it is quiet, each router has exactly what the server
//! wants it to have.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use tokio::task::JoinHandle;
use voicelane_server::{
    engine::{Command, Engine, Link, Settings, ToRouter},
    model::{
        course::Path,
        entries::expand,
        error::{Refusal, RefusalKind},
        ids::{Fingerprint, Revision, RouterId, SessionKey, session_key},
        placement::shares,
        registry::{Identity, Interface, Role},
        session::{MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, SessionState, Terms},
        store::Reported,
    },
};

const ROUTERS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Act {
    /// Session, revision, ports, from and to which network.
    Add(u8, u64, u16, u8, u8),
    Modify(u8, u64, u16, u8, u8),
    Delete(u8),
    Cut(usize),
    Attach(usize),
    /// A router's network moves to another.
    Move(usize, u8),
    /// A router refuses the next install.
    Sulk(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let session = || (0_u8..6, 1_u64..5, 0_u16..4, 0_u8..3, 0_u8..3);
    prop_oneof![
        5 => session().prop_map(|(s, r, p, from, to)| Act::Add(s, r, p, from, to)),
        4 => session().prop_map(|(s, r, p, from, to)| Act::Modify(s, r, p, from, to)),
        3 => (0_u8..6).prop_map(Act::Delete),
        1 => (0_usize..3).prop_map(Act::Cut),
        2 => (0_usize..3).prop_map(Act::Attach),
        1 => (0_usize..3, 0_u8..3).prop_map(|(router, net)| Act::Move(router, net)),
        1 => (0_usize..3).prop_map(Act::Sulk),
    ]
}

fn spec(session: u8, revision: u64, port: u16, from: u8, to: u8) -> SessionSpec {
    let end = |net: u8, last: u8| SocketAddr::from(([10, net, 0, last], 4000 + 2 * port));
    let path = Path::parse("flow", end(from, 1), end(to, 2)).unwrap();
    let terms = Terms::Policer {
        rate: RateBps::parse("rate", 80_000).unwrap(),
        burst: None,
    };
    SessionSpec::new(
        session_key("key", "agent", &session.to_string()).unwrap(),
        Revision::parse("revision", revision).unwrap(),
        vec![MediaFlow::new(path, terms, Rtcp::Mux)],
        ServiceClass::Telephony,
    )
}

type Table = BTreeMap<SessionKey, (u64, Fingerprint)>;

#[derive(Default)]
struct Router {
    table: Arc<Mutex<Table>>,
    sulks: Arc<Mutex<bool>>,
    synchronised: Arc<Mutex<bool>>,
    net: u8,
    stream: Option<(Arc<Link>, JoinHandle<()>)>,
}

impl Router {
    fn interfaces(&self) -> Vec<Interface> {
        vec![Interface {
            refused: Vec::new(),
            name: "lan0".into(),
            role: Role::Edge,
            up: true,
            addresses: Vec::new(),
            prefixes: vec![format!("10.{}.0.0/16", self.net).parse().unwrap()],
            rate_bps: 0,
            ef_budget_bps: 0,
            ef_ingress_budget_bps: 0,
            mtu_bytes: 1500,
            overhead_bytes: 0,
            vlan_id: 0,
            port: "lan0".into(),
        }]
    }

    fn cut(&mut self, engine: &Engine) {
        if let Some((link, task)) = self.stream.take() {
            task.abort();
            engine.detach(&link, "cut");
        }
    }

    async fn attach(&mut self, name: &str, engine: &Arc<Engine>) {
        if let Some((_, task)) = self.stream.take() {
            task.abort();
        }
        let identity = Identity {
            id: RouterId::parse("id", name).unwrap(),
            epoch: 1,
            software_version: String::new(),
            entry_capacity: 0,
        };
        let has: BTreeMap<_, _> = self
            .table
            .lock()
            .unwrap()
            .iter()
            .map(|(key, &(revision, fingerprint))| {
                (
                    key.clone(),
                    Reported {
                        revision,
                        fingerprint,
                    },
                )
            })
            .collect();
        *self.synchronised.lock().unwrap() = false;
        let (link, mut messages) = engine
            .attach(identity, "test".into(), self.interfaces(), has)
            .await
            .unwrap();
        let (table, sulks, synchronised) = (
            self.table.clone(),
            self.sulks.clone(),
            self.synchronised.clone(),
        );
        let answering = link.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let (id, command) = match message {
                    ToRouter::Welcome { .. } => continue,
                    ToRouter::Synchronised(_) => {
                        *synchronised.lock().unwrap() = true;
                        continue;
                    }
                    ToRouter::Command { id, command } => (id, command),
                };
                let reply = match command {
                    Command::Install { .. } if std::mem::take(&mut *sulks.lock().unwrap()) => {
                        Err(Refusal {
                            kind: RefusalKind::Internal,
                            detail: String::new(),
                            owner: None,
                        })
                    }
                    Command::Install {
                        key,
                        revision,
                        fingerprint,
                        ..
                    } => {
                        table
                            .lock()
                            .unwrap()
                            .insert(key, (revision.get(), fingerprint));
                        Ok(Vec::new())
                    }
                    Command::Remove(key) => {
                        table.lock().unwrap().remove(&key);
                        Ok(Vec::new())
                    }
                    Command::Read(_) => Ok(Vec::new()),
                };
                // Sometimes others come first.
                tokio::task::yield_now().await;
                answering.answer(id, reply);
            }
        });
        self.stream = Some((link, task));
    }
}

/// What the server wants on a router.
fn wanted(engine: &Engine, name: &str) -> Table {
    let id = RouterId::parse("id", name).unwrap();
    let sessions = engine.sessions(None, None, 1_000).sessions;
    let share = |session: &Arc<voicelane_server::engine::SessionView>| {
        let share = shares(&session.placement, &expand(&session.spec)).remove(&id)?;
        Some((
            session.spec.key.clone(),
            (session.spec.revision.get(), share.fingerprint),
        ))
    };
    sessions.iter().filter_map(share).collect()
}

async fn run(acts: Vec<Vec<Act>>, adopt_for: Duration) {
    let engine = Engine::start(Settings {
        adopt_for,
        acknowledge_timeout: Duration::from_secs(2),
        retry_every: Duration::from_millis(20),
        ..Settings::default()
    });
    let mut routers: Vec<Router> = Vec::new();
    for (net, name) in (0_u8..).zip(ROUTERS) {
        let mut router = Router {
            net,
            ..Router::default()
        };
        router.attach(name, &engine).await;
        routers.push(router);
    }
    for together in acts {
        let mut calls = Vec::new();
        for act in together {
            let engine = engine.clone();
            match act {
                Act::Add(s, r, p, from, to) => calls.push(tokio::spawn(async move {
                    let _ = engine.add(spec(s, r, p, from, to)).await;
                })),
                Act::Modify(s, r, p, from, to) => calls.push(tokio::spawn(async move {
                    let _ = engine.modify(spec(s, r, p, from, to)).await;
                })),
                Act::Delete(s) => calls.push(tokio::spawn(async move {
                    let _ = engine.delete(spec(s, 1, 0, 0, 1).key).await;
                })),
                Act::Cut(at) => routers[at].cut(&engine),
                Act::Attach(at) => routers[at].attach(ROUTERS[at], &engine).await,
                Act::Move(at, net) => {
                    routers[at].net = net;
                    if let Some((link, _)) = &routers[at].stream {
                        engine.report(link, routers[at].interfaces());
                    }
                }
                Act::Sulk(at) => *routers[at].sulks.lock().unwrap() = true,
            }
            tokio::task::yield_now().await;
        }
        for call in calls {
            call.await.unwrap();
        }
    }
    // Quiet: every router is there, none sulks, each has its own network. Those that
    // have a stream must have been kept right, or put right, without attaching again.
    for (at, name) in ROUTERS.iter().enumerate() {
        let router = &mut routers[at];
        *router.sulks.lock().unwrap() = false;
        router.net = u8::try_from(at).unwrap();
        match &router.stream {
            Some((link, _)) => engine.report(link, router.interfaces()),
            None => router.attach(name, &engine).await,
        }
    }
    let settled = async {
        loop {
            let right = routers.iter().zip(ROUTERS).all(|(router, name)| {
                *router.synchronised.lock().unwrap()
                    && *router.table.lock().unwrap() == wanted(&engine, name)
            });
            let sessions = engine.sessions(None, None, 1_000).sessions;
            if right && sessions.iter().all(|it| it.state == SessionState::Active) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), settled)
        .await
        .is_err()
    {
        let tables: Vec<_> = routers
            .iter()
            .map(|it| it.table.lock().unwrap().clone())
            .collect();
        let wants: Vec<_> = ROUTERS.iter().map(|name| wanted(&engine, name)).collect();
        let sessions = engine.sessions(None, None, 1_000).sessions;
        panic!("never settled:\nhave {tables:#?}\nwant {wants:#?}\nsessions {sessions:#?}");
    }
    // Nothing holds a five-tuple that no session has: all can be added anew.
    for session in engine.sessions(None, None, 1_000).sessions {
        engine.delete(session.spec.key.clone()).await.unwrap();
    }
    let links = engine.links(None, None, 1_000).unwrap();
    assert!(links.iter().all(|it| it.load.sessions == 0), "{links:#?}");
    for port in 0..4 {
        for from in 0..3 {
            for to in 0..3 {
                let id = u8::try_from(port * 9 + from * 3 + to).unwrap();
                let (from, to) = (u8::try_from(from).unwrap(), u8::try_from(to).unwrap());
                engine.add(spec(100 + id, 1, port, from, to)).await.unwrap();
            }
        }
    }
    engine.stop();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 5 / 8, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn routers_end_up_with_what_the_server_wants(
        acts in prop::collection::vec(prop::collection::vec(act(), 1..6), 1..16),
        adopt_for_ms in prop_oneof![Just(0_u64), 1_u64..30],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(acts, Duration::from_millis(adopt_for_ms)));
    }
}

/// The server is young, so it leaves in place what routers say they have; but what it took away
/// since they said so is not there any more.
#[tokio::test]
async fn what_is_deleted_while_its_router_comes_back_is_installed_when_it_is_added_again() {
    let engine = Engine::start(Settings {
        adopt_for: Duration::from_secs(600),
        ..Settings::default()
    });
    let mut router = Router::default();
    router.attach("a", &engine).await;
    let call = spec(1, 1, 0, 0, 0);
    engine.add(call.clone()).await.unwrap();
    router.attach("a", &engine).await;
    // Nothing was awaited, so this comes before the comparison with what the router has.
    engine.delete(call.key.clone()).await.unwrap();
    while !*router.synchronised.lock().unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(router.table.lock().unwrap().is_empty());
    engine.add(call).await.unwrap();
    assert_eq!(*router.table.lock().unwrap(), wanted(&engine, "a"));
}
