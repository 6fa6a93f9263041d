//! What the control side says to a worker, and receives from it.
//!
//! Commands go through a bounded queue that the worker empties between bursts; each is answered by
//! one reply with its ticket. No packet waits for a command for longer than one turn of the loop.

pub(crate) mod twins;

use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender};

pub use self::twins::{FromWorker, ToWorker, Twins};
pub use crate::routing::{NextHop, RouteError};
use crate::{
    policy::Policy,
    quality::FlowQuality,
    routing::{Adjacency, InterfaceSet, Paths},
    session::{FiveTuple, FlowCounters, InstallError, Latched, SessionChange},
    settings::InterfaceState,
    stats::Report,
    trace::Tracer,
    units::{InterfaceIndex, PortIndex},
};

/// Something to do, and the number that its reply will carry.
#[derive(Debug)]
pub struct Command {
    /// Chosen by the sender.
    pub ticket: u64,
    /// What the worker is asked to do.
    pub request: Request,
}

/// What a worker can be asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Change a session's flows.
    Session(SessionChange),
    /// Reads the counters of these flows; the answer has them in this order.
    ReadFlows(Vec<FiveTuple>),
    /// Read the sources that waiting flows have learned, of some that have not been stopped since.
    ReadLatched,
    /// Add a route or change its next hop; `next_hop` must have been set by [`Request::SetAdjacency`]
    /// or [`Request::SetPaths`].
    SetRoute {
        /// The network address; bits past `length` must be 0.
        prefix: IpAddr,
        /// How many of its first bits count: up to 32 of IPv4, 128 of IPv6.
        length: u8,
        /// A next hop that has been set.
        next_hop: NextHop,
    },
    /// Removes the route to exactly this prefix.
    RemoveRoute {
        /// The network address; bits past `length` must be 0.
        prefix: IpAddr,
        /// How many of its first bits count.
        length: u8,
    },
    /// Say what a next hop means.
    SetAdjacency {
        /// The next hop that gets this meaning.
        next_hop: NextHop,
        /// What it means from now on.
        adjacency: Adjacency,
    },
    /// Say from which interfaces packets may come whose source's route has this next hop: those that it
    /// leads out of, neighbours known or not. Reverse-path filtering asks; until this is said, none.
    SetWaysIn {
        /// A next hop that has been set.
        next_hop: NextHop,
        /// Where packets may come in whose source is routed to it.
        interfaces: InterfaceSet,
    },
    /// Say whether a port's link is there. While it is not, what is to leave by it is dropped.
    SetLink {
        /// The port whose link changed.
        port: PortIndex,
        /// Whether it is there.
        up: bool,
    },
    /// Say what became of an interface.
    SetInterface {
        /// The interface whose state changed.
        interface: InterfaceIndex,
        /// As it is from now on.
        state: Box<InterfaceState>,
    },
    /// Let a port's queues rest, so that its device can be made again, or take them up again.
    SetOpen {
        /// The port whose queues are parked or resumed.
        port: PortIndex,
        /// Whether they are to be polled.
        open: bool,
    },
    /// Say that a next hop stands for several others, each of which has an adjacency.
    SetPaths {
        /// The next hop that becomes a group.
        next_hop: NextHop,
        /// The members of the group, by weight.
        paths: Box<Paths>,
    },
    /// Applies another policy from now on, between two bursts. What is in both keeps its counters and
    /// meters.
    SetPolicy(Box<Policy>),
    /// Write down what becomes of the next packets, with another tracer than before; `None`: no more.
    Trace(Option<Box<Tracer>>),
    /// Fill in a report, made by [`Report::new`].
    Report(Box<Report>),
}

/// The answer to a command.
#[derive(Debug)]
pub struct Reply {
    /// The ticket of the command that this answers.
    pub ticket: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a command.
#[derive(Debug)]
pub enum Answer {
    /// Of [`Request::Session`].
    Session(Result<(), InstallError>),
    /// Of [`Request::Session`] to several workers, some of which have made the change, and some not:
    /// it is to be undone.
    Parted(InstallError),
    /// Of [`Request::ReadFlows`], each in the place of its flow; `None` when there is no such flow.
    Flows(Vec<Option<FlowReading>>),
    /// Of [`Request::ReadLatched`]. Of several workers, there may be several for one destination.
    Latched(Vec<Latched>),
    /// Of the requests about routes and adjacencies.
    Route(Result<(), RouteError>),
    /// Of [`Request::SetLink`] and [`Request::SetOpen`].
    Link,
    /// Of [`Request::SetInterface`].
    Interface,
    /// Of [`Request::SetPolicy`]: the policy that was applied until now.
    Policy(Box<Policy>),
    /// Of [`Request::Trace`]: the tracer until now, with what it has. Of several workers with all they
    /// have, up to the room in each.
    Traced(Option<Box<Tracer>>),
    /// Of [`Request::Report`].
    Report(Box<Report>),
    /// Of what a core that only schedules is not to be asked.
    NotHere,
}

/// A flow's counters, and how long ago its last packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowReading {
    /// Since the flow was installed.
    pub counters: FlowCounters,
    /// Nanoseconds since the last packet, if one came.
    pub idle_ns: Option<u64>,
    /// What was measured of it, if it is.
    pub quality: Option<FlowQuality>,
}

/// The control side's end of a worker's queues, or of all cores'.
#[derive(Clone, Debug)]
pub struct Control {
    /// Bounded: a full queue is the sender's to handle.
    pub commands: Sender<Command>,
    /// One for each command.
    pub replies: Receiver<Reply>,
}
