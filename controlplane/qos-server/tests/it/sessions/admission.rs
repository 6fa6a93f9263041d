//! Calls are admitted to the links that they go over.

use crate::common::*;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{self, link::Direction, operator_client::OperatorClient};
use voicelane_server::{
    engine::Settings,
    model::admission::{Hoeffding, Policy},
};

/// One direction of a G.711 call, untagged IPv4: 80,000 of RTP, 4,000 of RTCP, and 51 times 38 bytes.
pub(crate) const CHARGE: u64 = 99_504;

pub(crate) fn port(budget: u64, interface: v1::Interface) -> v1::Interface {
    v1::Interface {
        ef_budget_bps: budget,
        ..interface
    }
}

/// Routers with a LAN and a core port each; their LANs have room for all.
pub(crate) async fn network(core_budget: u64) -> Network {
    network_on(TestServer::start().await, core_budget).await
}

pub(crate) async fn network_on(server: TestServer, core_budget: u64) -> Network {
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

pub(crate) async fn links(operator: &mut OperatorClient<Channel>, router: &str) -> Vec<v1::Link> {
    let request = v1::ListLinksRequest {
        router_id: router.into(),
        ..Default::default()
    };
    let answer = operator.list_links(request).await.unwrap();
    answer.into_inner().links
}

pub(crate) fn on(links: &[v1::Link], router: &str, port: &str, direction: Direction) -> v1::Link {
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
