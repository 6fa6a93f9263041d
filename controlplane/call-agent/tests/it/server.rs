//! A QoS server that takes changes strictly: what is added is new, what is changed is there, and no
//! five-tuple is in two sessions.

use std::collections::HashMap;

use voicelane_call_agent::call::{Change, Rtcp, Session, SessionId, Source};

#[derive(Default)]
pub(crate) struct Server {
    sessions: HashMap<SessionId, Session>,
    /// Each change in a few words.
    pub(crate) told: Vec<String>,
}

impl Server {
    #[track_caller]
    pub(crate) fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            if !matches!(change, Change::Ended { .. }) {
                self.told.push(name(&change));
            }
            match change {
                Change::Add(session) => {
                    self.check(&session);
                    let old = self.sessions.insert(session.id.clone(), session);
                    assert!(old.is_none(), "added twice: {old:?}");
                }
                Change::Modify(session) => {
                    self.check(&session);
                    let old = self.sessions.insert(session.id.clone(), session);
                    assert!(old.is_some(), "modified, but never added");
                }
                Change::Remove { id, why } => {
                    let old = self.sessions.remove(&id);
                    assert!(old.is_some(), "removed ({why:?}), but never added");
                }
                Change::Renew { id, .. } => assert!(self.sessions.contains_key(&id)),
                Change::Ended { id, .. } => assert!(!self.sessions.contains_key(&id)),
                Change::NotPlaced { .. } => {}
            }
        }
    }

    #[track_caller]
    fn check(&self, session: &Session) {
        assert!((1..=32).contains(&session.flows.len()), "{session:?}");
        assert!((1..=128).contains(&session.id.as_str().len()));
        for (at, flow) in session.flows.iter().enumerate() {
            let tuple = (flow.source, flow.destination);
            let same = |other: &voicelane_call_agent::call::Flow| {
                (other.source, other.destination) == tuple
            };
            assert!(!session.flows[at + 1..].iter().any(same), "twice: {flow:?}");
            let others = self.sessions.values().filter(|of| of.id != session.id);
            for other in others {
                assert!(!other.flows.iter().any(same), "{flow:?} is in {}", other.id);
            }
        }
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// `SOURCE > DESTINATION RATE RTCP` of all flows, sorted.
    pub(crate) fn flows(&self) -> Vec<String> {
        let mut flows: Vec<_> = self
            .sessions
            .values()
            .flat_map(|session| session.flows.iter())
            .map(|flow| {
                let source = match flow.source {
                    Source::Fixed(source) => text(source),
                    Source::Learned { hint: Some(hint) } => format!("learned ({hint})"),
                    Source::Learned { hint: None } => "learned".into(),
                };
                let rtcp = match &flow.rtcp {
                    Rtcp::NextPort => "next".into(),
                    Rtcp::Mux => "mux".into(),
                    Rtcp::None => "none".into(),
                    Rtcp::Explicit(ends) => format!("{}/{}", ends.source, ends.destination),
                };
                format!(
                    "{source} > {} {} {rtcp}",
                    text(flow.destination),
                    flow.rate_bps
                )
            })
            .collect();
        flows.sort();
        flows
    }
}

/// As the shared cases write it: IPv6 without brackets.
fn text(address: std::net::SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

fn name(change: &Change) -> String {
    match change {
        Change::Add(session) => format!("add {:?}", session.why),
        Change::Modify(session) => format!("modify {:?}", session.why),
        Change::Renew { .. } => "renew".into(),
        Change::Remove { why, .. } => format!("remove {why:?}"),
        Change::Ended { .. } => "ended".into(),
        Change::NotPlaced { streams, .. } => streams[0].reason.to_string(),
    }
}
