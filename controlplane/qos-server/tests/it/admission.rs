//! Calls are admitted to the links that they go over.

use std::time::Duration;

use crate::common::*;
use tokio::time::{sleep, timeout};
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, command, command_result, link::Direction, operator_client::OperatorClient,
};
use voicelane_server::{
    engine::Settings,
    model::admission::{Hoeffding, OnShrink, Policy},
};

/// One direction of a G.711 call, untagged IPv4: 80,000 of RTP, 4,000 of RTCP, and 51 times 38 bytes.
const CHARGE: u64 = 99_504;

fn port(budget: u64, interface: v1::Interface) -> v1::Interface {
    v1::Interface {
        ef_budget_bps: budget,
        ..interface
    }
}

/// Routers with a LAN and a core port each; their LANs have room for all.
async fn network(core_budget: u64) -> Network {
    network_on(TestServer::start().await, core_budget).await
}

async fn network_on(server: TestServer, core_budget: u64) -> Network {
    let net = Network::on(server).await;
    for (router, stream, own, other) in [
        (&net.a, &net.a_stream, "10.1.0.0/24", "10.2.0.0/24"),
        (&net.b, &net.b_stream, "10.2.0.0/24", "10.1.0.0/24"),
    ] {
        let interfaces = vec![
            port(1_000_000_000, edge("lan0", &[own])),
            port(core_budget, core("wan0", &[other])),
        ];
        router.report(stream, interfaces).await;
    }
    let operator = net.server.operator().await;
    eventually("links", || {
        let mut operator = operator.clone();
        async move { (links(&mut operator, "").await.len() == 8).then_some(()) }
    })
    .await;
    net
}

async fn links(operator: &mut OperatorClient<Channel>, router: &str) -> Vec<v1::Link> {
    let request = v1::ListLinksRequest {
        router_id: router.into(),
        ..Default::default()
    };
    let answer = operator.list_links(request).await.unwrap();
    answer.into_inner().links
}

fn on(links: &[v1::Link], router: &str, port: &str, direction: Direction) -> v1::Link {
    let mut links = links.iter();
    let is =
        |it: &&v1::Link| it.router_id == router && it.port == port && it.direction() == direction;
    links.find(is).unwrap().clone()
}

#[tokio::test]
async fn more_calls_where_each_speaks_part_of_the_time() {
    let bound = Hoeffding::new(0.4, 1e-4).unwrap();
    let server = TestServer::with(Settings {
        admission: Policy::Hoeffding(bound),
        ..Settings::default()
    });
    let mut net = network_on(server.await, 50 * CHARGE).await;
    // May use the reserve.
    let important = |index: u16| v1::SessionSpec {
        priority: 1,
        ..call(&format!("c{index}"), 4000 + 4 * index)
    };
    for index in 0..77 {
        add(&mut net.client, important(index)).await.unwrap();
    }
    assert_status(
        add(&mut net.client, important(77)).await,
        Code::ResourceExhausted,
        &["into port wan0 of router a"],
    );
    // An ordinary one makes way for an important one.
    delete(&mut net.client, "c76").await.unwrap();
    delete(&mut net.client, "c75").await.unwrap();
    let bulk = v1::SessionSpec {
        preemptable: true,
        priority: 2,
        ..call("bulk", 5000)
    };
    add(&mut net.client, bulk).await.unwrap();
    add(&mut net.client, important(76)).await.unwrap();
    let urgent = v1::SessionSpec {
        may_preempt: true,
        ..important(75)
    };
    add(&mut net.client, urgent).await.unwrap();
    net.a
        .until("rid of the bulk call", |it| !it.has("bulk"))
        .await;
    assert!(net.a.has("c75"));
}

#[tokio::test]
async fn exactly_as_many_calls_as_the_arithmetic_says() {
    // Ten calls, and the reserve of a tenth.
    let budget = 10 * CHARGE * 10 / 9 + 10;
    let mut net = network(budget).await;
    let mut operator = net.server.operator().await;
    for index in 0..10 {
        let name = format!("c{index}");
        add(&mut net.client, call(&name, 4000 + 4 * index))
            .await
            .unwrap();
    }
    let refused = add(&mut net.client, call("c10", 4040)).await;
    let (taken, wanted) = (10 * CHARGE, CHARGE);
    let parts = [
        "into port wan0 of router a".to_owned(),
        format!("{budget} bit/s"),
        format!("{taken} of it are taken"),
        format!("wants {wanted} more"),
        format!("{} are kept for priority 1 and 2", budget / 10),
    ];
    assert_status(
        refused,
        Code::ResourceExhausted,
        &parts.each_ref().map(String::as_str),
    );
    assert!(!net.a.has("c10"));
    let all = links(&mut operator, "").await;
    for (router, port) in [("a", "lan0"), ("a", "wan0"), ("b", "lan0"), ("b", "wan0")] {
        for direction in [Direction::In, Direction::Out] {
            let link = on(&all, router, port, direction);
            assert_eq!(
                (link.admitted_bps, link.sessions),
                (10 * CHARGE, 10),
                "{link:?}"
            );
        }
    }
    let wan = on(&all, "a", "wan0", Direction::Out);
    assert_eq!((wan.budget_bps, wan.reserve_bps), (budget, budget / 10));
    // The reserve is for emergencies, up to the budget.
    let emergency = v1::SessionSpec {
        priority: 1,
        correlation_id: "112@example.com".into(),
        ..call("e", 4040)
    };
    add(&mut net.client, emergency).await.unwrap();
    let second = v1::SessionSpec {
        priority: 2,
        ..call("e2", 4044)
    };
    assert_status(
        add(&mut net.client, second).await,
        Code::ResourceExhausted,
        &[&format!("{} of it are taken, and", 11 * CHARGE)],
    );
    // Other classes take none of the budget.
    let signalling = v1::SessionSpec {
        service_class: v1::ServiceClass::Signalling.into(),
        ..call("s", 4048)
    };
    add(&mut net.client, signalling).await.unwrap();
    // One that ends makes room for one.
    delete(&mut net.client, "e").await.unwrap();
    delete(&mut net.client, "c3").await.unwrap();
    add(&mut net.client, call("c10", 4012)).await.unwrap();
    let request = v1::GetLinkRequest {
        router_id: "a".into(),
        port: "wan0".into(),
        direction: Direction::Out.into(),
        calls: 3,
    };
    let answer = operator
        .get_link(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.calls.len(), 3);
    assert_eq!(answer.calls[0].charged_bps, CHARGE);
    assert_eq!(answer.link.unwrap().sessions, 10);
    let none = v1::GetLinkRequest {
        port: "wan9".into(),
        ..request
    };
    assert_status(operator.get_link(none).await, Code::NotFound, &["wan9"]);
}

#[tokio::test]
async fn changes_count_by_their_difference_and_a_smaller_budget_keeps_calls() {
    let mut net = network(3 * CHARGE).await;
    let fast = |revision, bps| {
        let mut spec = call("c0", 4000);
        spec.revision = revision;
        for flow in &mut spec.flows {
            flow.max_bitrate_bps = bps;
        }
        spec
    };
    add(&mut net.client, fast(1, 80_000)).await.unwrap();
    add(&mut net.client, call("c1", 4004)).await.unwrap();
    // 2.7 calls may be there: 1.6 and 1.
    modify(&mut net.client, fast(2, 128_000)).await.unwrap();
    let refused = modify(&mut net.client, fast(3, 200_000)).await;
    assert_status(
        refused,
        Code::ResourceExhausted,
        &["wan0", "wants 75600 more"],
    );
    let session = get(&mut net.client, "c0").await.unwrap();
    assert_eq!(session.spec.unwrap().revision, 2);
    modify(&mut net.client, fast(4, 80_000)).await.unwrap();
    // The port is made slower: both stay and can be changed, but not to more, and none comes.
    let slow = vec![
        port(1_000_000_000, edge("lan0", &["10.1.0.0/24"])),
        port(CHARGE, core("wan0", &["10.2.0.0/24"])),
    ];
    net.a.report(&net.a_stream, slow).await;
    let operator = net.server.operator().await;
    eventually("the smaller budget", || {
        let mut operator = operator.clone();
        async move {
            let all = links(&mut operator, "a").await;
            (on(&all, "a", "wan0", Direction::In).budget_bps == CHARGE).then_some(())
        }
    })
    .await;
    modify(&mut net.client, fast(5, 79_000)).await.unwrap();
    let refused = modify(&mut net.client, fast(6, 80_000)).await;
    assert_status(refused, Code::ResourceExhausted, &["wan0"]);
    assert_status(
        add(&mut net.client, call("c2", 4008)).await,
        Code::ResourceExhausted,
        &["wan0"],
    );
}

#[tokio::test]
async fn a_half_open_flow_is_admitted_at_its_known_end() {
    let mut net = network(3 * CHARGE).await;
    let offer = |name: &str, port: u16| {
        let at = endpoint(&format!("10.1.0.5:{port}"));
        let mut out = flow("10.1.0.5:1", "10.2.0.7:1");
        (out.source, out.destination) = (at.clone(), None);
        let mut back = out.clone();
        (back.source, back.destination) = (None, at);
        spec(name, vec![out, back])
    };
    add(&mut net.client, offer("c0", 4000)).await.unwrap();
    add(&mut net.client, offer("c1", 4004)).await.unwrap();
    // The only core port of the caller's router has no room for a third.
    let refused = add(&mut net.client, offer("c2", 4008)).await;
    assert_status(refused, Code::ResourceExhausted, &["port wan0 of router a"]);
    let answer = v1::SessionSpec {
        revision: 2,
        ..call("c0", 4000)
    };
    modify(&mut net.client, answer).await.unwrap();
    let mut operator = net.server.operator().await;
    let all = links(&mut operator, "").await;
    let load = |router, port| on(&all, router, port, Direction::In).admitted_bps / CHARGE;
    assert_eq!((load("a", "wan0"), load("b", "wan0")), (2, 1));
    assert_eq!((load("a", "lan0"), load("b", "lan0")), (2, 1));
}

#[tokio::test]
async fn pages_of_links_are_whole() {
    let net = network(1_000_000).await;
    let mut operator = net.server.operator().await;
    let all = links(&mut operator, "").await;
    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListLinksRequest {
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let answer = operator.list_links(request).await.unwrap().into_inner();
        paged.extend(answer.links);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    assert_eq!(all.len(), 8);
    let unknown = v1::ListLinksRequest {
        router_id: "zz".into(),
        ..Default::default()
    };
    assert_status(operator.list_links(unknown).await, Code::NotFound, &["zz"]);
    let wrong = v1::ListLinksRequest {
        page_token: "x".into(),
        ..Default::default()
    };
    assert_status(
        operator.list_links(wrong).await,
        Code::InvalidArgument,
        &["page_token"],
    );
}

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
