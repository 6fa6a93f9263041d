//! All that a router may have to do, at once: for a figure that nothing flatters.

use std::{iter, net::IpAddr};

use anyhow::Context as _;
use voicelane_bench::{flows::IpVersion, routes};
use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{Action, InterfacePolicy, Match, Policy, PolicySpec, Prefix, Rule, Trust},
    session::Protocol,
    settings::{PortSettings, Role, VlanSettings},
    units::{TickRate, VlanId},
};

/// Neighbours that the routes lead to by turns.
pub(crate) const NEXT_HOPS: u16 = 64;
/// Routes of the Internet's table, as in `bench/results/table.md`.
const IPV4_ROUTES: usize = 1_000_000;
const IPV6_ROUTES: usize = 250_000;
const SEED: u64 = 7;
const RULES: usize = 20;
/// Both ports' tag: the inner one of the frames that `voicelane-peers` makes.
const VLAN: u64 = 100;

/// Gives a port a VLAN, and each class a maximum, the port's rate: what has one is charged with each packet,
/// and does not go past the queues.
pub(crate) fn port(port: &mut PortSettings) -> anyhow::Result<()> {
    port.vlans = vec![VlanSettings {
        id: VlanId::new(VLAN)?,
        role: Role::Edge,
        trust: Trust::Bleach,
        mtu: port.mtu,
        routing: false,
    }];
    for class in &mut port.classes {
        class.maximum = Some(port.rate);
    }
    Ok(())
}

/// The Internet's table.
pub(crate) fn routes(ip: IpVersion) -> Vec<(IpAddr, u8)> {
    match ip {
        IpVersion::V4 => (routes::ipv4(IPV4_ROUTES, SEED).into_iter())
            .map(|(network, length)| (network.into(), length))
            .collect(),
        IpVersion::V6 => (routes::ipv6(IPV6_ROUTES, SEED).into_iter())
            .map(|(network, length)| (network.into(), length))
            .collect(),
    }
}

/// Rules that no flow matches, then one for each code point, by ranges of ports: each flow without a session
/// matches one of these.
pub(crate) fn policy(dscps: &[Dscp], clock: TickRate) -> anyhow::Result<Box<Policy>> {
    // The flows' ports, see `voicelane_bench::flows`.
    let (first, last) = (16_384_u16, u16::MAX);
    let ranges = u16::try_from(dscps.len())?.max(1);
    let width = (last - first) / ranges + 1;
    let marking = (0..ranges).zip(dscps).map(|(index, &dscp)| {
        let from = first + index * width;
        let to = from.saturating_add(width - 1);
        let matches = Match {
            protocols: vec![Protocol::UDP],
            destination_ports: vec![from..=to],
            ..Match::default()
        };
        (matches, Action::Mark(dscp))
    });
    let marking: Vec<_> = marking.collect();
    let host = |number: usize| -> anyhow::Result<Match> {
        let [.., low] = number.to_be_bytes();
        let prefix = Prefix::new(IpAddr::from([203, 0, 113, low]), 32).context("a host")?;
        Ok(Match {
            sources: vec![prefix],
            ..Match::default()
        })
    };
    let others = (marking.len()..RULES).map(|number| Ok((host(number)?, Action::Drop)));
    let rules = others.chain(marking.into_iter().map(Ok)).enumerate();
    let rules = rules.map(|(number, rule): (_, anyhow::Result<_>)| {
        let (matches, action) = rule?;
        Ok(Rule {
            name: format!("rule-{number}"),
            matches,
            action,
            meter: None,
        })
    });
    let spec = PolicySpec {
        rules: rules.collect::<anyhow::Result<_>>()?,
        interfaces: iter::repeat_n(InterfacePolicy::from(Trust::Bleach), 4).collect(),
        ..PolicySpec::default()
    };
    Ok(Policy::new(&spec, 1, clock)?)
}
