//! Sessions that are good for so long.

mod keep_agent;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use voicelane_server::{
    engine::{Command, Engine, EventKind, Link, Reaper, SessionView, Settings, Silent, ToRouter},
    events::Severity,
    model::{
        course::{Course, End},
        error::Error,
        ids::{Revision, RouterId, session_key},
        registry::{Identity, Interface, Role},
        session::{MediaFlow, RateBps, Rtcp, ServiceClass, SessionSpec, SessionState, Terms},
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
        refused: Vec::new(),
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
    let attached = engine.attach(identity, "test".into(), vec![lan], BTreeMap::new());
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

/// What the agent is asked about, by name.
fn asked(engine: &Engine) -> Vec<String> {
    let mut untold = engine.untold(0);
    let pages = std::iter::from_fn(|| engine.next_untold("agent", &mut untold));
    pages
        .flatten()
        .map(|key| key.session().to_owned())
        .collect()
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

/// An agent with its own routers, which say once what is silent, and again every 30 s.
struct Quiet {
    engine: Arc<Engine>,
    links: [Arc<Link>; 2],
    /// Seconds since the last packet of all sessions; `true`: none has ever come.
    last: Instant,
    never: bool,
}

impl Quiet {
    async fn start() -> Self {
        let engine = Engine::start(Settings {
            adopt_for: Duration::ZERO,
            ..Settings::default()
        });
        let links = [
            attach(&engine, "a", 1, true).await,
            attach(&engine, "b", 2, true).await,
        ];
        let last = Instant::now();
        Self {
            engine,
            links,
            last,
            never: false,
        }
    }

    /// Both routers say of these sessions how long they have been silent.
    fn report(&self, names: &[&str]) {
        let silent = |name: &&str| Silent {
            key: session_key("key", "agent", name).unwrap(),
            silent_for: self.last.elapsed(),
            never: self.never,
        };
        let silent: Vec<_> = names.iter().map(silent).collect();
        if self.last.elapsed() >= Duration::from_secs(120) {
            for link in &self.links {
                self.engine.silent(link, &silent);
            }
        }
    }

    /// Seconds pass, in which routers tell every 30 s, and the agent renews its lease if it is there.
    async fn pass(&self, seconds: u64, names: &[&str], is_there: bool) {
        for second in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            if is_there && second % 20 == 0 {
                self.engine.keep_agent("agent");
            }
            if second % 30 == 0 {
                self.report(names);
            }
        }
    }

    fn reaped(&self, text: &str, reaper: &str, count: u64) {
        let line = format!("voicelane_server_reaped_sessions_total{{reaper=\"{reaper}\"}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }

    async fn text(&self) -> String {
        self.engine.metrics().text(&self.engine.snapshot().await)
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_call_is_asked_about_and_goes_unless_its_agent_keeps_it() {
    let mut net = Quiet::start().await;
    let engine = net.engine.clone();
    let mut events = engine.watch(None, false).unwrap();
    engine.keep_agent("agent");
    engine.add(spec("kept", 1, 4000, 0)).await.unwrap();
    engine.add(spec("dead", 1, 5000, 0)).await.unwrap();
    let held = SessionSpec {
        hold: true,
        ..spec("held", 1, 6000, 0)
    };
    engine.add(held).await.unwrap();
    net.last = Instant::now();
    let all = ["kept", "dead", "held"];
    net.pass(119, &all, true).await;
    assert!(asked(&engine).is_empty());
    net.pass(35, &all, true).await;
    assert_eq!(asked(&engine), ["dead", "kept"], "not what is on hold");
    engine
        .keep_silent("agent", &["kept".to_owned(), "held".to_owned()])
        .unwrap();
    net.pass(20, &all, true).await;
    assert!(has(&engine, "dead"), "it has 60 s");
    net.pass(10, &all, true).await;
    assert!(!has(&engine, "dead") && has(&engine, "kept"));
    // What was kept is asked about again.
    net.pass(100, &["kept", "held"], true).await;
    assert_eq!(asked(&engine).len(), 1);
    net.pass(70, &["kept", "held"], true).await;
    assert!(!has(&engine, "kept") && has(&engine, "held"));
    net.pass(3_600, &["held"], true).await;
    assert!(!has(&engine, "held"));
    let mut told = Vec::new();
    while told.len() < 6 {
        let event = events.next().await.unwrap();
        match event.kind {
            EventKind::Silent => told.push(("silent", event.session.spec.key.session().to_owned())),
            EventKind::Deleted => {
                let reaper = event.reaper.unwrap();
                let expected = match event.session.spec.key.session() {
                    "held" => Reaper::Hold,
                    _ => Reaper::Silence,
                };
                assert_eq!(reaper, expected);
                told.push(("deleted", event.session.spec.key.session().to_owned()));
            }
            _ => {}
        }
    }
    let text = net.text().await;
    net.reaped(&text, "silence", 2);
    net.reaped(&text, "hold", 1);
    net.reaped(&text, "agent_lost", 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_agent_keeps_its_calls_for_half_an_hour_but_not_silent_ones() {
    let mut net = Quiet::start().await;
    let engine = net.engine.clone();
    engine.keep_agent("agent");
    for (name, port) in [("talks", 4000), ("silent", 5000)] {
        engine.add(spec(name, 1, port, 0)).await.unwrap();
    }
    let other = SessionSpec {
        key: session_key("key", "cli", "other").unwrap(),
        ..spec("x", 1, 7000, 0)
    };
    engine.add(other).await.unwrap();
    net.last = Instant::now();
    net.pass(61, &[], false).await;
    let events = engine.history().latest(0, 100, Severity::Error).events;
    let lost = events
        .iter()
        .any(|it| it.text.contains("agent agent is lost, with 2 calls"));
    assert!(lost, "{events:?}");
    // Nobody is asked.
    net.pass(61, &["silent"], false).await;
    assert!(has(&engine, "silent"), "it is told 30 s later at most");
    net.pass(31, &["silent"], false).await;
    assert!(!has(&engine, "silent") && has(&engine, "talks"));
    net.never = true;
    engine.add(spec("new", 1, 8000, 0)).await.unwrap();
    net.last = Instant::now();
    net.pass(179, &["new"], false).await;
    assert!(has(&engine, "new"));
    net.pass(32, &["new"], false).await;
    assert!(!has(&engine, "new"));
    // It comes back in time, and is lost again.
    net.pass(1_300, &[], false).await;
    engine.keep_agent("agent");
    net.pass(59, &[], false).await;
    net.pass(1_799, &[], false).await;
    assert!(has(&engine, "talks"));
    net.pass(5, &[], false).await;
    assert!(!has(&engine, "talks"));
    assert!(
        engine
            .session(&session_key("key", "cli", "other").unwrap())
            .is_ok()
    );
    let text = net.text().await;
    net.reaped(&text, "agent_lost", 1);
    net.reaped(&text, "silence", 1);
    net.reaped(&text, "unused", 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_agent_whose_last_call_went_is_forgotten() {
    let engine = Engine::start(Settings {
        adopt_for: Duration::ZERO,
        agent_lost: Duration::ZERO,
        ..Settings::default()
    });
    attach(&engine, "a", 1, true).await;
    attach(&engine, "b", 2, true).await;
    engine.keep_agent("agent");
    engine.add(spec("c", 1, 4000, 0)).await.unwrap();
    engine.add(spec("d", 1, 5000, 0)).await.unwrap();
    sleep(Duration::from_secs(62)).await;
    for (name, lost) in [("c", 1), ("d", 0)] {
        let key = session_key("key", "agent", name).unwrap();
        engine.delete(key).await.unwrap();
        let text = engine.metrics().text(&engine.snapshot().await);
        let line = format!("\nvoicelane_server_lost_agents {lost}\n");
        assert!(text.contains(&line), "after {name}: {text}");
    }
}

/// Its last call takes long to go, because a router does not answer.
#[tokio::test(start_paused = true)]
async fn a_call_that_comes_while_those_of_a_lost_agent_go_stays() {
    let engine = start().await;
    attach(&engine, "a", 1, false).await;
    engine.keep_agent("agent");
    engine.add(spec("old", 1, 4000, 0)).await.unwrap();
    let old = session_key("key", "agent", "old").unwrap();
    let is_there = |view: &SessionView| view.state != SessionState::Removing;
    while engine.session(&old).is_ok_and(|view| is_there(&view)) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(has(&engine, "old"), "it is being removed");
    engine.add(spec("new", 1, 5000, 0)).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(!has(&engine, "old") && has(&engine, "new"));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_silent_while_a_router_has_not_said_so() {
    let mut net = Quiet::start().await;
    let engine = net.engine.clone();
    engine.keep_agent("agent");
    engine.add(spec("c", 1, 4000, 0)).await.unwrap();
    net.last = Instant::now();
    let silent = Silent {
        key: session_key("key", "agent", "c").unwrap(),
        silent_for: Duration::from_secs(200),
        never: false,
    };
    for _ in 0..100 {
        engine.silent(&net.links[0], std::slice::from_ref(&silent));
        sleep(Duration::from_secs(10)).await;
        engine.keep_agent("agent");
    }
    assert!(has(&engine, "c") && asked(&engine).is_empty());
    // Nor by one that has another stream since.
    engine.silent(&net.links[1], std::slice::from_ref(&silent));
    let lost = net.links[1].clone();
    engine.detach(&lost, "test");
    // They need not say so at the same moment.
    net.links[1] = attach(&engine, "b", 2, true).await;
    sleep(Duration::from_secs(5)).await;
    engine.silent(&lost, std::slice::from_ref(&silent));
    sleep(Duration::from_secs(1)).await;
    assert!(asked(&engine).is_empty());
    engine.silent(&net.links[1], std::slice::from_ref(&silent));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(&engine).len(), 1);
}
