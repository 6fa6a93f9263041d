//! A video call with a three-colour meter through two routers. Needs root and all programs built.

use std::time::Duration;

use voicelane_proto::v1::{
    ColourCounts, FlowKind, ListEntriesRequest, Meter, ServiceClass, SessionKey,
    meter::{Marker, TrTcm},
    router_operator_client::RouterOperatorClient,
};
use voicelane_testbed::{
    Capture, RouterOptions, Site, TwoSites,
    control::{Agent, call_session},
    topology::addresses,
    traffic::Calls,
};

use super::{metrics, reaches};
use crate::support::BOUND;

/// What a router has counted of the call's media from its caller, by colour.
fn colours(agent: &Agent, site: Site) -> ColourCounts {
    let api = format!(
        "http://{}:{}",
        addresses::management(site),
        addresses::ROUTER_PORT
    );
    let entries = agent.runtime().run("its entries", BOUND, async move {
        let mut client = RouterOperatorClient::connect(api).await.unwrap();
        let answer = client.list_entries(ListEntriesRequest {}).await.unwrap();
        answer
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap()
            .entries
    });
    let media = entries
        .unwrap()
        .into_iter()
        .find(|entry| entry.flow_index == 0 && entry.kind() == FlowKind::Rtp)
        .unwrap();
    let colours = media.colours.unwrap();
    let of_all = colours.green_packets + colours.yellow_packets + colours.red_packets;
    assert_eq!((media.packets, media.policed_packets), (of_all, 0));
    colours
}

/// G.711's 80 kbit/s, where 40 are committed and 60 the peak. What the first router marks comes to
/// the second as it counted it, and the second makes nothing better.
#[test]
fn two_routers_mark_video_by_its_rate() {
    let sites = TwoSites::new("meters").unwrap();
    let _server = sites.start_server().unwrap();
    let mut routers =
        Site::BOTH.map(|site| sites.start_router(site, &RouterOptions::default()).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    reaches(&sites, addresses::phone(Site::B));

    let agent = sites.connect_agent().unwrap();
    let flows = sites.calls(1);
    let key = SessionKey {
        agent_id: "test".into(),
        session_id: "video".into(),
    };
    let mut session = call_session(key, &flows);
    session.service_class = ServiceClass::MultimediaConferencing.into();
    for flow in &mut session.flows {
        flow.max_bitrate_bps = 0;
        flow.meter = Some(Meter {
            marker: Some(Marker::Trtcm(TrTcm {
                pir_bps: 60_000,
                pbs_bytes: 1_500,
            })),
            cir_bps: 40_000,
            cbs_bytes: 1_500,
            ..Meter::default()
        });
    }
    agent.add_session(session).unwrap();

    let capture = Capture::start(&sites.lab, sites.router(Site::B), "u-core", "udp").unwrap();
    let source = flows[0].source.ip().to_string();
    let mut calls = Calls::start(flows).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    calls.stop(true).unwrap();
    let (pcap, _) = capture.stop().unwrap();
    let mut marked = ColourCounts::default();
    let rows = Capture::fields(&pcap, "udp && ip", &["ip.src", "ip.dsfield.dscp"]).unwrap();
    for row in rows.iter().filter(|row| row[0] == source) {
        match row[1].as_str() {
            "34" => marked.green_packets += 1,
            "36" => marked.yellow_packets += 1,
            "38" => marked.red_packets += 1,
            other => panic!("DSCP {other}"),
        }
    }
    let [at_a, at_b] = Site::BOTH.map(|site| colours(&agent, site));
    let packets = |counts: ColourCounts| {
        [
            counts.green_packets,
            counts.yellow_packets,
            counts.red_packets,
        ]
    };
    assert_eq!(packets(marked), packets(at_a), "on the wire, and counted");
    assert!(packets(at_a).iter().all(|&colour| colour > 0), "{at_a:?}");
    std::thread::sleep(Duration::from_millis(110)); // the API keeps its figures so long
    let metrics = metrics(&sites, Site::A);
    let yellow = metrics.lines().find(|line| {
        line.starts_with("voicelane_session_colour_packets_total{")
            && line.contains(&format!("source=\"{source}:"))
            && line.contains("colour=\"yellow\"")
            && line.contains("kind=\"rtp\"")
    });
    let value = format!(" {}", at_a.yellow_packets);
    assert!(
        yellow.is_some_and(|line| line.ends_with(&value)),
        "{yellow:?}"
    );
    let sent = u64::try_from(calls.sent(0)).unwrap();
    for at in [at_a, at_b] {
        assert_eq!(packets(at).iter().sum::<u64>(), sent, "{at:?}");
    }
    assert!(
        at_b.green_packets <= at_a.green_packets,
        "{at_a:?} {at_b:?}"
    );
    assert!(at_b.red_packets >= at_a.red_packets, "{at_a:?} {at_b:?}");
}
