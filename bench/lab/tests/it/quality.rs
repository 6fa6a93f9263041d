//! How well calls arrive, and where they lose packets, as real routers measure it. Needs root.

use std::{
    array,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use voicelane_proto::v1::{
    Event, EventKind, ExplainSessionRequest, FlowExplanation, FlowKind, LocatedLoss, MediaQuality,
    ServiceClass, SessionSpec, WatchEventsRequest, WatchOverviewRequest, WatchOverviewResponse,
    operator_client::OperatorClient,
};
use voicelane_testbed::{
    Namespace, RouterOptions, Site, TwoSites,
    clock::Moment,
    control::call_session,
    quality::Arrival,
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

/// How much a flow has lost in each segment, in the order of an overview's cells.
fn cells(loss: &LocatedLoss) -> [Option<u64>; 5] {
    [
        loss.before_source,
        loss.in_source,
        loss.between,
        loss.in_destination,
        loss.after_destination,
    ]
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

/// Lets hosts and routers find their neighbours, so that no flow's first packets are lost to that.
fn meet(network: &Network) {
    let callee = network.sites.calls(1)[0].destination.ip().to_string();
    let ping = ["-c", "5", "-i", "0.2", "-W", "1", &callee];
    let host = network.sites.phone(Site::A);
    host.run("ping", &ping, Duration::from_secs(10)).unwrap();
}

/// What a receiver says in RTCP: how much it has lost, and its highest number.
type Said = (u32, u32);

/// The callee's phone says in RTCP what has come of a flow.
fn report(socket: &UdpSocket, calls: &Calls, flow: usize) -> Option<Said> {
    let arrived = calls.arrivals(flow);
    let numbers = || arrived.iter().map(|(_, it)| it.sequence);
    let (first, highest) = (numbers().min()?, numbers().max()?);
    let received = u32::try_from(arrived.len()).unwrap();
    let lost = highest - first + 1 - received;
    let media = MediaPacket {
        flow: u32::try_from(flow).unwrap(),
        sequence: 0,
        sent: Moment::now(),
    };
    let ssrc = &media.encode()[8..12];
    let head = [0x81, 201, 0, 7, 0, 0, 0, 1];
    let said = [lost, highest].map(u32::to_be_bytes);
    let packet = [&head, ssrc, &said[0], &said[1], &[0; 12]].concat();
    let rtcp = |it: SocketAddr| SocketAddr::new(it.ip(), it.port() + 1);
    socket
        .send_to(&packet, rtcp(calls.flows()[flow].source))
        .unwrap();
    Some((lost, highest))
}

/// How all stands, as operators look at it.
fn overview(network: &Network) -> WatchOverviewResponse {
    let mut client = OperatorClient::new(network.agent.operator());
    let asked = async move {
        let request = WatchOverviewRequest {
            once: true,
            ..WatchOverviewRequest::default()
        };
        let mut answers = client.watch_overview(request).await?;
        answers.get_mut().message().await
    };
    let bound = Duration::from_secs(20);
    let overview = network.agent.runtime().run("overview", bound, asked);
    overview.unwrap().unwrap().unwrap()
}

/// The core port is too slow for one call: what stays in router A's queue has come to A, and is lost to B.
#[test]
fn what_a_queue_drops_is_lost_in_its_router() {
    let options = RouterOptions {
        core_rate: "64kbit/s".to_owned(),
        ..RouterOptions::default()
    };
    let network = Network::overcommitted("queue-loss", &options);
    meet(&network);
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
    InSource,
    Between,
    After,
}

/// What loses the packets of a call to its callee: the first `run` of each `every`. In router A it is a full
/// queue, which loses what it has no room for.
const FAULTS: [(Segment, u32, u32); 9] = [
    (Segment::Nowhere, 1, 0),
    (Segment::Before, 100, 1),
    (Segment::Before, 100, 4),
    (Segment::Between, 100, 1),
    (Segment::Between, 20, 1),
    (Segment::Between, 100, 4),
    (Segment::After, 20, 1),
    (Segment::After, 100, 4),
    (Segment::InSource, 10, 1),
];
/// A class for the call that loses packets in router A: of 95.2 kbit/s on the wire a tenth finds no room.
const SLOW_CLASS: &str = r#"
[port.queue.multimedia-conferencing]
maximum = "85kbit/s"
limit_packets = 8
drop = "tail"
"#;
/// How long the calls take.
const SECONDS: u64 = 60;
/// From one look at the overview to the next.
const LOOK: Duration = Duration::from_millis(500);
/// Looks from one report of a receiver to the next.
const REPORT: usize = 5;
/// Within that time a loss is told: from its beginning or, where only the receiver knows of it, from his first report.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How far a share may be from what was lost, percent of a flow's packets.
const BOUND: f64 = 0.2;

impl Segment {
    /// Its cell in an overview.
    fn cell(self) -> Option<usize> {
        match self {
            Self::Nowhere => None,
            Self::Before => Some(0),
            Self::InSource => Some(1),
            Self::Between => Some(2),
            Self::After => Some(4),
        }
    }

    /// What operators are told of it.
    fn told(self) -> &'static str {
        match self {
            Self::Nowhere => "",
            Self::Before => "packets are lost before router ",
            Self::InSource => "packets are lost in router ",
            Self::Between => "packets are lost between routers ",
            Self::After => "packets are lost after router ",
        }
    }
}

/// What share of as many packets as were judged, from the first one that came to router A, has not arrived.
fn made(segment: Segment, arrived: &[(Moment, Arrival)], packets: u64) -> f64 {
    let numbers = || arrived.iter().map(|(_, it)| u64::from(it.sequence));
    let first = match segment {
        Segment::Before => numbers().min().unwrap(),
        _ => 0,
    };
    let judged = first..first + packets;
    let missing = packets - numbers().filter(|it| judged.contains(it)).count() as u64;
    missing as f64 / packets as f64
}

/// Whether an event of 1 % or more is certain: of 256 numbers 1 in 100 is more or less.
fn is_bad(every: u32, run: u32) -> bool {
    run * 100 >= 2 * every
}

/// Nine calls at once for a minute, over a link of 40 ms each way: each loses packets in a place of its own.
/// The share that explain tells is that of the packets which have not come, to 0.2 points. What is lost
/// after both routers is what two of the receiver's reports say of their numbers.
#[test]
fn loss_is_told_in_its_segment_and_delay_too() {
    let sites = TwoSites::new("lossy").expect("this test needs root");
    let hop = sites.add_hop(Duration::from_millis(40)).unwrap();
    let network = Network::on(sites, |site| RouterOptions {
        more_toml: match site {
            Site::A => SLOW_CLASS.to_owned(),
            Site::B => String::new(),
        },
        ..RouterOptions::default()
    });
    meet(&network);
    let calls = network.sites.calls(FAULTS.len() as u16);
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
    for ((segment, ..), (call, flows)) in FAULTS.iter().zip(calls.chunks(2).enumerate()) {
        let class = match segment {
            Segment::InSource => ServiceClass::MultimediaConferencing,
            _ => ServiceClass::Telephony,
        };
        let session = SessionSpec {
            service_class: class.into(),
            ..call_session(key(&format!("call-{call}")), flows)
        };
        network.agent.add_session(session).unwrap();
    }
    let begun_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let begun = Instant::now();
    let mut calls = Calls::start(calls).unwrap();
    let reporters: Vec<UdpSocket> = calls
        .flows()
        .iter()
        .map(|flow| {
            let at = (flow.destination.ip(), flow.destination.port() + 1);
            let open = || UdpSocket::bind(at).unwrap();
            flow.destination_namespace.enter(open).unwrap()
        })
        .collect();
    let mut said = vec![Vec::<Said>::new(); reporters.len()];
    let mut shown = [None; FAULTS.len()];
    for look in 1.. {
        if begun.elapsed() >= Duration::from_secs(SECONDS) {
            break;
        }
        if look % REPORT == 0 {
            for (flow, socket) in reporters.iter().enumerate() {
                said[flow].extend(report(socket, &calls, flow));
            }
        }
        let seen = overview(&network);
        for (call, (shown, (segment, ..))) in shown.iter_mut().zip(FAULTS).enumerate() {
            let key = Some(key(&format!("call-{call}")));
            let seen = seen.calls.iter().find(|it| it.key == key).unwrap();
            let lost: [u64; 5] = array::from_fn(|cell| seen.segments[cell].lost.unwrap_or(0));
            for (cell, lost) in lost.into_iter().enumerate() {
                let is_its = segment.cell() == Some(cell);
                assert!(is_its || lost == 0, "{segment:?} {:?}", seen.segments);
            }
            let is_shown = segment.cell().is_some_and(|it| lost[it] > 0);
            *shown = shown.or(is_shown.then(|| begun.elapsed()));
        }
        thread::sleep(LOOK);
    }
    let now = all_flows(&network, FAULTS.len());
    calls.stop(true).unwrap();
    assert_eq!(calls.kernel_drops(), 0);
    let mut shortest = u64::MAX;
    let mut scores = Vec::new();
    for (call, ((fault, shown), [there, back])) in
        FAULTS.into_iter().zip(shown).zip(now).enumerate()
    {
        let (segment, every, run) = fault;
        let lost = loss(&there);
        let mut elsewhere = cells(&lost);
        let cell = segment.cell();
        let count = cell.map_or(Some(0), |cell| elsewhere[cell].replace(0));
        let packets = match segment {
            Segment::After => lost.reported_packets,
            _ => lost.packets,
        };
        let (count, flow) = (count.unwrap(), 2 * call);
        let percent = count as f64 * 100.0 / packets as f64;
        let made = 100.0 * made(segment, &calls.arrivals(flow), packets);
        println!("{fault:?} {made:.2} %: {percent:.2} % of {packets}, shown after {shown:?}");
        assert!((percent - made).abs() <= BOUND, "{fault:?} {lost:?}");
        assert!(packets > 35 * SECONDS, "{lost:?}");
        if segment == Segment::After {
            let said = &said[flow];
            let pairs = said.iter().enumerate();
            let mut pairs =
                pairs.flat_map(|(at, first)| said[at..].iter().map(move |it| (first, it)));
            let is_told = pairs.any(|(first, last)| {
                let told = (last.0 - first.0, last.1 - first.1);
                (told.0.into(), told.1.into()) == (count, packets)
            });
            assert!(is_told, "{fault:?} {lost:?} of {said:?}");
        }
        let clean = [Some(0); 5];
        assert_eq!(elsewhere, clean, "{fault:?}");
        assert_eq!(cells(&loss(&back)), clean, "{fault:?}");
        let told_within = match segment {
            Segment::After => TOLD_WITHIN + LOOK * REPORT as u32,
            _ => TOLD_WITHIN,
        };
        let is_shown = shown.is_some_and(|it| it <= told_within);
        let has_lost = calls.sent(flow) > calls.arrivals(flow).len();
        assert_eq!(has_lost, segment != Segment::Nowhere, "{fault:?}");
        assert_eq!(has_lost, is_shown, "{fault:?} {shown:?}");
        shortest = shortest.min(there.two_way_delay_ns.unwrap());
        scores.push([there, back].map(|it| it.score.unwrap().mos));
        let told = told_of(&network, call);
        match told.first() {
            Some(told) => {
                let is_its = told.text.starts_with(segment.told());
                assert!(segment != Segment::Nowhere && is_its, "{fault:?} {told:?}");
                let at = Duration::from_millis(u64::try_from(told.at_unix_ms).unwrap());
                let after = at.saturating_sub(begun_ms);
                let in_time = !is_bad(every, run) || after <= told_within;
                assert!(in_time, "{fault:?} {after:?}");
            }
            None => assert!(!is_bad(every, run), "{fault:?}"),
        }
    }
    assert!(
        (79_000_000..82_000_000).contains(&shortest),
        "{shortest} ns there and back"
    );
    let [lossy, clean] = scores[4];
    assert!(lossy < clean - 0.2, "{scores:?}");
}
