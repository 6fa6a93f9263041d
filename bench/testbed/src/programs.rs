//! The programs under test: where they are and how a router is configured.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::LabError;

/// The folder with the built programs: `VOICELANE_BIN_DIR`, or where cargo put this very
/// executable, or the folder above it (test executables are in `deps`).
pub fn bin_dir() -> Result<PathBuf, LabError> {
    if let Some(dir) = env::var_os("VOICELANE_BIN_DIR") {
        return Ok(dir.into());
    }
    let own = env::current_exe().map_err(|e| LabError::io("cannot find this program", e))?;
    let dir = own.parent().unwrap_or(Path::new("."));
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}

/// The path of a built program.
pub fn program(name: &str) -> Result<PathBuf, LabError> {
    let path = bin_dir()?.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(LabError::NotBuilt(path))
    }
}

/// By which DPDK driver a router's ports reach the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortDriver {
    /// net_af_packet on the router's end of each link.
    #[default]
    AfPacket,
    /// net_tap: an interface of its own, joined to the router's end of the link.
    Tap,
}

/// What differs from router to router of one lab.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// The driver of all its ports.
    pub ports: PortDriver,
    /// Shaper rate of the core port, such as "10Mbit/s".
    pub core_rate: String,
    /// Shaper rate of each edge port.
    pub edge_rate: String,
    /// How much of a port's rate EF may take, such as "50%".
    pub ef_budget: String,
    pub idle: String,
    /// Worker cores; empty: core 0 for router A, core 1 (or 0, where that is all) for B.
    pub cores: Vec<usize>,
    /// Cores that only schedule; empty: the workers schedule, too.
    pub scheduler_cores: Vec<usize>,
    /// Whether its links have IPv6, too.
    pub ipv6: bool,
    /// Whether the bulk host's own marks are believed.
    pub trusts_bulk: bool,
    /// Whether it attaches to the QoS server.
    pub attach: bool,
    /// How many QoS servers there are.
    pub servers: u16,
    /// Whether it is told the routes to the other site; if not, a routing daemon must.
    pub fixed_routes: bool,
    /// TOML that is put behind the rest.
    pub more_toml: String,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            ports: PortDriver::default(),
            core_rate: "10Mbit/s".to_owned(),
            edge_rate: "1Gbit/s".to_owned(),
            ef_budget: "50%".to_owned(),
            idle: "adaptive".to_owned(),
            cores: Vec::new(),
            scheduler_cores: Vec::new(),
            ipv6: false,
            trusts_bulk: false,
            attach: true,
            servers: 1,
            fixed_routes: true,
            more_toml: String::new(),
        }
    }
}
