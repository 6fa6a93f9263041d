//! What the agent is sent.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Snapshot;
use crate::{
    call::{Feed, Half, SessionId},
    client::Verdict,
    feed::Sender,
    ng,
};

/// One message to the agent.
pub enum Input {
    /// A SIP message that a configured sender mirrored.
    Sip {
        /// Who mirrored it.
        sender: Arc<Sender>,
        /// What the frame says of it.
        feed: Feed,
        /// The message.
        payload: Box<[u8]>,
    },
    /// A command of the ng protocol that was carried out.
    Ng(NgInput),
    /// A call is offered: is there room for it?
    Reserve {
        /// [`SessionId::of_offer`].
        id: SessionId,
        /// Of the call.
        call_id: Arc<[u8]>,
        /// The offerer's side.
        halves: Vec<Half>,
        /// Where the answer goes.
        verdict: oneshot::Sender<Verdict>,
    },
    /// A reservation is not wanted any more.
    Release(SessionId),
    /// A question of the operator.
    Ask(Query),
}

/// A command of the ng protocol.
pub enum NgInput {
    /// `offer`.
    Offer {
        /// As it came.
        command: ng::Media<'static>,
        /// The SDP that a real rtpengine answered with.
        relayed: Option<Box<[u8]>>,
    },
    /// `answer`.
    Answer {
        /// As it came.
        command: ng::Media<'static>,
        /// The SDP that a real rtpengine answered with.
        relayed: Option<Box<[u8]>>,
    },
    /// `delete`.
    Delete {
        /// What it names.
        dialog: ng::Dialog<'static>,
        /// Where it is told whether there was anything to delete.
        known: Option<oneshot::Sender<bool>>,
    },
}

/// A question of the operator.
pub enum Query {
    /// How all stands.
    Snapshot(oneshot::Sender<Snapshot>),
}
