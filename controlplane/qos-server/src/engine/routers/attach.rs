//! Routers' streams come, report their interfaces, and end.
//!
//! A report may claim hundreds of thousands of prefixes, so the registry takes it in slices, and one
//! report after the other (`Engine::reports`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use tokio::task::yield_now;
use tracing::{info, warn};

use super::link::{Ended, Link, Outgoing, ToRouter};
use crate::{
    engine::Engine,
    events::Kind,
    journal::record::RouterRecords,
    model::{
        error::Error,
        ids::{RouterId, SessionKey},
        registry::{ClaimChange, Identity, Interface, Router},
        report::{Changes, MAX_PREFIXES, fits},
        store::Reported,
    },
};

/// Refused prefixes that are named in the log.
const REFUSED_SAID: usize = 16;
/// Changes of a router that wait at most.
const MAX_CHANGES: usize = 65_536;

/// What a router has reported on a stream and the registry has not taken.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The last full report.
    report: Option<Vec<Interface>>,
    /// What has changed since that, or else since what the registry has.
    changes: Vec<Changes>,
    /// How many prefixes these name.
    prefixes: usize,
    /// Somebody takes them.
    is_taken: bool,
}

impl Unread {
    /// Puts a report in place of all that waits. True if nobody takes reports yet.
    fn put(&self, interfaces: Vec<Interface>) -> bool {
        let waiting = Waiting {
            report: Some(interfaces),
            is_taken: true,
            ..Waiting::default()
        };
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *unread, waiting);
        drop(unread);
        !former.is_taken
    }

    /// Puts changes behind what waits. True if nobody takes reports yet; absent if too much waits.
    fn change(&self, changes: Changes) -> Option<bool> {
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unread.prefixes += changes.prefixes();
        unread.changes.push(changes);
        let starts = !std::mem::replace(&mut unread.is_taken, true);
        (unread.prefixes <= MAX_PREFIXES && unread.changes.len() <= MAX_CHANGES).then_some(starts)
    }

    /// What waits. If there is nothing, nobody takes reports from now on.
    fn take(&self) -> Option<(Option<Vec<Interface>>, Vec<Changes>)> {
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting {
            report, changes, ..
        } = std::mem::take(&mut *unread);
        let waits = report.is_some() || !changes.is_empty();
        unread.is_taken = waits;
        waits.then_some((report, changes))
    }
}

impl Engine {
    /// A router attached: it has told its interfaces and what it has. Ends the stream that it had
    /// before. What goes to the router comes out of the returned receiver.
    ///
    /// Must be driven to its end: a caller who may go away gives it a task of its own.
    pub async fn attach(
        self: &Arc<Self>,
        identity: Identity,
        peer: String,
        mut interfaces: Vec<Interface>,
        reported: BTreeMap<SessionKey, Reported>,
    ) -> Result<(Arc<Link>, Outgoing), Error> {
        if *self.stopping.borrow() {
            return Err(Error::ShuttingDown);
        }
        let id = identity.id.clone();
        self.refuse(&id, &[], &mut interfaces);
        let mut turn = self.reports.lock().await;
        self.make_room(&id, &mut turn).await?;
        let former = self.lock().registry.router(&id).cloned();
        let mut change = ClaimChange::new(&id, former.as_ref(), interfaces);
        self.prepare(&mut change).await;
        let welcome = ToRouter::Welcome {
            server_epoch: self.epoch,
            leader: self.leader.clone(),
        };
        let link = Arc::new(Link::new(
            id.clone(),
            self.next_attachment(),
            self.settings.router_buffer,
            welcome,
            self.clock().clone(),
            self.metrics.clone(),
        ));
        let outgoing = link.outgoing();
        // A router that attaches waits for the network, and has sent one report.
        drop(self.keep_router(&mut turn, &identity, &change.interfaces));
        let (replaced, rest) = {
            let mut state = self.lock();
            let (at, now) = (link.attachment(), state.clock.unix());
            let router = state
                .registry
                .attach(identity, peer.clone(), &change, at, now);
            let strays = state.grace.attached(&id);
            let replaced = state.links.insert(id.clone(), link.clone());
            (replaced, (router, strays))
        };
        drop(rest);
        let address = peer.clone();
        if let Some(old) = replaced {
            warn!(router = %id, %peer, "attached again; its former stream ends");
            old.end(Ended::Replaced {
                router: id.clone(),
                peer,
            });
        }
        let sessions = reported.len();
        info!(router = %id, sessions, "attached");
        self.note(Kind::RouterAttached, &id, || {
            format!("attached from {address} with {sessions} calls")
        });
        self.reach_changed.notify_one();
        let engine = self.clone();
        let synchronised = link.clone();
        tokio::spawn(async move { engine.synchronise(synchronised, reported).await });
        tokio::spawn(self.clone().end_grace(link.clone()));
        tokio::spawn(self.clone().probe(link.clone()));
        tokio::spawn(self.clone().note_silence(link.clone()));
        self.sweep(change).await;
        drop(turn);
        Ok((link, outgoing))
    }

    /// A router reported its interfaces anew. The registry takes that later, unless another report
    /// comes first.
    pub fn report(self: &Arc<Self>, link: &Arc<Link>, interfaces: Vec<Interface>) {
        if link.unread.put(interfaces) {
            tokio::spawn(self.clone().take_reports(link.clone()));
        }
    }

    /// A router reported what has changed since. False if more waits to be taken than it should: its stream
    /// is to end.
    #[must_use]
    pub fn report_changes(self: &Arc<Self>, link: &Arc<Link>, changes: Changes) -> bool {
        let starts = link.unread.change(changes);
        if starts == Some(true) {
            tokio::spawn(self.clone().take_reports(link.clone()));
        }
        starts.is_some()
    }

    async fn take_reports(self: Arc<Self>, link: Arc<Link>) {
        let id = link.router();
        loop {
            let mut turn = self.reports.lock().await;
            let Some((report, changes)) = link.unread.take() else {
                return;
            };
            let former = self.lock().registry.router(id).cloned();
            let Some(former) = former.filter(|it| it.attachment() == Some(link.attachment()))
            else {
                continue;
            };
            let mut interfaces = report.unwrap_or_else(|| {
                let mut all = former.interfaces.to_vec();
                all.iter_mut().for_each(Interface::unsift);
                all
            });
            for change in changes {
                change.apply(&mut interfaces);
                // Nor does it wait until the last of them takes that back.
                if !fits(&interfaces) {
                    link.end(Ended::TooLarge);
                    return;
                }
            }
            self.refuse(id, &former.interfaces, &mut interfaces);
            if *former.interfaces == *interfaces {
                continue;
            }
            self.note_links(&former, &interfaces);
            let mut change = ClaimChange::new(id, Some(&former), interfaces);
            self.prepare(&mut change).await;
            let kept = self.keep_router(&mut turn, &former.identity, &change.interfaces);
            // Even if the router is lost by now: it has what it said.
            self.lock().registry.report(id, &change);
            info!(router = %id, "interfaces changed");
            self.reach_changed.notify_one();
            self.sweep(change).await;
            drop(turn);
            // What comes meanwhile is taken together.
            kept.done().await;
        }
    }

    /// Takes what a router must not claim out of what it reports; says so when that is something else than
    /// before.
    fn refuse(&self, id: &RouterId, former: &[Interface], interfaces: &mut [Interface]) {
        let may_claim = self.limits.borrow().may_claim.clone();
        may_claim.sift(id.as_str(), interfaces);
        let refused = |all: &[Interface]| -> Vec<IpNet> {
            let all = all.iter().flat_map(|it| it.refused.iter().copied());
            all.collect()
        };
        let now = refused(interfaces);
        if !now.is_empty() && now != refused(former) {
            let first = now.iter().take(REFUSED_SAID).map(ToString::to_string);
            let first = first.collect::<Vec<_>>().join(", ");
            warn!(
                router = %id, count = now.len(), first,
                "refused prefixes that the router must not claim (may_claim); the others work"
            );
        }
    }

    /// Notes which interfaces have lost their link, and which have it back.
    fn note_links(&self, former: &Router, interfaces: &[Interface]) {
        for now in interfaces {
            let before = former.interfaces.iter().find(|it| it.name == now.name);
            let kind = match (before.is_none_or(|it| it.up), now.up) {
                (true, false) => Kind::InterfaceDown,
                (false, true) => Kind::InterfaceUp,
                _ => continue,
            };
            self.note(kind, &former.identity.id, || {
                let is = if now.up { "up again" } else { "down" };
                format!("interface {} is {is}", now.name)
            });
        }
    }

    /// A router's stream ended.
    pub fn detach(&self, link: &Link, reason: &str) {
        let (id, attachment) = (link.router(), link.attachment());
        let strays = {
            let mut state = self.lock();
            let now = state.clock.unix();
            let lost = state.registry.detach(id, attachment, reason, now);
            lost.then(|| {
                state.links.remove(id);
                (state.grace.detached(id), state.store.sessions_on(id))
            })
        };
        if let Some((_, sessions)) = &strays {
            warn!(router = %id, reason, "lost");
            self.note(Kind::RouterLost, id, || {
                format!("lost, with {sessions} calls on it: {reason}")
            });
        }
        link.close();
        self.reach_changed.notify_one();
    }

    /// Forgets the router that is missed least if there is no room for another one.
    async fn make_room(
        &self,
        newcomer: &RouterId,
        records: &mut RouterRecords,
    ) -> Result<(), Error> {
        let forgotten = {
            let mut state = self.lock();
            let Err(full) = state.registry.has_room(newcomer) else {
                return Ok(());
            };
            let other = state.dispensable().ok_or(full)?;
            state.forget(&other)
        };
        if let (Some(router), _) = &forgotten {
            self.strike_router(records, &router.identity.id);
            self.sweep(ClaimChange::forgotten(router)).await;
        }
        Ok(())
    }

    async fn prepare(&self, change: &mut ClaimChange) {
        while self.prepare_slice(change) {
            yield_now().await;
        }
    }

    fn prepare_slice(&self, change: &mut ClaimChange) -> bool {
        self.lock().registry.prepare(change)
    }

    /// Removes the claims that a change has ended.
    pub(super) async fn sweep(&self, mut change: ClaimChange) {
        while self.sweep_slice(&mut change) {
            yield_now().await;
        }
    }

    fn sweep_slice(&self, change: &mut ClaimChange) -> bool {
        self.lock().registry.sweep(change)
    }
}
