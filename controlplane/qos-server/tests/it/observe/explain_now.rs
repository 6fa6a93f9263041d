//! ExplainSession when something is dead, lost or lied about: never "nothing is broken".

use std::time::{Duration, Instant};

use crate::common::*;
use tonic::transport::Channel;
use voicelane_proto::v1::{
    self, FlowKind, command::Command, explain_step::Verdict, operator_client::OperatorClient,
};
use voicelane_server::engine::Settings;

fn settings() -> Settings {
    Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(1_000),
        ..Settings::default()
    }
}

async fn explain(operator: &mut OperatorClient<Channel>) -> v1::ExplainSessionResponse {
    let request = v1::ExplainSessionRequest { key: key("c1") };
    operator
        .explain_session(request)
        .await
        .unwrap()
        .into_inner()
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

#[track_caller]
fn verdict(answer: &v1::ExplainSessionResponse, link: &str) -> Verdict {
    let mut steps = answer.flows[0].steps.iter();
    let step = steps.find(|step| step.link == link).expect("the link");
    step.verdict()
}

fn counted(packets: u64, policed: u64) -> v1::EntryCounters {
    v1::EntryCounters {
        flow_index: 0,
        kind: FlowKind::Rtp.into(),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        packets,
        bytes: packets.saturating_mul(200),
        policed_packets: policed,
        policed_bytes: policed.saturating_mul(200),
        last_seen_ms_ago: Some(10),
        key: key("c1"),
        ..Default::default()
    }
}

/// One direction, without RTCP.
async fn one_way(net: &mut Network) -> OperatorClient<Channel> {
    let media = v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::None.into(),
            ..Default::default()
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    add(&mut net.client, spec("c1", vec![media])).await.unwrap();
    net.server.operator().await
}

/// A router that counts on, until this drops.
struct Counting(FakeRouter, [u64; 2], [u64; 2], Instant);

impl Counting {
    fn now(from: [u64; 2], a_second: [u64; 2], began: Instant) -> Vec<v1::EntryCounters> {
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap();
        let at = |index: usize| from[index] + a_second[index] * ms / 1_000;
        vec![counted(at(0), at(1))]
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.count(Self::now(self.1, self.2, self.3));
    }
}

/// So many packets a second, of which so many are policed.
fn count(router: &FakeRouter, from: [u64; 2], a_second: [u64; 2]) -> Counting {
    let began = Instant::now();
    router.count_by(move |_| Counting::now(from, a_second, began));
    Counting(router.clone(), from, a_second, began)
}

#[tokio::test]
async fn a_router_that_does_not_answer_is_broken() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut operator = one_way(&mut net).await;
    let _source = count(&net.a, [100, 0], [500, 0]);
    net.b.behave(|_| Manner::Silent);
    let answer = explain(&mut operator).await;
    broken(&answer, "attached", "b", "does not answer");
    assert_eq!(verdict(&answer, "carried"), Verdict::Unknown);
    // Neither does the source's.
    net.b.behave(|_| Manner::Obey);
    net.a.behave(|_| Manner::Silent);
    let answer = explain(&mut operator).await;
    broken(&answer, "attached", "a", "does not answer");
}

#[tokio::test]
async fn a_router_that_does_not_tell_leaves_it_unknown() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut operator = one_way(&mut net).await;
    let _source = count(&net.a, [100, 0], [500, 0]);
    let code = v1::command_result::Code::Internal;
    net.b.behave(move |command| match command {
        Command::Read(_) => Manner::Refuse(code, "not now"),
        _ => Manner::Obey,
    });
    let answer = explain(&mut operator).await;
    assert_eq!(answer.first_broken, None);
    let unknown = answer.first_unknown.expect("something unknown");
    assert_eq!(
        (unknown.link.as_str(), unknown.router_id.as_str()),
        ("installed", "b")
    );
    assert!(unknown.detail.contains("not now"), "{unknown:?}");
}

#[tokio::test]
async fn packets_lost_between_the_routers_are_told() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut operator = one_way(&mut net).await;
    // All of it comes, though the destination missed much before.
    let source = count(&net.a, [9_000, 0], [500, 0]);
    let destination = count(&net.b, [100, 0], [500, 0]);
    let answer = explain(&mut operator).await;
    assert_eq!(answer.first_broken, None, "{answer:?}");
    assert_eq!(answer.first_unknown, None, "{answer:?}");
    assert_eq!(verdict(&answer, "carried"), Verdict::Ok);

    // Half of it.
    drop(destination);
    let destination = count(&net.b, [5_000, 0], [250, 0]);
    let answer = explain(&mut operator).await;
    broken(&answer, "carried", "", "between a and b");
    // What the destination polices has come there.
    drop(destination);
    let destination = count(&net.b, [6_000, 0], [250, 250]);
    let answer = explain(&mut operator).await;
    assert_eq!(verdict(&answer, "carried"), Verdict::Ok, "{answer:?}");
    broken(&answer, "conforming", "b", "exceeded the rate");
    // Nothing at all, since a moment.
    drop(destination);
    net.b.count(vec![counted(9_000, 500)]);
    broken(
        &explain(&mut operator).await,
        "carried",
        "",
        "between a and b: 100 %",
    );
    // Silence is not loss: a comfort noise packet now and then, of which one is on its way.
    drop(source);
    let _source = count(&net.a, [20_000, 0], [4, 0]);
    net.b.count(vec![counted(9_000, 500)]);
    let answer = explain(&mut operator).await;
    assert_eq!(verdict(&answer, "carried"), Verdict::Ok, "{answer:?}");
}

/// As much as may be on its way is not told: 3 packets, or 50 ms of the flow.
#[tokio::test]
async fn a_loss_of_a_twelfth_is_told() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut operator = one_way(&mut net).await;
    let _source = count(&net.a, [100, 0], [600, 0]);
    for (a_second, is_lost) in [(550, true), (590, false)] {
        let _destination = count(&net.b, [100, 0], [a_second, 0]);
        let answer = explain(&mut operator).await;
        if is_lost {
            broken(&answer, "carried", "", "between a and b");
        } else {
            assert_eq!(answer.first_broken, None, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_rate_that_was_mended_is_not_broken_any_more() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let mut operator = one_way(&mut net).await;
    let _destination = count(&net.b, [100, 0], [500, 0]);
    let source = count(&net.a, [100, 0], [500, 100]);
    broken(
        &explain(&mut operator).await,
        "conforming",
        "a",
        "exceeded the rate",
    );
    // The rate is changed: what was dropped before is history.
    let media = v1::MediaFlow {
        max_bitrate_bps: 100_000,
        rtcp: Some(v1::Rtcp {
            mode: v1::rtcp::Mode::None.into(),
            ..Default::default()
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:4000")
    };
    let mended = v1::SessionSpec {
        revision: 2,
        ..spec("c1", vec![media])
    };
    drop(source);
    let _source = count(&net.a, [1_000, 777], [500, 0]);
    modify(&mut net.client, mended).await.unwrap();
    let answer = explain(&mut operator).await;
    assert_eq!(answer.first_broken, None, "{answer:?}");
    let step = answer.flows[0]
        .steps
        .iter()
        .find(|it| it.link == "conforming");
    assert!(step.unwrap().detail.contains("777"), "{step:?}");
}

#[tokio::test]
async fn counters_that_cannot_be_are_the_routers_fault() {
    let settings = Settings {
        acknowledge_timeout: Duration::from_secs(10),
        ..settings()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let mut operator = one_way(&mut net).await;
    let _destination = count(&net.b, [100, 0], [500, 0]);
    // Twice this is 0 in 64 bits.
    let half = 1 << 63;
    for (counters, part) in [
        (
            vec![counted(100, half), counted(100, half)],
            "cannot be true",
        ),
        (vec![counted(u64::MAX, 0)], "cannot be true"),
        (vec![counted(100, 0); 200_000], "200000 counters"),
        (vec![counted(100, 0); 2], "2 counters of 1 entries"),
    ] {
        net.a.count(counters);
        let answer = explain(&mut operator).await;
        broken(&answer, "installed", "a", part);
        assert!(answer.flows[0].source_counters.is_empty());
    }
    let _source = count(&net.a, [100, 0], [1 << 50, 0]);
    broken(
        &explain(&mut operator).await,
        "installed",
        "a",
        "more than a moment ago",
    );
}

#[tokio::test]
async fn the_mute_router_is_blamed_and_not_the_one_that_it_holds_up() {
    let mut net = Network::on(TestServer::with(settings()).await).await;
    let (old, new) = ("10.2.0.7:9000", "10.2.0.7:4000");
    net.b.behave(|_| Manner::Silent);
    // It waits for b, so that it cannot be removed from a.
    let mut client = net.client.clone();
    let waits = spec("old", vec![flow("10.2.0.8:9000", old)]);
    let held = tokio::spawn(async move { add(&mut client, waits).await });
    net.b.until("asked", |b| !b.log().is_empty()).await;
    net.a.behave(|_| Manner::Conflict("old"));
    let wanted = spec("c1", vec![flow("10.1.0.5:4000", new)]);
    let status = add(&mut net.client, wanted).await.unwrap_err();
    assert!(
        status.message().contains("router b did not acknowledge"),
        "{status:?}"
    );
    held.abort();
}
