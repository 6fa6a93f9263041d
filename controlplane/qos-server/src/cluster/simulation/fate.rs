//! What befalls servers, routers, etcd and the wires between them, and what routers do then.

use std::sync::atomic::Ordering::Relaxed;

use rand::Rng as _;

use super::{
    KEEPALIVE, SERVERS, World, agent,
    net::Message,
    router::{Done, Router},
    server::Server,
};
use crate::engine::{Command, ToRouter};

impl World {
    /// Something happens, now and then.
    pub(super) fn befall(&mut self) {
        if !self.in_trouble || !self.rng.random_bool(0.006) {
            return;
        }
        self.steps += 1;
        let now = self.now;
        let (server, router) = (
            self.rng.random_range(0..SERVERS),
            self.rng.random_range(0..2),
        );
        let long = now + self.rng.random_range(200..8_000);
        let what = self.rng.random_range(0..12);
        self.net.note(1_000_000 + what);
        if self.traced.is_some() {
            eprintln!("{now:6} ms: fate {what} of server {server}, router {router}");
        }
        match what {
            0 | 1 => {
                let is_suspended = what == 1 && self.rng.random_bool(0.5);
                let it = &mut self.servers[server];
                if it.stopped.is_none() {
                    (it.stopped, it.suspended) = (Some(now), is_suspended);
                    self.stopped_until[server] = long;
                }
            }
            2 => self.kill_server(server),
            3 => self.kill_router(router),
            4 => {
                self.kill_server(server);
                self.kill_router(router);
            }
            5 | 6 => {
                self.cut_until[server] = long;
                self.etcd.unwatch(server);
                self.servers[server].unwatch();
            }
            7 if !self.etcd.away => {
                self.etcd.toggle(now);
                self.servers.iter_mut().for_each(Server::unwatch);
                self.etcd_away_until = now + self.rng.random_range(100..4_000);
            }
            8 => self.loses[server] += self.rng.random_range(1..4),
            9 => self.cut_router(router),
            10 => self.routers[router].mute_until = now + self.rng.random_range(100..3_000),
            _ => {
                let by = self.rng.random_range(-86_400_000..86_400_000);
                self.servers[server].wall.fetch_add(by, Relaxed);
            }
        }
    }

    /// What was stopped goes on when its time has come.
    pub(super) fn recover(&mut self) {
        let (now, all) = (self.now, !self.in_trouble);
        for (server, until) in self.servers.iter_mut().zip(&mut self.stopped_until) {
            if now >= *until || all {
                server.resume(now);
            }
        }
        if self.etcd.away && (now >= self.etcd_away_until || all) {
            self.etcd.toggle(now);
        }
        if all {
            (self.cut_until, self.loses) = ([0; SERVERS], [0; SERVERS]);
            self.routers.iter_mut().for_each(|it| it.mute_until = 0);
        }
    }

    pub(super) fn is_cut(&self, server: usize) -> bool {
        self.etcd.away || self.now < self.cut_until[server]
    }

    fn kill_server(&mut self, server: usize) {
        let (calls, streams) = self.servers[server].kill();
        self.stopped_until[server] = 0;
        for call in calls {
            let (now, unknown) = (self.now, agent::Result::Unknown);
            self.agent.ended(now, call, unknown, &self.committed);
        }
        // The machine may be gone, too: then nobody says that the stream is.
        let silence = if self.rng.random_bool(0.5) {
            KEEPALIVE
        } else {
            0
        };
        for stream in streams {
            let at = self.now + silence + self.delay();
            if let Some(router) = self.router_of(stream) {
                self.net.send(at, Message::Ended { router, stream });
            }
        }
    }

    fn kill_router(&mut self, router: usize) {
        if let Some((server, stream)) = self.routers[router].kill() {
            let at = self.now + self.delay();
            self.net.send(at, Message::Cut { server, stream });
        }
        self.routers[router].again_at = self.now + self.rng.random_range(10..1_000);
    }

    /// The router's stream ends, and it tries again.
    fn cut_router(&mut self, router: usize) {
        let Some((server, stream)) = self.routers[router].stream else {
            return;
        };
        let again_at = self.now + self.rng.random_range(10..500);
        self.routers[router].ended(again_at);
        let late = if self.rng.random_bool(0.3) {
            KEEPALIVE
        } else {
            0
        };
        let at = self.now + late + self.delay();
        self.net.send(at, Message::Cut { server, stream });
    }

    pub(super) fn router_of(&self, stream: u64) -> Option<usize> {
        let of = |it: &Router| it.stream.is_some_and(|(_, its)| its == stream);
        self.routers.iter().position(of)
    }

    pub(super) fn turn_of_router(&mut self, index: usize) {
        let now = self.now;
        if let Some((server, _)) = self.routers[index].stream
            && self.servers[server]
                .stopped
                .is_some_and(|since| now - since >= KEEPALIVE)
        {
            self.cut_router(index);
        }
        let router = &mut self.routers[index];
        if router.stream.is_none() && now >= router.again_at {
            self.last_stream += 1;
            let stream = self.last_stream;
            let server = router.open(stream);
            let at = now + self.delay();
            let message = Message::Attach {
                server,
                router: index,
                stream,
            };
            self.net.send(at, message);
        }
        while let Some(message) = self.routers[index].next(now) {
            self.obey(index, message);
        }
    }

    fn obey(&mut self, index: usize, message: ToRouter) {
        if let ToRouter::Command { command, .. } = &message {
            if let Command::Install { key, .. } | Command::Remove(key) = command {
                let stream = self.routers[index].stream;
                self.trace(key, || format!("router {index} on {stream:?}: {command:?}"));
            }
            self.check_command(index, command);
        }
        let refuses = self.in_trouble && self.rng.random_bool(0.01);
        match self.routers[index].take(message, refuses) {
            Done::Answer(id, reply) => {
                if let Some((server, stream)) = self.routers[index].stream {
                    let at = self.now + self.delay();
                    let message = Message::FromRouter {
                        server,
                        stream,
                        id,
                        reply,
                    };
                    self.net.send(at, message);
                }
            }
            Done::Fenced => self.cut_router(index),
            Done::Nothing => {}
        }
    }
}
