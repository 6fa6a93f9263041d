//! The screen as a terminal of 120 columns has it.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use voicelane_proto::v1::{self, explain_step::Verdict};

use super::{
    super::state::{State, Wants},
    draw,
};

fn key(name: &str) -> v1::SessionKey {
    v1::SessionKey {
        agent_id: "pbx".into(),
        session_id: name.into(),
    }
}

fn call(name: &str, badness: u32, since_unix_ms: i64) -> v1::OverviewCall {
    let verdict = if badness > 0 {
        Verdict::Broken
    } else {
        Verdict::Ok
    };
    let verdicts = [
        Verdict::Unknown,
        verdict,
        Verdict::Unknown,
        Verdict::Ok,
        Verdict::Unknown,
    ];
    v1::OverviewCall {
        key: Some(key(name)),
        badness,
        why: if badness > 0 {
            "router a is away".into()
        } else {
            String::new()
        },
        state: v1::SessionState::Active.into(),
        source: "10.1.0.5:4000".into(),
        destination: "10.2.0.7:4000".into(),
        segments: verdicts
            .map(|verdict| v1::Segment {
                verdict: verdict.into(),
                ..Default::default()
            })
            .to_vec(),
        since_unix_ms,
        ..Default::default()
    }
}

fn overview(calls: Vec<v1::OverviewCall>) -> v1::WatchOverviewResponse {
    v1::WatchOverviewResponse {
        sentence: "2 calls; 1 bad (1: router a is away).".into(),
        total: calls.len() as u64,
        found: 1,
        calls,
        links: vec![v1::Link {
            router_id: "a".into(),
            port: "core0".into(),
            direction: v1::link::Direction::Out.into(),
            budget_bps: 5_000_000,
            admitted_bps: 2_500_000,
            ..Default::default()
        }],
        total_links: 1,
        routers: vec![v1::OverviewRouter {
            router_id: "a".into(),
            state: v1::RouterState::Away.into(),
            detail: "the connection was closed".into(),
            ..Default::default()
        }],
        total_routers: 1,
        events: vec![v1::Event {
            severity: v1::Severity::Error.into(),
            router_id: "a".into(),
            text: "lost".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn screen(state: &mut State) -> String {
    let mut terminal = Terminal::new(TestBackend::new(120, 32)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    terminal.backend().to_string()
}

fn press(state: &mut State, code: KeyCode) -> Wants {
    state.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[track_caller]
fn shows(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
}

#[test]
fn all_of_it_is_on_the_screen() {
    let mut state = State::new(String::new());
    shows(&screen(&mut state), &["Waiting for the server."]);
    state.take(overview(vec![call("worst", 2, 0), call("good", 0, 1)]));
    let shown = screen(&mut state);
    shows(
        &shown,
        &[
            "2 calls; 1 bad (1: router a is away).",
            "2 calls, the worst first",
            "? x ? + ?",
            "router a is away",
            "away           0",
            " 50 % ████",
            "error   router a: lost",
            "~ less than 1 % lost  x more, or broken",
            "/ find  s sort",
        ],
    );
    assert!(shown.find("worst ").unwrap() < shown.find("good ").unwrap());
}

#[test]
fn who_sends_ef_without_a_call_has_room_while_somebody_does() {
    let mut state = State::new(String::new());
    state.take(overview(vec![call("good", 0, 1)]));
    assert!(!screen(&mut state).contains("without a call"));
    let told = v1::WatchOverviewResponse {
        ef_claimers: vec![v1::EfClaimer {
            router_id: "a".into(),
            interface: "bulk".into(),
            address: "10.3.0.10".into(),
            packets: 7_645,
        }],
        total_ef_claimers: 1,
        ..overview(vec![call("good", 0, 1)])
    };
    let text = crate::text::top::overview(&told);
    shows(&text, &["EF WITHOUT CALL", "10.3.0.10", "a bulk"]);
    state.take(told);
    shows(
        &screen(&mut state),
        &[
            "1 send EF without a call",
            "10.3.0.10",
            "a bulk",
            "7645 packets",
            "50 %",
        ],
    );
    // Where there is little room, events keep theirs.
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &mut state)).unwrap();
    let small = terminal.backend().to_string();
    shows(&small, &["router a: lost", "good", "a core0", " 50 % ███"]);
    assert!(!small.contains("without a call"), "{small}");
}

#[test]
fn keys_sort_choose_explain_and_end() {
    let mut state = State::new(String::new());
    state.take(overview(vec![
        call("b", 1, 1),
        call("a", 0, 2),
        call("c", 0, 3),
    ]));
    assert_eq!(press(&mut state, KeyCode::Char('s')), Wants::Nothing);
    shows(&screen(&mut state), &["by name"]);
    // It stays on its call, which was the worst.
    assert_eq!(state.selected.selected(), Some(1));
    press(&mut state, KeyCode::Char('s'));
    assert_eq!(state.selected.selected(), Some(2));
    for _ in 0..5 {
        press(&mut state, KeyCode::Down);
    }
    assert_eq!(state.selected.selected(), Some(2), "the last one");
    assert_eq!(press(&mut state, KeyCode::Enter), Wants::Explain(key("b")));
    shows(&screen(&mut state), &["call b", "Asking the routers"]);
    state.explained = Some("installed  broken".into());
    shows(&screen(&mut state), &["installed  broken"]);
    press(&mut state, KeyCode::Esc);
    shows(&screen(&mut state), &["the latest first"]);
    assert_eq!(press(&mut state, KeyCode::Char('q')), Wants::End);
}

#[test]
fn the_worst_first_is_the_servers_order_again() {
    let mut state = State::new(String::new());
    let told = [call("b", 1, 1), call("c", 1, 3), call("a", 1, 2)];
    state.take(overview(told.to_vec()));
    for _ in 0..3 {
        press(&mut state, KeyCode::Char('s'));
    }
    assert_eq!(state.overview.unwrap().calls, told);
}

#[test]
fn a_search_is_typed_and_taken_back() {
    let mut state = State::new(String::new());
    state.take(overview(vec![call("a", 0, 0)]));
    press(&mut state, KeyCode::Char('/'));
    for key in "qs".chars() {
        assert_eq!(press(&mut state, KeyCode::Char(key)), Wants::Search);
    }
    assert_eq!(state.search, "qs");
    shows(&screen(&mut state), &["find: qs", "1 calls with \"qs\""]);
    press(&mut state, KeyCode::Backspace);
    assert_eq!(press(&mut state, KeyCode::Enter), Wants::Nothing);
    assert_eq!(state.search, "q");
    assert_eq!(press(&mut state, KeyCode::Esc), Wants::Search);
    assert_eq!(state.search, "");
    for _ in 0..200 {
        press(&mut state, KeyCode::Char('/'));
    }
    assert_eq!(state.search.len(), 128);
}

#[test]
fn small_and_empty_screens_are_no_fault() {
    let mut state = State::new(String::new());
    state.take(overview(Vec::new()));
    assert_eq!(press(&mut state, KeyCode::Enter), Wants::Nothing);
    for (width, height) in [(1, 1), (10, 3), (40, 8)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &mut state)).unwrap();
    }
}
