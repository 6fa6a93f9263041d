//! Calls that routers say lose packets, or are heard one way only.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use voicelane_proto::v1::{self, EventKind, command::Command, explain_step::Verdict};
use voicelane_server::engine::Settings;

use crate::common::*;

/// A flow of call c1 as a router has measured it: lost up to the last checkpoint, and how long ago a packet
/// came.
fn counters(flow: u32, lost: u32, last_seen_ms_ago: u64) -> v1::EntryCounters {
    let ends = ["10.1.0.5:4000", "10.2.0.7:4000"];
    let [source, destination] = match flow {
        0 => ends,
        _ => [ends[1], ends[0]],
    };
    let checkpoint = |(number, lost)| v1::QualityCheckpoint {
        number,
        lost,
        dropped: Some(0),
    };
    v1::EntryCounters {
        flow_index: flow,
        kind: v1::FlowKind::Rtp.into(),
        packets: 1_000,
        last_seen_ms_ago: Some(last_seen_ms_ago),
        source: endpoint(source),
        destination: endpoint(destination),
        quality: Some(v1::MediaQuality {
            payload_type: Some(8),
            first_number: Some(65_536),
            checkpoints: [(66_560, lost), (66_304, 0)].map(checkpoint).to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The first event of a kind.
async fn event(server: &TestServer, kind: EventKind) -> v1::Event {
    let request = v1::WatchEventsRequest {
        follow: true,
        ..Default::default()
    };
    let mut operator = server.operator().await;
    let mut events = operator.watch_events(request).await.unwrap().into_inner();
    let found = async {
        loop {
            let part = events.message().await.unwrap().unwrap();
            if let Some(event) = part.events.into_iter().find(|it| it.kind() == kind) {
                return event;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn a_call_that_loses_packets_is_told_with_the_place() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    add(&mut net.client, call("c2", 5000)).await.unwrap();
    net.a.count(vec![counters(0, 1, 10), counters(1, 0, 10)]);
    net.b.count(vec![counters(0, 13, 10), counters(1, 0, 10)]);
    net.a_stream.tell_troubled(&["c1", "no such"]).await;
    let bad = event(&net.server, EventKind::QualityBad).await;
    assert_eq!(bad.session, key("c1"));
    assert_eq!(
        bad.text,
        "packets are lost between routers a and b: 5.0 % of flow 0; MOS 3.9"
    );
    let overview = net.server.overview(0).await;
    assert_eq!(
        overview.sentence,
        "2 calls; 1 bad (1: packets are lost between routers a and b)."
    );
    let worst = &overview.calls[0];
    assert_eq!((worst.key.clone(), worst.badness), (key("c1"), 5));
    let segments: Vec<_> = worst
        .segments
        .iter()
        .map(|it| (it.verdict(), it.lost, it.packets, it.text.as_str()))
        .collect();
    let (broken, ok) = (Verdict::Broken, Verdict::Ok);
    let none = (ok, Some(0), 256, "0 of 256 packets lost, flow 0");
    let expected = [
        (ok, Some(1), 256, "1 of 256 packets lost, flow 0"),
        none,
        (broken, Some(12), 256, "12 of 256 packets lost, flow 0"),
        none,
        (Verdict::Unknown, None, 0, "no loss told"),
    ];
    assert_eq!(segments, expected);
    let snapshot = net.server.engine.snapshot().await;
    let metrics = net.server.engine.metrics().text(&snapshot);
    for line in [
        r#"voicelane_rtp_lost_packets_total{segment="before"} 1"#,
        r#"voicelane_rtp_lost_packets_total{segment="between"} 12"#,
        r#"voicelane_rtp_lost_packets_total{segment="in_source"} 0"#,
        r#"voicelane_call_mos_bucket{le="4.0"} 1"#,
        "voicelane_call_mos_count 2",
        r#"voicelane_server_bad_calls{cause="loses_packets"} 1"#,
        r#"voicelane_server_bad_calls{cause="one_way"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

/// The worst come first, then what loses less than 1 %; and of both it is said since when.
#[tokio::test]
async fn calls_that_lose_most_come_first() {
    let mut net = Network::start().await;
    for (name, port) in [("c0", 7000), ("c1", 4000), ("c2", 5000), ("c3", 6000)] {
        add(&mut net.client, call(name, port)).await.unwrap();
    }
    net.a.count(vec![counters(0, 0, 10)]);
    net.b.count_by(|name| {
        let lost = BTreeMap::from([("c1", 2), ("c2", 16), ("c3", 40)])[name];
        vec![counters(0, lost, 10)]
    });
    let before = net.server.overview(0).await.at_unix_ms;
    net.a_stream.tell_troubled(&["c1", "c2", "c3"]).await;
    let overview = eventually("all three are judged", || async {
        let overview = net.server.overview(0).await;
        let told = overview.calls.iter().map(|it| it.wrong_since_unix_ms);
        (told.flatten().count() == 3).then_some(overview)
    });
    let overview = overview.await;
    let keys: Vec<_> = overview.calls.iter().map(|it| it.key.clone()).collect();
    assert_eq!(keys, ["c3", "c2", "c1", "c0"].map(key));
    assert_eq!(overview.bad, 2);
    for (call, is_bad) in overview.calls.iter().zip([true, true, false]) {
        assert_eq!(call.badness > 0, is_bad, "{call:?}");
        let since = call.wrong_since_unix_ms.unwrap();
        assert!((before..=overview.at_unix_ms).contains(&since), "{call:?}");
    }
    let first = net.server.overview(1).await;
    assert_eq!((&first.calls[..], first.found), (&overview.calls[..1], 4));
}

#[tokio::test]
async fn a_call_that_is_heard_one_way_only_is_told() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let all = || vec![counters(0, 0, 10), counters(1, 0, 2_500)];
    net.a.count(all());
    net.b.count(all());
    net.b_stream.tell_troubled(&["c1"]).await;
    let silent = event(&net.server, EventKind::OneWayAudio).await;
    assert_eq!(silent.session, key("c1"));
    assert_eq!(
        silent.text,
        "is heard one way only: nothing comes from 10.2.0.7:4000"
    );
    let overview = net.server.overview(0).await;
    assert_eq!(overview.calls[0].why, "only one way is heard");
}

#[tokio::test]
async fn a_call_that_stops_between_routers_is_told() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    // Each router hears its own phone only.
    net.a.count(vec![counters(0, 0, 10), counters(1, 0, 2_500)]);
    net.b.count(vec![counters(0, 0, 2_500), counters(1, 0, 10)]);
    net.b_stream.tell_troubled(&["c1"]).await;
    let bad = event(&net.server, EventKind::QualityBad).await;
    assert_eq!(bad.session, key("c1"));
    assert_eq!(
        bad.text,
        "nothing gets from router a to router b: flow 0, from 10.1.0.5:4000"
    );
    let overview = net.server.overview(0).await;
    let worst = &overview.calls[0];
    assert_eq!(worst.badness, 7);
    let between = &worst.segments[2];
    assert_eq!(between.verdict(), Verdict::Broken);
    assert_eq!(between.text, "nothing of flow 0 comes to router b");
}

#[tokio::test]
async fn a_call_on_hold_may_be_heard_one_way() {
    let mut net = Network::start().await;
    let hold = v1::SessionSpec {
        hold: true,
        ..call("c1", 4000)
    };
    add(&mut net.client, hold).await.unwrap();
    add(&mut net.client, call("c2", 5000)).await.unwrap();
    let all = || vec![counters(0, 0, 10), counters(1, 0, 2_500)];
    net.a.count(all());
    net.b.count(all());
    net.b_stream.tell_troubled(&["c1", "c2"]).await;
    let silent = event(&net.server, EventKind::OneWayAudio).await;
    assert_eq!(silent.session, key("c2"));
    let overview = net.server.overview(0).await;
    assert_eq!(overview.bad, 1, "{}", overview.sentence);
}

/// A router that is slow is not a router that has stopped.
#[tokio::test]
async fn looking_at_a_call_ends_no_stream() {
    let server = TestServer::with(Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_secs(2),
        router_buffer: 1,
        ..Settings::default()
    });
    let mut net = Network::on(server.await).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.a.behave(|command| match command {
        Command::Install(_) => Manner::Silent,
        _ => Manner::Obey,
    });
    let mut client = net.client.clone();
    let added = tokio::spawn(async move { add(&mut client, call("c2", 5000)).await });
    net.a.until("told of c2", |a| a.installs() == 2).await;
    // What is read of c1 waits until c2's time is over, and longer than a look has time.
    net.a_stream.tell_troubled(&["c1"]).await;
    added.await.unwrap().unwrap_err();
    let ended = net.a.ended();
    assert!(ended.is_none(), "{ended:?}");
}

fn marked(flow: u32, at_ms: u64) -> v1::EntryCounters {
    let entry = counters(flow, 0, 10);
    let mark = v1::QualityMark {
        number: 66_688,
        at_ns: at_ms * 1_000_000,
    };
    let quality = v1::MediaQuality {
        marks: vec![mark],
        ..entry.quality.unwrap()
    };
    v1::EntryCounters {
        quality: Some(quality),
        ..entry
    }
}

/// Packets take 40 ms there, by b's clock, which is 5 s behind a's, and 42 back. There are many calls between
/// other routers, and the first one between these is silent.
#[tokio::test]
async fn delays_between_routers_are_in_the_metrics() {
    let mut net = Network::start().await;
    let c = FakeRouter::reaching("c", &["10.3.0.0/24"]);
    let _c_stream = c.attach(net.server.address).await;
    for number in 0..400 {
        let name = format!("c{number:03}");
        let port = 6_000 + 2 * number;
        let (there, back) = (format!("10.1.0.5:{port}"), format!("10.3.0.7:{port}"));
        let flows = vec![flow(&there, &back), flow(&back, &there)];
        add(&mut net.client, spec(&name, flows)).await.unwrap();
    }
    for (name, port) in [("d0", 5000), ("d1", 4000)] {
        add(&mut net.client, call(name, port)).await.unwrap();
    }
    let of_d1 = |[there, back]: [u64; 2]| {
        move |name: &str| match name {
            "d1" => vec![marked(0, there), marked(1, back)],
            _ => Vec::new(),
        }
    };
    net.a.count_by(of_d1([9_000, 9_542]));
    net.b.count_by(of_d1([4_040, 4_500]));
    tokio::spawn(net.server.engine.clone().watch_paths());
    let count = r#"voicelane_path_delay_seconds_count{from="a",to="b",kind="two-way"} 1"#;
    let sum = r#"voicelane_path_delay_seconds_sum{from="a",to="b",kind="two-way"} 0.082"#;
    let engine = &net.server.engine;
    let written = eventually("the delay is measured", || async {
        let written = engine.metrics().text(&engine.snapshot().await);
        written.contains(count).then_some(written)
    })
    .await;
    assert!(written.contains(sum), "{written}");
}
