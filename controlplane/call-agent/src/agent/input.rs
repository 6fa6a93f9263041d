//! What the agent is sent.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Snapshot;
use crate::{
    call::{CallReport, Feed, Half, SeenMessages, SessionId},
    client::{State, Verdict},
    feed::Sender,
    ng,
};

/// One message to the agent.
pub enum Input {
    /// A SIP message that a configured sender mirrored.
    Sip {
        /// The configured sender that mirrored it.
        sender: Arc<Sender>,
        /// What the frame says of it.
        feed: Feed,
        /// The SIP message as it was mirrored.
        payload: Box<[u8]>,
    },
    /// A command of the ng protocol that was carried out.
    Ng(NgInput),
    /// A call is offered: is there room for it?
    Reserve {
        /// [`SessionId::of_offer`].
        id: SessionId,
        /// The call's Call-ID.
        call_id: Arc<[u8]>,
        /// What the offer says of the offerer's side, one entry a stream.
        halves: Vec<Half>,
        /// Where the answer goes.
        verdict: oneshot::Sender<Verdict>,
    },
    /// A reservation is not wanted any more.
    Release(SessionId),
    /// A question of the operator.
    Ask(Query),
}

/// What a side says of its media.
pub struct Described {
    /// The command as it was read.
    pub command: ng::Media<'static>,
    /// The SDP that a real rtpengine answered with.
    pub relayed: Option<Box<[u8]>>,
}

/// A command of the ng protocol.
pub enum NgInput {
    /// ng's `offer`: one side's description.
    Offer(Described),
    /// ng's `answer`: the other side's description.
    Answer(Described),
    /// ng's `delete`: the call has ended.
    Delete {
        /// The dialog that it names by Call-ID and tags.
        dialog: ng::Dialog<'static>,
        /// Where it is told whether there was anything to delete.
        known: oneshot::Sender<bool>,
    },
}

/// A question of the operator.
pub enum Query {
    /// Asks for the gauges and sums of this moment.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Some calls, and how many there are.
    Calls {
        /// At most so many.
        limit: usize,
        /// Only calls whose printed Call-ID has this in it.
        contains: String,
        /// Only calls with a session that was refused, or a stream that cannot be placed.
        only_troubled: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<(Vec<CallView>, u64)>,
    },
    /// All of one call.
    Explain {
        /// As it is printed.
        call_id: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Option<Explained>>,
    },
}

/// A call, and how its sessions stand.
pub struct CallView {
    /// As the model has it.
    pub report: CallReport,
    /// Of each dialog: the name of its session, and how it stands.
    pub states: Vec<Option<(SessionId, State)>>,
}

/// All of one call.
pub struct Explained {
    /// The call's state in the model.
    pub call: CallView,
    /// What was seen of it.
    pub seen: SeenMessages,
}
