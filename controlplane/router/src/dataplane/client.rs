//! Asking the worker: requests go in order through its bounded queue, and each reply finds the one
//! who asked by its ticket.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, TrySendError};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, oneshot},
    time::sleep,
};
use tracing::error;
use voicelane_dataplane::{
    control::{Answer, Command, Control, FlowReading, Reply, Request},
    policy::Policy,
    session::{FiveTuple, Latched},
    stats::Report,
    trace::Tracer,
};

/// How long to wait for room in the worker's queue before the next try.
const RETRY: Duration = Duration::from_micros(500);

/// The worker has ended, or the process is ending.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the worker has ended")]
pub struct WorkerGone;

/// A handle to ask the worker with. Clones ask the same worker.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    control: Control,
    asking: Mutex<Asking>,
    tracing: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Asking {
    next_ticket: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    gone: bool,
}

impl Client {
    /// Takes over the control side's end, and starts a thread that hands out replies. The thread
    /// ends with the worker.
    pub fn start(control: Control) -> std::io::Result<Self> {
        let replies = control.replies.clone();
        let shared = Arc::new(Shared {
            control,
            asking: Mutex::default(),
            tracing: Arc::new(Semaphore::new(1)),
        });
        let client = Self {
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("replies".to_owned())
            .spawn(move || hand_out(&replies, &shared.asking))?;
        Ok(client)
    }

    /// Puts a request into the worker's queue, waiting for room, and returns where its answer will
    /// come. Requests of one task reach the worker in the order of their calls.
    pub async fn submit(&self, request: Request) -> Result<Pending, WorkerGone> {
        let (answer, pending) = oneshot::channel();
        let ticket = {
            let mut asking = lock(&self.shared.asking);
            if asking.gone {
                return Err(WorkerGone);
            }
            asking.next_ticket += 1;
            let ticket = asking.next_ticket;
            asking.waiting.insert(ticket, answer);
            ticket
        };
        let unsent = Unsent {
            asking: &self.shared.asking,
            ticket,
        };
        let mut command = Command { ticket, request };
        loop {
            command = match self.shared.control.commands.try_send(command) {
                Ok(()) => {
                    unsent.sent();
                    return Ok(Pending(pending));
                }
                Err(TrySendError::Full(command)) => command,
                Err(TrySendError::Disconnected(_)) => return Err(WorkerGone),
            };
            sleep(RETRY).await;
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, request: Request) -> Result<Answer, WorkerGone> {
        self.submit(request).await?.answer().await
    }

    /// Has the workers fill a report.
    pub async fn report(&self, report: Box<Report>) -> Result<Box<Report>, WorkerGone> {
        match self.ask(Request::Report(report)).await? {
            Answer::Report(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads flows' counters, in their order; `None` for a flow that is not there.
    pub async fn read_flows(
        &self,
        flows: Vec<FiveTuple>,
    ) -> Result<Vec<Option<FlowReading>>, WorkerGone> {
        match self.ask(Request::ReadFlows(flows)).await? {
            Answer::Flows(readings) => Ok(readings),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads which sources flows have learned; several for one flow where several workers have.
    pub async fn read_latched(&self) -> Result<Vec<Latched>, WorkerGone> {
        match self.ask(Request::ReadLatched).await? {
            Answer::Latched(learned) => Ok(learned),
            other => Err(unexpected(&other)),
        }
    }

    /// Whose turn it is to trace: one at a time.
    #[must_use]
    pub fn tracing(&self) -> &Arc<Semaphore> {
        &self.shared.tracing
    }

    /// Lends the workers another tracer, or none any more; gives back the one until now. For whoever has
    /// [the turn](Self::tracing).
    pub async fn trace(
        &self,
        tracer: Option<Box<Tracer>>,
    ) -> Result<Option<Box<Tracer>>, WorkerGone> {
        match self.ask(Request::Trace(tracer)).await? {
            Answer::Traced(tracer) => Ok(tracer),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the workers apply another policy; returns when all do.
    pub async fn set_policy(&self, policy: Box<Policy>) -> Result<(), WorkerGone> {
        match self.ask(Request::SetPolicy(policy)).await? {
            Answer::Policy(_previous) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// A worker that answers something else than it was asked is of no use any more.
fn unexpected(answer: &Answer) -> WorkerGone {
    error!(?answer, "the worker's answer is to another request");
    WorkerGone
}

/// A request that is not in the queue yet. Nobody will answer it when its submission is cancelled
/// or fails, so its ticket is given back then.
struct Unsent<'a> {
    asking: &'a Mutex<Asking>,
    ticket: u64,
}

impl Unsent<'_> {
    /// Its reply gives the ticket back.
    fn sent(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        lock(self.asking).waiting.remove(&self.ticket);
    }
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Answer>);

impl Pending {
    /// Waits for it; not to be called again when it has come. May be cancelled.
    pub async fn answer(&mut self) -> Result<Answer, WorkerGone> {
        (&mut self.0).await.map_err(|_| WorkerGone)
    }
}

fn hand_out(replies: &Receiver<Reply>, asking: &Mutex<Asking>) {
    for Reply { ticket, answer } in replies {
        if let Some(waiting) = lock(asking).waiting.remove(&ticket) {
            // Nobody may be waiting any more; then the answer is of no use.
            drop(waiting.send(answer));
        }
    }
    let mut asking = lock(asking);
    asking.gone = true;
    asking.waiting.clear();
}

fn lock(asking: &Mutex<Asking>) -> MutexGuard<'_, Asking> {
    // No code panics while it holds the lock; were it so, the map is still whole.
    asking.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use voicelane_dataplane::control::NextHop;

    /// A control side's end, and a thread in place of the worker that answers with `work`.
    pub(crate) fn fake(mut work: impl FnMut(Request) -> Answer + Send + 'static) -> Client {
        let (commands, inbox) = bounded::<Command>(4);
        let (outbox, replies) = bounded(4);
        thread::spawn(move || {
            for Command { ticket, request } in inbox {
                if outbox
                    .send(Reply {
                        ticket,
                        answer: work(request),
                    })
                    .is_err()
                {
                    break;
                }
            }
        });
        Client::start(Control { commands, replies }).unwrap()
    }

    #[tokio::test]
    async fn answers_come_to_those_who_asked_past_a_full_queue() {
        let client = fake(|request| match request {
            Request::ReadFlows(flows) => Answer::Flows(vec![None; flows.len()]),
            _ => Answer::Route(Ok(())),
        });
        let mut pending = Vec::new();
        for _ in 0..100 {
            let prefix = "10.0.0.0".parse().unwrap();
            let route = Request::SetRoute {
                prefix,
                length: 8,
                next_hop: NextHop(1),
            };
            pending.push(client.submit(route).await.unwrap());
        }
        let flows = client.ask(Request::ReadFlows(Vec::new())).await.unwrap();
        assert!(matches!(flows, Answer::Flows(flows) if flows.is_empty()));
        for mut pending in pending {
            assert!(matches!(pending.answer().await, Ok(Answer::Route(Ok(())))));
        }
    }

    #[tokio::test]
    async fn a_submission_that_is_cancelled_at_a_full_queue_leaves_nothing_behind() {
        let (commands, inbox) = bounded(1);
        let (_outbox, replies) = bounded(1);
        let client = Client::start(Control { commands, replies }).unwrap();
        let waiting = || lock(&client.shared.asking).waiting.len();
        let read = || client.submit(Request::ReadFlows(Vec::new()));
        let _pending = read().await.unwrap();
        let full = tokio::time::timeout(Duration::from_millis(5), read()).await;
        assert!(full.is_err());
        assert_eq!(waiting(), 1, "the one that is in the queue");
        drop(inbox);
        assert_eq!(read().await.unwrap_err(), WorkerGone);
        assert_eq!(waiting(), 1);
    }

    #[tokio::test]
    async fn a_worker_that_ends_leaves_nobody_waiting() {
        let (commands, inbox) = bounded(4);
        let (outbox, replies) = bounded(4);
        let client = Client::start(Control { commands, replies }).unwrap();
        let mut pending = client.submit(Request::ReadFlows(Vec::new())).await.unwrap();
        drop((inbox, outbox));
        assert_eq!(pending.answer().await.unwrap_err(), WorkerGone);
        assert_eq!(
            client
                .ask(Request::ReadFlows(Vec::new()))
                .await
                .unwrap_err(),
            WorkerGone
        );
    }
}
