//! Every command against a server and scripted routers, as tables and as JSON, with its exit code.

use std::time::Duration;

use crate::command::{Ran, phones, run_at};
use crate::common::*;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use voicelane_proto::v1;
use voicelane_server::{cluster::Role, engine::Settings, serve::Transport};

pub(crate) async fn run(net: &Network, line: &str) -> Ran {
    run_at(&url(net), line).await
}

pub(crate) fn url(net: &Network) -> String {
    format!("http://{}", net.server.address)
}

#[tokio::test]
async fn reservations_latches_leases_and_links_are_shown() {
    let net = Network::start().await;
    let offer = "call add c1 --flow 10.1.0.5:4000-> --flow ->10.1.0.5:4000 --lifetime 180 \
                 --priority 2 --correlation-id 7@example.com";
    run(&net, offer).await.shows(&[
        "reserved",
        "correlation 7@example.com",
        "good for 180 s",
        "priority 2",
    ]);
    let explained = run(&net, "call explain c1").await;
    assert_eq!(explained.code, 4, "{}", explained.stdout);
    let part = "reserved: destination not known yet";
    assert!(explained.stdout.contains(part), "{}", explained.stdout);
    run(&net, "call modify c1 --a 10.1.0.5:4000 --b 10.2.0.7:4000")
        .await
        .shows(&["active", "revision 2"]);
    run(
        &net,
        "call add c2 --flow ->10.2.0.7:5000 --latch 10.1.0.9 --rtcp mux",
    )
    .await
    .shows(&["10.1.0.9 (to be learned)"]);
    let learned = v1::LatchedSource {
        key: Some(v1::SessionKey {
            agent_id: "cli".into(),
            session_id: "c2".into(),
        }),
        flow_index: 0,
        kind: v1::FlowKind::Rtp.into(),
        destination: endpoint("10.2.0.7:5000"),
        source: endpoint("10.1.0.9:61000"),
    };
    net.a.learn(&net.a_stream, learned).await;
    net.b.until("it has c2", |b| b.has("c2")).await;
    run(&net, "call get c2")
        .await
        .shows(&["10.1.0.9:61000 (learned)"]);
    run(&net, "call add c3 --flow ->10.2.0.7:5002 --latch")
        .await
        .shows(&["(to be learned)"]);
    run(&net, "call add c4 --a 10.1.0.5:1 --b 10.2.0.7:1 --latch")
        .await
        .fails(2, &["every flow has a source"]);
    let links = run(&net, "link list --router a").await;
    links.shows(&["lan0", "300 Gbit/s", "30 Gbit/s", "200.688 kbit/s"]);
    let shown = run(&net, "link show a lan0 in").await;
    shown.shows(&["c1", "c2", "100.344 kbit/s"]);
    let shown = run(&net, "link show a lan0 out --json").await.json();
    assert_eq!(shown["link"]["direction"], "DIRECTION_OUT");
    assert_eq!(shown["calls"][0]["key"]["sessionId"], "c1");
    run(&net, "link show a lan9 in")
        .await
        .fails(1, &["NOT_FOUND", "lan9"]);
}

#[tokio::test]
async fn what_happens_and_how_all_stands_is_shown() {
    let net = Network::start().await;
    let server = url(&net);
    run(&net, "top --once")
        .await
        .shows(&["No calls.", "lan0", "synchronised"]);
    run(&net, "call add c1 --a 10.1.0.5:4000 --b 10.2.0.7:4000")
        .await
        .shows(&["active"]);
    run(&net, "call add c2 --a 10.9.0.5:4000 --b 10.2.0.7:4000")
        .await
        .fails(1, &["NOT_FOUND"]);
    let shown = run(&net, "events --severity warning").await;
    shown.shows(&["warning call cli/c2: refused: ", "10.9.0.5"]);
    assert_eq!(shown.stdout.lines().count(), 1);
    let event = run(&net, "events --last 1 --json").await.json();
    assert_eq!(event["kind"], "EVENT_KIND_CALL_REFUSED");
    let first = run(&net, "events --follow --count 1 --json").await.json();
    assert_eq!(first["sequence"], "1");
    net.a_stream.cut();
    eventually("lost", || async {
        let top = run_at(&server, "top --json").await.json();
        (top["bad"] == "1").then_some(())
    })
    .await;
    let top = run_at(&server, "top --once --search c1").await;
    top.shows(&[
        "1 call; 1 bad (1: router a is away).",
        "? x ? + ?",
        "router a: lost",
    ]);
    run_at(&server, "top --once --search nobody")
        .await
        .shows(&["1 call; 1 bad"]);
    run_at(&server, "top --calls 201").await.fails(2, &["201"]);
}

#[tokio::test]
async fn a_call_lives_its_life() {
    let net = Network::start().await;
    let ends = "--a 10.1.0.5:4000 --b 10.2.0.7:5000";
    run(&net, &format!("call add c1 {ends} --codec g729 --srtp"))
        .await
        .shows(&[
            "call c1 of cli: active, revision 1, telephony",
            "10.1.0.5:4000",
            "a/lan0",
            "28.28 kbit/s",
            "next_port",
            "installed",
        ]);
    let session = run(&net, "call get c1 --json").await.json();
    let spec = &session["spec"];
    assert_eq!(spec["key"], json!({"agentId": "cli", "sessionId": "c1"}));
    assert_eq!(spec["revision"], "1");
    assert_eq!(spec["serviceClass"], "SERVICE_CLASS_TELEPHONY");
    let (a, b) = (
        json!({"address": "10.1.0.5", "port": 4_000}),
        json!({"address": "10.2.0.7", "port": 5_000}),
    );
    for (flow, source, destination) in [(0, &a, &b), (1, &b, &a)] {
        let flow = &spec["flows"][flow];
        assert_eq!(
            (&flow["source"], &flow["destination"]),
            (source, destination)
        );
        assert_eq!(flow["maxBitrateBps"], "28280");
        assert_eq!(flow["maxBurstBytes"], 0, "default values are there");
        assert_eq!(flow["rtcp"], json!({"mode": "MODE_NEXT_PORT"}));
    }
    let at = |router: &str, prefix: &str| json!({"routerId": router, "interface": "lan0", "prefix": prefix});
    let placement = json!({
        "flowIndex": 1, "source": at("b", "10.2.0.0/24"), "destination": at("a", "10.1.0.0/24"),
    });
    assert_eq!(session["placements"][1], placement);
    let on = |router: &str| json!({"routerId": router, "state": "STATE_INSTALLED", "detail": "", "revision": "1"});
    assert_eq!(session["routers"], json!([on("a"), on("b")]));
    assert_eq!(session["state"], "SESSION_STATE_ACTIVE");

    let modify = "call modify c1 --from 10.1.0.5:4000 --to 10.2.0.7:5000 --rate 40.4k --rtcp mux --class admitted-telephony --json";
    let session = run(&net, modify).await.json();
    let spec = &session["spec"];
    assert_eq!(spec["revision"], "2", "one more than what was there");
    assert_eq!(spec["flows"][0]["maxBitrateBps"], "40400");
    assert_eq!(spec["serviceClass"], "SERVICE_CLASS_ADMITTED_TELEPHONY");
    run(&net, &format!("call modify c1 {ends} --revision 2"))
        .await
        .fails(1, &["ABORTED"]);
    run(
        &net,
        "call add c2 --agent pbx --flow 10.1.0.6:1000->10.2.0.8:1000 --rtcp none",
    )
    .await
    .shows(&["call c2 of pbx: active"]);
    run(&net, "call list")
        .await
        .shows(&["c1", "active", "1 calls"]);
    let all = run(&net, "call list --all-agents --json").await.json();
    assert_eq!(all["total"], "2");
    assert_eq!(all["sessions"][1]["spec"]["key"]["agentId"], "pbx");
    let one = run(&net, "call list --all-agents --limit 1 --json")
        .await
        .json();
    assert_eq!(
        (
            one["total"].clone(),
            one["sessions"].as_array().unwrap().len()
        ),
        (json!("2"), 1)
    );

    run(&net, "call delete c1")
        .await
        .shows(&["deleted call c1"]);
    assert!(!net.a.has("c1"));
    let refused = run(&net, "call delete c1").await;
    refused.fails(1, &["NOT_FOUND", "\"c1\" of agent \"cli\" does not exist"]);
    assert_eq!(refused.stdout, "");
    let refused = run(&net, "call get c1 --json").await;
    refused.fails(1, &[]);
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["error"]["code"], "NOT_FOUND");
    assert_eq!(
        run(&net, "call delete c2 --agent pbx --json").await.json()["session"]["spec"]["key"]["sessionId"],
        "c2"
    );
}

#[tokio::test]
async fn video_has_a_three_colour_meter() {
    let net = Network::start().await;
    let add = "call add v1 --from 10.1.0.5:4000 --to 10.2.0.7:4000 --rtcp none";
    let trtcm = "--meter trtcm --cir 1Mbit/s --cbs 20000 --pir 2M --pbs 40000";
    run(&net, &format!("{add} {trtcm}")).await.shows(&[
        "multimedia_conferencing",
        "trtcm cir 1 Mbit/s, cbs 20000 B",
        "pir 2 Mbit/s, pbs 40000 B",
    ]);
    run(&net, "call list")
        .await
        .shows(&["10.1.0.5:4000 -> 10.2.0.7:4000 (trtcm 1 Mbit/s)"]);
    let flow = run(&net, "call get v1 --json").await.json()["spec"]["flows"][0].clone();
    let meter = json!({
        "trtcm": {"pirBps": "2000000", "pbsBytes": 40_000}, "cirBps": "1000000",
        "cbsBytes": 20_000, "colourAware": false, "dropRed": false,
    });
    assert_eq!(
        (&flow["meter"], &flow["maxBitrateBps"]),
        (&meter, &json!("0"))
    );

    let modify = add.replace("add", "modify");
    let excess =
        "--meter rfc4115 --cir 1M --cbs 20000 --eir 0.5M --ebs 8000 --colour-aware --drop-red";
    run(&net, &format!("{modify} {excess}")).await.shows(&[
        "rfc4115 cir 1 Mbit/s, cbs 20000 B",
        "eir 500 kbit/s, ebs 8000 B",
        "colour-aware",
        "drops red",
    ]);
    let single = "--meter srtcm --cir 1M --cbs 20000 --ebs 8000";
    let session = run(&net, &format!("{modify} {single} --json")).await.json();
    let meter = &session["spec"]["flows"][0]["meter"];
    assert_eq!(meter["srtcm"]["ebsBytes"], 8_000);

    let counters = v1::EntryCounters {
        kind: v1::FlowKind::Rtp.into(),
        packets: 90,
        last_seen_ms_ago: Some(10),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        colours: Some(v1::ColourCounts {
            green_packets: 60,
            yellow_packets: 26,
            red_packets: 4,
            red_bytes: 4_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    net.a.count(vec![counters.clone()]);
    net.b.count(vec![counters]);
    run(&net, "call explain v1")
        .await
        .shows(&["nothing dropped; 60 green, 26 yellow, 4 red"]);
    let explained = run(&net, "call explain v1 --json").await.json();
    let colours = &explained["flows"][0]["sourceCounters"][0]["colours"];
    assert_eq!(
        (&colours["yellowPackets"], &colours["redBytes"]),
        (&json!("26"), &json!("4000"))
    );

    run(&net, "call add --help")
        .await
        .shows(&["Three-colour meter", "--pir", "RFC 2698", "AF42"]);
    // What the kind does not have, and what it lacks, is said before the server is asked.
    let wrong = trtcm.replace("--pbs", "--ebs");
    run(&net, &format!("{add} {wrong}"))
        .await
        .fails(2, &["--meter trtcm needs --pbs"]);
    run(&net, &format!("{add} {single} --pir 2M"))
        .await
        .fails(2, &["--meter srtcm has no --pir"]);
    // What is wrong with the numbers the server says.
    run(
        &net,
        &format!("{add} {}", trtcm.replace("--pir 2M", "--pir 999k")),
    )
    .await
    .fails(
        1,
        &[
            "INVALID_ARGUMENT",
            "meter.trtcm.pir_bps",
            "at least 1000000",
        ],
    );
    run(&net, &format!("{add} {trtcm} --class telephony"))
        .await
        .fails(1, &["INVALID_ARGUMENT", "MULTIMEDIA_CONFERENCING"]);
}

#[tokio::test]
async fn calls_are_placed_by_vlans() {
    let net = Network::start().await;
    let interfaces = vec![edge("lan0", &["10.1.0.0/24"]), phones()];
    net.a.report(&net.a_stream, interfaces).await;
    let mut on_vlan = call("c1", 4000);
    for flow in &mut on_vlan.flows {
        for end in [&mut flow.source, &mut flow.destination] {
            let end = end.as_mut().unwrap();
            end.address = end.address.replace("10.1.0.", "10.1.100.");
        }
    }
    let client = net.client.clone();
    let session = eventually("the VLAN is known", || async {
        add(&mut client.clone(), on_vlan.clone()).await.ok()
    })
    .await;
    let place = session.placements[0].source.as_ref().unwrap();
    assert_eq!(
        (place.interface.as_str(), place.prefix.as_str()),
        ("lan0.100", "10.1.100.0/24")
    );
    let shown = run(&net, "router show a").await;
    shown.shows(&["INTERFACE", "VLAN", "lan0.100    100    edge"]);
    let router = run(&net, "router show a --json").await.json();
    assert_eq!(router["interfaces"][1]["vlanId"], 100);
    assert_eq!(router["interfaces"][1]["port"], "lan0");
}

#[tokio::test]
async fn what_goes_wrong_has_its_own_exit_code() {
    let net = Network::start().await;
    for line in [
        "call",
        "call add",
        "call add c1",
        "call add c1 --a 10.1.0.5:4000 --b nowhere",
        "call add c1 --a 10.1.0.5:4000 --b 10.2.0.7:5000 --codec mp3",
        "call add c1 --a 10.1.0.5:4000 --b 10.2.0.7:5000 --rate fast",
        "router stats",
        "router list --server not-a-url",
        "frobnicate",
    ] {
        let ran = run(&net, line).await;
        assert_eq!(ran.code, 2, "{line}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
    run(&net, "call add c1 --a 10.1.0.5:4000 --b 10.9.0.7:5000")
        .await
        .fails(1, &["NOT_FOUND", "10.9.0.7", "router list"]);
    // Nobody listens.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    run_at(&nobody, "router list")
        .await
        .fails(3, &["cannot reach", "refused"]);
    let ran = run_at(&nobody, "router list --json").await;
    ran.fails(3, &[]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["code"], "UNREACHABLE");
    // Somebody listens, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = format!("http://{}", mute.local_addr().unwrap());
    let began = std::time::Instant::now();
    run_at(&mute, "router list --timeout 0.3")
        .await
        .fails(3, &["cannot reach"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    // Somebody listens, and answers with an alert of TLS.
    let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tls.local_addr().unwrap();
    let alert = async {
        let (mut stream, _) = tls.accept().await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        // protocol_version (RFC 8446, section 6), twice: longer than a frame's header.
        let alert = [21, 3, 3, 0, 2, 2, 70];
        stream.write_all(&[alert, alert].concat()).await.unwrap();
        stream
    };
    let url = format!("http://{address}");
    let (ran, _stream) = tokio::join!(run_at(&url, "router list"), alert);
    ran.fails(3, &["cannot reach", "https://"]);
    let help = run(&net, "--help").await;
    help.shows(&["Exit codes", "call explain"]);
}

#[tokio::test]
async fn of_several_servers_the_one_that_leads_is_asked() {
    let net = Network::start().await;
    let transport = Transport {
        role: Role::StandsBy(watch::channel(None).1),
        ..Transport::default()
    };
    let standby = TestServer::with_transport(Settings::default(), transport).await;
    let others = format!("http://127.0.0.1:1,http://{}", standby.address);
    let all = format!("{others},{}", url(&net));
    run_at(&all, "router list").await.shows(&["ROUTER"]);
    run_at(&others, "router list --timeout 0.5")
        .await
        .fails(3, &["cannot reach", &others, "no server leads"]);
}
