//! Where messages come from: rule 16, ng, and floods.

use voicelane_call_agent::{
    call::{Limits, NgMedia},
    ng, sip,
};

use super::{ANSWER, BACKWARD, Bench, FORWARD, OFFER, all, both, exchange, expand, sdp};

#[test]
fn rule_16_behind_a_nat_the_source_is_learned() {
    let invite = format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}");
    let forwarded = format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV p a\n{OFFER}");
    let ok = format!(
        "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{}",
        sdp("198.51.100.7", 5000)
    );
    let expected = "learned (203.0.113.9) > 198.51.100.7:5000 80000 next";
    // The caller's signalling comes from a public address.
    let mut bench = Bench::new();
    bench.feed.source = Some("203.0.113.9:5060".parse().unwrap());
    bench.feed.destination = Some("198.51.100.1:5060".parse().unwrap());
    bench.say(&invite);
    bench.feed.source = Some("198.51.100.1:5060".parse().unwrap());
    bench.say(&forwarded).say(&ok).has(&[expected]).told(&[
        "add Answered",
        "not placed: behind NAT (signalling comes from 203.0.113.9)",
    ]);
    // Only the server's `received` tells.
    let mut bench = Bench::new();
    let text = expand(&forwarded).replace("bKa\r\n", "bKa;received=203.0.113.9\r\n");
    bench
        .model
        .sip(bench.now, &bench.feed, &sip::read(text.as_bytes()).unwrap());
    bench.say(&ok.replace("V a", "V p a")).has(&[expected]);
    // An address that lies tells nothing.
    let mut bench = Bench::new();
    bench.feed.source = Some("198.51.100.1:5060".parse().unwrap());
    bench.feed.destination = bench.feed.source;
    bench.say(&invite).say(&ok);
    assert_eq!(bench.flows().len(), 2);
    // A private network without NAT, behind a server with a public address.
    let mut bench = Bench::new();
    bench.feed.source = Some("10.1.0.5:5060".parse().unwrap());
    bench.say(&invite);
    bench.feed.source = Some("198.51.100.1:5060".parse().unwrap());
    bench.say(&forwarded);
    bench.feed.source = Some("10.2.0.7:5060".parse().unwrap());
    bench.say(&format!(
        "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV p a\n{ANSWER}"
    ));
    bench.feed.source = Some("198.51.100.1:5060".parse().unwrap());
    bench
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD]);
}

#[test]
fn rule_16_ng_says_where_signalling_comes_from() {
    let run = |received_from: &str, relayed: bool| {
        let (a, b) = (sdp("10.1.0.5", 4000), sdp("198.51.100.7", 5000));
        let (to_b, to_a) = (sdp("10.9.0.1", 30002), sdp("10.9.0.1", 30000));
        let command = |sdp: &str, from: Option<&str>, to_tag: Option<&'static str>| ng::Media {
            dialog: ng::Dialog {
                call_id: b"c".as_slice().into(),
                from_tag: b"fa".as_slice().into(),
                to_tag: to_tag.map(|tag| tag.as_bytes().into()),
                via_branch: None,
            },
            sdp: sdp.as_bytes().to_vec().into(),
            received_from: from.map(|from| from.parse().unwrap()),
        };
        let relay = |sdp: &'static str| relayed.then_some(sdp.as_bytes());
        let offer = command(&a, Some(received_from), None);
        let answer = command(&b, Some("198.51.100.7"), Some("tb"));
        let mut bench = Bench::new();
        bench.model.ng_offer(
            bench.now,
            &NgMedia {
                command: &offer,
                relayed: relay(to_b.leak()),
            },
        );
        bench.model.ng_answer(
            bench.now,
            &NgMedia {
                command: &answer,
                relayed: relay(to_a.leak()),
            },
        );
        bench.drain();
        bench.flows()
    };
    assert_eq!(
        run("203.0.113.9", false),
        ["learned (203.0.113.9) > 198.51.100.7:5000 80000 next"]
    );
    let mut direct: Vec<_> = both("10.1.0.5:4000", "198.51.100.7:5000").into();
    direct.sort();
    assert_eq!(run("10.1.0.5", false), direct);
    // The relay's own addresses are not behind the caller's NAT.
    let mut relayed = vec!["learned (203.0.113.9) > 10.9.0.1:30000 80000 next".to_owned()];
    relayed.extend(both("10.9.0.1:30002", "198.51.100.7:5000"));
    relayed.sort();
    assert_eq!(run("203.0.113.9", true), relayed);
}

#[test]
fn ng_makes_the_same_sessions() {
    fn command<'a>(to_tag: Option<&'a str>, sdp: &'a str) -> ng::Media<'a> {
        ng::Media {
            dialog: ng::Dialog {
                call_id: b"c".as_slice().into(),
                from_tag: b"fa".as_slice().into(),
                to_tag: to_tag.map(|tag| tag.as_bytes().into()),
                via_branch: None,
            },
            sdp: sdp.as_bytes().into(),
            received_from: None,
        }
    }
    fn media<'a>(command: &'a ng::Media<'a>, relayed: Option<&'a [u8]>) -> NgMedia<'a> {
        NgMedia { command, relayed }
    }
    let (a, b) = (sdp("10.1.0.5", 4000), sdp("10.2.0.7", 5000));
    let (to_b, to_a) = (sdp("10.9.0.1", 30002), sdp("10.9.0.1", 30000));
    let offer = command(None, &a);
    let answer = command(Some("tb"), &b);
    // As the end.
    let mut bench = Bench::new();
    bench.model.ng_offer(bench.now, &media(&offer, None));
    bench.model.ng_answer(bench.now, &media(&answer, None));
    bench.drain();
    bench.has(&[FORWARD, BACKWARD]);
    assert!(bench.model.ng_delete(bench.now, &offer.dialog));
    assert!(!bench.model.ng_delete(bench.now, &offer.dialog));
    bench.drain();
    bench.has(&[]).wait(500.0);
    assert_eq!(bench.model.calls(), 0);
    // In the middle: four flows; a later offer replaces them.
    let mut bench = Bench::new();
    for port in [5000, 5002] {
        let b = sdp("10.2.0.7", port);
        let answer = command(Some("tb"), &b);
        bench
            .model
            .ng_offer(bench.now, &media(&offer, Some(to_b.as_bytes())));
        bench
            .model
            .ng_answer(bench.now, &media(&answer, Some(to_a.as_bytes())));
        bench.wait(0.1).has(&all(&[
            both("10.1.0.5:4000", "10.9.0.1:30000"),
            both("10.9.0.1:30002", &format!("10.2.0.7:{port}")),
        ]));
    }
}

#[test]
fn a_session_has_no_more_flows_than_the_server_takes() {
    let streams = |from: u32| {
        let line = |at: u32| format!("m=video {} RTP/AVP 96\n", from + at * 2);
        (0..19).map(line).collect::<String>() + &format!("m=audio {} RTP/AVP 8", from + 100)
    };
    let mut bench = exchange(&streams(4000), &streams(5000));
    let flows = bench.flows();
    assert_eq!(flows.len(), 32);
    assert_eq!(
        flows.iter().filter(|flow| flow.contains(" 80000 ")).count(),
        2
    );
    bench.told(&[
        "add Answered",
        "not placed: more than 32 flows in one session",
    ]);
}

#[test]
fn a_flood_of_invites_costs_counters() {
    let mut bench = Bench::with(Limits {
        calls: 100,
        half_open: 50,
    });
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ));
    for call in 0..2_000 {
        bench.say(&format!(
            "INVITE\nF fa\nT -\nC {call}\nS 1 INVITE\nV a\n{OFFER}"
        ));
    }
    bench.has(&[FORWARD, BACKWARD]);
    assert_eq!(bench.model.calls(), 51);
    assert_eq!(bench.model.counters().evicted, 1_950);
    bench.wait(301.0);
    assert_eq!(bench.model.calls(), 1);
    // Answered calls are never given up for new ones.
    for call in 0..200 {
        bench
            .say(&format!(
                "INVITE\nF fa\nT -\nC a{call}\nS 1 INVITE\nV a\n{}",
                sdp("10.1.0.5", 10_000 + call)
            ))
            .say(&format!(
                "200 OK\nF fa\nT tb\nC a{call}\nS 1 INVITE\nV a\n{ANSWER}"
            ));
    }
    assert_eq!(bench.model.calls(), 100);
    assert!(bench.model.counters().calls_full > 0);
    assert_eq!(bench.flows().len(), 200);
}
