//! ExplainSession names each link that can break.

use std::time::Duration;

use crate::common::*;
use tonic::{Code, transport::Channel};
use voicelane_proto::v1::{
    self, FlowKind, command::Command, explain_step::Verdict, operator_client::OperatorClient,
};
use voicelane_server::engine::Settings;

async fn explain(operator: &mut OperatorClient<Channel>) -> v1::ExplainSessionResponse {
    let request = v1::ExplainSessionRequest { key: key("c1") };
    operator
        .explain_session(request)
        .await
        .unwrap()
        .into_inner()
}

/// The chain of the first flow: "link@router:verdict".
fn chain(answer: &v1::ExplainSessionResponse) -> Vec<String> {
    let verdict = |step: &v1::ExplainStep| match step.verdict() {
        Verdict::Ok => "ok",
        Verdict::Broken => "broken",
        Verdict::Unknown => "unknown",
        Verdict::Unspecified => "?",
    };
    let steps = answer.flows[0].steps.iter();
    steps
        .map(|step| format!("{}@{}:{}", step.link, step.router_id, verdict(step)))
        .collect()
}

#[track_caller]
fn broken(answer: &v1::ExplainSessionResponse, link: &str, router: &str, part: &str) {
    let step = answer.first_broken.as_ref().expect("something broken");
    assert_eq!(
        (step.link.as_str(), step.router_id.as_str()),
        (link, router),
        "{step:?}"
    );
    assert!(
        step.detail.contains(part),
        "{part:?} is not in {:?}",
        step.detail
    );
}

fn counted(flow_index: u32, ago: Option<u64>, policed: u64) -> v1::EntryCounters {
    v1::EntryCounters {
        flow_index,
        kind: FlowKind::Rtp.into(),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        packets: 100,
        bytes: 20_000,
        policed_packets: policed,
        policed_bytes: policed * 200,
        last_seen_ms_ago: ago,
        key: key("c1"),
        ..Default::default()
    }
}

#[tokio::test]
async fn each_broken_link_is_named() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let mut operator = net.server.operator().await;
    let request = v1::ExplainSessionRequest { key: key("c1") };
    assert_status(
        operator.explain_session(request).await,
        Code::NotFound,
        &["c1"],
    );

    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let fine = || vec![counted(0, Some(20), 0), counted(1, Some(20), 0)];
    net.a.count(fine());
    net.b.count(fine());
    let answer = explain(&mut operator).await;
    assert_eq!(
        chain(&answer),
        [
            "desired@:ok",
            "placed@:ok",
            "attached@a:ok",
            "attached@b:ok",
            "installed@a:ok",
            "installed@b:ok",
            "seen@a:ok",
            "seen@b:ok",
            "carried@:ok",
            "conforming@a:ok",
            "conforming@b:ok",
        ]
    );
    assert_eq!(answer.first_broken, None);
    assert_eq!(answer.flows[0].source_counters, [counted(0, Some(20), 0)]);

    // Conforming: too much was sent.
    net.a
        .count(vec![counted(0, Some(20), 3), counted(1, Some(20), 0)]);
    broken(
        &explain(&mut operator).await,
        "conforming",
        "a",
        "3 packets exceeded",
    );

    // Seen: not after the core; too long ago; never.
    net.a.count(fine());
    net.b
        .count(vec![counted(0, None, 0), counted(1, Some(20), 0)]);
    broken(
        &explain(&mut operator).await,
        "seen",
        "b",
        "lost between the two",
    );
    net.a
        .count(vec![counted(0, Some(5_001), 0), counted(1, Some(20), 0)]);
    broken(&explain(&mut operator).await, "seen", "a", "5001 ms ago");
    net.a.count(vec![]);
    broken(
        &explain(&mut operator).await,
        "seen",
        "a",
        "no RTP packet ever came",
    );

    // Installed: the router has lost it. It comes before what is not seen.
    net.b.forget("c1");
    broken(
        &explain(&mut operator).await,
        "installed",
        "b",
        "does not have the session",
    );

    // A router that does not answer leaves it open.
    net.b.behave(|_| Manner::Silent);
    net.a.count(fine());
    let answer = explain(&mut operator).await;
    assert!(
        chain(&answer).contains(&"installed@b:unknown".to_owned()),
        "{:?}",
        chain(&answer)
    );
    net.b.behave(|_| Manner::Obey);

    // Attached: the router is away.
    net.b_stream.cut();
    let answer = eventually("away", || {
        let mut operator = operator.clone();
        async move {
            let answer = explain(&mut operator).await;
            answer.first_broken.is_some().then_some(answer)
        }
    })
    .await;
    broken(&answer, "attached", "b", "lost 0 s ago");
    assert!(
        chain(&answer).contains(&"installed@b:unknown".to_owned()),
        "{:?}",
        chain(&answer)
    );

    // Placed: nobody reaches the caller any more. It comes before b's absence.
    net.a.report(&net.a_stream, vec![]).await;
    let answer = eventually("nowhere", || {
        let mut operator = operator.clone();
        async move {
            let answer = explain(&mut operator).await;
            let link = answer.first_broken.as_ref().map(|step| step.link.clone());
            (link.as_deref() == Some("placed")).then_some(answer)
        }
    })
    .await;
    broken(&answer, "placed", "", "no attached router reaches 10.1.0.5");

    // Desired: it is being deleted.
    net.a.behave(|command| match command {
        Command::Remove(_) => Manner::Silent,
        _ => Manner::Obey,
    });
    let mut client = net.client.clone();
    let deleting = tokio::spawn(async move { delete(&mut client, "c1").await });
    net.a
        .until("asked", |a| {
            a.log().iter().any(|it| matches!(it, Command::Remove(_)))
        })
        .await;
    broken(
        &explain(&mut operator).await,
        "desired",
        "",
        "being deleted",
    );
    deleting.await.unwrap().unwrap();
}

#[tokio::test]
async fn packets_of_others_are_told() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let mut operator = net.server.operator().await;
    let spoofed = |ago| v1::EntryCounters {
        spoofed_packets: 700,
        spoofed_interface: "guests".to_owned(),
        ..counted(0, ago, 0)
    };
    for (ago, verdict) in [(Some(20), Verdict::Ok), (None, Verdict::Broken)] {
        net.a.count(vec![spoofed(ago)]);
        let explained = explain(&mut operator).await;
        let seen = explained.flows[0].steps.iter();
        let mut seen = seen.filter(|step| step.link == "seen" && step.router_id == "a");
        let step = seen.next().unwrap();
        assert_eq!(step.verdict(), verdict);
        let part = "700 packets with this call's five-tuple came in elsewhere, the last on guests";
        assert!(step.detail.contains(part), "{}", step.detail);
    }
}
