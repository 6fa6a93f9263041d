//! What is measured: which program, with which packets.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use voicelane_bench::flows::IpVersion;

use crate::traffic::{self, Capture};

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

    const fn code_points(self) -> &'static str {
        match self {
            Self::Ef => "EF",
            Self::All => "EF,VOICE-ADMIT,CS6,CS5,AF41,CS4,AF31,CS3,AF21,CS2,AF11,DF,LE",
            Self::Default => "DF",
        }
    }
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
    /// With Voicelane's shaper at half of what the same case takes without one.
    pub(crate) saturated: bool,
}

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
            saturated: false,
        }
    }

    /// The same without a limit on the way out.
    pub(crate) const fn unsaturated(self) -> Self {
        Self {
            saturated: false,
            ..self
        }
    }

    /// What runs side by side: Voicelane and its peers with packets alike, of either IP version, with and
    /// without a limit on the way out.
    pub(crate) fn groups(cases: &[Self]) -> Vec<Vec<Self>> {
        let packets = |case: &Self| {
            let (small, flows) = (case.frame_bytes <= SMALL_IPV6, case.flows.ilog2());
            (small, flows, case.classes, case.session_every)
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
            tagged: self.program == Program::QosSched,
        }
    }

    /// Everything, about four seconds each.
    pub(crate) fn all() -> Vec<Self> {
        use IpVersion::{V4, V6};
        use Program::{ExactMatch, Floor, LongestPrefix, QosSched, Voicelane};

        let mut cases = vec![];
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
            cases.push(Self::new(QosSched, V4, frame, flows));
        }
        cases.push(Self::new(Voicelane, V4, VOICE, FULL_LINK_FLOWS));
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

        let mut cases: Vec<_> = [Floor, LongestPrefix, ExactMatch, QosSched, Voicelane]
            .map(|program| Self::new(program, V4, SMALL, 1_000))
            .into();
        cases.extend([
            Self::new(ExactMatch, V4, SMALL, 65_536),
            Self::new(Voicelane, V4, SMALL, 65_536),
            Self::new(ExactMatch, V6, SMALL, 1_000),
            Self::new(Voicelane, V6, SMALL, 1_000),
            Self::new(Floor, V4, VOICE, 1_000),
            Self::new(Voicelane, V4, VOICE, 1_000),
        ]);
        cases.extend(Self::new(Voicelane, V4, SMALL, 1_000).variants());
        cases
    }

    /// The other loads of a Voicelane case: saturated, classes mixed, half without a session. What a
    /// saturated case is compared with comes before it.
    fn variants(self) -> Vec<Self> {
        let classes = |classes| Self { classes, ..self };
        let saturated = |case| Self {
            saturated: true,
            ..case
        };
        let half = Self {
            session_every: 2,
            ..self
        };
        vec![
            saturated(self),
            classes(Classes::All),
            saturated(classes(Classes::All)),
            classes(Classes::Default),
            saturated(classes(Classes::Default)),
            half,
            saturated(half),
        ]
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

/// Folders of programs and of working files.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) bin: PathBuf,
    /// What `scripts/bench` compiled, and what is kept from run to run: captures, rules, logs.
    pub(crate) work: PathBuf,
}

/// A program and its arguments.
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// What it logs when everything is installed, if it polls before that.
    ready: Option<&'static str>,
}

impl CommandLine {
    pub(crate) fn says_ready(&self, log: &Path) -> bool {
        let says = |text: &str| fs::read_to_string(log).is_ok_and(|log| log.contains(text));
        self.ready.is_none_or(says)
    }
}

impl Case {
    /// How to start it. `rate_bit_s`: of Voicelane's shaper, in a saturated case.
    pub(crate) fn command(
        &self,
        folders: &Folders,
        rate_bit_s: Option<u64>,
    ) -> io::Result<CommandLine> {
        let work = &folders.work;
        let example = |name: &str| work.join("examples").join(name).join("build").join(name);
        let eal = "-n 1 --no-pci --in-memory --iova-mode=va --no-telemetry --vdev=net_null0";
        let (program, line) = match self.program {
            Program::Floor => (
                "dpdk-testpmd".into(),
                format!(
                    "{eal} -l 0,1 -- --port-topology=loop --forward-mode=io --nb-cores=1 \
                     --total-num-mbufs=16384 --stats-period=1000"
                ),
            ),
            Program::LongestPrefix => (
                example("l3fwd"),
                format!(
                    "{eal} --vdev=net_null1 -l 0,1 -- -p 3 -P --config=(0,0,1) --lookup=lpm \
                     --rule_ipv4={} --rule_ipv6={}",
                    traffic::prefix_rules(work, IpVersion::V4)?.display(),
                    traffic::prefix_rules(work, IpVersion::V6)?.display(),
                ),
            ),
            Program::ExactMatch => {
                // It holds one family only, and wants a rule of the other.
                let flows = |ip| if ip == self.ip { self.flows } else { 1 };
                let rules = |ip| traffic::exact_rules(work, ip, flows(ip));
                let options = match (self.ip, self.flows) {
                    (IpVersion::V4, ..=500_000) => "",
                    (IpVersion::V4, _) => "--hash-entry-num=0x200000",
                    (IpVersion::V6, ..=500_000) => "--ipv6",
                    (IpVersion::V6, _) => "--ipv6 --hash-entry-num=0x200000",
                };
                (
                    example("l3fwd"),
                    format!(
                        "{eal} --vdev=net_null1 -l 0,1 -- -p 3 -P --config=(0,0,1) --lookup=em \
                         --rule_ipv4={} --rule_ipv6={} {options}",
                        rules(IpVersion::V4)?.display(),
                        rules(IpVersion::V6)?.display(),
                    ),
                )
            }
            Program::QosSched => {
                let installed = work.join("examples/qos_sched/profile.cfg");
                let profile = traffic::unlimited_profile(work, &installed)?;
                // It receives on a core of its own; what it does with the packets is on the other.
                (
                    example("qos_sched"),
                    format!(
                        "{eal} --vdev=net_null1 --lcores=0@0,1@1,2@0 --main-lcore=2 -- --mnc=2 \
                         --pfc=0,1,0,1 --msz=524288 --bsz=32,32,32,32 --cfg={}",
                        profile.display()
                    ),
                )
            }
            Program::Voicelane => (
                folders.bin.join("voicelane-throughput"),
                format!(
                    "--vdev=net_null0 --vdev=net_null1 --core=1 --seconds=0 --flows={} --ip={} \
                     --session-every={} --dscp={} {}",
                    self.flows,
                    self.ip.number(),
                    self.session_every,
                    self.classes.code_points(),
                    rate_bit_s.map_or(String::new(), |rate| format!("--rate={rate}bit/s")),
                ),
            ),
        };
        Ok(CommandLine {
            ready: (self.program == Program::Voicelane).then_some("sessions are installed"),
            program,
            arguments: line.split_whitespace().map(str::to_owned).collect(),
        })
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
