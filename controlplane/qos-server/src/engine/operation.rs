//! One operation on a session at a time. The same request again joins the one that runs and gets
//! its answer; any other waits for it to end.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Engine, events::SessionView};
use crate::model::{error::Error, ids::SessionKey, session::SessionSpec};

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

/// An operation that runs.
#[derive(Debug)]
pub(super) struct Running {
    work: Work,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// The right to change a session. Others wait until it is dropped.
pub(super) struct Claim {
    engine: Arc<Engine>,
    key: SessionKey,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Drop for Claim {
    // Before the sender goes, which wakes those who wait.
    fn drop(&mut self) {
        self.engine.lock().running.remove(&self.key);
    }
}

enum Start {
    Ours(Claim),
    Joined(watch::Receiver<Option<Outcome>>),
    Busy(watch::Receiver<Option<Outcome>>),
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
        loop {
            let mut outcome = match self.begin(key, &work) {
                Start::Ours(claim) => {
                    let outcome = claim.outcome.subscribe();
                    let job = job(self.clone());
                    tokio::spawn(async move {
                        let ended = job.await;
                        claim.outcome.send_replace(Some(ended));
                    });
                    return answer(outcome).await;
                }
                Start::Joined(outcome) => return answer(outcome).await,
                Start::Busy(outcome) => outcome,
            };
            while outcome.changed().await.is_ok() {}
        }
    }

    /// Waits until no operation on the session runs, and keeps others out until the claim drops.
    /// Only for tasks that nobody cancels.
    pub(super) async fn claim(self: &Arc<Self>, key: &SessionKey) -> Claim {
        loop {
            match self.begin(key, &Work::Housekeeping) {
                Start::Ours(claim) => return claim,
                Start::Joined(mut outcome) | Start::Busy(mut outcome) => {
                    while outcome.changed().await.is_ok() {}
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, key: &SessionKey, work: &Work) -> Start {
        let mut state = self.lock();
        match state.running.get(key) {
            Some(running) if running.work == *work && *work != Work::Housekeeping => {
                Start::Joined(running.outcome.clone())
            }
            Some(running) => Start::Busy(running.outcome.clone()),
            None => {
                let (sender, outcome) = watch::channel(None);
                state.running.insert(
                    key.clone(),
                    Running {
                        work: work.clone(),
                        outcome,
                    },
                );
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
        Ok(None) | Err(_) => Err(Error::Internal(
            "an operation ended without a result".into(),
        )),
    }
}
