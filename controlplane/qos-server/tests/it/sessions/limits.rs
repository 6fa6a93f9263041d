//! What is refused by field, what fits a message, and what an answer may take.

use crate::common::*;
use futures_util::StreamExt as _;
use prost::Message as _;
use tonic::{Code, Request, client::Grpc, codec::Streaming, transport::Channel};
use voicelane_proto::{
    codec::Codec,
    v1::{
        self,
        meter::{Marker, Rfc4115, SrTcm, TrTcm},
        operator_client::OperatorClient,
        session_change::Change,
    },
};

/// What every router can count: 2^62 / (8 * 2^33) at its fastest clock.
const MOST: u32 = 67_108_863;

#[tokio::test]
async fn bursts_that_routers_cannot_count_are_refused_by_field() {
    let mut net = Network::start().await;
    let burst = |rate, bytes| v1::MediaFlow {
        max_bitrate_bps: rate,
        max_burst_bytes: bytes,
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    let metered = |cbs_bytes, marker| v1::MediaFlow {
        max_bitrate_bps: 0,
        meter: Some(v1::Meter {
            marker: Some(marker),
            cir_bps: 1_000_000,
            cbs_bytes,
            ..Default::default()
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    let srtcm = |ebs_bytes| Marker::Srtcm(SrTcm { ebs_bytes });
    let trtcm = |pbs_bytes| {
        let pir_bps = 2_000_000;
        Marker::Trtcm(TrTcm { pir_bps, pbs_bytes })
    };
    let rfc4115 = |ebs_bytes| {
        let eir_bps = 2_000_000;
        Marker::Rfc4115(Rfc4115 { eir_bps, ebs_bytes })
    };
    for (flow, field) in [
        (burst(80_000, MOST + 1), "max_burst_bytes"),
        (burst(80_000, u32::MAX), "max_burst_bytes"),
        (metered(MOST + 1, srtcm(0)), "meter.cbs_bytes"),
        (metered(2_000, srtcm(MOST + 1)), "meter.srtcm.ebs_bytes"),
        (metered(2_000, trtcm(u32::MAX)), "meter.trtcm.pbs_bytes"),
        (metered(2_000, rfc4115(MOST + 1)), "meter.rfc4115.ebs_bytes"),
    ] {
        let spec = v1::SessionSpec {
            service_class: v1::ServiceClass::MultimediaConferencing.into(),
            ..spec("c1", vec![flow])
        };
        assert_status(
            add(&mut net.client, spec).await,
            Code::InvalidArgument,
            &[&format!("spec.flows[0].{field}"), "at most 67108863"],
        );
    }
    // The greatest that are taken, and what follows from them, stay within it.
    for (index, flow) in [
        burst(400_000_000_000, 0),
        burst(80_000, MOST),
        metered(MOST, srtcm(MOST)),
        metered(MOST, trtcm(MOST)),
        metered(MOST, rfc4115(MOST)),
    ]
    .into_iter()
    .enumerate()
    {
        let mux = v1::Rtcp {
            mode: v1::rtcp::Mode::Mux.into(),
            ..Default::default()
        };
        for rtcp in [None, Some(mux)] {
            let name = format!("c{index}");
            let spec = v1::SessionSpec {
                service_class: v1::ServiceClass::MultimediaConferencing.into(),
                ..spec(
                    &name,
                    vec![v1::MediaFlow {
                        rtcp,
                        ..flow.clone()
                    }],
                )
            };
            add(&mut net.client, spec).await.unwrap();
            let key = ("test".to_owned(), name.clone());
            for entry in &net.a.sessions()[&key].entries {
                assert!(entry.burst_bytes <= MOST, "{entry:?}");
                assert!(entry.rate_bps <= 1 << 40, "{entry:?}");
                let Some(meter) = &entry.meter else { continue };
                assert!(meter.cbs_bytes <= MOST, "{entry:?}");
                if let Some(Marker::Trtcm(it)) = &meter.marker {
                    assert!(it.pbs_bytes <= MOST, "{entry:?}");
                }
            }
            delete(&mut net.client, &name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn addresses_of_no_host_are_refused_by_field() {
    let server = TestServer::start().await;
    let lan = |addresses: &[&str], prefixes: &[&str]| v1::Interface {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..edge("lan0", prefixes)
    };
    let router = FakeRouter::new("a");
    router.set_interfaces(vec![
        lan(
            &["10.1.0.1/24", "10.1.0.129/31", "2001:db8:1::1/64"],
            &["10.1.0.0/24", "10.1.4.0/24", "2001:db8:1::/64"],
        ),
        v1::Interface {
            addresses: vec!["10.1.4.9/30".into()],
            ..core("core", &[])
        },
    ]);
    let other = FakeRouter::reaching("b", &["10.2.0.0/24", "2001:db8:2::/64"]);
    let _streams = (
        router.attach(server.address).await,
        other.attach(server.address).await,
    );
    let mut client = server.sessions().await;
    for (address, kind) in [
        ("10.1.0.0", "network address of 10.1.0.1/24 on lan0"),
        ("10.1.0.255", "broadcast address of 10.1.0.1/24 on lan0"),
        ("10.1.0.1", "router's own address"),
        ("10.1.4.9", "router's own address of 10.1.4.9/30 on core"),
        ("10.1.4.8", "network address"),
        ("[2001:db8:1::]", "subnet-router anycast address"),
        ("[2001:db8:1::1]", "router's own address"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "reserved"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("[fe80::1]", "link-local"),
        ("224.0.0.5", "multicast"),
        ("[ff02::1]", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
    ] {
        let end = format!("{address}:4000");
        let peer = if address.starts_with('[') {
            "[2001:db8:2::7]:4000"
        } else {
            "10.2.0.7:4000"
        };
        for (flow, field) in [
            (flow(&end, peer), "spec.flows[0].source.address"),
            (flow(peer, &end), "spec.flows[0].destination.address"),
        ] {
            let result = add(&mut client, spec("c1", vec![flow])).await;
            assert_status(result, Code::InvalidArgument, &[field, kind]);
        }
    }
    // Both ends on one host.
    let one = flow("10.1.0.5:4000", "10.1.0.5:5000");
    assert_status(
        add(&mut client, spec("c1", vec![one])).await,
        Code::InvalidArgument,
        &["spec.flows[0].destination.address", "10.1.0.5"],
    );
    let rtcp = v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::Explicit.into(),
            source: endpoint("10.1.0.1:4001"),
            destination: endpoint("10.2.0.7:4001"),
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    assert_status(
        add(&mut client, spec("c1", vec![rtcp])).await,
        Code::InvalidArgument,
        &["spec.flows[0].rtcp.source.address", "own address"],
    );
    // Both addresses of a /31 are hosts' (RFC 3021), and the rest of the subnet is.
    let good = flow("10.1.0.128:4000", "10.2.0.7:4000");
    add(&mut client, spec("c1", vec![good])).await.unwrap();
}

#[tokio::test]
async fn the_largest_request_within_the_limits_is_read() {
    let net = Network::start().await;
    // The longest texts that there are of an address.
    let long = "fd00:1111:2222:3333:4444:5555:255.255.255.";
    let end = |last: usize, port: u32| {
        let address = format!("{long}{last}");
        Some(v1::Endpoint { address, port })
    };
    let meter = v1::Meter {
        marker: Some(Marker::Rfc4115(Rfc4115 {
            eir_bps: 400_000_000_000,
            ebs_bytes: MOST,
        })),
        cir_bps: 400_000_000_000,
        cbs_bytes: MOST,
        colour_aware: true,
        drop_red: true,
    };
    let media = |index: u32| v1::MediaFlow {
        source: end(101, 10_000 + index),
        destination: end(102, 10_000 + index),
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::Explicit.into(),
            source: end(101, 20_000 + index),
            destination: end(102, 20_000 + index),
        }),
        meter: Some(meter),
        ..Default::default()
    };
    let change = |tag: u64| v1::SessionChange {
        tag: u64::MAX - tag,
        change: Some(Change::Add(v1::AddSessionRequest {
            spec: Some(v1::SessionSpec {
                key: Some(v1::SessionKey {
                    agent_id: "a".repeat(128),
                    session_id: format!("{tag:0>128}"),
                }),
                revision: u64::MAX,
                flows: (0..32).map(media).collect(),
                service_class: v1::ServiceClass::MultimediaConferencing.into(),
                ..Default::default()
            }),
        })),
        with_session: true,
    };
    let request = v1::ChangeSessionsRequest {
        changes: (0..256).map(change).collect(),
    };
    let bytes = request.encoded_len();
    let mut client = net.client.clone();
    let mut outcomes = client
        .change_sessions(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let mut codes = Vec::new();
    while let Some(response) = outcomes.next().await {
        let response = response.unwrap_or_else(|status| panic!("{bytes} bytes: {status}"));
        codes.extend(response.outcomes.iter().map(|it| it.code));
    }
    // Nobody reaches these addresses: each was read and judged.
    assert_eq!(codes, vec![i32::from(Code::NotFound); 256]);
}

async fn raw<T>(channel: Channel, path: &'static str, body: &str) -> Result<T, tonic::Status>
where
    T: prost::Message + prost::Name + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    // Its first field is a text, where the request has a message.
    let request = v1::Endpoint {
        address: body.to_owned(),
        port: 0,
    };
    let requests = tokio_stream::once(request);
    let codec = Codec::<v1::Endpoint, T>::default();
    let path = path.parse().unwrap();
    let answers = grpc.streaming(Request::new(requests), path, codec).await?;
    let mut answers: Streaming<T> = answers.into_inner();
    match answers.message().await? {
        Some(answer) => Ok(answer),
        None => Err(tonic::Status::unknown("no answer")),
    }
}

#[tokio::test]
async fn what_is_no_protobuf_is_an_invalid_argument() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let invalid = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    };
    let add =
        raw::<v1::AddSessionResponse>(channel.clone(), "/voicelane.v1.Sessions/AddSession", "zzz");
    invalid(add.await.unwrap_err());
    let changes = raw::<v1::ChangeSessionsResponse>(
        channel.clone(),
        "/voicelane.v1.Sessions/ChangeSessions",
        "zzz",
    );
    invalid(changes.await.unwrap_err());
    let explain = raw::<v1::ExplainSessionResponse>(
        channel.clone(),
        "/voicelane.v1.Operator/ExplainSession",
        "zzz",
    );
    invalid(explain.await.unwrap_err());
    let attach = raw::<v1::AttachResponse>(channel, "/voicelane.v1.Routers/Attach", "zzz");
    invalid(attach.await.unwrap_err());
}

#[tokio::test]
async fn an_answer_about_a_full_route_table_fits_a_client() {
    let server = TestServer::start().await;
    // As the Internet's table on a core interface, which needs a few bytes each.
    let prefixes: Vec<String> = (0..700_000_u32)
        .map(|n| format!("{}.{}.{}.0/24", 16 + (n >> 16), n >> 8 & 255, n & 255))
        .collect();
    let router = FakeRouter::new("a");
    router.set_interfaces(vec![
        edge("lan0", &["10.1.0.0/24"]),
        v1::Interface {
            prefixes: prefixes.clone(),
            ..core("core", &[])
        },
    ]);
    let _stream = router.attach(server.address).await;
    // A client as it comes.
    let mut operator = OperatorClient::new(server.channel().await);
    let listed = operator
        .list_routers(v1::ListRoutersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.routers.len(), 1);
    assert_eq!(listed.routers[0].interfaces.len(), 2);
    let request = v1::GetRouterRequest {
        router_id: "a".into(),
    };
    operator.get_router(request).await.unwrap();
}

#[tokio::test]
async fn the_older_reflection_is_served() {
    let server = TestServer::start().await;
    // The first field of a request is its host, in both versions.
    let answer = raw::<v1::Endpoint>(
        server.channel().await,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "host",
    )
    .await;
    // It says that the message asks for nothing, or answers; but it is there.
    if let Err(status) = answer {
        assert_ne!(status.code(), Code::Unimplemented, "{status:?}");
    }
}

#[tokio::test]
async fn a_router_with_too_many_addresses_is_refused_by_field() {
    let server = TestServer::start().await;
    let router = FakeRouter::new("a");
    router.set_interfaces(vec![v1::Interface {
        addresses: vec!["10.1.0.1/24".into(); 4_097],
        ..edge("lan0", &["10.1.0.0/24"])
    }]);
    let _stream = router.open(server.address).await;
    router
        .until("refused", |router| router.ended().is_some())
        .await;
    let status = router.ended().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("addresses"), "{status:?}");
}

/// As many routers, prefixes and interfaces as there may be: pages, of which each fits a client, and
/// all of it can be had.
#[tokio::test]
async fn routers_and_their_prefixes_come_in_pages() {
    let server = TestServer::start().await;
    let mut streams = Vec::new();
    for index in 0..12_u32 {
        let router = FakeRouter::new(&format!("r{index:02}"));
        let prefixes = |from: u32| -> Vec<String> {
            let texts = (0..5_000).map(|n| format!("2001:db8:{index:x}:{:x}::/64", from + n));
            texts.collect()
        };
        let interfaces = (0..10).map(|n| v1::Interface {
            prefixes: prefixes(n * 5_000),
            ..core(&format!("core{n}"), &[])
        });
        router.set_interfaces(interfaces.collect());
        streams.push(router.attach(server.address).await);
    }
    let mut operator = OperatorClient::new(server.channel().await);
    let (mut ids, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListRoutersRequest {
            page_size: 5,
            page_token,
        };
        let page = operator.list_routers(request).await.unwrap().into_inner();
        assert_eq!(page.total, 12);
        for router in page.routers {
            let shown = router.interfaces.iter().map(|it| it.prefixes.len());
            assert_eq!(shown.sum::<usize>(), 1_000);
            assert_eq!(router.prefix_counts.len(), 10);
            assert_eq!(router.prefix_counts[3].prefixes, 5_000);
            ids.push(router.router_id);
        }
        (pages, page_token) = (pages + 1, page.next_page_token);
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..12).map(|index| format!("r{index:02}")).collect();
    assert_eq!((ids, pages), (expected, 3));

    let (mut prefixes, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListPrefixesRequest {
            router_id: "r03".into(),
            interface: "core2".into(),
            page_size: 1_999,
            page_token,
        };
        let page = operator.list_prefixes(request).await.unwrap().into_inner();
        assert_eq!(page.total, 5_000);
        prefixes.extend(page.prefixes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    prefixes.dedup();
    assert_eq!(prefixes.len(), 5_000);
    for (router_id, interface, code) in [
        ("r99", "core2", Code::NotFound),
        ("r03", "lan7", Code::NotFound),
        ("r 3", "core2", Code::InvalidArgument),
    ] {
        let request = v1::ListPrefixesRequest {
            router_id: router_id.into(),
            interface: interface.into(),
            ..Default::default()
        };
        assert_status(operator.list_prefixes(request).await, code, &[]);
    }
    let request = v1::ListRoutersRequest {
        page_size: 1_001,
        ..Default::default()
    };
    assert_status(
        operator.list_routers(request).await,
        Code::InvalidArgument,
        &["page_size", "1 to 1000"],
    );
}
