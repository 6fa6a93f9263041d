//! A server's process: its tasks in a runtime of its own, whose clock goes only when it has its turn.
//!
//! What [`Member`](crate::cluster::Member) and [`EtcdStore`](crate::cluster::EtcdStore) do with sockets is
//! done here with messages; who leads, what etcd holds and what is done for agents and routers are the code
//! that runs in production.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{advance, sleep},
};

use super::{
    Ms, STEP,
    agent::{Call, Result as CallResult},
    etcd::{Answer, Committed, Request},
    leading::{Leading, Out, Outbox},
    millis,
    net::Message,
};
use crate::{
    cluster::{
        Leader,
        etcd::PATIENCE,
        lead::{Action, Boot, Lead, Renewal, View},
        mirror::Mirror,
    },
    engine::Engine,
    model::{ids::SessionKey, registry::Identity, store::Reported},
};

/// How long a new leader waits for its watch.
const BARRIER: Ms = 1_000;
/// After how long a leader that was suspended looks at the time.
const LOOK: Ms = 250;

fn boot(now: Ms) -> Boot {
    Boot::after(Duration::from_millis(now))
}

#[derive(Debug)]
enum Role {
    StandBy,
    /// Elected, and reads what there is.
    TakesOver {
        term: u64,
        since: Ms,
        reads_anew: bool,
    },
    Leads(Box<Leading>),
}

#[derive(Debug)]
pub(super) struct Server {
    index: usize,
    runtime: Runtime,
    pub(super) wall: Arc<AtomicI64>,
    /// How often it has been started.
    pub(super) start: u64,
    /// Since when its process has no turn.
    pub(super) stopped: Option<Ms>,
    /// Its monotonic clock has stood still meanwhile.
    pub(super) suspended: bool,
    /// When it looks at the time again.
    looks_at: Ms,
    lead: Lead,
    lease: u64,
    campaign: Option<Ms>,
    renewal: Option<Ms>,
    /// When it asked for all that etcd has.
    listing: Option<Ms>,
    watch: Option<u64>,
    mirror: Mirror,
    role: Role,
    inbox: Vec<Message>,
    out: Outbox,
}

impl Server {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            runtime: runtime(),
            wall: Arc::new(AtomicI64::new(1_700_000_000_000)),
            start: 0,
            stopped: None,
            suspended: false,
            looks_at: 0,
            lead: Lead::default(),
            lease: 0,
            campaign: None,
            renewal: None,
            listing: None,
            watch: None,
            mirror: Mirror::default(),
            role: Role::StandBy,
            inbox: Vec::new(),
            out: Outbox::default(),
        }
    }

    /// The process is killed, and starts anew. Tells which calls it had not answered and which streams there were.
    pub(super) fn kill(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut calls, streams) = match &self.role {
            Role::Leads(it) => (it.calls(), it.streams()),
            Role::StandBy | Role::TakesOver { .. } => (Vec::new(), Vec::new()),
        };
        calls.extend(self.inbox.iter().filter_map(|it| match it {
            Message::Call { call, .. } => Some(call.id),
            _ => None,
        }));
        let (wall, start) = (self.wall.clone(), self.start + 1);
        *self = Self {
            wall,
            start,
            ..Self::new(self.index)
        };
        (calls, streams)
    }

    /// The engine of the one who leads.
    pub(super) fn engine(&self) -> Option<&Arc<Engine>> {
        match &self.role {
            Role::Leads(leading) => Some(&leading.engine),
            Role::StandBy | Role::TakesOver { .. } => None,
        }
    }

    /// Ends its watch, as a broken connection to etcd does.
    pub(super) fn unwatch(&mut self) {
        self.watch = None;
    }

    pub(super) fn take(&mut self, message: Message) {
        self.inbox.push(message);
    }

    /// It has its turn, unless it is stopped.
    pub(super) fn turn(&mut self, now: Ms) -> Vec<Out> {
        if self.stopped.is_some() {
            return Vec::new();
        }
        let runtime = self.runtime.handle().clone();
        {
            // Whoever looks at the time sees that of the runtime.
            let _entered = runtime.enter();
            for message in std::mem::take(&mut self.inbox) {
                self.hear(now, message);
            }
            self.lose_patience(now);
            if now >= self.looks_at {
                self.act(now);
            }
        }
        self.take_over(now);
        self.wall.fetch_add(i64::try_from(STEP).unwrap(), Relaxed);
        self.runtime
            .block_on(async { sleep(Duration::from_millis(STEP)).await });
        if let Role::Leads(leading) = &mut self.role
            && let Err(lost) = leading.commit(now)
        {
            self.lead.lose(lost);
        }
        let all = self.while_leading(now, self.out.take());
        if let Role::Leads(leading) = &mut self.role {
            all.iter().for_each(|out| leading.note(out));
        }
        all
    }

    /// Says nothing as leader when that lead is over, as [`Tenure`](crate::cluster::Tenure) sees to.
    fn while_leading(&self, now: Ms, all: Vec<Out>) -> Vec<Out> {
        let leading = match &self.role {
            Role::Leads(leading) => Some(leading),
            Role::StandBy | Role::TakesOver { .. } => None,
        };
        let until = self.lead.until();
        let term = leading
            .filter(|_| until.is_some_and(|until| boot(now) < until))
            .map(|it| it.term);
        let instead = |out| match (out, leading) {
            (
                Out::Called {
                    call,
                    term: of,
                    result,
                },
                _,
            ) if Some(of) != term && !matches!(result, CallResult::NotLeading) => Out::Called {
                call,
                term: of,
                result: CallResult::Unknown,
            },
            (Out::Said { stream, .. }, Some(leading)) if term.is_none() => {
                leading.cut(stream);
                Out::Ended { stream }
            }
            (out, _) => out,
        };
        all.into_iter().map(instead).collect()
    }

    /// Goes on after it was stopped for so long.
    pub(super) fn resume(&mut self, now: Ms) {
        let Some(since) = self.stopped.take() else {
            return;
        };
        let lag = now - since;
        self.wall.fetch_add(i64::try_from(lag).unwrap(), Relaxed);
        if std::mem::take(&mut self.suspended) {
            self.looks_at = now + LOOK;
        } else {
            self.runtime.block_on(advance(Duration::from_millis(lag)));
        }
    }

    fn hear(&mut self, now: Ms, message: Message) {
        match message {
            Message::FromEtcd {
                start,
                sent,
                answer,
                ..
            } if start == self.start => {
                self.answered(now, sent, answer);
            }
            Message::Watch { watch, news, .. } if self.watch == Some(watch) => {
                for (key, value) in &*news {
                    self.mirror.set(key, value.as_deref());
                }
            }
            Message::FromEtcd { .. } | Message::Watch { .. } => {}
            Message::Call { call, .. } => self.call(call),
            Message::FromRouter {
                stream, id, reply, ..
            } => {
                if let Role::Leads(leading) = &self.role {
                    leading.answer(stream, id, reply);
                }
            }
            Message::Cut { stream, .. } => {
                if let Role::Leads(leading) = &self.role {
                    leading.cut(stream);
                }
            }
            Message::ToEtcd { .. }
            | Message::Attach { .. }
            | Message::ToRouter { .. }
            | Message::Ended { .. } => unreachable!("is not for a server: {message:?}"),
        }
    }

    fn answered(&mut self, now: Ms, sent: Ms, answer: Answer) {
        match answer {
            Answer::Campaigned { lease, won } if self.campaign == Some(sent) => {
                self.campaign = None;
                self.lead.campaigned(boot(now), boot(sent), won.is_some());
                if let Some(term) = won {
                    self.lease = lease;
                    self.role = Role::TakesOver {
                        term,
                        since: now,
                        reads_anew: false,
                    };
                }
            }
            // Too late: it has been given up.
            Answer::Campaigned {
                lease,
                won: Some(_),
            } => self.ask(now, Request::Revoke { lease }),
            Answer::Renewed { kept } if self.renewal == Some(sent) => {
                self.renewal = None;
                let renewal = if kept { Renewal::Kept } else { Renewal::Gone };
                self.lead.renewed(boot(now), boot(sent), renewal);
            }
            Answer::Listed { watch, all } if self.listing == Some(sent) => {
                self.listing = None;
                self.watch = Some(watch);
                self.mirror = Mirror::default();
                for (key, value) in &*all {
                    self.mirror.set(key, value.as_deref());
                }
            }
            Answer::Committed(committed) => self.committed(committed, sent),
            Answer::Campaigned { .. } | Answer::Renewed { .. } | Answer::Listed { .. } => {}
        }
    }

    fn committed(&mut self, committed: Committed, sent: Ms) {
        if let Role::Leads(leading) = &mut self.role
            && let Err(lost) = leading.committed(committed, sent)
        {
            self.lead.lose(lost);
        }
    }

    fn lose_patience(&mut self, now: Ms) {
        let late = |sent: &mut Ms| now - *sent >= millis(PATIENCE);
        if let Some(sent) = self.campaign.take_if(late) {
            self.lead.campaigned(boot(now), boot(sent), false);
            self.watch = None;
        }
        if let Some(sent) = self.renewal.take_if(late) {
            self.lead.renewed(boot(now), boot(sent), Renewal::Unknown);
        }
        self.listing.take_if(late);
    }

    /// Does what [`Lead`] says.
    fn act(&mut self, now: Ms) {
        let view = match &self.role {
            Role::StandBy if self.watch.is_none() => {
                if self.listing.is_none() {
                    self.list(now);
                }
                return;
            }
            Role::StandBy => self.mirror.view(),
            Role::TakesOver { .. } | Role::Leads(_) => View {
                term: 0,
                has_leader: true,
            },
        };
        while let Some(action) = self.lead.next(boot(now), view) {
            match action {
                Action::Campaign { after } => {
                    self.campaign = Some(now);
                    self.ask(now, Request::Campaign { after });
                }
                Action::Renew => {
                    self.renewal = Some(now);
                    self.ask(now, Request::Renew { lease: self.lease });
                }
                Action::StepDown(_) => {
                    self.step_down(now);
                    return;
                }
            }
        }
    }

    fn step_down(&mut self, now: Ms) {
        (self.renewal, self.watch) = (None, None);
        self.ask(now, Request::Revoke { lease: self.lease });
        if let Role::Leads(leading) = std::mem::replace(&mut self.role, Role::StandBy) {
            leading.end();
        }
    }

    fn ask(&mut self, now: Ms, request: Request) {
        self.out.push(Out::ToEtcd { sent: now, request });
    }

    fn list(&mut self, now: Ms) {
        self.listing = Some(now);
        self.watch = None;
        self.ask(now, Request::List);
    }

    /// Begins to serve when the watch has come to its own election and has all that was committed.
    fn take_over(&mut self, now: Ms) {
        let Role::TakesOver {
            term,
            since,
            reads_anew,
        } = &mut self.role
        else {
            return;
        };
        let has_come = self.watch.is_some() && self.mirror.view().term >= *term;
        let is_whole = has_come && self.mirror.is_whole();
        assert!(
            is_whole || !*reads_anew || self.watch.is_none(),
            "what etcd holds is damaged: {:?}",
            self.mirror.counts()
        );
        if is_whole {
            let term = *term;
            let leader = Leader {
                term,
                url: super::url(self.index),
            };
            let mirror = std::mem::take(&mut self.mirror);
            let (wall, out) = (self.wall.clone(), self.out.clone());
            self.watch = None;
            let leading = Leading::begin(&self.runtime, leader, mirror, wall, out);
            self.role = Role::Leads(Box::new(leading));
        } else if now - *since >= BARRIER && self.listing.is_none() {
            *reads_anew = true;
            self.list(now);
        }
    }

    fn call(&mut self, call: Call) {
        match &mut self.role {
            Role::Leads(leading) => leading.call(&self.runtime, call),
            Role::StandBy | Role::TakesOver { .. } => self.out.push(Out::Called {
                call: call.id,
                term: 0,
                result: CallResult::NotLeading,
            }),
        }
    }

    /// A router opens a stream.
    pub(super) fn attach(
        &mut self,
        stream: u64,
        identity: Identity,
        has: BTreeMap<SessionKey, Reported>,
    ) {
        match &mut self.role {
            Role::Leads(leading) => leading.attach(&self.runtime, stream, identity, has),
            Role::StandBy | Role::TakesOver { .. } => self.out.push(Out::Ended { stream }),
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}
