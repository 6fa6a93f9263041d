//! The state machine against a server that is scripted line by line.

use std::sync::Arc;

use tonic::Code;
use voicelane_proto::v1::{self, session_change};

use super::*;
use crate::{
    call::{Flow, Lease, Rtcp, Source, Why},
    sdp::Kind,
};

const NOW: Micros = 1_000_000;

fn desired() -> Desired {
    let mut desired = Desired::new(Settings {
        agent_id: "a".into(),
        service_class: v1::ServiceClass::Telephony,
        lifetime_s: 100,
    });
    desired.connected(1);
    desired
}

fn session(call: &str, port: u16) -> Session {
    let flow = Flow {
        source: Source::Fixed(([10, 1, 0, 5], port).into()),
        destination: ([10, 2, 0, 7], port).into(),
        rate_bps: 80_000,
        packet_us: 20_000,
        ptime_ms: 20,
        codecs: Arc::default(),
        rtcp: Rtcp::NextPort,
        kind: Kind::Audio,
        held: false,
    };
    Session {
        id: SessionId::known(call),
        call_id: Arc::from(call.as_bytes()),
        tags: [Arc::from(*b"a"), Arc::from(*b"b")],
        flows: [flow].into(),
        lease: Lease::WhileHeard { held: false },
        why: Why::Answered,
    }
}

fn remove(call: &str) -> Change {
    Change::Remove {
        id: SessionId::known(call),
        why: Why::Bye,
    }
}

/// What is sent, as `add NAME REVISION LIFETIME`, and its tags.
fn sent(desired: &mut Desired, now: Micros) -> (Vec<String>, Vec<u64>) {
    let changes = desired.next_changes(now);
    let text = |change: &v1::SessionChange| {
        let of = |word: &str, spec: &Option<v1::SessionSpec>| {
            let spec = spec.clone().unwrap();
            let name = spec.key.unwrap().session_id;
            format!("{word} {name} {} {}", spec.revision, spec.lifetime_s)
        };
        match change.change.as_ref().unwrap() {
            session_change::Change::Add(add) => of("add", &add.spec),
            session_change::Change::Modify(modify) => of("modify", &modify.spec),
            session_change::Change::Delete(delete) => {
                format!("delete {}", delete.key.clone().unwrap().session_id)
            }
        }
    };
    let tags = changes.iter().map(|change| change.tag).collect();
    (changes.iter().map(text).collect(), tags)
}

fn answer(desired: &mut Desired, now: Micros, tag: u64, code: Code) {
    let outcome = v1::ChangeOutcome {
        tag,
        code: code.into(),
        message: "because".into(),
        ..v1::ChangeOutcome::default()
    };
    desired.outcome(now, &outcome);
}

/// Sends what is to be sent, each done.
#[track_caller]
fn expect(desired: &mut Desired, now: Micros, expected: &[&str]) {
    let (texts, tags) = sent(desired, now);
    assert_eq!(texts, expected);
    for tag in tags {
        answer(desired, now, tag, Code::Ok);
    }
}

#[test]
fn changes_while_one_is_on_its_way_become_one() {
    let mut desired = desired();
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    let (texts, tags) = sent(&mut desired, NOW);
    assert_eq!(texts, ["add c 1 100"]);
    desired.apply(NOW, Change::Modify(session("c", 4_002)));
    desired.apply(NOW, Change::Modify(session("c", 4_004)));
    assert!(sent(&mut desired, NOW).0.is_empty());
    answer(&mut desired, NOW + 5_000, tags[0], Code::Ok);
    expect(&mut desired, NOW + 6_000, &["modify c 2 100"]);
    let installed = Event::Installed {
        id: SessionId::known("c"),
        call_id: Arc::from(*b"c"),
        after: 6_000,
    };
    assert_eq!(desired.events(), [installed]);
    desired.apply(NOW, remove("c"));
    expect(&mut desired, NOW, &["delete c"]);
    assert!(sent(&mut desired, NOW).0.is_empty() && desired.entries.is_empty());
}

#[test]
fn a_call_that_ends_before_its_session_is_answered_leaves_none() {
    for code in [Code::Ok, Code::Unavailable, Code::ResourceExhausted] {
        let mut desired = desired();
        desired.apply(NOW, Change::Add(session("c", 4_000)));
        let (_, tags) = sent(&mut desired, NOW);
        desired.apply(NOW, remove("c"));
        answer(&mut desired, NOW, tags[0], code);
        let (texts, tags) = sent(&mut desired, NOW);
        if code == Code::Ok {
            assert_eq!(texts, ["delete c"]);
            answer(&mut desired, NOW, tags[0], Code::NotFound);
            sent(&mut desired, NOW);
        }
        assert!(desired.entries.is_empty(), "{code:?}");
    }
}

#[test]
fn refusals_are_told_once_and_tried_again_later_each_time() {
    let mut desired = desired();
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (texts, tags) = sent(&mut desired, now);
        assert_eq!(texts.len(), 1);
        answer(&mut desired, now, tags[0], Code::ResourceExhausted);
        let due = desired.next_deadline().unwrap();
        waits.push(due - now);
        now = due;
        desired.tick(now);
    }
    assert!(waits[0] <= 2 * SECOND && waits[11] >= 7 * SECOND && waits[11] <= 13 * SECOND);
    assert_eq!(desired.events().len(), 1);
    assert_eq!(desired.standing().refused, 1);
}

#[test]
fn leases_are_renewed_spread_without_a_new_revision() {
    let mut desired = desired();
    for call in 0..1_000 {
        desired.apply(NOW, Change::Add(session(&format!("c{call}"), 4_000 + call)));
    }
    loop {
        let (texts, tags) = sent(&mut desired, NOW);
        for tag in &tags {
            answer(&mut desired, NOW, *tag, Code::Ok);
        }
        if texts.is_empty() {
            break;
        }
    }
    let mut most = 0;
    let mut renewed = 0;
    for second in 1..=100 {
        let now = NOW + second * SECOND;
        desired.tick(now);
        for question in desired.questions() {
            desired.answered(now, &question, Answer::Heard { last_ms: Some(20) });
        }
        let (texts, tags) = sent(&mut desired, now);
        assert!(
            texts
                .iter()
                .all(|text| text.starts_with("modify") && text.ends_with(" 1 100"))
        );
        most = most.max(texts.len());
        renewed += texts.len();
        for tag in tags {
            answer(&mut desired, now, tag, Code::Ok);
        }
    }
    assert!(
        renewed >= 1_000 && most < 100,
        "{renewed} in all, {most} in one second"
    );
}

#[test]
fn a_session_that_is_there_with_another_revision_is_looked_at() {
    let mut desired = desired();
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    let (_, tags) = sent(&mut desired, NOW);
    answer(&mut desired, NOW, tags[0], Code::AlreadyExists);
    let questions = desired.questions();
    let [question @ Question::Revision(_)] = &questions[..] else {
        panic!("{questions:?}");
    };
    desired.answered(NOW, question, Answer::Revision(7));
    expect(&mut desired, NOW, &["modify c 8 100"]);
}

#[test]
fn what_was_on_its_way_when_the_stream_ended_is_made_sure_of() {
    let mut desired = desired();
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    sent(&mut desired, NOW);
    desired.disconnected();
    assert!(sent(&mut desired, NOW).0.is_empty());
    desired.connected(1);
    let (texts, tags) = sent(&mut desired, NOW);
    assert_eq!(texts, ["modify c 2 100"]);
    answer(&mut desired, NOW, tags[0], Code::NotFound);
    expect(&mut desired, NOW, &["add c 3 100"]);
    // A server that began anew has nothing.
    desired.disconnected();
    desired.connected(2);
    expect(&mut desired, NOW, &["add c 4 100"]);
}

fn adopted(desired: &mut Desired, call: &str, port: u16) {
    let session = session(call, port);
    let content = Content::Flows(session.flows);
    let id = session.id;
    let spec = desired.terms.spec(&id, 5, &session.call_id, &content, 100);
    desired.listed(NOW, spec);
}

#[test]
fn adopted_sessions_stay_while_they_are_heard() {
    let mut desired = desired();
    adopted(&mut desired, "c", 4_000);
    let mut now = NOW;
    for last_ms in [Some(20), Some(9_000), None] {
        now = desired.next_deadline().unwrap();
        desired.tick(now);
        let questions = desired.questions();
        let [question @ Question::Heard(_)] = &questions[..] else {
            panic!("{questions:?}");
        };
        desired.answered(now, question, Answer::Heard { last_ms });
        if last_ms.is_some() {
            expect(&mut desired, now, &["modify c 5 100"]);
        }
    }
    // No packet for 30 s.
    while desired.standing().adopted > 0 {
        assert!(now < NOW + 90 * SECOND);
        for tag in sent(&mut desired, now).1 {
            answer(&mut desired, now, tag, Code::Ok);
        }
        now = desired.next_deadline().unwrap();
        desired.tick(now);
        for question in desired.questions() {
            desired.answered(now, &question, Answer::Heard { last_ms: None });
        }
    }
    assert!(sent(&mut desired, now).0.contains(&"delete c".to_owned()));
}

/// What is asked when something is due next, and when that is.
fn asked(desired: &mut Desired) -> (Micros, Vec<Question>) {
    let now = desired.next_deadline().unwrap();
    desired.tick(now);
    (now, desired.questions())
}

#[test]
fn a_call_without_a_bye_ends_when_its_wire_is_silent() {
    let mut desired = desired();
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    expect(&mut desired, NOW, &["add c 1 100"]);
    let heard = |last_ms| Answer::Heard { last_ms };
    let silent = Event::Silent(SessionId::known("c"), Arc::from(*b"c"));
    desired.events();
    // It talks: asked about once in a lease, and renewed.
    for _ in 0..3 {
        let before = desired.next_deadline().unwrap();
        let (now, questions) = asked(&mut desired);
        desired.answered(now, &questions[0], heard(Some(20)));
        expect(&mut desired, now, &["modify c 1 100"]);
        assert!(desired.next_deadline().unwrap() - before >= 40 * SECOND);
    }
    // Nobody can say: it stays.
    for answer in [Answer::None, heard(None)] {
        let (now, questions) = asked(&mut desired);
        desired.answered(now, &questions[0], answer);
        expect(&mut desired, now, &["modify c 1 100"]);
    }
    // Its lease does not run out while it is found out, which takes 30 s.
    let first = desired.next_deadline().unwrap();
    let mut now = first;
    loop {
        let (at, questions) = asked(&mut desired);
        now = at.max(now);
        assert!(matches!(questions[..], [Question::Heard(_)]));
        desired.answered(now, &questions[0], heard(None));
        if let [event] = &desired.events()[..] {
            assert_eq!(*event, silent);
            break;
        }
        expect(&mut desired, now, &["modify c 1 100"]);
        assert!(now - first < 60 * SECOND);
    }
    // On hold: it stays, and is asked about as seldom as any other.
    desired.may_be_silent(&SessionId::known("c"));
    expect(&mut desired, now, &["modify c 1 100"]);
    assert!(desired.next_deadline().unwrap() - now >= 40 * SECOND);
    let (now, questions) = asked(&mut desired);
    desired.answered(now, &questions[0], heard(Some(31_000)));
    assert_eq!(desired.events(), [silent]);
    desired.apply(now, remove("c"));
    expect(&mut desired, now, &["delete c"]);
}

/// A server explains 16 sessions a second at most: leases must not wait for that.
#[test]
fn leases_do_not_run_out_while_questions_wait() {
    const LIFETIME: Micros = 60 * SECOND;
    let mut desired = Desired::new(Settings {
        agent_id: "a".into(),
        service_class: v1::ServiceClass::Telephony,
        lifetime_s: 60,
    });
    desired.connected(1);
    for call in 0..1_000 {
        desired.apply(NOW, Change::Add(session(&format!("c{call}"), 4_000 + call)));
    }
    let mut renewed = HashMap::new();
    let mut waiting = VecDeque::new();
    let mut silent_at = None;
    for second in 0..600 {
        let now = NOW + second * SECOND;
        desired.tick(now);
        loop {
            let changes = desired.next_changes(now);
            if changes.is_empty() {
                break;
            }
            for change in changes {
                let (session_change::Change::Add(v1::AddSessionRequest { spec })
                | session_change::Change::Modify(v1::ModifySessionRequest { spec })) =
                    change.change.unwrap()
                else {
                    panic!("a session is deleted");
                };
                renewed.insert(spec.unwrap().key.unwrap().session_id, now);
                answer(&mut desired, now, change.tag, Code::Ok);
            }
        }
        assert!(renewed.len() == 1_000 && renewed.values().all(|last| now - last < LIFETIME));
        waiting.extend(desired.questions());
        assert!(waiting.len() <= exchange::LISTENING);
        for question in waiting.drain(..waiting.len().min(16)) {
            let last_ms = match question.key().session_id.as_str() {
                "c7" => second * 1_000,
                _ => 20,
            };
            let last_ms = Some(last_ms);
            desired.answered(now, &question, Answer::Heard { last_ms });
        }
        for event in desired.events() {
            if let Event::Silent(id, _) = event {
                assert_eq!(id, SessionId::known("c7"));
                silent_at.get_or_insert(second);
            }
        }
    }
    // 1,000 sessions, 16 a second.
    assert!(silent_at.is_some(), "it is never asked about");
}

#[test]
fn a_session_with_an_end_of_its_own_is_not_asked_about() {
    let mut desired = desired();
    let mut session = session("c", 4_000);
    session.lease = Lease::Until(NOW + 1_000 * SECOND);
    desired.apply(NOW, Change::Add(session));
    expect(&mut desired, NOW, &["add c 1 100"]);
    let (now, questions) = asked(&mut desired);
    assert_eq!(questions, []);
    expect(&mut desired, now, &["modify c 2 100"]);
}

#[test]
fn an_adopted_session_is_its_calls_again_or_makes_way() {
    let mut desired = desired();
    adopted(&mut desired, "c", 4_000);
    adopted(&mut desired, "d", 4_002);
    desired.apply(NOW, Change::Add(session("c", 4_010)));
    expect(&mut desired, NOW, &["modify c 6 100"]);
    // Another call has the ports of one whose BYE nobody saw.
    desired.apply(NOW, Change::Add(session("e", 4_002)));
    expect(&mut desired, NOW, &["delete d", "add e 1 100"]);
    adopted(&mut desired, "f", 4_004);
    let ended = session("f", 4_004);
    desired.apply(
        NOW,
        Change::Ended {
            id: ended.id,
            call_id: ended.call_id,
            tags: ended.tags,
        },
    );
    expect(&mut desired, NOW, &["delete f"]);
}

#[test]
fn a_reservation_becomes_its_calls_session_or_ends() {
    let mut desired = desired();
    let call_id: Arc<[u8]> = Arc::from(*b"c");
    let id = SessionId::of_offer(&call_id, b"a");
    let half = Half {
        end: ([10, 1, 0, 5], 4_000).into(),
        rate_bps: 80_000,
    };
    desired.reserve(NOW, id.clone(), &call_id, vec![half.clone()]);
    expect(&mut desired, NOW, &[&format!("add {id} 1 180")]);
    let verdict = Event::Verdict(id.clone(), Verdict::Reserved);
    assert_eq!(desired.events(), [verdict]);
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    expect(&mut desired, NOW, &[&format!("modify {id} 2 100")]);
    desired.release(&id);
    assert!(sent(&mut desired, NOW).0.is_empty(), "it is a call's");
    desired.apply(NOW, remove("c"));
    expect(&mut desired, NOW, &[&format!("delete {id}")]);

    desired.reserve(NOW, id.clone(), &call_id, vec![half.clone()]);
    let (_, tags) = sent(&mut desired, NOW);
    answer(&mut desired, NOW, tags[0], Code::ResourceExhausted);
    let refused = Verdict::Refused(Code::ResourceExhausted, "because".into());
    assert_eq!(
        desired.events().last(),
        Some(&Event::Verdict(id.clone(), refused))
    );
    sent(&mut desired, NOW);
    assert!(desired.entries.is_empty());

    // Nobody answers, and nobody deletes it.
    desired.reserve(NOW, id.clone(), &call_id, vec![half]);
    expect(&mut desired, NOW, &[&format!("add {id} 1 180")]);
    let due = NOW + 180 * SECOND;
    desired.tick(due - 1);
    assert!(sent(&mut desired, due).0.is_empty());
    desired.tick(due);
    expect(&mut desired, due, &[&format!("delete {id}")]);
}

/// The server asks about what its routers have heard nothing of.
#[test]
fn the_model_says_what_the_server_keeps_though_it_is_silent() {
    let mut desired = desired();
    let timed = Session {
        lease: Lease::Until(NOW + 90 * SECOND),
        ..session("timed", 4_100)
    };
    desired.apply(NOW, Change::Add(session("c", 4_000)));
    desired.apply(NOW, Change::Add(timed));
    expect(&mut desired, NOW, &["add c 1 100", "add timed 1 90"]);
    desired.events();
    let names = ["c", "timed", "no such"].map(str::to_owned);
    desired.asked(&names);
    // Its own end is near enough.
    assert_eq!(desired.kept(), ["timed"]);
    let silent = Event::Silent(SessionId::known("c"), Arc::from(*b"c"));
    assert_eq!(desired.events(), [silent]);
    desired.may_be_silent(&SessionId::known("c"));
    assert_eq!(desired.kept(), ["c"]);
    assert!(desired.kept().is_empty());
    // What could not be told is told with what comes later, once, while it is there.
    desired.keep_later(["timed", "c", "c", "gone"].map(str::to_owned).to_vec());
    desired.asked(&["timed".to_owned()]);
    let kept = desired.kept();
    desired.keep_later(kept);
    assert_eq!(desired.kept(), ["c", "timed"]);
}
