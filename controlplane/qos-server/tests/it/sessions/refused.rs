//! What call agents are refused, by field and reason.

use std::time::Duration;

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1;
use voicelane_server::engine::Settings;

#[tokio::test]
async fn what_is_malformed_is_refused_by_name() {
    let mut net = Network::start().await;
    let good = || flow("10.1.0.5:4000", "10.2.0.7:4000");
    let one = |flow| spec("c1", vec![flow]);
    let rtcp = |mode: i32| v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode,
            source: None,
            destination: None,
        }),
        ..good()
    };
    let cases: Vec<(v1::SessionSpec, &str)> = vec![
        (
            v1::SessionSpec {
                key: None,
                ..one(good())
            },
            "spec.key",
        ),
        (
            v1::SessionSpec {
                key: key(""),
                ..one(good())
            },
            "spec.key.session_id",
        ),
        (
            v1::SessionSpec {
                key: key(&"x".repeat(129)),
                ..one(good())
            },
            "129 characters",
        ),
        (
            v1::SessionSpec {
                key: key("caf\u{e9}"),
                ..one(good())
            },
            "printable ASCII",
        ),
        (
            v1::SessionSpec {
                revision: 0,
                ..one(good())
            },
            "spec.revision",
        ),
        (
            v1::SessionSpec {
                service_class: 99,
                ..one(good())
            },
            "spec.service_class",
        ),
        (spec("c1", vec![]), "spec.flows"),
        (spec("c1", vec![good(); 33]), "33 flows"),
        (spec("c1", vec![good(), good()]), "spec.flows[1]"),
        (
            one(v1::MediaFlow {
                source: None,
                destination: None,
                ..good()
            }),
            "spec.flows[0]: has neither source nor destination",
        ),
        (
            one(flow("host:1", "10.2.0.7:2")),
            "\"host\" is no IPv4 or IPv6 literal",
        ),
        (
            one(flow("10.1.0.5:0", "10.2.0.7:2")),
            "spec.flows[0].source.port",
        ),
        (one(flow("10.1.0.5:65536", "10.2.0.7:2")), "65536"),
        (one(flow("127.0.0.1:1", "10.2.0.7:2")), "loopback"),
        (one(flow("0.0.0.0:1", "10.2.0.7:2")), "unspecified"),
        (one(flow("10.1.0.5:1", "224.0.0.1:2")), "multicast"),
        (one(flow("10.1.0.5:1", "255.255.255.255:2")), "broadcast"),
        (
            one(flow("10.1.0.5:1", "[2001:db8::1]:2")),
            "mixes IPv4 and IPv6",
        ),
        (
            one(flow("[::ffff:10.1.0.5]:1", "[2001:db8::1]:2")),
            "IPv4-mapped",
        ),
        (one(flow("10.1.0.5:1", "10.1.0.5:1")), "to itself"),
        (
            one(v1::MediaFlow {
                max_bitrate_bps: 999,
                ..good()
            }),
            "max_bitrate_bps",
        ),
        (
            one(v1::MediaFlow {
                max_bitrate_bps: u64::MAX,
                ..good()
            }),
            "max_bitrate_bps",
        ),
        (
            one(v1::MediaFlow {
                max_burst_bytes: 100,
                ..good()
            }),
            "max_burst_bytes",
        ),
        (one(rtcp(77)), "spec.flows[0].rtcp.mode"),
        (
            one(rtcp(v1::rtcp::Mode::Explicit.into())),
            "spec.flows[0].rtcp.source",
        ),
        (one(flow("10.1.0.5:65535", "10.2.0.7:2")), "no port follows"),
    ];
    for (spec, part) in cases {
        assert_status(
            add(&mut net.client, spec.clone()).await,
            Code::InvalidArgument,
            &[part],
        );
        let modified = modify(&mut net.client, spec).await;
        assert_status(modified, Code::InvalidArgument, &[part]);
    }
    let nothing = net
        .client
        .add_session(v1::AddSessionRequest { spec: None })
        .await;
    assert_status(nothing, Code::InvalidArgument, &["spec"]);
    let nothing = net
        .client
        .delete_session(v1::DeleteSessionRequest { key: None })
        .await;
    assert_status(nothing, Code::InvalidArgument, &["key"]);
    assert_eq!(net.a.log().len(), 0);
}

#[tokio::test]
async fn what_is_oversized_is_refused() {
    let mut net = Network::start().await;
    let huge = v1::MediaFlow {
        source: Some(v1::Endpoint {
            address: "1".repeat(4_200_000),
            port: 1,
        }),
        ..flow("10.1.0.5:1", "10.2.0.7:2")
    };
    let result = add(&mut net.client, spec("c1", vec![huge])).await;
    assert_status(result, Code::OutOfRange, &["4194304 bytes"]);
    add(&mut net.client, call("c1", 4000)).await.unwrap();
}

#[tokio::test]
async fn tables_that_are_full_say_so() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        max_sessions: 2,
        ..Default::default()
    };
    let server = TestServer::with(settings).await;
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]);
    let b = FakeRouter::reaching("b", &["10.2.0.0/24"]).capacity(6);
    let (_a, _b) = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    let mut client = server.sessions().await;
    add(&mut client, call("c1", 4000)).await.unwrap();
    assert_status(
        add(&mut client, call("c2", 4100)).await,
        Code::ResourceExhausted,
        &["router b", "room for 6", "holds 4"],
    );
    let local = |name, port| spec(name, vec![flow(&format!("10.1.0.5:{port}"), "10.1.0.6:9")]);
    add(&mut client, local("c2", 5000)).await.unwrap();
    assert_status(
        add(&mut client, local("c3", 5100)).await,
        Code::ResourceExhausted,
        &["holds 2 sessions", "max_sessions"],
    );
}
