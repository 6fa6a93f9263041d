//! An addition or a change that fails leaves no trace: links' loads, routers' tables and five-tuples are as before.

use std::time::Duration;

use crate::common::*;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};
use voicelane_proto::v1::{
    self, command, command_result::Code as Refusal, operator_client::OperatorClient,
    sessions_client::SessionsClient,
};
use voicelane_server::engine::Settings;

/// How long routers have to acknowledge.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How the change fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    /// Router a or b says no.
    Refused(usize),
    /// Router a or b says nothing.
    Late(usize),
    /// The stream of router b ends while it is asked.
    Lost,
    /// The agent goes away while router b is asked, which says nothing.
    Cancelled,
}

async fn network() -> (Network, OperatorClient<Channel>) {
    let server = TestServer::with(Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: TIMEOUT,
        ..Settings::default()
    });
    let net = Network::on(server.await).await;
    for (router, stream, own, other) in [
        (&net.a, &net.a_stream, "10.1.0.0/24", "10.2.0.0/24"),
        (&net.b, &net.b_stream, "10.2.0.0/24", "10.1.0.0/24"),
    ] {
        let wan = v1::Interface {
            ef_budget_bps: 1_000_000,
            ..core("wan0", &[other])
        };
        router.report(stream, vec![edge("lan0", &[own]), wan]).await;
    }
    let operator = net.server.operator().await;
    eventually("links", || {
        let mut operator = operator.clone();
        async move { (loads(&mut operator).await.len() == 8).then_some(()) }
    })
    .await;
    (net, operator)
}

/// Of each link: its name, bit/s, sessions.
async fn loads(operator: &mut OperatorClient<Channel>) -> Vec<(String, u64, u64)> {
    let links = operator.list_links(v1::ListLinksRequest::default()).await;
    let links = links.unwrap().into_inner().links.into_iter();
    links
        .map(|it| {
            let name = format!("{} {} {:?}", it.router_id, it.port, it.direction());
            (name, it.admitted_bps, it.sessions)
        })
        .collect()
}

/// Adds a second session, or makes the first one larger.
async fn change(mut client: SessionsClient<Channel>, modifies: bool) -> Result<(), Status> {
    if !modifies {
        return add(&mut client, call("new", 5000)).await.map(drop);
    }
    let mut larger = call("there", 4000);
    larger.revision = 2;
    for flow in &mut larger.flows {
        flow.max_bitrate_bps = 160_000;
    }
    modify(&mut client, larger).await.map(drop)
}

async fn try_it(failure: Failure, modifies: bool) {
    let what = format!("{failure:?}, modifies: {modifies}");
    let (mut net, mut operator) = network().await;
    add(&mut net.client, call("there", 4000)).await.unwrap();
    let before = loads(&mut operator).await;
    let tables = |net: &Network| [net.a.sessions(), net.b.sessions()];
    let had = tables(&net);
    let (who, manner) = match failure {
        Failure::Refused(who) => (who, Manner::Refuse(Refusal::TableFull, "full")),
        Failure::Late(who) => (who, Manner::Silent),
        Failure::Lost | Failure::Cancelled => (1, Manner::Silent),
    };
    let router = [net.a.clone(), net.b.clone()][who].clone();
    router.clear_log();
    // Only what is tried: what undoes it is obeyed.
    router.behave(move |command| match command {
        command::Command::Install(install)
            if install.revision == 2 || install.key == key("new") =>
        {
            manner.clone()
        }
        _ => Manner::Obey,
    });
    let asked = change(net.client.clone(), modifies);
    match failure {
        Failure::Cancelled => {
            let cancelled = timeout(TIMEOUT / 4, asked).await;
            assert!(cancelled.is_err(), "{what}: {cancelled:?}");
        }
        Failure::Lost => {
            let Network { b_stream, .. } = net;
            let (refused, ()) = tokio::join!(asked, async {
                router.until("asked", |it| it.installs() > 0).await;
                b_stream.cut();
            });
            assert_eq!(refused.unwrap_err().code(), Code::Unavailable, "{what}");
            net.b_stream = router.attach(net.server.address).await;
        }
        Failure::Refused(_) | Failure::Late(_) => {
            let expected = match failure {
                Failure::Refused(_) => Code::ResourceExhausted,
                _ => Code::Unavailable,
            };
            assert_eq!(asked.await.unwrap_err().code(), expected, "{what}");
        }
    }
    eventually(&format!("as before: {what}"), || {
        let mut operator = operator.clone();
        let (before, same) = (&before, tables(&net) == had);
        async move { (loads(&mut operator).await == *before && same).then_some(()) }
    })
    .await;
    // And what it wanted is free.
    router.behave(|_| Manner::Obey);
    change(net.client.clone(), modifies).await.unwrap();
}

#[tokio::test]
async fn loads_are_exactly_as_before_when_a_router_refuses() {
    for (who, modifies) in [(0, false), (1, false), (0, true), (1, true)] {
        try_it(Failure::Refused(who), modifies).await;
    }
}

#[tokio::test]
async fn loads_are_exactly_as_before_when_a_router_is_late() {
    for (who, modifies) in [(0, false), (1, false), (0, true), (1, true)] {
        try_it(Failure::Late(who), modifies).await;
    }
}

#[tokio::test]
async fn loads_are_exactly_as_before_when_a_router_or_the_agent_is_lost() {
    for failure in [Failure::Lost, Failure::Cancelled] {
        for modifies in [false, true] {
            try_it(failure, modifies).await;
        }
    }
}
