//! What ends a call, and what replaces it: rules 5 to 9.

use voicelane_call_agent::call::Lease;

use super::{ANSWER, BACKWARD, Bench, FORWARD, OFFER, all, answered, both, sdp};

#[test]
fn rule_5_what_ends_a_call_and_what_does_not() {
    let bye = "BYE\nF fa\nT tb\nC c\nS 2 BYE\nV b";
    for code in [200, 202, 408, 481] {
        answered()
            .say(bye)
            .has(&[FORWARD, BACKWARD])
            .say(&format!("{code} X\nF fa\nT tb\nC c\nS 2 BYE\nV b"))
            .has(&[]);
    }
    for code in [401, 407] {
        let mut bench = answered();
        bench
            .say(bye)
            .say(&format!("{code} X\nF fa\nT tb\nC c\nS 2 BYE\nV b"))
            .wait(100.0)
            .has(&[FORWARD, BACKWARD])
            .say("BYE\nF fa\nT tb\nC c\nS 3 BYE\nV b2")
            .say("200 OK\nF fa\nT tb\nC c\nS 3 BYE\nV b2")
            .has(&[]);
    }
    let mut bench = answered();
    bench
        .say(bye)
        .say("100 Trying\nF fa\nT tb\nC c\nS 2 BYE\nV b")
        .wait(4.5)
        .has(&[FORWARD, BACKWARD])
        .wait(0.6)
        .has(&[])
        .told(&["add Answered", "remove ByeUnanswered"]);
    // A straggler does not bring it back.
    bench
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .has(&[])
        .wait(400.0);
    assert_eq!(bench.model.calls(), 0);
}

#[test]
fn rule_6_cancel_ends_nothing_by_itself() {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .say("CANCEL\nF fa\nT -\nC c\nS 1 CANCEL\nV a")
        .say("200 OK\nF fa\nT tb\nC c\nS 1 CANCEL\nV a")
        .has(&[FORWARD, BACKWARD])
        .say("487 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .has(&[])
        .told(&["add EarlyMedia", "remove Refused"]);
    assert_eq!(bench.model.counters().of_no_interest, 2);
}

#[test]
fn rule_6_a_proxys_own_refusal_ends_what_is_behind_it() {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV p a\n{OFFER}"
        ))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV p a\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD])
        // The callee's own 487 was lost; the proxy's has another tag.
        .say("487 X\nF fa\nT proxy\nC c\nS 1 INVITE\nV a")
        .has(&[]);
    // One of two branches fails, the other goes on.
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV p a\n{OFFER}"
        ))
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV q a\n{OFFER}"
        ))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV p a\n{ANSWER}"
        ))
        .say(&format!(
            "183 X\nF fa\nT tc\nC c\nS 1 INVITE\nV q a\n{}",
            sdp("10.2.0.8", 6000)
        ))
        .say("486 X\nF fa\nT tc\nC c\nS 1 INVITE\nV q a")
        .has(&[FORWARD, BACKWARD])
        .say("199 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .has(&[]);
}

#[test]
fn rule_6_a_refusal_ends_an_early_dialog_whatever_it_agreed() {
    let early = || {
        let mut bench = Bench::new();
        bench
            .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
            .say(&format!(
                "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
            ))
            .say(&format!(
                "UPDATE\nF fa\nT tb\nC c\nS 2 UPDATE\nV u\n{}",
                sdp("10.1.0.5", 4002)
            ))
            .say(&format!(
                "200 OK\nF fa\nT tb\nC c\nS 2 UPDATE\nV u\n{ANSWER}"
            ))
            .has(&all(&[both("10.1.0.5:4002", "10.2.0.7:5000")]));
        bench
    };
    early()
        .say("486 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .has(&[]);
    early()
        .say("487 X\nF fa\nT proxy\nC c\nS 1 INVITE\nV a")
        .has(&[]);
    early()
        .say("199 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .has(&[]);
    // The next INVITE is a call of its own, even if the callee uses its tag again.
    early()
        .say("401 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 3 INVITE\nV a3\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 3 INVITE\nV a3\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD]);
}

#[test]
fn rule_7_forks_stand_side_by_side_until_one_is_answered() {
    let mut bench = Bench::new();
    let other = both("10.1.0.5:4000", "10.2.0.8:6000");
    let first = both("10.1.0.5:4000", "10.2.0.7:5000");
    let early = |tag: &str, sdp: &str| format!("183 X\nF fa\nT {tag}\nC c\nS 1 INVITE\nV a\n{sdp}");
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&early("tb", ANSWER))
        .say(&early("tc", &sdp("10.2.0.8", 6000)))
        .has(&all(&[first.clone(), other.clone()]));
    bench
        .say(&early("tc", &sdp("10.2.0.8", 6000)).replace("183", "200"))
        .has(&all(std::slice::from_ref(&other)))
        .say(&early("tb", ANSWER))
        .say(&early("td", &sdp("10.2.0.9", 7000)))
        .has(&all(std::slice::from_ref(&other)))
        // Both answer: both stand until the caller hangs one up.
        .say(&early("tb", ANSWER).replace("183", "200"))
        .has(&all(&[first, other.clone()]))
        .say("BYE\nF fa\nT tb\nC c\nS 2 BYE\nV b")
        .say("200 OK\nF fa\nT tb\nC c\nS 2 BYE\nV b")
        .has(&all(&[other]));
}

#[test]
fn rule_8_leases_follow_session_expires() {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\nSession-Expires: 90;refresher=uac\n{ANSWER}"
        ))
        .wait(80.0)
        .say("UPDATE\nF fa\nT tb\nC c\nS 2 UPDATE\nV u")
        .say("200 OK\nF fa\nT tb\nC c\nS 2 UPDATE\nV u\nx: 90")
        .wait(80.0)
        .say("INVITE\nF tb\nT fa\nC c\nS 1 INVITE\nV r")
        .say("200 OK\nF tb\nT fa\nC c\nS 1 INVITE\nV r\nx: 90")
        .wait(121.0)
        .has(&[FORWARD, BACKWARD])
        .wait(2.0)
        .has(&[])
        .told(&["add Answered", "renew", "renew", "remove Expired"]);
    // Without one, silence reaps, which the server hears.
    let mut bench = answered();
    bench.wait(1_000_000.0).has(&[FORWARD, BACKWARD]);
    let session = bench.server.sessions().next().unwrap();
    assert_eq!(session.lease, Lease::WhileHeard { held: false });
    assert!(bench.silence());
    bench.has(&[]).wait(100.0);
    assert_eq!(bench.model.calls(), 0);
    // A call that rings may be silent.
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ));
    assert!(!bench.silence());
    bench.has(&[FORWARD, BACKWARD]);
    // Nor does silence end what Session-Expires ends.
    bench
        .say("200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\nx: 90")
        .has(&[FORWARD, BACKWARD]);
    assert!(!bench.silence());
    bench.has(&[FORWARD, BACKWARD]);
}

#[test]
fn rule_9_the_newer_call_wins_a_five_tuple() {
    let mut bench = answered();
    bench
        .say(&format!(
            "INVITE\nF f2\nT -\nC d\nS 1 INVITE\nV a2\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF f2\nT t2\nC d\nS 1 INVITE\nV a2\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD])
        .told(&["add Answered", "remove Superseded", "add Answered"])
        // The older call's refresh does not take it back, nor does its end.
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV r\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV r\n{ANSWER}"
        ))
        .say("BYE\nF fa\nT tb\nC c\nS 3 BYE\nV b")
        .say("200 OK\nF fa\nT tb\nC c\nS 3 BYE\nV b")
        .has(&[FORWARD, BACKWARD])
        .say("BYE\nF f2\nT t2\nC d\nS 3 BYE\nV b2")
        .say("200 OK\nF f2\nT t2\nC d\nS 3 BYE\nV b2")
        .has(&[]);
    assert_eq!(bench.model.counters().lost, 2);
}
