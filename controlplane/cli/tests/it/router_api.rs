//! The commands that ask a router itself, against a scripted one.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{phones, run_at};
use crate::common::{edge, endpoint, key};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use voicelane_proto::v1::{
    self,
    router_operator_server::{RouterOperator, RouterOperatorServer},
};

pub(crate) struct FakeApi;

fn meter(name: &str) -> v1::MeterStatus {
    v1::MeterStatus {
        name: name.into(),
        terms: "srtcm cir 1Mbit/s".into(),
        colours: vec![v1::ColourStatus {
            colour: "red".into(),
            action: "drop".into(),
            packets: 44,
            bytes: 4_400,
        }],
    }
}

fn sender(address: &str, (packets, error_packets): (u64, u64)) -> v1::SenderStatus {
    v1::SenderStatus {
        address: address.into(),
        dscp: "EF".into(),
        packets,
        error_packets,
        bytes: (packets - error_packets) * 200,
        last_seen_ms_ago: 8,
        offence: "spoofed".into(),
    }
}

#[tonic::async_trait]
impl RouterOperator for FakeApi {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(v1::GetStatusResponse {
            router_id: "a".into(),
            dpdk_version: "DPDK 22.11".into(),
            attached: true,
            server: "192.0.2.10:7400".into(),
            ..Default::default()
        }))
    }

    async fn report_ef(
        &self,
        request: Request<v1::ReportEfRequest>,
    ) -> Result<Response<v1::ReportEfResponse>, Status> {
        let window_s = request.get_ref().window_s;
        Ok(Response::new(v1::ReportEfResponse {
            router_id: "a".into(),
            since_start: window_s == 0,
            seconds: window_s.into(),
            ports: vec![v1::PortEf {
                port: "lan0".into(),
                rate_bps: 1_000_000_000,
                packets: 20,
                ideal_us: 12.3,
                phbs: vec![v1::PhbDelay {
                    phb: "telephony".into(),
                    delay_us: None,
                }],
                ..Default::default()
            }],
            ..Default::default()
        }))
    }

    async fn list_ports(
        &self,
        _: Request<v1::ListPortsRequest>,
    ) -> Result<Response<v1::ListPortsResponse>, Status> {
        let queue = |phb: &str, count| v1::QueueStatus {
            phb: phb.into(),
            sent_packets: count,
            counters: vec![v1::CounterValue {
                name: "early_packets".into(),
                label: "2".into(),
                value: 321,
            }],
            delay_us: Some(v1::Quantiles {
                count,
                p50: 12.0,
                p99: 90.0,
                ..Default::default()
            }),
            ..Default::default()
        };
        let port = v1::PortStatus {
            interface: Some(edge("lan0", &["10.1.0.0/24"])),
            device: "net_af_packet0".into(),
            rx_packets: 77,
            drops: vec![v1::NamedCount {
                name: "ttl_expired".into(),
                packets: 3,
            }],
            queues: vec![queue("ef", 5), queue("default", 0)],
            vlans: vec![v1::VlanStatus {
                interface: Some(phones()),
                rx_packets: 33,
                bleached_packets: 4,
                spoofed_packets: 9,
                trust: "bleach".into(),
                ..Default::default()
            }],
            bleached_packets: 1_234,
            trust: "remark EF->AF41".into(),
            port_counters: vec![v1::CounterValue {
                name: "link_lost_packets".into(),
                value: 654,
                ..Default::default()
            }],
            aggregates: vec![v1::AggregateStatus {
                phb: "telephony".into(),
                meter: Some(meter("trunk")),
            }],
            senders: vec![
                sender("10.1.0.66", (1_000, 0)),
                sender("2001:db8::66", (200, 30)),
            ],
            ..Default::default()
        };
        let definition = |of: &str, name: &str, label: &str, help: &str| v1::CounterDefinition {
            of: of.into(),
            name: name.into(),
            label: label.into(),
            help: help.into(),
            ..Default::default()
        };
        Ok(Response::new(v1::ListPortsResponse {
            ports: vec![port],
            definitions: vec![
                definition("port", "link_lost_packets", "", "Lost with the link"),
                definition("queue", "early_packets", "precedence", "Dropped early"),
            ],
        }))
    }

    async fn list_rules(
        &self,
        _: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let sip = v1::RuleStatus {
            name: "sip".into(),
            interfaces: vec!["lan0".into()],
            destinations: vec!["10.2.0.0/16".into(), "2001:db8:2::/48".into()],
            protocols: vec!["udp".into()],
            destination_ports: vec!["5060-5061".into()],
            action: "CS5".into(),
            meter: Some(meter("signalling")),
            packets: 99,
            bytes: 9_900,
            ..Default::default()
        };
        let rest = v1::RuleStatus {
            name: "rest".into(),
            action: "keep".into(),
            ..Default::default()
        };
        let rules = vec![sip, rest];
        Ok(Response::new(v1::ListRulesResponse {
            rules,
            kernel_trust: "bleach".into(),
            kernel_routing: vec!["bgp".into(), "ospf".into()],
        }))
    }

    async fn reload(
        &self,
        _: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ReloadResponse>, Status> {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Response::new(v1::ReloadResponse {
                changes: vec![
                    "rule sip is new".into(),
                    "lan: trust was bleach, is keep".into(),
                ],
            })),
            1 => Ok(Response::new(v1::ReloadResponse::default())),
            _ => Err(Status::invalid_argument(
                "router.toml: rule.sip.mark: \"CS9\" is no code point",
            )),
        }
    }

    type ListEntriesStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<v1::ListEntriesResponse, Status>>>;

    async fn list_entries(
        &self,
        _: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<Self::ListEntriesStream>, Status> {
        let part = |name: &str| {
            Ok(v1::ListEntriesResponse {
                entries: vec![v1::EntryCounters {
                    key: key(name),
                    kind: v1::FlowKind::Rtcp.into(),
                    source: endpoint("[2001:db8::5]:4000"),
                    destination: endpoint("10.2.0.7:4000"),
                    packets: 9,
                    colours: (name == "c2").then(|| v1::ColourCounts {
                        green_packets: 5,
                        yellow_packets: 3,
                        red_packets: 1,
                        ..Default::default()
                    }),
                    ..Default::default()
                }],
            })
        };
        Ok(Response::new(tokio_stream::iter(vec![
            part("c1"),
            part("c2"),
        ])))
    }

    type TracePacketsStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<v1::TracePacketsResponse, Status>>>;

    async fn trace_packets(
        &self,
        request: Request<v1::TracePacketsRequest>,
    ) -> Result<Response<Self::TracePacketsStream>, Status> {
        let parts = crate::trace::parts(request.get_ref())?;
        Ok(Response::new(tokio_stream::iter(parts)))
    }
}

/// Serves it; gives its address.
pub(crate) async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(RouterOperatorServer::new(FakeApi))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    url
}

#[tokio::test]
async fn a_router_itself_is_asked() {
    let url = serve().await;
    let ask = async |line: &str| {
        run_at("http://127.0.0.1:1", &format!("{line} --router-api {url}")).await
    };
    ask("router stats").await.shows(&[
        "router a: up 0 s, attached to 192.0.2.10:7400",
        ", DPDK 22.11\n",
        "net_af_packet0",
        "77",
        "ttl_expired 3",
        "lan0.100",
        "VLAN 100 of lan0",
        "33",
        "ef",
        "90",
        "link_lost_packets",
        "654",
        "Lost with the link",
        "early_packets (precedence 2)",
        "321",
        "Dropped early",
    ]);
    let stats = ask("router stats --json").await.json();
    assert_eq!(stats["ports"][0]["queues"][0]["delayUs"]["p99"], 90.0);
    assert_eq!(stats["ports"][0]["queues"][1]["delayUs"]["count"], "0");
    assert_eq!(stats["ports"][0]["vlans"][0]["bleachedPackets"], "4");
    assert_eq!(stats["ports"][0]["vlans"][0]["interface"]["vlanId"], 100);
    assert_eq!(stats["status"]["dpdkVersion"], "DPDK 22.11");
    ask("router entries").await.shows(&[
        "test/c1",
        "test/c2",
        "[2001:db8::5]:4000",
        "5 / 3 / 1",
        "never",
    ]);
    let entries = ask("router entries --json").await.json();
    assert_eq!(entries["entries"][1]["key"]["sessionId"], "c2");
    assert_eq!(entries["entries"][1]["kind"], "FLOW_KIND_RTCP");
    assert_eq!(entries["entries"][0]["colours"], Value::Null);
    assert_eq!(entries["entries"][1]["colours"]["yellowPackets"], "3");

    ask("router rules").await.shows(&[
        "on lan0",
        "to 10.2.0.0/16, 2001:db8:2::/48",
        "destination port 5060-5061",
        "CS5",
        "signalling (srtcm cir 1Mbit/s)",
        "red 44: drop",
        "rest",
        "all",
        "remark EF->AF41",
        "telephony: trunk",
    ]);
    let rules = ask("router rules --json").await.json();
    assert_eq!(rules["rules"][0]["meter"]["colours"][0]["packets"], "44");
    assert_eq!(rules["rules"][1]["meter"], Value::Null);
    assert_eq!(rules["ports"][0]["trust"], "remark EF->AF41");
    ask("router senders").await.shows(&[
        "10.1.0.66",
        " 1000 ",
        "spoofed",
        "170 to 200",
        "lan0: 1234 packets bleached",
        "lan0.100: 4 packets bleached or remarked, 9 with a call's five-tuple",
    ]);
    let senders = ask("router senders --json").await.json();
    assert_eq!(senders["ports"][0]["senders"][1]["errorPackets"], "30");
    assert_eq!(senders["ports"][0]["bleachedPackets"], "1234");
    ask("router reload")
        .await
        .shows(&["rule sip is new\n", "trust was bleach"]);
    let reloaded = ask("router reload --json").await.json();
    assert_eq!(reloaded["changes"], Value::Array(vec![]));
    ask("router reload")
        .await
        .fails(1, &["INVALID_ARGUMENT", "rule.sip.mark"]);
    ask("router reload --help").await.shows(&["SIGHUP"]);

    let svg = std::env::temp_dir().join(format!("voicelane-ef-{}.svg", std::process::id()));
    ask(&format!("router ef-report --svg {}", svg.display()))
        .await
        .shows(&["router a since its start", "1 Gbit/s", "12.3", "telephony"]);
    assert!(std::fs::read_to_string(&svg).unwrap().contains("telephony"));
    std::fs::remove_file(&svg).unwrap();
    ask("router ef-report --svg /nowhere/ef.svg")
        .await
        .fails(1, &["OUTPUT", "cannot write /nowhere/ef.svg"]);
    let report = ask("router ef-report --window 5 --json").await.json();
    assert_eq!(
        (&report["sinceStart"], &report["seconds"]),
        (&false.into(), &5.0.into())
    );
    assert_eq!(report["ports"][0]["packets"], "20");
}
