//! A router whose certificate runs out under calls. Needs root and all programs built.

use std::time::Duration;

use time::OffsetDateTime;
use voicelane_identity::Role;
use voicelane_proto::v1::SessionKey;
use voicelane_testbed::{
    Capture, RouterOptions, Site, TwoSites, control::call_session, traffic::Calls,
};

use crate::support::within;

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_router_whose_certificate_expires_comes_back_with_a_new_one() {
    let sites = TwoSites::new("identity").unwrap();
    let mut server = sites.start_server().unwrap();
    let id = Site::A.router_id();
    let until = OffsetDateTime::now_utc() + Duration::from_secs(25);
    sites.identity_until(Role::Router, id, until).unwrap();
    let mut routers =
        Site::BOTH.map(|site| sites.start_router(site, &RouterOptions::default()).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    let agent = sites.connect_agent().unwrap();
    let attached = || {
        let routers = agent.routers().unwrap();
        routers.iter().any(|it| it.router_id == id && it.attached)
    };
    let flows = sites.calls(2);
    for (call, flows) in (0..).zip(flows.chunks(2)) {
        let key = SessionKey {
            agent_id: "test".into(),
            session_id: i32::to_string(&call),
        };
        let added = || agent.add_session(call_session(key.clone(), flows));
        // The server knows the way between the sites when the routers have told it.
        within(BOUND, "the session", || added().is_ok());
    }
    let captures = Site::BOTH
        .map(|site| Capture::start(&sites.lab, sites.router(site), "u-core", "udp").unwrap());
    let mut calls = Calls::start(flows.clone()).unwrap();

    server
        .wait_for_log("certificate has expired", BOUND)
        .unwrap();
    within(BOUND, "the router is away", || !attached());
    // It asks again, and is refused.
    server.wait_for_log("refused a connection", BOUND).unwrap();
    assert!(!attached());
    sites.renew_identity(Role::Router, id).unwrap();
    within(BOUND, "the router is back", attached);
    std::thread::sleep(Duration::from_secs(1));
    calls.stop(true).unwrap();

    let mut seen = 0;
    for capture in captures {
        let (pcap, _) = capture.stop().unwrap();
        let filter = "udp && (ip.dst == 10.1.0.0/16 || ip.dst == 10.2.0.0/16)";
        for row in Capture::fields(&pcap, filter, &["ip.dsfield.dscp"]).unwrap() {
            assert_eq!(row, ["46"]);
            seen += 1;
        }
    }
    let sent: usize = (0..flows.len()).map(|flow| calls.sent(flow)).sum();
    assert!(sent > 0 && seen == sent, "{seen} of {sent} were seen");
}
