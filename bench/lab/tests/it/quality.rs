//! How well calls arrive, and where they lose packets, as real routers measure it. Needs root.

use std::{
    env,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use voicelane_proto::v1::{
    Event, EventKind, ExplainSessionRequest, FlowExplanation, FlowKind, LocatedLoss, MediaQuality,
    WatchEventsRequest, operator_client::OperatorClient,
};
use voicelane_testbed::{
    Namespace, RouterOptions, Site, TwoSites,
    clock::Moment,
    topology::hop::Loss,
    traffic::{Calls, Flow, MediaPacket},
};

use crate::network::{Network, key};

/// What a site's router has measured of the call's flow from A to B.
fn measured(network: &Network, site: Site, destination: &str) -> MediaQuality {
    let entries = network.agent.router_entries(site).unwrap();
    let to = |it: &&voicelane_proto::v1::EntryCounters| {
        let ends = it.destination.as_ref();
        it.kind() == FlowKind::Rtp && ends.is_some_and(|it| it.address == destination)
    };
    entries.iter().find(to).unwrap().quality.clone().unwrap()
}

/// Both flows of a call, A to B first.
fn flows(network: &Network, call: usize) -> [FlowExplanation; 2] {
    let mut client = OperatorClient::new(network.agent.operator());
    let request = ExplainSessionRequest {
        key: Some(key(&format!("call-{call}"))),
    };
    let bound = Duration::from_secs(20);
    let asked = async move { client.explain_session(request).await };
    let answer = network.agent.runtime().run("explain", bound, asked);
    let answer = answer.unwrap().unwrap().into_inner();
    answer.flows.try_into().unwrap()
}

/// Those of calls, asked for all at once, as each answer takes more than a second.
fn all_flows(network: &Network, calls: usize) -> Vec<[FlowExplanation; 2]> {
    thread::scope(|scope| {
        let ask = |call| scope.spawn(move || flows(network, call));
        let asked: Vec<_> = (0..calls).map(ask).collect();
        asked.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

/// What the server has told of a call's quality, oldest first.
fn told_of(network: &Network, call: usize) -> Vec<Event> {
    let mut client = OperatorClient::new(network.agent.operator());
    let asked = async move {
        let mut answers = client.watch_events(WatchEventsRequest::default()).await?;
        let mut events = Vec::new();
        while let Some(part) = answers.get_mut().message().await? {
            events.extend(part.events);
        }
        Ok::<_, tonic::Status>(events)
    };
    let bound = Duration::from_secs(20);
    let events = network.agent.runtime().run("events", bound, asked);
    let mut events = events.unwrap().unwrap();
    let session = Some(key(&format!("call-{call}")));
    let kinds = [EventKind::QualityBad, EventKind::OneWayAudio];
    events.retain(|it| it.session == session && kinds.contains(&it.kind()));
    events
}

fn loss(flow: &FlowExplanation) -> LocatedLoss {
    flow.loss.unwrap_or_default()
}

/// Of flows' packets the first `run` of each `every` do not pass a host's interface.
fn drop_some(host: &Namespace, hook: &str, some: &[(&Flow, u32, u32)]) {
    let rule = |(flow, every, run): &(&Flow, u32, u32)| {
        let port = flow.destination.port();
        format!("udp dport {port} numgen inc mod {every} < {run} counter drop;")
    };
    let rules: String = some.iter().map(rule).collect();
    let table = format!(
        "table netdev lossy {{ chain some {{ type filter hook {hook} device \"eth0\" priority 0; {rules} }}; }}"
    );
    host.run("nft", &[&table], Duration::from_secs(10)).unwrap();
}

/// The callee's phone says in RTCP what has come of a flow.
fn report(socket: &UdpSocket, calls: &Calls, flow: usize) {
    let arrived = calls.arrivals(flow);
    let numbers = || arrived.iter().map(|(_, it)| it.sequence);
    let (Some(first), Some(highest)) = (numbers().min(), numbers().max()) else {
        return;
    };
    let received = u32::try_from(arrived.len()).unwrap();
    let lost = highest - first + 1 - received;
    let media = MediaPacket {
        flow: u32::try_from(flow).unwrap(),
        sequence: 0,
        sent: Moment::now(),
    };
    let ssrc = &media.encode()[8..12];
    let (lost, highest) = (lost.to_be_bytes(), highest.to_be_bytes());
    let head = [0x81, 201, 0, 7, 0, 0, 0, 1];
    let packet = [&head, ssrc, &lost, &highest, &[0; 12]].concat();
    let rtcp = |it: SocketAddr| SocketAddr::new(it.ip(), it.port() + 1);
    socket
        .send_to(&packet, rtcp(calls.flows()[flow].source))
        .unwrap();
}

/// The core port is too slow for one call: what stays in router A's queue has come to A, and is lost to B.
#[test]
fn what_a_queue_drops_is_lost_in_its_router() {
    let options = RouterOptions {
        core_rate: "64kbit/s".to_owned(),
        ..RouterOptions::default()
    };
    let network = Network::overcommitted("queue-loss", &options);
    let calls = network.sites.calls(1);
    network.add("call-0", &calls);
    let to_callee = calls[0].destination.ip().to_string();
    let mut calls = Calls::start(calls).unwrap();
    let begun = Instant::now();
    while loss(&flows(&network, 0)[0]).in_source.unwrap_or_default() < 20 {
        assert!(begun.elapsed() < Duration::from_secs(10), "told too late");
    }
    let [there, _] = flows(&network, 0);
    calls.stop(true).unwrap();
    let (sent, arrived) = (calls.sent(0) as u64, calls.arrivals(0).len() as u64);
    let at_a = measured(&network, Site::A, &to_callee);
    assert_eq!((at_a.received, at_a.lost), (sent, 0), "{at_a:?}");
    assert_eq!((at_a.restarts, at_a.duplicates, at_a.spread), (0, 0, false));
    let at_b = measured(&network, Site::B, &to_callee);
    assert_eq!(at_b.received, arrived, "{at_b:?}");
    assert_eq!(at_b.lost, at_b.expected - arrived, "{at_b:?}");
    assert!(at_b.lost > sent / 10, "{at_b:?} of {sent}");
    let loss = loss(&there);
    assert_eq!(
        (loss.before_source, loss.between),
        (Some(0), Some(0)),
        "{loss:?}"
    );
    assert!(loss.in_source > Some(loss.packets / 20), "{loss:?}");
}

/// Where a call loses packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Nowhere,
    Before,
    Between,
    After,
}

/// What loses the packets of a call to its callee: the first `run` of each `every`.
const FAULTS: [(Segment, u32, u32); 8] = [
    (Segment::Nowhere, 1, 0),
    (Segment::Before, 100, 1),
    (Segment::Before, 100, 4),
    (Segment::Between, 100, 1),
    (Segment::Between, 20, 1),
    (Segment::Between, 100, 4),
    (Segment::After, 20, 1),
    (Segment::After, 100, 4),
];

impl Segment {
    /// How much a flow has lost there, and of how many packets.
    fn lost(self, loss: &LocatedLoss) -> (Option<u64>, u64) {
        match self {
            Self::Nowhere => (Some(0), loss.packets),
            Self::Before => (loss.before_source, loss.packets),
            Self::Between => (loss.between, loss.packets),
            Self::After => (loss.after_destination, loss.reported_packets),
        }
    }

    /// Of how many numbers it is told, at least: reports of a receiver are compared that are so far apart.
    fn fewest(self, seconds: u64) -> u64 {
        match self {
            Self::After => 128,
            Self::Nowhere | Self::Before | Self::Between => 20 * seconds,
        }
    }

    /// What operators are told of it.
    fn told(self) -> &'static str {
        match self {
            Self::Nowhere => "",
            Self::Before => "packets are lost before router ",
            Self::Between => "packets are lost between routers ",
            Self::After => "packets are lost after router ",
        }
    }

    /// The same loss, but for what was lost there.
    fn without(self, mut loss: LocatedLoss) -> [Option<u64>; 5] {
        match self {
            Self::Nowhere => {}
            Self::Before => loss.before_source = Some(0),
            Self::Between => loss.between = Some(0),
            Self::After => loss.after_destination = Some(0),
        }
        [
            loss.before_source,
            loss.in_source,
            loss.between,
            loss.in_destination,
            loss.after_destination,
        ]
    }
}

/// Eight calls at once, over a link of 40 ms each way: each loses packets in a place of its own. With
/// `VOICELANE_QUALITY_SECONDS=60` the shares are exact to 0.2 points, but for what is lost after both: of that
/// a receiver's last reports tell.
#[test]
fn loss_is_told_in_its_segment_and_delay_too() {
    let seconds = env::var("VOICELANE_QUALITY_SECONDS").ok();
    let seconds = seconds.map_or(15, |it| it.parse().unwrap());
    let sites = TwoSites::new("lossy").expect("this test needs root");
    let hop = sites.add_hop(Duration::from_millis(40)).unwrap();
    let network = Network::on(sites, |_| RouterOptions::default());
    let calls = network.sites.calls(8);
    let to_callee = |segment| {
        let of = |(call, fault): (usize, &(Segment, u32, u32))| {
            (fault.0 == segment).then_some((2 * call, fault.1, fault.2))
        };
        FAULTS.iter().enumerate().filter_map(of).collect::<Vec<_>>()
    };
    for (segment, site, hook) in [
        (Segment::Before, Site::A, "egress"),
        (Segment::After, Site::B, "ingress"),
    ] {
        let some = to_callee(segment).into_iter();
        let some: Vec<_> = some
            .map(|(it, every, run)| (&calls[it], every, run))
            .collect();
        drop_some(network.sites.phone(site), hook, &some);
    }
    let losses = to_callee(Segment::Between).into_iter();
    let losses = losses.map(|(flow, every, run)| Loss {
        flow: u32::try_from(flow).unwrap(),
        every,
        run,
    });
    hop.lose(&losses.collect::<Vec<_>>());
    for (call, flows) in calls.chunks(2).enumerate() {
        network.add(&format!("call-{call}"), flows);
    }
    let calls = Calls::start(calls).unwrap();
    let reporters: Vec<UdpSocket> = calls
        .flows()
        .iter()
        .map(|flow| {
            let at = (flow.destination.ip(), flow.destination.port() + 1);
            let open = || UdpSocket::bind(at).unwrap();
            flow.destination_namespace.enter(open).unwrap()
        })
        .collect();
    let begun = Instant::now();
    let mut told = [None; FAULTS.len()];
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (flow, socket) in reporters.iter().enumerate() {
            report(socket, &calls, flow);
        }
        let now = all_flows(&network, FAULTS.len());
        for ((told, (segment, ..)), [there, _]) in told.iter_mut().zip(FAULTS).zip(now) {
            let is_lost = segment.lost(&loss(&there)).0.unwrap_or_default() > 0;
            *told = told.or(is_lost.then(|| begun.elapsed()));
        }
    }
    let bound = 0.2 * 60.0 / seconds as f64;
    let mut shortest = u64::MAX;
    let mut scores = Vec::new();
    let now = all_flows(&network, FAULTS.len());
    for (((segment, every, run), told), [there, back]) in FAULTS.into_iter().zip(told).zip(now) {
        let lost = loss(&there);
        let (count, packets) = segment.lost(&lost);
        let percent = count.unwrap() as f64 * 100.0 / packets as f64;
        let made = f64::from(run) * 100.0 / f64::from(every);
        println!("{segment:?} {made} %: {percent:.2} % of {packets}, told after {told:?}");
        // Where a few numbers are compared, they may begin or end within what is lost.
        let bound = match segment {
            Segment::After => bound.max(f64::from(run) * 100.0 / packets as f64),
            Segment::Nowhere | Segment::Before | Segment::Between => bound,
        };
        assert!(
            (percent - made).abs() <= bound,
            "{segment:?} {percent} %: {lost:?}"
        );
        let clean = [Some(0); 5];
        assert_eq!(segment.without(lost), clean, "{segment:?}");
        assert_eq!(Segment::Nowhere.without(loss(&back)), clean, "{segment:?}");
        assert!(
            segment == Segment::Nowhere || told.is_some_and(|it| it.as_secs() < 10),
            "{segment:?} {told:?}"
        );
        assert!(packets > segment.fewest(seconds), "{lost:?}");
        shortest = shortest.min(there.two_way_delay_ns.unwrap());
        scores.push([there, back].map(|it| it.score.unwrap().mos));
    }
    assert!(
        (79_000_000..82_000_000).contains(&shortest),
        "{shortest} ns there and back"
    );
    let [lossy, clean] = scores[4];
    assert!(lossy < clean - 0.2, "{scores:?}");
    for (call, (segment, every, run)) in FAULTS.into_iter().enumerate() {
        let told = told_of(&network, call);
        let texts: Vec<&str> = told.iter().map(|it| it.text.as_str()).collect();
        match segment {
            Segment::Nowhere => assert_eq!(texts, [""; 0]),
            // Of a few numbers 1 % is more or less.
            _ if run * 100 < 2 * every => {}
            _ => {
                let first = texts.first();
                let is_right = first.is_some_and(|it| it.starts_with(segment.told()));
                assert!(is_right, "{segment:?} {every} {run}: {texts:?}");
            }
        }
    }
}
