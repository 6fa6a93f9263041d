//! What is noted of calls that have ended.

use std::{collections::BTreeMap, fs, net::UdpSocket};

use serde_json::{Value, json};
use voicelane_proto::v1;
use voicelane_server::records::{Homer, Records};

use crate::{common::*, identities::files::Program};

/// A flow as a router has measured it.
fn counters(flow: u32, lost: u32) -> v1::EntryCounters {
    let checkpoint = |(number, lost)| v1::QualityCheckpoint {
        number,
        lost,
        dropped: Some(0),
    };
    v1::EntryCounters {
        flow_index: flow,
        kind: v1::FlowKind::Rtp.into(),
        packets: 1_024 - u64::from(lost),
        bytes: 204_800,
        policed_packets: 2,
        last_seen_ms_ago: Some(10),
        quality: Some(v1::MediaQuality {
            ssrc: 7,
            payload_type: Some(8),
            expected: 1_024,
            received: 1_024 - u64::from(lost),
            lost: lost.into(),
            runs: (lost / 2).into(),
            jitter_ns: Some(1_250_000),
            first_number: Some(65_536),
            checkpoints: [(66_560, lost), (66_304, 0)].map(checkpoint).to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The lines of a file, when there are so many.
async fn lines(file: &std::path::Path, count: usize) -> Vec<Value> {
    eventually("records are written", || async {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn a_call_that_has_ended_is_noted_with_what_its_routers_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.json");
    let mut net = Network::start().await;
    let (records, _flush) = Records::to(&file).unwrap();
    net.server.engine.record_to(move |call| records.note(call));
    let spec = v1::SessionSpec {
        correlation_id: "0815@atlanta.example.com".into(),
        ..call("c1", 4000)
    };
    add(&mut net.client, spec).await.unwrap();
    net.a.count(vec![counters(0, 0), counters(1, 0)]);
    net.b.count(vec![counters(0, 16), counters(1, 0)]);
    delete(&mut net.client, "c1").await.unwrap();
    let line = lines(&file, 1).await.remove(0);
    let text = |key: &str| line[key].as_str().unwrap().to_owned();
    assert_eq!(text("agent_id") + "/" + &text("session_id"), "test/c1");
    assert_eq!(text("correlation_id"), "0815@atlanta.example.com");
    assert_eq!(
        (text("service_class"), text("end")),
        ("telephony".into(), "deleted".into())
    );
    assert!(
        text("time").ends_with('Z') && text("created").ends_with('Z'),
        "{line}"
    );
    assert!(line["duration_ms"].as_i64().unwrap() >= 0, "{line}");
    let flow = &line["flows"][0];
    let ends = [
        "source",
        "destination",
        "source_router",
        "destination_router",
    ];
    assert_eq!(
        json!(ends.map(|key| &flow[key])),
        json!(["10.1.0.5:4000", "10.2.0.7:4000", "a", "b"])
    );
    let at_destination = json!({
        "packets": 1_008, "bytes": 204_800, "policed_packets": 2, "ssrc": 7, "payload_type": 8,
        "expected": 1_024, "lost": 16, "runs": 8, "duplicates": 0, "reordered": 0, "late": 0,
        "jitter_ns": 1_250_000, "restarts": 0, "ssrc_changes": 0,
    });
    assert_eq!(flow["at_destination"], at_destination);
    assert_eq!(flow["at_source"]["packets"], 1_024);
    let loss = json!({
        "packets": 1_024, "before_source": 0, "in_source": 0, "between": 16, "in_destination": 0,
        "reported_packets": 0,
    });
    assert_eq!(flow["loss"], loss);
    // G.711, 60 ms, 1.5625 % in runs of two, which are 1.97 times what single ones would be.
    let rating = 93.2 - 0.024 * 60.0 - 95.0 * 1.5625 / (1.5625 / 1.96875 + 25.1);
    let told = flow["rating"].as_f64().unwrap();
    assert!((told - rating).abs() < 1e-9, "{told} is not {rating}");
    assert!(
        (4.1..4.3).contains(&flow["mos"].as_f64().unwrap()),
        "{flow}"
    );
    assert_eq!(line["flows"][1]["loss"]["between"], 0);
}

#[tokio::test]
async fn a_call_whose_router_is_away_is_noted_without_its_counters() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.json");
    let mut net = Network::start().await;
    let (records, _flush) = Records::to(&file).unwrap();
    net.server.engine.record_to(move |call| records.note(call));
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.a.count(vec![counters(0, 0), counters(1, 0)]);
    net.b_stream.cut();
    let engine = net.server.engine.clone();
    eventually("b is away", || async {
        let snapshot = engine.snapshot().await;
        snapshot.routers.contains(&("away", 1)).then_some(())
    })
    .await;
    delete(&mut net.client, "c1").await.unwrap();
    let line = lines(&file, 1).await.remove(0);
    let flow = &line["flows"][0];
    assert_eq!(flow["at_source"]["packets"], 1_024);
    assert!(
        flow.get("at_destination").is_none() && flow.get("mos").is_none(),
        "{flow}"
    );
}

#[tokio::test]
async fn the_program_notes_calls_in_a_file_that_may_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.json");
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--records",
        file.to_str().unwrap(),
    ];
    let server = Program::spawn(&flags).await;
    let mut streams = Vec::new();
    for (id, prefix) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        let router = FakeRouter::reaching(id, &[prefix]);
        streams.push((router.attach(server.address).await, router));
    }
    let channel = channel(server.address, None).await;
    let mut client = v1::sessions_client::SessionsClient::new(channel);
    for name in ["c1", "c2"] {
        add(&mut client, call(name, 4000)).await.unwrap();
        delete(&mut client, name).await.unwrap();
        assert_eq!(lines(&file, 1).await[0]["session_id"], name);
        fs::rename(&file, folder.path().join("calls.json.1")).unwrap();
    }
}

/// The chunks of a HEPv3 frame.
fn chunks(frame: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    assert_eq!(&frame[..4], b"HEP3");
    assert_eq!(usize::from(number(4)), frame.len());
    let (mut chunks, mut at) = (BTreeMap::new(), 6);
    while at < frame.len() {
        assert_eq!(number(at), 0, "a vendor's");
        let end = at + usize::from(number(at + 4));
        chunks.insert(number(at + 2), frame[at + 6..end].to_vec());
        at = end;
    }
    chunks
}

#[tokio::test]
async fn a_call_that_has_ended_is_reported_to_homer() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let homer = Homer::to(receiver.local_addr().unwrap()).unwrap();
    let mut net = Network::start().await;
    net.server.engine.record_to(move |call| homer.report(call));
    let spec = v1::SessionSpec {
        correlation_id: "0815@atlanta.example.com".into(),
        ..call("c1", 4000)
    };
    add(&mut net.client, spec).await.unwrap();
    let ends = |entry: v1::EntryCounters| v1::EntryCounters {
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        ..entry
    };
    // The other flow is not measured.
    net.b.count(vec![ends(counters(0, 16))]);
    delete(&mut net.client, "c1").await.unwrap();
    let received = tokio::task::spawn_blocking(move || {
        let mut frame = [0; 2_048];
        let length = receiver.recv(&mut frame).unwrap();
        frame[..length].to_vec()
    });
    let chunks = chunks(&received.await.unwrap());
    let expected: [(u16, &[u8]); 10] = [
        (1, &[2]),
        (2, &[17]),
        (3, &[10, 1, 0, 5]),
        (4, &[10, 2, 0, 7]),
        (7, &4_000_u16.to_be_bytes()),
        (8, &4_000_u16.to_be_bytes()),
        (11, &[34]),
        (12, &[0, 0, 0, 1]),
        (17, b"0815@atlanta.example.com"),
        (19, b"voicelane-server"),
    ];
    for (kind, value) in &expected {
        assert_eq!(&chunks[kind][..], *value, "chunk {kind}");
    }
    let report: Value = serde_json::from_slice(&chunks[&15]).unwrap();
    let told = json!({
        "CORRELATION_ID": "0815@atlanta.example.com",
        "RTP_SIP_CALL_ID": "0815@atlanta.example.com",
        "REPORT_TS": u32::from_be_bytes(chunks[&9][..].try_into().unwrap()),
        "TL_BYTE": 204_800, "TOTAL_PK": 1_008, "EXPECTED_PK": 1_024, "PACKET_LOSS": 16,
        "OUT_ORDER": 0, "SSRC_CHG": 0, "JITTER": 1.25, "CODEC_PT": 8, "CODEC_NAME": "PCMA",
        "MOS": report["MOS"], "RFACTOR": report["RFACTOR"],
        "SRC_IP": "10.1.0.5", "SRC_PORT": 4_000, "DST_IP": "10.2.0.7", "DST_PORT": 4_000,
        "REPORT_NAME": "10.1.0.5:4000", "TYPE": "HANGUP",
    });
    assert_eq!(report, told);
    assert!(
        (4.1..4.3).contains(&report["MOS"].as_f64().unwrap()),
        "{report}"
    );
}
