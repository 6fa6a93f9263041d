//! What is on its way: in order on each wire, late by whatever the seed says.

use std::collections::{BTreeMap, HashMap};

use super::{
    Ms,
    agent::Call,
    etcd::{Answer, News, Request},
};
use crate::engine::{Reply, ToRouter};

#[derive(Debug)]
pub(super) enum Message {
    ToEtcd {
        server: usize,
        /// Which start of the server it is of.
        start: u64,
        sent: Ms,
        request: Request,
    },
    FromEtcd {
        server: usize,
        start: u64,
        sent: Ms,
        answer: Answer,
    },
    Watch {
        server: usize,
        watch: u64,
        news: News,
    },
    Call {
        server: usize,
        call: Call,
    },
    /// A router opens a stream, and says what it has when that arrives.
    Attach {
        server: usize,
        router: usize,
        stream: u64,
    },
    ToRouter {
        router: usize,
        stream: u64,
        message: ToRouter,
    },
    FromRouter {
        server: usize,
        stream: u64,
        id: u64,
        reply: Reply,
    },
    /// A stream has ended: to the router.
    Ended {
        router: usize,
        stream: u64,
    },
    /// A stream has ended: to the server.
    Cut {
        server: usize,
        stream: u64,
    },
}

/// What arrives on one of these arrives in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wire {
    ToEtcd(usize),
    FromEtcd(usize),
    ToRouter(u64),
    FromRouter(u64),
}

impl Message {
    fn wire(&self) -> Option<Wire> {
        Some(match self {
            Self::ToEtcd { server, .. } => Wire::ToEtcd(*server),
            Self::FromEtcd { server, .. } | Self::Watch { server, .. } => Wire::FromEtcd(*server),
            Self::Call { .. } => return None,
            Self::ToRouter { stream, .. } | Self::Ended { stream, .. } => Wire::ToRouter(*stream),
            Self::Attach { stream, .. }
            | Self::FromRouter { stream, .. }
            | Self::Cut { stream, .. } => Wire::FromRouter(*stream),
        })
    }

    /// What the trace of a run has of it.
    fn mark(&self) -> u64 {
        match self {
            Self::ToEtcd { server, .. } => 10 + *server as u64,
            Self::FromEtcd { server, .. } => 20 + *server as u64,
            Self::Watch { server, news, .. } => 30 + *server as u64 + 100 * news.len() as u64,
            Self::Call { call, .. } => 1_000 + call.id,
            Self::Attach { stream, .. } => 2_000 + *stream,
            Self::ToRouter { stream, .. } => 3_000 + *stream,
            Self::FromRouter { id, .. } => 4_000 + *id,
            Self::Ended { stream, .. } => 5_000 + *stream,
            Self::Cut { stream, .. } => 6_000 + *stream,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Net {
    queue: BTreeMap<(Ms, u64), Message>,
    sent: u64,
    /// When the last message on a wire arrives.
    last: HashMap<Wire, Ms>,
    /// Of all that has arrived, when and in which order.
    pub(super) trace: u64,
}

impl Net {
    /// Sends; it arrives then, or behind what was sent on the same wire before.
    pub(super) fn send(&mut self, arrives: Ms, message: Message) {
        let mut at = arrives;
        if let Some(wire) = message.wire() {
            let last = self.last.entry(wire).or_default();
            at = at.max(*last);
            *last = at;
        }
        self.sent += 1;
        self.queue.insert((at, self.sent), message);
    }

    /// The next that has arrived.
    pub(super) fn arrived(&mut self, now: Ms) -> Option<Message> {
        let next = self.queue.first_entry().filter(|it| it.key().0 <= now)?;
        let ((at, _), message) = next.remove_entry();
        for part in [at, message.mark()] {
            self.note(part);
        }
        Some(message)
    }

    /// Adds to the trace.
    pub(super) fn note(&mut self, part: u64) {
        self.trace = (self.trace ^ part).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
