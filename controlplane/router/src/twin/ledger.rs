//! What the router changes in the kernel beside its own interfaces, so that it can be set back: by
//! the same run, or, where that was killed, by the next one.

use std::{collections::BTreeMap, fs, process::Command};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use rtnetlink::{Handle, LinkUnspec};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use voicelane_types::IpVersion;

use super::sysctl::{self, SysctlError};
use crate::{routes, state_dir::StateDir};

const FILE: &str = "changes.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    name: String,
    /// 0 for `default`, which is none.
    index: u32,
    mac: [u8; 6],
}

/// One change, with what was before.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    Parameter {
        interface: Identity,
        family: IpVersion,
        key: String,
        before: String,
        now: String,
    },
    /// DPDK changes a link's MTU and makes it promiscuous, and leaves it so.
    Link {
        interface: Identity,
        up: bool,
        promiscuous: bool,
        mtu: Option<u32>,
    },
    /// A feature that was on, by ethtool's name.
    Feature { interface: Identity, name: String },
    /// A route that is on no twin, and so does not go with one.
    Blackhole { to: IpNet, metric: u32 },
    /// `net.ipv6.conf.all.forwarding`, and what each interface had of its own.
    Forwarding6 { others: Vec<(String, String)> },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The kernel's run: nothing outlasts it.
    boot: String,
    changes: Vec<Change>,
}

/// All changes of a run, oldest first, in a file, too. Each is noted before it is made.
#[derive(Debug)]
pub struct Ledger {
    dir: StateDir,
    record: Record,
}

impl Ledger {
    /// An empty one. Sets back first what an earlier run left.
    pub async fn open(dir: StateDir, handle: &Handle) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let earlier = dir.read(FILE);
        let earlier = earlier.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        if let Some(earlier) = earlier.filter(|earlier| earlier.boot == boot) {
            let interfaces = interfaces();
            info!("an earlier run was killed: setting back what it changed in the kernel");
            for change in earlier.changes.iter().rev() {
                undo(change, &interfaces, true, handle).await;
            }
        }
        dir.remove(FILE);
        let changes = Vec::new();
        Self {
            dir,
            record: Record { boot, changes },
        }
    }

    /// Sets all back, the last first. Call when the ports are closed.
    pub async fn undo(&mut self, handle: &Handle) {
        let interfaces = interfaces();
        for change in self.record.changes.drain(..).rev() {
            undo(&change, &interfaces, false, handle).await;
        }
        self.dir.remove(FILE);
    }

    /// Sets an interface's parameter.
    pub(super) fn set(
        &mut self,
        family: IpVersion,
        interface: &Identity,
        key: &str,
        value: &str,
    ) -> Result<(), SysctlError> {
        let before = sysctl::read(family, &interface.name, key)?;
        if before != value {
            self.note(Change::Parameter {
                interface: interface.clone(),
                family,
                key: key.to_owned(),
                before,
                now: value.to_owned(),
            });
            sysctl::write(family, &interface.name, key, value)?;
        }
        Ok(())
    }

    /// Notes what a link is like.
    pub(super) fn note_link(
        &mut self,
        interface: &Identity,
        (up, promiscuous, mtu): (bool, bool, Option<u32>),
    ) {
        self.note(Change::Link {
            interface: interface.clone(),
            up,
            promiscuous,
            mtu,
        });
    }

    /// Turns a feature off that is on.
    pub(super) fn turn_off(&mut self, interface: &Identity, name: &str) {
        self.note(Change::Feature {
            interface: interface.clone(),
            name: name.to_owned(),
        });
        set_feature(&interface.name, name, "off");
    }

    /// Notes a route that is on no twin.
    pub fn note_blackhole(&mut self, to: IpNet, metric: u32) {
        self.note(Change::Blackhole { to, metric });
    }

    /// Lets the kernel forward IPv6 between all interfaces, each of which has had a value of its own.
    pub(super) fn forward6(&mut self, others: Vec<(String, String)>) -> Result<(), SysctlError> {
        self.note(Change::Forwarding6 {
            others: others.clone(),
        });
        sysctl::write(IpVersion::V6, "all", "forwarding", "1")?;
        set_forwarding6(&others);
        Ok(())
    }

    fn note(&mut self, change: Change) {
        self.record.changes.push(change);
        match serde_json::to_vec(&self.record) {
            Ok(text) => self.dir.write(FILE, &text),
            Err(error) => warn!(%error, "changes of the kernel cannot be noted"),
        }
    }
}

impl Identity {
    /// The interface of a name; `default` is one, too.
    pub(super) fn of(name: &str) -> Self {
        let found = interfaces().into_values().find(|one| one.name == name);
        found.unwrap_or_else(|| Self {
            name: name.to_owned(),
            ..Self::default()
        })
    }

    /// The name that it has now, if it is still there.
    fn is_still<'a>(
        &'a self,
        interfaces: &'a BTreeMap<u32, Self>,
        of_earlier_run: bool,
    ) -> Option<&'a str> {
        if self.index == 0 {
            return Some(&self.name);
        }
        let now = interfaces.get(&self.index)?;
        (now.mac == self.mac || !of_earlier_run).then_some(&now.name)
    }
}

/// All interfaces of the kernel, by index.
fn interfaces() -> BTreeMap<u32, Identity> {
    let addresses = getifaddrs().into_iter().flatten();
    let identity = |one: nix::ifaddrs::InterfaceAddress| {
        let link = *one.address?.as_link_addr()?;
        let index = u32::try_from(link.ifindex()).ok()?;
        let (name, mac) = (one.interface_name, link.addr().unwrap_or_default());
        Some((index, Identity { name, index, mac }))
    };
    addresses.filter_map(identity).collect()
}

async fn undo(
    change: &Change,
    interfaces: &BTreeMap<u32, Identity>,
    of_earlier_run: bool,
    handle: &Handle,
) {
    let still = |interface: &Identity| {
        let name = interface.is_still(interfaces, of_earlier_run);
        name.map(str::to_owned)
    };
    match change {
        Change::Parameter {
            interface,
            family,
            key,
            before,
            now,
        } => {
            let Some(name) = still(interface).filter(|name| sysctl::exists(*family, name, key))
            else {
                return;
            };
            // Somebody else's value stays.
            let ours = sysctl::read(*family, &name, key).is_ok_and(|value| value == *now);
            if ours && let Err(error) = sysctl::write(*family, &name, key, before) {
                warn!(%error, before, "a kernel parameter could not be set back");
            }
        }
        Change::Link {
            interface,
            up,
            promiscuous,
            mtu,
        } => {
            if still(interface).is_none() {
                return; // Such as one that DPDK made, which has gone with its port.
            }
            let link = LinkUnspec::new_with_index(interface.index).promiscuous(*promiscuous);
            let link = if *up { link.up() } else { link.down() };
            let link = match *mtu {
                Some(mtu) => link.mtu(mtu),
                None => link,
            };
            if let Err(error) = handle.link().set(link.build()).execute().await {
                debug!(interface = interface.name, %error, "a link could not be set back");
            }
        }
        Change::Feature { interface, name } => {
            if let Some(interface) = still(interface) {
                set_feature(&interface, name, "on");
            }
        }
        Change::Blackhole { to, metric } => {
            if let Err(error) = routes::remove_blackhole(handle, *to, *metric).await {
                debug!(%to, %error, "a route to nowhere could not be removed");
            }
        }
        Change::Forwarding6 { others } => {
            // This sets it for each interface, too.
            if let Err(error) = sysctl::write(IpVersion::V6, "all", "forwarding", "0") {
                warn!(%error, "IPv6 forwarding could not be set back");
            }
            set_forwarding6(others);
        }
    }
}

fn set_forwarding6(others: &[(String, String)]) {
    for (interface, value) in others {
        if sysctl::exists(IpVersion::V6, interface, "forwarding")
            && let Err(error) = sysctl::write(IpVersion::V6, interface, "forwarding", value)
        {
            warn!(%error, "IPv6 forwarding could not be set back");
        }
    }
}

/// The kernel offers this by ioctl only, so ethtool does it.
fn set_feature(interface: &str, feature: &str, value: &str) {
    let set = Command::new("ethtool")
        .args(["-K", interface, feature, value])
        .output();
    if !set.is_ok_and(|output| output.status.success()) {
        warn!(interface, "ethtool -K {interface} {feature} {value} failed");
    }
}
