//! `TracePackets` of a running router, over the real gRPC. Needs root.

use std::{net::UdpSocket, thread, time::Duration};

use tonic::{Code, Status};
use voicelane_proto::v1::{
    Endpoint, TraceFlow, TracePacketsRequest, TracePacketsResponse, TraceStep, TracedPacket,
    trace_packets_request::Filter, traced_packet::Fate,
};

use crate::support::{BOUND, OneRouter};

fn end(address: &str, port: u32) -> Option<Endpoint> {
    let address = address.to_owned();
    Some(Endpoint { address, port })
}

fn on(interface: &str, packets: u32, timeout_ms: u32) -> TracePacketsRequest {
    TracePacketsRequest {
        packets,
        timeout_ms,
        filter: Some(Filter::Interface(interface.to_owned())),
        drops_only: false,
    }
}

/// All that a trace says.
fn traced(
    network: &OneRouter,
    request: TracePacketsRequest,
) -> Result<(Vec<TracedPacket>, u64), Status> {
    network.ask(async |mut client| {
        let mut parts = client.trace_packets(request).await?.into_inner();
        let (mut packets, mut left_out) = (vec![], 0);
        while let Some(TracePacketsResponse {
            packets: more,
            missed,
        }) = parts.message().await?
        {
            packets.extend(more);
            left_out = missed;
        }
        Ok((packets, left_out))
    })
}

fn steps(steps: &[TraceStep]) -> Vec<(&str, &str)> {
    let steps = steps.iter();
    steps
        .map(|step| (step.stage.as_str(), step.text.as_str()))
        .collect()
}

#[test]
fn a_running_router_says_what_it_did_with_packets() {
    let network = OneRouter::new("trace");
    let _router = network.start();
    network.reaches("10.9.0.2");
    let flow = TracePacketsRequest {
        packets: 5,
        filter: Some(Filter::Flow(TraceFlow {
            source: end("10.1.0.10", 4000),
            destination: end("10.9.0.2", 5000),
            both_directions: false,
        })),
        ..TracePacketsRequest::default()
    };
    let (packets, _) = thread::scope(|scope| {
        let tracing = scope.spawn(|| traced(&network, flow).unwrap());
        let send = || {
            let socket = UdpSocket::bind("0.0.0.0:4000").unwrap();
            let other = UdpSocket::bind("0.0.0.0:4001").unwrap();
            while !tracing.is_finished() {
                for from in [&other, &socket] {
                    from.send_to(&[7; 100], "10.9.0.2:5000").unwrap();
                }
                thread::sleep(Duration::from_millis(5));
            }
        };
        network.left.enter(send).unwrap();
        tracing.join().unwrap()
    });
    assert_eq!(packets.len(), 5);
    let packet = &packets[0];
    assert_eq!(packet.fate(), Fate::Queued, "{packet:?}");
    let neighbour = packet.steps.iter().find(|step| step.stage == "route");
    let neighbour = neighbour.unwrap().text.rsplit_once(' ').unwrap().1;
    assert_eq!(neighbour.len(), "02:00:00:00:00:01".len(), "{neighbour}");
    let (last, before) = packet.steps.split_last().unwrap();
    assert_eq!(last.stage, "schedule", "{packet:?}");
    assert!(last.text.starts_with("sent a"), "{last:?}");
    assert_eq!(
        steps(before),
        [
            ("rx", "lan, 142 bytes"),
            (
                "parse",
                "IPv4 udp 10.1.0.10:4000 > 10.9.0.2:5000, 128 bytes, DF, TTL 64"
            ),
            ("classify", "no session, no rule: trust of lan"),
            ("mark", "DF, class standard"),
            ("route", &format!("by core to {neighbour}")),
            ("queue", "core standard: let in"),
        ]
    );
    assert_eq!((packet.frame.len(), packet.frame_bytes), (142, 142));
    assert_eq!(packet.egress, "core");

    // Nothing is lost by it, whoever sends as fast as can be; what was not read in time is told.
    let before = network.metric("voicelane_port_rx_packets_total{port=\"lan\"}");
    let (packets, _) = thread::scope(|scope| {
        let tracing = scope.spawn(|| traced(&network, on("lan", 1_000, 10_000)).unwrap());
        while !tracing.is_finished() {
            network.at_full_speed("10.9.0.2");
        }
        tracing.join().unwrap()
    });
    assert_eq!(packets.len(), 1_000);
    assert!(packets.is_sorted_by_key(|packet| packet.at_unix_ns));
    let after = network.metric("voicelane_port_rx_packets_total{port=\"lan\"}");
    assert!(after - before >= 2_000.0, "{before} {after}");

    // One at a time; it ends with its reader.
    let refused = traced(&network, on("wan", 1, 1)).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("lan, core"), "{refused}");
    let wrong = traced(&network, on("lan", 1_001, 1)).unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    network.ask(async |mut client| {
        let endless = || on("core", 1_000, 600_000);
        let first = client.trace_packets(endless()).await.unwrap();
        let second = client.trace_packets(endless()).await.unwrap_err();
        assert_eq!(second.code(), Code::ResourceExhausted);
        drop(first);
        let again = async {
            while client.trace_packets(on("core", 1, 1)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(BOUND, again).await.unwrap();
    });
    let drops = TracePacketsRequest {
        timeout_ms: 200,
        drops_only: true,
        ..TracePacketsRequest::default()
    };
    assert_eq!(traced(&network, drops).unwrap(), (vec![], 0));
}
