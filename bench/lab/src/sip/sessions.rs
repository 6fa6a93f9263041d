//! When sessions came and went, as a watcher of the QoS server sees it.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use voicelane_proto::v1::{
    Session, SessionState, WatchSessionsRequest, sessions_client::SessionsClient,
    watch_sessions_response::Kind,
};
use voicelane_testbed::control::Agent;

/// Watches from [`Watch::start`] on, until the agent's runtime ends.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    lives: BTreeMap<u16, Life>,
    now: usize,
    most: usize,
    fault: Option<String>,
}

/// The time of one session. Since the Unix epoch, by the watcher's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When all of its routers had it.
    pub active: Option<Duration>,
    /// When it was deleted for the last time.
    pub deleted: Option<Duration>,
    /// How often it was deleted.
    pub deletions: u32,
}

/// The present, as captures tell it.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Watch {
    /// Watches sessions that have a flow from `caller`; each is told by that flow's source port.
    pub fn start(agent: &Agent, caller: IpAddr) -> Self {
        let watch = Self::default();
        let seen = Arc::clone(&watch.seen);
        let mut client = SessionsClient::new(agent.operator());
        agent.runtime().spawn(async move {
            let request = WatchSessionsRequest {
                include_existing: true,
                ..WatchSessionsRequest::default()
            };
            let mut events = match client.watch_sessions(request).await {
                Ok(events) => events.into_inner(),
                Err(status) => return fail(&seen, status),
            };
            loop {
                match events.message().await {
                    Ok(Some(event)) => {
                        let session = event.session.clone().unwrap_or_default();
                        take(&seen, event.kind(), &session, caller);
                    }
                    Ok(None) => return fail(&seen, "the server has ended it"),
                    Err(status) => return fail(&seen, status),
                }
            }
        });
        watch
    }

    /// Each session by the caller's port.
    pub fn lives(&self) -> BTreeMap<u16, Life> {
        self.seen().lives.clone()
    }

    /// How many sessions there were at most at once.
    pub fn most(&self) -> usize {
        self.seen().most
    }

    /// Why it has ended before its time.
    pub fn fault(&self) -> Option<String> {
        self.seen().fault.clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(seen: &Mutex<Seen>, reason: impl fmt::Display) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.fault = Some(format!("WatchSessions: {reason}"));
}

fn take(seen: &Mutex<Seen>, kind: Kind, session: &Session, caller: IpAddr) {
    let Some(port) = port_of(session, caller) else {
        return;
    };
    let at = now();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match kind {
        Kind::Deleted => {
            seen.now = seen.now.saturating_sub(1);
            let life = seen.lives.entry(port).or_default();
            life.deleted = Some(at);
            life.deletions += 1;
        }
        Kind::Added | Kind::Existing => {
            seen.now += 1;
            seen.most = seen.most.max(seen.now);
        }
        _ => {}
    }
    if kind != Kind::Deleted && session.state() == SessionState::Active {
        seen.lives.entry(port).or_default().active.get_or_insert(at);
    }
}

/// The port at which the session's flow from the caller begins.
fn port_of(session: &Session, caller: IpAddr) -> Option<u16> {
    let caller = caller.to_string();
    let flows = &session.spec.as_ref()?.flows;
    let source = |flow: &voicelane_proto::v1::MediaFlow| {
        let end = flow.source.as_ref()?;
        (end.address == caller).then_some(end.port)
    };
    u16::try_from(flows.iter().find_map(source)?).ok()
}
