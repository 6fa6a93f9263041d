//! More routes than the worker's tables have room for. Needs root.

use std::fs;

use voicelane_testbed::Process;

use crate::support::{BOUND, OneRouter, eventually};

/// The usual network with the smallest tables, IPv6, and a blackhole for what has no route.
fn small_tables(name: &str, cores: &str) -> (OneRouter, Process) {
    let network = OneRouter::new(name);
    let config = fs::read_to_string(&network.config).unwrap();
    let tables = format!("cores = {cores}\nipv4_routes = 64\nipv6_routes = 64");
    let config = config
        .replace("cores = [0]", &tables)
        .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"")
        .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config).unwrap();
    for host in [&network.left, &network.right] {
        host.sysctl("net.ipv6.conf.eth0.disable_ipv6", "0").unwrap();
        host.sysctl("net.ipv6.conf.lo.disable_ipv6", "0").unwrap();
    }
    network
        .left
        .ip("addr add 2001:db8:1::10/64 dev eth0 nodad\nroute add default via 2001:db8:1::1")
        .unwrap();
    let addresses: String = (0..10)
        .map(|n| format!("addr add 10.4.{n}.1/32 dev lo\naddr add 2001:db8:4:{n}::1/128 dev lo\n"))
        .collect();
    network
        .right
        .ip(&format!(
            "{addresses}addr add 2001:db8:9::2/64 dev eth0 nodad
route add default via 2001:db8:9::1"
        ))
        .unwrap();
    let process = network.start();
    network.reaches("10.9.0.2");
    network.reaches("2001:db8:9::2");
    network
        .router
        .ip("route add blackhole default\nroute add blackhole ::/0")
        .unwrap();
    (network, process)
}

/// Routes of both families, which are not those of [`specific`].
fn filling(verb: &str) -> String {
    (0..100)
        .map(|n| {
            format!(
                "route {verb} 20.0.{n}.0/24 via 10.9.0.2
route {verb} 2001:db8:20:{n}::/64 via 2001:db8:9::2\n"
            )
        })
        .collect()
}

/// More specific than the default, and leading elsewhere.
fn specific(verb: &str) -> String {
    (0..10)
        .map(|n| {
            format!(
                "route {verb} 10.4.{n}.0/24 via 10.9.0.2
route {verb} 2001:db8:4:{n}::/64 via 2001:db8:9::2\n"
            )
        })
        .collect()
}

fn targets() -> impl Iterator<Item = String> {
    (0..10).flat_map(|n| [format!("10.4.{n}.1"), format!("2001:db8:4:{n}::1")])
}

fn a_full_table_heals(name: &str, cores: &str) {
    let (network, mut router) = small_tables(name, cores);
    let routes = || network.metric("voicelane_routes");
    let refused = || network.metric("voicelane_routes_refused");
    let punted = || {
        let series = "voicelane_interface_punts_total{interface=\"lan\",reason=\"";
        ["unknown-neighbour", "no-route", "local"]
            .iter()
            .filter_map(|reason| {
                let prefix = format!("{series}{reason}\"}} ");
                let metrics = network.metrics();
                let value = metrics
                    .lines()
                    .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
                value?.parse::<f64>().ok()
            })
            .sum::<f64>()
    };
    eventually("the default", || routes() > 0.0);
    let before = routes();
    network.router.ip(&filling("add")).unwrap();
    network.router.ip(&specific("add")).unwrap();
    eventually("refused routes", || refused() >= 20.0);
    assert!(routes() <= 130.0, "{} routes in two tables of 64", routes());
    // The kernel has them, and forwards.
    for target in targets() {
        network.reaches(&target);
    }
    network.router.ip(&filling("del")).unwrap();
    eventually("all routes", || {
        routes() >= before + 20.0 && refused() == 0.0
    });
    for target in targets() {
        network.reaches(&target);
    }
    // None of them by the kernel.
    let by_kernel = punted();
    for target in targets() {
        assert!(network.pings(&target), "{target}");
    }
    assert!(punted() - by_kernel < 10.0, "{}", punted() - by_kernel);
    // Routes that flap are still the same story.
    for _ in 0..3 {
        network.router.ip(&filling("add")).unwrap();
        eventually("refused routes", || refused() > 0.0);
        network.router.ip(&filling("del")).unwrap();
        eventually("room for all", || refused() == 0.0);
    }
    router
        .wait_for_log("has all routes again", BOUND * 3)
        .unwrap();
    assert!(router.stop().unwrap().success(), "{}", router.log());
    let log = router.log();
    let count = |text: &str| log.matches(text).count();
    assert_eq!(count("does not take all routes"), 1, "{log}");
    assert_eq!(count("has all routes again"), 1, "{log}");
}

#[test]
fn a_full_route_table_leaves_routes_to_the_kernel_and_heals() {
    a_full_table_heals("full", "[0]");
}

#[test]
fn the_tables_of_several_workers_heal_alike() {
    a_full_table_heals("full-cores", "[0, 1]");
}
