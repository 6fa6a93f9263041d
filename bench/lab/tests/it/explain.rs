//! ExplainSession with real routers and a real call: what is dead is never called well. Needs root.

use std::{thread, time::Duration};

use crate::network::Network;
use nix::sys::signal::Signal;
use voicelane_proto::v1::{
    ExplainSessionRequest, ExplainSessionResponse, SessionKey, operator_client::OperatorClient,
};
use voicelane_testbed::{RouterOptions, traffic::Calls};

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
