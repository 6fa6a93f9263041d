//! What `[[port]]` and `[[port.vlan]]` have in common, and the VLANs.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{DscpMap, ReversePath, Trust},
    units::VlanId,
};

use super::policy::{self, Meters};
use crate::config::{
    PoliceConfig, Role, VlanConfig,
    problems::Section,
    raw::{RawPort, RawVlan},
    values,
};

/// RFC 8200 section 5: every link must carry as much.
const IPV6_MIN_MTU: u16 = 1280;

/// What is written of an interface.
pub(super) struct Written<'a> {
    role: &'a str,
    trust: Option<&'a str>,
    remark: Option<&'a BTreeMap<String, String>>,
    reverse_path: Option<&'a str>,
    routing: Option<bool>,
    police: &'a BTreeMap<String, String>,
    addresses: &'a [String],
}

impl<'a> From<&'a RawPort> for Written<'a> {
    fn from(raw: &'a RawPort) -> Self {
        Self {
            role: &raw.role,
            trust: raw.trust.as_deref(),
            remark: raw.remark.as_ref(),
            reverse_path: raw.reverse_path.as_deref(),
            routing: raw.routing,
            police: &raw.police,
            addresses: &raw.addresses,
        }
    }
}

/// What is behind an interface, and what it does with what comes from there; each `None` where it is wrong.
pub(super) struct Behind {
    pub(super) role: Option<Role>,
    pub(super) trust: Option<Trust>,
    pub(super) reverse_path: Option<ReversePath>,
    pub(super) routing: Option<bool>,
    pub(super) police: Option<Vec<PoliceConfig>>,
    pub(super) addresses: Option<Vec<IpNet>>,
}

pub(super) fn behind(raw: &Written<'_>, meters: &Meters, section: &mut Section<'_>) -> Behind {
    let roles = [("edge", Role::Edge), ("core", Role::Core)];
    let role = section.word("role", raw.role, &roles);
    let trust = trust(raw.trust, raw.remark, section);
    let reverse_paths = [
        ("strict", ReversePath::Strict),
        ("loose", ReversePath::Loose),
        ("off", ReversePath::Off),
    ];
    let reverse_path = match raw.reverse_path {
        Some(word) => section.word("reverse_path", word, &reverse_paths),
        None => role.map(Role::reverse_path),
    };
    let addresses = raw.addresses.iter();
    Behind {
        role,
        trust: trust.and_then(|trust| trust.or(role.map(Role::trust))),
        reverse_path,
        routing: raw.routing.or(role.map(|role| role == Role::Core)),
        police: policy::police(raw.police, meters, section),
        addresses: addresses
            .map(|text| section.keep("addresses", values::address(text)))
            .collect(),
    }
}

/// How far code points are believed; `Some(None)` by default.
#[allow(clippy::option_option, reason = "wrong is not absent")]
pub(super) fn trust(
    word: Option<&str>,
    remark: Option<&BTreeMap<String, String>>,
    section: &mut Section<'_>,
) -> Option<Option<Trust>> {
    let mut map = DscpMap::IDENTITY;
    let mut right = true;
    for (from, to) in remark.into_iter().flatten() {
        let mut dscp = |text: &str| section.parse::<Dscp>("remark", text);
        match (dscp(from), dscp(to)) {
            (Some(from), Some(to)) => map = map.with(from, to),
            _ => right = false,
        }
    }
    let words = [
        ("keep", Trust::Keep),
        ("bleach", Trust::Bleach),
        ("remark", Trust::Remark(map)),
        ("trusted", Trust::Keep),
        ("untrusted", Trust::Bleach),
    ];
    let trust = match word {
        Some(word) => Some(section.word("trust", word, &words)?),
        None => None,
    };
    match (&trust, remark) {
        (Some(Trust::Remark(_)), None) => section.wrong(
            "remark",
            "is missing: trust = \"remark\" needs a map beside it, such as \
             remark = { CS3 = \"CS5\" }; what it does not name stays",
        ),
        (None | Some(Trust::Keep | Trust::Bleach), Some(_)) => section.wrong(
            "remark",
            "is used with trust = \"remark\" only: write that, or leave the map out",
        ),
        _ => right.then_some(trust),
    }
}

pub(super) fn mtu(
    written: i64,
    most: i64,
    addresses: &Option<Vec<IpNet>>,
    section: &mut Section<'_>,
) -> Option<u16> {
    let mtu = section.number("mtu", written, 576..=most)?;
    let has_ipv6 = addresses.iter().flatten().any(|net| net.addr().is_ipv6());
    if mtu < IPV6_MIN_MTU && has_ipv6 {
        let reason = format!("{mtu} is too little for IPv6: write at least {IPV6_MIN_MTU}");
        return section.wrong("mtu", reason);
    }
    Some(mtu)
}

/// All VLANs of a port, whose own MTU may be wrong.
pub(super) fn vlans(
    raw: &RawPort,
    port_mtu: Option<u16>,
    meters: &Meters,
    section: &mut Section<'_>,
) -> Option<Vec<VlanConfig>> {
    let vlans = raw.vlan.iter().enumerate();
    let vlans: Vec<_> = vlans
        .map(|(index, one)| {
            let id = u64::try_from(one.id).map_err(|_| format!("{} is negative", one.id));
            let id = id.and_then(|id| VlanId::new(id).map_err(|error| error.to_string()));
            let id = section.keep(&format!("vlan[{index}].id"), id)?;
            let mut section = section.problems.section(vlan_path(&section.path, id));
            vlan(id, one, raw, port_mtu, meters, &mut section)
        })
        .collect();
    let vlans: Vec<_> = vlans.into_iter().collect::<Option<_>>()?;
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = vlans.iter().filter(|vlan| !seen.insert(vlan.id)).collect();
    for vlan in &twice {
        let reason = "is there twice: leave one out, or give it another id";
        section
            .problems
            .add(vlan_path(&section.path, vlan.id), reason);
    }
    twice.is_empty().then_some(vlans)
}

/// `port.lan.vlan.100`.
pub(in crate::config) fn vlan_path(port: &str, id: VlanId) -> String {
    format!("{port}.vlan.{id}")
}

fn vlan(
    id: VlanId,
    raw: &RawVlan,
    port: &RawPort,
    port_mtu: Option<u16>,
    meters: &Meters,
    section: &mut Section<'_>,
) -> Option<VlanConfig> {
    let name = section.keep("name", values::interface_name(&raw.name_on(port)));
    let written = Written {
        role: raw.role.as_deref().unwrap_or(&port.role),
        trust: raw.trust.as_deref(),
        remark: raw.remark.as_ref(),
        reverse_path: raw.reverse_path.as_deref(),
        routing: raw.routing,
        police: &raw.police,
        addresses: &raw.addresses,
    };
    let behind = behind(&written, meters, section);
    let most = port_mtu.map_or(i64::MAX, i64::from);
    // Where the port's is wrong, that is problem enough.
    let own_mtu = raw.mtu.or(port_mtu.map(i64::from));
    let mtu = own_mtu.and_then(|own| mtu(own, most, &behind.addresses, section));
    Some(VlanConfig {
        id,
        name: name?,
        role: behind.role?,
        trust: behind.trust?,
        reverse_path: behind.reverse_path?,
        routing: behind.routing?,
        police: behind.police?,
        addresses: behind.addresses?,
        mtu: mtu?,
    })
}
