//! Static routes of the configuration, and what an operator has added by hand when the router is killed.
//! Needs root.

mod full_table;
mod paths;

use std::fs;

use crate::support::{BOUND, OneRouter, eventually};

/// A network whose router's configuration has more at its end.
fn network(name: &str, more: &str) -> OneRouter {
    let network = OneRouter::new(name);
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config
        .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"")
        .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config + more).unwrap();
    for (host, address, by) in [
        (&network.left, "2001:db8:1::10/64", "2001:db8:1::1"),
        (&network.right, "2001:db8:9::2/64", "2001:db8:9::1"),
    ] {
        host.enable_ipv6("eth0").unwrap();
        host.ip(&format!(
            "addr add {address} dev eth0 nodad\nroute add default via {by}"
        ))
        .unwrap();
    }
    network
        .right
        .sysctl("net.ipv6.conf.lo.disable_ipv6", "0")
        .unwrap();
    network
        .right
        .ip("addr add 2001:db8:2::1/64 dev lo")
        .unwrap();
    network
}

fn show(network: &OneRouter, args: &str) -> String {
    let args: Vec<_> = args.split(' ').collect();
    network.router.run("ip", &args, BOUND).unwrap()
}

/// Both directions of a call between 10.1.0.10 and 10.2.0.1.
const ROUTES: &str = "
[[route]]
to = \"10.2.0.0/24\"
via = \"10.9.0.2\"

[[route]]
to = \"2001:db8:2::/64\"
via = \"2001:db8:9::2\"
metric = 50

[[route]]
to = \"10.3.0.0/24\"
via = [\"10.9.0.2\", \"10.1.0.10\"]

[[route]]
to = \"10.4.0.0/24\"
blackhole = true
";

#[test]
fn static_routes_are_there_for_as_long_as_the_router_is() {
    let network = network("static", ROUTES);
    let mut router = network.start();
    network.reaches("10.2.0.1");
    network.reaches("2001:db8:2::1");
    let routes = show(&network, "route show proto 86");
    for route in [
        "10.2.0.0/24 via 10.9.0.2 dev core",
        "10.3.0.0/24",
        "blackhole 10.4.0.0/24",
    ] {
        assert!(routes.contains(route), "{routes}");
    }
    assert_eq!(routes.matches("nexthop via").count(), 2, "{routes}");
    let routes = show(&network, "-6 route show proto 86");
    assert!(routes.contains("metric 50"), "{routes}");

    // The kernel drops them with the link, and an address's with it; they come back, too.
    network
        .router
        .ip("link set core down\nlink set core up")
        .unwrap();
    network.reaches("10.2.0.1");
    network.reaches("2001:db8:2::1");
    network.router.ip("addr del 10.9.0.1/30 dev core").unwrap();
    eventually("no route", || {
        !show(&network, "route show proto 86").contains("10.2.0.0/24")
    });
    network.router.ip("addr add 10.9.0.1/30 dev core").unwrap();
    network.reaches("10.2.0.1");

    // Killed and started again: both directions of a call's path.
    router.kill().unwrap();
    let mut router = network.start();
    network.reaches("10.2.0.1");
    network.reaches("2001:db8:2::1");

    // What is no more in the configuration is no more in the kernel.
    assert!(router.stop().unwrap().success());
    let config = fs::read_to_string(&network.config).unwrap();
    fs::write(&network.config, config.replace(ROUTES, "")).unwrap();
    let _router = network.start();
    network.reaches("10.9.0.2");
    assert!(!network.pings("10.2.0.1"));
    assert_eq!(show(&network, "route show proto 86"), "");
}

#[test]
fn what_was_added_by_hand_outlives_a_kill_but_not_an_end() {
    let network = network("byhand", "");
    let mut router = network.start();
    network
        .router
        .ip("addr add 10.8.0.1/24 dev lan\n\
             neigh add 10.8.0.77 lladdr 02:00:00:00:77:77 dev lan nud permanent\n\
             route add 10.2.0.0/24 via 10.9.0.2 mtu 1400\n\
             route add 10.3.0.0/24 via 10.2.0.1 onlink dev core\n\
             route add 10.5.0.0/24 proto static nexthop via 10.9.0.2 weight 3 nexthop via 10.1.0.10\n\
             route add 10.6.0.0/24 via 10.9.0.2 table 100\n\
             route add 10.7.0.0/24 via 10.9.0.2 proto zebra\n\
             route add 2001:db8:2::/64 via 2001:db8:9::2")
        .unwrap();
    network.reaches("10.2.0.1");
    network.reaches("2001:db8:2::1");
    let all = || {
        [
            "route show",
            "-6 route show",
            "route show table 100",
            "neigh show nud permanent",
            "-br addr",
        ]
        .map(|what| show(&network, what))
        .join("\n")
        .lines()
        // The routing daemon's, which adds it anew.
        .filter(|line| !line.contains("10.7.0.0/24"))
        .map(|line| line.trim().to_owned())
        .collect::<Vec<_>>()
    };
    let before = all();
    // Longer than changes are waited for.
    std::thread::sleep(std::time::Duration::from_secs(3));
    router.kill().unwrap();
    let mut router = network.start();
    router.wait_for_log("are back", BOUND).unwrap();
    eventually("what was there before", || all() == before);
    assert!(!show(&network, "route").contains("10.7.0.0/24"));
    network.reaches("10.2.0.1");
    network.reaches("2001:db8:2::1");

    // As it was changed last.
    network.router.ip("route del 10.2.0.0/24").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    router.kill().unwrap();
    let mut router = network.start();
    assert!(!show(&network, "route").contains("10.2.0.0/24"));
    assert!(show(&network, "route").contains("10.5.0.0/24"));
    assert!(router.stop().unwrap().success());
    let _router = network.start();
    assert!(!show(&network, "route").contains("10.5.0.0/24"));
    assert!(!show(&network, "-br addr").contains("10.8.0.1"));
}
