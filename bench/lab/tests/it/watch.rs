//! WatchSessions with real routers: what becomes of a call whose router cannot be reached. Needs root.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::network::{self, Network};
use voicelane_proto::v1::{
    SessionState, WatchSessionsRequest, sessions_client::SessionsClient,
    watch_sessions_response::Kind,
};
use voicelane_testbed::{
    RouterOptions, Site,
    topology::addresses::{ROUTER_PORT, management},
    traffic::Calls,
};

/// Keepalives are sent each 10 s, and answered within 5 s; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(15 + 15);

/// What is told, as it comes: what happened, and the session's state after it.
fn watch(network: &Network) -> mpsc::Receiver<(Kind, SessionState)> {
    let (told, events) = mpsc::channel();
    let mut client = SessionsClient::new(network.agent.channel());
    network.agent.runtime().spawn(async move {
        let request = WatchSessionsRequest {
            agent_id: String::new(),
            include_existing: true,
        };
        let mut stream = client.watch_sessions(request).await.unwrap().into_inner();
        while let Ok(Some(event)) = stream.message().await {
            let state = event.session.as_ref().unwrap().state();
            if told.send((event.kind(), state)).is_err() {
                return;
            }
        }
    });
    events
}

/// Whether router A says that it is attached.
fn is_attached(network: &Network) -> bool {
    let url = format!("http://{}:{ROUTER_PORT}/metrics", management(Site::A));
    let bound = Duration::from_secs(5);
    let args = ["--silent", "--fail", &url];
    let router = network.sites.router(Site::A);
    let metrics = router.run("curl", &args, bound).unwrap();
    metrics.contains("\nvoicelane_attached 1\n")
}

/// Nothing passes between router A and the server, and nobody ends a connection: both notice, the call is
/// degraded, its packets have their lane all the while, and all is well when the line is back.
#[test]
fn a_line_that_freezes_is_noticed_at_both_ends() {
    let network = Network::new("frozen", &RouterOptions::default());
    let flows = network.sites.calls(1);
    network.add("call-0", &flows);
    let mut calls = Calls::start(flows.clone()).unwrap();
    let events = watch(&network);
    let next = || events.recv_timeout(NOTICED).unwrap();
    assert_eq!(next(), (Kind::Existing, SessionState::Active));
    assert!(is_attached(&network));

    let line = |state: &str| {
        let commands = format!("link set p-router-a {state}");
        network.sites.server.ip(&commands).unwrap();
    };
    line("down");
    let frozen = Instant::now();
    assert_eq!(next(), (Kind::StateChanged, SessionState::Degraded));
    while is_attached(&network) {
        assert!(
            frozen.elapsed() < NOTICED,
            "the router thinks that it is attached"
        );
        thread::sleep(Duration::from_millis(200));
    }
    let log = network.router_a.process.log();
    assert!(log.contains("the QoS server is out of reach"), "{log}");
    let routers = network.agent.routers().unwrap();
    let router_a = routers.iter().find(|it| it.router_id == "a").unwrap();
    assert!(
        router_a.away_reason.starts_with("keepalive timeout"),
        "{router_a:?}"
    );

    line("up");
    assert_eq!(next(), (Kind::StateChanged, SessionState::Active));
    assert!(is_attached(&network));
    calls.stop(true).unwrap();
    let entries = network.agent.router_entries(Site::A).unwrap();
    for (way, flow) in flows.iter().enumerate() {
        let source = flow.source.into();
        let entry = entries
            .iter()
            .find(|it| it.source.as_ref() == Some(&source));
        let sent = calls.sent(way) as u64;
        assert!(sent > 100);
        assert_eq!(entry.unwrap().packets, sent, "{entry:?}");
    }
    network
        .agent
        .delete_session(network::key("call-0"))
        .unwrap();
    assert_eq!(next().0, Kind::Deleted);
}
