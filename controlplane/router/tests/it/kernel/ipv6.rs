//! The router as a Linux router of IPv6: neighbours, hop limits, sizes, routes. Needs root.
//!
//!     left 2001:db8:1::10 ── lan ::1 [router] core 2001:db8:9::1 ── right 2001:db8:9::2, 2001:db8:2::1

use std::fs;

use crate::support::{BOUND, OneRouter, eventually};

/// The network of the IPv4 tests with IPv6 beside it.
fn network(name: &str) -> OneRouter {
    let network = OneRouter::new(name);
    for host in [&network.left, &network.right] {
        host.enable_ipv6("eth0").unwrap();
    }
    network
        .left
        .ip("addr add 2001:db8:1::10/64 dev eth0\nroute add default via 2001:db8:1::1")
        .unwrap();
    network
        .right
        .ip("addr add 2001:db8:9::2/64 dev eth0\naddr add 2001:db8:2::1/64 dev lo")
        .unwrap();
    network
        .right
        .ip("route add default via 2001:db8:9::1")
        .unwrap();
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config
        .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"")
        .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config).unwrap();
    network
}

/// What a series counts more, by the time that `work` is done.
fn counted(network: &OneRouter, series: &str, work: impl FnOnce()) -> f64 {
    let before = network.metric(series);
    work();
    std::thread::sleep(std::time::Duration::from_millis(150)); // the API keeps its figures so long
    network.metric(series) - before
}

#[test]
fn it_answers_forwards_and_shows_up_in_traceroute() {
    let network = network("answers6");
    let mut router = network.start();
    for address in ["2001:db8:1::1", "2001:db8:9::1", "2001:db8:9::2"] {
        network.reaches(address);
    }
    network.reaches("10.9.0.2");
    // Its link-local address, which is of the port's MAC address, answers as well.
    let args = ["-n", "-c1", "-W2", "fe80::ff:fe00:9901%eth0"];
    network.right.run("ping", &args, BOUND).unwrap();
    let args = ["-n", "-c20", "-i0.02", "-W1", "2001:db8:1::1"];
    let answers = network.left.run("ping", &args, BOUND).unwrap();
    assert!(
        answers.contains("20 received") && !answers.contains("duplicates"),
        "{answers}"
    );

    // Through the fast path, not the kernel: the hop limit is less one, once, and nothing is punted.
    let punts = "voicelane_interface_punts_total{interface=\"lan\",reason=\"unknown-neighbour\"}";
    let punted = counted(&network, punts, || {
        let args = ["-n", "-c20", "-i0.02", "-W1", "2001:db8:9::2"];
        let answers = network.left.run("ping", &args, BOUND).unwrap();
        assert!(
            answers.contains("20 received") && answers.contains("ttl=63"),
            "{answers}"
        );
    });
    assert!(punted < 2.0, "{punted} of 20 went through the kernel");

    let expired = "voicelane_interface_punts_total{interface=\"lan\",reason=\"ttl-expired\"}";
    let expired = counted(&network, expired, || {
        let args = ["-6", "-n", "-q1", "-w1", "2001:db8:9::2"];
        let hops = network.left.run("traceroute", &args, BOUND).unwrap();
        let hops: Vec<_> = hops
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(1))
            .collect();
        assert_eq!(hops, ["2001:db8:1::1", "2001:db8:9::2"]);
    });
    assert!(expired >= 1.0);
    let args = ["-n", "-c1", "-W1", "2001:db8:77::1"];
    let refused = network.left.run("ping", &args, BOUND).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("From 2001:db8:1::1") && refused.contains("nreachable"),
        "{refused}"
    );
    assert!(router.stop().unwrap().success());
}

#[test]
fn what_is_too_large_is_refused_by_the_kernel() {
    let network = network("sizes6");
    let config = fs::read_to_string(&network.config).unwrap();
    fs::write(&network.config, format!("{config}mtu = 1400\n")).unwrap();
    network.right.ip("link set eth0 mtu 1400").unwrap();
    let _router = network.start();
    network.reaches("2001:db8:9::2");
    network.ping("2001:db8:9::2", 1400, "-Mdo").unwrap();
    let refused = network.ping("2001:db8:9::2", 1500, "-Mdo").unwrap_err();
    assert!(
        refused.contains("From 2001:db8:1::1") && refused.contains("too big: mtu=1400"),
        "{refused}"
    );
    let punted = "voicelane_interface_punts_total{interface=\"lan\",reason=\"oversize\"}";
    assert!(network.metric(punted) >= 1.0);
    // The host has learned it, and sends fragments.
    network.ping("2001:db8:9::2", 1500, "-Mdont").unwrap();
}

#[test]
fn routes_and_neighbours_take_effect_while_it_runs() {
    let network = network("routes6");
    let _router = network.start();
    network.reaches("2001:db8:9::2");
    let ip = |lines: &str| network.router.ip(lines).unwrap();
    assert!(!network.pings("2001:db8:2::1"), "no route yet");
    ip("route add 2001:db8:2::/64 via 2001:db8:9::2");
    network.reaches("2001:db8:2::1");
    ip("route replace blackhole 2001:db8:2::/64");
    eventually("a dropped ping", || !network.pings("2001:db8:2::1"));
    let blackholed = "voicelane_interface_drops_total{interface=\"lan\",reason=\"blackhole\"}";
    eventually("counted drops", || network.metric(blackholed) > 0.0);
    ip("route del blackhole 2001:db8:2::/64");

    // A gateway by its link-local address, which says nothing without its interface.
    let address = network
        .right
        .run("ip", &["-6", "-br", "addr", "show", "eth0"], BOUND)
        .unwrap();
    let gateway = address
        .split_whitespace()
        .find_map(|word| word.strip_suffix("/64").filter(|a| a.starts_with("fe80")))
        .unwrap();
    ip(&format!("route add default via {gateway} dev core"));
    network.reaches("2001:db8:2::1");
    let punts = "voicelane_interface_punts_total{interface=\"lan\",reason=\"unknown-neighbour\"}";
    let punted = counted(&network, punts, || {
        let args = ["-n", "-c20", "-i0.02", "-W1", "2001:db8:2::1"];
        network.left.run("ping", &args, BOUND).unwrap();
    });
    assert!(punted < 2.0, "{punted} of 20 went through the kernel");

    // Neighbours that the kernel forgot are found again.
    ip("neigh flush dev core\nneigh flush dev lan");
    network.reaches("2001:db8:2::1");
    network.reaches("2001:db8:9::2");
    // Of two ways one goes, and the other one remains.
    ip("route add 2001:db8:2::/64 via 2001:db8:9::77");
    ip("route append 2001:db8:2::/64 via 2001:db8:9::2");
    ip("route del 2001:db8:2::/64 via 2001:db8:9::77 dev core");
    network.reaches("2001:db8:2::1");
    ip("route del 2001:db8:2::/64");
    network.reaches("2001:db8:2::1");

    // A link that goes down and comes back keeps its addresses.
    ip("link set core down");
    eventually("no way", || !network.pings("2001:db8:2::1"));
    ip("link set core up");
    network.reaches("2001:db8:9::2");
    ip("route add default via 2001:db8:9::2");
    network.reaches("2001:db8:2::1");

    ip("addr add 2001:db8:5::1/64 dev lan nodad");
    network.reaches("2001:db8:5::1");
    ip("addr del 2001:db8:5::1/64 dev lan\nroute del default via 2001:db8:9::2");
    eventually("silence", || !network.pings("2001:db8:5::1"));
}

#[test]
fn ten_thousand_routes_come_and_go_at_once() {
    let network = network("many6");
    let _router = network.start();
    network.reaches("2001:db8:9::2");
    let before = network.metric("voicelane_routes");
    let lines = |verb: &str| -> String {
        let route = |n: usize| format!("route {verb} 2001:db8:f000:{n:x}::/64 via 2001:db8:9::2\n");
        (0..10_000).map(route).collect()
    };
    network.router.ip(&lines("add")).unwrap();
    eventually("all routes", || {
        network.metric("voicelane_routes") == before + 10_000.0
    });
    network.router.ip(&lines("del")).unwrap();
    eventually("no routes", || network.metric("voicelane_routes") == before);
    network.reaches("2001:db8:9::2");
}

#[test]
fn everything_is_as_before_when_it_ends() {
    let network = network("before6");
    network
        .router
        .ip("link add other type veth peer name rehto\nlink set other up")
        .unwrap();
    let read = |key: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{key}");
        let text = network.router.enter(|| fs::read_to_string(&path));
        text.unwrap().unwrap().trim().to_owned()
    };
    let keys = [
        "all/forwarding",
        "default/forwarding",
        "other/forwarding",
        "other/accept_ra",
        "rehto/forwarding",
        "u-lan/disable_ipv6",
    ];
    network
        .router
        .sysctl("net.ipv6.conf.rehto.forwarding", "1")
        .unwrap();
    for underlay in ["u-lan", "u-core"] {
        network.router.enable_ipv6(underlay).unwrap();
    }
    let before = keys.map(read);
    assert_eq!(before, ["0", "0", "0", "1", "1", "0"]);
    let mut router = network.start();
    network.reaches("2001:db8:9::2");
    let one_by_one = network
        .router
        .enter(|| fs::exists("/proc/sys/net/ipv6/conf/all/force_forwarding").unwrap())
        .unwrap();
    let (all, advertisements) = if one_by_one { ("0", "1") } else { ("1", "2") };
    assert_eq!(
        keys.map(read),
        [all, "0", "0", advertisements, "1", "1"],
        "the machine as such stays what it was, as far as the kernel lets it"
    );
    assert_eq!(read("lan/forwarding"), "1");
    let tentative = ["-6", "addr", "show", "tentative"];
    let tentative = network.router.run("ip", &tentative, BOUND).unwrap();
    assert!(!tentative.contains("2001:db8"), "{tentative}");
    assert!(router.stop().unwrap().success());
    assert_eq!(keys.map(read), before);

    network
        .router
        .ip("addr add 2001:db8:1::5/64 dev u-lan")
        .unwrap();
    let mut router = network.spawn();
    assert_eq!(router.wait(BOUND).unwrap().code(), Some(1));
    let says = "port lan: interface u-lan has the address 2001:db8:1::5/64";
    assert!(router.log().contains(says), "{}", router.log());
}
