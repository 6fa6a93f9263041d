//! Servers and members of etcd, killed in turn at random moments under 200 changes a second: no acknowledged
//! session is lost, none that was deleted comes back, no link is over its budget, and at rest routers have what
//! is desired.
//!
//! 10 rounds, or as many as VOICELANE_ROUNDS says. VOICELANE_SEED repeats the moments of a run.

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};
use tonic::Status;
use voicelane_proto::v1::operator_client::OperatorClient;

use super::world::{Caller, LONG, World, is_lost};
use crate::{
    common::*,
    store::{
        killed::table,
        killed_rounds::{AT_REST, EVERY, Ledger, SLOTS, WORKERS, is_refusal, within_budgets},
    },
};

/// Changes that are acknowledged before the victim comes back: those of a second.
const CHANGES: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Leader,
    Standby(usize),
    Member(usize),
}

/// What the workers of a round share.
#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    acknowledged: AtomicU64,
    ends: AtomicBool,
}

/// Adds, modifies and deletes until it is told to end, whatever becomes of servers. What became of a change that
/// got no answer is not known before all is at rest; the session is left alone until then.
async fn work(mut caller: Caller, worker: u16, shared: Arc<Shared>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !shared.ends.load(SeqCst) {
        sleep(EVERY).await;
        let slot = rng.random_range(0..SLOTS);
        let name = format!("{worker}-{slot}");
        let known = shared.ledger.lock().unwrap().get(&name).cloned();
        let [is] = known.unwrap_or(vec![0])[..] else {
            continue;
        };
        let mut spec = call(&name, 2_000 + 2 * (worker * SLOTS + slot));
        let gone = name.clone();
        let (wanted, done) = match is {
            0 => {
                let add = async |mut it| add(&mut it, spec).await.map(drop);
                (1, caller.once(add).await)
            }
            _ if rng.random_bool(0.5) => {
                let delete = async |mut it| delete(&mut it, &gone).await.map(drop);
                (0, caller.once(delete).await)
            }
            _ => {
                spec.revision = is + 1;
                spec.priority = rng.random_range(3..15);
                let modify = async |mut it| modify(&mut it, spec).await.map(drop);
                (is + 1, caller.once(modify).await)
            }
        };
        let may_be = match done {
            Ok(()) => {
                shared.acknowledged.fetch_add(1, SeqCst);
                vec![wanted]
            }
            Err(status) if is_refusal(&status) => vec![is],
            Err(status) => {
                assert!(is_lost(&status), "{name}: {status:?}");
                vec![is, wanted]
            }
        };
        shared.ledger.lock().unwrap().insert(name, may_be);
    }
}

/// Looks at all links' loads, of whichever server leads.
async fn look_at_links(caller: &mut Caller) -> Result<(), Status> {
    let look = async |channel| {
        let mut operator = OperatorClient::new(channel);
        let looked = within_budgets(&mut operator).await;
        looked.ok_or(Status::unavailable("it does not lead"))
    };
    caller.once_on(look).await
}

/// Kills one at a random moment, and starts it again when changes go on.
async fn round(
    world: &mut World,
    number: u32,
    victim: Victim,
    shared: &Arc<Shared>,
    rng: &mut StdRng,
) {
    shared.ends.store(false, SeqCst);
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let caller = world.caller();
        workers.spawn(work(caller, worker, shared.clone(), rng.random()));
    }
    let (mut watching, ends) = (world.caller(), shared.clone());
    workers.spawn(async move {
        while !ends.ends.load(SeqCst) {
            // Nobody leads now and then.
            let _ = look_at_links(&mut watching).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    sleep(Duration::from_millis(rng.random_range(0..1_000))).await;
    let leader = world.leader().await;
    let killed = match victim {
        Victim::Leader => &mut world.servers[leader],
        Victim::Standby(after) => &mut world.servers[(leader + after) % 3],
        Victim::Member(member) => &mut world.etcd.members[member],
    };
    killed.kill();
    let (began, before) = (Instant::now(), shared.acknowledged.load(SeqCst));
    while shared.acknowledged.load(SeqCst) < before + CHANGES {
        assert!(began.elapsed() < LONG, "{number}, {victim:?}: no changes");
        sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    killed.again();
    shared.ends.store(true, SeqCst);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let (sessions, rests) = at_rest(world, number, victim, &shared.ledger).await;
    eprintln!(
        "round {number}: {victim:?} killed, {CHANGES} changes after {took:?}, {sessions} sessions, at rest after {rests:?}"
    );
}

/// The leader has what was acknowledged, and routers come to have that and no more. Tells how many sessions there
/// are, and how long it took.
async fn at_rest(
    world: &World,
    number: u32,
    victim: Victim,
    ledger: &Mutex<Ledger>,
) -> (usize, Duration) {
    let (began, mut caller) = (Instant::now(), world.caller());
    let desired = loop {
        let desired = caller.all().await;
        for (name, may_be) in ledger.lock().unwrap().iter() {
            let is = desired.get(name).copied().unwrap_or(0);
            assert!(
                may_be.contains(&is),
                "round {number}, {victim:?} killed: {name} is {is}, not of {may_be:?}"
            );
        }
        let tables = [&world.a, &world.b].map(table);
        if tables.iter().all(|table| *table == desired) {
            break desired;
        }
        assert!(
            began.elapsed() < AT_REST,
            "round {number}, {victim:?} killed: desired {desired:?}, routers have {tables:?}"
        );
        sleep(Duration::from_millis(20)).await;
    };
    let took = began.elapsed();
    for (name, may_be) in ledger.lock().unwrap().iter_mut() {
        *may_be = vec![desired.get(name).copied().unwrap_or(0)];
    }
    while look_at_links(&mut caller).await.is_err() {
        assert!(began.elapsed() < LONG, "nobody leads");
    }
    (desired.len(), took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_server_or_member_of_etcd_is_killed_nothing_is_lost_or_brought_back() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("VOICELANE_SEED").unwrap_or_else(rand::random);
    let rounds = u32::try_from(number("VOICELANE_ROUNDS").unwrap_or(10)).unwrap();
    eprintln!("VOICELANE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::start(3, 3).await;
    let shared: Arc<Shared> = Arc::default();
    for number in 0..rounds {
        let victim = match number % 5 {
            0 | 3 => Victim::Leader,
            2 => Victim::Standby(rng.random_range(1..3)),
            _ => Victim::Member(rng.random_range(0..3)),
        };
        round(&mut world, number, victim, &shared, &mut rng).await;
    }
    let known = shared.ledger.lock().unwrap().len();
    assert!(known > 50, "only {known} sessions were ever changed");
}
