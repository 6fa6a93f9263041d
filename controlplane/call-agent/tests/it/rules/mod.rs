//! The rules of the call model, each by its number, on messages written as briefly as they can be.

use std::time::Duration;

use voicelane_call_agent::{
    call::{Feed, Limits, Micros, Model},
    rate::Configured,
    sip,
};

use crate::server::Server;

mod agreements;
mod ends;
mod sources;
mod streams;

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
