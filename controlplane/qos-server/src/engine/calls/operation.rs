//! One operation on a session at a time. The same request again joins the one that runs and gets
//! its answer; others wait for it to end, and have their turn in the order in which they came.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{oneshot, watch};

use crate::{
    engine::{Engine, SessionView, state::State},
    model::{error::Error, ids::SessionKey, session::SessionSpec},
};

/// How an operation ended.
pub type Outcome = Result<Arc<SessionView>, Error>;

/// What an operation does; equal ones are the same request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Add(Arc<SessionSpec>),
    Modify(Arc<SessionSpec>),
    Delete,
    /// Nobody asked for it; nobody can join it.
    Housekeeping,
}

/// An operation that runs, and who waits for its end.
#[derive(Debug)]
pub(in crate::engine) struct Running {
    work: Work,
    outcome: watch::Receiver<Option<Outcome>>,
    /// In the order in which they came. Only the first is woken.
    queue: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    work: Work,
    turn: oneshot::Sender<Claim>,
}

/// The right to change a session. When it is dropped, the next who waits has it.
#[derive(Debug)]
pub(in crate::engine) struct Claim {
    engine: Arc<Engine>,
    key: SessionKey,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (turn, claim) = {
            let mut state = self.engine.lock();
            let State {
                running, waiting, ..
            } = &mut *state;
            let Some(running) = running.get_mut(&self.key) else {
                return;
            };
            let next = loop {
                let next = running.queue.pop_front();
                *waiting -= usize::from(next.is_some());
                if next.as_ref().is_none_or(|it| !it.turn.is_closed()) {
                    break next;
                }
            };
            let Some(Waiter { work, turn }) = next else {
                let ended = state.running.take(&self.key);
                let moves = state.moves.no_longer_busy(&self.key);
                drop(state);
                drop(ended);
                if moves {
                    self.engine.moves_due.ring();
                }
                return;
            };
            let (sender, outcome) = watch::channel(None);
            running.work = work;
            running.outcome = outcome;
            let claim = Self {
                engine: self.engine.clone(),
                key: self.key.clone(),
                outcome: sender,
            };
            (turn, claim)
        };
        // One who has just gone gives it back: it is dropped, and goes to the one behind.
        drop(turn.send(claim));
    }
}

enum Start {
    Ours(Claim),
    Joined(watch::Receiver<Option<Outcome>>),
    Queued(oneshot::Receiver<Claim>),
}

impl Engine {
    /// Runs `job` in a task of its own when no other operation on the session runs, or joins the
    /// one that does the same work.
    pub(super) async fn operate<J, F>(
        self: &Arc<Self>,
        key: &SessionKey,
        work: Work,
        job: J,
    ) -> Outcome
    where
        J: FnOnce(Arc<Self>) -> F,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let claim = match self.begin(key, work) {
            Start::Ours(claim) => claim,
            Start::Joined(outcome) => return answer(outcome).await,
            Start::Queued(turn) => turn.await.map_err(|_| ended())?,
        };
        let outcome = claim.outcome.subscribe();
        let job = job(self.clone());
        tokio::spawn(async move {
            let ended = job.await;
            claim.outcome.send_replace(Some(ended));
        });
        answer(outcome).await
    }

    /// Waits until no operation on the session runs, and keeps others out until the claim drops.
    pub(in crate::engine) async fn claim(self: &Arc<Self>, key: &SessionKey) -> Claim {
        loop {
            match self.begin(key, Work::Housekeeping) {
                Start::Ours(claim) => return claim,
                Start::Joined(mut outcome) => while outcome.changed().await.is_ok() {},
                Start::Queued(turn) => {
                    if let Ok(claim) = turn.await {
                        return claim;
                    }
                }
            }
        }
    }

    /// The same for work that can wait: absent if an operation runs on the session, at whose end
    /// the session is looked at again.
    pub(in crate::engine) fn claim_idle(self: &Arc<Self>, key: &SessionKey) -> Option<Claim> {
        let mut state = self.lock();
        let claim = self.claim_in(&mut state, key);
        if claim.is_none() {
            state.moves.busy(key);
        }
        claim
    }

    /// The same under a hold of the lock: absent if an operation runs on the session.
    pub(super) fn claim_in(self: &Arc<Self>, state: &mut State, key: &SessionKey) -> Option<Claim> {
        if state.running.get(key).is_some() {
            return None;
        }
        match self.begin_in(state, key, Work::Housekeeping) {
            Start::Ours(claim) => Some(claim),
            Start::Joined(_) | Start::Queued(_) => None,
        }
    }

    fn begin(self: &Arc<Self>, key: &SessionKey, work: Work) -> Start {
        self.begin_in(&mut self.lock(), key, work)
    }

    fn begin_in(self: &Arc<Self>, state: &mut State, key: &SessionKey, work: Work) -> Start {
        match state.running.get_mut(key) {
            Some(running) if running.work == work && work != Work::Housekeeping => {
                Start::Joined(running.outcome.clone())
            }
            Some(running) => {
                let (turn, queued) = oneshot::channel();
                running.queue.push_back(Waiter { work, turn });
                state.waiting += 1;
                Start::Queued(queued)
            }
            None => {
                let (sender, outcome) = watch::channel(None);
                let running = Running {
                    work,
                    outcome,
                    queue: VecDeque::new(),
                };
                state.running.add(key.clone(), running);
                Start::Ours(Claim {
                    engine: self.clone(),
                    key: key.clone(),
                    outcome: sender,
                })
            }
        }
    }
}

async fn answer(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome
        .wait_for(Option::is_some)
        .await
        .map(|outcome| outcome.clone())
    {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => Err(ended()),
    }
}

fn ended() -> Error {
    Error::Internal("an operation ended without a result".into())
}
