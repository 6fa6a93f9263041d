//! Routes as operators have them: FRR on both routers, BGP between them, through the kernel into the
//! dataplane. Needs root, and Debian's frr.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use crate::network::{Network, port};
use voicelane_proto::v1::PortStatus;
use voicelane_testbed::{
    RouterOptions, Site,
    clock::{Moment, Window},
    topology::{
        addresses,
        frr::{Frr, backup_port},
    },
    traffic::{Bulk, Calls},
};

const BOUND: Duration = Duration::from_secs(20);

/// Each with its flows on a link of its own by a coin's throw: all on one is one in 16,384.
const CALLS: u16 = 8;

fn options() -> RouterOptions {
    RouterOptions {
        fixed_routes: false,
        ..RouterOptions::default()
    }
}

/// Waits until a router's kernel leads to the other site over these links, and no other.
fn wait_for_routes(network: &Network, site: Site, frr: &Frr, links: &[&str]) {
    let [prefix, _] = addresses::prefixes(site.other());
    let end = Instant::now() + BOUND;
    loop {
        let args = ["route", "show", prefix];
        let routes = network.sites.router(site).run("ip", &args, BOUND).unwrap();
        let over = |link: &str| routes.contains(&format!("dev {link} "));
        let mut all = ["core", "backup"].iter();
        if all.all(|link| over(link) == links.contains(link)) {
            assert!(routes.contains("proto bgp"), "{routes}");
            return;
        }
        if Instant::now() >= end {
            let commands = [
                &format!("show bgp ipv4 unicast {prefix}"),
                &format!("show ip route {prefix}"),
                "show nexthop-group rib",
            ];
            let said = frr.vtysh(&commands).unwrap();
            panic!("not over {links:?} at {site:?} but {routes}, as FRR has it:\n{said}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Packets of calls that a port has sent.
fn calls_sent(port: &PortStatus) -> u64 {
    let telephony = port.queues.iter().find(|queue| queue.phb == "telephony");
    telephony.unwrap().sent_packets
}

/// How many packets of calls each of the two links took during a second, both ways together.
fn shares(network: &Network) -> [u64; 2] {
    let sent = || {
        let ports = Site::BOTH.map(|site| network.agent.router_ports(site).unwrap().0);
        ["core", "backup"].map(|link| {
            let sent = ports.iter().map(|ports| calls_sent(port(ports, link)));
            sent.sum::<u64>()
        })
    };
    let before = sent();
    thread::sleep(Duration::from_secs(1));
    let after = sent();
    [after[0] - before[0], after[1] - before[1]]
}

#[test]
fn calls_follow_bgp_and_keep_their_sessions() {
    let sites = voicelane_testbed::TwoSites::new("bgp").unwrap();
    let link = sites.add_backup_link().unwrap();
    let network = Network::on(sites, |site| RouterOptions {
        more_toml: backup_port(site, "10Mbit/s"),
        ..options()
    });
    // A's zebra makes routes of next hop objects, as it does by itself, and B's does not.
    let frr = Site::BOTH.map(|site| network.sites.start_frr(site, true).unwrap());
    frr[1].use_objects(false).unwrap();
    let neighbours = |site: Site| {
        [
            addresses::core(site.other()),
            addresses::backup(site.other()),
        ]
    };
    let all_established = |frr: &[Frr; 2]| {
        for (frr, site) in frr.iter().zip(Site::BOTH) {
            for neighbour in neighbours(site) {
                frr.wait_established(neighbour).unwrap();
            }
        }
    };
    let wait_for_all = |links: &[&str]| {
        for (site, frr) in Site::BOTH.into_iter().zip(&frr) {
            wait_for_routes(&network, site, frr, links);
        }
    };
    all_established(&frr);
    wait_for_all(&["core", "backup"]);

    let flows = network.sites.calls(CALLS);
    for (call, flows) in flows.chunks(2).enumerate() {
        network.add(&format!("call-{call}"), flows);
    }
    thread::sleep(Duration::from_millis(300));
    let mut calls = Calls::start(flows.clone()).unwrap();
    let [core, backup] = shares(&network);
    println!("both links: {core} and {backup} packets in a second");
    assert!(core > 0 && backup > 0, "{core} and {backup}");

    // BGP prefers the one link, and then both again.
    for avoid in [true, false] {
        for (frr, site) in frr.iter().zip(Site::BOTH) {
            let [_, backup] = neighbours(site);
            frr.avoid(backup, avoid).unwrap();
        }
        let links: &[&str] = if avoid {
            &["core"]
        } else {
            &["core", "backup"]
        };
        wait_for_all(links);
        thread::sleep(Duration::from_millis(300));
        let [core, backup] = shares(&network);
        println!("over {links:?}: {core} and {backup} packets in a second");
        assert!(core > 0 && (backup == 0) == avoid, "{core} and {backup}");
    }

    // The link is cut, and mended.
    let cut = Moment::now();
    thread::sleep(Duration::from_millis(200));
    link.cut().unwrap();
    wait_for_all(&["core"]);
    // What was sent before is there or not by then, at either end.
    thread::sleep(Duration::from_millis(300));
    let over = Moment::now();
    let [core, backup] = shares(&network);
    println!("backup link cut: {core} and {backup} packets in a second");
    assert!(core > 0 && backup == 0, "{core} and {backup}");
    link.mend().unwrap();
    all_established(&frr);
    // FRR 8.4 does not put back into its group what the kernel took out of it with the link, so A goes
    // on over the one that it has.
    wait_for_routes(&network, Site::B, &frr[1], &["core", "backup"]);
    thread::sleep(Duration::from_millis(300));
    let [core, backup] = shares(&network);
    println!("and mended: {core} and {backup} packets in a second");
    assert!(core > 0 && backup > 0, "{core} and {backup}");
    calls.stop(true).unwrap();

    let mut hit = 0;
    for index in 0..flows.len() {
        let arrivals = calls.arrivals(index);
        let all_marked = arrivals.iter().all(|(_, arrival)| arrival.dscp() == 46);
        assert!(all_marked, "flow {index} lost its session's mark");
        let sequences = |from: Moment, to: Moment| -> Vec<u32> {
            let sent = arrivals
                .iter()
                .filter(|(sent, _)| (from..to).contains(sent));
            sent.map(|(_, arrival)| arrival.sequence).collect()
        };
        let complete = |part: &[u32]| part.windows(2).all(|pair| pair[1] == pair[0] + 1);
        // Nothing is lost or overtaken but what was sent in the cut; what the port's ring held then is
        // sent when the link is back.
        let (before, after) = (
            sequences(Moment::from_nanos(0), cut),
            sequences(over, Moment::now()),
        );
        assert!(complete(&before) && before[0] == 0, "{index}: {before:?}");
        let last = usize::try_from(*after.last().unwrap()).unwrap();
        assert!(
            complete(&after) && last + 1 == calls.sent(index),
            "{index}: {after:?}"
        );
        let within = sequences(cut, over);
        let sent = usize::try_from(after[0]).unwrap() - before.len();
        let late = within.windows(2).filter(|pair| pair[1] < pair[0]).count();
        if within.len() < sent || late > 0 {
            println!(
                "flow {index}: {} lost, {late} late in the cut",
                sent - within.len()
            );
            hit += 1;
        }
    }
    println!("{hit} of {} flows hit", flows.len());
    assert!(hit < flows.len(), "those over the other link lose nothing");
    for router in network.agent.routers().unwrap() {
        assert_eq!(router.sessions, u64::from(CALLS), "{router:?}");
    }
}

/// How long the overload goes on, in seconds: some, or as many as `VOICELANE_BGP_SECONDS` says.
/// With more than 200 it is for `cargo test`: nextest ends a test of this kind after four minutes.
fn overload_seconds() -> u64 {
    let text = env::var("VOICELANE_BGP_SECONDS").unwrap_or_else(|_| "20".to_owned());
    text.parse().unwrap()
}

/// Three times what the core link carries, both ways, and the hold time is three seconds: without a
/// class of its own the session would not last.
#[test]
fn bgp_survives_three_times_overload() {
    let network = Network::on(
        voicelane_testbed::TwoSites::new("overload").unwrap(),
        |_| options(),
    );
    let frr = Site::BOTH.map(|site| network.sites.start_frr(site, false).unwrap());
    let neighbour = |site: Site| addresses::core(site.other());
    let before = [0, 1].map(|at| frr[at].wait_established(neighbour(Site::BOTH[at])).unwrap());
    let wait_for_all = || {
        for (site, frr) in Site::BOTH.into_iter().zip(&frr) {
            wait_for_routes(&network, site, frr, &["core"]);
        }
    };
    wait_for_all();
    let flows = network.sites.calls(1);
    network.add("call", &flows);
    thread::sleep(Duration::from_millis(300));
    let mut calls = Calls::start(flows).unwrap();

    let seconds = overload_seconds();
    let to_b = network.bulk(30_000_000, 1_200);
    let [to, from] = Site::BOTH.map(addresses::bulk);
    let to_a = Bulk::start(&network.sites.bulk_sink, from, to, 30_000_000, 1_200).unwrap();
    let window = Window::pass(Duration::from_secs(seconds));
    let after = [0, 1].map(|at| frr[at].peer(neighbour(Site::BOTH[at])).unwrap());
    let ports = Site::BOTH.map(|site| network.agent.router_ports(site).unwrap().0);
    to_b.stop().unwrap();
    to_a.stop().unwrap();
    calls.stop(true).unwrap();

    for ((site, ports), (before, after)) in
        Site::BOTH.iter().zip(&ports).zip(before.iter().zip(&after))
    {
        let keepalives = after.message_stats.keepalives_recv - before.message_stats.keepalives_recv;
        let core = port(ports, "core");
        let standard = core
            .queues
            .iter()
            .find(|queue| queue.phb == "standard")
            .unwrap();
        println!(
            "{site:?}: {seconds} s of overload, {keepalives} keepalives received, session up for \
             {:.1} s, dropped {} times; bulk {} packets sent, {} dropped",
            Duration::from_millis(after.up_ms).as_secs_f64(),
            after.connections_dropped,
            standard.sent_packets,
            standard.dropped_packets,
        );
        assert!(after.is_established(), "{after:?}");
        assert_eq!(after.connections_dropped, 0);
        assert!(after.up_ms >= seconds * 1000);
        assert!(keepalives >= seconds / 3, "the hold time is three seconds");
        assert!(
            standard.dropped_packets > standard.sent_packets,
            "it was an overload"
        );
        let control = core
            .queues
            .iter()
            .find(|q| q.phb == "network-control")
            .unwrap();
        assert_eq!(control.dropped_packets, 0);
    }
    for index in 0..2 {
        assert_eq!(calls.figures(index, window).unwrap().loss.lost(), 0);
    }
    wait_for_all();
}

/// OSPF and IS-IS with a hold time of some seconds, while a host of the LAN sends more to the router
/// than a kernel takes: multicast that nobody joined, and UDP to the router's own address.
#[test]
fn ospf_and_isis_survive_floods_of_the_lan() {
    let network = Network::on(voicelane_testbed::TwoSites::new("igp").unwrap(), |_| {
        options()
    });
    let frr = Site::BOTH.map(|site| {
        let ospf = format!(
            "interface core\n ip ospf area 0\n ip ospf network point-to-point\n \
             ip ospf hello-interval 1\n ip ospf dead-interval 3\n\
             router ospf\n ospf router-id {}\n",
            addresses::core(site)
        );
        let isis = format!(
            "interface core\n ip router isis voice\n isis circuit-type level-2-only\n \
             isis hello-interval 1\n isis hello-multiplier 3\n\
             router isis voice\n net 49.0001.0000.0000.000{}.00\n is-type level-2-only\n",
            1 + site as u8
        );
        let daemons = [("ospfd", ospf.as_str()), ("isisd", isis.as_str())];
        network.sites.start_daemons(site, &daemons).unwrap()
    });
    const OSPF: &str = "show ip ospf neighbor";
    const ISIS: &str = "show isis neighbor";
    for frr in &frr {
        frr.wait_for(OSPF, &["Full"]).unwrap();
        frr.wait_for(ISIS, &["Up"]).unwrap();
    }
    let source = addresses::bulk(Site::A);
    let to_router = std::net::SocketAddr::new(addresses::bulk_gateway(Site::A), 9);
    let to_group = "239.1.1.1:9".parse().unwrap();
    let other_port = std::net::SocketAddr::new(source.ip(), 10);
    let floods = [(source, to_router), (other_port, to_group)]
        .map(|(from, to)| Bulk::start(&network.sites.bulk_src, from, to, 3_400_000, 100).unwrap());
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        for frr in &frr {
            let (ospf, isis) = (frr.vtysh(&[OSPF]).unwrap(), frr.vtysh(&[ISIS]).unwrap());
            assert!(ospf.contains("Full"), "{ospf}");
            assert!(isis.contains("Up"), "{isis}");
        }
        thread::sleep(Duration::from_millis(200));
    }
    let ports = network.agent.router_ports(Site::A).unwrap().0;
    let refused = |name: &str| {
        let counts = &port(&ports, name).refused_punts;
        counts.iter().map(|count| count.packets).sum::<u64>()
    };
    println!(
        "refused: {} on bulk, {} on core",
        refused("bulk"),
        refused("core")
    );
    assert!(refused("bulk") > 10_000, "it was a flood");
    assert_eq!(refused("core"), 0);
    for flood in floods {
        flood.stop().unwrap();
    }
}

/// BGP with a hold time of three seconds, while 3.4 Mbit/s of UDP come for the router's LAN address.
#[test]
fn bgp_survives_a_flood_to_the_routers_address() {
    let network = Network::on(voicelane_testbed::TwoSites::new("punts").unwrap(), |_| {
        options()
    });
    let frr = Site::BOTH.map(|site| network.sites.start_frr(site, false).unwrap());
    let neighbour = |site: Site| addresses::core(site.other());
    for (site, frr) in Site::BOTH.into_iter().zip(&frr) {
        frr.wait_established(neighbour(site)).unwrap();
    }
    let source = addresses::bulk(Site::A);
    let to_router = std::net::SocketAddr::new(addresses::bulk_gateway(Site::A), 9);
    let flood = Bulk::start(&network.sites.bulk_src, source, to_router, 3_400_000, 100).unwrap();
    thread::sleep(Duration::from_secs(overload_seconds()));
    for (site, frr) in Site::BOTH.into_iter().zip(&frr) {
        let peer = frr.peer(neighbour(site)).unwrap();
        println!("{site:?}: {peer:?}");
        assert!(peer.is_established());
        assert_eq!(peer.connections_dropped, 0);
    }
    flood.stop().unwrap();
}
