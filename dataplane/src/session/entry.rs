use crate::{
    diffserv::{BucketError, BucketProfile, Dscp, TokenBucket},
    units::{BitRate, TickRate, Ticks},
};

/// What a flow was admitted with, at the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// bit/s.
    pub rate: BitRate,
    /// Bytes at once.
    pub burst_bytes: u32,
}

impl Policer {
    /// As a token bucket's profile.
    pub fn profile(&self, clock: TickRate) -> Result<BucketProfile, BucketError> {
        BucketProfile::new(self.rate, self.burst_bytes.into(), clock)
    }
}

/// What the dataplane counted of one flow since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets that came, conforming ones.
    pub packets: u64,
    /// Their bytes, at the IP layer.
    pub bytes: u64,
    /// Packets that the policer dropped.
    pub policed_packets: u64,
    /// Their bytes.
    pub policed_bytes: u64,
    /// When the last packet came, conforming or not.
    pub last_seen: Option<Ticks>,
}

/// One flow's state. With its key it fills one cache line, so a hit costs two: the bucket and this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    bucket: TokenBucket,
    rate: BitRate,
    burst_bytes: u32,
    pub(super) dscp: Dscp,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// What is written only when a flow misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policed {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Flow {
    pub(super) fn new(dscp: Dscp, policer: Policer, profile: &BucketProfile, now: Ticks) -> Self {
        Self {
            bucket: TokenBucket::full(profile, now),
            rate: policer.rate,
            burst_bytes: policer.burst_bytes,
            dscp,
            packets: 0,
            bytes: 0,
        }
    }

    /// Takes new terms, keeps the credit and the counters.
    pub(super) fn modify(&mut self, dscp: Dscp, policer: Policer) {
        self.dscp = dscp;
        self.rate = policer.rate;
        self.burst_bytes = policer.burst_bytes;
    }

    /// Meters a packet; counts it if it conforms.
    #[inline]
    pub(super) fn meter(&mut self, clock: TickRate, now: Ticks, ip_bytes: u32) -> bool {
        let profile = BucketProfile::of_admitted(self.rate, self.burst_bytes, clock);
        self.bucket.refill(&profile, now);
        let conforms = self.bucket.conforms(&profile, ip_bytes);
        if conforms {
            self.packets += 1;
            self.bytes += u64::from(ip_bytes);
        }
        conforms
    }

    pub(super) fn counters(&self, policed: &Policed) -> FlowCounters {
        FlowCounters {
            packets: self.packets,
            bytes: self.bytes,
            policed_packets: policed.packets,
            policed_bytes: policed.bytes,
            last_seen: (self.packets + policed.packets > 0).then(|| self.bucket.last()),
        }
    }
}
