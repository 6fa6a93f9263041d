//! Packets in parts, on real ports: every fragment of a call's packet has the call's treatment. Needs
//! root.
//!
//! The ports are net_tap's: under net_af_packet the kernel puts fragments together again.

use std::{net::UdpSocket, time::Duration};

use crate::network::{Network, port};
use voicelane_proto::v1::SessionKey;
use voicelane_testbed::{
    Namespace, PortDriver, RouterOptions, Site, TwoSites, control::call_session,
    topology::IpVersion, traffic::Flow,
};

/// With Ethernet's MTU: three fragments a datagram.
const DATAGRAM_BYTES: usize = 4_000;
const DATAGRAMS: usize = 20;
const PARTS: u64 = 60;

/// Sends datagrams of a flow, and gives how many arrived whole.
fn send(from: &Namespace, to: &Namespace, flow: &Flow) -> usize {
    let receiver = to
        .enter(|| UdpSocket::bind(flow.destination))
        .unwrap()
        .unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let sender = from
        .enter(|| UdpSocket::bind(flow.source))
        .unwrap()
        .unwrap();
    let mut buffer = vec![0; 2 * DATAGRAM_BYTES];
    let mut arrived = 0;
    for _ in 0..DATAGRAMS {
        sender
            .send_to(&vec![7; DATAGRAM_BYTES], flow.destination)
            .unwrap();
        arrived += usize::from(matches!(receiver.recv(&mut buffer), Ok(DATAGRAM_BYTES)));
    }
    arrived
}

fn fragments_carry_ef(lab: &str, ip: IpVersion) {
    let options = RouterOptions {
        ports: PortDriver::Tap,
        ipv6: ip == IpVersion::V6,
        ..RouterOptions::default()
    };
    let sites = TwoSites::with_ip(lab, ip).expect("this test needs root");
    let network = Network::on(sites, |_| options.clone());
    let flows = network.sites.calls_over(ip, 2);
    let (call, other) = (&flows[0], &flows[2]);
    let key = SessionKey {
        agent_id: "test".to_owned(),
        session_id: "call".to_owned(),
    };
    let mut session = call_session(key, &flows[..1]);
    session.flows[0].max_bitrate_bps = 4_000_000;
    session.flows[0].max_burst_bytes = 100_000;
    network.agent.add_session(session).unwrap();

    let (caller, callee) = (network.sites.phone(Site::A), network.sites.phone(Site::B));
    assert_eq!(send(caller, callee, call), DATAGRAMS);
    assert_eq!(send(caller, callee, other), DATAGRAMS);

    for (site, edge) in [(Site::A, "lan"), (Site::B, "core")] {
        let (ports, _) = network.agent.router_ports(site).unwrap();
        let sent: u64 = ports
            .iter()
            .flat_map(|port| &port.queues)
            .filter(|queue| queue.phb == "telephony")
            .map(|queue| queue.sent_packets)
            .sum();
        assert_eq!(sent, PARTS, "all parts of the call's, at {site:?}");
        let unled = port(&ports, edge).fragment_packets;
        assert_eq!(unled, PARTS / 3 * 2, "the other's parts without ports");
    }
}

#[test]
fn every_part_of_a_calls_packet_is_marked() {
    fragments_carry_ef("parts4", IpVersion::V4);
}

#[test]
fn every_part_of_a_calls_ipv6_packet_is_marked() {
    fragments_carry_ef("parts6", IpVersion::V6);
}
