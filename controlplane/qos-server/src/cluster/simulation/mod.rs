//! Two servers with the real engine, an etcd, two routers and an agent, under a seed: messages are late,
//! lost and sent twice, processes are stopped, suspended and killed, clocks jump.
//!
//! Everything runs in one thread and in an order that only the seed decides, so a seed replays:
//! `VOICELANE_SEED=... cargo test -p voicelane-server simulation`, and `VOICELANE_TRACE=11` prints what
//! happens to call 11. After each step holds, and is checked
//! where it can change: what was acknowledged is committed; nothing is committed that nobody asked for, so no
//! session is lost or comes back after its end; no link is over its budget in what is committed nor in what
//! a leader has in memory; commits are of one leader and its successors; a router does not lose a call that
//! stands. At rest routers have exactly what is wanted.

mod agent;
mod checks;
mod etcd;
mod fate;
mod leading;
mod net;
mod router;
mod server;

use std::{array, collections::BTreeMap, env, thread, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use self::{
    agent::Agent,
    checks::Kept,
    etcd::{Etcd, Request},
    leading::Out,
    net::{Message, Net},
    router::Router,
    server::Server,
};
use crate::model::ids::SessionKey;

/// Milliseconds since the world began.
type Ms = u64;

fn millis(time: Duration) -> Ms {
    Ms::try_from(time.as_millis()).unwrap()
}

const SERVERS: usize = 2;
/// How often a server has a turn.
const STEP: Ms = 10;
/// How much telephony the routers' links take.
const BUDGET_BPS: u64 = 1_500_000;
/// When a router gives up a server that says nothing.
const KEEPALIVE: Ms = 3_000;
/// How long everything goes wrong before it is let come to rest.
const TROUBLE: Ms = 60_000;
/// Within which it has to come to rest.
const AT_REST: Ms = 60_000;

/// Where clients would reach a server.
fn url(server: usize) -> String {
    format!("http://192.0.2.{server}:7400")
}

struct World {
    seed: u64,
    rng: SmallRng,
    now: Ms,
    /// Messages that arrived or were lost, requests, turns of servers, and what befell them.
    steps: u64,
    net: Net,
    etcd: Etcd,
    servers: [Server; SERVERS],
    routers: [Router; 2],
    agent: Agent,
    kept: BTreeMap<Box<[u8]>, Kept>,
    /// Revisions of what is kept.
    committed: BTreeMap<SessionKey, u64>,
    loads: BTreeMap<(String, String, bool), u64>,
    commits: u64,
    last_stream: u64,
    /// Until then a server is stopped, or it and etcd do not hear each other.
    stopped_until: [Ms; SERVERS],
    cut_until: [Ms; SERVERS],
    etcd_away_until: Ms,
    /// How many of the next answers to a server are lost.
    loses: [u32; SERVERS],
    in_trouble: bool,
    /// The call of which all is printed.
    traced: Option<SessionKey>,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "at {} ms, step {}; to replay: VOICELANE_SEED={}",
                self.now, self.steps, self.seed
            );
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: SmallRng::seed_from_u64(seed),
            now: 1_000,
            steps: 0,
            net: Net::default(),
            etcd: Etcd::default(),
            servers: array::from_fn(Server::new),
            routers: array::from_fn(Router::new),
            agent: Agent::new(),
            kept: BTreeMap::new(),
            committed: BTreeMap::new(),
            loads: BTreeMap::new(),
            commits: 0,
            last_stream: 0,
            stopped_until: [0; SERVERS],
            cut_until: [0; SERVERS],
            etcd_away_until: 0,
            loses: [0; SERVERS],
            in_trouble: true,
            traced: number("VOICELANE_TRACE").map(agent::key),
        }
    }

    /// Prints what happens to the call that is traced.
    fn trace(&self, key: &SessionKey, what: impl FnOnce() -> String) {
        if self.traced.as_ref() == Some(key) {
            eprintln!("{:6} ms: {}", self.now, what());
        }
    }

    /// All goes wrong, then all comes to rest.
    fn run(&mut self) {
        let end = self.now + TROUBLE;
        while self.now < end {
            self.step();
        }
        self.in_trouble = false;
        let end = self.now + AT_REST;
        while self.unrest().is_some() {
            assert!(self.now < end, "not at rest: {}", self.unrest().unwrap());
            for _ in 0..10 {
                self.step();
            }
        }
        self.agent.check_all(&self.committed);
        self.recount();
        self.in_trouble = true;
    }

    fn step(&mut self) {
        self.now += STEP;
        self.befall();
        self.recover();
        if !self.etcd.away {
            self.etcd.expire(self.now);
        }
        while let Some(message) = self.net.arrived(self.now) {
            self.steps += 1;
            self.deliver(message);
        }
        for (server, watch, news) in self.etcd.news() {
            let at = self.now + self.delay();
            self.net.send(
                at,
                Message::Watch {
                    server,
                    watch,
                    news,
                },
            );
        }
        for server in 0..SERVERS {
            self.steps += 1;
            for out in self.servers[server].turn(self.now) {
                self.pass_on(server, out);
            }
        }
        for router in 0..self.routers.len() {
            self.turn_of_router(router);
        }
        if self.in_trouble {
            for (server, at, call) in self.agent.ask(self.now, &mut self.rng) {
                self.trace(call.operation.key(), || {
                    let (id, operation) = (call.id, &call.operation);
                    format!("call {id} to server {server} at {at}: {operation:?}")
                });
                self.net.send(at, Message::Call { server, call });
            }
        }
        if self.now.is_multiple_of(500) {
            for engine in self.servers.iter().filter_map(Server::engine) {
                engine.check_loads(BUDGET_BPS);
            }
        }
    }

    /// How long a message is on its way: mostly a few milliseconds, seldom up to a second.
    fn delay(&mut self) -> Ms {
        if self.rng.random_bool(0.02) {
            self.rng.random_range(0..1_000)
        } else {
            self.rng.random_range(1..20)
        }
    }

    fn deliver(&mut self, message: Message) {
        let now = self.now;
        match message {
            Message::ToEtcd {
                server,
                start,
                sent,
                request,
            } => {
                if self.is_cut(server) {
                    return;
                }
                if let Request::Commit(commit) = &request
                    && self.etcd.takes(commit)
                {
                    self.check_commit(commit);
                }
                let answer = self.etcd.answer(now, server, request);
                if self.loses[server] > 0 {
                    self.loses[server] -= 1;
                    return;
                }
                if let Some(answer) = answer {
                    let at = now + self.delay();
                    let message = Message::FromEtcd {
                        server,
                        start,
                        sent,
                        answer,
                    };
                    self.net.send(at, message);
                }
            }
            Message::FromEtcd { server, .. } | Message::Watch { server, .. } => {
                if !self.is_cut(server) {
                    self.servers[server].take(message);
                }
            }
            Message::Call { server, .. }
            | Message::FromRouter { server, .. }
            | Message::Cut { server, .. } => self.servers[server].take(message),
            Message::Attach {
                server,
                router,
                stream,
            } => {
                if self.routers[router].stream != Some((server, stream)) {
                    return;
                }
                if self.servers[server].stopped.is_some() {
                    self.net.send(now + 50, message);
                    return;
                }
                let router = &self.routers[router];
                let (identity, has) = (router.identity(), router.reported());
                self.servers[server].attach(stream, identity, has);
            }
            Message::ToRouter {
                router,
                stream,
                message,
            } => {
                let router = &mut self.routers[router];
                if router.stream.is_some_and(|(_, its)| its == stream) {
                    router.put(message);
                }
            }
            Message::Ended { router, stream } => {
                let again_at = now + self.rng.random_range(100..1_000);
                let router = &mut self.routers[router];
                if router.stream.is_some_and(|(_, its)| its == stream) {
                    router.ended(again_at);
                }
            }
        }
    }

    /// What a server has said in its turn goes on its way.
    fn pass_on(&mut self, server: usize, out: Out) {
        let at = self.now + self.delay();
        match out {
            Out::ToEtcd { sent, request } => {
                let start = self.servers[server].start;
                let message = Message::ToEtcd {
                    server,
                    start,
                    sent,
                    request,
                };
                self.net.send(at, message);
            }
            Out::Said { stream, message } => {
                if let Some(router) = self.router_of(stream) {
                    let message = Message::ToRouter {
                        router,
                        stream,
                        message,
                    };
                    self.net.send(at, message);
                }
            }
            Out::Ended { stream } => {
                if let Some(router) = self.router_of(stream) {
                    self.net.send(at, Message::Ended { router, stream });
                }
            }
            Out::Called { call, term, result } => {
                let is_answer =
                    !matches!(result, agent::Result::NotLeading | agent::Result::Unknown);
                assert!(
                    !is_answer || term >= self.etcd.term(),
                    "call {call} is answered in term {term} when another server leads: {result:?}"
                );
                if let Some(key) = self.agent.key_of(call) {
                    self.trace(&key, || format!("call {call} in term {term}: {result:?}"));
                }
                self.agent.ended(self.now, call, result, &self.committed);
            }
        }
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_call_is_lost_or_comes_back_whatever_happens_to_two_servers() {
    let seed = number("VOICELANE_SEED");
    let most = number("VOICELANE_STEPS").unwrap_or(1_000_000);
    let first = seed.unwrap_or_else(rand::random);
    let (mut steps, mut worlds) = (0, 0);
    let mut sums = [0; 6];
    while steps < most {
        let mut world = World::new(first.wrapping_add(worlds));
        world.run();
        steps += world.steps;
        worlds += 1;
        let agent = &world.agent;
        let of = [
            world.commits,
            world.etcd.term(),
            agent.acknowledged,
            agent.refused,
            agent.unknown,
            agent.preempted,
        ];
        for (sum, of) in sums.iter_mut().zip(of) {
            *sum += of;
        }
        if seed.is_some() {
            break;
        }
    }
    let [commits, terms, acknowledged, refused, unknown, preempted] = sums;
    eprintln!(
        "{worlds} worlds from seed {first}: {steps} steps, {commits} commits, {terms} leaders, \
         {acknowledged} changes acknowledged, {refused} refused, {unknown} unknown, {preempted} pre-empted"
    );
    let happen = [acknowledged, refused, unknown, preempted];
    assert!(
        happen.iter().all(|it| *it > 0) && terms > worlds,
        "too little happens"
    );
}

#[test]
fn a_seed_replays() {
    let run = || {
        let mut world = World::new(7);
        world.run();
        (
            world.net.trace,
            world.steps,
            world.commits,
            world.committed.clone(),
        )
    };
    assert_eq!(run(), run());
}
