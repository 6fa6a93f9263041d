//! The router as a Linux router: what `ping`, `traceroute` and `ip` expect of it. Needs root.

mod bypassed;
mod interfaces;
mod ipv6;
mod overflow;
mod ports;
mod punts;
mod vlan;

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::support::{BOUND, OneRouter, eventually};

#[test]
fn it_answers_forwards_and_shows_up_in_traceroute() {
    let network = OneRouter::new("answers");
    let mut router = network.start();
    network.reaches("10.1.0.1");
    network.reaches("10.9.0.1");
    network.reaches("10.9.0.2");
    // One answer to each, although the kernel saw the frames on the interface under the port, too.
    let args = ["-n", "-c20", "-i0.02", "-W1", "10.1.0.1"];
    let answers = network.left.run("ping", &args, BOUND).unwrap();
    assert!(
        answers.contains("20 received") && !answers.contains("duplicates"),
        "{answers}"
    );
    // What passes the fast path has its TTL less one, once.
    let answer = network
        .left
        .run("ping", &["-n", "-c1", "10.9.0.2"], BOUND)
        .unwrap();
    assert!(answer.contains("ttl=63"), "{answer}");
    let args = ["-n", "-q1", "-w1", "10.9.0.2"];
    let hops = network.left.run("traceroute", &args, BOUND).unwrap();
    let hops: Vec<_> = hops
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().nth(1))
        .collect();
    assert_eq!(hops, ["10.1.0.1", "10.9.0.2"]);
    // Where no route leads, the kernel says so.
    let args = ["-n", "-c1", "-W1", "10.77.0.1"];
    let refused = network
        .left
        .run("ping", &args, BOUND)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("From 10.1.0.1") && refused.contains("Unreachable"),
        "{refused}"
    );
    assert!(router.stop().unwrap().success());
}

#[test]
fn what_is_too_large_is_fragmented_or_refused_by_the_kernel() {
    let network = OneRouter::new("sizes");
    let config = fs::read_to_string(&network.config).unwrap();
    fs::write(&network.config, format!("{config}mtu = 1400\n")).unwrap();
    network.right.ip("link set eth0 mtu 1400").unwrap();
    let _router = network.start();
    network.reaches("10.9.0.2");
    network.ping("10.9.0.2", 1400, "-Mdo").unwrap();
    network.ping("10.9.0.2", 1500, "-Mdont").unwrap();
    let refused = network.ping("10.9.0.2", 1500, "-Mdo").unwrap_err();
    assert!(
        refused.contains("From 10.1.0.1") && refused.contains("mtu = 1400"),
        "{refused}"
    );
    let punted = "voicelane_interface_punts_total{interface=\"lan\",reason=\"oversize\"}";
    assert!(network.metric(punted) >= 2.0);
}

#[test]
fn routes_and_neighbours_take_effect_while_it_runs() {
    let network = OneRouter::new("routes");
    let _router = network.start();
    network.reaches("10.9.0.2");
    assert!(!network.pings("10.2.0.1"), "no route yet");
    network
        .router
        .ip("route add 10.2.0.0/24 via 10.9.0.2")
        .unwrap();
    network.reaches("10.2.0.1");
    network
        .router
        .ip("route replace blackhole 10.2.0.0/24")
        .unwrap();
    eventually("a dropped ping", || !network.pings("10.2.0.1"));
    let blackholed = "voicelane_interface_drops_total{interface=\"lan\",reason=\"blackhole\"}";
    eventually("counted drops", || network.metric(blackholed) > 0.0);
    network
        .router
        .ip("route del blackhole 10.2.0.0/24")
        .unwrap();
    network.router.ip("route add default via 10.9.0.2").unwrap();
    network.reaches("10.2.0.1");

    // The neighbour gets another MAC address and says so: one gratuitous ARP is enough.
    network
        .right
        .ip("link set eth0 address 02:00:00:00:55:55")
        .unwrap();
    network
        .right
        .run("ping", &["-n", "-c1", "-W2", "10.9.0.1"], BOUND)
        .unwrap();
    network.reaches("10.2.0.1");
    // A neighbour that the kernel forgot is found again.
    network
        .router
        .ip("neigh flush dev core\nneigh flush dev lan")
        .unwrap();
    network.reaches("10.2.0.1");

    // The kernel says nothing of the routes that go with a link.
    network.reaches("10.9.0.2");
    network.router.ip("link set core down").unwrap();
    eventually("no way", || !network.pings("10.2.0.1"));
    eventually("no way to the neighbour", || !network.pings("10.9.0.2"));
    network
        .router
        .ip("link set core up\nroute add default via 10.9.0.2")
        .unwrap();
    network.reaches("10.2.0.1");

    // A second address and its network.
    network.router.ip("addr add 10.5.0.1/24 dev lan").unwrap();
    network.reaches("10.5.0.1");
    network.router.ip("addr del 10.5.0.1/24 dev lan").unwrap();
    network.router.ip("route del default").unwrap();
    eventually("silence", || !network.pings("10.5.0.1"));
}

/// More than the netlink socket holds when nobody reads it fast enough: whether the kernel's words
/// were followed or it had to be asked for everything, the table is right in the end.
/// A host gets another card and says nothing: packets of the fast path do not pass the kernel, which would
/// never look whether it is still there.
#[test]
fn a_neighbour_whose_address_changes_silently_is_found() {
    /// The router looks every 30 s, and the kernel asks for 4 s before it gives up.
    const FOUND: Duration = Duration::from_secs(34 + 26);
    let network = OneRouter::new("stale");
    network.with_ipv6();
    let _router = network.start();
    // The kernel takes a neighbour for stale a second after it answered.
    for family in ["ipv4", "ipv6"] {
        for (key, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
        ] {
            let key = format!("net.{family}.neigh.core.{key}");
            network.router.sysctl(&key, value).unwrap();
        }
    }
    let hosts = ["10.9.0.2", "2001:db8:9::2"];
    for (host, own) in hosts.into_iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        network.reaches(host);
        // The host asks for nobody, as that would tell its new address.
        let known = format!("neigh replace {own} lladdr 02:00:00:00:99:01 dev eth0 nud permanent");
        network.right.ip(&known).unwrap();
    }
    network
        .right
        .ip("link set eth0 address 02:00:00:00:77:77")
        .unwrap();
    assert!(hosts.iter().all(|host| !network.pings(host)));
    let changed = Instant::now();
    for host in hosts {
        while !network.pings(host) {
            assert!(changed.elapsed() < FOUND, "{host}: not within {FOUND:?}");
        }
    }
    for host in hosts {
        network.at_full_speed(host);
    }
}

#[test]
fn twenty_thousand_routes_come_and_go_at_once() {
    let network = OneRouter::new("many");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let before = network.metric("voicelane_routes");
    let lines = |verb: &str| -> String {
        let route = |n: usize| {
            format!(
                "route {verb} 20.{}.{}.0/24 via 10.9.0.2\n",
                n / 250,
                n % 250
            )
        };
        (0..20_000).map(route).collect()
    };
    network.router.ip(&lines("add")).unwrap();
    eventually("all routes", || {
        network.metric("voicelane_routes") == before + 20_000.0
    });
    network.router.ip(&lines("del")).unwrap();
    eventually("no routes", || network.metric("voicelane_routes") == before);
    network.reaches("10.9.0.2");
    assert!(router.stop().unwrap().success());
    assert!(router.log().lines().count() < 50, "{}", router.log());
}

#[test]
fn everything_is_as_before_when_it_ends() {
    let network = OneRouter::new("before");
    let read = |key: &str| {
        let path = format!("/proc/sys/net/{key}");
        network
            .router
            .enter(|| fs::read_to_string(&path))
            .unwrap()
            .unwrap()
            .trim()
            .to_owned()
    };
    let keys = ["rp_filter", "arp_ignore", "forwarding"];
    let keys = keys.map(|key| format!("ipv4/conf/u-lan/{key}"));
    let before = keys.each_ref().map(|key| read(key));
    let link = || {
        network
            .router
            .run("ip", &["-br", "link", "show", "u-lan"], BOUND)
            .unwrap()
    };
    let link_before = link();
    let mut router = network.start();
    assert!(link().contains("PROMISC"), "{}", link());
    assert_eq!(keys.each_ref().map(|key| read(key)), ["1", "8", "0"]);
    assert_eq!(read("ipv4/conf/lan/forwarding"), "1");
    assert_eq!(
        read("ipv4/ip_forward"),
        "0",
        "the machine as such stays what it was"
    );
    let links = network.router.run("ip", &["-br", "link"], BOUND).unwrap();
    assert!(
        links.contains("lan ") && links.contains("02:00:00:00:99:01"),
        "{links}"
    );
    assert!(router.stop().unwrap().success());
    assert_eq!(keys.each_ref().map(|key| read(key)), before);
    assert_eq!(link(), link_before);
    let links = network.router.run("ip", &["-br", "link"], BOUND).unwrap();
    assert!(!links.contains("\nlan"), "{links}");
    // And it starts again.
    let _router = network.start();
    network.reaches("10.9.0.2");
}

#[test]
fn what_it_cannot_work_with_is_said() {
    let network = OneRouter::new("cannot");
    let fails = |says: &str| {
        let mut router = network.spawn();
        let status = router.wait(BOUND).unwrap();
        let log = router.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(says), "{says}: {log}");
    };
    network.router.ip("addr add 10.1.0.5/24 dev u-lan").unwrap();
    fails("port lan: interface u-lan has the address 10.1.0.5/24");
    network
        .router
        .ip("addr flush dev u-lan\nlink add lan type veth peer name nal")
        .unwrap();
    fails("there is an interface lan already");
    network
        .router
        .ip("link del lan\nlink set u-core name other")
        .unwrap();
    fails("port core: there is no interface u-core");
    network.router.ip("link set other name u-core").unwrap();

    let mut router = network.start();
    network.router.ip("link del core").unwrap();
    let status = router.wait(BOUND).unwrap();
    assert_eq!(status.code(), Some(1), "{}", router.log());
    assert!(
        router.log().contains("twin was deleted"),
        "{}",
        router.log()
    );
}

/// A machine without hugepages has room for the tables, too.
#[test]
fn it_runs_without_hugepages() {
    let network = OneRouter::new("no-huge");
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace("[router]", "[router]\nhugepages = \"never\"");
    fs::write(&network.config, config).unwrap();
    let _router = network.start();
    network.reaches("10.9.0.2");
}
