//! The bytes on the core link, by somebody else's eyes: tcpdump captures, tshark decodes. Needs root.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::network::Network;
use voicelane_testbed::{Capture, RouterOptions, Site, traffic::Calls};

#[test]
fn only_session_packets_carry_ef() {
    let network = Network::new("wire", &RouterOptions::default());
    let mut flows = network.sites.calls(8);
    // Every ECN, with and without a code point of the sender's own; the first four calls get
    // sessions, the others claim EF for nothing.
    for (index, flow) in flows.iter_mut().enumerate() {
        let ecn = u8::try_from(index / 2 % 4).unwrap();
        flow.tos = [0, 46 << 2, 34 << 2, 48 << 2][index / 4 % 4] | ecn;
    }
    let (with, _) = flows.split_at(8);
    for (call, flows) in with.chunks(2).enumerate() {
        network.add(&format!("call-{call}"), flows);
    }
    let bulk = network.bulk(5_000_000, 1_200);
    bulk.set_tos(46 << 2 | 1);
    thread::sleep(Duration::from_millis(100));
    // A frame that a router sends is seen where it arrives.
    let captures = Site::BOTH.map(|site| {
        let router = network.sites.router(site);
        Capture::start(&network.sites.lab, router, "u-core", "udp").unwrap()
    });
    let mut calls = Calls::start(flows.clone()).unwrap();
    thread::sleep(Duration::from_secs(3));
    calls.stop(true).unwrap();
    bulk.stop().unwrap();
    let fields = [
        "ip.src",
        "udp.srcport",
        "ip.dst",
        "udp.dstport",
        "ip.dsfield.dscp",
        "ip.dsfield.ecn",
        "ip.ttl",
        "ip.checksum.status",
        "udp.checksum.status",
    ];
    let mut rows = vec![];
    for capture in captures {
        let (pcap, lost) = capture.stop().unwrap();
        assert_eq!(lost, 0, "tcpdump kept up");
        rows.extend(Capture::fields(&pcap, "udp", &fields).unwrap());
    }
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in &rows {
        let [
            source,
            source_port,
            destination,
            destination_port,
            dscp,
            ecn,
            ttl,
            ip,
            udp,
        ] = row.as_slice()
        else {
            panic!("{row:?}")
        };
        let endpoints = (
            format!("{source}:{source_port}"),
            format!("{destination}:{destination_port}"),
        );
        let flow = flows
            .iter()
            .position(|flow| endpoints == (flow.source.to_string(), flow.destination.to_string()));
        let (expected_dscp, expected_ecn) = match flow {
            Some(index) => (if index < 8 { "46" } else { "0" }, flows[index].tos & 3),
            None => ("0", 1), // bulk
        };
        assert_eq!(dscp, expected_dscp, "{row:?}");
        assert_eq!(ecn, &expected_ecn.to_string(), "ECN untouched: {row:?}");
        assert_eq!(ttl, "63", "one less: {row:?}");
        assert_eq!(
            (ip.as_str(), udp.as_str()),
            ("1", "1"),
            "checksums good: {row:?}"
        );
        *seen.entry(endpoints).or_default() += 1;
    }
    assert_eq!(seen.len(), 17, "both ways of eight calls, and bulk");
    for (index, flow) in flows.iter().enumerate() {
        let endpoints = (flow.source.to_string(), flow.destination.to_string());
        let packets = seen[&endpoints];
        assert_eq!(
            packets,
            calls.sent(index),
            "each packet of {endpoints:?} crossed"
        );
        assert!(packets > 140);
    }
}
