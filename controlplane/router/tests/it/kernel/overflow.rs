//! The kernel says more than netlink's sockets hold while the router does not read. Needs root.

use std::{fmt::Write as _, fs};

use nix::sys::signal::Signal;
use voicelane_testbed::Process;

use crate::support::{BOUND, OneRouter, eventually};

/// So many messages are more than a socket holds.
const MANY: u32 = 20_000;

/// How many sockets of the router's namespace have lost messages.
fn overrun(network: &OneRouter) -> usize {
    let args = ["/proc/net/netlink"];
    let sockets = network.router.run("cat", &args, BOUND).unwrap();
    let lost = sockets.lines().skip(1).filter(|line| {
        let drops = line.split_whitespace().nth(8);
        drops.is_some_and(|drops| drops != "0")
    });
    lost.count()
}

/// Runs commands of `ip`.
fn batch(network: &OneRouter, commands: &str) {
    let file = network.lab.dir().join("batch");
    fs::write(&file, commands).unwrap();
    let args = ["-batch", file.to_str().unwrap()];
    network.router.run("ip", &args, BOUND * 3).unwrap();
}

/// Turns `forwarding` of the loopback interface on and off, so many times.
fn turn(network: &OneRouter, times: u32) {
    let each = "echo $((i & 1)) > /proc/sys/net/ipv4/conf/lo/forwarding";
    let script = format!("i=0; while [ $i -lt {times} ]; do {each}; i=$((i + 1)); done");
    let args = ["-c", &script];
    network.router.run("sh", &args, BOUND * 3).unwrap();
}

/// Changes while the router does not read, of which so many of its sockets lose some.
fn unread(network: &OneRouter, router: &Process, sockets: usize, change: impl FnOnce()) {
    assert_eq!(overrun(network), 0);
    router.signal(Signal::SIGSTOP).unwrap();
    change();
    let lost = overrun(network);
    router.signal(Signal::SIGCONT).unwrap();
    assert!(lost >= sockets, "{lost} sockets have lost messages");
}

/// The workers forward to an address, in the end: until they have its route, the kernel does.
fn comes_to_full_speed(network: &OneRouter, address: &str) {
    eventually(&format!("the workers' route to {address}"), || {
        let before = network.by_kernel();
        network.pings(address) && network.by_kernel() == before
    });
    network.at_full_speed(address);
}

/// Both sockets that the mirror reads lose what was said last, of routes and of next hop objects.
#[test]
fn what_netlink_has_lost_is_asked_for_again() {
    let network = OneRouter::new("overflow");
    network.right.ip("addr add 10.3.0.1/24 dev lo").unwrap();
    let router = network.start();
    network.reaches("10.9.0.2");
    network
        .router
        .ip("nexthop add id 7 blackhole\nroute add 10.3.0.0/24 nhid 7")
        .unwrap();
    let (mut routes, mut objects) = (String::new(), String::new());
    for number in 0..MANY {
        let (high, low, id) = (number >> 8, number & 255, 1_000 + number);
        writeln!(routes, "route add 11.0.{high}.{low}/32 via 10.9.0.2").unwrap();
        writeln!(objects, "nexthop add id {id} via 10.9.0.2 dev core").unwrap();
    }
    unread(&network, &router, 2, || {
        batch(&network, &routes);
        batch(&network, &objects);
        // This is lost.
        network
            .router
            .ip("nexthop replace id 7 via 10.9.0.2 dev core\nroute add 10.2.0.0/24 via 10.9.0.2")
            .unwrap();
    });
    for address in ["10.2.0.1", "10.3.0.1"] {
        comes_to_full_speed(&network, address);
    }
    // It follows the kernel on.
    batch(&network, &routes.replace("route add", "route del"));
    network.router.ip("route del 10.2.0.0/24").unwrap();
    comes_to_full_speed(&network, "10.3.0.1");
    eventually("no route", || !network.pings("10.2.0.1"));
}

/// What a socket still holds when it has lost something is older than what was lost.
#[test]
fn old_news_does_not_undo_what_was_asked_for() {
    let network = OneRouter::new("oldnews");
    network.right.ip("addr add 10.3.0.1/24 dev lo").unwrap();
    // Routes are told without where their next hop object leads.
    network
        .router
        .sysctl("net.ipv4.nexthop_compat_mode", "0")
        .unwrap();
    let router = network.start();
    network.reaches("10.9.0.2");
    unread(&network, &router, 1, || {
        // More than the router reads at a time before it does something else.
        turn(&network, 300);
        let forwarding = |on| {
            let key = "net.ipv4.conf.lan.forwarding";
            network.router.sysctl(key, on).unwrap();
        };
        forwarding("0");
        network.router.ip("nexthop add id 7 blackhole").unwrap();
        turn(&network, MANY);
        // This is lost.
        forwarding("1");
        network
            .router
            .ip("nexthop replace id 7 via 10.9.0.2 dev core")
            .unwrap();
    });
    comes_to_full_speed(&network, "10.9.0.2");
    network.router.ip("route add 10.3.0.0/24 nhid 7").unwrap();
    comes_to_full_speed(&network, "10.3.0.1");
}
