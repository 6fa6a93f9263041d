//! What routers report of their interfaces and ports: in parts, by differences, and calls to and from the outside.

use std::{sync::Arc, time::Duration};

use crate::common::*;
use prost::Message as _;
use tempfile::tempdir;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, attach_request::Message, link::Direction, operator_client::OperatorClient,
};
use voicelane_server::{engine::Settings, identity::Claims};

/// One direction of a G.711 call, untagged IPv4.
const CHARGE: u64 = 99_504;

async fn say(stream: &Stream, message: Message) {
    let message = v1::AttachRequest {
        message: Some(message),
    };
    stream.outbound.send(message).await.unwrap();
}

async fn prefixes(operator: &mut OperatorClient<Channel>, interface: &str) -> Vec<String> {
    let request = v1::ListPrefixesRequest {
        router_id: "a".into(),
        interface: interface.into(),
        ..v1::ListPrefixesRequest::default()
    };
    match operator.list_prefixes(request).await {
        Ok(page) => page.into_inner().prefixes,
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            Vec::new()
        }
    }
}

async fn until_prefixes(operator: &OperatorClient<Channel>, interface: &str, expected: &[&str]) {
    let what = format!("{expected:?} of {interface}");
    eventually(&what, || {
        let mut operator = operator.clone();
        async move { (prefixes(&mut operator, interface).await == expected).then_some(()) }
    })
    .await;
}

fn change(interface: v1::Interface, added: &[&str], removed: &[&str]) -> v1::InterfaceChange {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    v1::InterfaceChange {
        interface: Some(interface),
        added_prefixes: texts(added),
        removed_prefixes: texts(removed),
    }
}

#[tokio::test]
async fn a_report_comes_in_parts_and_then_by_differences() {
    let mut net = Network::start().await;
    let operator = net.server.operator().await;
    let part = |interfaces, more| Message::Interfaces(v1::InterfaceReport { interfaces, more });
    let stream = &net.a_stream;
    say(
        stream,
        part(
            vec![
                edge("lan0", &["10.1.0.0/24"]),
                core("wan0", &["10.3.0.0/24"]),
            ],
            true,
        ),
    )
    .await;
    say(
        stream,
        part(vec![core("wan0", &["10.2.0.0/24", "0.0.0.0/0"])], false),
    )
    .await;
    let all = ["0.0.0.0/0", "10.2.0.0/24", "10.3.0.0/24"];
    until_prefixes(&operator, "wan0", &all).await;
    // What is in order stays so, what is there already is there once, what is not is not removed.
    let changes = v1::InterfaceChanges {
        interfaces: vec![change(
            core("wan0", &[]),
            &["10.2.0.0/24", "10.2.128.0/17"],
            &["10.3.0.0/24", "10.9.0.0/16"],
        )],
        gone: Vec::new(),
        more: true,
    };
    say(stream, Message::InterfaceChanges(changes)).await;
    let changes = v1::InterfaceChanges {
        interfaces: vec![change(edge("lan1", &[]), &["10.1.1.0/24"], &[])],
        ..v1::InterfaceChanges::default()
    };
    say(stream, Message::InterfaceChanges(changes)).await;
    until_prefixes(
        &operator,
        "wan0",
        &["0.0.0.0/0", "10.2.0.0/24", "10.2.128.0/17"],
    )
    .await;
    until_prefixes(&operator, "lan1", &["10.1.1.0/24"]).await;
    until_prefixes(&operator, "lan0", &["10.1.0.0/24"]).await;
    let both = vec![flow("10.1.1.5:4000", "10.2.0.7:4000")];
    add(&mut net.client, spec("c", both)).await.unwrap();
    // Without prefixes, all else of an interface changes.
    let mut down = change(edge("lan0", &[]), &[], &[]);
    down.interface.as_mut().unwrap().up = false;
    let changes = v1::InterfaceChanges {
        interfaces: vec![down],
        gone: vec!["lan1".into(), "no such".into()],
        more: false,
    };
    say(stream, Message::InterfaceChanges(changes)).await;
    until_prefixes(&operator, "lan1", &[]).await;
    until_prefixes(&operator, "lan0", &["10.1.0.0/24"]).await;
    let refused = add(&mut net.client, call("d", 5000)).await;
    assert_status(refused, Code::NotFound, &["10.1.0.5"]);
    // A change that names no interface ends the stream, and says where.
    let changes = v1::InterfaceChanges {
        interfaces: vec![v1::InterfaceChange::default()],
        ..v1::InterfaceChanges::default()
    };
    say(stream, Message::InterfaceChanges(changes)).await;
    net.a
        .until("ended", |router| router.ended().is_some())
        .await;
    let ended = net.a.ended().unwrap();
    assert!(
        ended
            .message()
            .contains("interface_changes.interfaces[0].interface"),
        "{ended:?}"
    );
}

/// A full Internet table on a core interface: a route that comes or goes is one small message, and does not move
/// what stands.
#[tokio::test]
async fn a_change_of_a_full_table_is_one_small_message() {
    const ROUTES: u32 = 1_000_000;
    const PART: usize = 16_384;
    let mut net = Network::start().await;
    let operator = net.server.operator().await;
    add(&mut net.client, call("c", 4000)).await.unwrap();
    let all: Vec<String> = (0..ROUTES)
        .map(|n| {
            format!(
                "{}/28",
                std::net::Ipv4Addr::from_bits((16 << 24) + (n << 4))
            )
        })
        .collect();
    let mut full = 0;
    let parts: Vec<_> = all.chunks(PART).collect();
    for (index, prefixes) in parts.iter().enumerate() {
        let wan = v1::Interface {
            prefixes: prefixes.to_vec(),
            ..core("wan0", &[])
        };
        let mut interfaces = vec![wan];
        if index == 0 {
            interfaces.push(edge("lan0", &["10.1.0.0/24"]));
        }
        let more = index + 1 < parts.len();
        let report = v1::InterfaceReport { interfaces, more };
        full += report.encoded_len();
        assert!(report.encoded_len() < 1 << 20, "no part is large");
        say(&net.a_stream, Message::Interfaces(report)).await;
    }
    let count = |operator: &OperatorClient<Channel>| {
        let mut operator = operator.clone();
        async move {
            let request = v1::ListPrefixesRequest {
                router_id: "a".into(),
                interface: "wan0".into(),
                page_size: 1,
                ..v1::ListPrefixesRequest::default()
            };
            let page = operator.list_prefixes(request).await;
            page.map_or(0, |page| page.into_inner().total)
        }
    };
    eventually("the full table", || async {
        (count(&operator).await == u64::from(ROUTES)).then_some(())
    })
    .await;
    let changes = v1::InterfaceChanges {
        interfaces: vec![change(core("wan0", &[]), &["198.51.100.0/24"], &[])],
        ..v1::InterfaceChanges::default()
    };
    let small = changes.encoded_len();
    say(&net.a_stream, Message::InterfaceChanges(changes)).await;
    eventually("one more", || async {
        (count(&operator).await == u64::from(ROUTES) + 1).then_some(())
    })
    .await;
    eprintln!(
        "a full table: {full} B in {} messages; one route more: {small} B",
        parts.len()
    );
    assert!(full > 14_000_000 && small < 200, "{full} B, {small} B");
    let session = get(&mut net.client, "c").await.unwrap();
    assert_eq!(session.state(), v1::SessionState::Active);
}

/// Calls to and from the outside: an uplink that reaches everything is their edge.
#[tokio::test]
async fn calls_to_and_from_the_outside_are_admitted_on_our_links() {
    for (any, inside, outside) in [
        ("0.0.0.0/0", "10.1.0.5", "198.51.100.9"),
        ("::/0", "2001:db8:1::5", "2a00:1450::9"),
    ] {
        let server = TestServer::start().await;
        let net = Network::on(server).await;
        let mut client = net.client.clone();
        let mut operator = net.server.operator().await;
        let inside_net = if any == "::/0" {
            "2001:db8:1::/64"
        } else {
            "10.1.0.0/24"
        };
        let narrow = |budget, interface| v1::Interface {
            ef_budget_bps: budget,
            ..interface
        };
        // Router b has the uplink, with room for two calls; a its hosts.
        let charge = CHARGE;
        net.a
            .report(
                &net.a_stream,
                vec![edge("lan0", &[inside_net]), core("wan0", &[any])],
            )
            .await;
        net.b
            .report(
                &net.b_stream,
                vec![
                    narrow(charge * 2 * 10 / 9 + 10, edge("uplink", &[any])),
                    core("wan0", &[inside_net]),
                ],
            )
            .await;
        let end = |address: &str, port| v1::Endpoint {
            address: address.to_owned(),
            port,
        };
        let call = |name: &str, port| {
            let way = |from: &str, to: &str| v1::MediaFlow {
                source: Some(end(from, port)),
                destination: Some(end(to, port)),
                max_bitrate_bps: 80_000,
                ..v1::MediaFlow::default()
            };
            spec(name, vec![way(inside, outside), way(outside, inside)])
        };
        eventually("the uplink", || {
            let mut client = client.clone();
            let call = call("c0", 4000);
            async move { add(&mut client, call).await.ok() }
        })
        .await;
        add(&mut client, call("c1", 4100)).await.unwrap();
        let refused = add(&mut client, call("c2", 4200)).await;
        let parts = ["port uplink of router b", "are taken"];
        assert_status(refused, Code::ResourceExhausted, &parts);
        let links = operator.list_links(v1::ListLinksRequest::default()).await;
        for (router, port) in [("a", "lan0"), ("a", "wan0"), ("b", "wan0"), ("b", "uplink")] {
            for direction in [Direction::In, Direction::Out] {
                let mut links = links.as_ref().unwrap().get_ref().links.iter();
                let is = |it: &&v1::Link| {
                    it.router_id == router && it.port == port && it.direction() == direction
                };
                let link = links.find(is).unwrap();
                assert_eq!(
                    (link.sessions, link.admitted_bps),
                    (2, 2 * charge),
                    "{link:?}"
                );
            }
        }
        assert!(net.a.has("c1") && net.b.has("c1") && !net.b.has("c2"));
    }
}

#[tokio::test]
async fn a_link_shows_what_its_router_says_that_it_carries() {
    let net = Network::start().await;
    let operator = net.server.operator().await;
    let carried = || {
        let mut operator = operator.clone();
        async move {
            let request = v1::ListLinksRequest {
                router_id: "a".into(),
                ..v1::ListLinksRequest::default()
            };
            let links = operator.list_links(request).await.unwrap().into_inner();
            let links = links.links.into_iter();
            links
                .map(|it| (it.direction(), it.carried_bps))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(
        carried().await,
        [(Direction::In, None), (Direction::Out, None)]
    );
    // A router of an earlier release does not say what comes in.
    for in_bps in [None, Some(96_000)] {
        let ports = vec![v1::PortRate {
            port: "lan0".into(),
            out_bps: 84_000,
            in_bps,
        }];
        say(&net.a_stream, Message::Traffic(v1::PortTraffic { ports })).await;
        eventually("carried", || async {
            let expected = [(Direction::In, in_bps), (Direction::Out, Some(84_000))];
            (carried().await == expected).then_some(())
        })
        .await;
    }
    // Nobody knows what a router carries that is away.
    net.a_stream.cut();
    eventually("not known", || async {
        let unknown = [(Direction::In, None), (Direction::Out, None)];
        (carried().await == unknown).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_difference_gets_round_what_a_router_may_claim() {
    let may_claim = [("a".to_owned(), vec!["10.1.0.0/16".to_owned()])];
    let settings = Settings {
        adopt_for: Duration::ZERO,
        may_claim: Arc::new(Claims::new(&may_claim.into()).unwrap()),
        ..Settings::default()
    };
    let server = TestServer::with(settings).await;
    let a = FakeRouter::reaching("a", &["10.1.0.0/24", "10.9.0.0/24"]);
    let stream = a.attach(server.address).await;
    let operator = server.operator().await;
    let differ = async |interface, added: &[&str], removed: &[&str]| {
        let changes = v1::InterfaceChanges {
            interfaces: vec![change(interface, added, removed)],
            ..v1::InterfaceChanges::default()
        };
        say(&stream, Message::InterfaceChanges(changes)).await;
    };
    let refused = async |expected: &[&str]| {
        eventually("these refused", || {
            let mut operator = operator.clone();
            async move {
                let request = v1::GetRouterRequest {
                    router_id: "a".into(),
                };
                let answer = operator.get_router(request).await.unwrap().into_inner();
                let refused = answer.router.unwrap().refused_prefixes;
                let mut refused: Vec<_> = refused.into_iter().map(|it| it.prefix).collect();
                refused.sort_unstable();
                (refused == expected).then_some(())
            }
        })
        .await;
    };
    let lan = || edge("lan0", &[]);
    refused(&["10.9.0.0/24"]).await;
    // More that it may not and may; less of each.
    differ(lan(), &["10.1.1.0/24", "10.8.0.0/24"], &[]).await;
    refused(&["10.8.0.0/24", "10.9.0.0/24"]).await;
    until_prefixes(&operator, "lan0", &["10.1.0.0/24", "10.1.1.0/24"]).await;
    differ(lan(), &[], &["10.1.0.0/24", "10.9.0.0/24"]).await;
    refused(&["10.8.0.0/24"]).await;
    until_prefixes(&operator, "lan0", &["10.1.1.0/24"]).await;
    // What is a core interface's is no claim until the interface is an edge.
    differ(core("wan9", &[]), &["10.7.0.0/24"], &[]).await;
    until_prefixes(&operator, "wan9", &["10.7.0.0/24"]).await;
    differ(edge("wan9", &[]), &[], &[]).await;
    refused(&["10.7.0.0/24", "10.8.0.0/24"]).await;
    until_prefixes(&operator, "wan9", &[]).await;
}

/// What a router says adds up: each message is within the limits, and all of them together are not.
#[tokio::test]
async fn what_adds_up_to_more_than_a_router_may_have_ends_its_stream() {
    let interfaces = |from: usize, count: usize| {
        let names = (from..from + count).map(|it| format!("wan{it}"));
        names.map(|name| core(&name, &[])).collect::<Vec<_>>()
    };
    let part = |from| {
        Message::Interfaces(v1::InterfaceReport {
            interfaces: interfaces(from, 600),
            more: true,
        })
    };
    let differ = |from, count, gone: usize, more| {
        let all = interfaces(from, count).into_iter();
        Message::InterfaceChanges(v1::InterfaceChanges {
            interfaces: all.map(|it| change(it, &[], &[])).collect(),
            gone: vec!["wan0".to_owned(); gone],
            more,
        })
    };
    let folder = tempdir().unwrap();
    let server = TestServer::stored(folder.path(), Settings::default()).await;
    for (said, expected) in [
        (vec![part(0), part(600)], "1024 interfaces"),
        (
            vec![differ(0, 600, 0, false), differ(600, 600, 0, false)],
            "1024 interfaces",
        ),
        (vec![differ(0, 0, 1_025, false)], "interface_changes.gone"),
        (
            (0..5).map(|_| differ(0, 0, 1_000, true)).collect(),
            "4096 interfaces",
        ),
        (
            (0..5).map(|_| differ(0, 1_000, 0, true)).collect(),
            "4096 interfaces",
        ),
    ] {
        let router = FakeRouter::reaching("a", &["10.1.0.0/24"]);
        let stream = router.attach(server.address).await;
        for message in said {
            say(&stream, message).await;
        }
        router
            .until("refused", |router| router.ended().is_some())
            .await;
        let status = router.ended().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expected), "{status:?}");
    }
    server.stop().await;
    TestServer::stored(folder.path(), Settings::default()).await;
}
