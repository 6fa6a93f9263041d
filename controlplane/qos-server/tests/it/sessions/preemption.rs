//! Important calls take the place of others, and links that shrink shed some.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Code;
use voicelane_proto::v1::{self, command, command_result, link::Direction};
use voicelane_server::{
    engine::Settings,
    model::admission::{OnShrink, Policy},
};

use super::admission::{CHARGE, links, network, network_on, on, port};
use crate::common::*;

/// The core port's link out of router a.
async fn wan(net: &Network) -> v1::Link {
    let mut operator = net.server.operator().await;
    on(
        &links(&mut operator, "a").await,
        "a",
        "wan0",
        Direction::Out,
    )
}

fn preemptable(name: &str, port: u16) -> v1::SessionSpec {
    v1::SessionSpec {
        preemptable: true,
        ..call(name, port)
    }
}

fn emergency(name: &str, port: u16) -> v1::SessionSpec {
    v1::SessionSpec {
        priority: 1,
        may_preempt: true,
        ..call(name, port)
    }
}

#[tokio::test]
async fn a_thousand_calls_over_one_megabit_and_emergencies_over_a_full_link() {
    let mut net = network(1_000_000).await;
    let mut admitted = Vec::new();
    for index in 0..1_000 {
        let name = format!("c{index}");
        match add(&mut net.client, preemptable(&name, 4000 + 4 * index)).await {
            Ok(_) => admitted.push(name),
            refused => {
                let parts = [
                    "into port wan0 of router a",
                    "1000000 bit/s",
                    "wants 99504 more",
                ];
                assert_status(refused, Code::ResourceExhausted, &parts);
            }
        }
    }
    // Nine times 99,504 are within 900,000.
    assert_eq!(admitted.len(), 9);
    assert_eq!(wan(&net).await.admitted_bps, 9 * CHARGE);
    let request = v1::WatchSessionsRequest::default();
    let mut events = net
        .client
        .watch_sessions(request)
        .await
        .unwrap()
        .into_inner();
    // The reserve has room for one: nobody is pre-empted.
    add(&mut net.client, emergency("e0", 9000)).await.unwrap();
    assert_eq!(wan(&net).await.sessions, 10);
    // The next takes the place of the youngest.
    add(&mut net.client, emergency("e1", 9004)).await.unwrap();
    let link = wan(&net).await;
    assert_eq!((link.admitted_bps, link.sessions), (10 * CHARGE, 10));
    let gone = loop {
        let event = events.message().await.unwrap().unwrap();
        if event.kind() == v1::watch_sessions_response::Kind::Deleted {
            break event;
        }
    };
    assert_eq!(
        gone.session.as_ref().unwrap().spec.as_ref().unwrap().key,
        key("c8")
    );
    assert_eq!(
        gone.reaper(),
        v1::watch_sessions_response::Reaper::Preempted
    );
    assert_eq!(gone.reason, "preempted");
    for router in [&net.a, &net.b] {
        assert!(!router.has("c8") && router.has("c7") && router.has("e1"));
    }
    assert_status(get(&mut net.client, "c8").await, Code::NotFound, &[]);
    // One that may not pre-empt, or is no more important, is refused, and one that all would not do for.
    let before = net.a.sessions().len();
    let may_not = v1::SessionSpec {
        may_preempt: false,
        ..emergency("e2", 9008)
    };
    let equal = v1::SessionSpec {
        priority: 10,
        ..emergency("e2", 9008)
    };
    let mut wide = emergency("e2", 9008);
    for flow in &mut wide.flows {
        flow.max_bitrate_bps = 900_000;
    }
    for refused in [may_not, equal, wide] {
        let refused = add(&mut net.client, refused).await;
        assert_status(refused, Code::ResourceExhausted, &["wan0"]);
    }
    assert_eq!(wan(&net).await, link);
    assert_eq!(net.a.sessions().len(), before);
}

#[tokio::test]
async fn who_is_pre_empted_for_a_call_that_fails_stays() {
    let mut net = network(1_000_000).await;
    for index in 0..9 {
        let name = format!("c{index}");
        add(&mut net.client, preemptable(&name, 4000 + 4 * index))
            .await
            .unwrap();
    }
    add(&mut net.client, emergency("e0", 9000)).await.unwrap();
    let before = wan(&net).await;
    net.b.behave(|command| match command {
        command::Command::Install(_) => Manner::Refuse(command_result::Code::Internal, "no"),
        _ => Manner::Obey,
    });
    let refused = add(&mut net.client, emergency("e1", 9004)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(wan(&net).await, before);
    net.b.behave(|_| Manner::Obey);
    let session = get(&mut net.client, "c8").await.unwrap();
    assert_eq!(session.state(), v1::SessionState::Active);
    assert!(net.a.has("c8") && net.b.has("c8"));
    // A change may pre-empt, too.
    let mut faster = v1::SessionSpec {
        revision: 2,
        ..emergency("e0", 9000)
    };
    for flow in &mut faster.flows {
        flow.max_bitrate_bps = 160_000;
    }
    modify(&mut net.client, faster).await.unwrap();
    eventually("gone", || {
        let mut client = net.client.clone();
        async move { get(&mut client, "c8").await.err() }
    })
    .await;
    assert!(wan(&net).await.admitted_bps <= 1_000_000);
    assert_eq!(wan(&net).await.sessions, 9);
}

#[tokio::test]
async fn a_link_that_shrinks_sheds_the_least_important_if_that_is_wanted() {
    let server = TestServer::with(Settings {
        on_shrink: OnShrink::Preempt,
        ..Settings::default()
    });
    let mut net = network_on(server.await, 1_000_000).await;
    for (index, priority) in [10, 10, 12, 10, 12].into_iter().enumerate() {
        let index = u16::try_from(index).unwrap();
        let spec = v1::SessionSpec {
            priority,
            preemptable: index != 3,
            ..call(&format!("c{index}"), 4000 + 4 * index)
        };
        add(&mut net.client, spec).await.unwrap();
    }
    shrink(&net, 2 * CHARGE).await;
    eventually("two calls", || {
        let mut client = net.client.clone();
        async move { (list(&mut client).await.total == 2).then_some(()) }
    })
    .await;
    assert_eq!(wan(&net).await.sessions, 2);
    let left = list(&mut net.client).await.sessions.into_iter();
    let left: Vec<_> = left.map(|it| it.spec.unwrap().key).collect();
    assert_eq!(left, [key("c0"), key("c3")]);
}

/// Gives the core port of router a this budget.
async fn shrink(net: &Network, budget: u64) {
    let slow = vec![
        port(1_000_000_000, edge("lan0", &["10.1.0.0/24"])),
        port(budget, core("wan0", &["10.2.0.0/24"])),
    ];
    net.a.report(&net.a_stream, slow).await;
    eventually("the smaller budget", || async {
        (wan(net).await.budget_bps == budget).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_link_sheds_however_many_are_too_many() {
    let server = TestServer::with(Settings {
        on_shrink: OnShrink::Preempt,
        ..Settings::default()
    });
    let mut net = network_on(server.await, 400 * CHARGE).await;
    // More than one hold of the lock looks at.
    for index in 0..300 {
        let spec = preemptable(&format!("c{index}"), 4000 + 4 * index);
        add(&mut net.client, spec).await.unwrap();
    }
    shrink(&net, 2 * CHARGE).await;
    eventually("two calls", || {
        let mut client = net.client.clone();
        async move { (list(&mut client).await.total == 2).then_some(()) }
    })
    .await;
    assert_eq!(net.a.sessions().len(), 2);
}

#[tokio::test]
async fn links_that_limit_nothing_shed_nothing() {
    let server = TestServer::with(Settings {
        admission: Policy::All,
        on_shrink: OnShrink::Preempt,
        ..Settings::default()
    });
    let mut net = network_on(server.await, CHARGE).await;
    for index in 0..3 {
        let spec = preemptable(&format!("c{index}"), 4000 + 4 * index);
        add(&mut net.client, spec).await.unwrap();
    }
    shrink(&net, CHARGE / 2).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(list(&mut net.client).await.total, 3);
    assert_eq!(wan(&net).await.sessions, 3);
}

#[tokio::test]
async fn an_emergency_waits_for_no_router_of_its_victims() {
    let server = TestServer::with(Settings {
        acknowledge_timeout: Duration::from_secs(60),
        ..Settings::default()
    });
    let mut net = network_on(server.await, 2 * CHARGE * 10 / 9 + 10).await;
    for index in 0..2 {
        let spec = preemptable(&format!("c{index}"), 4000 + 4 * index);
        add(&mut net.client, spec).await.unwrap();
    }
    net.b.behave(|command| match command {
        command::Command::Remove(_) => Manner::Silent,
        _ => Manner::Obey,
    });
    let added = add(&mut net.client, emergency("e0", 9000));
    timeout(PATIENCE, added).await.expect("in time").unwrap();
    if let Ok(victim) = get(&mut net.client, "c1").await {
        assert_eq!(victim.state(), v1::SessionState::Removing);
    }
    // Who asks for it again is not told that it is there still: its end is committed.
    let again = add(&mut net.client, preemptable("c1", 4004)).await;
    assert_status(again, Code::ResourceExhausted, &["has no room"]);
    assert_eq!(wan(&net).await.sessions, 2);
    // It is gone without the router's word, which is owed.
    eventually("gone", || {
        let mut client = net.client.clone();
        async move { get(&mut client, "c1").await.err() }
    })
    .await;
}
