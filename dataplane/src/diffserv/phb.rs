use super::Dscp;

/// A behaviour aggregate's queue: the service classes of RFC 4594, with RFC 5865 and RFC 8622.
///
/// The order is the order of the table there; queues are indexed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phb {
    /// CS6, CS7.
    NetworkControl,
    /// EF.
    Telephony,
    /// VOICE-ADMIT.
    AdmittedTelephony,
    /// CS5.
    Signalling,
    /// AF41, AF42, AF43.
    MultimediaConferencing,
    /// CS4.
    RealtimeInteractive,
    /// AF31, AF32, AF33.
    MultimediaStreaming,
    /// CS3.
    BroadcastVideo,
    /// AF21, AF22, AF23.
    LowLatencyData,
    /// CS2.
    Oam,
    /// AF11, AF12, AF13.
    HighThroughputData,
    /// DF, and every unknown code point.
    Standard,
    /// LE, and legacy CS1.
    LowerEffort,
}

impl Phb {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All behaviours, in the order of [`index`](Self::index).
    pub const ALL: [Self; Self::COUNT] = [
        Self::NetworkControl,
        Self::Telephony,
        Self::AdmittedTelephony,
        Self::Signalling,
        Self::MultimediaConferencing,
        Self::RealtimeInteractive,
        Self::MultimediaStreaming,
        Self::BroadcastVideo,
        Self::LowLatencyData,
        Self::Oam,
        Self::HighThroughputData,
        Self::Standard,
        Self::LowerEffort,
    ];

    /// As an index into per-queue arrays.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The service class's name, in the form of a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkControl => "network-control",
            Self::Telephony => "telephony",
            Self::AdmittedTelephony => "admitted-telephony",
            Self::Signalling => "signalling",
            Self::MultimediaConferencing => "multimedia-conferencing",
            Self::RealtimeInteractive => "realtime-interactive",
            Self::MultimediaStreaming => "multimedia-streaming",
            Self::BroadcastVideo => "broadcast-video",
            Self::LowLatencyData => "low-latency-data",
            Self::Oam => "oam",
            Self::HighThroughputData => "high-throughput-data",
            Self::Standard => "standard",
            Self::LowerEffort => "lower-effort",
        }
    }

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
