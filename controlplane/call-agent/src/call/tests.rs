//! The rules, each by its number, on messages written as briefly as they can be.

use std::{collections::HashMap, time::Duration};

use super::*;
use crate::{ng, sip};

mod rules;

/// One call's messages, and what the server was told of it.
struct Bench {
    model: Model,
    now: Micros,
    feed: Feed,
    told: Vec<Change>,
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
            told: Vec::new(),
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
        self.told.extend(self.model.changes());
    }

    /// What the server has by now: `SOURCE > DESTINATION RATE RTCP`, as the shared cases write it.
    fn flows(&self) -> Vec<String> {
        flows_of(&self.told)
    }

    #[track_caller]
    fn has(&mut self, expected: &[&str]) -> &mut Self {
        let mut expected: Vec<_> = expected.iter().map(|flow| (*flow).to_owned()).collect();
        expected.sort();
        assert_eq!(self.flows(), expected, "{:#?}", self.told);
        self
    }

    #[track_caller]
    fn told(&mut self, expected: &[&str]) -> &mut Self {
        let told: Vec<_> = self.told.iter().map(name).collect();
        assert_eq!(told, expected, "{:#?}", self.told);
        self
    }
}

fn name(change: &Change) -> String {
    match change {
        Change::Add(session) => format!("add {:?}", session.why),
        Change::Modify(session) => format!("modify {:?}", session.why),
        Change::Renew { .. } => "renew".into(),
        Change::Remove { why, .. } => format!("remove {why:?}"),
        Change::NotPlaced { streams, .. } => format!("{}", streams[0].reason),
    }
}

/// Applies changes as a server would, strictly.
fn flows_of(changes: &[Change]) -> Vec<String> {
    let mut sessions = HashMap::new();
    for change in changes {
        match change {
            Change::Add(session) => {
                assert!(
                    sessions.insert(&session.id, session).is_none(),
                    "added twice"
                );
            }
            Change::Modify(session) => {
                assert!(
                    sessions.insert(&session.id, session).is_some(),
                    "modified, not added"
                );
            }
            Change::Remove { id, .. } => {
                assert!(sessions.remove(id).is_some(), "removed, not added")
            }
            Change::Renew { id, .. } => assert!(sessions.contains_key(id), "renewed, not added"),
            Change::NotPlaced { .. } => {}
        }
    }
    let mut flows: Vec<_> = sessions
        .values()
        .flat_map(|session| &session.flows)
        .map(|flow| {
            let source = match flow.source {
                Source::Fixed(source) => source.to_string(),
                Source::Learned { hint } => format!("learned {hint:?}"),
            };
            let rtcp = match &flow.rtcp {
                Rtcp::NextPort => "next".into(),
                Rtcp::Mux => "mux".into(),
                Rtcp::None => "none".into(),
                Rtcp::Explicit(ends) => format!("{}/{}", ends.source, ends.destination),
            };
            format!("{source} > {} {} {rtcp}", flow.destination, flow.rate_bps)
        })
        .collect();
    flows.sort();
    let count = flows.len();
    let mut tuples: Vec<_> = flows
        .iter()
        .map(|flow| flow.rsplitn(3, ' ').last())
        .collect();
    tuples.dedup();
    assert_eq!(tuples.len(), count, "a five-tuple twice");
    flows
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
