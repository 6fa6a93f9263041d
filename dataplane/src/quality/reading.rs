use super::{
    blocks::{Checkpoint, MARKS, Mark},
    detail::Detail,
    rtcp::{ReceiverReport, Reports},
    stream::{Stream, is_before},
};
use crate::units::TickRate;

/// From the first of them to the last are 768 numbers: 15 seconds of most calls.
const CHECKPOINTS: usize = 13;

/// What was measured of a flow's RTP since it was installed. Packets are distinct ones unless it says
/// otherwise; numbers are RTP's, extended. A flow's streams, one after the other, are summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowQuality {
    /// Of the stream that is now.
    pub ssrc: u32,
    /// Of the last packet that was no telephone-event.
    pub payload_type: Option<u8>,
    /// Of that payload type, Hz; `None`: not known, and so is all that needs it.
    pub clock_hz: Option<u32>,
    /// From the lowest number to the highest.
    pub expected: u64,
    /// Packets.
    pub received: u64,
    /// Expected and not received.
    pub lost: u64,
    /// Of these, how many are so new that they may still come.
    pub missing: u64,
    /// Maximal runs of lost numbers.
    pub runs: u64,
    /// Bursts of losses (RFC 3611 section 4.7.2, Gmin 16).
    pub bursts: u64,
    /// Numbers in bursts.
    pub burst_packets: u64,
    /// Of these, lost.
    pub burst_lost: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets whose transit was more than 60 ms over the shortest of late.
    pub late: u64,
    /// Interarrival jitter of the stream that is now (RFC 3550 appendix A.8), ns.
    pub jitter_ns: Option<u64>,
    /// Its greatest value since its clock was last known, ns.
    pub jitter_max_ns: Option<u64>,
    /// Packets with the marker: talk spurts.
    pub talk_spurts: u64,
    /// Telephone-events (RFC 4733).
    pub event_packets: u64,
    /// Comfort noise (RFC 3389).
    pub comfort_noise_packets: u64,
    /// Packets of another stream that none followed in sequence, the last one perhaps not yet.
    pub foreign: u64,
    /// Streams that began with the former one's SSRC.
    pub restarts: u64,
    /// Streams that began with another SSRC.
    pub ssrc_changes: u64,
    /// Timestamps that jumped by more than a second against the clock.
    pub timestamp_jumps: u64,
    /// RTCP packets on the flow's five-tuple (RFC 5761).
    pub rtcp_packets: u64,
    /// STUN messages.
    pub stun_packets: u64,
    /// DTLS records.
    pub dtls_packets: u64,
    /// What is none of these.
    pub other_packets: u64,
    /// Whether several workers have measured a part each: runs, bursts and reordering are not known then.
    pub is_spread: bool,
    /// Of the stream that is now, the latest first: what will not change any more.
    pub checkpoints: [Option<Checkpoint>; CHECKPOINTS],
    /// Of the stream that is now, the latest first.
    pub marks: [Option<Mark>; MARKS],
    /// What receivers say in the RTCP packets that came on this five-tuple.
    reports: Reports,
    /// The lowest number and the highest of the stream that is now.
    range: Option<(u32, u32)>,
}

impl FlowQuality {
    pub(super) fn new(stream: &Stream, detail: &Detail, ticks: TickRate) -> Self {
        let range = stream.range(detail);
        let blocks = &detail.blocks;
        let checkpoints = range.map(|(base, _)| blocks.checkpoints(base, stream.settled()));
        let marks = range.map(|(_, highest)| blocks.marks(highest, ticks));
        let held = u64::from(stream.is_holding());
        let detail = &stream.ended(detail);
        let jitter = stream.jitter_ns();
        let payload = stream.payload();
        let (expected, received) = (detail.expected_before, stream.received);
        Self {
            ssrc: stream.ssrc,
            payload_type: payload.map(|(payload_type, _)| payload_type),
            clock_hz: payload.and_then(|(_, payload)| payload.clock_hz()),
            expected: expected.into(),
            received: received.into(),
            lost: expected.wrapping_sub(received).into(),
            missing: stream.missing(detail).into(),
            runs: detail.runs.into(),
            bursts: detail.bursts.count.into(),
            burst_packets: detail.bursts.numbers.into(),
            burst_lost: detail.bursts.lost.into(),
            duplicates: detail.duplicates.into(),
            reordered: detail.reordered.into(),
            late: stream.late.into(),
            jitter_ns: jitter.map(|[now, _]| now),
            jitter_max_ns: jitter.map(|[_, most]| most),
            talk_spurts: detail.spurts.into(),
            event_packets: detail.events.into(),
            comfort_noise_packets: detail.noise.into(),
            foreign: u64::from(detail.foreign) + held,
            restarts: detail.restarts.into(),
            ssrc_changes: detail.ssrc_changes.into(),
            timestamp_jumps: detail.timestamp_jumps.into(),
            rtcp_packets: detail.rtcp.into(),
            stun_packets: detail.stun.into(),
            dtls_packets: detail.dtls.into(),
            other_packets: detail.other.into(),
            is_spread: false,
            checkpoints: checkpoints.unwrap_or_default(),
            marks: marks.unwrap_or_default(),
            reports: detail.reports,
            range,
        }
    }

    /// The lowest number of the stream that is now, extended to 32 bits from an arbitrary start.
    #[must_use]
    pub fn first_number(&self) -> Option<u32> {
        self.range.map(|(first, _)| first)
    }

    /// What receivers say in the RTCP packets that came on this five-tuple, at most four, the latest first.
    pub fn reports(&self) -> impl Iterator<Item = ReceiverReport> {
        self.reports.iter()
    }

    /// What is dropped from here on is not known, as other workers have the queues.
    pub(crate) fn forget_dropped(&mut self) {
        for checkpoint in self.checkpoints.iter_mut().flatten() {
            checkpoint.dropped = None;
        }
    }

    /// Adds what another worker has measured of the flow. Where both have packets of one stream, each has
    /// taken the other's for lost: what is expected is counted from the lowest number of both to the
    /// highest.
    pub(crate) fn add(&mut self, part: &Self) {
        let mine = *self;
        if part.received > self.received {
            *self = *part;
            self.add_counts(&mine);
        } else {
            self.add_counts(part);
        }
        let (Some(own), Some(other)) = (mine.range, part.range) else {
            return;
        };
        self.expected = mine.expected + part.expected;
        if mine.ssrc == part.ssrc {
            let (all, union) = union(own, other);
            self.range = Some(all);
            let both = numbers(own) + numbers(other);
            self.expected = (self.expected + union).saturating_sub(both);
        }
        self.is_spread = true;
        (self.checkpoints, self.marks) = Default::default();
        self.lost = self.expected.saturating_sub(self.received);
        self.missing = self.missing.min(self.lost);
    }

    fn add_counts(&mut self, part: &Self) {
        self.expected += part.expected;
        self.received += part.received;
        self.lost += part.lost;
        self.missing += part.missing;
        self.runs += part.runs;
        self.bursts += part.bursts;
        self.burst_packets += part.burst_packets;
        self.burst_lost += part.burst_lost;
        self.duplicates += part.duplicates;
        self.reordered += part.reordered;
        self.late += part.late;
        self.talk_spurts += part.talk_spurts;
        self.event_packets += part.event_packets;
        self.comfort_noise_packets += part.comfort_noise_packets;
        self.foreign += part.foreign;
        self.restarts += part.restarts;
        self.ssrc_changes += part.ssrc_changes;
        self.timestamp_jumps += part.timestamp_jumps;
        self.rtcp_packets += part.rtcp_packets;
        self.stun_packets += part.stun_packets;
        self.dtls_packets += part.dtls_packets;
        self.other_packets += part.other_packets;
        self.jitter_max_ns = self.jitter_max_ns.max(part.jitter_max_ns);
        self.is_spread |= part.is_spread;
        if self.reports == Reports::default() {
            self.reports = part.reports;
        }
    }
}

fn numbers((base, highest): (u32, u32)) -> u64 {
    u64::from(highest.wrapping_sub(base)) + 1
}

/// From the lowest number of two ranges to the highest, and how many these are. The cycles of the second
/// one may have been counted from another start: it is the nearest that it can be.
fn union(one: (u32, u32), other: (u32, u32)) -> ((u32, u32), u64) {
    let distance = other.1.wrapping_sub(one.1);
    let cycles = distance.wrapping_add(1 << 15) & !0xffff;
    let other = (other.0.wrapping_sub(cycles), other.1.wrapping_sub(cycles));
    let base = if is_before(other.0, one.0) {
        other.0
    } else {
        one.0
    };
    let highest = if is_before(one.1, other.1) {
        other.1
    } else {
        one.1
    };
    ((base, highest), numbers((base, highest)))
}
