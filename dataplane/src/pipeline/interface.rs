//! Ports and interfaces, as the stages up to the queues see them.

use crate::{
    policy::TopSenders,
    routing::OutInterface,
    session::Origin,
    settings::InterfaceState,
    stats::{InterfaceCounters, PortCounters},
    units::{InterfaceIndex, MacAddress, PortIndex, VlanId},
};

/// A port, as the stages up to the queues see it.
#[derive(Debug)]
pub(super) struct Port {
    /// What most frames for the router carry: the address of the interface without a tag.
    pub(super) mac: MacAddress,
    /// Whether all its interfaces forward what comes in.
    pub(super) forwards: bool,
    pub(super) vlans: Vlans,
    /// Of what came in.
    pub(super) counters: PortCounters,
}

/// The interface of each VLAN identifier on a port. 0 has the port's own: such a tag says a priority
/// only.
#[derive(Debug)]
pub(super) struct Vlans(Vec<Option<InterfaceIndex>>);

impl Vlans {
    pub(super) fn new(port: PortIndex, interfaces: &[Interface]) -> Self {
        let mut table = vec![None; 4096];
        let interfaces = (0..=u8::MAX).map(InterfaceIndex).zip(interfaces);
        for (index, interface) in interfaces.filter(|(_, interface)| interface.port == port) {
            let number = interface.vlan.map_or(0, VlanId::number);
            table[usize::from(number)] = Some(index);
        }
        Self(table)
    }

    pub(super) fn interface(&self, vlan: u16) -> Option<InterfaceIndex> {
        self.0.get(usize::from(vlan)).copied().flatten()
    }
}

/// An interface, as the stages see it.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) port: PortIndex,
    pub(super) vlan: Option<VlanId>,
    pub(super) origin: Origin,
    pub(super) state: InterfaceState,
    pub(super) counters: InterfaceCounters,
    /// Who claims here what he has no right to.
    pub(super) senders: TopSenders,
}

impl Interface {
    pub(super) fn out(&self) -> OutInterface {
        OutInterface {
            port: self.port,
            vlan: self.vlan,
            mtu: self.state.mtu,
        }
    }
}
