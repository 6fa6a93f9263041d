//! What the server is told of the interfaces.

use voicelane_proto::v1::{Interface, InterfaceReport, interface};

use crate::{
    config::{PortConfig, Role},
    mirror::View,
};

/// All interfaces, from the configuration, the kernel's state and the devices' links.
#[must_use]
pub fn report(ports: &[PortConfig], view: &View, links: &[bool]) -> InterfaceReport {
    let interfaces = ports.iter().zip(&view.interfaces).zip(links);
    let interfaces = interfaces.map(|((port, view), &link)| Interface {
        name: port.name.clone(),
        role: match port.role {
            Role::Edge => interface::Role::Edge,
            Role::Core => interface::Role::Core,
        }
        .into(),
        up: view.up && link,
        addresses: view.addresses.iter().map(ToString::to_string).collect(),
        prefixes: view.prefixes.iter().map(ToString::to_string).collect(),
        rate_bps: port.rate.bps(),
        ef_budget_bps: port.ef_budget.bps(),
        mtu_bytes: port.mtu.into(),
    });
    InterfaceReport {
        interfaces: interfaces.collect(),
    }
}
