//! What the server is told of the interfaces.

use voicelane_proto::v1::{Interface, InterfaceReport, interface};

use crate::{
    config::{InterfaceConfig, PortConfig, Role, interfaces},
    mirror::{InterfaceView, View},
};

/// All interfaces, from the configuration, the kernel's state and the devices' links.
#[must_use]
pub fn report(ports: &[PortConfig], view: &View, links: &[bool]) -> InterfaceReport {
    let interfaces = interfaces(ports).zip(&view.interfaces);
    let interfaces = interfaces.map(|(config, view)| {
        let link = links.get(config.index.index());
        interface(config, view, link.copied().unwrap_or(true))
    });
    InterfaceReport {
        interfaces: interfaces.collect(),
    }
}

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
        prefixes: view.prefixes.iter().map(ToString::to_string).collect(),
        rate_bps: config.port.rate.bps(),
        ef_budget_bps: config.port.ef_budget.bps(),
        mtu_bytes: view.mtu.into(),
        vlan_id: config.vlan.map_or(0, |vlan| vlan.id.number().into()),
        port: config.port.name.clone(),
        ..Interface::default()
    }
}
