//! What operators see of the links that calls are admitted to.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use crate::{
    engine::{Engine, Link, state::State},
    model::{
        admission::{Load, reserve_bps},
        error::Error,
        ids::{RouterId, SessionKey},
        links::{Direction, LinkId},
        registry::{Carried, Traffic},
    },
};

/// A link at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Which router, port and direction.
    pub id: Arc<LinkId>,
    /// How much telephony it may have, bit/s on the wire; 0: not limited.
    pub budget_bps: u64,
    /// What of that is kept for the most important calls.
    pub reserve_bps: u64,
    /// What is taken.
    pub load: Load,
    /// What it carries, bit/s on the wire, if its router has said so.
    pub carried_bps: Option<u64>,
}

/// What a session takes of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCall {
    /// The session that takes the bandwidth.
    pub key: SessionKey,
    /// What the call is called elsewhere.
    pub correlation_id: Box<str>,
    /// How important it is.
    pub priority: u8,
    /// What it takes, bit/s on the wire.
    pub charged_bps: u64,
}

impl Engine {
    /// At most `size` links after `after`, of one router or of all, in order.
    pub fn links(
        &self,
        router: Option<&RouterId>,
        after: Option<&LinkId>,
        size: usize,
    ) -> Result<Vec<LinkView>, Error> {
        let mut links = Vec::new();
        let mut at = match router {
            Some(id) => id.clone(),
            None => match after {
                Some(link) => link.router.clone(),
                None => match self.lock().next_router(None) {
                    Some(first) => first,
                    None => return Ok(links),
                },
            },
        };
        if router.is_some_and(|id| !self.lock().has_links(id)) {
            return Err(Error::NoRouter(at));
        }
        // A router under one hold of the lock.
        loop {
            let state = self.lock();
            let of_router = state.links_of(&at);
            let rest = of_router.filter(|link| after.is_none_or(|after| *link.id > *after));
            links.extend(rest.take(size - links.len()));
            let next = state.next_router(Some(&at)).filter(|_| router.is_none());
            match next {
                Some(next) if links.len() < size => at = next,
                _ => return Ok(links),
            }
        }
    }

    /// One link, and the `most` sessions that take most of it.
    pub async fn link(&self, id: &LinkId, most: usize) -> Result<(LinkView, Vec<LinkCall>), Error> {
        let link = self
            .lock()
            .links_of(&id.router)
            .find(|link| *link.id == *id);
        let link = link.ok_or_else(|| Error::NoLink(id.clone().into()))?;
        let mut biggest: BTreeSet<(Reverse<u64>, SessionKey)> = BTreeSet::new();
        self.each_session(|_, session| {
            let bps = session.charges.on(id);
            if bps > 0 {
                biggest.insert((Reverse(bps), session.spec.key.clone()));
                if biggest.len() > most {
                    biggest.pop_last();
                }
            }
        })
        .await;
        let state = self.lock();
        let calls = biggest.into_iter().filter_map(|(charged, key)| {
            let spec = &state.store.get(&key)?.spec;
            Some(LinkCall {
                correlation_id: spec.correlation_id.clone(),
                priority: spec.priority.get(),
                charged_bps: charged.0,
                key,
            })
        });
        Ok((link, calls.collect()))
    }
}

impl Engine {
    /// A router says what its ports carry.
    pub fn carried(&self, link: &Link, ports: Vec<(Box<str>, Carried)>) {
        let ports = ports.into_iter().map(|(port, it)| (port.into(), it));
        let ports: Traffic = ports.collect();
        let (router, attachment) = (link.router(), link.attachment());
        let former = self.lock().registry.carries(router, attachment, ports);
        drop(former);
    }
}

impl State {
    /// Whether a router is known, or sessions take something of its links.
    fn has_links(&self, router: &RouterId) -> bool {
        let taken = || self.store.ledger().of_router(router).next().is_some();
        self.registry.router(router).is_some() || taken()
    }

    /// The next router that is known, or of whose links something is taken.
    fn next_router(&self, after: Option<&RouterId>) -> Option<RouterId> {
        let known = self.registry.after(after).next().map(|it| &it.identity.id);
        let taken = self.store.ledger().router_after(after);
        known.into_iter().chain(taken).min().cloned()
    }

    /// The links of a router, in order: those that it reports, and those that it reports no more of
    /// which something is taken.
    fn links_of(&self, router: &RouterId) -> impl Iterator<Item = LinkView> {
        let of_router = self.store.ledger().of_router(router);
        let router = self.registry.router(router);
        let ports = router.into_iter().flat_map(|it| it.ports.iter());
        let both = [Direction::In, Direction::Out];
        let mut reported = ports
            .flat_map(move |port| both.map(|it| (port.link(it), port.budget_bps(it))))
            .peekable();
        let mut taken = of_router.peekable();
        std::iter::from_fn(move || {
            let next_taken = taken.peek().copied();
            let is_reported = |it: &(&Arc<LinkId>, u64)| next_taken.is_none_or(|next| it.0 <= next);
            let (id, budget_bps) = match reported.next_if(is_reported) {
                Some((id, budget_bps)) => {
                    taken.next_if(|next| *next == id);
                    (id, budget_bps)
                }
                None => (taken.next()?, 0),
            };
            let carried = router.and_then(|it| it.traffic.get(&id.port));
            let carried_bps = carried.and_then(|it| match id.direction {
                Direction::Out => Some(it.out_bps),
                Direction::In => it.in_bps,
            });
            Some(LinkView {
                carried_bps,
                id: id.clone(),
                budget_bps,
                reserve_bps: reserve_bps(budget_bps),
                load: self.store.ledger().on(id),
            })
        })
    }
}
