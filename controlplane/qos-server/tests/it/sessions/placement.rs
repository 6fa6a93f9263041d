//! Where a call's ends are found.

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1;

/// Each family is looked up in its own prefixes, the longest first, and a default route of one is
/// none of the other.
#[tokio::test]
async fn an_ipv6_call_is_placed_by_the_ipv6_prefixes() {
    let server = TestServer::start().await;
    let a = FakeRouter::reaching("a", &["0.0.0.0/0", "2001:db8:1::/64"]);
    let b = FakeRouter::reaching("b", &["10.2.0.0/24", "2001:db8::/32"]);
    let _streams = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    let mut client = server.sessions().await;
    let (caller, callee) = ("[2001:db8:1::10]:4000", "[2001:DB8:2:0::10]:4000");
    let flows = vec![flow(caller, callee), flow(callee, caller)];
    let session = add(&mut client, spec("c6", flows)).await.unwrap();
    let place = &session.placements[0];
    let prefixes = [&place.source, &place.destination].map(|end| {
        let end = end.as_ref().unwrap();
        (end.router_id.as_str(), end.prefix.as_str())
    });
    assert_eq!(prefixes, [("a", "2001:db8:1::/64"), ("b", "2001:db8::/32")]);
    for router in [&a, &b] {
        let installed = &router.sessions()[&("test".to_owned(), "c6".to_owned())];
        assert_eq!(installed.entries.len(), 4);
        assert_eq!(
            installed.entries[1].source,
            endpoint("[2001:db8:1::10]:4001")
        );
        assert_eq!(
            installed.entries[0].destination,
            endpoint("[2001:db8:2::10]:4000")
        );
    }
    let nowhere = spec("n6", vec![flow(caller, "[2001:db9::1]:4000")]);
    assert_status(
        add(&mut client, nowhere).await,
        Code::NotFound,
        &["2001:db9::1"],
    );
}

#[tokio::test]
async fn addresses_that_nobody_reaches_are_not_found() {
    let mut net = Network::start().await;
    let unknown = spec("c1", vec![flow("10.1.0.5:4000", "10.9.0.7:4000")]);
    assert_status(
        add(&mut net.client, unknown).await,
        Code::NotFound,
        &[
            "spec.flows[0].destination.address",
            "10.9.0.7",
            "router list",
        ],
    );
    // A core interface attaches nobody.
    net.b
        .report(
            &net.b_stream,
            vec![
                edge("lan0", &["10.2.0.0/24"]),
                core("wan0", &["10.9.0.0/16"]),
            ],
        )
        .await;
    let mut operator = net.server.operator().await;
    eventually("reported", || {
        let mut operator = operator.clone();
        async move {
            let request = v1::GetRouterRequest {
                router_id: "b".into(),
            };
            let router = operator
                .get_router(request)
                .await
                .unwrap()
                .into_inner()
                .router
                .unwrap();
            (router.interfaces.len() == 2).then_some(())
        }
    })
    .await;
    let unknown = spec("c1", vec![flow("10.1.0.5:4000", "10.9.0.7:4000")]);
    assert_status(
        add(&mut net.client, unknown).await,
        Code::NotFound,
        &["10.9.0.7"],
    );
    let request = v1::GetRouterRequest {
        router_id: "zzz".into(),
    };
    assert_status(
        operator.get_router(request).await,
        Code::NotFound,
        &["zzz", "ListRouters"],
    );
}

#[tokio::test]
async fn without_any_router_nothing_is_reached() {
    let server = TestServer::start().await;
    let mut client = server.sessions().await;
    let result = add(&mut client, call("c1", 4000)).await;
    assert_status(
        result,
        Code::NotFound,
        &["no attached router reaches 10.1.0.5"],
    );
}

#[tokio::test]
async fn two_routers_with_one_prefix_are_a_conflict() {
    let mut net = Network::start().await;
    let c = FakeRouter::reaching("c", &["10.2.0.0/24"]);
    let _stream = c.attach(net.server.address).await;
    assert_status(
        add(&mut net.client, call("c1", 4000)).await,
        Code::FailedPrecondition,
        &["10.2.0.0/24", "\"b\"", "\"c\""],
    );
    // A longer prefix settles it.
    let d = FakeRouter::reaching("d", &["10.2.0.7/32"]);
    let _stream = d.attach(net.server.address).await;
    let session = add(&mut net.client, call("c1", 4000)).await.unwrap();
    let routers: Vec<_> = session
        .routers
        .iter()
        .map(|on| on.router_id.as_str())
        .collect();
    assert_eq!(routers, ["a", "d"]);
}

#[tokio::test]
async fn a_call_within_one_router_is_sent_to_it_once() {
    let mut net = Network::start().await;
    let local = spec("c1", vec![flow("10.1.0.5:4000", "10.1.0.6:4000")]);
    let session = add(&mut net.client, local).await.unwrap();
    assert_eq!(session.routers.len(), 1);
    assert_eq!((net.a.installs(), net.b.installs()), (1, 0));
    assert_eq!(net.a.sessions().values().next().unwrap().entries.len(), 2);
}

#[tokio::test]
async fn a_modification_moves_a_call_between_routers() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let local = v1::SessionSpec {
        revision: 2,
        ..spec("c1", vec![flow("10.1.0.5:4000", "10.1.0.6:4000")])
    };
    let session = modify(&mut net.client, local).await.unwrap();
    assert_eq!(session.routers.len(), 1);
    assert!(net.a.has("c1") && !net.b.has("c1"));
}
