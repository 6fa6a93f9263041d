//! ExplainSession with real routers and a real call: what is dead is never called well. Needs root.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::network::{self, Network};
use nix::sys::signal::Signal;
use voicelane_proto::v1::{
    Endpoint, EventKind, ExplainSessionRequest, ExplainSessionResponse, Latch, SessionKey,
    WatchEventsRequest, explain_step::Verdict, operator_client::OperatorClient,
};
use voicelane_testbed::{
    RouterOptions, Site, control::call_session, topology::addresses, traffic::Calls,
};

fn explain(network: &Network) -> ExplainSessionResponse {
    let mut client = OperatorClient::new(network.agent.channel());
    let key = Some(SessionKey {
        agent_id: "test".into(),
        session_id: "call-0".into(),
    });
    let request = ExplainSessionRequest { key };
    let bound = Duration::from_secs(20);
    let asked = async move { client.explain_session(request).await };
    let answer = network.agent.runtime().run("explain", bound, asked);
    answer.unwrap().unwrap().into_inner()
}

/// The first broken link, with its router.
fn broken(answer: &ExplainSessionResponse) -> Option<(&str, &str)> {
    let step = answer.first_broken.as_ref()?;
    println!("{step:?}");
    Some((&step.link, &step.router_id))
}

#[test]
fn a_router_that_stands_still_is_broken() {
    let network = Network::new("stopped", &RouterOptions::default());
    let flows = network.sites.calls(1);
    network.add("call-0", &flows);
    let _calls = Calls::start(flows).unwrap();
    thread::sleep(Duration::from_secs(1));
    let well = explain(&network);
    assert_eq!(
        (broken(&well), &well.first_unknown),
        (None, &None),
        "{well:?}"
    );
    let router_b = &network.router_b.process;
    router_b.signal(Signal::SIGSTOP).unwrap();
    let stopped = explain(&network);
    router_b.signal(Signal::SIGCONT).unwrap();
    assert_eq!(broken(&stopped), Some(("attached", "b")));
}

/// The caller sends no more, the callee does: who is asked why says which way, and since when.
#[test]
fn a_sender_that_falls_silent_is_told() {
    let network = Network::new("silent", &RouterOptions::default());
    // Of two calls, as each sender of the testbed has both ends of its flows.
    let two = network.sites.calls(2);
    let flows = [&two[0], &two[3]].map(Clone::clone);
    network.add("call-0", &flows);
    let [to_callee, to_caller] = flows;
    let mut caller = Calls::start(vec![to_callee]).unwrap();
    let _callee = Calls::start(vec![to_caller]).unwrap();
    thread::sleep(Duration::from_secs(1));
    let well = explain(&network);
    assert_eq!(
        (broken(&well), &well.first_unknown),
        (None, &None),
        "{well:?}"
    );
    caller.stop(true).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let silent = loop {
        let answer = explain(&network);
        // On a busy machine some packets may have exceeded the rate meanwhile.
        let is_told = broken(&answer).is_some_and(|(link, _)| link == "seen");
        if is_told || Instant::now() > end {
            break answer;
        }
        thread::sleep(Duration::from_millis(500));
    };
    assert_eq!(broken(&silent), Some(("seen", "a")), "{silent:?}");
    let detail = &silent.first_broken.as_ref().unwrap().detail;
    assert!(detail.starts_with("the last RTP packet came "), "{detail}");
    // It is the caller's direction alone.
    let verdicts = |flow: usize| {
        let steps = silent.flows[flow].steps.iter();
        let seen = steps.filter(|step| step.link == "seen");
        seen.map(|step| step.verdict()).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(0), [Verdict::Broken; 2], "{silent:?}");
    assert_eq!(verdicts(1), [Verdict::Ok; 2], "{silent:?}");
}

/// What the server tells until an event of this kind comes: its text.
fn event(network: &Network, kind: EventKind) -> String {
    let mut client = OperatorClient::new(network.agent.operator());
    let request = WatchEventsRequest {
        follow: true,
        ..WatchEventsRequest::default()
    };
    let bound = Duration::from_secs(60);
    let found = async move {
        let mut parts = client.watch_events(request).await.unwrap().into_inner();
        loop {
            let part = parts.message().await.unwrap().unwrap();
            if let Some(event) = part.events.into_iter().find(|it| it.kind() == kind) {
                return event.text;
            }
        }
    };
    network
        .agent
        .runtime()
        .run("an event", bound, found)
        .unwrap()
}

/// The caller sends from another port than its signalling says, and somebody without a call sends EF.
#[test]
fn packets_from_another_port_and_ef_without_a_call_are_told() {
    let network = Network::new("strays", &RouterOptions::default());
    let flows = network.sites.calls(1);
    let mut said = flows.clone();
    let port = flows[0].source.port();
    said[0].source.set_port(port + 1_000);
    network.add("call-0", &said);
    let _calls = Calls::start(flows.clone()).unwrap();
    let bulk = network.bulk(1_000_000, 200);
    bulk.set_tos(46 << 2);
    let expected = format!(
        "packets come from {}, the session says {} (on lan)",
        flows[0].source,
        port + 1_000
    );
    let end = Instant::now() + Duration::from_secs(30);
    let detail = loop {
        let answer = explain(&network);
        assert_eq!(broken(&answer), Some(("seen", "a")), "{answer:?}");
        let detail = answer.first_broken.unwrap().detail;
        if detail.contains(&expected) || Instant::now() > end {
            break detail;
        }
    };
    assert!(
        detail.contains(&expected),
        "{expected:?} is not in {detail:?}"
    );
    assert_eq!(event(&network, EventKind::CallMissed), expected);
    let claimed = event(&network, EventKind::EfClaimed);
    let by = addresses::bulk(Site::A).ip();
    assert!(
        claimed.starts_with(&format!("EF claimed by {by} without a call: ")),
        "{claimed}"
    );
}

/// The core port is too slow for one call: a third of it stays in router A's queue.
#[test]
fn what_is_lost_between_the_routers_is_told() {
    let options = RouterOptions {
        core_rate: "64kbit/s".to_owned(),
        ..RouterOptions::default()
    };
    let network = Network::overcommitted("between", &options);
    let flows = network.sites.calls(1);
    network.add("call-0", &flows);
    let _calls = Calls::start(flows).unwrap();
    // Until the queue is full.
    thread::sleep(Duration::from_secs(5));
    let answer = explain(&network);
    assert_eq!(broken(&answer), Some(("carried", "")), "{answer:?}");
    let detail = answer.first_broken.unwrap().detail;
    assert!(detail.starts_with("between "), "{detail}");
}

/// Nothing is said of the senders: each router learns the one that sends to its phone, and both mark it.
#[test]
fn a_call_whose_sources_are_learned_has_its_lane() {
    let network = Network::new("learned", &RouterOptions::default());
    let flows = network.sites.calls(1);
    let mut spec = call_session(network::key("call-0"), &flows);
    for flow in &mut spec.flows {
        flow.source = None;
        flow.latch = Some(Latch::default());
    }
    let (session, _) = network.agent.add_session(spec).unwrap();
    assert_eq!(session.placements[0].latched_source, None);
    let before = explain(&network);
    assert_eq!(broken(&before), None);
    assert_eq!(before.first_unknown.unwrap().link, "placed");
    let _calls = Calls::start(flows.clone()).unwrap();
    let mut answer = explain(&network);
    for _ in 0..10 {
        if answer.first_unknown.is_none() && answer.first_broken.is_none() {
            break;
        }
        thread::sleep(Duration::from_millis(500));
        answer = explain(&network);
    }
    assert_eq!(
        (broken(&answer), &answer.first_unknown),
        (None, &None),
        "{answer:?}"
    );
    for (placement, flow) in answer.session.unwrap().placements.iter().zip(&flows) {
        let learned = placement.latched_source.clone().unwrap();
        assert_eq!(learned, Endpoint::from(flow.source));
        assert!(placement.source.is_some());
    }
}
