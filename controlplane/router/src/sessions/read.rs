use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use voicelane_dataplane::{
    control::FlowReading,
    quality::{Checkpoint, FlowQuality, Mark, ReceiverReport},
    session::FlowCounters,
};
use voicelane_proto::v1;
use voicelane_types::SessionKey;

use super::{
    entries::{Entry, WaysIn},
    sampling::Sampling,
    table::Table,
    wanted::Wanted,
};
use crate::dataplane::{Client, WorkerGone};

/// Flows that the worker is asked about at once: few enough to read between two bursts.
const FLOWS_A_REQUEST: usize = 64;

/// The sessions, and the worker that has them.
#[derive(Debug)]
pub struct Sessions {
    table: Mutex<Table>,
    client: Client,
    ways_in: WaysIn,
    sampling: Sampling,
    learned: AtomicU64,
    wanted: Wanted,
}

/// What the worker has counted of an entry.
#[derive(Clone, Debug)]
pub struct EntryReading {
    /// The session that the flow belongs to.
    pub key: SessionKey,
    /// Which entry of it.
    pub entry: Entry,
    /// Counters, and the time since the last packet.
    pub reading: FlowReading,
}

impl Sessions {
    /// A table without sessions, whose flows `client`'s workers are to carry.
    #[must_use]
    pub fn new(client: Client, ways_in: WaysIn, sampling: Sampling) -> Self {
        Self {
            table: Mutex::default(),
            client,
            ways_in,
            sampling,
            learned: AtomicU64::new(0),
            wanted: Wanted::default(),
        }
    }

    /// How many sources were learned.
    #[must_use]
    pub fn learned(&self) -> u64 {
        self.learned.load(Ordering::Relaxed)
    }

    pub(super) fn count_learned(&self) {
        self.learned.fetch_add(1, Ordering::Relaxed);
    }

    /// The interfaces by which flows may come in.
    pub fn ways_in(&self) -> &WaysIn {
        &self.ways_in
    }

    /// Silent flows that near misses are looked for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Which are measured.
    pub(super) fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// What the worker has confirmed. Not to be held for long.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask what the workers count.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads the counters of a session's entries. One that was removed meanwhile is left out.
    pub async fn read(
        &self,
        key: &SessionKey,
        entries: &[Entry],
    ) -> Result<Vec<EntryReading>, WorkerGone> {
        let entries: Vec<_> = entries.iter().map(|&entry| (key.clone(), entry)).collect();
        self.read_entries(&entries).await
    }

    /// The next sessions after `after`, at most `most`: each with its revision and its entries.
    #[must_use]
    pub fn next(
        &self,
        after: Option<&SessionKey>,
        most: usize,
    ) -> Vec<(SessionKey, u64, Vec<Entry>)> {
        let table = self.table();
        let next = table.after(after).take(most);
        next.map(|(key, session)| (key.clone(), session.revision, session.entries.clone()))
            .collect()
    }

    /// Reads the counters of the first `limit` entries, in the order of their keys.
    pub async fn read_all(&self, limit: usize) -> Result<Vec<EntryReading>, WorkerGone> {
        self.read_entries(&self.entries(limit)).await
    }

    /// The first `limit` entries, in the order of their keys.
    #[must_use]
    pub fn entries(&self, limit: usize) -> Vec<(SessionKey, Entry)> {
        let table = self.table();
        let all = table.iter().flat_map(|(key, session)| {
            session
                .entries
                .iter()
                .map(move |&entry| (key.clone(), entry))
        });
        all.take(limit).collect()
    }

    /// Reads the counters of entries. One that was removed meanwhile is left out.
    pub async fn read_entries(
        &self,
        entries: &[(SessionKey, Entry)],
    ) -> Result<Vec<EntryReading>, WorkerGone> {
        let mut readings = Vec::with_capacity(entries.len());
        for part in entries.chunks(FLOWS_A_REQUEST) {
            let flows = part.iter().map(|(_, entry)| entry.spec.flow).collect();
            let read = self.client.read_flows(flows).await?;
            readings.extend(part.iter().zip(read).filter_map(|((key, entry), reading)| {
                // Nothing of it has been counted yet.
                let waits = entry.waits().map(|_| FlowReading {
                    counters: FlowCounters::default(),
                    idle_ns: None,
                    quality: None,
                });
                Some(EntryReading {
                    key: key.clone(),
                    entry: *entry,
                    reading: reading.or(waits)?,
                })
            }));
        }
        Ok(readings)
    }
}

impl EntryReading {
    /// As the server and the operator's API have it.
    #[must_use]
    pub fn to_proto(&self, ways_in: &WaysIn) -> v1::EntryCounters {
        let Self {
            key,
            entry,
            reading,
        } = self;
        let flow = entry.spec.flow;
        let source = entry.waits().is_none().then_some(flow.source);
        v1::EntryCounters {
            flow_index: entry.flow_index,
            kind: entry.kind.into(),
            source: source.map(Into::into),
            destination: Some(flow.destination.into()),
            packets: reading.counters.packets,
            bytes: reading.counters.bytes,
            policed_packets: reading.counters.policed_packets,
            policed_bytes: reading.counters.policed_bytes,
            last_seen_ms_ago: reading.idle_ns.map(|nanoseconds| nanoseconds / 1_000_000),
            key: Some(key.into()),
            colours: reading
                .counters
                .colours
                .map(|[green, yellow, red]| v1::ColourCounts {
                    green_packets: green.packets,
                    green_bytes: green.bytes,
                    yellow_packets: yellow.packets,
                    yellow_bytes: yellow.bytes,
                    red_packets: red.packets,
                    red_bytes: red.bytes,
                }),
            spoofed_packets: reading.counters.spoofed_packets,
            spoofed_interface: reading
                .counters
                .spoofed_on
                .map_or_else(String::new, |on| ways_in.name(on).to_owned()),
            quality: reading.quality.as_ref().map(quality),
        }
    }
}

fn quality(quality: &FlowQuality) -> v1::MediaQuality {
    v1::MediaQuality {
        ssrc: quality.ssrc,
        payload_type: quality.payload_type.map(Into::into),
        clock_hz: quality.clock_hz.unwrap_or_default(),
        expected: quality.expected,
        received: quality.received,
        lost: quality.lost,
        missing: quality.missing,
        runs: quality.runs,
        bursts: quality.bursts,
        burst_packets: quality.burst_packets,
        burst_lost: quality.burst_lost,
        duplicates: quality.duplicates,
        reordered: quality.reordered,
        late: quality.late,
        jitter_ns: quality.jitter_ns,
        jitter_max_ns: quality.jitter_max_ns,
        talk_spurts: quality.talk_spurts,
        event_packets: quality.event_packets,
        comfort_noise_packets: quality.comfort_noise_packets,
        foreign: quality.foreign,
        restarts: quality.restarts,
        ssrc_changes: quality.ssrc_changes,
        timestamp_jumps: quality.timestamp_jumps,
        rtcp_packets: quality.rtcp_packets,
        stun_packets: quality.stun_packets,
        dtls_packets: quality.dtls_packets,
        other_packets: quality.other_packets,
        spread: quality.is_spread,
        first_number: quality.first_number(),
        checkpoints: quality
            .checkpoints
            .iter()
            .flatten()
            .map(checkpoint)
            .collect(),
        marks: quality.marks.iter().flatten().map(mark).collect(),
        receiver_reports: quality.reports().map(report).collect(),
    }
}

fn checkpoint(it: &Checkpoint) -> v1::QualityCheckpoint {
    v1::QualityCheckpoint {
        number: it.number,
        lost: it.lost,
        dropped: it.dropped,
    }
}

fn mark(&Mark { number, at_ns }: &Mark) -> v1::QualityMark {
    v1::QualityMark { number, at_ns }
}

fn report(it: ReceiverReport) -> v1::ReceiverReport {
    v1::ReceiverReport {
        ssrc: it.ssrc,
        lost: it.lost,
        highest_number: it.highest,
    }
}
