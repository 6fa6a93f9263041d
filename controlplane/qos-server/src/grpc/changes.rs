//! ChangeSessions: many changes over one stream, each made as the call of its name makes it.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use voicelane_proto::v1::{self, session_change::Change};

use super::{parse, render, status::code_name};
use crate::{
    engine::{Engine, Outcome},
    events::{Kind, Subject},
    identity::{Caller, Changed, Guard},
    metrics::{self, Measured},
    model::{error::Error, ids::session_key},
    serve::connection::Peer,
};

/// Characters of a name that are noted.
const MAX_NAME: usize = 128;
/// The most changes of a request.
const MAX_CHANGES: usize = 256;
/// So many changes without an outcome, and no more of the stream is read.
const MAX_OUTSTANDING: usize = 4_096;
/// Changes of a stream that are under way at once, less those that take longer than [`SLOW`]. More of
/// them would not be done sooner: the runtime runs the latest of many tasks first, and some of the
/// others only when the stream pauses.
const AT_ONCE: usize = 512;
/// A change that takes longer waits for a router, and holds up no other one.
const SLOW: Duration = Duration::from_secs(1);
/// Outcomes that are ready go together into a response of about this size, bytes.
const RESPONSE_BYTES: usize = 64 * 1024;

/// Who asks for changes, and what bounds and notes them.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) engine: Arc<Engine>,
    pub(super) guard: Guard,
    pub(super) peer: Peer,
}

impl Asker {
    /// Adds a session.
    pub(super) async fn add(&self, request: v1::AddSessionRequest) -> Outcome {
        let about = About::spec(request.spec.as_ref());
        let make = async {
            let spec = parse::spec(request.spec)?;
            self.engine.add(spec).await
        };
        self.change(metrics::Change::Add, about, make).await
    }

    /// Modifies a session.
    pub(super) async fn modify(&self, request: v1::ModifySessionRequest) -> Outcome {
        let about = About::spec(request.spec.as_ref());
        let make = async { self.engine.modify(parse::spec(request.spec)?).await };
        self.change(metrics::Change::Modify, about, make).await
    }

    /// Deletes a session.
    pub(super) async fn delete(&self, request: v1::DeleteSessionRequest) -> Outcome {
        let about = About::key(request.key.as_ref());
        let make = async { self.engine.delete(parse::key("key", request.key)?).await };
        self.change(metrics::Change::Delete, about, make).await
    }

    /// Makes a change when it is the agent's turn, if it may. An operator's waits for nobody: it is not the
    /// agent that asks.
    async fn change(
        &self,
        change: metrics::Change,
        about: About,
        make: impl Future<Output = Outcome>,
    ) -> Outcome {
        let caller = self.peer.caller();
        let mut measured = Measured::new(self.engine.metrics().clone(), change);
        let agent = match caller {
            Caller::Plain => Some(&*about.agent),
            _ => caller.agent(),
        };
        if let Some(agent) = agent {
            self.guard.quotas.turn(agent).await;
        }
        let outcome = match caller.may_change(change, &about.agent) {
            Ok(()) => make.await,
            Err(error) => Err(error),
        };
        measured.code = outcome.as_ref().map_or_else(code_name, |_| "ok");
        if change != metrics::Change::Delete {
            note_refusal(&self.engine, &about, &outcome);
        }
        self.guard.audit.note(
            (caller, &self.peer.address()),
            change.name(),
            Changed {
                agent_id: Some(&about.agent),
                session_id: Some(&about.session),
                revision: about.revision,
                router_id: None,
            },
            measured.code,
            outcome.as_ref().err().map(ToString::to_string),
        );
        outcome
    }
}

/// Which session is to be changed: as it was written, which may be wrong.
struct About {
    agent: String,
    session: String,
    revision: Option<u64>,
}

/// Tells operators of a change that was refused.
fn note_refusal(engine: &Engine, about: &About, outcome: &Outcome) {
    if let Err(error) = outcome {
        let key = session_key("key", &about.agent, &about.session);
        let subject = key.map_or(Subject::Server, Subject::Call);
        engine.note(Kind::CallRefused, subject, || format!("refused: {error}"));
    }
}

impl About {
    fn key(key: Option<&v1::SessionKey>) -> Self {
        let short = |text: &String| text.chars().take(MAX_NAME).collect();
        Self {
            agent: key.map(|key| short(&key.agent_id)).unwrap_or_default(),
            session: key.map(|key| short(&key.session_id)).unwrap_or_default(),
            revision: None,
        }
    }

    fn spec(spec: Option<&v1::SessionSpec>) -> Self {
        Self {
            revision: spec.map(|spec| spec.revision),
            ..Self::key(spec.and_then(|spec| spec.key.as_ref()))
        }
    }
}

/// Makes the changes that come; gives their outcomes.
pub(super) fn serve(
    asker: Asker,
    inbound: Streaming<v1::ChangeSessionsRequest>,
) -> impl Stream<Item = Result<v1::ChangeSessionsResponse, Status>> {
    let changes = Changes {
        stopping: asker.engine.stopping(),
        asker,
        inbound: Some(inbound),
        waiting: VecDeque::new(),
        running: FuturesUnordered::new(),
        round: Round::begin(0),
        tags: HashSet::new(),
        end: None,
    };
    stream::unfold(changes, |mut changes| async move {
        let response = changes.next().await?;
        Some((response, changes))
    })
}

/// An agent's stream.
struct Changes {
    asker: Asker,
    stopping: watch::Receiver<bool>,
    /// Absent when no more is read.
    inbound: Option<Streaming<v1::ChangeSessionsRequest>>,
    /// Those that have not begun, in their order.
    waiting: VecDeque<v1::SessionChange>,
    /// Those that are under way; each tells the number of the round in which it began, too.
    running: FuturesUnordered<BoxFuture<'static, (u64, v1::ChangeOutcome)>>,
    round: Round,
    /// Of those that have no outcome.
    tags: HashSet<u64>,
    /// What ends the stream when all is answered.
    end: Option<Status>,
}

/// A time of [`SLOW`]: what began in an earlier one is slow.
struct Round {
    number: u64,
    end: Instant,
    /// How many changes are under way that began in an earlier one.
    slow: usize,
}

impl Round {
    fn begin(number: u64) -> Self {
        Self {
            number,
            end: Instant::now() + SLOW,
            slow: 0,
        }
    }
}

impl Changes {
    /// Begins changes that wait, as many as may be under way.
    fn start(&mut self) {
        if Instant::now() >= self.round.end {
            self.round = Round {
                slow: self.running.len(),
                ..Round::begin(self.round.number + 1)
            };
        }
        while self.running.len() < AT_ONCE + self.round.slow
            && let Some(change) = self.waiting.pop_front()
        {
            let (asker, round) = (self.asker.clone(), self.round.number);
            let made = async move { (round, make(&asker, change).await) };
            self.running.push(made.boxed());
        }
    }

    /// The next response; `None` at the end.
    async fn next(&mut self) -> Option<Result<v1::ChangeSessionsResponse, Status>> {
        loop {
            self.start();
            let Self {
                stopping,
                inbound,
                waiting,
                running,
                round,
                ..
            } = self;
            let reads = inbound.is_some();
            let has_room = running.len() + waiting.len() < MAX_OUTSTANDING;
            let some_wait = !waiting.is_empty();
            let stopped = async { drop(stopping.wait_for(|stopping| *stopping).await) };
            let read = async {
                match inbound {
                    Some(inbound) => inbound.message().await,
                    None => Ok(None),
                }
            };
            let read = tokio::select! {
                biased;
                Some(outcome) = running.next() => return Some(Ok(self.collect(outcome))),
                () = stopped, if reads => Err(Error::ShuttingDown.into()),
                read = read, if reads && has_room => read,
                () = sleep_until(round.end), if some_wait => continue,
                else => return self.end.take().map(Err),
            };
            let end = match read {
                Ok(Some(request)) => match self.begin(request) {
                    Ok(()) => continue,
                    Err(error) => Some(error.into()),
                },
                Ok(None) => None,
                Err(status) => Some(status),
            };
            self.inbound = None;
            self.end = end;
        }
    }

    /// Takes all changes of a request, or none.
    fn begin(&mut self, request: v1::ChangeSessionsRequest) -> Result<(), Error> {
        let count = request.changes.len();
        if count == 0 || count > MAX_CHANGES {
            let reason = format!("has {count}; give 1 to {MAX_CHANGES}");
            return Err(Error::invalid("changes", reason));
        }
        for (index, change) in request.changes.iter().enumerate() {
            if !self.tags.insert(change.tag) {
                let reason = format!(
                    "is {}, that of a change that is not answered yet; use another",
                    change.tag
                );
                return Err(Error::invalid(format!("changes[{index}].tag"), reason));
            }
        }
        self.waiting.extend(request.changes);
        Ok(())
    }

    /// An outcome, with the others that are there already.
    fn collect(&mut self, first: (u64, v1::ChangeOutcome)) -> v1::ChangeSessionsResponse {
        let mut response = v1::ChangeSessionsResponse::default();
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some((round, outcome)) = next {
            self.round.slow -= usize::from(round < self.round.number);
            self.tags.remove(&outcome.tag);
            bytes += outcome.encoded_len();
            response.outcomes.push(outcome);
            if bytes > RESPONSE_BYTES {
                break;
            }
            next = self.running.next().now_or_never().flatten();
        }
        response
    }
}

async fn make(asker: &Asker, change: v1::SessionChange) -> v1::ChangeOutcome {
    let made = match change.change {
        Some(Change::Add(request)) => asker.add(request).await,
        Some(Change::Modify(request)) => asker.modify(request).await,
        Some(Change::Delete(request)) => asker.delete(request).await,
        None => Err(Error::invalid(
            "change",
            "is missing, or of a kind that is not known here; give add, modify or delete",
        )),
    };
    let tag = change.tag;
    match made {
        Ok(session) => v1::ChangeOutcome {
            tag,
            session: change.with_session.then(|| render::session(&session)),
            pending_routers: render::pending(&session),
            ..v1::ChangeOutcome::default()
        },
        Err(error) => {
            let status = Status::from(error);
            v1::ChangeOutcome {
                tag,
                code: status.code().into(),
                message: status.message().to_owned(),
                ..v1::ChangeOutcome::default()
            }
        }
    }
}
