use std::{fmt, str::FromStr};

use voicelane_bench::flows::IpVersion;
use voicelane_dataplane::diffserv::{Dscp, UnknownDscp};

/// How many flows there are, from what fits the caches to what does not.
pub const SIZES: [u32; 3] = [1_000, 65_536, 1_000_000];

/// What the packets meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Each is of an EF session, and finds empty queues.
    Hit,
    /// None is of a session, though as many sessions as flows are there; empty queues.
    Miss,
    /// Each is of an EF session that sends twice what it was admitted with.
    Policed,
    /// Each is of a session, of every class by turns, and the port sends half of them: they wait in
    /// queues, and half are dropped early.
    Saturated,
    /// As [`Self::Hit`], of RTP that is measured: each flow's packets in sequence.
    Measured,
}

impl Load {
    /// All cases, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::Hit,
        Self::Measured,
        Self::Miss,
        Self::Policed,
        Self::Saturated,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Policed => "policed",
            Self::Saturated => "saturated",
            Self::Measured => "measured",
        }
    }

    /// The sessions' code points, by turns.
    pub(crate) fn code_points(self) -> Result<Vec<Dscp>, UnknownDscp> {
        let names = match self {
            Self::Saturated => "EF VOICE-ADMIT CS6 CS5 AF41 CS4 AF31 CS3 AF21 CS2 AF11 DF LE",
            _ => "EF",
        };
        names.split(' ').map(str::parse).collect()
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What the packets go by.
    pub ip: IpVersion,
    /// How many flows they are of, each as often as any other.
    pub flows: u32,
    /// State that the packets meet.
    pub load: Load,
}

impl Case {
    /// All: every load with every number of flows, both families. A policer is the same for a
    /// thousand flows and for a million, so that load is there with the fewest only; a million streams
    /// take too long to begin.
    pub fn all() -> impl Iterator<Item = Self> {
        [IpVersion::V4, IpVersion::V6].into_iter().flat_map(|ip| {
            Load::ALL.into_iter().flat_map(move |load| {
                SIZES
                    .into_iter()
                    .filter(move |&flows| load != Load::Policed || flows == SIZES[0])
                    .filter(move |&flows| load != Load::Measured || flows != SIZES[2])
                    .map(move |flows| Self { ip, flows, load })
            })
        })
    }
}

/// As [`Case::from_str`] reads it: `ipv4-65536-hit`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, flows, load) = (self.ip.number(), self.flows, self.load.name());
        write!(f, "ipv{ip}-{flows}-{load}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all()
            .find(|case| case.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no case"))
    }
}
