//! A call through two routers with two cores each: a worker and a scheduler, and two workers that
//! are schedulers, too. Needs root, two cores and all programs built.

use std::time::Duration;

use voicelane_proto::v1::{
    EntryCounters, ListEntriesRequest, SessionKey, router_operator_client::RouterOperatorClient,
};
use voicelane_router::dataplane::cores;
use voicelane_testbed::{
    Capture, RouterOptions, Site, TwoSites,
    control::{Agent, call_session},
    topology::addresses,
    traffic::Calls,
};

use super::{metrics, reaches};
use crate::support::BOUND;

/// What a router has counted of each of the call's flows.
fn entries(agent: &Agent, site: Site) -> Vec<EntryCounters> {
    let api = format!(
        "http://{}:{}",
        addresses::management(site),
        addresses::ROUTER_PORT
    );
    let answer = agent.runtime().run("its entries", BOUND, async move {
        let mut client = RouterOperatorClient::connect(api).await.unwrap();
        let answer = client.list_entries(ListEntriesRequest {}).await.unwrap();
        answer.into_inner().message().await.unwrap()
    });
    // Without entries there is no message.
    let message = answer.unwrap();
    message.map(|part| part.entries).unwrap_or_default()
}

/// The sum of a metric's series that have all of these labels.
fn metric(sites: &TwoSites, site: Site, name: &str, labels: &[&str]) -> f64 {
    let metrics = metrics(sites, site);
    let series = metrics.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    let values = series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

#[test]
fn a_call_crosses_cores() {
    let available = cores::available();
    let [first, second, ..] = available[..] else {
        panic!("two cores are needed, not {available:?}");
    };
    let sites = TwoSites::new("cores").unwrap();
    let _server = sites.start_server().unwrap();
    let split = RouterOptions {
        cores: vec![first],
        scheduler_cores: vec![second],
        ..RouterOptions::default()
    };
    let both = RouterOptions {
        cores: vec![second, first],
        ..RouterOptions::default()
    };
    let mut routers = [(Site::A, split), (Site::B, both)]
        .map(|(site, options)| sites.start_router(site, &options).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    reaches(&sites, addresses::phone(Site::B));

    let agent = sites.connect_agent().unwrap();
    let flows = sites.calls(2);
    let key = SessionKey {
        agent_id: "test".into(),
        session_id: "call".into(),
    };
    agent
        .add_session(call_session(key.clone(), &flows))
        .unwrap();
    // Each sees what the other router sends.
    let captures = Site::BOTH
        .map(|site| Capture::start(&sites.lab, sites.router(site), "u-core", "udp").unwrap());
    let mut calls = Calls::start(flows.clone()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    calls.stop(true).unwrap();
    let mut rows = Vec::new();
    for capture in captures {
        let (pcap, _) = capture.stop().unwrap();
        let fields = ["ip.src", "udp.srcport", "ip.dsfield.dscp"];
        rows.extend(Capture::fields(&pcap, "udp && ip", &fields).unwrap());
    }

    // Acknowledged by all workers before the first packet: none goes unmarked, and none is lost.
    for (index, flow) in flows.iter().enumerate() {
        let sent = calls.sent(index);
        assert!(sent > 100, "{sent} of {flow:?}");
        assert_eq!(calls.arrivals(index).len(), sent, "{flow:?}");
        let source = [flow.source.ip().to_string(), flow.source.port().to_string()];
        let marks = rows.iter().filter(|row| row[..2] == source);
        let marks: Vec<_> = marks.map(|row| row[2].as_str()).collect();
        assert_eq!(marks, vec!["46"; sent], "{flow:?}");
        for site in Site::BOTH {
            let entries = entries(&agent, site);
            let of_flow = entries.iter().filter(|entry| {
                let of = entry.source.as_ref().unwrap();
                [of.address.clone(), of.port.to_string()] == source
            });
            let counted: u64 = of_flow.map(|entry| entry.packets).sum();
            assert_eq!(usize::try_from(counted), Ok(sent), "{flow:?} at {site:?}");
        }
    }
    std::thread::sleep(Duration::from_millis(110)); // the API keeps its figures so long
    let all: usize = (0..flows.len()).map(|index| calls.sent(index)).sum();
    for site in Site::BOTH {
        let class = ["phb=\"telephony\""];
        let sent = metric(&sites, site, "voicelane_queue_sent_packets_total", &class);
        assert!(sent >= all as f64, "{sent} of {all} at {site:?}");
        let full = metric(
            &sites,
            site,
            "voicelane_interface_drops_total",
            &["reason=\"ring-full\""],
        );
        assert!(full.abs() < 0.5, "{full} at {site:?}");
    }
    agent.delete_session(key).unwrap();
    for site in Site::BOTH {
        assert!(entries(&agent, site).is_empty());
    }
}
