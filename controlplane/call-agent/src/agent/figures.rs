//! The agent's own figures.

use std::{collections::BTreeMap, sync::Mutex};

use prometheus_client::metrics::{
    counter::Counter,
    family::Family,
    histogram::{Histogram, exponential_buckets},
};
use tokio::sync::watch;
use tonic::Code;
use voicelane_proto::v1::AgentSessionCounts;

use super::code_name;
use crate::call::{Counters, Micros};

/// What is counted where it happens.
#[derive(Debug)]
pub struct Figures {
    /// From the message that asked for a session to its routers' acknowledgement, s.
    pub session_seconds: Histogram,
    /// Whether changes can be sent to the server.
    pub connected: watch::Sender<bool>,
    /// Refusals by the server's code.
    refusals: Mutex<BTreeMap<String, u64>>,
    /// ng commands by name and outcome.
    pub ng_commands: Pairs,
    /// The gate's offers by verdict and outcome.
    pub gate_offers: Pairs,
}

/// Counters with two labels.
type Pairs = Family<[(&'static str, &'static str); 2], Counter>;

impl Default for Figures {
    fn default() -> Self {
        Self {
            session_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            connected: watch::Sender::default(),
            refusals: Mutex::default(),
            ng_commands: Family::default(),
            gate_offers: Family::default(),
        }
    }
}

impl Figures {
    pub(super) fn installed(&self, after: Micros) {
        let micros = u32::try_from(after).unwrap_or(u32::MAX);
        self.session_seconds.observe(f64::from(micros) / 1e6);
    }

    pub(super) fn refused(&self, code: Code) {
        if let Ok(mut refusals) = self.refusals.lock() {
            *refusals.entry(code_name(code)).or_default() += 1;
        }
    }

    /// Counts an ng command.
    pub fn ng(&self, command: &'static str, outcome: &'static str) {
        let labels = [("command", command), ("outcome", outcome)];
        self.ng_commands.get_or_create(&labels).inc();
    }

    /// Counts an offer at the gate.
    pub fn gate(&self, verdict: &'static str, outcome: &'static str) {
        let labels = [("verdict", verdict), ("outcome", outcome)];
        self.gate_offers.get_or_create(&labels).inc();
    }

    /// Refusals by the server's code.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals
            .lock()
            .map(|of| of.clone())
            .unwrap_or_default()
    }
}

/// The agent's gauges and sums at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// What became of messages.
    pub model: Counters,
    /// Calls that are known.
    pub calls: usize,
    /// What the server should have, and how far it is.
    pub sessions: AgentSessionCounts,
    /// The server can be asked.
    pub connected: bool,
}
