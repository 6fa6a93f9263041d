//! Two routers and the QoS server, in the testbed's two sites. Needs root and all programs built.

use std::time::Duration;

use nix::sys::signal::Signal;
use voicelane_proto::v1::{
    Endpoint, GetStatusRequest, ListEntriesRequest, ListPortsRequest, MediaFlow, SessionKey,
    SessionSpec, router_operator_client::RouterOperatorClient,
};
use voicelane_testbed::{
    Capture, RouterOptions, Site, TwoSites,
    control::call_session,
    topology::{addresses, ipv6},
    traffic::Calls,
};

use super::{metrics, pings, reaches};
use crate::support::{BOUND, eventually};

fn key(call: u16) -> SessionKey {
    SessionKey {
        agent_id: "test".into(),
        session_id: call.to_string(),
    }
}

fn spec(call: u16) -> SessionSpec {
    let endpoint = |site| {
        let rtp = addresses::rtp(site, call);
        Some(Endpoint {
            address: rtp.ip().to_string(),
            port: rtp.port().into(),
        })
    };
    let flow = |from: Site| MediaFlow {
        source: endpoint(from),
        destination: endpoint(from.other()),
        max_bitrate_bps: 80_000,
        ..MediaFlow::default()
    };
    SessionSpec {
        key: Some(key(call)),
        revision: 1,
        flows: Site::BOTH.map(flow).to_vec(),
        ..SessionSpec::default()
    }
}

#[test]
fn sessions_are_installed_survive_the_server_and_are_removed() {
    let sites = TwoSites::new("server").unwrap();
    let mut server = sites.start_server().unwrap();
    let mut routers =
        Site::BOTH.map(|site| sites.start_router(site, &RouterOptions::default()).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    let callee = addresses::phone(Site::B);
    reaches(&sites, callee);
    let agent = sites.connect_agent().unwrap();

    // The server knows what the routers know, and hears of changes.
    let reported = |site: Site| {
        let routers = agent.routers().unwrap();
        let router = routers
            .into_iter()
            .find(|r| r.router_id == site.router_id())
            .unwrap();
        router.interfaces
    };
    let lan = reported(Site::A)
        .into_iter()
        .find(|interface| interface.name == "lan")
        .unwrap();
    assert!(
        lan.up && lan.addresses == ["10.1.0.1/24"] && lan.prefixes == ["10.1.0.0/24"],
        "{lan:?}"
    );
    let lan_has = |prefix: &str| {
        let mut interfaces = reported(Site::A).into_iter().filter(|i| i.name == "lan");
        interfaces.any(|interface| interface.prefixes.contains(&prefix.to_owned()))
    };
    sites
        .router_a
        .ip("route add 10.66.0.0/16 via 10.1.0.99")
        .unwrap();
    eventually("the route in the report", || lan_has("10.66.0.0/16"));
    sites.router_a.ip("route del 10.66.0.0/16").unwrap();
    eventually("no route in the report", || !lan_has("10.66.0.0/16"));
    let lan_is_up = || reported(Site::A).iter().any(|i| i.name == "lan" && i.up);
    sites.caller.ip("link set eth0 down").unwrap();
    eventually("the link's loss in the report", || !lan_is_up());
    sites
        .caller
        .ip("link set eth0 up\nroute add default via 10.1.0.1")
        .unwrap();
    eventually("the link in the report", lan_is_up);
    eventually("a way between the sites again", || pings(&sites, callee));

    // When the answer is there, the entries are: RTP and RTCP, both ways.
    for call in 0..20 {
        agent.add_session(spec(call)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(110)); // the API keeps its figures so long
    for site in Site::BOTH {
        let text = metrics(&sites, site);
        assert!(text.contains("\nvoicelane_sessions 20\n"), "{text}");
        assert!(text.contains("\nvoicelane_session_entries 80\n"), "{text}");
    }

    // The router's own API says the same.
    let api = format!(
        "http://{}:{}",
        addresses::management(Site::A),
        addresses::ROUTER_PORT
    );
    let runtime = agent.runtime();
    let asked = runtime.run("the router's answers", BOUND, async move {
        let mut client = RouterOperatorClient::connect(api).await.unwrap();
        let status = client
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        let ports = client
            .list_ports(ListPortsRequest {})
            .await
            .unwrap()
            .into_inner()
            .ports;
        let mut stream = client
            .list_entries(ListEntriesRequest {})
            .await
            .unwrap()
            .into_inner();
        let mut entries = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            entries.extend(part.entries);
        }
        (status, ports, entries)
    });
    let (status, ports, entries) = asked.unwrap();
    assert!(
        status.attached && status.server == addresses::server_url(),
        "{status:?}"
    );
    assert_eq!(
        (status.sessions, status.entries, entries.len()),
        (20, 80, 80)
    );
    assert!(status.buffers_free > 0 && status.routes > 0, "{status:?}");
    let names: Vec<_> = ports
        .iter()
        .map(|p| p.interface.as_ref().unwrap().name.as_str())
        .collect();
    assert_eq!(names, ["lan", "bulk", "core"]);
    assert!(
        ports[0].rx_packets > 0 && ports[0].queues.len() == 13,
        "{ports:?}"
    );

    // Calls that are there stay when the server dies, and the routers go on.
    server.kill().unwrap();
    assert!(pings(&sites, callee));
    let [a, _] = &mut routers;
    a.process.wait_for_log("out of reach", BOUND).unwrap();
    let detached = || metrics(&sites, Site::A).contains("\nvoicelane_attached 0\n");
    eventually("the loss in the metrics", detached);
    assert!(metrics(&sites, Site::A).contains("\nvoicelane_sessions 20\n"));
    assert!(pings(&sites, callee));

    // A server that comes back without memory leaves them for a while, and its answers are right.
    let _server = sites.start_server().unwrap();
    for site in Site::BOTH {
        eventually("the attachment", || {
            metrics(&sites, site).contains("\nvoicelane_attached 1\n")
        });
    }
    let agent = sites.connect_agent().unwrap();
    for call in 0..3 {
        agent.add_session(spec(call)).unwrap();
    }
    agent.delete_session(key(1)).unwrap();
    for site in Site::BOTH {
        eventually("one session less", || {
            metrics(&sites, site).contains("\nvoicelane_sessions 19\n")
        });
        let entries = || metrics(&sites, site).contains("\nvoicelane_session_entries 76\n");
        eventually("four entries less", entries);
    }
    for router in &mut routers {
        assert!(
            router.process.stop().unwrap().success(),
            "{}",
            router.process.log()
        );
    }
}

/// A call between IPv6 endpoints: reported, placed, installed, marked and counted as one of IPv4.
#[test]
fn a_call_over_ipv6_has_its_own_lane() {
    let sites = TwoSites::new("server6").unwrap();
    sites.add_ipv6().unwrap();
    let _server = sites.start_server().unwrap();
    let options = RouterOptions {
        ipv6: true,
        ..RouterOptions::default()
    };
    let mut routers = Site::BOTH.map(|site| sites.start_router(site, &options).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    reaches(&sites, ipv6::phone(Site::B));
    let agent = sites.connect_agent().unwrap();
    let interface = |name: &str| {
        let routers = agent.routers().unwrap();
        let router = routers.into_iter().find(|r| r.router_id == "a").unwrap();
        let mut interfaces = router.interfaces.into_iter();
        interfaces.find(|i| i.name == name).unwrap()
    };
    // Nothing link-local: every link has the same.
    let lan = interface("lan");
    assert_eq!(lan.addresses, ["10.1.0.1/24", "2001:db8:1::1/64"]);
    assert_eq!(lan.prefixes, ["10.1.0.0/24", "2001:db8:1::/64"]);
    let behind_core = ["2001:db8:2::/64", "2001:db8:4::/64", "2001:db8:9::/64"].map(str::to_owned);
    eventually("the routes in the report", || {
        interface("core").prefixes.ends_with(&behind_core)
    });

    // Two calls that claim nothing, and get EF; one that claims EF, and has no session.
    let mut flows = sites.calls6(3);
    for flow in flows.iter_mut().skip(4) {
        flow.tos = 46 << 2;
    }
    for (call, flows) in (0..).zip(flows.chunks(2)).take(2) {
        let (session, _) = agent.add_session(call_session(key(call), flows)).unwrap();
        assert_eq!(session.routers.len(), 2);
    }
    let captures = Site::BOTH
        .map(|site| Capture::start(&sites.lab, sites.router(site), "u-core", "udp").unwrap());
    let mut calls = Calls::start(flows.clone()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    calls.stop(true).unwrap();
    let fields = [
        "ipv6.src",
        "udp.srcport",
        "ipv6.tclass.dscp",
        "ipv6.hlim",
        "udp.checksum.status",
    ];
    let mut seen = vec![0; flows.len()];
    for capture in captures {
        let (pcap, _) = capture.stop().unwrap();
        for row in Capture::fields(&pcap, "udp && ipv6", &fields).unwrap() {
            let [source, port, dscp, hop_limit, checksum] = row.as_slice() else {
                panic!("{row:?}")
            };
            let is_it = |flow: &voicelane_testbed::traffic::Flow| {
                flow.source.ip().to_string() == *source && flow.source.port().to_string() == *port
            };
            let flow = flows.iter().position(is_it).unwrap();
            let expected = if flow < 4 { "46" } else { "0" };
            assert_eq!(
                [dscp, hop_limit, checksum].map(String::as_str),
                [expected, "63", "1"],
                "{row:?}"
            );
            seen[flow] += 1;
        }
    }
    for (flow, seen) in seen.into_iter().enumerate() {
        assert!(seen > 90 && seen == calls.sent(flow), "{flow}: {seen}");
    }
    // What came in by each port as telephony is counted there.
    for site in Site::BOTH {
        let text = metrics(&sites, site);
        assert!(text.contains("\nvoicelane_session_entries 8\n"), "{text}");
        for (port, from) in [("lan", site), ("core", site.other())] {
            let of_calls = (0..4).filter(|it| flows[*it].source.ip() == ipv6::phone(from));
            let packets: usize = of_calls.map(|it| calls.sent(it)).sum();
            for (what, count) in [("packets", packets), ("bytes", packets * 234)] {
                let series = format!("voicelane_interface_telephony_{what}_total");
                let line = format!("\n{series}{{interface=\"{port}\"}} {count}\n");
                assert!(text.contains(&line), "{line} is not in {text}");
            }
        }
    }
}

/// The server's process stands still, and its kernel acknowledges everything: only pings of HTTP/2 tell.
#[test]
fn a_server_that_stands_still_is_noticed() {
    // A ping each 10 s, and its answer within 5 s.
    const NOTICED: Duration = Duration::from_secs(15);
    let sites = TwoSites::new("mute").unwrap();
    let server = sites.start_server().unwrap();
    let mut router = sites
        .start_router(Site::A, &RouterOptions::default())
        .unwrap();
    router.wait_attached().unwrap();
    let attached = |value: u8| {
        let line = format!("\nvoicelane_attached {value}\n");
        metrics(&sites, Site::A).contains(&line)
    };
    // It is idle for longer than that, which is no reason.
    std::thread::sleep(NOTICED + Duration::from_secs(2));
    assert!(attached(1));
    server.signal(Signal::SIGSTOP).unwrap();
    router
        .process
        .wait_for_log("out of reach", NOTICED + BOUND)
        .unwrap();
    eventually("the loss in the metrics", || attached(0));
    server.signal(Signal::SIGCONT).unwrap();
    eventually("the attachment", || attached(1));
}
