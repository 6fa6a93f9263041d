//! What is known of a call when it ends.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::explain::whole_score;
use crate::{
    engine::{Engine, FlowExplanation, Reaper, Score, SessionView},
    model::ids::UnixMs,
};

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// As it was.
    pub session: Arc<SessionView>,
    /// When it ended.
    pub ended: UnixMs,
    /// Who has removed it, if no agent has deleted it.
    pub reaper: Option<Reaper>,
    /// What its routers had counted; nothing of one that did not answer.
    pub flows: Vec<FlowExplanation>,
}

impl CallRecord {
    /// How a flow sounded from its start, as it came to the destination's router.
    pub fn score(&self, flow: usize) -> Option<Score> {
        whole_score(&self.session, flow, self.flows.get(flow)?)
    }
}

type Record = Box<dyn Fn(&CallRecord) + Send + Sync>;

/// Who is told of calls that have ended.
#[derive(Default)]
pub(in crate::engine) struct Recorder(OnceLock<Record>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Engine {
    /// From now on routers are asked once more for the counters of a call before it leaves them, and `record`
    /// is told of it, which must not block. Only the first one that is given is told.
    pub fn record_to(&self, record: impl Fn(&CallRecord) + Send + Sync + 'static) {
        // Fails when there is one.
        let _ = self.recorder.0.set(Box::new(record));
    }

    /// What routers have counted of a call that ends, if it is to be recorded. They have half of the usual
    /// time for that, or less where somebody waits for its place.
    pub(in crate::engine) async fn last_counters(
        &self,
        session: &SessionView,
        reaper: Option<Reaper>,
    ) -> Vec<FlowExplanation> {
        let part = match reaper {
            None => 2,
            Some(Reaper::Preempted) => 20,
            Some(_) => 10,
        };
        match self.recorder.0.get() {
            Some(_) => self.measured(session, part).await,
            None => Vec::new(),
        }
    }

    /// Tells of a call that has ended.
    pub(in crate::engine) fn record(
        &self,
        session: &Arc<SessionView>,
        reaper: Option<Reaper>,
        flows: Vec<FlowExplanation>,
    ) {
        if let Some(record) = self.recorder.0.get() {
            record(&CallRecord {
                session: session.clone(),
                ended: self.clock().unix(),
                reaper,
                flows,
            });
        }
    }
}
