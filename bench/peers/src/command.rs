//! How the program of a case is started.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use voicelane_bench::flows::IpVersion;

use crate::{
    case::{BURST, Build, Case, Program},
    traffic,
};

/// l3fwd's `L3FWD_HASH_ENTRIES`.
const LARGE_TABLE: u32 = 4 << 20;

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
        let installed = |name: &str| work.join("examples").join(name).join("build").join(name);
        let own = work.join("dpdk/build");
        let example = |name: &str| match self.build {
            Build::Installed => installed(name),
            Build::LikeVoicelane => own.join("examples").join(format!("dpdk-{name}")),
        };
        let mut eal =
            "-n 1 --no-pci --in-memory --iova-mode=va --no-telemetry --vdev=net_null0".to_owned();
        if self.build == Build::LikeVoicelane {
            // By name, as EAL takes none from below a folder that all may write to.
            eal += " -d librte_bus_vdev.so -d librte_mempool_ring.so -d librte_net_null.so";
        }
        let (program, line) = match self.program {
            Program::Floor => (
                match self.build {
                    Build::Installed => "dpdk-testpmd".into(),
                    Build::LikeVoicelane => own.join("app/dpdk-testpmd"),
                },
                format!(
                    "{eal} -l 0,1 -- --port-topology=loop --forward-mode=io --nb-cores=1 \
                     --total-num-mbufs=16384 --stats-period=1000 --burst={}",
                    self.burst
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
                let options = match self.ip {
                    IpVersion::V4 => "",
                    IpVersion::V6 => "--ipv6",
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
                     --session-every={} --measure-every={} --dscp={} --memory-mib={} {} {} {}",
                    self.flows,
                    self.ip.number(),
                    self.session_every,
                    self.measure_every,
                    self.classes.code_points(),
                    self.memory_mib(),
                    rate_bit_s.map_or(String::new(), |rate| format!("--rate={rate}bit/s")),
                    if self.full { "--full" } else { "" },
                    match self.large_table {
                        true => format!("--entries={LARGE_TABLE}"),
                        false => String::new(),
                    },
                ),
            ),
        };
        Ok(CommandLine {
            ready: (self.program == Program::Voicelane).then_some("sessions are installed"),
            program,
            arguments: line.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// What Voicelane's buffers and tables take: routes, entries, and 640 bytes a measured flow.
    const fn memory_mib(&self) -> u32 {
        let more = self.full || self.large_table;
        let measured = if self.measure_every == 0 {
            0
        } else {
            self.flows
        };
        512 + if more { 512 } else { 0 } + measured.div_ceil((1 << 20) / 640)
    }

    /// What the source and sink are told, and where DPDK's libraries are.
    pub(crate) fn environment(&self, folders: &Folders) -> Vec<(&'static str, String)> {
        let mut variables = vec![];
        if self.program == Program::Voicelane && self.burst != BURST {
            variables.push(("REPLAY_BURST", self.burst.to_string()));
        }
        if self.build == Build::LikeVoicelane {
            let build = folders.work.join("dpdk/build");
            let [libraries, drivers] = ["lib", "drivers"].map(|part| build.join(part));
            let path = format!("{}:{}", libraries.display(), drivers.display());
            variables.push(("LD_LIBRARY_PATH", path));
        }
        variables
    }
}
