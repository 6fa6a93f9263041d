//! Several servers on a real etcd, each in a process of its own: what is left when one dies.

mod restored;
mod rounds;
mod world;
mod yields;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;
use tonic::Code;
use voicelane_proto::v1::{self, command::Command, sessions_client::SessionsClient};

use crate::{common::*, store::killed::table};
use world::{LONG, World, is_lost};

fn removals(router: &FakeRouter) -> usize {
    let log = router.log();
    log.iter()
        .filter(|command| matches!(command, Command::Remove(_)))
        .count()
}

/// etcd ends connections that are pinged too often, unless there is something to tell meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_follows_while_nothing_changes() {
    let world = World::start(1, 2).await;
    world.leader().await;
    sleep(Duration::from_secs(10)).await;
    for server in &world.servers {
        let log = server.log.lock().unwrap();
        assert!(!log.contains("the watch ended"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_killed_another_one_has_all_and_admits() {
    let mut world = World::start(1, 3).await;
    let mut caller = world.caller();
    for n in 0..50 {
        caller.add(&format!("c{n}"), 4_000 + 2 * n).await;
    }
    let leader = world.leader().await;
    let term = world.a.welcome().unwrap().term;
    assert!(term >= 1);
    let had = table(&world.a);
    for router in [&world.a, &world.b] {
        router.clear_log();
    }
    world.servers[leader].kill();
    let took = caller.add("first", 10_000).await;
    eprintln!("the first call was admitted {took:?} after the kill");
    let now = world.another_leads(leader).await;
    assert!(world.a.welcome().unwrap().term > term);
    let all = caller.all().await;
    assert_eq!(all.len(), 51);
    // Routers had all but the new one, and were told of nothing else.
    for router in [&world.a, &world.b] {
        assert_eq!(table(router), all);
        assert_eq!(
            (router.installs(), removals(router)),
            (1, 0),
            "{:?}",
            router.log()
        );
    }
    assert!(had.keys().all(|name| all.contains_key(name)));
    // The one that was killed comes back and stands by; it names the leader.
    world.servers[leader].again();
    let url = format!("http://{}", world.addresses[now]);
    eventually("the old leader stands by", || async {
        let status = world.said_by(leader).await?;
        (status.code() == Code::Unavailable
            && status
                .metadata()
                .get(voicelane_identity::servers::LEADER)
                .is_some_and(|it| it == url.as_str()))
        .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_and_goes_on_is_fenced() {
    let world = World::start(1, 3).await;
    let mut caller = world.caller();
    caller.add("before", 4_000).await;
    let leader = world.leader().await;
    world.servers[leader].signal(Signal::STOP);
    let mut other = world.caller();
    other.add("while", 4_002).await;
    let now = world.another_leads(leader).await;
    assert_ne!(now, leader);
    sleep(Duration::from_secs(5)).await;
    world.servers[leader].signal(Signal::CONT);
    // It is asked at once; whatever it says, it has added nothing.
    let mut client = SessionsClient::connect(format!("http://{}", world.addresses[leader]))
        .await
        .unwrap();
    let added = tokio::time::timeout(LONG, add(&mut client, call("stale", 4_004))).await;
    assert!(!matches!(added, Ok(Ok(_))), "{added:?}");
    eventually("the old leader stands by", || async {
        let status = world.said_by(leader).await?;
        status.message().contains("stands by").then_some(())
    })
    .await;
    assert_eq!(world.leader().await, now);
    let all = other.all().await;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["before", "while"]);
    assert_eq!(table(&world.a), all);
    // The new leader has etcd forget what was before it, though it leads for some seconds only.
    let mut client = world.etcd.client().await;
    let mut port = 5_000;
    let forgets = async {
        loop {
            other.add(&format!("c{port}"), port).await;
            port += 2;
            let of_the_former = etcd_client::GetOptions::new().with_revision(2);
            match client.get("/voicelane/head", Some(of_the_former)).await {
                Ok(_) => sleep(Duration::from_millis(50)).await,
                Err(error) => break error.to_string(),
            }
        }
    };
    let forgotten = tokio::time::timeout(LONG, forgets).await.unwrap();
    assert!(forgotten.contains("compacted"), "{forgotten}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_nothing_changes_and_calls_stay() {
    let world = World::start(1, 2).await;
    let mut caller = world.caller();
    caller.add("before", 4_000).await;
    let had = table(&world.a);
    for router in [&world.a, &world.b] {
        router.clear_log();
    }
    world.etcd.members[0].signal(Signal::STOP);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        let added = caller
            .once(|mut it| async move { add(&mut it, call("never", 4_002)).await })
            .await;
        assert!(is_lost(&added.unwrap_err()));
    }
    assert_eq!(table(&world.a), had);
    world.etcd.members[0].signal(Signal::CONT);
    caller.add("after", 4_004).await;
    let all = caller.all().await;
    assert!(
        all.contains_key("before") && all.contains_key("after"),
        "{all:?}"
    );
    assert_eq!(removals(&world.a), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_well_hands_over_at_once() {
    let mut world = World::start(1, 3).await;
    let mut caller = world.caller();
    caller.add("before", 4_000).await;
    let leader = world.leader().await;
    let began = Instant::now();
    world.servers[leader].signal(Signal::TERM);
    let now = world.another_leads(leader).await;
    eprintln!("another server leads {:?} after SIGTERM", began.elapsed());
    caller.add("after", 4_002).await;
    eprintln!(
        "the first call was admitted {:?} after SIGTERM",
        began.elapsed()
    );
    assert_ne!(now, leader);
    eventually("it ends well", || {
        let code = world.servers[leader].ended();
        async move { code.filter(|code| *code == 0) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_starts_leases_afresh() {
    let mut world = World::start(1, 2).await;
    let mut caller = world.caller();
    caller.add("c1", 4_000).await;
    let lease = v1::SessionSpec {
        revision: 2,
        lifetime_s: 600,
        ..call("c1", 4_000)
    };
    let renewed = async |mut it| modify(&mut it, lease).await;
    caller.once(renewed).await.unwrap();
    let before = caller.get("c1").await.expires_unix_ms.unwrap();
    let leader = world.leader().await;
    world.servers[leader].kill();
    let after = caller.get("c1").await.expires_unix_ms.unwrap();
    // Another one led 3 s after the kill at the earliest.
    assert!(after > before + 2_000, "{before}, then {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_not_committed_are_a_loud_error() {
    let mut world = World::start(1, 1).await;
    let mut caller = world.caller();
    caller.add("c1", 4_000).await;
    let mut client = world.etcd.client().await;
    world.servers[0].kill();
    let options = etcd_client::DeleteOptions::new().with_prefix();
    client.delete("/voicelane/s/", Some(options)).await.unwrap();
    world.servers[0].again();
    let began = Instant::now();
    let code = loop {
        if let Some(code) = world.servers[0].ended() {
            break code;
        }
        assert!(began.elapsed() < LONG);
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(code, 3);
    let log = world.servers[0].log.lock().unwrap().clone();
    for part in [
        "damaged",
        "3 records were committed",
        "it has 2",
        "snapshot",
    ] {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
    assert!(world.a.has("c1"), "it was removed");
}
