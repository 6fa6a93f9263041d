//! Silent sessions and agents' leases against a plain model: what is due is found by looking at everything.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use crate::model::{
    ids::{AttachmentId, RouterId, SessionKey},
    leases::{
        Moment, Reaper,
        agents::{Agents, Due, Presence, Renewed},
        silence::{Facts, SilenceLimits, Silences, Verdict, Word},
    },
};

const AGENTS: [&str; 2] = ["x", "y"];
const TTL: Duration = Duration::from_secs(60);
const STAY: Duration = Duration::from_secs(1_800);

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// A packet of a session comes.
    Packet(usize),
    /// A session is added; its agent's index.
    Add(usize, usize, bool),
    /// A session is put on hold, or is no more.
    Hold(usize, bool),
    /// The agent keeps what it was asked about.
    Keep(usize),
    /// The agent renews its lease.
    Renew(usize),
    /// A router is lost and comes back, on another stream.
    Replace(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u64..60).prop_map(Step::Pass),
        2 => (0_usize..6).prop_map(Step::Packet),
        2 => (0_usize..6, 0_usize..2, any::<bool>()).prop_map(|(s, a, h)| Step::Add(s, a, h)),
        2 => (0_usize..6, any::<bool>()).prop_map(|(s, h)| Step::Hold(s, h)),
        1 => (0_usize..6).prop_map(Step::Keep),
        2 => (0_usize..2).prop_map(Step::Renew),
        1 => (0_usize..2).prop_map(Step::Replace),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A session as the test knows it.
#[derive(Clone, Debug)]
struct Call {
    hold: bool,
    last: Moment,
    never: bool,
    kept: Option<Moment>,
    asked: Option<Moment>,
    /// Nothing that was said or asked before counts.
    afresh: Moment,
}

struct World {
    now: Moment,
    calls: BTreeMap<SessionKey, Call>,
    /// When each agent's lease was renewed last.
    leases: [Option<Moment>; 2],
    over: [bool; 2],
    streams: [u64; 2],
    silences: Silences,
    agents: Agents,
}

fn key(agent: usize, session: usize) -> SessionKey {
    SessionKey::new(AGENTS[agent], &format!("c{session}")).unwrap()
}

fn router(index: usize) -> RouterId {
    RouterId::parse("id", ["a", "b"][index]).unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            now: Moment::after(Duration::from_secs(1_000)),
            calls: BTreeMap::new(),
            leases: [None; 2],
            over: [false; 2],
            streams: [1, 1],
            silences: Silences::default(),
            agents: Agents::default(),
        }
    }

    fn facts(&self, key: &SessionKey) -> Option<Facts> {
        let attachment = |index| (router(index), Some(AttachmentId(self.streams[index])));
        Some(Facts {
            routers: vec![attachment(0), attachment(1)],
            hold: self.calls.get(key)?.hold,
            agent: self.agents.presence(key.agent()),
        })
    }

    fn presence(&self, agent: usize) -> Presence {
        match self.leases[agent] {
            None => Presence::WithoutLease,
            Some(at) if self.now < at.plus(TTL) => Presence::Here,
            Some(_) => Presence::Lost,
        }
    }

    /// A router tells what is silent, as each does every 30 s, at another moment than the other.
    fn report(&mut self, index: usize) {
        for (key, call) in &self.calls {
            if self.now.since(call.last) < Duration::from_secs(120) {
                continue;
            }
            let word = Word {
                router: router(index),
                attachment: AttachmentId(self.streams[index]),
                at: self.now,
                since: call.last,
                never: call.never,
            };
            self.silences.hear(key, word);
        }
    }

    /// A second passes: reapers run.
    fn second(&mut self) {
        let limits = SilenceLimits::default();
        self.now = self.now.plus(Duration::from_secs(1));
        match self.now.since(Moment::default()).as_secs() % 30 {
            0 => self.report(0),
            17 => self.report(1),
            _ => {}
        }
        while let Some(due) = self.agents.take_due(self.now, STAY) {
            match due {
                Due::Lost(agent) => {
                    let index = AGENTS.iter().position(|it| **it == *agent).unwrap();
                    let since = self.leases[index].unwrap();
                    assert_eq!(self.now, since.plus(TTL), "to the second");
                    for (key, _) in self.silences.of_agent(&agent, None, usize::MAX) {
                        self.silences.hurry(&key, self.now);
                    }
                }
                Due::Over(agent) => {
                    let index = AGENTS.iter().position(|it| **it == *agent).unwrap();
                    assert_eq!(self.now, self.leases[index].unwrap().plus(TTL).plus(STAY));
                    self.over[index] = true;
                    let gone: Vec<_> = self.calls.keys().cloned().collect();
                    for key in gone.iter().filter(|key| *key.agent() == *agent) {
                        self.remove(key);
                    }
                    self.agents.forget(&agent);
                    self.leases[index] = None;
                }
            }
        }
        while let Some(key) = self.silences.take_due(self.now) {
            let Some(facts) = self.facts(&key) else {
                self.silences.forget(&key);
                continue;
            };
            let verdict = self.silences.judge(&key, &facts, &limits, self.now);
            self.check(&key, verdict);
        }
        self.overdue();
    }

    /// What is decided of a session follows from when it was heard, kept and asked about.
    fn check(&mut self, key: &SessionKey, verdict: Verdict) {
        let now = self.now;
        let agent = usize::from(key.agent() == AGENTS[1]);
        let presence = self.presence(agent);
        let call = self.calls.get_mut(key).unwrap();
        let start = call.kept.map_or(call.last, |kept| kept.max(call.last));
        let silent_for = now.since(start);
        let secs = Duration::from_secs;
        let least = if call.hold { secs(3_600) } else { secs(120) };
        match verdict {
            Verdict::Ask => {
                assert!(silent_for >= least, "asked after {silent_for:?}");
                assert_eq!(call.asked.replace(now), None, "asked once");
                assert_ne!(presence, Presence::Lost, "nobody can be asked");
            }
            Verdict::Reap(reaper) => {
                let never = call.never && call.kept.is_none();
                let (limit, expected) = match (call.hold, never) {
                    (true, _) => (secs(3_600), Reaper::Hold),
                    (_, true) => (secs(180), Reaper::Unused),
                    _ => (secs(120), Reaper::Silence),
                };
                assert_eq!(reaper, expected);
                if presence == Presence::Lost {
                    assert!(silent_for >= limit, "its agent is lost, and {silent_for:?}");
                } else {
                    let asked = call.asked.expect("asked about before");
                    assert!(now.since(asked) >= secs(60), "it has 60 s to be kept");
                    assert!(silent_for >= least, "asked about, and {silent_for:?}");
                }
                self.remove(&key.clone());
            }
            Verdict::Heard | Verdict::Unsure(_) => {
                (call.kept, call.asked) = (None, None);
                call.afresh = now;
            }
            Verdict::Wait(_) => {}
        }
    }

    /// Nothing that is silent is forgotten: at the latest when routers have repeated it twice it is asked about,
    /// and goes.
    fn overdue(&self) {
        for (key, call) in &self.calls {
            let start = call.kept.map_or(call.last, |kept| kept.max(call.last));
            let start = start.max(call.afresh);
            let limit = if call.hold { 3_600 } else { 180 };
            let longest = Duration::from_secs(limit + 60 + 60);
            let silent_for = self.now.since(start);
            assert!(
                silent_for <= longest,
                "{key} is there after {silent_for:?}: {call:?}"
            );
        }
    }

    fn remove(&mut self, key: &SessionKey) {
        self.calls.remove(key);
        self.silences.forget(key);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass(seconds) => (0..seconds).for_each(|_| self.second()),
            Step::Packet(index) => {
                let now = self.now;
                if let Some((key, call)) = self.calls.iter_mut().nth(index) {
                    (call.last, call.never, call.asked) = (now, false, None);
                    let key = key.clone();
                    // As the engine does when a router says so before it removes a session.
                    self.silences.forget(&key);
                    self.calls.get_mut(&key).unwrap().kept = None;
                }
            }
            Step::Add(session, agent, hold) => {
                let call = Call {
                    hold,
                    last: self.now,
                    never: true,
                    kept: None,
                    asked: None,
                    afresh: self.now,
                };
                self.calls.entry(key(agent, session)).or_insert(call);
            }
            // Its time counts from when it was heard all the same.
            Step::Hold(index, hold) => {
                if let Some(call) = self.calls.values_mut().nth(index) {
                    (call.hold, call.afresh) = (hold, self.now);
                }
            }
            Step::Keep(index) => {
                let now = self.now;
                if let Some((key, call)) = self.calls.iter_mut().nth(index) {
                    let was_silent = self.silences.keep(key, now);
                    if was_silent {
                        (call.kept, call.asked) = (Some(now), None);
                    }
                }
            }
            Step::Renew(agent) => {
                let was = self.presence(agent);
                let renewed = self.agents.renew(AGENTS[agent], self.now.plus(TTL));
                let expected = match was {
                    Presence::WithoutLease => Renewed::First,
                    Presence::Here => Renewed::InTime,
                    Presence::Lost => Renewed::Back,
                };
                assert_eq!(renewed, expected);
                self.leases[agent] = Some(self.now);
            }
            // Until it has told again, nothing is known.
            Step::Replace(index) => {
                self.streams[index] += 1;
                let calls = self.calls.values_mut();
                calls.for_each(|call| call.afresh = self.now);
            }
        }
    }
}

/// A router's word at this second of a session that has been silent for 200 s.
fn hear(silences: &mut Silences, key: &SessionKey, second: u64) -> Verdict {
    let now = Moment::after(Duration::from_secs(second));
    let word = Word {
        router: router(0),
        attachment: AttachmentId(1),
        at: now,
        since: now.less(Duration::from_secs(200)),
        never: false,
    };
    silences.hear(key, word);
    let facts = Facts {
        routers: vec![(router(0), Some(AttachmentId(1)))],
        hold: false,
        agent: Presence::Here,
    };
    silences.judge(key, &facts, &SilenceLimits::default(), now)
}

#[test]
fn what_is_asked_between_pages_is_told_by_the_next_pass() {
    let mut silences = Silences::default();
    for session in [2, 3] {
        assert_eq!(hear(&mut silences, &key(0, session), 1_000), Verdict::Ask);
    }
    let mut untold = silences.untold(0);
    let mut page = |silences: &Silences| silences.next_untold("x", &mut untold, 1);
    assert_eq!(page(&silences), Some(vec![key(0, 2)]));
    // On an earlier page, and on a later one.
    for session in [1, 4] {
        assert_eq!(hear(&mut silences, &key(0, session), 1_001), Verdict::Ask);
    }
    assert_eq!(page(&silences), Some(vec![key(0, 3)]));
    assert_eq!(page(&silences), Some(vec![]));
    assert_eq!(page(&silences), None);
    let mut untold = silences.untold(untold.upto());
    let both = silences.next_untold("x", &mut untold, 9);
    assert_eq!(both, Some(vec![key(0, 1), key(0, 4)]));
    assert_eq!(silences.next_untold("x", &mut untold, 9), None);
    let mut untold = silences.untold(untold.upto());
    assert_eq!(silences.next_untold("x", &mut untold, 9), Some(vec![]));
}

proptest! {
    #[test]
    fn nothing_is_removed_too_soon_and_nothing_stays_for_ever(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // At last nobody is there any more, and no packet comes.
        (0..8_000).for_each(|_| world.second());
        prop_assert!(world.calls.is_empty());
        prop_assert!(world.silences.is_empty());
    }
}
