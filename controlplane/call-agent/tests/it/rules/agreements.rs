//! What offers and answers agree on: rules 1 to 4.

use super::{ANSWER, BACKWARD, Bench, FORWARD, OFFER, all, answered, both, sdp};

#[test]
fn rule_1_a_relay_has_a_pair_on_each_hop() {
    let mut bench = Bench::new();
    let hops = |a_port: u16, b_port: u16| {
        [
            both(&format!("10.1.0.5:{a_port}"), "10.9.0.1:30000"),
            both("10.9.0.1:30002", &format!("10.2.0.7:{b_port}")),
        ]
    };
    let invite = |cseq: u32, to: &str, via: &str, sdp: &str| {
        format!("INVITE\nF fa\nT {to}\nC c\nS {cseq} INVITE\nV {via}\n{sdp}")
    };
    let ok = |cseq: u32, via: &str, sdp: &str| {
        format!("200 OK\nF fa\nT tb\nC c\nS {cseq} INVITE\nV {via}\n{sdp}")
    };
    bench
        .say(&invite(1, "-", "a", &sdp("10.1.0.5", 4000)))
        .say(&invite(1, "-", "p a", &sdp("10.9.0.1", 30002)))
        .has(&[])
        .say(&ok(1, "p a", &sdp("10.2.0.7", 5000)))
        .has(&all(&hops(4000, 5000)[1..]))
        .say(&ok(1, "a", &sdp("10.9.0.1", 30000)))
        .has(&all(&hops(4000, 5000)))
        .told(&["add Answered", "modify Renegotiated"]);
    // A new exchange: the old pairs go when all hops are answered.
    bench
        .say(&invite(2, "tb", "b", &sdp("10.1.0.5", 4010)))
        .say(&invite(2, "tb", "q b", &sdp("10.9.0.1", 30002)))
        .say(&ok(2, "q b", &sdp("10.2.0.7", 5010)));
    let (old, new) = (hops(4000, 5000), hops(4010, 5010));
    bench
        .has(&all(&[old[0].clone(), old[1].clone(), new[1].clone()]))
        .say(&ok(2, "b", &sdp("10.9.0.1", 30000)))
        .has(&all(&new))
        .wait(400.0)
        .has(&all(&new));
    // One hop's answer is lost: after a second the rest replaces what it can.
    bench
        .say(&invite(3, "tb", "d", &sdp("10.1.0.5", 4010)))
        .say(&invite(3, "tb", "r d", &sdp("10.9.0.1", 30002)))
        .say(&ok(3, "r d", &sdp("10.2.0.7", 5020)))
        .wait(1.5)
        .has(&all(&[new[0].clone(), hops(4010, 5020)[1].clone()]));
}

#[test]
fn rule_1_without_a_relay_equal_pairs_are_one() {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV p a\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV p a\n{ANSWER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD])
        .told(&["add Answered"]);
}

#[test]
fn rule_1_a_delayed_offer_is_answered_in_the_ack() {
    let mut bench = Bench::new();
    bench
        .say("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a")
        .say("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV p a")
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV p a\n{ANSWER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{}",
            sdp("10.9.0.1", 30000)
        ))
        .has(&[])
        .say(&format!("ACK\nF fa\nT tb\nC c\nS 1 ACK\nV k\n{OFFER}"))
        .has(&all(&[both("10.1.0.5:4000", "10.9.0.1:30000")]))
        .say(&format!(
            "ACK\nF fa\nT tb\nC c\nS 1 ACK\nV l k\n{}",
            sdp("10.9.0.1", 30002)
        ))
        .has(&all(&[
            both("10.1.0.5:4000", "10.9.0.1:30000"),
            both("10.9.0.1:30002", "10.2.0.7:5000"),
        ]));
}

#[test]
fn rule_1_a_prack_answers_or_offers() {
    // The offer in a reliable 183, the answer in its PRACK.
    let mut bench = Bench::new();
    bench
        .say("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a")
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\nRSeq: 1\n{ANSWER}"
        ))
        .say(&format!(
            "PRACK\nF fa\nT tb\nC c\nS 2 PRACK\nRAck: 1 1 INVITE\nV b\n{OFFER}"
        ))
        .has(&[FORWARD, BACKWARD])
        .say("200 OK\nF fa\nT tb\nC c\nS 2 PRACK\nV b")
        .say("200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .has(&[FORWARD, BACKWARD])
        .told(&["add EarlyMedia"]);
    // A second offer in the PRACK, answered in its 200.
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\nRSeq: 1\n{ANSWER}"
        ))
        .say(&format!(
            "PRACK\nF fa\nT tb\nC c\nS 2 PRACK\nRAck: 1 1 INVITE\nV b\n{}",
            sdp("10.1.0.5", 4008)
        ))
        .has(&[FORWARD, BACKWARD])
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 PRACK\nV b\n{}",
            sdp("10.2.0.7", 5008)
        ))
        .has(&all(&[both("10.1.0.5:4008", "10.2.0.7:5008")]))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .has(&all(&[both("10.1.0.5:4008", "10.2.0.7:5008")]));
}

#[test]
fn rule_1_an_update_changes_an_early_dialog() {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        // From the callee, with numbers of its own.
        .say(&format!(
            "UPDATE\nF tb\nT fa\nC c\nS 1 UPDATE\nV u\n{}",
            sdp("10.2.0.7", 5002)
        ))
        .has(&[FORWARD, BACKWARD])
        .say(&format!(
            "200 OK\nF tb\nT fa\nC c\nS 1 UPDATE\nV u\n{OFFER}"
        ))
        .has(&all(&[both("10.1.0.5:4000", "10.2.0.7:5002")]))
        .say("200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a")
        .wait(500.0)
        .has(&all(&[both("10.1.0.5:4000", "10.2.0.7:5002")]))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .has(&all(&[both("10.1.0.5:4000", "10.2.0.7:5002")]));
    assert_eq!(bench.model.counters().late, 1);
}

#[test]
fn rule_3_any_order_and_twice() {
    let mut bench = Bench::new();
    let invite = format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}");
    let ok = format!("200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}");
    bench
        .say(&ok)
        .say(&ok)
        .has(&[])
        .say(&invite)
        .say(&invite)
        .say(&ok);
    bench.has(&[FORWARD, BACKWARD]).told(&["add Answered"]);
    // BYE and its 200 overtake a late 200.
    let mut bench = Bench::new();
    bench
        .say(&invite)
        .say("200 OK\nF fa\nT tb\nC c\nS 2 BYE\nV b")
        .say("BYE\nF fa\nT tb\nC c\nS 2 BYE\nV b")
        .say(&ok)
        .has(&[])
        .wait(400.0)
        .has(&[]);
    assert_eq!(bench.model.calls(), 0);
}

#[test]
fn rule_4_early_media_is_added_and_refusals_keep_the_old() {
    let mut bench = answered();
    for code in [401, 407, 488, 491, 500] {
        bench
            .say(&format!(
                "INVITE\nF tb\nT fa\nC c\nS {code} INVITE\nV r{code}\n{}",
                sdp("10.2.0.7", 5900)
            ))
            .say(&format!(
                "{code} X\nF tb\nT fa\nC c\nS {code} INVITE\nV r{code}"
            ))
            .has(&[FORWARD, BACKWARD]);
    }
    // Glare: each side's re-INVITE gets 491.
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 7 INVITE\nV g1\n{}",
            sdp("10.1.0.5", 4900)
        ))
        .say(&format!(
            "INVITE\nF tb\nT fa\nC c\nS 907 INVITE\nV g2\n{}",
            sdp("10.2.0.7", 5900)
        ))
        .say("491 X\nF fa\nT tb\nC c\nS 7 INVITE\nV g1")
        .say("491 X\nF tb\nT fa\nC c\nS 907 INVITE\nV g2")
        .has(&[FORWARD, BACKWARD])
        .wait(1_000.0)
        .has(&[FORWARD, BACKWARD])
        .told(&["add Answered"]);
    // Early media of a re-INVITE stands beside the old until the end.
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 8 INVITE\nV e\n{OFFER}"
        ))
        .say(&format!(
            "183 X\nF fa\nT tb\nC c\nS 8 INVITE\nV e\n{}",
            sdp("10.2.0.7", 5800)
        ))
        .has(&all(&[
            both("10.1.0.5:4000", "10.2.0.7:5000"),
            both("10.1.0.5:4000", "10.2.0.7:5800"),
        ]))
        .say("486 X\nF fa\nT tb\nC c\nS 8 INVITE\nV e")
        .has(&[FORWARD, BACKWARD]);
}
