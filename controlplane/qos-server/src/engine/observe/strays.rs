//! Packets that are no session's and may have been meant to be, as routers tell of them: for events, and for
//! whoever asks why a call has no packets.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    engine::{Engine, FlowExplanation, Link, LinkName, SessionView, Verdict},
    events::Kind,
    model::{
        entries::{FiveTuple, FlowEntry, FlowKind, expand_learned},
        ids::{RouterId, SessionKey},
        session::{Learned, SessionSpec},
    },
};

/// For how long it is remembered what a router has told: when it tells the same again, that is no event.
const REMEMBERED: Duration = Duration::from_secs(300);
/// For how long it is believed: a router repeats it every 10 s, or looks anew when it is asked for a session.
const BELIEVED: Duration = Duration::from_secs(40);
/// The most of each that are remembered of a router; the oldest makes room.
const MOST: usize = 64;

/// Packets without a session that are nearly of a silent flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// Whose flow.
    pub key: SessionKey,
    /// Its index in the session.
    pub flow: usize,
    /// Where the packets come from.
    pub source: SocketAddr,
    /// Where they go.
    pub destination: SocketAddr,
    /// The interface by which they come in.
    pub interface: Box<str>,
}

/// Somebody who sends EF without a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfClaim {
    /// The interface by which it comes in.
    pub interface: Box<str>,
    /// The sender.
    pub address: IpAddr,
    /// At least so many packets in the last 10 s.
    pub packets: u64,
}

impl fmt::Display for EfClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interface,
            address,
            packets,
        } = self;
        write!(
            f,
            "EF claimed by {address} without a call: {packets} packets in 10 s on {interface}, sent on \
             without priority"
        )
    }
}

impl EfClaim {
    fn is_as(&self, other: &Self) -> bool {
        (&self.interface, self.address) == (&other.interface, other.address)
    }
}

impl NearMiss {
    /// What differs from what the session says; `None` if nothing does.
    fn beside(&self, said: &FlowEntry) -> Option<String> {
        let FiveTuple(path) = said.tuple;
        let differs = |verb: &str, came: SocketAddr, said: SocketAddr| {
            let told = match came.ip() == said.ip() {
                true => said.port().to_string(),
                false => said.to_string(),
            };
            (came != said).then(|| format!("{verb} {came}, the session says {told}"))
        };
        let source = match said.latch {
            None => differs("come from", self.source, path.source()),
            Some(latch) => {
                let only = latch.from.filter(|from| *from != self.source.ip());
                only.map(|from| format!("come from {}, the session says {from}", self.source))
            }
        };
        let destination = differs("go to", self.destination, path.destination());
        let texts: Vec<_> = source.into_iter().chain(destination).collect();
        let interface = &self.interface;
        (!texts.is_empty()).then(|| format!("packets {} (on {interface})", texts.join("; they ")))
    }
}

/// What a router has told since it attached.
#[derive(Debug, Default)]
pub(in crate::engine) struct Strays {
    misses: Told<NearMiss>,
    claims: Told<EfClaim>,
}

/// Each with when it was told last; the oldest first.
type Told<T> = VecDeque<(Instant, T)>;

/// Remembers what is told; returns whether it is new.
fn remember<T>(told: &mut Told<T>, one: T, now: Instant, is_as: fn(&T, &T) -> bool) -> bool {
    told.retain(|(at, _)| now.saturating_duration_since(*at) < REMEMBERED);
    let known = told.iter().position(|(_, it)| is_as(it, &one));
    match known {
        Some(place) => drop(told.remove(place)),
        None if told.len() >= MOST => drop(told.pop_front()),
        None => {}
    }
    told.push_back((now, one));
    known.is_none()
}

/// What is still believed, the latest first.
fn believed<T>(told: &Told<T>, now: Instant) -> impl Iterator<Item = &T> {
    let latest = told.iter().rev();
    let recent = latest.take_while(move |(at, _)| now.saturating_duration_since(*at) < BELIEVED);
    recent.map(|(_, it)| it)
}

impl Strays {
    /// What comes in place of a flow's packets: near misses, and who claims EF. That may be anybody where the flow's
    /// source is known and there are no near misses, else its sender.
    fn in_place_of(&self, key: &SessionKey, said: &FlowEntry, now: Instant) -> Vec<String> {
        let mut misses =
            believed(&self.misses, now).filter(|it| (&it.key, it.flow) == (key, said.flow));
        let miss = misses.find_map(|it| it.beside(said));
        let sender = match said.latch {
            None => Some(said.tuple.0.source().ip()),
            Some(latch) => latch.from,
        };
        let is_sender = |claim: &EfClaim| Some(claim.address) == sender;
        let anybody = miss.is_none() && said.latch.is_none();
        let claims = believed(&self.claims, now).filter(|it| anybody || is_sender(it));
        let claim = claims.max_by_key(|it| (is_sender(it), it.packets));
        miss.into_iter()
            .chain(claim.map(ToString::to_string))
            .collect()
    }
}

impl Engine {
    /// A router tells of packets that are no session's.
    pub fn strays(&self, link: &Link, misses: Vec<NearMiss>, claims: Vec<EfClaim>) {
        let (router, now) = (link.router(), self.clock().instant());
        for miss in misses {
            let said = {
                let state = self.lock();
                let session = state.store.get(&miss.key);
                let session = session.filter(|it| it.installations.contains_key(router));
                session.and_then(|it| media(&it.spec, &it.learned, miss.flow))
            };
            let Some(text) = said.and_then(|said| miss.beside(&said)) else {
                continue;
            };
            let key = miss.key.clone();
            if remember(&mut told(link).misses, miss, now, NearMiss::eq) {
                self.note(Kind::CallMissed, &key, || text);
            }
        }
        for claim in claims {
            let text = claim.to_string();
            if remember(&mut told(link).claims, claim, now, EfClaim::is_as) {
                self.note(Kind::EfClaimed, router, || text);
            }
        }
    }

    /// Who has sent EF without a call lately, with the router that tells of it; who sends most first.
    pub(super) fn ef_claims(&self) -> Vec<(RouterId, EfClaim)> {
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        let now = self.clock().instant();
        let mut claims = Vec::new();
        for link in links {
            let told = told(&link);
            let believed = believed(&told.claims, now).cloned();
            claims.extend(believed.map(|claim| (link.router().clone(), claim)));
        }
        claims.sort_by_key(|(_, claim)| Reverse(claim.packets));
        claims
    }

    /// Adds to flows whose packets do not come to their source's router, or to the one that is to learn their
    /// source, what comes there in their place.
    pub(super) fn add_strays(&self, session: &SessionView, flows: &mut [FlowExplanation]) {
        for (flow, explained) in flows.iter_mut().enumerate() {
            let Some(said) = media(&session.spec, &session.learned, flow) else {
                continue;
            };
            let waits = said.latch.is_some();
            let placed = session.placement.get(flow).map(|it| &it.media);
            let at = placed.and_then(|it| match (&it.source, &it.destination) {
                (None, Some(at)) if waits => Some(at),
                (source, _) => source.as_ref(),
            });
            let router = at.map(|at| &at.router);
            let mut steps = explained.steps.iter_mut();
            let silent = steps.find(|step| match waits {
                true => (step.link, step.verdict) == (LinkName::Placed, Verdict::Unknown),
                false => {
                    (step.link, step.verdict) == (LinkName::Seen, Verdict::Broken)
                        && step.router.as_ref() == router
                }
            });
            let link = router.and_then(|router| self.lock().links.get(router).cloned());
            let (Some(silent), Some(link)) = (silent, link) else {
                continue;
            };
            let now = self.clock().instant();
            for text in told(&link).in_place_of(&session.spec.key, &said, now) {
                silent.detail = format!("{}; {text}", silent.detail);
            }
        }
    }
}

fn told(link: &Link) -> MutexGuard<'_, Strays> {
    link.strays.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of a flow's RTP, if its destination is known.
fn media(spec: &SessionSpec, learned: &[Learned], flow: usize) -> Option<FlowEntry> {
    let mut entries = expand_learned(spec, learned).into_iter();
    entries.find(|it| (it.flow, it.kind) == (flow, FlowKind::Rtp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_new_once_and_bounded() {
        let mut all = Told::default();
        let mut tell = |number: usize| remember(&mut all, number, Instant::now(), usize::eq);
        assert!(tell(0));
        assert!(!tell(0), "it is known");
        tokio::time::advance(REMEMBERED / 2).await;
        assert!(!tell(0), "which keeps it");
        tokio::time::advance(REMEMBERED / 2).await;
        assert!(!tell(0));
        tokio::time::advance(REMEMBERED).await;
        assert!(tell(0), "it is forgotten");
        for number in 1..1_000 {
            assert!(tell(number));
        }
        assert_eq!(all.len(), MOST);
        let now = Instant::now();
        assert_eq!(believed(&all, now).next(), Some(&999), "the latest first");
        assert_eq!(believed(&all, now + BELIEVED).next(), None);
    }
}
