//! What a dataplane saw of one entry.

use crate::model::entries::{FiveTuple, FlowKind};

/// Since the entry was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryCounters {
    /// Index of the flow in its session.
    pub flow: u32,
    /// RTP or RTCP; absent if the router did not say.
    pub kind: Option<FlowKind>,
    /// Which packets; absent if what the router said is no five-tuple.
    pub tuple: Option<FiveTuple>,
    /// Packets that came.
    pub packets: u64,
    /// Their bytes at the IP layer.
    pub bytes: u64,
    /// Packets dropped by the policer.
    pub policed_packets: u64,
    /// Their bytes.
    pub policed_bytes: u64,
    /// Milliseconds since the last packet; absent when none came.
    pub last_seen_ms_ago: Option<u64>,
}
