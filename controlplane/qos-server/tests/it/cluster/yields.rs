//! Servers that must not lead, or not any more: one that goes on after it was stopped, and one that is to stop.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use voicelane_proto::v1::sessions_client::SessionsClient;

use super::world::{Etcd, LONG, World, free, is_lost};
use crate::{common::*, store::killed::all_of};

/// Connections that ask at once.
const CLIENTS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_goes_on_answers_nothing_from_memory() {
    let world = World::start(1, 2).await;
    let mut caller = world.caller();
    caller.add("before", 4_000).await;
    let leader = world.leader().await;
    let url = format!("http://{}", world.addresses[leader]);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = SessionsClient::connect(url.clone()).await.unwrap();
        get(&mut client, "before").await.unwrap();
        clients.push(client);
    }
    world.servers[leader].signal(Signal::STOP);
    caller.add("while", 4_002).await;
    world.another_leads(leader).await;
    // What they ask waits in the kernel until the old leader goes on.
    let mut asked = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        asked.spawn(async move {
            let asking = async {
                match number % 3 {
                    0 => Ok(format!("{:?}", all_of(&mut client).await?)),
                    1 => Ok(format!("{:?}", get(&mut client, "before").await?)),
                    // It has this already.
                    _ => Ok(format!(
                        "{:?}",
                        modify(&mut client, call("before", 4_000)).await?
                    )),
                }
            };
            timeout(LONG, asking).await.expect("an answer or none")
        });
    }
    sleep(Duration::from_millis(500)).await;
    world.servers[leader].signal(Signal::CONT);
    while let Some(answer) = asked.join_next().await {
        match answer.unwrap() {
            Ok(answer) => panic!("it answers from memory when another server leads: {answer}"),
            Err(status) => assert!(is_lost(&status), "it refuses from memory: {status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_stops_is_not_elected() {
    let etcd = Etcd::start(1);
    let mut client = etcd.client().await;
    let other = "http://192.0.2.1:7400";
    let leader = format!(r#"{{"term":7,"url":"{other}"}}"#);
    eventually("etcd takes a leader", || {
        let (mut client, leader) = (client.clone(), leader.clone());
        async move { client.put("/voicelane/leader", leader, None).await.ok() }
    })
    .await;
    let address = free();
    let mut server = etcd.server(address);
    let url = format!("http://{address}");
    eventually("it stands by", || async {
        let mut sessions = SessionsClient::connect(url.clone()).await.ok()?;
        let status = get(&mut sessions, "c1").await.err()?;
        (status.code() == Code::Unavailable && status.message().contains(other)).then_some(())
    })
    .await;
    // A stream that holds up its end.
    let mut health = HealthClient::new(channel(address, None).await);
    let request = HealthCheckRequest::default();
    let _watching = health.watch(request).await.unwrap();
    server.signal(Signal::TERM);
    sleep(Duration::from_millis(30)).await;
    client.delete("/voicelane/leader", None).await.unwrap();
    let code = eventually("it ends", || {
        let code = server.ended();
        async move { code }
    })
    .await;
    assert_eq!(code, 0);
    let left = client.get("/voicelane/leader", None).await.unwrap();
    let left = left
        .kvs()
        .first()
        .map(|it| it.value_str().unwrap().to_owned());
    assert_eq!(left, None, "it was elected, and has ended");
}
