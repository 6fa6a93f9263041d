//! What is measured: which program, with which packets.

use std::fmt;

use anyhow::ensure;
use voicelane_bench::flows::IpVersion;

use crate::traffic::{Capture, Tags};

/// The programs. All but the last are DPDK's own, as Debian's packages bring them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// testpmd, from receive to send: what source and sink cost by themselves.
    Floor,
    /// l3fwd by longest prefix.
    LongestPrefix,
    /// l3fwd by exact five-tuple.
    ExactMatch,
    /// qos_sched: classes and shaping without sessions.
    QosSched,
    /// `voicelane-throughput`, with all stages.
    Voicelane,
}

impl Program {
    pub(crate) const PEERS: [Self; 4] = [
        Self::Floor,
        Self::LongestPrefix,
        Self::ExactMatch,
        Self::QosSched,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "testpmd io",
            Self::LongestPrefix => "l3fwd lpm",
            Self::ExactMatch => "l3fwd em",
            Self::QosSched => "qos_sched",
            Self::Voicelane => "voicelane",
        }
    }
}

/// What the sessions' packets are marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Classes {
    Ef,
    /// A code point of each service class, by turns.
    All,
    /// One that many flows share, under controlled delay.
    Default,
}

impl Classes {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ef => "EF",
            Self::All => "all 13",
            Self::Default => "DF",
        }
    }

    pub(crate) const fn code_points(self) -> &'static str {
        match self {
            Self::Ef => "EF",
            Self::All => "EF,VOICE-ADMIT,CS6,CS5,AF41,CS4,AF31,CS3,AF21,CS2,AF11,DF,LE",
            Self::Default => "DF",
        }
    }
}

/// How a peer and its DPDK were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Build {
    /// As Debian's packages bring DPDK.
    Installed,
    /// From Debian's sources, as Voicelane is: for x86-64-v3, with -O3.
    LikeVoicelane,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) program: Program,
    pub(crate) ip: IpVersion,
    /// Frame length without FCS, bytes.
    pub(crate) frame_bytes: u16,
    /// How many there are, each as often as the others.
    pub(crate) flows: u32,
    /// Which classes Voicelane has queues for.
    pub(crate) classes: Classes,
    /// Each so manieth flow has a session of Voicelane's.
    pub(crate) session_every: u32,
    /// RTP of each so manieth session is measured; 0: of none.
    pub(crate) measure_every: u32,
    /// With Voicelane's shaper at half of what the same case takes without one.
    pub(crate) saturated: bool,
    /// Voicelane does all that a router may have to: the Internet's routes, 64 next hops, rules, VLANs, and
    /// nothing goes past the queues.
    pub(crate) full: bool,
    /// Voicelane's session table has as many entries as l3fwd's, whose size is fixed.
    pub(crate) large_table: bool,
    /// The most packets that come at once.
    pub(crate) burst: u16,
    /// All of qos_sched's packets are of one pipe, not of 4,096.
    pub(crate) one_pipe: bool,
    /// Of a peer.
    pub(crate) build: Build,
}

/// The most packets that Voicelane asks for, and that DPDK's programs do.
pub(crate) const BURST: u16 = 64;
const PEERS_BURST: u16 = 32;

/// Each so manieth session is measured, in some rows.
const SAMPLED: u32 = 16;

/// The smallest frames: IPv4's are Ethernet's, IPv6's headers with UDP's fill 62 bytes.
pub(crate) const SMALL: u16 = 60;
const SMALL_IPV6: u16 = 62;
/// G.711, 20 ms, IPv4.
pub(crate) const VOICE: u16 = 214;

/// What the wire adds to a frame: FCS, preamble, gap.
pub(crate) const WIRE_BYTES: u16 = 24;

/// Flows of a 10GbE link full of G.711, one way: 5.25 Mpps.
pub(crate) const FULL_LINK_FLOWS: u32 = 105_000;

impl Case {
    pub(crate) const fn new(program: Program, ip: IpVersion, frame_bytes: u16, flows: u32) -> Self {
        let frame_bytes = match (ip, frame_bytes) {
            (IpVersion::V6, SMALL) => SMALL_IPV6,
            _ => frame_bytes,
        };
        Self {
            program,
            ip,
            frame_bytes,
            flows,
            classes: Classes::Ef,
            session_every: 1,
            measure_every: 0,
            saturated: false,
            full: false,
            large_table: false,
            burst: match program {
                Program::Voicelane => BURST,
                _ => PEERS_BURST,
            },
            one_pipe: false,
            build: Build::Installed,
        }
    }

    /// The row that nothing flatters: all that a router may have to do, half of the packets in sessions, each
    /// measured.
    pub(crate) const fn full(frame_bytes: u16, flows: u32) -> Self {
        Self {
            classes: Classes::All,
            session_every: 2,
            measure_every: 1,
            full: true,
            ..Self::new(Program::Voicelane, IpVersion::V4, frame_bytes, flows)
        }
    }

    /// How it differs from what its program is usually run with.
    pub(crate) fn variations(&self) -> Vec<String> {
        let usual = Self::new(self.program, self.ip, self.frame_bytes, self.flows);
        let burst = format!("bursts of {}", self.burst);
        let measured = match self.measure_every {
            1 => "measured".to_owned(),
            every => format!("1 of {every} measured"),
        };
        let all = [
            (self.full, "all that a router does"),
            (self.measure_every != 0 && !self.full, &measured),
            (self.large_table, "a table of 4 M entries"),
            (self.burst != usual.burst, &burst),
            (self.one_pipe, "one pipe"),
            (self.build != usual.build, "compiled for x86-64-v3"),
        ];
        let is_so = all.into_iter().filter(|(is_so, _)| *is_so);
        is_so.map(|(_, name)| name.to_owned()).collect()
    }

    /// Whether packets leave Voicelane without having been in a queue.
    pub(crate) const fn bypasses(&self) -> bool {
        !self.saturated && !self.full
    }

    /// The same without a limit on the way out.
    pub(crate) const fn unsaturated(self) -> Self {
        Self {
            saturated: false,
            ..self
        }
    }

    /// The same with nothing measured.
    pub(crate) const fn unmeasured(self) -> Self {
        Self {
            measure_every: 0,
            ..self
        }
    }

    /// What runs side by side: Voicelane and its peers with packets alike, of either IP version, with and
    /// without a limit on the way out.
    pub(crate) fn groups(cases: &[Self]) -> Vec<Vec<Self>> {
        let packets = |case: &Self| {
            let (small, flows) = (case.frame_bytes <= SMALL_IPV6, case.flows.ilog2());
            (small, flows, case.classes, case.session_every, case.full)
        };
        let mut groups: Vec<Vec<Self>> = vec![];
        for &case in cases {
            match groups
                .iter_mut()
                .find(|others| packets(&others[0]) == packets(&case))
            {
                Some(others) => others.push(case),
                None => groups.push(vec![case]),
            }
        }
        groups
    }

    pub(crate) fn capture(&self) -> Capture {
        Capture {
            flows: self.flows,
            ip: self.ip,
            frame_bytes: self.frame_bytes,
            tags: match self.program {
                Program::QosSched if self.one_pipe => Tags::OnePipe,
                Program::QosSched => Tags::Pipes,
                _ if self.full => Tags::Vlan,
                _ => Tags::None,
            },
        }
    }

    /// Everything, about four seconds each.
    pub(crate) fn all() -> Vec<Self> {
        use IpVersion::{V4, V6};
        use Program::{ExactMatch, Floor, LongestPrefix, QosSched, Voicelane};

        let mut cases = vec![];
        for flows in [1_000, 65_536, 1_000_000] {
            cases.extend(Self::full(SMALL, flows).and_saturated());
        }
        for (ip, frame) in [(V4, SMALL), (V4, VOICE), (V6, SMALL), (V6, VOICE)] {
            for flows in [1_000, 65_536, 1_000_000] {
                cases.push(Self::new(Floor, ip, frame, flows));
                cases.push(Self::new(ExactMatch, ip, frame, flows));
                cases.push(Self::new(Voicelane, ip, frame, flows));
            }
            cases.push(Self::new(LongestPrefix, ip, frame, 1_000));
        }
        for flows in [65_536, 1_000_000] {
            cases.push(Self::new(LongestPrefix, V4, SMALL, flows));
        }
        for (frame, flows) in [(SMALL, 1_000), (SMALL, 65_536), (VOICE, 1_000)] {
            let case = Self::new(QosSched, V4, frame, flows);
            let one_pipe = Self {
                one_pipe: true,
                ..case
            };
            cases.extend([case, one_pipe]);
        }
        for flows in [1_000, 65_536, 1_000_000] {
            let case = |program| Self::new(program, V4, SMALL, flows);
            cases.push(Self {
                large_table: true,
                ..case(Voicelane)
            });
            cases.push(Self {
                burst: PEERS_BURST,
                ..case(Voicelane)
            });
            cases.push(Self {
                burst: BURST,
                ..case(Floor)
            });
        }
        cases.push(Self::new(Voicelane, V4, VOICE, FULL_LINK_FLOWS));
        let full_link = (VOICE, FULL_LINK_FLOWS);
        let small = [1_000, 65_536, 1_000_000].map(|flows| (SMALL, flows));
        for (frame, flows) in small.into_iter().chain([full_link]) {
            cases.extend([1, SAMPLED].map(|measure_every| Self {
                measure_every,
                ..Self::new(Voicelane, V4, frame, flows)
            }));
        }
        for flows in [1_000, 65_536, 1_000_000] {
            cases.extend(Self::new(Voicelane, V4, SMALL, flows).variants());
        }
        cases.extend(Self::new(Voicelane, V4, VOICE, 65_536).variants());
        cases.extend(Self::new(Voicelane, V6, SMALL, 65_536).variants());
        cases
    }

    /// The least that shows each program and each kind of load once.
    pub(crate) fn few() -> Vec<Self> {
        use IpVersion::{V4, V6};
        use Program::{ExactMatch, Floor, LongestPrefix, QosSched, Voicelane};

        let mut cases: Vec<_> = Self::full(SMALL, 1_000).and_saturated().into();
        cases.extend(
            [Floor, LongestPrefix, ExactMatch, QosSched, Voicelane]
                .map(|program| Self::new(program, V4, SMALL, 1_000)),
        );
        cases.extend([
            Self::new(ExactMatch, V4, SMALL, 65_536),
            Self::new(Voicelane, V4, SMALL, 65_536),
            Self::new(ExactMatch, V6, SMALL, 1_000),
            Self::new(Voicelane, V6, SMALL, 1_000),
            Self::new(Floor, V4, VOICE, 1_000),
            Self::new(Voicelane, V4, VOICE, 1_000),
        ]);
        cases.extend(Self::new(Voicelane, V4, SMALL, 1_000).variants());
        cases.push(Self {
            measure_every: 1,
            ..Self::new(Voicelane, V4, SMALL, 1_000)
        });
        cases
    }

    /// Those whose description contains this.
    pub(crate) fn choose(mut cases: Vec<Self>, only: &str) -> anyhow::Result<Vec<Self>> {
        cases.retain(|case| case.to_string().contains(only));
        ensure!(!cases.is_empty(), "no case contains {only:?}");
        Ok(cases)
    }

    /// Peers of these cases once more, compiled as Voicelane is, each behind the other.
    pub(crate) fn with_builds(cases: Vec<Self>) -> Vec<Self> {
        let both = |case: Self| {
            let again = Self {
                build: Build::LikeVoicelane,
                ..case
            };
            let is_peer = case.program != Program::Voicelane;
            std::iter::once(case).chain(is_peer.then_some(again))
        };
        cases.into_iter().flat_map(both).collect()
    }

    /// Without and with a limit on the way out.
    fn and_saturated(self) -> [Self; 2] {
        let saturated = Self {
            saturated: true,
            ..self
        };
        [self, saturated]
    }

    /// The other loads of a Voicelane case: saturated, classes mixed, half without a session. What a
    /// saturated case is compared with comes before it.
    fn variants(self) -> Vec<Self> {
        let classes = |classes| Self { classes, ..self };
        let half = Self {
            session_every: 2,
            ..self
        };
        let [_, saturated] = self.and_saturated();
        let others = [classes(Classes::All), classes(Classes::Default), half];
        let others = others.into_iter().flat_map(Self::and_saturated);
        std::iter::once(saturated).chain(others).collect()
    }
}

/// For progress, and to choose by.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, IPv{}, {} bytes, {} flows",
            self.program.name(),
            self.ip.number(),
            self.frame_bytes,
            self.flows
        )?;
        for variation in self.variations() {
            write!(f, ", {variation}")?;
        }
        if self.classes != Classes::Ef {
            write!(f, ", classes {}", self.classes.name())?;
        }
        if self.session_every != 1 {
            write!(f, ", a session for 1 of {}", self.session_every)?;
        }
        if self.saturated {
            write!(f, ", saturated")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_runs_side_by_side() {
        for cases in [Case::all(), Case::few()] {
            let groups = Case::groups(&cases);
            assert_eq!(groups.iter().flatten().count(), cases.len());
            for group in &groups {
                for case in group.iter().filter(|case| case.saturated) {
                    assert!(group.contains(&case.unsaturated()), "{case}");
                }
                for case in group.iter().filter(|case| !case.full) {
                    assert!(group.contains(&case.unmeasured()), "{case}");
                }
                for case in group {
                    let router = Case {
                        program: Program::Voicelane,
                        ..*case
                    };
                    let ipv4 = Case {
                        ip: IpVersion::V4,
                        frame_bytes: match router.frame_bytes {
                            SMALL_IPV6 => SMALL,
                            other => other,
                        },
                        ..router
                    };
                    for other in [router, ipv4] {
                        let beside = !cases.contains(&other) || group.contains(&other);
                        assert!(beside, "{case} without {other}");
                    }
                }
            }
        }
    }
}
