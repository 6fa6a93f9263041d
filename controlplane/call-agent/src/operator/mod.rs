//! What an operator sees: gRPC ([`service`]), health, and Prometheus metrics ([`metrics`]).

pub mod metrics;
pub mod service;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    agent::{Figures, Input, Query, Snapshot},
    feed::{Senders, kernel},
};

/// How long the agent may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where all that is shown comes from.
pub struct View {
    /// The agent's name at the server.
    pub agent_id: String,
    /// The QoS server's URL.
    pub server: String,
    /// When the agent began.
    pub began: Instant,
    /// The agent's task, which answers questions.
    pub agent: mpsc::Sender<Input>,
    /// What is counted where it happens.
    pub figures: Arc<Figures>,
    /// The senders that the configuration names.
    pub senders: Arc<Senders>,
    /// UDP sockets, as the kernel's table names them.
    pub sockets: Vec<u64>,
}

impl View {
    /// Asks the agent. `None`: it is ending, or too busy.
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.agent.send(Input::Ask(query(reply))).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, asking).await.ok()?
    }

    /// Gauges and sums of this moment; `None` when the agent is ending.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Query::Snapshot).await
    }

    /// What the kernel dropped of all UDP sockets.
    pub fn kernel_drops(&self) -> u64 {
        let drops = kernel::drops();
        self.sockets.iter().filter_map(|of| drops.get(of)).sum()
    }
}
