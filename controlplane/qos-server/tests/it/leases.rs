//! Sessions that are good for so long.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use voicelane_server::{
    engine::{Command, Engine, EventKind, Link, Reaper, Settings, ToRouter},
    model::{
        course::{Course, End},
        error::Error,
        ids::{Revision, RouterId, session_key},
        registry::{Identity, Interface, Role},
        session::{MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, Terms},
    },
};

/// A router that says yes, or nothing at all.
async fn attach(engine: &Arc<Engine>, name: &str, net: u8, answers: bool) -> Arc<Link> {
    let identity = Identity {
        id: RouterId::parse("id", name).unwrap(),
        epoch: 1,
        software_version: String::new(),
        entry_capacity: 0,
    };
    let lan = Interface {
        name: "lan0".into(),
        role: Role::Edge,
        up: true,
        addresses: Vec::new(),
        prefixes: vec![format!("10.{net}.0.0/16").parse().unwrap()],
        rate_bps: 0,
        ef_budget_bps: 0,
        ef_ingress_budget_bps: 0,
        mtu_bytes: 1500,
        overhead_bytes: 0,
        vlan_id: 0,
        port: "lan0".into(),
    };
    let attached = engine.attach(identity, "test".into(), vec![lan], HashMap::new());
    let (link, mut messages) = attached.await.unwrap();
    let answering = link.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if let ToRouter::Command { id, command } = message
                && (answers || !matches!(command, Command::Remove(_)))
            {
                answering.answer(id, Ok(Vec::new()));
            }
        }
    });
    link
}

fn spec(name: &str, revision: u64, port: u16, lifetime_s: u32) -> SessionSpec {
    let end = |net: u8| SocketAddr::from(([10, net, 0, 5], port));
    let terms = Terms::Policer {
        rate: RateBps::parse("rate", 80_000).unwrap(),
        burst: None,
    };
    let course = Course::parse("flow", Some(end(1)), Some(end(2)), None).unwrap();
    let spec = SessionSpec::new(
        session_key("key", "agent", name).unwrap(),
        Revision::parse("revision", revision).unwrap(),
        vec![MediaFlow::new(course, terms, Rtcp::Mux)],
        ServiceClass::Telephony,
    );
    SessionSpec { lifetime_s, ..spec }
}

fn reserved(name: &str, lifetime_s: u32) -> SessionSpec {
    let mut spec = spec(name, 1, 4000, lifetime_s);
    let at = spec.flows[0].course.source().unwrap();
    spec.flows[0].course = Course::Half(End::Source, at);
    spec
}

async fn start() -> Arc<Engine> {
    let engine = Engine::start(Settings {
        adopt_for: Duration::ZERO,
        ..Settings::default()
    });
    attach(&engine, "a", 1, true).await;
    attach(&engine, "b", 2, true).await;
    engine
}

fn has(engine: &Engine, name: &str) -> bool {
    engine
        .session(&session_key("key", "agent", name).unwrap())
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_renews_runs_out_and_says_so() {
    let engine = start().await;
    let mut events = engine.watch(None, false).unwrap();
    engine.add(spec("c", 1, 4000, 60)).await.unwrap();
    engine.add(spec("forever", 1, 5000, 0)).await.unwrap();
    engine.add(reserved("offer", 180)).await.unwrap();
    sleep(Duration::from_secs(59)).await;
    assert!(has(&engine, "c"));
    sleep(Duration::from_secs(2)).await;
    assert!(!has(&engine, "c") && has(&engine, "offer"));
    sleep(Duration::from_secs(120)).await;
    assert!(!has(&engine, "offer") && has(&engine, "forever"));
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = events.next().await.unwrap();
        if event.kind == EventKind::Deleted {
            assert_eq!(event.reaper, Some(Reaper::Lease));
            assert_eq!(event.reaper.unwrap().to_string(), "lease ran out");
            gone.push(event.session.spec.key.session().to_owned());
        }
    }
    assert_eq!(gone, ["c", "offer"]);
    let text = engine.metrics().text(&engine.snapshot().await);
    let line = r#"voicelane_server_reaped_sessions_total{reaper="lease"} 2"#;
    assert!(text.contains(line), "{text}");
    // Its five-tuples are free.
    engine.add(spec("next", 1, 4000, 0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_said_again_renews_a_lease_and_a_refused_change_does_not() {
    let engine = start().await;
    let first = spec("c", 1, 4000, 60);
    engine.add(first.clone()).await.unwrap();
    for _ in 0..5 {
        sleep(Duration::from_secs(50)).await;
        // Equal content is no change, yet a renewal.
        let view = engine.modify(first.clone()).await.unwrap();
        let expires = view.expires.unwrap().since(view.updated);
        assert!(expires >= Duration::from_secs(59), "{expires:?}");
    }
    sleep(Duration::from_secs(50)).await;
    engine.add(first.clone()).await.unwrap();
    sleep(Duration::from_secs(50)).await;
    // To a longer one, and to none and back.
    engine.modify(spec("c", 2, 4000, 600)).await.unwrap();
    sleep(Duration::from_secs(590)).await;
    engine.modify(spec("c", 3, 4000, 0)).await.unwrap();
    sleep(Duration::from_secs(100_000)).await;
    engine.modify(spec("c", 4, 4000, 60)).await.unwrap();
    sleep(Duration::from_secs(50)).await;
    let mut wrong = spec("c", 5, 4000, 60);
    wrong.flows[0].course = Course::parse(
        "flow",
        Some("10.9.0.1:1".parse().unwrap()),
        Some("10.2.0.5:1".parse().unwrap()),
        None,
    )
    .unwrap();
    let refused = engine.modify(wrong).await.unwrap_err();
    assert!(matches!(refused, Error::UnknownAddress { .. }), "{refused}");
    sleep(Duration::from_secs(11)).await;
    assert!(!has(&engine, "c"));
    let again = engine.modify(spec("c", 6, 4000, 60)).await.unwrap_err();
    assert!(matches!(again, Error::NoSession(_)), "{again}");
}

/// An agent died with many calls through a router that answers nothing: the others' leases end in
/// time all the same.
#[tokio::test(start_paused = true)]
async fn a_silent_router_does_not_keep_leases() {
    let engine = start().await;
    attach(&engine, "a", 1, false).await;
    for call in 0..600 {
        let port = 2_000 + 2 * call;
        engine
            .add(spec(&format!("c{call}"), 1, port, 10))
            .await
            .unwrap();
    }
    let began = Instant::now();
    while engine.sessions(None, None, 1).total > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}
