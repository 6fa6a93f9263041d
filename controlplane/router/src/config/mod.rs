//! The configuration: what an operator writes, understood once and typed from then on.

mod check;
mod device;
mod interface;
mod kernel;
mod parse;
mod policy;
mod problems;
mod queue;
mod raw;
mod route;
mod values;
mod words;

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use thiserror::Error;
use voicelane_dataplane::{
    diffserv::{ClassSettings, Phb},
    policy::{ReversePath, Trust},
    settings::{Idle, PuntRates},
    units::{BitRate, MacAddress},
    workers::Layout,
};
use voicelane_dpdk::Hugepages;
use voicelane_identity::{Files, Servers};

pub use voicelane_dataplane::settings::Role;

pub use device::{DRIVERS, Device, DeviceError};
pub use interface::{InterfaceConfig, VlanConfig, interfaces};
pub use kernel::KernelConfig;
pub use policy::{InterfaceTrust, PoliceConfig, RuleConfig};
pub use route::{NextHop, RouteConfig, RouteWay};

use crate::sessions::Sampling;

/// A complete configuration, as `--help` shows it.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A configuration file that has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is written.
    pub file: PathBuf,
    /// As it is written.
    pub document: toml::Table,
    /// The router as such.
    pub router: RouterConfig,
    /// Its ports, in the order of [`voicelane_dataplane::units::PortIndex`]. At least one.
    pub ports: Vec<PortConfig>,
    /// What is to become of what no session covers, in the order of the file.
    pub rules: Vec<RuleConfig>,
    /// What is made of frames that the kernel sends.
    pub kernel: KernelConfig,
    /// How much the kernel gets.
    pub punt: PuntRates,
    /// Static routes, which the router keeps in the kernel.
    pub routes: Vec<RouteConfig>,
}

/// Section `[router]`.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// The name by which the QoS server knows it: 1 to 64 characters of `[A-Za-z0-9._-]`.
    pub id: String,
    /// Where the QoS server is, or several of which one leads.
    pub server: Option<Servers>,
    /// What it proves its name there with, where the server is https.
    pub identity: Option<Files>,
    /// Where the router's own gRPC and metrics are served.
    pub api: Option<SocketAddr>,
    /// The cores of workers and schedulers.
    pub cores: CoresConfig,
    /// What the worker does while no packets arrive.
    pub idle: Idle,
    /// Memory for packet buffers and the route tables.
    pub memory_mib: u64,
    /// How many IPv4 routes the table takes.
    pub ipv4_routes: u32,
    /// How many IPv6 routes the table takes.
    pub ipv6_routes: u32,
    /// Where that memory comes from.
    pub hugepages: Hugepages,
    /// How many five-tuples the session table holds.
    pub session_entries: usize,
    /// Which sessions' RTP is measured.
    pub quality: Sampling,
    /// Where is noted what the next run needs, should this one be killed.
    pub state_dir: PathBuf,
}

/// The cores of the data plane, each another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoresConfig {
    /// Those that forward, each with a share of the flows. At least one.
    pub workers: Vec<usize>,
    /// Those that only schedule; without any, workers schedule, too.
    pub schedulers: Vec<usize>,
}

impl CoresConfig {
    /// How many there are of each kind.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            workers: self.workers.len(),
            schedulers: self.schedulers.len(),
        }
    }

    /// All of them, in the order of [`Layout`].
    pub fn all(&self) -> impl Iterator<Item = usize> {
        self.workers.iter().chain(&self.schedulers).copied()
    }
}

/// A section `[[port]]`.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its name, and that of its kernel twin.
    pub name: String,
    /// The DPDK device that it works on.
    pub device: Device,
    /// What is behind it.
    pub role: Role,
    /// How far code points from there are believed.
    pub trust: Trust,
    /// What the sources of packets from there must be, if they have no session.
    pub reverse_path: ReversePath,
    /// Whether routers are behind it, so that routing protocols may bring more from there.
    pub routing: bool,
    /// How much of each behaviour may come from there without sessions.
    pub police: Vec<PoliceConfig>,
    /// The router's own addresses on it, of both families.
    pub addresses: Vec<IpNet>,
    /// Its MAC address; `None`: the device's own.
    pub mac: Option<MacAddress>,
    /// The shaper's rate, on the wire.
    pub rate: BitRate,
    /// What the wire adds to each frame.
    pub overhead_bytes: u32,
    /// How much of the rate strict-priority traffic may take.
    pub ef_budget: BitRate,
    /// The largest IP packet.
    pub mtu: u16,
    /// How much may be sent at once to catch up, as time at the port's rate.
    pub shaper_burst_ms: u32,
    /// How each class is served, in the order of [`Phb::ALL`].
    pub classes: [ClassSettings; Phb::COUNT],
    /// Its VLANs, each another one.
    pub vlans: Vec<VlanConfig>,
}

impl Config {
    /// All interfaces, in the order of [`voicelane_dataplane::units::InterfaceIndex`].
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceConfig<'_>> {
        interfaces(&self.ports)
    }
}

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, such as `port.lan.rate`.
    pub key: String,
    /// The line where the file has it, or its section.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    /// The file is no TOML, or has unknown or missing keys, or values of wrong types: the first such error.
    #[error("{}: {source}", file.display())]
    Syntax {
        file: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// Values are wrong. All of them are named.
    #[error("{}", list(file, problems))]
    Invalid {
        file: PathBuf,
        problems: Vec<Problem>,
    },
}

fn list(file: &std::path::Path, problems: &[Problem]) -> String {
    let told = |problem: &Problem| {
        let Problem { key, line, reason } = problem;
        let line = line.map_or(String::new(), |line| format!(" (line {line})"));
        format!("{}: {key}: {reason}{line}", file.display())
    };
    problems.iter().map(told).collect::<Vec<_>>().join("\n")
}
