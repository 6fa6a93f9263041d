//! Carries out what agents and routers ask.
//!
//! One lock guards all state and is held for in-memory steps only, never while waiting. What has
//! to wait for routers is an operation: at most one runs on a session at a time, each in a task of
//! its own, so that a caller who goes away cannot leave it half done.

mod state;
mod clock;
mod counters;
mod calls;
mod routers;
mod leases;
mod observe;
mod keep;

#[cfg(test)]
mod tests;

use std::{
    ops::{Deref, DerefMut},
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex as Turn, Notify, Semaphore, broadcast, watch as latest};

pub(crate) use self::leases::silence::CHUNK as SILENT_CHUNK;
use self::{
    calls::{
        follow,
        moves::{self, Lane},
        preempt,
    },
    leases::{agents, lease},
    observe::{explain, overview, quality, record},
    routers::{forget, grace, retry},
    state::State,
};
pub use self::{
    calls::{latch::Latched, operation::Outcome},
    clock::Clock,
    counters::{Colours, EntryCounters},
    leases::silence::Silent,
    observe::{
        events::{Event, EventKind, InstallationView, SessionView},
        explain::{
            Explanation, FlowExplanation, LinkName, LocatedLoss, Score, Segment, Step, Verdict,
        },
        links::{LinkCall, LinkView},
        overview::{CallView, Cause, Overview},
        quality::{CallQuality, Place},
        query::{Page, RouterView, Standing},
        record::CallRecord,
        snapshot::Snapshot,
        strays::{EfClaim, NearMiss},
        watch::{WatchEnd, Watcher},
    },
    routers::link::{Command, Ended, Link, Outgoing, Reply, Summary, ToRouter},
};
pub use crate::model::leases::Reaper;
use crate::{
    cluster::Leader,
    events::{Events as History, Kind, Subject},
    identity::Claims,
    journal::{Backend, Contents, Journal, StoreError, record::RouterRecords},
    metrics::Metrics,
    model::{
        admission::{OnShrink, Policy},
        ids::{AttachmentId, new_epoch},
        leases::silence::SilenceLimits,
        report::Changes,
    },
};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a router has to acknowledge a command.
    pub acknowledge_timeout: Duration,
    /// How long after a router's first attach calls are left in place that it has and nobody has
    /// added. For as long after the start, routers are still expected to come.
    pub adopt_for: Duration,
    /// How long a router may be away until it is forgotten; zero: for ever.
    pub forget_routers_after: Duration,
    /// Whether links refuse calls.
    pub admission: Policy,
    /// What becomes of calls on a link whose budget falls below what they take.
    pub on_shrink: OnShrink,
    /// How long an agent's lease is.
    pub agent_ttl: Duration,
    /// For how long the sessions of an agent stay that is lost; zero: for ever.
    pub agent_lost: Duration,
    /// For how long sessions may be without packets.
    pub silence: SilenceLimits,
    /// The most sessions.
    pub max_sessions: usize,
    /// What routers may claim with their edge interfaces.
    pub may_claim: Arc<Claims>,
    /// The most sessions of one agent.
    pub max_sessions_per_agent: usize,
    /// The most routers.
    pub max_routers: usize,
    /// The most WatchSessions, WatchEvents and WatchOverview streams.
    pub max_watchers: usize,
    /// How many events a watcher may be behind.
    pub watch_buffer: usize,
    /// How many commands a router may have that it has not answered; more wait here.
    pub router_buffer: usize,
    /// How long a watcher may leave events unread.
    pub read_timeout: Duration,
    /// How many sessions of a router are synchronised at once.
    pub synchronise_window: usize,
    /// How many routers are synchronised at once; the others wait.
    pub routers_at_once: usize,
    /// How often it is tried again what a router refused and no agent waits for.
    pub retry_every: Duration,
    /// After how long without an answer a router that owes none is asked whether it still answers;
    /// zero: never.
    pub probe_every: Duration,
    /// How far apart the two readings are from which an explanation tells what happens now.
    pub explain_sample: Duration,
    /// It has no sessions, as another server leads: nobody is let to it.
    pub stands_by: bool,
    /// Wall clock and monotonic clock.
    pub clock: Clock,
    /// What measures how long the engine's lock is held; absent outside of measurements.
    pub holds: Option<Holds>,
}

/// What can be set while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What routers may claim with their edge interfaces.
    pub may_claim: Arc<Claims>,
    /// The most sessions of one agent.
    pub max_sessions_per_agent: usize,
}

/// Told of each hold of the engine's lock, by the thread that has it.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// The lock has been taken, at this place of the code.
    pub taken: fn(&'static Location<'static>),
    /// The lock is about to be given back.
    pub given: fn(),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acknowledge_timeout: Duration::from_secs(5),
            adopt_for: Duration::from_secs(60),
            forget_routers_after: Duration::from_secs(24 * 3600),
            admission: Policy::ByLink,
            on_shrink: OnShrink::Keep,
            agent_ttl: Duration::from_secs(60),
            agent_lost: Duration::from_secs(1_800),
            silence: SilenceLimits::default(),
            max_sessions: 1_000_000,
            may_claim: Arc::default(),
            max_sessions_per_agent: 1_000_000,
            max_routers: 1_024,
            max_watchers: 64,
            watch_buffer: 16_384,
            router_buffer: 512,
            read_timeout: Duration::from_secs(30),
            synchronise_window: 256,
            routers_at_once: 32,
            retry_every: Duration::from_secs(10),
            probe_every: Duration::from_secs(5),
            explain_sample: Duration::from_secs(1),
            stands_by: false,
            clock: Clock::system(),
            holds: None,
        }
    }
}

/// The server, less its network.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    limits: latest::Sender<Limits>,
    /// Differs for each start of the process, or with a store for each store.
    epoch: u64,
    /// Who this server is among several.
    leader: Leader,
    state: Mutex<State>,
    /// Commits what has to survive the process.
    journal: Journal,
    attachments: AtomicU64,
    events: broadcast::Sender<Arc<Event>>,
    watchers: Arc<Semaphore>,
    /// Held by whoever changes what routers reach, which takes many holds of `state`.
    reports: Turn<RouterRecords>,
    /// What routers reach has changed, so sessions may belong elsewhere now.
    reach_changed: Notify,
    /// Links may have less room for what they carry.
    links_changed: Notify,
    /// There are sessions to move.
    moves_due: moves::Bells,
    /// Counts how often agents were asked about silent sessions.
    asked: latest::Sender<u64>,
    /// Routers that may be synchronised besides those that are.
    synchronising: Semaphore,
    stopping: latest::Sender<bool>,
    metrics: Arc<Metrics>,
    history: History,
    lookout: overview::Lookout,
    earlier: Mutex<explain::Earlier>,
    watched: quality::Watched,
    recorder: record::Recorder,
}

impl Engine {
    /// Starts it without a store. Must be called in a Tokio runtime.
    pub fn start(settings: Settings) -> Arc<Self> {
        let epoch = new_epoch(settings.clock.unix());
        let state = State::new(&settings);
        let records = RouterRecords::default();
        Self::run(
            settings,
            (epoch, Leader::default()),
            state,
            Journal::none(),
            records,
            Arc::default(),
        )
    }

    /// Starts it with what a store holds: its sessions are wanted, and its routers away until they
    /// attach. Must be called in a Tokio runtime.
    pub fn restore(settings: Settings, backend: impl Backend) -> Result<Arc<Self>, StoreError> {
        Self::restore_with(settings, backend, Journal::start)
    }

    /// The same with a journal that `start` makes of the store and the number of the next session.
    pub(crate) fn restore_with<B: Backend>(
        settings: Settings,
        mut backend: B,
        start: impl FnOnce(B, u64, Arc<Metrics>) -> Result<Journal, StoreError>,
    ) -> Result<Arc<Self>, StoreError> {
        let now = settings.clock.unix();
        let mut contents = Contents::load(&mut backend, settings.max_routers, now)?;
        let (epoch, leader, next_id) = (backend.epoch(), backend.leader(), contents.next_id);
        let records = std::mem::take(&mut contents.router_records);
        let state = State::restored(&settings, contents, backend.is_new());
        let metrics: Arc<Metrics> = Arc::default();
        let journal = start(backend, next_id, metrics.clone())?;
        let known_as = (epoch, leader);
        Ok(Self::run(
            settings, known_as, state, journal, records, metrics,
        ))
    }

    fn run(
        settings: Settings,
        (epoch, leader): (u64, Leader),
        state: State,
        journal: Journal,
        records: RouterRecords,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let limits = Limits {
            may_claim: settings.may_claim.clone(),
            max_sessions_per_agent: settings.max_sessions_per_agent,
        };
        let engine = Arc::new(Self {
            epoch,
            limits: latest::Sender::new(limits),
            leader,
            state: Mutex::new(state),
            journal,
            attachments: AtomicU64::new(1),
            events: broadcast::Sender::new(settings.watch_buffer.max(1)),
            watchers: Arc::new(Semaphore::new(settings.max_watchers)),
            reports: Turn::new(records),
            reach_changed: Notify::new(),
            links_changed: Notify::new(),
            moves_due: moves::Bells::default(),
            asked: latest::Sender::new(0),
            synchronising: Semaphore::new(settings.routers_at_once.max(1)),
            stopping: latest::Sender::new(false),
            metrics,
            history: History::default(),
            lookout: overview::Lookout::default(),
            earlier: Mutex::default(),
            watched: quality::Watched::default(),
            recorder: record::Recorder::default(),
            settings,
        });
        engine.note(Kind::ServerStarted, Subject::Server, || {
            format!("voicelane-server {} started", env!("CARGO_PKG_VERSION"))
        });
        tokio::spawn(follow::follow(engine.clone()));
        tokio::spawn(preempt::run(engine.clone()));
        tokio::spawn(grace::grow_up(engine.clone()));
        tokio::spawn(forget::expire(engine.clone()));
        tokio::spawn(lease::reap(engine.clone()));
        tokio::spawn(agents::reap(engine.clone()));
        tokio::spawn(quality::watch(engine.clone()));
        for lane in [Lane::Ordinary, Lane::Mute] {
            tokio::spawn(moves::run(engine.clone(), lane));
            tokio::spawn(retry::retry(engine.clone(), lane));
        }
        engine
    }

    /// Ends every stream, so that the server can go down. Routers go on with what they have.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        self.reach_changed.notify_one();
        self.links_changed.notify_one();
        self.moves_due.ring();
    }

    /// Other limits from now on. What attached routers reported is sifted anew, and what others reported when
    /// they attach again; sessions stay.
    pub fn limit(self: &Arc<Self>, limits: Limits) {
        let former = self.limits.send_replace(limits);
        if former.may_claim == self.limits.borrow().may_claim {
            return;
        }
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        for link in links {
            if !self.report_changes(&link, Changes::default()) {
                link.end(Ended::TooLarge);
            }
        }
    }

    /// How long an agent's lease is.
    pub fn agent_ttl(&self) -> Duration {
        self.settings.agent_ttl
    }

    /// Becomes true when the server goes down.
    pub fn stopping(&self) -> latest::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Resolves when the server goes down, or the engine is gone.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopping = self.stopping();
        async move { drop(stopping.wait_for(|stopping| *stopping).await) }
    }

    /// The store that it commits to.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Differs for each start of the process, or with a store for each store.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who this server is among several.
    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn clock(&self) -> &Clock {
        &self.settings.clock
    }

    /// Events for operators, the last of each kind.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Notes for operators what has happened.
    pub(crate) fn note(
        &self,
        kind: Kind,
        subject: impl Into<Subject>,
        text: impl FnOnce() -> String,
    ) {
        self.history.note(self.clock().unix(), kind, subject, text);
    }

    fn earlier(&self) -> MutexGuard<'_, explain::Earlier> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_attachment(&self) -> AttachmentId {
        AttachmentId(self.attachments.fetch_add(1, Ordering::Relaxed))
    }

    /// For in-memory steps only. A panic elsewhere must not end all calls' control, so a poisoned
    /// lock is taken all the same.
    #[track_caller]
    fn lock(&self) -> Held<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = self.settings.holds;
        if let Some(holds) = holds {
            (holds.taken)(Location::caller());
        }
        Held { state, holds }
    }
}

/// The engine's lock while it is held.
struct Held<'a> {
    state: MutexGuard<'a, State>,
    holds: Option<Holds>,
}

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(holds) = self.holds {
            (holds.given)();
        }
    }
}
