//! Rules on real interfaces, changed while packets flow. Needs root.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::support::{BOUND, OneRouter, eventually};
use nix::sys::signal::Signal;
use tonic::{Code, Status};
use voicelane_proto::v1::{
    ListPortsRequest, ListRulesRequest, PortStatus, ReloadRequest, RuleStatus,
};
use voicelane_testbed::Capture;

fn reload(network: &OneRouter) -> Result<Vec<String>, Status> {
    network.ask(async |mut client| {
        let answer = client.reload(ReloadRequest {}).await?;
        Ok(answer.into_inner().changes)
    })
}

fn rules(network: &OneRouter) -> Vec<RuleStatus> {
    network.ask(async |mut client| {
        let answer = client.list_rules(ListRulesRequest {}).await.unwrap();
        answer.into_inner().rules
    })
}

fn lan(network: &OneRouter) -> PortStatus {
    let mut ports = network.ask(async |mut client| {
        let answer = client.list_ports(ListPortsRequest {}).await.unwrap();
        answer.into_inner().ports
    });
    ports.swap_remove(0)
}

const SIP: &str = "
[[rule]]
name = \"sip\"
protocol = [\"udp\", \"tcp\"]
destination_port = \"5060-5061\"
mark = \"CS5\"

[[rule]]
name = \"rest\"
destination = \"10.2.0.0/16\"
mark = \"keep\"
";

/// Numbered datagrams to a port of the right host until told to stop; gives how many.
fn send(network: &OneRouter, stop: &AtomicBool) -> u32 {
    let sent = network.left.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:5060").unwrap();
        let mut number = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            let payload = [&number.to_be_bytes()[..], &[0xff; 96]].concat();
            socket.send_to(&payload, "10.9.0.2:5060").unwrap();
            number += 1;
            thread::sleep(Duration::from_millis(1));
        }
        number
    });
    sent.unwrap()
}

#[test]
fn signalling_gets_its_class_and_rules_change_while_it_flows() {
    let network = OneRouter::new("rules");
    let ports = fs::read_to_string(&network.config).unwrap();
    let write = |rules: &str| fs::write(&network.config, format!("{ports}{rules}")).unwrap();
    write(SIP);
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let open = network
        .right
        .enter(|| UdpSocket::bind("0.0.0.0:5060").unwrap());
    let _open = open.unwrap();
    let capture = Capture::start(&network.lab, &network.right, "eth0", "udp port 5060").unwrap();

    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&network, &stop));
        let matched = || rules(&network)[0].packets;
        eventually("matched packets", || matched() > 100);

        // By signal.
        let other = SIP.replace("CS5", "CS3");
        write(&other);
        router.signal(Signal::SIGHUP).unwrap();
        router.wait_for_log("rule sip has changed", BOUND).unwrap();
        let before = matched();
        eventually("more packets", || matched() > before + 100);

        // What is wrong, or cannot change, is refused, and all stays.
        write(&other.replace("CS3", "CS9"));
        let refused = reload(&network).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("rule.sip.mark: "), "{refused}");
        write(&format!("mtu = 1400\n{SIP}"));
        let refused = reload(&network).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let says = "port.core.mtu: was not there, is 1400";
        assert!(refused.message().contains(says), "{refused}");
        router.signal(Signal::SIGHUP).unwrap();
        router.wait_for_log("not taken", BOUND).unwrap();
        assert_eq!(rules(&network)[0].action, "CS3");
        let before = matched();
        eventually("more packets", || matched() > before + 100);

        // By the API: the rules in another order, and trust.
        let all = "[[rule]]\nname = \"all\"\nprotocol = \"udp\"\nmark = \"AF41\"\n";
        write(&format!("trust = \"bleach\"\n{all}{other}"));
        let changes = reload(&network).unwrap();
        assert_eq!(
            changes,
            ["rule all is new", "core: trust was keep, is bleach"]
        );
        assert_eq!(reload(&network).unwrap(), Vec::<String>::new());
        let names: Vec<_> = rules(&network).into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["all", "sip", "rest"]);
        eventually("packets of the first rule", || matched() > 100);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    eventually("the last packet", || {
        let counted: u64 = rules(&network).iter().map(|rule| rule.packets).sum();
        counted == u64::from(sent)
    });
    // tcpdump leaves unread what it has not read when it is stopped: pcap's headers of 24 and 16
    // bytes, and frames of 142.
    let captured = network.lab.dir().join("right-eth0.pcap");
    let length = 24 + u64::from(sent) * (16 + 142);
    eventually("every packet in the capture", || {
        fs::metadata(&captured).unwrap().len() >= length
    });
    let (pcap, lost) = capture.stop().unwrap();
    assert_eq!(lost, 0);

    // Each packet arrived, in order; the code points are the three policies', one after the other.
    let fields = ["ip.dsfield.dscp", "udp.payload"];
    let rows = Capture::fields(&pcap, "udp.dstport == 5060", &fields).unwrap();
    let number = |row: &[String]| u32::from_str_radix(&row[1].replace(':', "")[..8], 16).unwrap();
    let numbers: Vec<_> = rows.iter().map(|row| number(row)).collect();
    assert!(
        numbers.iter().copied().eq(0..sent),
        "{sent} sent: {numbers:?}"
    );
    let mut seen: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    seen.dedup();
    assert_eq!(seen, ["40", "24", "34"], "CS5, CS3, AF41");
    let counted = "voicelane_rule_packets_total{rule=\"all\"}";
    assert!(network.metric(counted) > 100.0);
    assert!(router.stop().unwrap().success());
}

#[test]
fn whoever_claims_ef_without_a_call_is_named() {
    let network = OneRouter::new("senders");
    let _router = network.start();
    network.reaches("10.9.0.2");
    assert_eq!(lan(&network).senders, []);
    let args = ["-n", "-c20", "-i0.02", "-W1", "-Q", "0xb8", "10.9.0.2"];
    network.left.run("ping", &args, BOUND).unwrap();
    eventually("the sender", || !lan(&network).senders.is_empty());
    let port = lan(&network);
    let [sender] = port.senders.as_slice() else {
        panic!("{:?}", port.senders)
    };
    assert_eq!(
        (sender.address.as_str(), sender.dscp.as_str()),
        ("10.1.0.10", "EF")
    );
    assert_eq!(
        (sender.packets, sender.error_packets, sender.bytes),
        (20, 0, 20 * 84)
    );
    assert_eq!((port.bleached_packets, port.trust.as_str()), (20, "bleach"));
    let series = "voicelane_bleached_sender_packets{port=\"lan\",source=\"10.1.0.10\",dscp=\"EF\"}";
    eventually("the sender's series", || {
        network.metrics().contains(&format!("\n{series} 20\n"))
    });
}
