//! Several servers over an etcd that loses answers, restarts, and has slow watches.
//!
//! Time goes in steps of 50 ms. Servers are stopped, cut off and let go on; what they had on its way when
//! they were stopped arrives all the same, some time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::cluster::etcd::PATIENCE;

const STEP: Duration = Duration::from_millis(50);
const SERVERS: usize = 3;
const TTL: Duration = Duration::from_secs(TTL_S.unsigned_abs());

/// What happens to the world in a step.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    /// A server's process is stopped (SIGSTOP), or goes on.
    Stop(usize),
    /// A server and etcd no longer hear each other, or do.
    Cut(usize),
    /// etcd is away, or comes back. It gives every lease its whole time again, as a new raft leader does.
    Etcd,
    /// The next answer to a server is lost.
    LoseAnswer(usize),
    /// A server dies and starts anew.
    Kill(usize),
    /// An operator stops a server.
    Resign(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    let server = 0..SERVERS;
    prop_oneof![
        60 => Just(Fate::Nothing),
        1 => server.clone().prop_map(Fate::Stop),
        1 => server.clone().prop_map(Fate::Cut),
        1 => Just(Fate::Etcd),
        2 => server.clone().prop_map(Fate::LoseAnswer),
        1 => server.clone().prop_map(Fate::Kill),
        1 => server.prop_map(Fate::Resign),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Campaign { after: u64 },
    Renew { lease: u64 },
    Commit { term: u64 },
    Revoke { lease: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Campaigned { lease: u64, won: Option<u64> },
    Renewed(Renewal),
    Committed(bool),
}

#[derive(Debug)]
struct OnItsWay<T> {
    arrives: Boot,
    sent: Boot,
    /// Which start of the server it is of.
    start: u64,
    what: T,
}

#[derive(Debug, Default)]
struct Etcd {
    away: bool,
    term: u64,
    /// Its lease and when that ends.
    leader: Option<(u64, Boot)>,
    leases: u64,
    /// Terms of commits that were made.
    commits: Vec<u64>,
}

impl Etcd {
    fn answer(&mut self, now: Boot, request: Request) -> Option<Answer> {
        match request {
            Request::Campaign { after } => {
                self.leases += 1;
                let lease = self.leases;
                let won = self.leader.is_none() && self.term == after;
                if won {
                    self.term += 1;
                    self.leader = Some((lease, now.plus(TTL)));
                }
                let won = won.then_some(self.term);
                Some(Answer::Campaigned { lease, won })
            }
            Request::Renew { lease } => Some(Answer::Renewed(match &mut self.leader {
                Some((of, end)) if *of == lease => {
                    *end = now.plus(TTL);
                    Renewal::Kept
                }
                _ => Renewal::Gone,
            })),
            Request::Commit { term } => {
                let is_made = self.term == term;
                if is_made {
                    self.commits.push(term);
                }
                Some(Answer::Committed(is_made))
            }
            Request::Revoke { lease } => {
                self.leader.take_if(|(of, _)| *of == lease);
                None
            }
        }
    }
}

#[derive(Debug, Default)]
struct Server {
    lead: Lead,
    lease: u64,
    /// Of its last campaign that was won.
    term: u64,
    view: View,
    stopped: bool,
    cut: bool,
    loses: usize,
    start: u64,
    campaign: Option<Boot>,
    renewal: Option<Boot>,
    requests: VecDeque<OnItsWay<Request>>,
    answers: VecDeque<OnItsWay<Answer>>,
    views: VecDeque<(Boot, View)>,
}

impl Server {
    fn send(&mut self, now: Boot, delay: Duration, what: Request) {
        let (sent, start) = (now, self.start);
        let arrives = now.plus(delay);
        self.requests.push_back(OnItsWay {
            arrives,
            sent,
            start,
            what,
        });
    }

    fn hear(&mut self, now: Boot) {
        while let Some((at, view)) = self.views.front().copied() {
            if at > now {
                break;
            }
            self.view = view;
            self.views.pop_front();
        }
        while let Some(answer) = self.answers.front() {
            if answer.arrives > now {
                break;
            }
            let Some(answer) = self.answers.pop_front() else {
                break;
            };
            if answer.start != self.start {
                continue;
            }
            match answer.what {
                Answer::Campaigned { lease, won } if self.campaign == Some(answer.sent) => {
                    self.campaign = None;
                    self.lease = lease;
                    self.term = won.unwrap_or(self.term);
                    self.lead.campaigned(now, answer.sent, won.is_some());
                }
                Answer::Renewed(renewal) if self.renewal == Some(answer.sent) => {
                    self.renewal = None;
                    self.lead.renewed(now, answer.sent, renewal);
                }
                // Too late: it has been given up.
                Answer::Campaigned {
                    lease,
                    won: Some(_),
                } => {
                    self.send(now, STEP, Request::Revoke { lease });
                }
                Answer::Campaigned { .. } | Answer::Renewed(_) | Answer::Committed(true) => {}
                Answer::Committed(false) => self.lead.lose(Lost::Resigned),
            }
        }
        if self
            .campaign
            .is_some_and(|sent| now.since(sent) >= PATIENCE)
        {
            self.campaign = None;
            self.lead.campaigned(now, now, false);
        }
        if let Some(sent) = self.renewal.filter(|sent| now.since(*sent) >= PATIENCE) {
            self.renewal = None;
            self.lead.renewed(now, sent, Renewal::Unknown);
        }
    }

    fn act(&mut self, now: Boot, delay: Duration) {
        while let Some(action) = self.lead.next(now, self.view) {
            match action {
                Action::Campaign { after } => {
                    self.campaign = Some(now);
                    self.send(now, delay, Request::Campaign { after });
                }
                Action::Renew => {
                    self.renewal = Some(now);
                    let lease = self.lease;
                    self.send(now, delay, Request::Renew { lease });
                }
                Action::StepDown(_) => {
                    self.renewal = None;
                    let lease = self.lease;
                    self.send(now, delay, Request::Revoke { lease });
                }
            }
        }
        // A leader commits all the time.
        if let Some(term) = self.leads_in(now) {
            self.send(now, delay, Request::Commit { term });
        }
    }

    /// The term in which it may answer as leader.
    fn leads_in(&self, now: Boot) -> Option<u64> {
        let until = self.lead.until()?;
        (now < until).then_some(self.term)
    }
}

struct World {
    now: Boot,
    etcd: Etcd,
    servers: [Server; SERVERS],
}

impl World {
    fn new() -> Self {
        Self {
            now: Boot::after(Duration::from_secs(100)),
            etcd: Etcd::default(),
            servers: Default::default(),
        }
    }

    fn befall(&mut self, fate: Fate) {
        let now = self.now;
        match fate {
            Fate::Nothing => {}
            Fate::Stop(it) => self.servers[it].stopped ^= true,
            Fate::Cut(it) => self.servers[it].cut ^= true,
            Fate::Etcd => {
                self.etcd.away ^= true;
                if let Some((_, end)) = &mut self.etcd.leader {
                    *end = now.plus(TTL);
                }
            }
            Fate::LoseAnswer(it) => self.servers[it].loses += 1,
            Fate::Kill(it) => {
                let server = &mut self.servers[it];
                let (requests, start) = (std::mem::take(&mut server.requests), server.start + 1);
                *server = Server {
                    requests,
                    start,
                    view: server.view,
                    ..Server::default()
                };
            }
            Fate::Resign(it) => self.servers[it].lead.lose(Lost::Resigned),
        }
    }

    /// `delays`: of requests and views, in steps.
    fn step(&mut self, delays: (u32, u32)) {
        self.now = self.now.plus(STEP);
        let now = self.now;
        let (delay, late) = (STEP * delays.0, STEP * delays.1);
        if !self.etcd.away {
            self.etcd.leader.take_if(|(_, end)| *end <= now);
            for server in self.servers.iter_mut().filter(|it| !it.cut) {
                while let Some(request) = server.requests.front() {
                    if request.arrives > now {
                        break;
                    }
                    let Some(request) = server.requests.pop_front() else {
                        break;
                    };
                    let answer = self.etcd.answer(now, request.what);
                    if server.loses > 0 {
                        server.loses -= 1;
                        continue;
                    }
                    server.answers.extend(answer.map(|what| OnItsWay {
                        arrives: now.plus(delay),
                        sent: request.sent,
                        start: request.start,
                        what,
                    }));
                }
                let view = View {
                    term: self.etcd.term,
                    has_leader: self.etcd.leader.is_some(),
                };
                server.views.push_back((now.plus(late), view));
            }
        }
        for server in self.servers.iter_mut().filter(|it| !it.stopped) {
            server.hear(now);
            server.act(now, delay);
        }
    }

    /// Those who would answer as leaders now. Who is stopped answers nobody.
    fn leaders(&self) -> Vec<u64> {
        let running = self.servers.iter().filter(|it| !it.stopped);
        running.filter_map(|it| it.leads_in(self.now)).collect()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let leaders = self.leaders();
        prop_assert!(leaders.len() <= 1, "{leaders:?} lead at once");
        let commits = &self.etcd.commits;
        prop_assert!(
            commits.is_sorted(),
            "a commit of an earlier term: {commits:?}"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 2, ..ProptestConfig::default() })]

    /// Never two leaders, never a commit of an earlier term, and a leader within 10 s when all is well.
    #[test]
    fn one_leads_whatever_happens(
        fates in prop::collection::vec((fate(), (0..6_u32, 0..10_u32)), 100..600),
    ) {
        let mut world = World::new();
        for (fate, delays) in fates {
            world.befall(fate);
            world.step(delays);
            world.check()?;
        }
        if world.etcd.away {
            world.befall(Fate::Etcd);
        }
        for server in &mut world.servers {
            (server.stopped, server.cut, server.loses) = (false, false, 0);
        }
        for _ in 0..200 {
            world.step((0, 0));
            world.check()?;
        }
        prop_assert_eq!(world.leaders().len(), 1);
    }
}

fn leader_since(sent: Boot) -> Lead {
    let mut lead = Lead::default();
    let view = View::default();
    assert_eq!(lead.next(sent, view), Some(Action::Campaign { after: 0 }));
    lead.campaigned(sent.plus(STEP), sent, true);
    lead
}

const T0: Boot = Boot::after(Duration::from_secs(1_000));

#[test]
fn a_leader_stops_before_its_lease_does() {
    let mut lead = leader_since(T0);
    let view = View {
        term: 1,
        has_leader: true,
    };
    let renewal = T0.plus(RENEW_EVERY);
    assert_eq!(lead.next(renewal, view), Some(Action::Renew));
    // It was acknowledged late, and counts from when it was sent.
    lead.renewed(renewal.plus(Duration::from_secs(1)), renewal, Renewal::Kept);
    let end = renewal.plus(STEP_DOWN_AFTER);
    assert_eq!(
        lead.next(end.plus(Duration::from_secs(60)), view),
        Some(Action::StepDown(Lost::Late))
    );
    let mut lead = leader_since(T0);
    assert_eq!(lead.until(), Some(T0.plus(STEP_DOWN_AFTER)));
    assert_eq!(lead.wake(T0), Some(renewal));
    assert_eq!(lead.next(renewal, view), Some(Action::Renew));
    assert_eq!(lead.wake(T0), Some(T0.plus(STEP_DOWN_AFTER)));
}

#[test]
fn a_renewal_without_an_answer_is_tried_again_soon() {
    let mut lead = leader_since(T0);
    let view = View {
        term: 1,
        has_leader: true,
    };
    let sent = T0.plus(RENEW_EVERY);
    assert_eq!(lead.next(sent, view), Some(Action::Renew));
    let now = sent.plus(PATIENCE);
    lead.renewed(now, sent, Renewal::Unknown);
    assert_eq!(lead.next(now, view), None);
    assert_eq!(lead.next(now.plus(AGAIN_AFTER), view), Some(Action::Renew));
}

#[test]
fn who_resigns_or_has_no_lease_leads_no_more_at_once() {
    for lost in [Lost::Resigned, Lost::LeaseGone] {
        let mut lead = leader_since(T0);
        let now = T0.plus(STEP);
        match lost {
            Lost::LeaseGone => lead.renewed(now, T0, Renewal::Gone),
            other => lead.lose(other),
        }
        assert_eq!(lead.until(), None);
        let view = View {
            term: 1,
            has_leader: true,
        };
        assert_eq!(lead.next(now, view), Some(Action::StepDown(lost)));
        assert_eq!(lead.next(now, view), None, "there is another leader");
    }
}

#[test]
fn a_campaign_that_is_lost_is_not_repeated_at_once() {
    let mut lead = Lead::default();
    let view = View::default();
    assert_eq!(lead.next(T0, view), Some(Action::Campaign { after: 0 }));
    assert_eq!(lead.next(T0, view), None);
    lead.campaigned(T0, T0, false);
    assert_eq!(lead.next(T0, view), None);
    assert_eq!(
        lead.next(T0.plus(AGAIN_AFTER), view),
        Some(Action::Campaign { after: 0 })
    );
}
