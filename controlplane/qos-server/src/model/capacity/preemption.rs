//! Which sessions make way for a more important one where a link has no room for it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    admission::{Load, Policy, limit_bps, load_with},
    links::{Charges, LinkId},
};
use crate::model::{
    ids::SessionKey,
    registry::Registry,
    session::{Priority, SessionSpec},
    store::Store,
    work,
};

/// Candidates looked at for one session, at most: so a hold of the engine's lock stays short. A session
/// that needs the room of more is refused.
const MOST_CANDIDATES: usize = 256;

/// A session that may be pre-empted, in the order in which they are: the least important first, of
/// equal ones the youngest. The number is that of its arrival.
type Candidate = (Reverse<Priority>, Reverse<u64>, SessionKey);

/// The sessions that may be pre-empted, by the links that they take bandwidth of.
#[derive(Debug, Default)]
pub struct Candidates {
    by_link: BTreeMap<Arc<LinkId>, BTreeSet<Candidate>>,
    /// The number of each one's arrival.
    arrivals: BTreeMap<SessionKey, u64>,
    last: u64,
}

impl Candidates {
    /// A session takes this.
    pub(in crate::model) fn take(&mut self, spec: &SessionSpec, charges: &Charges) {
        if !spec.preemptable {
            return;
        }
        let arrival = *self.arrivals.entry(spec.key.clone()).or_insert_with(|| {
            self.last += 1;
            self.last
        });
        for (link, _) in charges.iter() {
            let on = self.by_link.entry(link.clone()).or_default();
            on.insert((Reverse(spec.priority), Reverse(arrival), spec.key.clone()));
        }
    }

    /// A session gives back what it took.
    pub(in crate::model) fn give_back(&mut self, spec: &SessionSpec, charges: &Charges) {
        let Some(arrival) = self.arrivals.get(&spec.key) else {
            return;
        };
        let candidate = (Reverse(spec.priority), Reverse(*arrival), spec.key.clone());
        for (link, _) in charges.iter() {
            if let Some(on) = self.by_link.get_mut(link) {
                on.remove(&candidate);
                if on.is_empty() {
                    self.by_link.remove(link);
                }
            }
        }
    }

    /// A session is no more.
    pub(in crate::model) fn forget(&mut self, key: &SessionKey) {
        self.arrivals.remove(key);
    }

    /// Those on a link that are less important than this, in their order.
    fn on<'a>(
        &'a self,
        link: &LinkId,
        priority: Priority,
    ) -> impl Iterator<Item = &'a Candidate> + use<'a> {
        let on = self.by_link.get(link).into_iter().flatten();
        on.inspect(|_| work::step())
            .take_while(move |(its, ..)| its.0 > priority)
    }

    /// The first on a link that is idle.
    pub fn first_on(
        &self,
        link: &LinkId,
        is_idle: impl Fn(&SessionKey) -> bool,
    ) -> Option<SessionKey> {
        let on = self.by_link.get(link)?.iter();
        let mut looked_at = on.inspect(|_| work::step()).take(MOST_CANDIDATES);
        let first = looked_at.find(|(.., key)| is_idle(key))?;
        Some(first.2.clone())
    }

    #[cfg(test)]
    pub(in crate::model) fn pairs(&self) -> BTreeSet<(Arc<LinkId>, SessionKey)> {
        let links = self.by_link.iter();
        let pairs = links.flat_map(|(link, on)| on.iter().map(|it| (link.clone(), it.2.clone())));
        pairs.collect()
    }
}

/// The sessions that a new one, or a new version of one, has to take the place of so that all its links
/// have room: the least important first, of equal ones the youngest; none that is not needed. Absent if
/// all of them together do not suffice; only idle ones count.
pub fn make_room(
    spec: &SessionSpec,
    charges: &Charges,
    registry: &Registry,
    store: &Store,
    policy: Policy,
    is_idle: impl Fn(&SessionKey) -> bool,
) -> Option<Vec<SessionKey>> {
    let lacks = |(link, bps): (&Arc<LinkId>, u64)| {
        let load = load_with(store, &spec.key, link, bps)?;
        let lacking = Lacking {
            link: link.clone(),
            load,
            limit_bps: limit_bps(spec, registry, link)?,
        };
        (!lacking.fits(policy)).then_some(lacking)
    };
    let mut lacking: Vec<Lacking> = charges.iter().filter_map(lacks).collect();
    let mut candidates: Vec<_> = lacking
        .iter()
        .map(|it| store.candidates().on(&it.link, spec.priority).peekable())
        .collect();
    let mut taken: Vec<&SessionKey> = Vec::new();
    let bps_on = |key: &SessionKey, link: &LinkId| {
        store.get(key).map_or(0, |session| session.charges.on(link))
    };
    let mut looked_at = 0;
    while lacking.iter().any(|it| !it.fits(policy)) {
        let next = candidates.iter_mut().filter_map(|on| on.peek().copied());
        let next = next.min()?;
        for on in &mut candidates {
            on.next_if_eq(&next);
        }
        looked_at += 1;
        if looked_at > MOST_CANDIDATES {
            return None;
        }
        let key = &next.2;
        let helps = |it: &Lacking| !it.fits(policy) && bps_on(key, &it.link) > 0;
        if *key == spec.key || !is_idle(key) || !lacking.iter().any(helps) {
            continue;
        }
        for it in &mut lacking {
            it.without(bps_on(key, &it.link));
        }
        taken.push(key);
    }
    // One that was taken for one link may be covered by those taken later for another.
    let mut needed: Vec<SessionKey> = Vec::new();
    for key in taken.iter().rev() {
        let mut with = lacking.clone();
        for it in &mut with {
            it.with(bps_on(key, &it.link));
        }
        if with.iter().all(|it| it.fits(policy)) {
            lacking = with;
        } else {
            needed.push((*key).clone());
        }
    }
    needed.reverse();
    Some(needed)
}

/// A link that has no room for all that it would have.
#[derive(Clone, Debug)]
struct Lacking {
    link: Arc<LinkId>,
    load: Load,
    limit_bps: u64,
}

impl Lacking {
    fn fits(&self, policy: Policy) -> bool {
        policy.fits(self.load, self.limit_bps)
    }

    /// A session goes that takes this of it.
    fn without(&mut self, bps: u64) {
        if bps > 0 {
            self.load.take(bps);
        }
    }

    /// Counts a session that stays.
    fn with(&mut self, bps: u64) {
        if bps > 0 {
            self.load.add(bps);
        }
    }
}
