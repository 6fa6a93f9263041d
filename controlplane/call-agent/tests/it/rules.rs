//! The rules of the call model, each by its number, on messages written as briefly as they can be.

use std::time::Duration;

use voicelane_call_agent::{
    call::{Feed, Lease, Limits, Micros, Model, NgMedia},
    ng,
    rate::Configured,
    sip,
};

use crate::server::Server;

/// One call's messages, and what the server was told of it.
struct Bench {
    model: Model,
    now: Micros,
    feed: Feed,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            model: Model::new(Configured::default(), limits, 7),
            now: 1_000_000_000,
            feed: Feed::default(),
            server: Server::default(),
        }
    }

    /// `text`: start line, then headers and body with bare line feeds. From, To, Call-ID, CSeq and Via
    /// are written as `F fa`, `T tb`, `C c1`, `S 1 INVITE`, `V z9hG4bKa`.
    fn say(&mut self, text: &str) -> &mut Self {
        let text = expand(text);
        let message =
            sip::read(text.as_bytes()).unwrap_or_else(|refused| panic!("{refused}: {text}"));
        self.now += 20_000;
        self.model.sip(self.now, &self.feed, &message);
        self.drain();
        self
    }

    fn wait(&mut self, seconds: f64) -> &mut Self {
        let micros = Duration::from_secs_f64(seconds).as_micros();
        self.now += Micros::try_from(micros).unwrap();
        self.model.tick(self.now);
        self.drain();
        self
    }

    fn drain(&mut self) {
        self.server.take(self.model.changes());
    }

    /// The server says that nothing is heard of its one session; whether that ends it.
    fn silence(&mut self) -> bool {
        let id = self.server.sessions().next().unwrap().id.clone();
        let ended = self.model.silent(self.now, b"c", &id);
        self.drain();
        ended
    }

    fn flows(&self) -> Vec<String> {
        self.server.flows()
    }

    #[track_caller]
    fn has(&mut self, expected: &[&str]) -> &mut Self {
        let mut expected: Vec<_> = expected.iter().map(|flow| (*flow).to_owned()).collect();
        expected.sort();
        assert_eq!(self.flows(), expected, "{:?}", self.server.told);
        self
    }

    #[track_caller]
    fn told(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(self.server.told, expected);
        self
    }
}

fn expand(text: &str) -> String {
    let mut out = String::new();
    for (at, line) in text.trim_start().split('\n').enumerate() {
        let line = line.trim_start();
        let expanded = match line.split_once(' ') {
            Some(("F", "-")) => "From: <sip:a@x>".into(),
            Some(("F", tag)) => format!("From: <sip:a@x>;tag={tag}"),
            Some(("T", "-")) => "To: <sip:b@x>".into(),
            Some(("T", tag)) => format!("To: <sip:b@x>;tag={tag}"),
            Some(("C", id)) => format!("Call-ID: {id}"),
            Some(("S", cseq)) => format!("CSeq: {cseq}"),
            Some(("V", branches)) => branches
                .split(' ')
                .map(|branch| format!("Via: SIP/2.0/UDP h;branch=z9hG4bK{branch}"))
                .collect::<Vec<_>>()
                .join("\r\n"),
            _ if at == 0 && line.starts_with(|first: char| first.is_ascii_digit()) => {
                format!("SIP/2.0 {line}")
            }
            _ if at == 0 => format!("{line} sip:b@x SIP/2.0"),
            _ => line.into(),
        };
        out += &expanded;
        out += "\r\n";
    }
    out += "\r\n";
    out
}

const OFFER: &str = "\nv=0\nc=IN IP4 10.1.0.5\nm=audio 4000 RTP/AVP 8";
const ANSWER: &str = "\nv=0\nc=IN IP4 10.2.0.7\nm=audio 5000 RTP/AVP 8";
const FORWARD: &str = "10.1.0.5:4000 > 10.2.0.7:5000 80000 next";
const BACKWARD: &str = "10.2.0.7:5000 > 10.1.0.5:4000 80000 next";

fn sdp(ip: &str, port: u16) -> String {
    format!("\nv=0\nc=IN IP4 {ip}\nm=audio {port} RTP/AVP 8")
}

fn both(a: &str, b: &str) -> [String; 2] {
    [
        format!("{a} > {b} 80000 next"),
        format!("{b} > {a} 80000 next"),
    ]
}

fn all(pairs: &[[String; 2]]) -> Vec<&str> {
    pairs.iter().flatten().map(String::as_str).collect()
}

fn answered() -> Bench {
    let mut bench = Bench::new();
    bench
        .say(&format!("INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n{OFFER}"))
        .has(&[])
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD])
        .say("ACK\nF fa\nT tb\nC c\nS 1 ACK\nV k");
    bench
}

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
    let groups: Vec<_> = bench
        .server
        .sessions()
        .map(|session| session.group)
        .collect();
    assert_eq!(groups[0], groups[1]);
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

/// One exchange of these two SDPs.
fn exchange(offer: &str, answer: &str) -> Bench {
    let mut bench = Bench::new();
    bench
        .say(&format!(
            "INVITE\nF fa\nT -\nC c\nS 1 INVITE\nV a\n\nv=0\nc=IN IP4 10.1.0.5\n{offer}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 1 INVITE\nV a\n\nv=0\nc=IN IP4 10.2.0.7\n{answer}"
        ));
    bench
}

#[test]
fn rule_11_rtcp_is_multiplexed_only_if_both_say_so() {
    let offer = "m=audio 4000 RTP/AVP 8\na=rtcp-mux\na=rtcp:4100";
    exchange(offer, "m=audio 5000 RTP/AVP 8\na=rtcp-mux").has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 mux",
    ]);
    exchange(offer, "m=audio 5000 RTP/AVP 8").has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 10.1.0.5:4100/10.2.0.7:5001",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 10.2.0.7:5001/10.1.0.5:4100",
    ]);
    exchange(
        "m=audio 4000 RTP/AVP 8\na=rtcp:4001",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[FORWARD, BACKWARD]);
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    exchange(
        "c=IN IP6 ::ffff:10.1.0.5\nm=audio 4000 RTP/AVP 8",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[FORWARD, BACKWARD]);
}

#[test]
fn rule_12_a_bundle_is_one_flow() {
    let offer = "a=group:BUNDLE 0 1\nm=audio 4000 RTP/AVP 8\na=mid:0\na=rtcp-mux\n\
        m=video 0 RTP/AVP 96\nb=AS:500\na=mid:1\na=bundle-only\na=rtcp-mux";
    let both = [
        "10.1.0.5:4000 > 10.2.0.7:5000 380000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 580000 mux",
    ];
    let answer = |port: u16, group: &str| {
        format!(
            "{group}m=audio 5000 RTP/AVP 8\na=mid:0\na=rtcp-mux\nm=video {port} RTP/AVP 96\nb=AS:300\na=mid:1\na=rtcp-mux"
        )
    };
    exchange(offer, &answer(5000, "a=group:BUNDLE 0 1\n")).has(&both);
    exchange(offer, &answer(0, "a=group:BUNDLE 0 1\n")).has(&both);
    // Not taken into the bundle, so refused.
    exchange(offer, &answer(0, "a=group:BUNDLE 0\n")).has(&[
        "10.1.0.5:4000 > 10.2.0.7:5000 80000 mux",
        "10.2.0.7:5000 > 10.1.0.5:4000 80000 mux",
    ]);
}

#[test]
fn rule_13_not_yet_keeps_what_was() {
    exchange(
        "c=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 8",
        "m=audio 5000 RTP/AVP 8",
    )
    .has(&[]);
    let mut bench = answered();
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            sdp("0.0.0.0", 4000)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{ANSWER}"
        ))
        .wait(100.0)
        .has(&[FORWARD, BACKWARD])
        .told(&["add Answered"]);
}

#[test]
fn rule_14_hold_keeps_the_flows() {
    for (offer, answer) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
        let mut bench = answered();
        bench
            .say(&format!(
                "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{OFFER}\na={offer}"
            ))
            .say(&format!(
                "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{ANSWER}\na={answer}"
            ))
            .has(&[FORWARD, BACKWARD]);
        let session = bench.server.sessions().next().unwrap();
        assert_eq!(session.lease, Lease::WhileHeard { held: true });
        assert!(!bench.silence());
        bench.has(&[FORWARD, BACKWARD]);
    }
}

#[test]
fn rule_15_a_port_of_0_removes_a_stream() {
    let mut bench = answered();
    let two = |ip: &str, audio: u16, video: u16| {
        format!(
            "\nv=0\nc=IN IP4 {ip}\nm=audio {audio} RTP/AVP 8\nm=video {video} RTP/AVP 96\nb=AS:100"
        )
    };
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            two("10.1.0.5", 4000, 4002)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 2 INVITE\nV h\n{}",
            two("10.2.0.7", 5000, 5002)
        ));
    assert_eq!(bench.flows().len(), 4);
    bench
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 3 INVITE\nV i\n{}",
            two("10.1.0.5", 4000, 0)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 3 INVITE\nV i\n{}",
            two("10.2.0.7", 5000, 0)
        ))
        .has(&[FORWARD, BACKWARD])
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 4 INVITE\nV j\n{}",
            two("10.1.0.5", 4000, 0)
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 4 INVITE\nV j\n{}",
            two("10.2.0.7", 0, 0)
        ))
        .has(&[])
        .say(&format!(
            "INVITE\nF fa\nT tb\nC c\nS 5 INVITE\nV k\n{OFFER}"
        ))
        .say(&format!(
            "200 OK\nF fa\nT tb\nC c\nS 5 INVITE\nV k\n{ANSWER}"
        ))
        .has(&[FORWARD, BACKWARD]);
}

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
