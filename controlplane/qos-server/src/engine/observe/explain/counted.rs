//! What routers counted of a session, and how that changed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use tokio::time::Instant;

use super::links::SEEN_WITHIN_MS;
use crate::{
    engine::{EntryCounters, Reply, SessionView, routers::link::NoReply},
    model::{
        entries::FlowKind,
        error::{Refusal, RefusalKind},
        ids::{Revision, RouterId, SessionKey},
    },
};

/// What was counted at an earlier explanation is compared with for so long.
const LATELY: Duration = Duration::from_secs(10);
/// Sessions whose explanations are remembered.
const REMEMBERED: usize = 256;
/// The longest that slow routers make the time between two readings.
const LONGEST_SAMPLE: Duration = Duration::from_secs(2);
/// Fewer packets than this are not compared.
const ENOUGH: u64 = 10;
/// Packets that may be on their way at one of two readings and not at the other.
const IN_FLIGHT: u64 = 3;
/// So much of a flow may: a frame of video comes as one burst, and queues on the way fill.
const IN_FLIGHT_S: f64 = 0.05;
/// No router forwards more packets of an entry a second.
const MOST_PPS: f64 = 1e9;

/// What a router told of a session.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    pub(super) reply: Result<Reply, NoReply>,
}

pub(super) type Readings = BTreeMap<RouterId, Reading>;

impl Reading {
    fn counters(&self) -> &[EntryCounters] {
        match &self.reply {
            Ok(Ok(counters)) => counters,
            _ => &[],
        }
    }

    fn entry(&self, flow: u32, kind: Option<FlowKind>) -> Option<&EntryCounters> {
        let mut all = self.counters().iter();
        all.find(|entry| entry.flow == flow && entry.kind == kind)
    }

    /// Whether there is anything in it that a second reading would show to change.
    pub(super) fn moves(&self) -> bool {
        let mut all = self.counters().iter();
        all.any(|entry| is_recent(entry, SEEN_WITHIN_MS) || entry.policed_packets > 0)
    }

    /// Whether RTP does not come that should: by the second reading the router has looked for what comes in its
    /// place.
    pub(super) fn is_silent(&self) -> bool {
        let mut all = self.counters().iter();
        all.any(|entry| entry.kind == Some(FlowKind::Rtp) && !is_recent(entry, SEEN_WITHIN_MS))
    }

    /// The least and the most time from one reading to a later one, seconds.
    fn span(&self, later: &Self) -> (f64, f64) {
        let least = later.sent.saturating_duration_since(self.received);
        let most = later.received.saturating_duration_since(self.sent);
        (least.as_secs_f64(), most.as_secs_f64())
    }
}

fn is_recent(entry: &EntryCounters, within_ms: u64) -> bool {
    entry.last_seen_ms_ago.is_some_and(|ago| ago <= within_ms)
}

/// How far apart two readings are to be, for the first's answers to blur their times little.
pub(super) fn sample(first: &Readings) -> Duration {
    let slowest = first
        .values()
        .map(|reading| reading.received.saturating_duration_since(reading.sent))
        .max();
    (slowest.unwrap_or_default() * 8).min(LONGEST_SAMPLE)
}

/// What has become of what the source's router sent on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Carried {
    /// A router has not told, or nothing has come to the source's.
    NotCounted,
    /// A counter went back.
    Restarted,
    /// Silence, or nearly.
    TooFew { sent: u64, seconds: f64 },
    /// It came.
    Compared { sent: u64, came: u64, seconds: f64 },
    /// More of it did not than may be on its way.
    Lost { sent: u64, came: u64, since: Since },
}

/// Since when something was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Since {
    /// In the last seconds.
    Seconds(f64),
    /// Since the session was installed.
    Installed,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "in {seconds:.1} s"),
            Self::Installed => f.write_str("since it was installed"),
        }
    }
}

/// Packets that were dropped because they exceeded their terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dropped {
    /// In the last `seconds`.
    pub(super) lately: u64,
    pub(super) seconds: f64,
    /// Since they were installed.
    pub(super) ever: u64,
}

type EntryName = (RouterId, u32, Option<FlowKind>);

/// Two readings, and what is remembered of an earlier explanation.
#[derive(Debug)]
pub(super) struct Counted {
    first: Readings,
    second: Readings,
    /// What had been dropped, and when that was read.
    earlier: Option<(HashMap<EntryName, u64>, Instant)>,
}

impl Counted {
    /// Nothing changes.
    pub(super) fn once(reading: Readings) -> Self {
        Self {
            first: reading.clone(),
            second: reading,
            earlier: None,
        }
    }

    /// Of two readings; a router whose counters change faster than packets can come is refused.
    pub(super) fn between(first: Readings, mut second: Readings) -> Self {
        for (router, reading) in &mut second {
            let Some(before) = first.get(router) else {
                continue;
            };
            let most = MOST_PPS * before.span(reading).1.max(1.0);
            let jump = reading.counters().iter().find_map(|now| {
                let was = before.entry(now.flow, now.kind)?;
                let more = now.packets.saturating_sub(was.packets);
                (as_f64(more) > most).then_some(more)
            });
            if let Some(more) = jump {
                let detail = format!("it told {more} packets more than a moment ago");
                reading.reply = Ok(Err(Refusal {
                    kind: RefusalKind::Implausible,
                    detail,
                    owner: None,
                }));
            }
        }
        Self {
            first,
            second,
            earlier: None,
        }
    }

    /// What a router told last.
    pub(super) fn reply(&self, router: &RouterId) -> Option<&Result<Reply, NoReply>> {
        self.second.get(router).map(|reading| &reading.reply)
    }

    /// A flow's counters on a router.
    pub(super) fn of_flow(&self, router: &RouterId, flow: usize) -> Vec<EntryCounters> {
        let read = self.second.get(router).map_or(&[][..], Reading::counters);
        let of_flow = |entry: &&EntryCounters| usize::try_from(entry.flow) == Ok(flow);
        read.iter().filter(of_flow).cloned().collect()
    }

    /// Those of its RTP.
    pub(super) fn media(&self, router: &RouterId, flow: usize) -> Option<&EntryCounters> {
        media(self.second.get(router)?, flow)
    }

    /// Compares what the source's router sent on with what came to the destination's.
    pub(super) fn carried(
        &self,
        source: &RouterId,
        destination: &RouterId,
        flow: usize,
    ) -> Carried {
        let pair = |router| {
            let (first, second) = (self.first.get(router)?, self.second.get(router)?);
            let (was, now) = (media(first, flow)?, media(second, flow)?);
            Some((was, now, first.span(second)))
        };
        let Some(((was_sent, now_sent, sent_in), (had_come, has_come, came_in))) =
            pair(source).zip(pair(destination))
        else {
            return Carried::NotCounted;
        };
        if now_sent.last_seen_ms_ago.is_none() {
            return Carried::NotCounted;
        }
        let arrived = |entry: &EntryCounters| entry.packets.saturating_add(entry.policed_packets);
        let sent = now_sent.packets.checked_sub(was_sent.packets);
        let came = arrived(has_come).checked_sub(arrived(had_come));
        let Some((sent, came)) = sent.zip(came) else {
            return Carried::Restarted;
        };
        let seconds = sent_in.1;
        if sent == 0 && came == 0 {
            // Packets have come, yet no counter has moved: the router counts them later.
            let sample_ms = sent_in.0 * 1_000.0;
            let has_moved = |entry: &EntryCounters| {
                let ago = entry.last_seen_ms_ago;
                ago.is_some_and(|ago| as_f64(ago) < sample_ms)
            };
            let (sent, came) = (now_sent.packets, arrived(has_come));
            let comparable = [was_sent, now_sent, had_come, has_come].map(has_moved);
            // One of them may have been installed a little later.
            let is_lost = as_f64(sent) * 0.9 > as_f64(came.saturating_add(IN_FLIGHT));
            if comparable == [true; 4] && is_lost {
                let since = Since::Installed;
                return Carried::Lost { sent, came, since };
            }
        }
        if sent < ENOUGH {
            return Carried::TooFew { sent, seconds };
        }
        // The least that the destination's part of the time can be of the source's.
        let due = as_f64(sent) * (came_in.0 / sent_in.1).min(1.0);
        let in_flight = as_f64(IN_FLIGHT).max(as_f64(sent) * IN_FLIGHT_S / seconds);
        if due > as_f64(came) + in_flight {
            let since = Since::Seconds(seconds);
            return Carried::Lost { sent, came, since };
        }
        Carried::Compared {
            sent,
            came,
            seconds,
        }
    }

    /// What a router dropped of a flow.
    pub(super) fn dropped(&self, router: &RouterId, flow: usize) -> Dropped {
        let mut dropped = Dropped {
            lately: 0,
            seconds: 0.0,
            ever: 0,
        };
        let (Some(first), Some(second)) = (self.first.get(router), self.second.get(router)) else {
            return dropped;
        };
        let since = self.earlier.as_ref().map_or(first.sent, |(_, at)| *at);
        dropped.seconds = second.received.duration_since(since).as_secs_f64();
        for now in second.counters() {
            if usize::try_from(now.flow) != Ok(flow) {
                continue;
            }
            let was = match &self.earlier {
                Some((counts, _)) => counts.get(&name(router, now)).copied(),
                None => first
                    .entry(now.flow, now.kind)
                    .map(|entry| entry.policed_packets),
            };
            // A counter that went back began anew meanwhile.
            let was = was.filter(|was| *was <= now.policed_packets).unwrap_or(0);
            dropped.lately += now.policed_packets - was;
            dropped.ever += now.policed_packets;
        }
        dropped
    }
}

fn media(reading: &Reading, flow: usize) -> Option<&EntryCounters> {
    reading.entry(u32::try_from(flow).ok()?, Some(FlowKind::Rtp))
}

fn name(router: &RouterId, entry: &EntryCounters) -> EntryName {
    (router.clone(), entry.flow, entry.kind)
}

#[allow(clippy::cast_precision_loss, reason = "for ratios")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// What the latest explanations counted as dropped: the next one of the same session tells what was
/// dropped since, however short its own readings are.
#[derive(Debug, Default)]
pub(in crate::engine) struct Earlier(HashMap<SessionKey, Explained>);

#[derive(Debug)]
struct Explained {
    at: Instant,
    /// Terms that are not those of now are not to be judged.
    revision: Revision,
    dropped: HashMap<EntryName, u64>,
}

impl Earlier {
    /// Adds to an explanation what the one before it had counted, and remembers this one.
    pub(super) fn compare(
        &mut self,
        session: &SessionView,
        mut counted: Counted,
        now: Instant,
    ) -> Counted {
        let revision = session.spec.revision;
        self.0
            .retain(|_, explained| now.duration_since(explained.at) < LATELY);
        let readings = counted.second.iter();
        let counts = readings.flat_map(|(router, reading)| {
            let counters = reading.counters().iter();
            counters.map(move |entry| (name(router, entry), entry.policed_packets))
        });
        let explained = Explained {
            at: now,
            revision,
            dropped: counts.collect(),
        };
        let earlier = self.0.remove(&session.spec.key);
        if self.0.len() < REMEMBERED {
            self.0.insert(session.spec.key.clone(), explained);
        }
        counted.earlier = earlier
            .filter(|earlier| earlier.revision == revision)
            .map(|earlier| (earlier.dropped, earlier.at));
        counted
    }
}
