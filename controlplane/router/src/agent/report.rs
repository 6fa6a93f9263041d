//! What the server is told of the interfaces: all of them at first, then what is different.

use std::{cmp::Ordering, sync::Arc};

use ipnet::IpNet;
use voicelane_proto::v1::{
    Interface, InterfaceChange, InterfaceChanges, InterfaceReport, interface,
};

use crate::{
    config::{InterfaceConfig, PortConfig, Role, interfaces},
    mirror::{InterfaceView, View},
};

/// Prefixes in one message: under 1 MB with the longest.
const PREFIXES_A_PART: usize = 16_384;

/// The interfaces as they were looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As the kernel saw them.
    pub view: Arc<View>,
    /// As the devices saw them.
    pub links: Vec<bool>,
}

impl Seen {
    /// All interfaces, from the configuration, the kernel's state and the devices' links, in one message.
    #[must_use]
    pub fn report(&self, ports: &[PortConfig]) -> InterfaceReport {
        let interfaces = self
            .interfaces(ports)
            .map(|(config, view, link)| Interface {
                prefixes: texts(&view.prefixes),
                ..interface(config, view, link)
            });
        InterfaceReport {
            interfaces: interfaces.collect(),
            more: false,
        }
    }

    /// The same in parts, of which the last says so.
    #[must_use]
    pub fn parts(&self, ports: &[PortConfig]) -> Vec<InterfaceReport> {
        let mut parts = vec![InterfaceReport::default()];
        let mut room = PREFIXES_A_PART;
        for (config, view, link) in self.interfaces(ports) {
            let mut whole = interface(config, view, link);
            let mut prefixes = view.prefixes.as_slice();
            loop {
                let (now, later) = prefixes.split_at(prefixes.len().min(room));
                room -= now.len();
                // What follows of an interface is its name and more prefixes.
                let rest = Interface {
                    addresses: Vec::new(),
                    ..whole.clone()
                };
                let part = Interface {
                    prefixes: texts(now),
                    ..std::mem::replace(&mut whole, rest)
                };
                if let Some(last) = parts.last_mut() {
                    last.interfaces.push(part);
                }
                prefixes = later;
                if prefixes.is_empty() {
                    break;
                }
                if let Some(last) = parts.last_mut() {
                    last.more = true;
                }
                parts.push(InterfaceReport::default());
                room = PREFIXES_A_PART;
            }
        }
        parts
    }

    /// What is different from what was seen before, in parts, of which the last says so; empty: nothing.
    #[must_use]
    pub fn changes_since(&self, before: &Self, ports: &[PortConfig]) -> Vec<InterfaceChanges> {
        let mut parts: Vec<InterfaceChanges> = Vec::new();
        let both = self.interfaces(ports).zip(before.interfaces(ports));
        for ((config, view, link), (_, old, old_link)) in both {
            let now = interface(config, view, link);
            let (added, removed) = differences(&old.prefixes, &view.prefixes);
            if added.is_empty() && removed.is_empty() && now == interface(config, old, old_link) {
                continue;
            }
            let (mut added, mut removed) = (added.as_slice(), removed.as_slice());
            loop {
                let take = |from: &mut &[IpNet]| {
                    let (part, rest) = from.split_at(from.len().min(PREFIXES_A_PART / 2));
                    *from = rest;
                    texts(part)
                };
                let change = InterfaceChange {
                    interface: Some(now.clone()),
                    added_prefixes: take(&mut added),
                    removed_prefixes: take(&mut removed),
                };
                add(&mut parts, change);
                if added.is_empty() && removed.is_empty() {
                    break;
                }
            }
        }
        let last = parts.len().saturating_sub(1);
        for part in parts.iter_mut().take(last) {
            part.more = true;
        }
        parts
    }

    fn interfaces<'a>(
        &'a self,
        ports: &'a [PortConfig],
    ) -> impl Iterator<Item = (InterfaceConfig<'a>, &'a InterfaceView, bool)> {
        let interfaces = interfaces(ports).zip(&self.view.interfaces);
        interfaces.map(|(config, view)| {
            let link = self.links.get(config.index.index());
            (config, view, link.copied().unwrap_or(true))
        })
    }
}

/// Puts a change where there is room for it.
fn add(parts: &mut Vec<InterfaceChanges>, change: InterfaceChange) {
    let size = |it: &InterfaceChange| it.added_prefixes.len() + it.removed_prefixes.len();
    let has_room = |part: &&mut InterfaceChanges| {
        part.interfaces.iter().map(size).sum::<usize>() + size(&change) <= PREFIXES_A_PART
    };
    match parts.last_mut().filter(has_room) {
        Some(part) => part.interfaces.push(change),
        None => parts.push(InterfaceChanges {
            interfaces: vec![change],
            ..InterfaceChanges::default()
        }),
    }
}

/// What is only in the second and what only in the first of two lists in order.
fn differences(before: &[IpNet], now: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (before.peek(), now.peek()) {
            (Some(old), Some(new)) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (added, removed),
        };
        match order {
            Ordering::Less => removed.extend(before.next()),
            Ordering::Greater => added.extend(now.next()),
            Ordering::Equal => drop((before.next(), now.next())),
        }
    }
}

fn texts(prefixes: &[IpNet]) -> Vec<String> {
    prefixes.iter().map(ToString::to_string).collect()
}

/// Without its prefixes.
fn interface(config: InterfaceConfig<'_>, view: &InterfaceView, link: bool) -> Interface {
    Interface {
        name: config.name().to_owned(),
        role: match config.role() {
            Role::Edge => interface::Role::Edge,
            Role::Core => interface::Role::Core,
        }
        .into(),
        up: view.up && link,
        addresses: view.addresses.iter().map(ToString::to_string).collect(),
        rate_bps: config.port.rate.bps(),
        ef_budget_bps: config.port.ef_budget.bps(),
        mtu_bytes: view.mtu.into(),
        overhead_bytes: config.port.overhead_bytes,
        vlan_id: config.vlan.map_or(0, |vlan| vlan.id.number().into()),
        port: config.port.name.clone(),
        ..Interface::default()
    }
}
