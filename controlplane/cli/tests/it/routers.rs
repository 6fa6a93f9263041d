//! `voicelane router list`, `show` and `forget`.

use crate::{
    cli::{run, url},
    command::run_at,
    common::*,
};
use serde_json::json;
use voicelane_proto::v1;

#[tokio::test]
async fn a_router_that_is_gone_is_named_and_forgotten() {
    let net = Network::start().await;
    let server = url(&net);
    for (call, port) in [("c1", 4000), ("c2", 4100), ("c3", 4200)] {
        run(
            &net,
            &format!("call add {call} --a 10.1.0.5:{port} --b 10.2.0.7:{port}"),
        )
        .await
        .shows(&["active"]);
    }
    run_at(&server, "router forget b")
        .await
        .fails(1, &["FAILED_PRECONDITION", "is attached"]);
    net.b_stream.cut();
    eventually("lost", || async {
        let session = run_at(&server, "call get c1 --json").await.json();
        (session["state"] == "SESSION_STATE_DEGRADED").then_some(())
    })
    .await;
    run_at(&server, "call delete c1")
        .await
        .shows(&["deleted call c1", "not confirmed yet by b"]);
    let deleted = run_at(&server, "call delete c2 --json").await.json();
    assert_eq!(deleted["session"]["spec"]["key"]["sessionId"], "c2");
    assert_eq!(deleted["pendingRouters"], json!(["b"]));
    let forgotten = run_at(&server, "router forget b --json").await.json();
    assert_eq!(forgotten, json!({"sessions": "1"}));
    run_at(&server, "router forget b")
        .await
        .fails(1, &["NOT_FOUND"]);
}

#[tokio::test]
async fn routers_are_listed_and_shown() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    run(&net, "router list")
        .await
        .shows(&["a ", "attached", "10.1.0.0/24 (lan0)", "fake"]);
    let routers = run(&net, "router list --json").await.json();
    assert_eq!(routers["routers"][1]["routerId"], "b");
    assert_eq!(routers["routers"][1]["attached"], true);
    assert_eq!(routers["routers"][1]["epoch"], "7");
    run(&net, "router show b").await.shows(&[
        "router b: attached",
        "1 calls",
        "lan0",
        "300 Gbit/s",
    ]);
    let router = run(&net, "router show b --json").await.json();
    assert_eq!(router["interfaces"][0]["role"], "ROLE_EDGE");
    assert_eq!(router["interfaces"][0]["vlanId"], 0);
    assert_eq!(router["sessions"], "1");
    run(&net, "router show zzz")
        .await
        .fails(1, &["NOT_FOUND", "zzz"]);
}

#[tokio::test]
async fn routers_with_full_route_tables_are_listed() {
    let net = Network::start().await;
    let prefixes: Vec<String> = (0..65_536_u32)
        .map(|number| format!("{}/32", std::net::Ipv4Addr::from(0xc0a8_0000 + number)))
        .collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let mut streams = Vec::new();
    for id in ["c", "d", "e", "f"] {
        let router = FakeRouter::new(id);
        router.set_interfaces(vec![core("core0", &prefixes)]);
        streams.push(router.attach(net.server.address).await);
    }
    run(&net, "router list").await.shows(&["attached"]);
}

#[tokio::test]
async fn many_prefixes_are_shown_in_part_or_as_asked() {
    let net = Network::start().await;
    let prefixes: Vec<String> = (0..25_000_u32)
        .map(|n| format!("11.{}.{}.0/24", n >> 8, n & 255))
        .collect();
    let wan = v1::Interface {
        prefixes: prefixes.clone(),
        ..core("wan", &[])
    };
    let lan = edge("lan0", &["10.1.0.0/24"]);
    net.a.report(&net.a_stream, vec![lan, wan]).await;
    let all = eventually("reported", || async {
        let all = run(&net, "router prefixes a wan --json").await;
        (all.code == 0).then(|| all.json())
    })
    .await;
    assert_eq!(all["prefixes"], json!(prefixes));
    run(&net, "router show a")
        .await
        .shows(&["11.0.9.0/24", "and 24990 more"]);
    run(&net, "router prefixes a nope")
        .await
        .fails(1, &["NOT_FOUND", "reports no interface \"nope\""]);
}
