//! What `voicelane call explain` shows, and its exit code.

use serde_json::{Value, json};
use voicelane_proto::v1;

use crate::cli::run;
use crate::common::*;

#[tokio::test]
async fn explain_prints_the_chain_and_names_what_is_broken() {
    let net = Network::start().await;
    run(
        &net,
        "call add c1 --from 10.1.0.5:4000 --to 10.2.0.7:4000 --rtcp none",
    )
    .await
    .shows(&[]);
    let silent = run(&net, "call explain c1").await;
    assert_eq!(silent.code, 1);
    for part in [
        "✓ desired",
        "✓ placed",
        "✓ attached    a",
        "✓ installed   b",
        "✗ seen        a",
        "first broken link: seen on router a: no RTP packet ever came",
    ] {
        assert!(
            silent.stdout.contains(part),
            "{part:?} is not in\n{}",
            silent.stdout
        );
    }
    let counters = |policed| v1::EntryCounters {
        kind: v1::FlowKind::Rtp.into(),
        packets: 50,
        policed_packets: policed,
        last_seen_ms_ago: Some(10),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        ..Default::default()
    };
    net.a.count(vec![counters(0)]);
    net.b.count(vec![counters(0)]);
    run(&net, "call explain c1")
        .await
        .shows(&["✓ conforming  b", "nothing is broken"]);
    let explained = run(&net, "call explain c1 --json").await.json();
    assert_eq!(explained["firstBroken"], Value::Null);
    assert_eq!(explained["flows"][0]["sourceCounters"][0]["packets"], "50");
    let step =
        json!({"verdict": "VERDICT_OK", "link": "desired", "routerId": "", "detail": "revision 1"});
    assert_eq!(explained["flows"][0]["steps"][0], step);
    let lossy = |lost| {
        let checkpoints =
            [(66_560, lost), (66_304, 0)].map(|(number, lost)| v1::QualityCheckpoint {
                number,
                lost,
                dropped: Some(0),
            });
        let quality = v1::MediaQuality {
            payload_type: Some(8),
            first_number: Some(65_536),
            checkpoints: checkpoints.to_vec(),
            ..Default::default()
        };
        v1::EntryCounters {
            quality: Some(quality),
            ..counters(0)
        }
    };
    net.a.count(vec![lossy(0)]);
    net.b.count(vec![lossy(12)]);
    run(&net, "call explain c1")
        .await
        .shows(&["every link holds, but flow 0 has lost packets lately"]);
    net.b.count(vec![counters(2)]);
    let broken = run(&net, "call explain c1 --json").await;
    assert_eq!(broken.code, 1);
    let explained: Value = serde_json::from_str(&broken.stdout).unwrap();
    assert_eq!(explained["firstBroken"]["link"], "conforming");
    run(&net, "call explain zzz").await.fails(1, &["NOT_FOUND"]);
}

#[tokio::test]
async fn what_is_unknown_is_not_called_well() {
    let net = Network::start().await;
    run(
        &net,
        "call add c1 --from 10.1.0.5:4000 --to 10.2.0.7:4000 --rtcp none",
    )
    .await
    .shows(&[]);
    let counters = v1::EntryCounters {
        kind: v1::FlowKind::Rtp.into(),
        packets: 50,
        last_seen_ms_ago: Some(10),
        ..Default::default()
    };
    net.a.count(vec![counters]);
    net.b.behave(|command| match command {
        v1::command::Command::Read(_) => {
            Manner::Refuse(v1::command_result::Code::Internal, "not now")
        }
        _ => Manner::Obey,
    });
    let unknown = run(&net, "call explain c1").await;
    assert_eq!(unknown.code, 4, "{}", unknown.stdout);
    for part in ["? installed   b", "but unknown: installed on router b"] {
        assert!(unknown.stdout.contains(part), "{}", unknown.stdout);
    }
    // A router that does not answer is broken, and shown as such.
    net.b.behave(|_| Manner::Silent);
    let mute = run(&net, "call explain c1").await;
    assert_eq!(mute.code, 1, "{}", mute.stdout);
    for part in [
        "✗ attached    b",
        "first broken link: attached on router b: it has a stream, but does not answer",
    ] {
        assert!(mute.stdout.contains(part), "{}", mute.stdout);
    }
    run(&net, "router list")
        .await
        .shows(&["attached", "mute 5 s, 1 answers owed"]);
    let routers = run(&net, "router list --json").await.json();
    let b = &routers["routers"][1];
    assert_eq!(
        (&b["state"], &b["attached"]),
        (&json!("ROUTER_STATE_MUTE"), &json!(true))
    );
    assert_eq!(b["outstandingCommands"], "1");
    let owes = b["owesAnswerMs"].as_str().unwrap();
    assert!(owes.parse::<u64>().unwrap() >= 5_000, "{b}");
}
