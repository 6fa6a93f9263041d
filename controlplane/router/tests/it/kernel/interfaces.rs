//! What `ip link`, `ip neigh` and `sysctl` change of a twin holds on the fast path. Needs root.

use std::fs;

use crate::support::{BOUND, OneRouter, eventually};

fn drops(network: &OneRouter, interface: &str, reason: &str) -> f64 {
    network.metric(&format!(
        "voicelane_interface_drops_total{{interface=\"{interface}\",reason=\"{reason}\"}}"
    ))
}

/// Pings that are all lost, and all counted with this reason.
fn lost(network: &OneRouter, interface: &str, address: &str, reason: &str) {
    eventually(&format!("silence from {address}"), || {
        !network.pings(address)
    });
    let before = drops(network, interface, reason);
    for _ in 0..3 {
        assert!(!network.pings(address), "{address}");
    }
    let counted = drops(network, interface, reason) - before;
    assert!(counted >= 3.0, "{counted} of 3 as {reason}");
}

#[test]
fn a_twin_that_is_set_down_takes_nothing_in() {
    let network = OneRouter::new("down");
    network.with_ipv6();
    let mut router = network.start();
    let both = ["10.9.0.2", "2001:db8:9::2"];
    for address in both {
        network.at_full_speed(address);
    }
    let up =
        |name: &str| network.metric(&format!("voicelane_interface_up{{interface=\"{name}\"}}"));
    network.router.ip("link set lan down").unwrap();
    for address in both {
        lost(&network, "lan", address, "interface-down");
    }
    assert_eq!(up("lan"), 0.0);
    network.router.ip("link set lan up").unwrap();
    for address in both {
        network.at_full_speed(address);
    }
    assert_eq!(up("lan"), 1.0);
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

#[test]
fn what_comes_in_where_forwarding_is_off_is_not_sent_on() {
    let network = OneRouter::new("forwarding");
    network.with_ipv6();
    let mut router = network.start();
    // A neighbour, what the kernel would have to send on, and the router itself.
    let families = [
        ("ipv4", "10.9.0.2", "10.200.0.1", "10.1.0.1"),
        ("ipv6", "2001:db8:9::2", "2001:db8:9::77", "2001:db8:1::1"),
    ];
    for (_, there, ..) in families {
        network.at_full_speed(there);
    }
    for (family, there, unknown, own) in families {
        let key = format!("net.{family}.conf.lan.forwarding");
        network.router.sysctl(&key, "0").unwrap();
        lost(&network, "lan", there, "forwarding-off");
        lost(&network, "lan", unknown, "forwarding-off");
        assert!(network.pings(own), "what is for the router itself");
        for (other, there, ..) in families {
            assert_eq!(network.pings(there), other != family, "{there}");
        }
        network.router.sysctl(&key, "1").unwrap();
        network.at_full_speed(there);
    }
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// The answers name the MTU of the interface that a packet is too long for.
#[test]
fn an_mtu_that_changes_at_run_time_holds() {
    let network = OneRouter::new("mtu");
    network.with_ipv6();
    let mut router = network.start();
    let families = [("10.9.0.2", "mtu = 1300"), ("2001:db8:9::2", "mtu=1300")];
    let ping = |address: &str, bytes: u32| network.ping(address, bytes, "-Mdo");
    for (address, _) in families {
        network.reaches(address);
    }
    for (address, _) in families {
        ping(address, 1500).unwrap();
    }
    network.router.ip("link set core mtu 1300").unwrap();
    for (address, says) in families {
        network.left.ip("route flush cache").unwrap();
        eventually("an answer that names the MTU", || {
            ping(address, 1500).is_err_and(|error| error.contains(says))
        });
        ping(address, 1300).unwrap();
    }
    network.router.ip("link set core mtu 1500").unwrap();
    let flush = || {
        network.left.ip("route flush cache").unwrap();
        let args = ["-6", "route", "flush", "cache"];
        network.left.run("ip", &args, BOUND).unwrap();
    };
    for (address, _) in families {
        eventually("the whole MTU", || {
            flush();
            ping(address, 1500).is_ok()
        });
    }
    // Routes have MTUs of their own.
    let far = [("10.2.0.1", "mtu = 1350"), ("2001:db8:2::1", "mtu=1350")];
    network
        .right
        .sysctl("net.ipv6.conf.lo.disable_ipv6", "0")
        .unwrap();
    network
        .right
        .ip("addr add 2001:db8:2::1/128 dev lo")
        .unwrap();
    network
        .router
        .ip("route add 10.2.0.0/24 via 10.9.0.2 mtu 1350
route add 2001:db8:2::/64 via 2001:db8:9::2 mtu lock 1350")
        .unwrap();
    for (address, says) in far {
        network.at_full_speed(address);
        eventually("an answer that names the route's MTU", || {
            flush();
            ping(address, 1500).is_err_and(|error| error.contains(says))
        });
        ping(address, 1350).unwrap();
    }
    // For more there are no buffers.
    network.router.ip("link set core mtu 9000").unwrap();
    router.wait_for_log("keeps its largest MTU", BOUND).unwrap();
    eventually("the MTU from before", || {
        let args = ["-o", "link", "show", "core"];
        let link = network.router.run("ip", &args, BOUND).unwrap();
        link.contains("mtu 1500")
    });
    for (address, _) in families {
        network.at_full_speed(address);
    }
    assert!(router.stop().unwrap().success(), "{}", router.log());
    assert_eq!(router.log().matches("keeps its largest MTU").count(), 1);
}

/// `net.ipv6.conf.X.mtu`, which is IPv6's alone: on the way out the kernel goes by it where the route does
/// not say more.
#[test]
fn an_mtu_of_ipv6_alone_holds() {
    let network = OneRouter::new("mtu6");
    network.with_ipv6();
    let right = &network.right;
    right.sysctl("net.ipv6.conf.lo.disable_ipv6", "0").unwrap();
    right
        .ip("addr add 2001:db8:2::1/128 dev lo\naddr add 2001:db8:3::1/128 dev lo")
        .unwrap();
    let mut router = network.start();
    network
        .router
        .ip("route add 2001:db8:2::/64 via 2001:db8:9::2
route add 2001:db8:3::/64 via 2001:db8:9::2 mtu lock 1400")
        .unwrap();
    let ping = |address: &str, bytes: u32| network.ping(address, bytes, "-Mdo");
    let flush = || {
        let args = ["-6", "route", "flush", "cache"];
        network.left.run("ip", &args, BOUND).unwrap();
    };
    let all = ["10.9.0.2", "2001:db8:9::2", "2001:db8:2::1"];
    for address in all {
        network.at_full_speed(address);
        ping(address, 1500).unwrap();
    }
    network
        .router
        .sysctl("net.ipv6.conf.core.mtu", "1300")
        .unwrap();
    let answered = |address: &str, says: &str| {
        eventually(&format!("{address}: {says}"), || {
            flush();
            ping(address, 1500).is_err_and(|error| error.contains(says))
        });
    };
    for address in &all[1..] {
        answered(address, "mtu=1300");
        ping(address, 1300).unwrap();
        network.at_full_speed(address);
    }
    // The route's own comes first, and IPv4 is not concerned.
    answered("2001:db8:3::1", "mtu=1400");
    ping("2001:db8:3::1", 1400).unwrap();
    network.at_full_speed("2001:db8:3::1");
    ping("10.9.0.2", 1500).unwrap();
    network
        .router
        .sysctl("net.ipv6.conf.core.mtu", "1500")
        .unwrap();
    for address in &all[1..] {
        eventually("the whole MTU", || {
            flush();
            ping(address, 1500).is_ok()
        });
    }
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// Whatever the kernel holds valid is a neighbour, and nothing else is.
#[test]
fn neighbours_of_all_valid_states_count() {
    let network = OneRouter::new("neighbours");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let args = ["-o", "link", "show", "eth0"];
    let link = network.right.run("ip", &args, BOUND).unwrap();
    let mac = link
        .split("link/ether ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    // Nobody answers ARP any more.
    network
        .right
        .ip("link set eth0 arp off
neigh replace 10.9.0.1 lladdr 02:00:00:00:99:01 dev eth0 nud permanent
route replace default via 10.9.0.1")
        .unwrap();
    network.router.ip("neigh flush dev core").unwrap();
    for state in ["noarp", "permanent", "reachable", "stale", "delay", "probe"] {
        network
            .router
            .ip(&format!(
                "neigh replace 10.9.0.2 lladdr {mac} dev core nud {state}"
            ))
            .unwrap();
        if ["noarp", "permanent"].contains(&state) {
            network.at_full_speed("10.9.0.2");
        } else {
            network.reaches("10.9.0.2");
        }
    }
    network
        .router
        .ip(&format!(
            "neigh replace 10.9.0.2 lladdr {mac} dev core nud reachable extern_learn"
        ))
        .unwrap();
    network.at_full_speed("10.9.0.2");
    network.router.ip("neigh del 10.9.0.2 dev core").unwrap();
    eventually("no way", || !network.pings("10.9.0.2"));
    network
        .router
        .ip("neigh add proxy 10.9.0.2 dev lan")
        .unwrap();
    assert!(!network.pings("10.9.0.2"));
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

const VIRTUAL: &str = "00:00:5e:00:01:01";

/// VRRP (RFC 9568 section 7.3), as keepalived's use_vmac and FRR's vrrpd set it up.
#[test]
fn a_virtual_routers_address_is_for_us() {
    let network = OneRouter::new("vrrp");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let of_router = |key: &str, value| {
        network
            .router
            .sysctl(&format!("net.ipv4.conf.{key}"), value)
    };
    of_router("lan.arp_ignore", "1").unwrap();
    network
        .router
        .ip(&format!(
            "link add vrrp1 link lan address {VIRTUAL} type macvlan mode bridge
addr add 10.1.0.254/24 dev vrrp1\nlink set vrrp1 up"
        ))
        .unwrap();
    network
        .left
        .ip("route replace default via 10.1.0.254")
        .unwrap();
    network.reaches("10.1.0.254");
    let args = ["neigh", "show", "10.1.0.254"];
    let known = network.left.run("ip", &args, BOUND).unwrap();
    assert!(
        known.contains(VIRTUAL),
        "the kernel answers with it: {known}"
    );
    network.at_full_speed("10.9.0.2");
    // The network's only route is the macvlan's.
    network.router.ip("addr del 10.1.0.1/24 dev lan").unwrap();
    network.at_full_speed("10.9.0.2");
    // A backup has none of it.
    network.router.ip("link del vrrp1").unwrap();
    network
        .left
        .ip(&format!(
            "neigh replace 10.1.0.254 lladdr {VIRTUAL} dev eth0 nud permanent"
        ))
        .unwrap();
    lost(&network, "lan", "10.9.0.2", "not-for-us");
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

#[test]
fn a_twin_whose_mac_address_is_changed_answers_to_the_new_one() {
    let network = OneRouter::new("mac");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let old = network
        .left
        .run("ip", &["neigh", "show", "10.1.0.1"], BOUND)
        .unwrap();
    let old = old
        .split("lladdr ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    for (interface, mac) in [("lan", "02:00:00:00:77:01"), ("core", "02:00:00:00:77:02")] {
        network
            .router
            .ip(&format!("link set {interface} address {mac}"))
            .unwrap();
    }
    network.left.ip("neigh flush dev eth0").unwrap();
    network.right.ip("neigh flush dev eth0").unwrap();
    network.at_full_speed("10.9.0.2");
    let known = network
        .right
        .run("ip", &["neigh", "show", "10.9.0.1"], BOUND)
        .unwrap();
    assert!(known.contains("02:00:00:00:77:02"), "{known}");
    network
        .left
        .ip(&format!(
            "neigh replace 10.1.0.1 lladdr {old} dev eth0 nud permanent"
        ))
        .unwrap();
    lost(&network, "lan", "10.9.0.2", "not-for-us");
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

/// Frames longer than Ethernet's, on interfaces that carry them; on others it does not start.
#[test]
fn jumbo_frames_pass_where_the_interface_under_the_port_carries_them() {
    let network = OneRouter::new("jumbo");
    network.with_ipv6();
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace("rate = ", "mtu = 9000\nrate = ");
    fs::write(&network.config, config).unwrap();
    let mut narrow = network.spawn();
    assert_eq!(
        narrow.wait(BOUND).unwrap().code(),
        Some(1),
        "{}",
        narrow.log()
    );
    let says = "port lan: mtu = 9000, but interface u-lan has an MTU of 1500";
    assert!(narrow.log().contains(says), "{}", narrow.log());

    network
        .router
        .ip("link set u-lan mtu 9000\nlink set u-core mtu 9000")
        .unwrap();
    network.left.ip("link set eth0 mtu 9000").unwrap();
    network.right.ip("link set eth0 mtu 9000").unwrap();
    let mut router = network.start();
    for (address, headers) in [("10.9.0.2", 28), ("2001:db8:9::2", 48)] {
        network.at_full_speed(address);
        let ping = |bytes: u32| {
            let size = (bytes - headers).to_string();
            let args = ["-n", "-c5", "-i0.1", "-W1", "-Mdo", "-s", &size, address];
            network.left.run("ping", &args, BOUND)
        };
        let whole = ping(9000).unwrap();
        assert!(whole.contains(" 5 received"), "{whole}");
        // The kernel sends them, too: the router answers in full.
        let own = address
            .replace("10.9.0.2", "10.1.0.1")
            .replace("9::2", "1::1");
        let size = (9000 - headers).to_string();
        let args = ["-n", "-c5", "-i0.1", "-W1", "-Mdo", "-s", &size, &own];
        let whole = network.left.run("ping", &args, BOUND).unwrap();
        assert!(whole.contains(" 5 received"), "{whole}");
    }
    assert!(router.stop().unwrap().success(), "{}", router.log());
}
