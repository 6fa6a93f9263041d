//! The server's commands, carried out in order.
//!
//! Commands about different sessions and flows are with the worker at the same time, so that a
//! hundred thousand of them after a reconnection do not each wait for a turn of its loop. A command
//! that touches what an earlier one is still changing waits for that.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    net::SocketAddr,
    sync::Arc,
};

use tokio::time::Instant;
use tracing::debug;
use voicelane_dataplane::{
    control::{Answer, Request},
    session::{FiveTuple, InstallError},
};
use voicelane_proto::v1::{
    self, CommandResult, LatchedSource, LatchedSources, attach_request::Message,
    command_result::Code,
};
use voicelane_types::SessionKey;

use super::{
    Sessions, entries,
    table::{Plan, Refusal},
};
use crate::dataplane::{WorkerGone, client::Pending};

/// The most changes that are with the worker at once.
const WINDOW: usize = 256;
/// The most sources in one message.
const LATCHED_A_MESSAGE: usize = 1_024;

/// Carries out commands and gives their results in the same order.
#[derive(Debug)]
pub struct Commands {
    sessions: Arc<Sessions>,
    running: VecDeque<Running>,
    /// The sessions and flows that they change.
    changing: HashSet<SessionKey>,
    touched: HashSet<FiveTuple>,
    /// Destinations of flows whose learned source the worker has refused: they are to learn another one, as
    /// each answer of the worker has room for some only.
    refused: HashSet<SocketAddr>,
}

#[derive(Debug)]
struct Running {
    /// `None`: nobody has asked, a source was learned.
    command_id: Option<u64>,
    plan: Plan,
    progress: Progress,
}

/// How far a change is.
#[derive(Debug)]
enum Progress {
    Asked(Pending),
    /// Some of several workers have made it, and are to be told to take it back.
    Parted(InstallError),
    Undoing(InstallError, Pending),
}

impl Commands {
    /// With nothing to do.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self {
            sessions,
            running: VecDeque::new(),
            changing: HashSet::new(),
            touched: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    /// The sessions that it changes.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Whether a result is still to come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a session waits for a source, so that [`Self::learn`] should be called now and then.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.sessions.table().waiting() > 0
    }

    /// Asks the worker which sources it has learned, and starts to install the flows that have them.
    pub async fn learn(&mut self) -> Result<(), WorkerGone> {
        let sessions = Arc::clone(&self.sessions);
        let learned = sessions.client().read_latched().await?;
        let refused = mem::take(&mut self.refused);
        for latched in learned {
            let destination = latched.flow.destination;
            let again = refused.contains(&destination);
            let plan = sessions
                .table()
                .plan_learned(&latched, sessions.ways_in(), again);
            let Some(plan) = plan else {
                continue;
            };
            if !self.collides(&plan) {
                self.submit(None, plan).await?;
            } else if again {
                self.refused.insert(destination);
            }
            // The worker tells what has to wait again the next time.
        }
        Ok(())
    }

    /// Starts a command. What the server is to be told meanwhile, the command's result if it is done, is
    /// added to `done`.
    pub async fn start(
        &mut self,
        command: v1::Command,
        done: &mut Vec<Message>,
    ) -> Result<(), WorkerGone> {
        use v1::command::Command;

        let id = command.command_id;
        let plan = loop {
            let plan = match &command.command {
                Some(Command::Install(install)) => {
                    let ways_in = self.sessions.ways_in();
                    let table = self.sessions.table();
                    let sampling = self.sessions.sampling();
                    table.plan_install(install, ways_in, sampling).map(Some)
                }
                Some(Command::Remove(remove)) => self.sessions.table().plan_remove(remove),
                Some(Command::Read(read)) => {
                    done.extend(self.drain().await?);
                    done.push(Message::Result(self.read(id, read).await?));
                    return Ok(());
                }
                None => Err(Refusal {
                    code: Code::Invalid,
                    detail: "the command is empty".to_owned(),
                    owner: None,
                }),
            };
            if !self.must_wait_for(&plan) {
                break plan;
            }
            done.extend(self.finish_next().await?);
        };
        match plan {
            Ok(Some(plan)) => self.submit(Some(id), plan).await?,
            Ok(None) => done.push(Message::Result(result(id, Code::Ok, String::new()))),
            Err(refusal) => done.push(Message::Result(CommandResult {
                owner: refusal.owner.as_ref().map(Into::into),
                ..result(id, refusal.code, refusal.detail)
            })),
        }
        Ok(())
    }

    /// Has the worker carry out a plan that touches nothing that is being changed.
    async fn submit(&mut self, command_id: Option<u64>, plan: Plan) -> Result<(), WorkerGone> {
        self.touched.extend(plan.flows());
        self.changing.insert(plan.key.clone());
        let request = Request::Session(plan.change.clone());
        let answer = self.sessions.client().submit(request).await?;
        self.running.push_back(Running {
            command_id,
            plan,
            progress: Progress::Asked(answer),
        });
        Ok(())
    }

    /// Waits for the oldest command, if there is one, and gives what the server is to be told. May be
    /// cancelled: nothing is lost then.
    pub async fn finish_next(&mut self) -> Result<Vec<Message>, WorkerGone> {
        let answer = loop {
            let Some(Running { plan, progress, .. }) = self.running.front_mut() else {
                return Ok(Vec::new());
            };
            match progress {
                Progress::Asked(pending) => match pending.answer().await {
                    Ok(Answer::Parted(error)) => *progress = Progress::Parted(error),
                    answer => break answer,
                },
                Progress::Parted(error) => {
                    let undo = Request::Session(plan.undo.clone());
                    let pending = self.sessions.client().submit(undo).await?;
                    *progress = Progress::Undoing(*error, pending);
                }
                Progress::Undoing(error, pending) => {
                    let error = *error;
                    break match pending.answer().await {
                        Ok(Answer::Session(Ok(()))) => Ok(Answer::Session(Err(error))),
                        other => other,
                    };
                }
            }
        };
        let Some(Running {
            command_id, plan, ..
        }) = self.running.pop_front()
        else {
            return Ok(Vec::new());
        };
        self.changing.remove(&plan.key);
        for flow in plan.flows() {
            self.touched.remove(&flow);
        }
        let mut latched = Vec::new();
        let destinations = plan.change.unlatch.clone();
        let (code, detail) = match answer? {
            Answer::Session(Ok(())) => {
                latched = self.commit(plan, command_id.is_none());
                (Code::Ok, String::new())
            }
            Answer::Session(Err(error)) => (code(&error), error.to_string()),
            Answer::Parted(error) => (
                Code::Internal,
                format!("workers differ, as a change could not be undone: {error}"),
            ),
            other => (Code::Internal, format!("unexpected answer {other:?}")),
        };
        let mut told = Vec::new();
        match command_id {
            Some(id) => told.push(Message::Result(result(id, code, detail))),
            None if code != Code::Ok => {
                debug!(detail, "a source that was learned is not taken");
                self.refused.extend(destinations);
            }
            None => {}
        }
        told.extend(latched_messages(latched));
        Ok(told)
    }

    /// Takes over what the worker has done; gives what the session's entries have learned.
    fn commit(&self, plan: Plan, learned: bool) -> Vec<LatchedSource> {
        let key = plan.key.clone();
        let mut table = self.sessions.table();
        let before = table.waiting();
        table.commit(plan);
        if learned && table.waiting() < before {
            self.sessions.count_learned();
        }
        if cfg!(debug_assertions) && table.len() < 1000 {
            table.invariants();
        }
        let session = table.session(&key).into_iter();
        session.flat_map(|session| session.latched(&key)).collect()
    }

    /// Waits for all commands.
    pub async fn drain(&mut self) -> Result<Vec<Message>, WorkerGone> {
        let mut done = Vec::new();
        while !self.is_idle() {
            done.extend(self.finish_next().await?);
        }
        Ok(done)
    }

    /// Whether an earlier command decides what this plan should be: one about the same session or
    /// flows, or any when nothing is to be done, as that may be because of what is still under way.
    fn must_wait_for(&self, plan: &Result<Option<Plan>, Refusal>) -> bool {
        match plan {
            Ok(Some(plan)) => self.collides(plan),
            Ok(None) | Err(_) => !self.running.is_empty(),
        }
    }

    /// Whether something that the plan changes is being changed, or too much is.
    fn collides(&self, plan: &Plan) -> bool {
        self.running.len() >= WINDOW
            || self.changing.contains(&plan.key)
            || plan.flows().any(|flow| self.touched.contains(&flow))
    }

    async fn read(&self, id: u64, read: &v1::ReadSession) -> Result<CommandResult, WorkerGone> {
        let key = match entries::key(read.key.as_ref()) {
            Ok(key) => key,
            Err(error) => return Ok(result(id, Code::Invalid, error.to_string())),
        };
        let installed = self.sessions.table().session(&key).cloned();
        let Some(installed) = installed else {
            return Ok(result(
                id,
                Code::NotFound,
                format!("no session {}/{} is installed", key.agent(), key.session()),
            ));
        };
        let readings = self.sessions.read(&key, &installed.entries).await?;
        self.sessions
            .wanted()
            .want(&readings, installed.since, readings.len(), Instant::now());
        let ways_in = self.sessions.ways_in();
        let counters = readings.iter().map(|reading| reading.to_proto(ways_in));
        Ok(CommandResult {
            counters: counters.collect(),
            ..result(id, Code::Ok, String::new())
        })
    }
}

/// Sources that were learned, in messages of the size that the protocol has.
pub fn latched_messages(sources: Vec<LatchedSource>) -> impl Iterator<Item = Message> {
    let mut rest = sources.into_iter().peekable();
    std::iter::from_fn(move || {
        rest.peek()?;
        let sources = rest.by_ref().take(LATCHED_A_MESSAGE).collect();
        Some(Message::Latched(LatchedSources { sources }))
    })
}

fn result(command_id: u64, code: Code, detail: String) -> CommandResult {
    CommandResult {
        command_id,
        code: code.into(),
        detail,
        counters: Vec::new(),
        owner: None,
    }
}

fn code(error: &InstallError) -> Code {
    if error.is_full() {
        Code::TableFull
    } else {
        Code::Invalid
    }
}

#[cfg(test)]
mod tests;
