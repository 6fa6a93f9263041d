//! The server's program and routers, killed in turn at random moments under changes: no acknowledged session is
//! lost, none that was deleted comes back, no link is over its budget, and at rest routers have what is desired.
//!
//! 10 rounds, or as many as VOICELANE_ROUNDS says. VOICELANE_SEED repeats the moments of a run.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::killed::{Program, all, table};
use crate::common::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::tempdir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};

/// Changes a second of all workers.
pub(crate) const WORKERS: u16 = 8;
pub(crate) const EVERY: Duration = Duration::from_millis(40);
/// Sessions that a worker changes.
pub(crate) const SLOTS: u16 = 40;
/// Room for two thirds of the sessions, with the reserve.
const BUDGET: u64 = 99_504 * 240;
/// How long routers may take to have what is desired, at rest.
pub(crate) const AT_REST: Duration = Duration::from_secs(10);

/// What an agent knows of its sessions: the revisions that each may have; 0: it may be absent.
pub(crate) type Ledger = BTreeMap<String, Vec<u64>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Server,
    Router(usize),
    ServerAndRouter(usize),
}

struct World {
    folder: tempfile::TempDir,
    routers: [FakeRouter; 2],
    streams: [Option<Stream>; 2],
    server: Program,
    ledger: Arc<Mutex<Ledger>>,
    rng: StdRng,
}

pub(crate) fn router(index: usize) -> FakeRouter {
    let (id, own, other) = [
        ("a", "10.1.0.0/24", "10.2.0.0/24"),
        ("b", "10.2.0.0/24", "10.1.0.0/24"),
    ][index];
    let router = FakeRouter::new(id).capacity(1_000_000);
    let wan = v1::Interface {
        ef_budget_bps: BUDGET,
        ..core("wan0", &[other])
    };
    router.set_interfaces(vec![edge("lan0", &[own]), wan]);
    router
}

async fn operator(server: &Program) -> OperatorClient<Channel> {
    let url = format!("http://{}", server.address);
    OperatorClient::connect(url).await.unwrap()
}

/// No link is over its budget; absent when the server is gone.
pub(crate) async fn within_budgets(operator: &mut OperatorClient<Channel>) -> Option<()> {
    let links = operator.list_links(v1::ListLinksRequest::default()).await;
    for link in links.ok()?.into_inner().links {
        assert!(
            link.budget_bps == 0 || link.admitted_bps <= link.budget_bps,
            "{link:?}"
        );
    }
    Some(())
}

/// Whether an error tells that nothing was done.
pub(crate) fn is_refusal(status: &Status) -> bool {
    // The second: a router was lost, or is away.
    match status.code() {
        Code::ResourceExhausted => true,
        Code::Unavailable => status.message().contains("router"),
        _ => false,
    }
}

/// Adds, modifies and deletes until it is told to end, or the server is gone.
async fn work(
    mut client: SessionsClient<Channel>,
    worker: u16,
    ledger: Arc<Mutex<Ledger>>,
    ends: Arc<AtomicBool>,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed ^ u64::from(worker));
    while !ends.load(SeqCst) {
        sleep(EVERY).await;
        let slot = rng.random_range(0..SLOTS);
        let name = format!("{worker}-{slot}");
        let known = ledger
            .lock()
            .unwrap()
            .get(&name)
            .cloned()
            .unwrap_or(vec![0]);
        let [is] = known[..] else {
            unreachable!("it is known when a round begins: {known:?}")
        };
        let port = 2_000 + 2 * (worker * SLOTS + slot);
        let mut spec = call(&name, port);
        let (wanted, done) = match is {
            0 => (1, add(&mut client, spec).await.map(drop)),
            _ if rng.random_bool(0.5) => (0, delete(&mut client, &name).await.map(drop)),
            _ => {
                spec.revision = is + 1;
                spec.priority = rng.random_range(3..15);
                (is + 1, modify(&mut client, spec).await.map(drop))
            }
        };
        let may_be = match done {
            Ok(()) => vec![wanted],
            Err(status) if is_refusal(&status) => vec![is],
            Err(status) => {
                let lost = [
                    Code::Unavailable,
                    Code::Unknown,
                    Code::Cancelled,
                    Code::Internal,
                ];
                assert!(lost.contains(&status.code()), "{name}: {status:?}");
                ledger.lock().unwrap().insert(name, vec![is, wanted]);
                return;
            }
        };
        ledger.lock().unwrap().insert(name, may_be);
    }
}

impl World {
    async fn start(seed: u64) -> Self {
        let folder = tempdir().unwrap();
        let server = Program::on(folder.path());
        let mut world = Self {
            folder,
            routers: [router(0), router(1)],
            streams: [None, None],
            server,
            ledger: Arc::default(),
            rng: StdRng::seed_from_u64(seed),
        };
        world.attach(0).await;
        world.attach(1).await;
        world
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    async fn attach(&mut self, index: usize) {
        let stream = self.routers[index].attach(self.server.address).await;
        self.streams[index] = Some(stream);
    }

    /// The process of a router ends, with all that it had.
    fn kill_router(&mut self, index: usize) {
        if let Some(stream) = self.streams[index].take() {
            stream.cut();
        }
        self.routers[index] = router(index);
    }

    fn kill_server(&mut self) {
        self.server.child.kill().unwrap();
        self.server.child.wait().unwrap();
    }

    async fn pause(&mut self, most_ms: u64) {
        let pause = self.rng.random_range(0..most_ms);
        sleep(Duration::from_millis(pause)).await;
    }

    async fn round(&mut self, number: u32, victim: Victim) {
        let ends: Arc<AtomicBool> = Arc::default();
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let client = self.server.client().await;
            let (ledger, ends) = (self.ledger.clone(), ends.clone());
            workers.spawn(work(client, worker, ledger, ends, self.rng.random()));
        }
        let mut watching = operator(&self.server).await;
        let watcher = tokio::spawn(async move {
            while within_budgets(&mut watching).await.is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        self.pause(1_000).await;
        match victim {
            Victim::Server => self.kill_server(),
            Victim::Router(index) => {
                self.kill_router(index);
                self.pause(300).await;
                self.attach(index).await;
                self.pause(300).await;
            }
            Victim::ServerAndRouter(index) => {
                self.kill_server();
                self.kill_router(index);
            }
        }
        ends.store(true, SeqCst);
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
        if !matches!(victim, Victim::Router(_)) {
            self.server = Program::on(self.dir());
            // What it read is within budgets before anybody comes back.
            within_budgets(&mut operator(&self.server).await)
                .await
                .unwrap();
            for index in 0..2 {
                self.pause(100).await;
                self.attach(index).await;
            }
        }
        self.at_rest(number, victim).await;
        watcher.abort();
        if let Err(error) = watcher.await {
            assert!(error.is_cancelled(), "round {number}: {error}");
        }
    }

    /// The server has what was acknowledged, and routers have that and no more.
    async fn at_rest(&self, number: u32, victim: Victim) {
        let desired = all(&mut self.server.client().await).await;
        for (name, may_be) in self.ledger.lock().unwrap().iter_mut() {
            let is = desired.get(name).copied().unwrap_or(0);
            assert!(
                may_be.contains(&is),
                "round {number}, {victim:?} killed: {name} is {is}, not of {may_be:?}"
            );
            *may_be = vec![is];
        }
        let began = Instant::now();
        let tables = || self.routers.each_ref().map(table);
        let settled = async {
            while tables().iter().any(|table| *table != desired) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(AT_REST, settled).await.is_err() {
            let [a, b] = tables();
            panic!("round {number}, {victim:?} killed: desired {desired:?}, a has {a:?}, b {b:?}");
        }
        eprintln!(
            "round {number}: {victim:?} killed, {} sessions, at rest after {:?}",
            desired.len(),
            began.elapsed()
        );
        within_budgets(&mut operator(&self.server).await)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_nothing_is_lost_or_brought_back_and_no_link_is_over_its_budget() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("VOICELANE_SEED").unwrap_or_else(rand::random);
    let rounds = number("VOICELANE_ROUNDS").unwrap_or(10);
    eprintln!("VOICELANE_SEED={seed}");
    let mut world = World::start(seed).await;
    for round in 0..u32::try_from(rounds).unwrap() {
        let victim = match round % 5 {
            0 | 3 => Victim::Server,
            1 => Victim::Router(0),
            2 => Victim::Router(1),
            _ => Victim::ServerAndRouter(usize::from(round % 2 == 0)),
        };
        world.round(round, victim).await;
    }
    let known = world.ledger.lock().unwrap().len();
    assert!(known > 50, "only {known} sessions were ever changed");
}
