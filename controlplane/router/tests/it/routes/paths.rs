//! Several ways to one network: shared, lost, and found again. Needs root.

use std::fs;

use crate::support::{BOUND, OneRouter, eventually};
use voicelane_testbed::{End, Process};

/// The usual network with a second link between the router and the right:
/// core 10.9.0.1 ── 10.9.0.2, backup 10.9.1.1 ── 10.9.1.2, and in IPv6 2001:db8:9::/64 and
/// 2001:db8:91::/64.
fn two_links(name: &str) -> (OneRouter, Process) {
    let network = OneRouter::new(name);
    let end = |namespace, interface| End {
        namespace,
        interface,
    };
    let (router, right) = (&network.router, &network.right);
    network
        .lab
        .link(end(router, "u-backup"), end(right, "eth1"))
        .unwrap();
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config
        .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"")
        .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config + BACKUP).unwrap();
    for (host, interface) in [(&network.left, "eth0"), (right, "eth0"), (right, "eth1")] {
        let key = format!("net.ipv6.conf.{interface}.disable_ipv6");
        host.sysctl(&key, "0").unwrap();
    }
    network.left.ip(LEFT).unwrap();
    right.ip(RIGHT).unwrap();
    let process = network.start();
    (network, process)
}

const BACKUP: &str = r#"
[[port]]
name = "backup"
device = "net_af_packet2,iface=u-backup"
role = "core"
addresses = ["10.9.1.1/30", "2001:db8:91::1/64"]
rate = "100Mbit/s"
"#;

const LEFT: &str = "addr add 2001:db8:1::10/64 dev eth0 nodad
route add default via 2001:db8:1::1";

/// Whatever comes by either link is answered by one that is there.
const RIGHT: &str = "addr add 10.9.1.2/30 dev eth1
addr add 2001:db8:9::2/64 dev eth0 nodad
addr add 2001:db8:91::2/64 dev eth1 nodad
addr add 2001:db8:2::1/64 dev lo
route add default via 10.9.1.1 metric 100
route add default via 2001:db8:9::1 metric 50
route add default via 2001:db8:91::1 metric 100";

/// How many packets core and backup have sent that the router did not make itself.
fn forwarded(network: &OneRouter) -> [f64; 2] {
    let metrics = network.metrics();
    let value = |name: &str, place: &str| -> f64 {
        let series = format!("voicelane_{name}_packets_total{{{place}}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap().parse().unwrap()
    };
    ["core", "backup"].map(|name| {
        let sent = value("port_tx", &format!("port=\"{name}\""));
        sent - value("interface_twin", &format!("interface=\"{name}\""))
    })
}

/// How 400 flows to an address are shared between core and backup.
fn shares(network: &OneRouter, address: &str) -> [f64; 2] {
    let before = forwarded(network);
    let send = format!("for port in {{5001..5400}}; do echo > /dev/udp/{address}/$port; done");
    network.left.run("bash", &["-c", &send], BOUND).unwrap();
    let (mut after, mut settled) = (before, 0);
    eventually("nothing under way any more", || {
        let now = forwarded(network);
        settled = if now == after { settled + 1 } else { 0 };
        after = now;
        settled >= 3
    });
    [0, 1].map(|port| after[port] - before[port])
}

/// Waits until flows are shared as they should be, give or take what 400 flows in 256 buckets do.
fn shared(network: &OneRouter, address: &str, core: f64, backup: f64) {
    let mut got = [0.0; 2];
    let near =
        |got: f64, part: f64| (got - 400.0 * part).abs() <= 60.0 * part.min(1.0 - part) * 2.0;
    eventually(&format!("{core} and {backup} of the flows"), || {
        got = shares(network, address);
        println!("{address}: {got:?} of 400 flows");
        near(got[0], core) && near(got[1], backup)
    });
}

#[test]
fn flows_are_shared_among_the_next_hops_of_a_route() {
    let (network, mut router) = two_links("shared");
    // Nobody has asked for either gateway's address yet.
    network
        .router
        .ip("route add 10.2.0.0/24 nexthop via 10.9.0.2 nexthop via 10.9.1.2")
        .unwrap();
    shared(&network, "10.2.0.1", 0.5, 0.5);
    network
        .router
        .ip("route replace 10.2.0.0/24 nexthop via 10.9.0.2 weight 3 nexthop via 10.9.1.2")
        .unwrap();
    shared(&network, "10.2.0.1", 0.75, 0.25);

    // Objects, as routing daemons use them.
    network
        .router
        .ip(
            "nexthop add id 11 via 10.9.0.2 dev core\nnexthop add id 12 via 10.9.1.2 dev backup
nexthop add id 20 group 11,1/12,3\nroute replace 10.2.0.0/24 nhid 20",
        )
        .unwrap();
    shared(&network, "10.2.0.1", 0.25, 0.75);
    network
        .router
        .ip("nexthop replace id 20 group 11/12")
        .unwrap();
    shared(&network, "10.2.0.1", 0.5, 0.5);
    network.router.ip("nexthop del id 12").unwrap();
    shared(&network, "10.2.0.1", 1.0, 0.0);
    network.router.ip("nexthop del id 11").unwrap();
    eventually("no route", || !network.pings("10.2.0.1"));

    // IPv6: added one by one, with other weights, taken away one by one.
    let route = |command: &str| {
        let command = format!("-6 route {command}");
        let args: Vec<_> = command.split(' ').collect();
        network.router.run("ip", &args, BOUND).unwrap();
    };
    route("add 2001:db8:2::/64 via 2001:db8:9::2");
    shared(&network, "2001:db8:2::1", 1.0, 0.0);
    route("append 2001:db8:2::/64 via 2001:db8:91::2");
    shared(&network, "2001:db8:2::1", 0.5, 0.5);
    route("del 2001:db8:2::/64 via 2001:db8:9::2");
    shared(&network, "2001:db8:2::1", 0.0, 1.0);
    route("replace 2001:db8:2::/64 nexthop via 2001:db8:9::2 weight 3 nexthop via 2001:db8:91::2");
    shared(&network, "2001:db8:2::1", 0.75, 0.25);
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

#[test]
fn a_link_that_is_lost_takes_its_routes_along_until_it_is_back() {
    let (network, mut router) = two_links("links");
    let link = |name: &str| {
        let args = ["-br", "link", "show", name];
        network.router.run("ip", &args, BOUND).unwrap()
    };
    network
        .router
        .ip("route add 10.2.0.0/24 via 10.9.0.2 metric 10
route add 10.2.0.0/24 via 10.9.1.2 metric 20
route add 2001:db8:2::/64 via 2001:db8:9::2 metric 10
route add 2001:db8:2::/64 via 2001:db8:91::2 metric 20
route add 10.3.0.0/24 nexthop via 10.9.0.2 nexthop via 10.9.1.2
route add 10.4.0.0/24 via 10.9.0.2")
        .unwrap();
    network
        .right
        .ip("addr add 10.3.0.1/24 dev lo\naddr add 10.4.0.1/24 dev lo")
        .unwrap();
    let up = "voicelane_interface_up{interface=\"core\"}";
    let far = ["10.2.0.1", "2001:db8:2::1"];
    for address in far {
        shared(&network, address, 1.0, 0.0);
    }
    shared(&network, "10.3.0.1", 0.5, 0.5);
    network.reaches("10.4.0.1");
    for _ in 0..2 {
        network.right.ip("link set eth0 down").unwrap();
        for address in far.iter().chain(&["10.3.0.1"]) {
            shared(&network, address, 0.0, 1.0);
        }
        assert!(link("core").contains("NO-CARRIER"), "{}", link("core"));
        assert_eq!(network.metric(up), 0.0);
        let lost = network.metric("voicelane_port_link_lost_packets_total{port=\"core\"}");
        println!("{lost} packets were to leave by the link that was lost");
        network.reaches("10.2.0.1");
        // Where only the lost link leads, the kernel says so.
        let refused = network
            .left
            .run("ping", &["-n", "-c1", "-W1", "10.4.0.1"], BOUND)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("Unreachable"), "{refused}");

        network
            .right
            .ip(
                "link set eth0 up\naddr replace 2001:db8:9::2/64 dev eth0 nodad
route replace default via 10.9.0.1\nroute replace default via 2001:db8:9::1 metric 50",
            )
            .unwrap();
        for address in far {
            shared(&network, address, 1.0, 0.0);
        }
        shared(&network, "10.3.0.1", 0.5, 0.5);
        network.reaches("10.4.0.1");
        assert!(!link("core").contains("NO-CARRIER"), "{}", link("core"));
        assert_eq!(network.metric(up), 1.0);
    }
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// RFC 8950: what FRR installs for BGP over links that have no IPv4 addresses.
#[test]
fn ipv4_goes_by_ipv6_next_hops() {
    let (network, mut router) = two_links("rfc8950");
    let link_local = |interface: &str| {
        let args = [
            "-6", "-o", "addr", "show", "dev", interface, "scope", "link",
        ];
        let output = network.right.run("ip", &args, BOUND).unwrap();
        let address = output
            .split_whitespace()
            .find(|word| word.starts_with("fe80"));
        address.unwrap().split('/').next().unwrap().to_owned()
    };
    let (core, backup) = (link_local("eth0"), link_local("eth1"));
    let route = |command: &str| network.router.ip(&format!("route {command}")).unwrap();
    route(&format!("add 10.2.0.0/24 via inet6 {core} dev core"));
    network.at_full_speed("10.2.0.1");
    route("replace 10.2.0.0/24 via inet6 2001:db8:9::2 dev core onlink");
    network.at_full_speed("10.2.0.1");
    route(&format!(
        "replace 10.2.0.0/24 nexthop via inet6 {core} dev core nexthop via inet6 {backup} dev backup"
    ));
    shared(&network, "10.2.0.1", 0.5, 0.5);
    route(&format!(
        "replace 10.2.0.0/24 nexthop via 10.9.0.2 weight 3 nexthop via inet6 {backup} dev backup"
    ));
    shared(&network, "10.2.0.1", 0.75, 0.25);
    network.at_full_speed("10.2.0.1");
    // A tunnel is the kernel's.
    route("replace 10.2.0.0/24 encap ip id 7 dst 10.9.0.2 via 10.9.0.2 dev core");
    let before = network.by_kernel();
    eventually("packets for the kernel", || {
        network.pings("10.2.0.1");
        network.by_kernel() > before + 3.0
    });
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// As FRR has the kernel with `nexthop_compat_mode=0`: a route's message says its object's number.
#[test]
fn routes_lead_where_their_objects_do() {
    let (network, mut router) = two_links("nexthops");
    network
        .router
        .sysctl("net.ipv4.nexthop_compat_mode", "0")
        .unwrap();
    let ip = |command: &str| network.router.ip(command).unwrap();
    let both = ["10.2.0.1", "2001:db8:2::1"];
    ip("nexthop add id 11 via 10.9.0.2 dev core
nexthop add id 12 via 10.9.1.2 dev backup
nexthop add id 61 via 2001:db8:9::2 dev core
nexthop add id 62 via 2001:db8:91::2 dev backup
nexthop add id 60 group 61/62,3
nexthop add id 20 group 11/12
route add 10.2.0.0/24 nhid 11
route add 2001:db8:2::/64 nhid 61");
    for address in both {
        network.at_full_speed(address);
    }
    ip("route replace 10.2.0.0/24 nhid 20\nroute replace 2001:db8:2::/64 nhid 60");
    shared(&network, both[0], 0.5, 0.5);
    shared(&network, both[1], 0.25, 0.75);
    // Groups change, and what is in them.
    ip("nexthop replace id 20 group 11,3/12\nnexthop replace id 60 group 61/62");
    shared(&network, both[0], 0.75, 0.25);
    shared(&network, both[1], 0.5, 0.5);
    ip("nexthop replace id 11 via 10.9.1.2 dev backup");
    shared(&network, both[0], 0.0, 1.0);
    ip("nexthop replace id 11 via inet6 2001:db8:9::2 dev core");
    shared(&network, both[0], 0.75, 0.25);
    ip("nexthop del id 12\nnexthop del id 62");
    for address in both {
        shared(&network, address, 1.0, 0.0);
        network.at_full_speed(address);
    }
    // The router starts while they are there.
    let prefixes = network.metric("voicelane_routes");
    ip("nexthop add id 30 blackhole\nroute replace 10.2.0.0/24 nhid 30");
    let dropped = "voicelane_interface_drops_total{interface=\"lan\",reason=\"blackhole\"}";
    eventually("drops", || {
        network.pings("10.2.0.1");
        network.metric(dropped) >= 1.0
    });
    assert_eq!(network.metric("voicelane_routes"), prefixes);
    ip("nexthop del id 60");
    eventually("no way", || !network.pings(both[1]));
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// Flows are shared at full speed, and what is too long for the route gets an answer with its MTU, whichever
/// way it would take.
#[test]
fn routes_with_several_next_hops_have_an_mtu() {
    let (network, mut router) = two_links("paths-mtu");
    let ip = |command: &str| network.router.ip(command).unwrap();
    ip(
        "route add 10.2.0.0/24 mtu 1350 nexthop via 10.9.0.2 nexthop via 10.9.1.2
route add 2001:db8:2::/64 mtu lock 1350 nexthop via 2001:db8:9::2 nexthop via 2001:db8:91::2",
    );
    let ping = |address: &str, bytes: u32| network.ping(address, bytes, "-Mdo");
    let flush = || {
        network.left.ip("route flush cache").unwrap();
        let args = ["-6", "route", "flush", "cache"];
        network.left.run("ip", &args, BOUND).unwrap();
    };
    for (address, says) in [("10.2.0.1", "mtu = 1350"), ("2001:db8:2::1", "mtu=1350")] {
        shared(&network, address, 0.5, 0.5);
        network.at_full_speed(address);
        ping(address, 1350).unwrap();
        // Of many flows, some go each way.
        for _ in 0..8 {
            flush();
            let error = ping(address, 1351).unwrap_err();
            assert!(error.contains(says), "{address}: {error}");
        }
    }
    // The IPv6 MTU is each interface's own: only what goes by backup is too long.
    ip("route replace 2001:db8:2::/64 nexthop via 2001:db8:9::2 nexthop via 2001:db8:91::2");
    network
        .router
        .sysctl("net.ipv6.conf.backup.mtu", "1300")
        .unwrap();
    shared(&network, "2001:db8:2::1", 0.5, 0.5);
    ip("route replace 2001:db8:2::/64 via 2001:db8:91::2");
    eventually("an answer that names backup's MTU", || {
        flush();
        ping("2001:db8:2::1", 1400).is_err_and(|error| error.contains("mtu=1300"))
    });
    ip("route replace 2001:db8:2::/64 via 2001:db8:9::2");
    eventually("core's MTU", || {
        flush();
        ping("2001:db8:2::1", 1500).is_ok()
    });
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// A route for a type of service, or for some sources, is the kernel's to choose.
#[test]
fn what_more_than_the_destination_decides_is_the_kernels() {
    let (network, mut router) = two_links("tos");
    network
        .router
        .ip("route add 10.2.0.0/24 via 10.9.0.2\nroute add 10.2.0.0/24 tos 0x10 via 10.9.1.2")
        .unwrap();
    network.reaches("10.2.0.1");
    let before = network.by_kernel();
    let args = ["-n", "-c5", "-i0.1", "-W1", "10.2.0.1"];
    network.left.run("ping", &args, BOUND).unwrap();
    let punted = network.by_kernel() - before;
    assert!(punted >= 5.0, "{punted}: the kernel chooses");
    network
        .router
        .ip("route del 10.2.0.0/24 tos 0x10 via 10.9.1.2")
        .unwrap();
    network.at_full_speed("10.2.0.1");
    assert!(router.stop().unwrap().success(), "{}", router.log());
}
