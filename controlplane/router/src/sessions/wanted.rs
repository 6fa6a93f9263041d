//! Silent flows that near misses are looked for: packets without a session that are nearly of such a flow.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use voicelane_dataplane::session::{FiveTuple, Ingress};
use voicelane_proto::v1::FlowKind;
use voicelane_types::SessionKey;

use super::{EntryReading, entries::Entry};

/// A flow without packets for so long is silent.
const SILENT: Duration = Duration::from_secs(5);
/// A flow is looked for at most so often.
const EVERY: Duration = Duration::from_secs(10);
/// The most flows that are looked for within that time: looking takes time of the workers.
const MOST: usize = 64;

/// A silent flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFlow {
    /// Its session.
    pub key: SessionKey,
    /// Its index in the session.
    pub flow_index: u32,
    /// What its packets would have. Of one that waits for its source: port 0 of the address that this must have.
    pub flow: FiveTuple,
}

/// The flows that are to be looked for, in their order.
#[derive(Debug, Default)]
pub struct Wanted {
    flows: Mutex<Flows>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Flows {
    waiting: VecDeque<WantedFlow>,
    /// When each was asked for, of the last [`EVERY`].
    asked: HashMap<FiveTuple, Instant>,
}

impl Wanted {
    /// Adds what is silent of the media from hosts here, at most so many flows; returns how many. `since`: when their
    /// session was installed.
    pub fn want(
        &self,
        readings: &[EntryReading],
        since: Instant,
        most: usize,
        now: Instant,
    ) -> usize {
        let age = now.saturating_duration_since(since);
        let mut flows = self.flows();
        let Flows { waiting, asked } = &mut *flows;
        asked.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
        let before = waiting.len();
        for reading in readings.iter().filter(|it| is_silent_media(it, age)) {
            if waiting.len() - before == most || waiting.len().max(asked.len()) >= MOST {
                break;
            }
            let flow = expected(&reading.entry);
            if let hash_map::Entry::Vacant(vacant) = asked.entry(flow) {
                vacant.insert(now);
                waiting.push_back(WantedFlow {
                    key: reading.key.clone(),
                    flow_index: reading.entry.flow_index,
                    flow,
                });
            }
        }
        let added = waiting.len() - before;
        if added > 0 {
            self.more.notify_one();
        }
        added
    }

    /// The next ones, at most so many; waits until there is one. May be cancelled.
    pub async fn next(&self, most: usize) -> Vec<WantedFlow> {
        loop {
            let next: Vec<_> = {
                let mut flows = self.flows();
                let count = flows.waiting.len().min(most);
                flows.waiting.drain(..count).collect()
            };
            if !next.is_empty() {
                return next;
            }
            self.more.notified().await;
        }
    }

    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RTP that does not come from its hosts here, or whose source is to be learned here. Its packets may be on their way
/// when that has just begun, and look like any others to its destination.
fn is_silent_media(reading: &EntryReading, age: Duration) -> bool {
    let EntryReading { entry, reading, .. } = reading;
    let idle = reading.idle_ns.map(Duration::from_nanos);
    let idle = idle.or_else(|| entry.waits().map(|_| age));
    entry.kind == FlowKind::Rtp
        && match entry.waits() {
            // All that goes to its host would be near to a flow of any source.
            Some(latch) => latch.from.is_some(),
            None => entry.spec.ingress != Ingress::Core,
        }
        && idle.is_none_or(|idle| idle > SILENT)
}

fn expected(entry: &Entry) -> FiveTuple {
    let flow = entry.spec.flow;
    match entry.waits().and_then(|latch| latch.from) {
        Some(from) => FiveTuple {
            source: SocketAddr::new(from, 0),
            ..flow
        },
        None => flow,
    }
}

#[cfg(test)]
mod tests {
    use voicelane_dataplane::{control::FlowReading, session::FlowCounters};
    use voicelane_proto::v1::{FlowEntry, Latch};

    use super::*;
    use crate::sessions::entries::{
        self,
        tests::{flow_entry, ways_in},
    };

    /// A flow of a host here.
    fn reading(number: u32, idle_s: Option<u64>) -> EntryReading {
        EntryReading {
            key: SessionKey::new("x", &number.to_string()).unwrap(),
            entry: entries::entries(&[flow_entry(number)], &ways_in()).unwrap()[0],
            reading: FlowReading {
                counters: FlowCounters::default(),
                idle_ns: idle_s.map(|s| s * 1_000_000_000),
                quality: None,
            },
        }
    }

    fn names(flows: &[WantedFlow]) -> Vec<&str> {
        flows.iter().map(|it| it.key.session()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_media_of_hosts_are_looked_for_now_and_then() {
        let wanted = Wanted::default();
        let now = Instant::now();
        let mut from_core = reading(5, None);
        from_core.entry.spec.ingress = Ingress::Core;
        let mut rtcp = reading(6, None);
        rtcp.entry.kind = FlowKind::Rtcp;
        let all = [
            reading(1, None),
            reading(2, Some(6)),
            reading(3, Some(4)),
            from_core,
            rtcp,
        ];
        assert_eq!(wanted.want(&all, now, 9, now), 2);
        assert_eq!(names(&wanted.next(8).await), ["1", "2"]);
        assert_eq!(
            wanted.want(&all, now, 9, now + EVERY / 2),
            0,
            "it has just been"
        );
        assert_eq!(wanted.want(&all, now, 1, now + EVERY), 1);
        assert_eq!(names(&wanted.next(8).await), ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn flows_that_wait_for_their_source_are_looked_for() {
        let latching = |number, address: &str| {
            let asked = FlowEntry {
                source: None,
                latch: Some(Latch {
                    address: address.to_owned(),
                }),
                // From other routers: it waits here all the same.
                ingress_interface: String::new(),
                ..flow_entry(number)
            };
            EntryReading {
                entry: entries::entries(&[asked], &ways_in()).unwrap()[0],
                ..reading(number, None)
            }
        };
        let wanted = Wanted::default();
        let all = [latching(1, ""), latching(2, "10.1.0.5")];
        let since = Instant::now();
        let early = wanted.want(&all, since, 9, since + SILENT);
        assert_eq!(early, 0, "they have just been installed");
        assert_eq!(wanted.want(&all, since, 9, since + SILENT * 2), 1);
        let sources = wanted.next(8).await.into_iter().map(|it| it.flow.source);
        let sources: Vec<_> = sources.map(|source| source.to_string()).collect();
        assert_eq!(sources, ["10.1.0.5:0"], "not the one of any source");
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_few_however_many_calls_are_silent() {
        let wanted = Wanted::default();
        let now = Instant::now();
        let all: Vec<_> = (1..1_000).map(|number| reading(number, None)).collect();
        assert_eq!(wanted.want(&all, now, usize::MAX, now), MOST);
        assert_eq!(wanted.next(8).await.len(), 8);
        assert_eq!(wanted.want(&all, now, usize::MAX, now), 0);
        // Nobody has looked for them yet.
        assert_eq!(wanted.want(&all[500..], now, usize::MAX, now + EVERY), 8);
        assert_eq!(wanted.next(usize::MAX).await.len(), MOST);
    }
}
