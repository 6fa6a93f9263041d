//! What `voicelane call quality` shows.

use serde_json::json;
use tokio::time::timeout;
use voicelane_proto::v1;

use crate::cli::run;
use crate::common::*;

#[tokio::test]
async fn quality_is_what_each_router_has_measured() {
    let net = Network::start().await;
    let add = "call add c1 --from 10.1.0.5:4000 --to 10.2.0.7:4000 --rtcp none";
    run(&net, add).await.shows(&["c1"]);
    let counters = |lost, spread| v1::EntryCounters {
        kind: v1::FlowKind::Rtp.into(),
        packets: 50,
        last_seen_ms_ago: Some(10),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        quality: Some(v1::MediaQuality {
            expected: 200,
            received: 200 - lost,
            lost,
            runs: 1,
            jitter_ns: Some(2_340_000),
            spread,
            ..Default::default()
        }),
        ..Default::default()
    };
    net.a.count(vec![counters(0, false)]);
    net.b.count(vec![counters(3, true)]);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = words(&run(&net, "call quality c1").await.stdout);
    assert!(
        shown.contains("0 a 200 0 0.00 % 1 0 0 0 2.3 ms 1"),
        "{shown}"
    );
    assert!(
        shown.contains("0 b 197 3 1.50 % ? 0 ? ? 2.3 ms 1"),
        "{shown}"
    );
    let compared = |entry: v1::EntryCounters, lost, at_ns| v1::EntryCounters {
        quality: entry.quality.map(|quality| v1::MediaQuality {
            payload_type: Some(8),
            first_number: Some(65_536),
            checkpoints: [(66_560, lost), (66_304, 2)]
                .map(|(number, lost)| v1::QualityCheckpoint {
                    number,
                    lost,
                    dropped: Some(0),
                })
                .to_vec(),
            marks: vec![v1::QualityMark {
                number: 66_688,
                at_ns,
            }],
            ..quality
        }),
        ..entry
    };
    net.a.count(vec![compared(counters(0, false), 2, 7)]);
    net.b.count(vec![compared(counters(3, false), 12, 9)]);
    let shown = words(&run(&net, "call quality c1").await.stdout);
    assert!(
        shown.contains("0 1024 2 (0.20 %) 0 10 (0.98 %) 0 ? ? 4.0 of the last 256"),
        "{shown}"
    );
    let explained = words(&run(&net, "call explain c1").await.stdout);
    let heard = "loses 0.20 % before a, loses 0.98 % between a and b, MOS 4.0";
    assert!(explained.contains(heard), "{explained}");
    net.a.count(vec![counters(0, false)]);
    net.b.count(vec![counters(3, true)]);
    let quality = run(&net, "call quality c1 --json").await.json();
    let at_b = &quality["flows"][0]["destinationCounters"][0]["quality"];
    assert_eq!(
        (&at_b["lost"], &at_b["spread"]),
        (&json!("3"), &json!(true))
    );
    net.b.count(vec![v1::EntryCounters {
        quality: None,
        ..counters(0, false)
    }]);
    let shown = words(&run(&net, "call quality c1").await.stdout);
    assert!(shown.contains("0 b - -"), "{shown}");
    run(&net, "call quality zzz").await.fails(1, &["NOT_FOUND"]);
}

#[tokio::test]
async fn the_worst_calls_are_listed_with_where_they_lose() {
    let net = Network::start().await;
    for (name, port) in [("c1", 4000), ("c2", 5000)] {
        let ends = format!("--from 10.1.0.5:{port} --to 10.2.0.7:{port}");
        let added = run(
            &net,
            &format!("call add {name} {ends} --rtcp none --agent test"),
        )
        .await;
        added.shows(&[name]);
    }
    let counters = |lost| {
        let checkpoint = |(number, lost)| v1::QualityCheckpoint {
            number,
            lost,
            dropped: Some(0),
        };
        let quality = v1::MediaQuality {
            first_number: Some(65_536),
            checkpoints: [(66_560, lost), (66_304, 0)].map(checkpoint).to_vec(),
            ..Default::default()
        };
        vec![v1::EntryCounters {
            kind: v1::FlowKind::Rtp.into(),
            last_seen_ms_ago: Some(10),
            quality: Some(quality),
            ..Default::default()
        }]
    };
    net.a.count(counters(0));
    net.b.count(counters(8));
    let none = run(&net, "call list --worst").await;
    assert!(!none.stdout.contains("c1"), "{}", none.stdout);
    net.a_stream.tell_troubled(&["c1"]).await;
    let told = async {
        loop {
            let ran = run(&net, "call list --worst").await;
            if ran.stdout.contains("c1") {
                return ran;
            }
        }
    };
    let worst = timeout(PATIENCE, told).await.unwrap();
    worst.shows(&["+ + x3.1% + ?", "packets are lost between routers a and b"]);
    assert!(!worst.stdout.contains("c2"), "{}", worst.stdout);
    let worst = run(&net, "call list --worst --json").await.json();
    assert_eq!(worst[0]["key"]["sessionId"], "c1");
    assert_eq!(worst[0]["badness"], 5);
}
