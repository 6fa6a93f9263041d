use super::Dscp;
use crate::stats::labels;

labels! {
    /// A behaviour aggregate's queue: the service classes of RFC 4594, with RFC 5865 and RFC 8622.
    ///
    /// The order is the order of the table there; queues are indexed by it.
    Phb as "phb" {
        /// CS6, CS7.
        NetworkControl = "network-control",
        /// EF.
        Telephony = "telephony",
        /// VOICE-ADMIT.
        AdmittedTelephony = "admitted-telephony",
        /// CS5.
        Signalling = "signalling",
        /// AF41, AF42, AF43.
        MultimediaConferencing = "multimedia-conferencing",
        /// CS4.
        RealtimeInteractive = "realtime-interactive",
        /// AF31, AF32, AF33.
        MultimediaStreaming = "multimedia-streaming",
        /// CS3.
        BroadcastVideo = "broadcast-video",
        /// AF21, AF22, AF23.
        LowLatencyData = "low-latency-data",
        /// CS2.
        Oam = "oam",
        /// AF11, AF12, AF13.
        HighThroughputData = "high-throughput-data",
        /// DF, and every unknown code point.
        Standard = "standard",
        /// LE, and legacy CS1.
        LowerEffort = "lower-effort",
    }
}

impl Phb {
    /// The queue of a code point: RFC 4594 figures 3 and 4. Unknown ones are standard (RFC 2474
    /// section 4).
    #[must_use]
    pub const fn of(dscp: Dscp) -> Self {
        match dscp.number() {
            48 | 56 => Self::NetworkControl,
            46 => Self::Telephony,
            44 => Self::AdmittedTelephony,
            40 => Self::Signalling,
            34 | 36 | 38 => Self::MultimediaConferencing,
            32 => Self::RealtimeInteractive,
            26 | 28 | 30 => Self::MultimediaStreaming,
            24 => Self::BroadcastVideo,
            18 | 20 | 22 => Self::LowLatencyData,
            16 => Self::Oam,
            10 | 12 | 14 => Self::HighThroughputData,
            1 | 8 => Self::LowerEffort,
            _ => Self::Standard,
        }
    }
}

/// [`Phb::of`] as a table.
#[derive(Clone, Debug)]
pub struct PhbMap([Phb; 64]);

impl PhbMap {
    /// The queue of a code point.
    #[inline]
    #[must_use]
    pub fn phb(&self, dscp: Dscp) -> Phb {
        self.0[usize::from(dscp.number() & 63)]
    }
}

impl Default for PhbMap {
    /// RFC 4594's.
    fn default() -> Self {
        let mut map = [Phb::Standard; 64];
        for (number, phb) in (0..).zip(&mut map) {
            if let Ok(dscp) = Dscp::new(number) {
                *phb = Phb::of(dscp);
            }
        }
        Self(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_place() {
        for (index, phb) in Phb::ALL.into_iter().enumerate() {
            assert_eq!(phb.index(), index);
        }
    }

    #[test]
    fn code_points_find_their_queues() {
        let map = PhbMap::default();
        for (number, phb) in [
            (46, Phb::Telephony),
            (44, Phb::AdmittedTelephony),
            (56, Phb::NetworkControl),
            (38, Phb::MultimediaConferencing),
            (1, Phb::LowerEffort),
            (8, Phb::LowerEffort),
            (0, Phb::Standard),
            (63, Phb::Standard),
            (47, Phb::Standard),
        ] {
            assert_eq!(map.phb(Dscp::new(number).unwrap()), phb, "{number}");
        }
    }
}
