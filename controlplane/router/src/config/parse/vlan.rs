//! Sections `[[port.vlan]]`.

use std::collections::BTreeSet;

use voicelane_dataplane::units::VlanId;

use super::{
    Problems, addresses, mtu,
    policy::{self, Meters},
    reverse_path, role, trust,
};
use crate::config::{
    Role, VlanConfig,
    raw::{RawPort, RawVlan},
    values,
};

/// All of a port's. Nothing of `port_mtu` is known where it is wrong.
pub(super) fn vlans(
    port: &str,
    raw: &RawPort,
    port_mtu: Option<u16>,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<Vec<VlanConfig>> {
    let vlans = raw.vlan.iter().enumerate();
    let vlans: Vec<_> = vlans
        .map(|(i, one)| vlan(port, (i, one), raw, port_mtu, meters, problems))
        .collect();
    let vlans: Vec<_> = vlans.into_iter().collect::<Option<_>>()?;
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = vlans.iter().filter(|vlan| !seen.insert(vlan.id)).collect();
    for vlan in &twice {
        let reason = "is there twice: leave one out, or give it another id";
        problems.add(path(port, vlan.id), reason);
    }
    twice.is_empty().then_some(vlans)
}

/// `port.lan.vlan.100`.
pub(super) fn path(port: &str, id: VlanId) -> String {
    format!("{port}.vlan.{id}")
}

fn vlan(
    port: &str,
    (index, raw): (usize, &RawVlan),
    raw_port: &RawPort,
    port_mtu: Option<u16>,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<VlanConfig> {
    let id = u64::try_from(raw.id).map_err(|_| format!("{} is negative", raw.id));
    let id = id.and_then(|id| VlanId::new(id).map_err(|error| error.to_string()));
    let id = problems.keep(format!("{port}.vlan[{index}].id"), id)?;
    let path = path(port, id);
    let name = raw.name.clone();
    let name = name.unwrap_or_else(|| format!("{}.{id}", raw_port.name));
    let name = problems.keep(format!("{path}.name"), values::interface_name(&name));
    let word = raw.role.as_deref().unwrap_or(&raw_port.role);
    let role = role(&path, word, problems);
    let trust = trust(&path, raw.trust.as_deref(), raw.remark.as_ref(), problems);
    let reverse_path = reverse_path(&path, raw.reverse_path.as_deref(), role, problems);
    let police = policy::police(&path, &raw.police, meters, problems);
    let addresses = addresses(&path, &raw.addresses, problems);
    let most = port_mtu.map_or(i64::MAX, i64::from);
    let own_mtu = raw.mtu.or(port_mtu.map(i64::from));
    // Where the port's is wrong, that is problem enough.
    let mtu = own_mtu.and_then(|own| mtu(&path, own, most, addresses.as_deref(), problems));
    let role = role?;
    Some(VlanConfig {
        id,
        name: name?,
        role,
        trust: trust?.unwrap_or(role.trust()),
        reverse_path: reverse_path?,
        routing: raw.routing.unwrap_or(role == Role::Core),
        police: police?,
        addresses: addresses?,
        mtu: mtu?,
    })
}
