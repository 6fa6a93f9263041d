//! Sessions that no packet comes for, and when they are asked about and go.
//!
//! Routers repeat which of their sessions are silent; what one has said holds for its stream, and for
//! [`SilenceLimits::word_holds`]. A session is silent if all its routers say so.
//!
//! ```text
//! silent for so long ─▶ Ask ─┬─ kept by its agent ─▶ counts anew
//!                            └─ not within `keep_within` ─▶ Reap
//! its agent is lost: ─▶ Reap at once
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use super::{Moment, Reaper, agents::Presence};
use crate::model::{
    ids::{AttachmentId, RouterId, SessionKey},
    work,
};

/// For how long sessions may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceLimits {
    /// One that has had packets; zero: none is asked about or removed for its silence.
    pub silent: Duration,
    /// How long an agent has to keep one that it was asked about.
    pub keep_within: Duration,
    /// One that is on hold.
    pub hold: Duration,
    /// One that has had no packet since it was installed, and whose agent cannot be asked.
    pub unused: Duration,
    /// For how long a router's word holds.
    pub word_holds: Duration,
}

impl Default for SilenceLimits {
    fn default() -> Self {
        Self {
            silent: Duration::from_secs(120),
            keep_within: Duration::from_secs(60),
            hold: Duration::from_secs(3_600),
            unused: Duration::from_secs(180),
            word_holds: Duration::from_secs(75),
        }
    }
}

/// What a router says of a session: no packet has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Which router.
    pub router: RouterId,
    /// On which stream.
    pub attachment: AttachmentId,
    /// When it said so.
    pub at: Moment,
    /// Since when.
    pub since: Moment,
    /// Since the session was installed there.
    pub never: bool,
}

/// What else decides about a session.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its routers, and the streams that they have.
    pub routers: Vec<(RouterId, Option<AttachmentId>)>,
    /// It is on hold.
    pub hold: bool,
    /// How its agent stands.
    pub agent: Presence,
}

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No router says any more that it is silent.
    Heard,
    /// Not all of its routers say so, and nothing changes by itself before then. Whatever was asked or kept
    /// counts no more.
    Unsure(Moment),
    /// Nothing before then.
    Wait(Moment),
    /// Its agent is to be asked.
    Ask,
    /// It goes.
    Reap(Reaper),
}

#[derive(Debug, Default)]
struct Silence {
    words: Vec<Word>,
    /// When its agent last kept it.
    kept: Option<Moment>,
    /// When its agent was asked, if it has not kept it since, and the number of the question.
    asked: Option<(Moment, u64)>,
    due: Option<Moment>,
}

impl Silence {
    fn judge(&mut self, facts: &Facts, limits: &SilenceLimits, now: Moment) -> Verdict {
        self.words.retain(|word| {
            let of = (word.router.clone(), Some(word.attachment));
            now <= word.at.plus(limits.word_holds) && facts.routers.contains(&of)
        });
        let holds_until = self.words.iter().map(|word| word.at).min();
        let Some(holds_until) = holds_until.filter(|_| !limits.silent.is_zero()) else {
            return Verdict::Heard;
        };
        // What holds no more is looked at, too, so that nothing stays of what was heard.
        let look_at = holds_until
            .plus(limits.word_holds)
            .plus(Duration::from_millis(1));
        if self.words.len() < facts.routers.len() {
            (self.kept, self.asked) = (None, None);
            return Verdict::Unsure(look_at);
        }
        let since = self.words.iter().map(|word| word.since).max();
        let since = since.unwrap_or(now);
        let never = self.words.iter().all(|word| word.never);
        let start = self.kept.map_or(since, |kept| kept.max(since));
        let never = never && self.kept.is_none();
        let (limit, reaper) = match (facts.hold, never) {
            (true, _) => (limits.hold, Reaper::Hold),
            (false, true) => (limits.unused, Reaper::Unused),
            (false, false) => (limits.silent, Reaper::Silence),
        };
        let ask_at = start.plus(if facts.hold {
            limits.hold
        } else {
            limits.silent
        });
        let (at, verdict) = match (facts.agent, self.asked) {
            (Presence::Lost, _) => (start.plus(limit), Verdict::Reap(reaper)),
            (_, None) => (ask_at, Verdict::Ask),
            // It may be on hold only since it was asked about.
            (_, Some((asked, _))) => (
                asked.plus(limits.keep_within).max(ask_at),
                Verdict::Reap(reaper),
            ),
        };
        if at <= now {
            verdict
        } else {
            Verdict::Wait(at.min(look_at))
        }
    }
}

/// Questions to an agent that it has not been told. They are looked at page by page, and others are asked
/// meanwhile, of sessions on any page: those are left to the next pass.
#[derive(Clone, Debug)]
pub struct Untold {
    after: u64,
    upto: u64,
    last: Option<SessionKey>,
}

impl Untold {
    /// The last question before the pass began: the next one is of those after it.
    pub fn upto(&self) -> u64 {
        self.upto
    }
}

/// The sessions that routers say are silent.
#[derive(Debug, Default)]
pub struct Silences {
    sessions: BTreeMap<SessionKey, Silence>,
    due: BTreeSet<(Moment, SessionKey)>,
    questions: u64,
}

impl Silences {
    /// A router says that a session is silent. It is to be judged now.
    pub fn hear(&mut self, key: &SessionKey, word: Word) {
        let now = word.at;
        let silence = self.sessions.entry(key.clone()).or_default();
        let same = |it: &&mut Word| it.router == word.router;
        match silence.words.iter_mut().find(same) {
            Some(there) => *there = word,
            None => silence.words.push(word),
        }
        self.set_due(key, Some(now));
    }

    /// What is to be done about a session. When it is due next follows from that; an agent that is to be
    /// asked counts as asked.
    pub fn judge(
        &mut self,
        key: &SessionKey,
        facts: &Facts,
        limits: &SilenceLimits,
        now: Moment,
    ) -> Verdict {
        work::step();
        let Some(silence) = self.sessions.get_mut(key) else {
            return Verdict::Heard;
        };
        let verdict = silence.judge(facts, limits, now);
        let due = match verdict {
            Verdict::Heard => {
                self.forget(key);
                return verdict;
            }
            Verdict::Wait(at) | Verdict::Unsure(at) => at,
            Verdict::Ask => {
                self.questions += 1;
                silence.asked = Some((now, self.questions));
                now.plus(limits.keep_within)
            }
            // Unless that fails.
            Verdict::Reap(_) => now.plus(limits.keep_within),
        };
        self.set_due(key, Some(due));
        verdict
    }

    /// The agent keeps a session; false if it was not silent. It is to be judged again.
    pub fn keep(&mut self, key: &SessionKey, now: Moment) -> bool {
        let Some(silence) = self.sessions.get_mut(key) else {
            return false;
        };
        silence.kept = Some(now);
        silence.asked = None;
        self.set_due(key, Some(now));
        true
    }

    /// Takes out a session that is to be judged now.
    pub fn take_due(&mut self, now: Moment) -> Option<SessionKey> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        if let Some(silence) = self.sessions.get_mut(&key) {
            silence.due = None;
        }
        Some(key)
    }

    /// The next silent sessions of an agent after `after`, at most `most`, each with the number of the open
    /// question about it, which grows.
    pub fn of_agent(
        &self,
        agent: &str,
        after: Option<&SessionKey>,
        most: usize,
    ) -> Vec<(SessionKey, Option<u64>)> {
        let first = SessionKey::before_agent(agent);
        let start = after.max(first.as_ref());
        let start = start.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self
            .sessions
            .range::<SessionKey, _>((start, Bound::Unbounded));
        all.inspect(|_| work::step())
            .take_while(|(key, _)| key.agent() == agent)
            .take(most)
            .map(|(key, silence)| (key.clone(), silence.asked.map(|(_, number)| number)))
            .collect()
    }

    /// The open questions later than the one of this number.
    pub fn untold(&self, after: u64) -> Untold {
        Untold {
            after,
            upto: self.questions,
            last: None,
        }
    }

    /// Those among the next silent sessions of an agent, at most `most`, that a question of the pass is about;
    /// absent at the end.
    pub fn next_untold(
        &self,
        agent: &str,
        untold: &mut Untold,
        most: usize,
    ) -> Option<Vec<SessionKey>> {
        let silent = self.of_agent(agent, untold.last.as_ref(), most);
        untold.last = Some(silent.last()?.0.clone());
        let asked = |number: u64| untold.after < number && number <= untold.upto;
        let asked = silent
            .into_iter()
            .filter(|(_, number)| number.is_some_and(asked));
        Some(asked.map(|(key, _)| key).collect())
    }

    /// A session is to be judged now, if it is silent.
    pub fn hurry(&mut self, key: &SessionKey, now: Moment) {
        if self.sessions.contains_key(key) {
            self.set_due(key, Some(now));
        }
    }

    /// A session is not silent, or not there any more.
    pub fn forget(&mut self, key: &SessionKey) {
        self.set_due(key, None);
        self.sessions.remove(key);
    }

    /// How many sessions are silent.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn set_due(&mut self, key: &SessionKey, at: Option<Moment>) {
        let Some(silence) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(former) = std::mem::replace(&mut silence.due, at) {
            self.due.remove(&(former, key.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, key.clone()));
        }
    }
}
