//! What an operator looks at first: how all calls stand, the fullest links, the routers.
//!
//! While somebody looks, one task looks at everything about once a second and all read what it found.
//! It holds the lock for slices, rests for nine times as long as it takes, and ends when nobody looks.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::yield_now, time::sleep};

use crate::{
    engine::{CallQuality, EfClaim, Engine, LinkView, Place, RouterView, SessionView, Standing},
    model::{
        ids::{RouterId, SessionKey, UnixMs},
        links::LinkId,
        session::SessionState,
        store::InstallationState,
    },
};

/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 64;
/// Routers looked at under one hold of the lock.
const ROUTERS: usize = 64;
/// Links asked for at once.
const LINKS: usize = 256;
/// From one overview to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How much longer than a look takes is waited until the next one.
const REST: u32 = 9;
/// A call may wait for its routers for so long.
const INSTALLED_AFTER: Duration = Duration::from_secs(1);
/// The most links of an overview.
const MOST_LINKS: usize = 50;
/// The most routers of an overview.
const MOST_ROUTERS: usize = 100;
/// The most senders of EF without a call.
const MOST_EF_CLAIMS: usize = 20;
/// Calls searched before other tasks get the thread.
const SEARCHED: usize = 512;
/// The causes that the sentence names.
const MOST_CAUSES: usize = 3;

/// Why a call does not have all of its lane, the least bad first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Cause {
    /// For more than a second.
    #[error("router {0} has not acknowledged")]
    Waits(RouterId),
    /// It serves what it has.
    #[error("router {0} is away")]
    Away(RouterId),
    #[error("it cannot be placed as it should be")]
    Misplaced,
    #[error("router {0} refuses")]
    Refused(RouterId),
    /// A way of it loses 1 % of its packets, or more, most of them here.
    #[error("packets are lost {0}")]
    Loses(Place),
    /// Nothing comes of one way, while the other one is heard.
    #[error("only one way is heard")]
    OneWay,
    /// What comes of one way to the first router does not come to the second.
    #[error("nothing gets from router {0} to router {1}")]
    Cut(RouterId, RouterId),
}

impl Cause {
    /// How bad it is: 1 and up.
    pub fn badness(&self) -> u32 {
        match self {
            Self::Waits(_) => 1,
            Self::Away(_) => 2,
            Self::Misplaced => 3,
            Self::Refused(_) => 4,
            Self::Loses(_) => 5,
            Self::OneWay => 6,
            Self::Cut(..) => 7,
        }
    }
}

/// A call in an overview.
#[derive(Clone, Debug)]
pub struct CallView {
    /// The session, with its state at each router.
    pub session: Arc<SessionView>,
    /// What is wrong with it, if something is.
    pub cause: Option<Cause>,
    /// How it sounds, if routers have told of it.
    pub quality: Option<Arc<CallQuality>>,
}

/// How everything stands at one moment.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Wall-clock time at which it was taken.
    pub at: UnixMs,
    /// All calls, those with something wrong first, the worst first: by the kind of their cause, then by what
    /// they lose and how they sound.
    pub calls: Vec<CallView>,
    /// How many have something wrong.
    pub bad: usize,
    /// Links by how full they are, fullest first.
    pub links: Vec<LinkView>,
    /// How many links there are.
    pub total_links: usize,
    /// Routers, those first that are not well.
    pub routers: Vec<RouterView>,
    /// How many routers there are.
    pub total_routers: usize,
    /// Who has sent EF without a call lately, with the router that tells of it; who sends most first.
    pub ef_claims: Vec<(RouterId, EfClaim)>,
    /// How many do.
    pub total_ef_claims: usize,
    /// All there is in a sentence.
    pub sentence: String,
}

/// What the last look has found; absent while nobody looks.
type Latest = Option<Arc<Overview>>;

/// Who looks, and what they see.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lookout {
    latest: watch::Sender<Latest>,
    /// Whether somebody is there to look.
    runs: Mutex<bool>,
}

impl Engine {
    /// Sees how everything stands, anew about once a second, as long as the receiver is kept.
    pub fn look(self: &Arc<Self>) -> watch::Receiver<Latest> {
        let mut runs = self.lookout_runs();
        let latest = self.lookout.latest.subscribe();
        if !*runs {
            *runs = true;
            tokio::spawn(self.clone().look_out());
        }
        latest
    }

    /// Whether an overview is made each second, as somebody subscribes to it.
    pub fn is_looked_at(&self) -> bool {
        *self.lookout_runs()
    }

    fn lookout_runs(&self) -> std::sync::MutexGuard<'_, bool> {
        let runs = self.lookout.runs.lock();
        runs.unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_out(self: Arc<Self>) {
        loop {
            {
                let mut runs = self.lookout_runs();
                if self.lookout.latest.receiver_count() == 0 || *self.stopping.borrow() {
                    *runs = false;
                    self.lookout.latest.send_replace(None);
                    return;
                }
            }
            let began = Instant::now();
            let overview = self.overview().await;
            self.lookout.latest.send_replace(Some(Arc::new(overview)));
            let rest = EVERY.max(began.elapsed() * REST);
            tokio::select! {
                () = sleep(rest) => {}
                () = self.stopped() => {}
            }
        }
    }

    async fn overview(&self) -> Overview {
        // Before the time is taken, so that nothing is told of that is later.
        let qualities = self.qualities();
        let at = self.clock().unix();
        let (mut bad, mut good) = (Vec::new(), Vec::new());
        let mut last: Option<SessionKey> = None;
        loop {
            let chunk = self.sessions(None, last.as_ref(), CHUNK);
            last = chunk.sessions.last().map(|it| it.spec.key.clone());
            for session in chunk.sessions {
                let quality = qualities.get(&session.spec.key).cloned();
                let sounds = quality.as_ref().and_then(|it| it.cause.clone());
                let cause = cause(&session, at).max(sounds);
                let calls = if cause.is_some() { &mut bad } else { &mut good };
                calls.push(CallView {
                    session,
                    cause,
                    quality,
                });
            }
            if !chunk.more {
                break;
            }
            yield_now().await;
        }
        for calls in [&mut bad, &mut good] {
            calls.sort_by(|one, other| other.compare_badness(one));
        }
        let (links, total_links) = self.fullest_links().await;
        let (routers, total_routers, unwell) = self.routers_by_need().await;
        let many = bad.len();
        let sentence = sentence(&bad, good.len(), &unwell);
        bad.append(&mut good);
        let mut ef_claims = self.ef_claims();
        let total_ef_claims = ef_claims.len();
        ef_claims.truncate(MOST_EF_CLAIMS);
        Overview {
            at,
            calls: bad,
            bad: many,
            links,
            total_links,
            routers,
            total_routers,
            ef_claims,
            total_ef_claims,
            sentence,
        }
    }

    async fn fullest_links(&self) -> (Vec<LinkView>, usize) {
        let mut all = Vec::new();
        let mut last: Option<Arc<LinkId>> = None;
        // Fails only for a router that is asked for.
        while let Ok(links) = self.links(None, last.as_deref(), LINKS) {
            let Some(end) = links.last() else {
                break;
            };
            last = Some(end.id.clone());
            all.extend(links);
            yield_now().await;
        }
        let total = all.len();
        // Parts of 10,000; what has no budget is never full, and comes by its load.
        let fullness = |link: &LinkView| match link.budget_bps {
            0 => (0, link.load.bps),
            budget => (link.load.bps * 10_000 / u128::from(budget), link.load.bps),
        };
        all.sort_by_key(|link| Reverse(fullness(link)));
        all.truncate(MOST_LINKS);
        (all, total)
    }

    /// Routers, those first that are not well; how many there are; and how many are away or mute.
    async fn routers_by_need(&self) -> (Vec<RouterView>, usize, [usize; 2]) {
        let mut all: Vec<RouterView> = Vec::new();
        loop {
            let last = all.last().map(|view| view.router.identity.id.clone());
            let routers = self.routers(last.as_ref(), ROUTERS);
            if routers.is_empty() {
                break;
            }
            all.extend(routers);
            yield_now().await;
        }
        let total = all.len();
        let unwell = [Standing::Away, Standing::Mute]
            .map(|standing| all.iter().filter(|it| it.standing == standing).count());
        all.sort_by_key(|router| router.standing == Standing::Synchronised);
        all.truncate(MOST_ROUTERS);
        (all, total, unwell)
    }
}

impl Overview {
    /// The first `most` calls in which `search` is found, and how many there are. Leaves the thread to
    /// others now and then.
    pub async fn find(&self, search: &str, most: usize) -> (Vec<&CallView>, usize) {
        if search.is_empty() {
            return (self.calls.iter().take(most).collect(), self.calls.len());
        }
        let wanted = search.to_lowercase();
        let mut found = Vec::new();
        let mut count = 0;
        let mut text = String::new();
        for (index, call) in self.calls.iter().enumerate() {
            if index % SEARCHED == SEARCHED - 1 {
                yield_now().await;
            }
            text.clear();
            call.describe(&mut text);
            if text.to_lowercase().contains(&wanted) {
                count += 1;
                if found.len() < most {
                    found.push(call);
                }
            }
        }
        (found, count)
    }
}

/// All there is in a sentence: what is wrong with calls, else with routers, of which some are away and
/// some mute.
fn sentence(bad: &[CallView], good: usize, [away, mute]: &[usize; 2]) -> String {
    let calls = match bad.len() + good {
        0 => "No calls".to_owned(),
        1 => "1 call".to_owned(),
        many => format!("{many} calls"),
    };
    if bad.is_empty() {
        let good = if good == 0 {
            ""
        } else {
            "; none is known to be bad"
        };
        let unwell = [(*away, "away"), (*mute, "mute")];
        let unwell: Vec<_> = unwell
            .into_iter()
            .filter_map(|(count, how)| match count {
                0 => None,
                1 => Some(format!("1 router is {how}")),
                many => Some(format!("{many} routers are {how}")),
            })
            .collect();
        return match &unwell[..] {
            [] => format!("{calls}{good}."),
            some => format!("{calls}{good}, but {}.", some.join(" and ")),
        };
    }
    let mut causes: BTreeMap<&Cause, usize> = BTreeMap::new();
    for cause in bad.iter().filter_map(|call| call.cause.as_ref()) {
        *causes.entry(cause).or_default() += 1;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, calls)| Reverse(*calls));
    let told = causes.iter().take(MOST_CAUSES);
    let mut parts: Vec<_> = told
        .map(|(cause, calls)| format!("{calls}: {cause}"))
        .collect();
    let rest: usize = causes
        .iter()
        .skip(MOST_CAUSES)
        .map(|(_, calls)| calls)
        .sum();
    if rest > 0 {
        parts.push(format!("{rest}: other causes"));
    }
    format!("{calls}; {} bad ({}).", bad.len(), parts.join("; "))
}

impl CallView {
    /// Since when it loses packets, or something else is wrong that routers have measured.
    pub fn wrong_since(&self) -> Option<UnixMs> {
        let quality = self.quality.as_ref()?;
        let is_said = quality.cause == self.cause && (self.cause.is_some() || quality.loses());
        quality.since.filter(|_| is_said)
    }

    /// The worse call is greater.
    fn compare_badness(&self, other: &Self) -> Ordering {
        let kind = |it: &Self| it.cause.as_ref().map_or(0, Cause::badness);
        let worse = || CallQuality::compare(self.quality.as_deref(), other.quality.as_deref());
        kind(self).cmp(&kind(other)).then_with(worse)
    }

    /// What a search looks at, a line each: names, addresses, routers, and what is wrong.
    fn describe(&self, text: &mut String) {
        use std::fmt::Write as _;

        let spec = &self.session.spec;
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}\n{}", spec.key, spec.correlation_id);
        for flow in &spec.flows {
            for end in [flow.course.source(), flow.course.destination()] {
                let _ = end.map(|end| writeln!(text, "{end}"));
            }
        }
        for on in &self.session.installations {
            let _ = writeln!(text, "router {}", on.router);
        }
        if let Some(cause) = &self.cause {
            let _ = writeln!(text, "{cause}");
        }
        if let Some(problem) = &self.session.problem {
            let _ = writeln!(text, "{problem}");
        }
    }
}

/// The worst that is known of a call.
fn cause(session: &SessionView, now: UnixMs) -> Option<Cause> {
    let on_routers = session
        .installations
        .iter()
        .filter_map(|on| match on.state {
            InstallationState::Failed(_) => Some(Cause::Refused(on.router.clone())),
            InstallationState::Away => Some(Cause::Away(on.router.clone())),
            InstallationState::Pending
                if session.state != SessionState::Removing
                    && now.since(session.updated) > INSTALLED_AFTER =>
            {
                Some(Cause::Waits(on.router.clone()))
            }
            InstallationState::Pending | InstallationState::Installed => None,
        });
    let misplaced = session.problem.as_ref().map(|_| Cause::Misplaced);
    on_routers.chain(misplaced).max()
}
