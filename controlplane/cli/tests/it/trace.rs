//! `voicelane trace`, against a scripted router; its capture files, by tshark's eyes.

use std::process::Command;

use tonic::Status;
use voicelane_proto::v1::{self, trace_packets_request::Filter, traced_packet::Fate};

use crate::command::run_at;
use crate::common::{endpoint, key};
use crate::router_api::serve;

/// A UDP packet, with the Ethernet and IPv4 headers in front of it.
fn frame(source: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 8, 0];
    frame.extend([0x45, 0, 0, 48, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 1, 0, source, 10, 2, 0, 7]);
    frame.extend([15, 160, 15, 160, 0, 28, 0, 0]);
    frame.resize(62, 0xa5);
    frame
}

fn packet(source: u8, fate: Fate, reason: &str) -> v1::TracedPacket {
    let step = |stage: &str, text: &str| v1::TraceStep {
        stage: stage.into(),
        text: text.into(),
    };
    v1::TracedPacket {
        at_unix_ns: 1_795_845_792_123_456_789,
        interface: "lan".into(),
        frame: frame(source),
        frame_bytes: 62,
        fate: fate.into(),
        reason: reason.into(),
        session: key("c1"),
        queue: "telephony".into(),
        steps: vec![
            step("rx", "lan, 62 bytes"),
            step("classify", "session test/c1"),
            step(
                "police",
                if reason.is_empty() {
                    "conforms"
                } else {
                    "dropped: session-policed"
                },
            ),
        ],
        ..v1::TracedPacket::default()
    }
}

/// What the scripted router answers.
pub(crate) fn parts(
    request: &v1::TracePacketsRequest,
) -> Result<Vec<Result<v1::TracePacketsResponse, Status>>, Status> {
    match &request.filter {
        Some(Filter::Interface(name)) => {
            return Err(Status::not_found(format!(
                "no interface is called {name:?}"
            )));
        }
        Some(Filter::Session(asked)) => assert_eq!(Some(asked), key("c1").as_ref()),
        Some(Filter::Flow(flow)) => {
            assert_eq!(flow.source, endpoint("10.1.0.5:4000"));
            assert_eq!(flow.destination, endpoint("10.2.0.7:5000"));
            assert!(flow.both_directions && request.drops_only);
            assert_eq!((request.packets, request.timeout_ms), (1_000, 1_500));
            return Ok(vec![]);
        }
        None => assert_eq!((request.packets, request.timeout_ms), (20, 10_000)),
    }
    let part = |packets, missed| Ok(v1::TracePacketsResponse { packets, missed });
    let policed = packet(6, Fate::Dropped, "session-policed");
    Ok(vec![
        part(vec![packet(5, Fate::Queued, ""), policed], 0),
        part(vec![packet(5, Fate::Queued, "")], 7),
    ])
}

#[tokio::test]
async fn packets_are_shown_stage_by_stage_then_the_ways_they_took() {
    let url = serve().await;
    let ask = async |line: &str| {
        run_at("http://127.0.0.1:1", &format!("{line} --router-api {url}")).await
    };
    let traced = ask("trace --session test/c1").await;
    traced.shows(&[
        "packet 1 at 2026-11-28T06:03:12.123Z: queued\n  rx        lan, 62 bytes\n  classify  session test/c1",
        "packet 2 at 2026-11-28T06:03:12.123Z: dropped: session-policed\n",
        "3 packets took 2 ways:\n     2  lan | session test/c1 | conforms\n     1  lan | session",
    ]);
    assert!(
        traced.stderr.contains("7 more matched"),
        "{}",
        traced.stderr
    );
    ask("trace --agent test --session c1")
        .await
        .shows(&["took 2 ways"]);
    ask("trace --flow 10.1.0.5:4000-10.2.0.7:5000 --drops -n 1000 --for 1.5")
        .await
        .shows(&["no packet matched within 1.5 s"]);
    ask("trace --interface wan")
        .await
        .fails(1, &["NOT_FOUND", "\"wan\""]);
    ask("trace --pcap /nowhere/x.pcapng")
        .await
        .fails(1, &["cannot write /nowhere/x.pcapng"]);

    let json = ask("trace --json").await;
    let lines: Vec<serde_json::Value> = json
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["fate"], "FATE_DROPPED");
    assert_eq!(lines[1]["reason"], "session-policed");
}

#[tokio::test]
async fn a_capture_file_says_what_became_of_each_packet() {
    let url = serve().await;
    let file = std::env::temp_dir().join(format!("voicelane-{}.pcapng", std::process::id()));
    let line = format!("trace --pcap {} --router-api {url}", file.display());
    run_at("http://127.0.0.1:1", &line)
        .await
        .shows(&["3 packets"]);
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(&file).args(["-T", "fields"]);
    tshark.args(["-Y", "frame.comment contains \"dropped: session-policed\""]);
    for field in [
        "frame.number",
        "frame.interface_name",
        "frame.time_epoch",
        "ip.src",
        "frame.comment",
    ] {
        tshark.args(["-e", field]);
    }
    let output = tshark
        .output()
        .expect("tshark, of Debian's package of that name");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim_end(),
        "2\tlan\t1795845792.123456789\t10.1.0.6\tdropped: session-policed; session test/c1; queue telephony"
    );
    std::fs::remove_file(&file).unwrap();
}
