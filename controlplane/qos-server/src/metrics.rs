//! The server's own figures, as OpenMetrics text.
//!
//! No label holds what comes from outside, but for delays between routers, whose number is bounded: the
//! number of series does not depend on agents or sessions. `Operator.ListRouters` tells the routers apart.

mod paths;

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::engine::{Command, Reaper, Segment, Snapshot};

type Label = (&'static str, &'static str);
/// Where a snapshot has a gauge's value.
type Of = fn(&Snapshot) -> u64;
type Histograms = Family<[Label; 1], Histogram, fn() -> Histogram>;

/// A change that an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// AddSession.
    Add,
    /// ModifySession.
    Modify,
    /// DeleteSession.
    Delete,
}

impl Change {
    /// As labels have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::Delete => "delete",
        }
    }
}

/// What a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To install a session.
    Install,
    /// To remove one.
    Remove,
    /// For a session's counters.
    Read,
}

impl Asked {
    /// By a command.
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Install { .. } => Self::Install,
            Command::Remove(_) => Self::Remove,
            Command::Read(_) => Self::Read,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Remove => "remove",
            Self::Read => "read",
        }
    }
}

/// How a router answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did what it was asked.
    Done,
    /// It said no.
    Refused,
    /// Not in time.
    Late,
    /// Its stream ended.
    Lost,
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

/// The figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    changes: Family<[Label; 2], Counter>,
    change_seconds: Histograms,
    commands: Family<[Label; 2], Counter>,
    answer_seconds: Histograms,
    reaped: Family<[Label; 1], Counter>,
    lost_packets: Family<[Label; 1], Counter>,
    scores: Histogram,
    paths: paths::Paths,
    commits: Counter,
    commit_changes: Histogram,
    commit_seconds: Histogram,
    sessions: Family<[Label; 1], Gauge>,
    bad_calls: Family<[Label; 1], Gauge>,
    routers: Family<[Label; 1], Gauge>,
    gauges: Vec<(Gauge, Of)>,
    /// Open connections of agents, routers and operators.
    pub connections: Gauge,
    longest_owed_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

/// Where users are satisfied, some or many of them are not, and so on (ITU-T G.107 annex B).
const SCORES: [f64; 8] = [1.0, 2.0, 2.6, 3.1, 3.6, 4.0, 4.3, 4.5];

/// Gauges without labels: name, where a snapshot has it, and help.
macro_rules! gauges {
    ($($name:ident: $of:ident, $help:literal;)*) => {
        [$((stringify!($name), $help, |it| u64::from(it.$of))),*]
    };
}

const GAUGES: [(&str, &str, Of); 13] = gauges! {
    voicelane_server_outstanding_commands: outstanding, "Commands that routers have not answered";
    voicelane_server_queued_commands: queued, "Messages to routers that wait to be written";
    voicelane_server_longest_command_queue: longest_queue, "Messages that wait to be written to the router with most of them";
    voicelane_server_running_operations: running, "Sessions on which an operation runs";
    voicelane_server_queued_operations: waiting, "Operations that wait for another one on their session";
    voicelane_server_unsettled_sessions: unsettled, "Sessions of which something failed that is tried again";
    voicelane_server_silent_sessions: silent, "Sessions that routers say no packet has come for lately";
    voicelane_server_agents: agents, "Agents whose lease runs";
    voicelane_server_lost_agents: lost_agents, "Agents whose lease ran out and whose calls go if they do not come back";
    voicelane_server_watchers: watchers, "WatchSessions, WatchEvents and WatchOverview streams";
    voicelane_server_serving: serving, "1: the server takes requests, 0: it is going down, or stands by";
    voicelane_server_term: term, "Of several servers, how many have led, with this one; 0: it does not lead, or is the only one";
    voicelane_server_start_time_seconds: started_unix_s, "When the server started, since the Unix epoch";
};

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 13 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(1e-4, 2.0, 18));
        let mut registry = Registry::default();
        let mut it = Self {
            changes: Family::default(),
            change_seconds: Family::new_with_constructor(histogram),
            commands: Family::default(),
            answer_seconds: Family::new_with_constructor(histogram),
            reaped: Family::default(),
            lost_packets: Family::default(),
            scores: Histogram::new(SCORES),
            paths: paths::Paths::default(),
            commits: Counter::default(),
            // 1 to 4,096.
            commit_changes: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            commit_seconds: histogram(),
            sessions: Family::default(),
            bad_calls: Family::default(),
            routers: Family::default(),
            gauges: Vec::new(),
            connections: Gauge::default(),
            longest_owed_seconds: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "voicelane_server_changes",
            "Changes that agents asked for, by kind and the gRPC code that they were answered with",
            it.changes.clone(),
        );
        registry.register_with_unit(
            "voicelane_server_change_duration",
            "From a change's request to its answer",
            Unit::Seconds,
            it.change_seconds.clone(),
        );
        registry.register(
            "voicelane_server_commands",
            "Commands to routers, by what was asked and how it was answered",
            it.commands.clone(),
        );
        registry.register_with_unit(
            "voicelane_server_command_duration",
            "From a command to the router's answer",
            Unit::Seconds,
            it.answer_seconds.clone(),
        );
        registry.register(
            "voicelane_server_reaped_sessions",
            "Sessions that were removed though no agent has deleted them, by what has removed them",
            it.reaped.clone(),
        );
        registry.register_with_unit(
            "voicelane_rtp_lost",
            "Packets that calls lose which routers tell of, by where",
            Unit::Other("packets".to_owned()),
            it.lost_packets.clone(),
        );
        registry.register(
            "voicelane_call_mos",
            "Scores (ITU-T G.107) of the flows of these calls, at each look: every two seconds at first, then every five; of codecs in G.113",
            it.scores.clone(),
        );
        it.paths.register(&mut registry);
        registry.register(
            "voicelane_server_store_commits",
            "Commits to the store",
            it.commits.clone(),
        );
        registry.register(
            "voicelane_server_store_commit_changes",
            "Changes of a commit to the store",
            it.commit_changes.clone(),
        );
        registry.register_with_unit(
            "voicelane_server_store_commit_duration",
            "How long a commit to the store took",
            Unit::Seconds,
            it.commit_seconds.clone(),
        );
        registry.register(
            "voicelane_server_sessions",
            "Sessions, by state",
            it.sessions.clone(),
        );
        registry.register(
            "voicelane_server_bad_calls",
            "Sessions that routers have told of and that are bad, by what is: they lose 1 % or more of a flow's \
             packets, are heard one way only, or nothing gets from one router to the other",
            it.bad_calls.clone(),
        );
        registry.register(
            "voicelane_server_routers",
            "Routers that have attached, by state",
            it.routers.clone(),
        );
        registry.register_with_unit(
            "voicelane_server_longest_owed_answer",
            "How long a router has owed an answer without giving any, at most",
            Unit::Seconds,
            it.longest_owed_seconds.clone(),
        );
        registry.register(
            "voicelane_server_connections",
            "Open connections of agents, routers and operators",
            it.connections.clone(),
        );
        for (name, help, of) in GAUGES {
            let gauge = Gauge::default();
            match name.strip_suffix("_seconds") {
                Some(name) => {
                    registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
                }
                None => registry.register(name, help, gauge.clone()),
            }
            it.gauges.push((gauge, of));
        }
        it.registry = registry;
        // So that the first one of each shows as an increase.
        for change in [Change::Add, Change::Modify, Change::Delete] {
            let kind = ("kind", change.name());
            for code in ["ok", "resource_exhausted"] {
                drop(it.changes.get_or_create(&[kind, ("code", code)]));
            }
            drop(it.change_seconds.get_or_create(&[kind]));
        }
        for segment in Segment::ALL {
            drop(it.lost_packets.get_or_create(&[self::segment(segment)]));
        }
        for by in Reaper::ALL {
            drop(it.reaped.get_or_create(&[reaper(by)]));
        }
        for asked in [Asked::Install, Asked::Remove, Asked::Read] {
            let command = ("command", asked.name());
            for answer in [Answer::Done, Answer::Refused, Answer::Late, Answer::Lost] {
                let labels = [command, ("answer", answer.name())];
                drop(it.commands.get_or_create(&labels));
            }
            drop(it.answer_seconds.get_or_create(&[command]));
        }
        it
    }
}

impl Metrics {
    /// A change was answered; `code` is the gRPC code's name in lower case.
    pub fn changed(&self, change: Change, code: &'static str, took: Duration) {
        let kind = ("kind", change.name());
        self.changes.get_or_create(&[kind, ("code", code)]).inc();
        self.change_seconds
            .get_or_create(&[kind])
            .observe(took.as_secs_f64());
    }

    /// A router answered, or did not.
    pub fn answered(&self, asked: Asked, answer: Answer, took: Duration) {
        let command = ("command", asked.name());
        self.commands
            .get_or_create(&[command, ("answer", answer.name())])
            .inc();
        if matches!(answer, Answer::Done | Answer::Refused) {
            self.answer_seconds
                .get_or_create(&[command])
                .observe(took.as_secs_f64());
        }
    }

    /// A session was removed that no agent has deleted.
    pub fn reaped(&self, by: Reaper) {
        self.reaped.get_or_create(&[reaper(by)]).inc();
    }

    /// Calls have lost so many packets more in a segment.
    pub fn lost(&self, segment: Segment, packets: u64) {
        let of = self.lost_packets.get_or_create(&[self::segment(segment)]);
        of.inc_by(packets);
    }

    /// Five seconds of a flow sounded so.
    pub fn scored(&self, mos: f64) {
        self.scores.observe(mos);
    }

    /// Packets took so long from one router to another and back.
    pub fn path_delay(&self, routers: [&str; 2], delay: Duration) {
        self.paths.observe(routers, delay);
    }

    /// So many changes were committed to the store.
    pub fn committed(&self, changes: usize, took: Duration) {
        self.commits.inc();
        self.commit_changes
            .observe(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// All figures, those of the moment from the snapshot.
    pub fn text(&self, now: &Snapshot) -> String {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        for (state, count) in now.sessions {
            set(&self.sessions.get_or_create(&[("state", state)]), count);
        }
        for (cause, count) in now.bad_calls {
            set(&self.bad_calls.get_or_create(&[("cause", cause)]), count);
        }
        for (state, count) in now.routers {
            set(&self.routers.get_or_create(&[("state", state)]), count);
        }
        for (gauge, of) in &self.gauges {
            set(gauge, of(now));
        }
        self.longest_owed_seconds
            .set(now.longest_owed.as_secs_f64());
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn segment(segment: Segment) -> Label {
    let name = match segment {
        Segment::Before => "before",
        Segment::InSource => "in_source",
        Segment::Between => "between",
        Segment::InDestination => "in_destination",
        Segment::After => "after",
    };
    ("segment", name)
}

fn reaper(reaper: Reaper) -> Label {
    let name = match reaper {
        Reaper::Lease => "lease",
        Reaper::Preempted => "preempted",
        Reaper::AgentLost => "agent_lost",
        Reaper::Silence => "silence",
        Reaper::Hold => "hold",
        Reaper::Unused => "unused",
    };
    ("reaper", name)
}

/// Counts a change when it ends, however it ends.
#[derive(Debug)]
pub struct Measured {
    metrics: Arc<Metrics>,
    change: Change,
    began: std::time::Instant,
    /// The gRPC code's name; whoever goes away before the answer leaves this.
    pub code: &'static str,
}

impl Measured {
    /// From now on.
    pub fn new(metrics: Arc<Metrics>, change: Change) -> Self {
        Self {
            metrics,
            change,
            began: std::time::Instant::now(),
            code: "cancelled",
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics
            .changed(self.change, self.code, self.began.elapsed());
    }
}
