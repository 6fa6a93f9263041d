//! What a dataplane saw of one entry.

use std::fmt;

use voicelane_proto::v1;

use crate::model::entries::{FiveTuple, FlowKind};

/// Packets and their bytes by the colour that they were given, gone on or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// Within what was committed.
    pub green: [u64; 2],
    /// Over it.
    pub yellow: [u64; 2],
    /// Over all.
    pub red: [u64; 2],
}

impl fmt::Display for Colours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [green, yellow, red] = [self.green, self.yellow, self.red].map(|[packets, _]| packets);
        write!(f, "{green} green, {yellow} yellow, {red} red")
    }
}

/// More packets than any entry has seen: a thousand million a second for two years.
const MOST_PACKETS: u64 = 1 << 56;
/// More bytes: 400 Gbit/s for nine months.
const MOST_BYTES: u64 = 1 << 60;

/// Since the entry was installed.
#[derive(Clone, Debug, PartialEq)]
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
    /// Packets dropped by the policer, or for their colour.
    pub policed_packets: u64,
    /// Their bytes.
    pub policed_bytes: u64,
    /// Milliseconds since the last packet; absent when none came.
    pub last_seen_ms_ago: Option<u64>,
    /// Of an entry that has, or has had, a three-colour meter.
    pub colours: Option<Colours>,
    /// Packets with the entry's five-tuple that came in elsewhere.
    pub spoofed_packets: u64,
    /// On which interface the last one of them did; empty if none did.
    pub spoofed_interface: String,
    /// Of RTP that the router measures.
    pub quality: Option<v1::MediaQuality>,
}

impl EntryCounters {
    /// Why these cannot be the counters of an entry; so their sums do not overflow either.
    pub fn implausible(&self) -> Option<String> {
        let colours = self.colours.into_iter();
        let colours = colours.flat_map(|it| [it.green, it.yellow, it.red]);
        let plain = [
            [self.packets, self.bytes],
            [self.policed_packets, self.policed_bytes],
        ];
        let [packets, bytes] = plain
            .into_iter()
            .chain(colours)
            .find(|[packets, bytes]| *packets > MOST_PACKETS || *bytes > MOST_BYTES)?;
        Some(format!(
            "it told {packets} packets of {bytes} bytes of an entry, more than can have come"
        ))
    }
}
