use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::policy::{Action, Match, Prefix};

/// One rule after the other, as they are written.
fn linear(rules: &[Rule], fields: &Fields) -> Option<RuleIndex> {
    let any = |list: &[RangeInclusive<u16>], port: Option<u16>| {
        list.is_empty() || port.is_some_and(|port| list.iter().any(|range| range.contains(&port)))
    };
    let within = |list: &[Prefix], address: (Option<u32>, Option<u128>)| {
        list.is_empty()
            || list
                .iter()
                .any(|prefix| match (address, prefix.range4(), prefix.range6()) {
                    ((Some(address), _), Some(range), _) => range.contains(&address),
                    ((_, Some(address)), _, Some(range)) => range.contains(&address),
                    _ => false,
                })
    };
    let (source, destination) = match fields.addresses {
        Addresses::V4(source, destination) => ((Some(source), None), (Some(destination), None)),
        Addresses::V6(source, destination) => ((None, Some(source)), (None, Some(destination))),
    };
    let matches = |rule: &Rule| {
        let matches = &rule.matches;
        (matches.interfaces.is_empty() || matches.interfaces.contains(&fields.interface))
            && within(&matches.sources, source)
            && within(&matches.destinations, destination)
            && (matches.protocols.is_empty() || matches.protocols.contains(&fields.protocol))
            && any(&matches.source_ports, fields.ports.map(|ports| ports.0))
            && any(
                &matches.destination_ports,
                fields.ports.map(|ports| ports.1),
            )
            && (matches.dscps.is_empty() || matches.dscps.contains(&fields.dscp))
    };
    let found = rules.iter().position(matches)?;
    Some(RuleIndex(u8::try_from(found).unwrap()))
}

/// Few values, so that rules overlap and packets hit them.
fn address4() -> impl Strategy<Value = u32> {
    let near = (0..8_u32, 0..4_u32).prop_map(|(net, host)| 0x0a00_0000 | net << 29 >> 13 | host);
    prop_oneof![2 => near, 1 => Just(u32::MAX)]
}

/// The same of IPv6.
fn address6() -> impl Strategy<Value = u128> {
    let near = (0..8_u128, 0..4_u128).prop_map(|(net, host)| 0x2001 << 112 | net << 64 | host);
    prop_oneof![2 => near, 1 => Just(u128::MAX)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        address4().prop_map(|address| IpAddr::V4(Ipv4Addr::from(address))),
        address6().prop_map(|address| IpAddr::V6(Ipv6Addr::from(address))),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() {
            length % 33
        } else {
            length
        };
        Prefix::new(address, length).unwrap()
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0..12_u16, 1 => Just(u16::MAX), 1 => any::<u16>()]
}

fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
    (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

fn dscp() -> impl Strategy<Value = Dscp> {
    prop_oneof![
        Just(Dscp::DF),
        Just(Dscp::EF),
        (0..64_usize).prop_map(|n| Dscp::ALL[n])
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::UDP),
        Just(Protocol::TCP),
        any::<u8>().prop_map(Protocol)
    ]
}

fn few<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![2 => Just(0_usize), 1 => Just(1_usize), 1 => Just(3)].prop_flat_map({
        let item = std::rc::Rc::new(item);
        move |size| prop::collection::vec(std::rc::Rc::clone(&item), size)
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let interfaces = few((0..3_u8).prop_map(InterfaceIndex));
    let fields = (interfaces, few(prefix()), few(prefix()), few(protocol()));
    let fields = (fields, few(ports()), few(ports()), few(dscp()));
    fields.prop_map(
        |((interfaces, sources, destinations, protocols), from, to, dscps)| Rule {
            name: String::new(),
            matches: Match {
                interfaces,
                sources,
                destinations,
                protocols,
                source_ports: from,
                destination_ports: to,
                dscps,
            },
            action: Action::Keep,
            meter: None,
        },
    )
}

fn packet() -> impl Strategy<Value = Fields> {
    let addresses = prop_oneof![
        (address4(), address4()).prop_map(|(a, b)| Addresses::V4(a, b)),
        (address6(), address6()).prop_map(|(a, b)| Addresses::V6(a, b)),
    ];
    let ports = prop::option::weighted(0.8, (port(), port()));
    ((0..3_u8), addresses, protocol(), ports, dscp()).prop_map(
        |(interface, addresses, protocol, ports, dscp)| Fields {
            interface: InterfaceIndex(interface),
            addresses,
            protocol,
            ports,
            dscp,
        },
    )
}

proptest! {
    /// 250 policies with 40 packets each, of which most match.
    #[test]
    fn the_first_match_is_the_linear_ones(
        rules in prop::collection::vec(rule(), 0..60),
        packets in prop::collection::vec(packet(), 40),
    ) {
        let classifier = Classifier::new(&rules);
        for fields in packets {
            prop_assert_eq!(classifier.first_match(&fields), linear(&rules, &fields), "{:?}", fields);
        }
    }
}

fn named_port(port: u16) -> Rule {
    Rule {
        name: port.to_string(),
        matches: Match {
            destination_ports: vec![port..=port],
            ..Match::default()
        },
        action: Action::Keep,
        meter: None,
    }
}

#[test]
fn as_many_rules_as_there_may_be_are_told_apart() {
    let mut rules: Vec<_> = (0..=255).map(named_port).collect();
    let fields = |port| Fields {
        interface: InterfaceIndex(0),
        addresses: Addresses::V4(1, 2),
        protocol: Protocol::UDP,
        ports: Some((9, port)),
        dscp: Dscp::DF,
    };
    let classifier = Classifier::new(&rules);
    for rule in 0..=255 {
        let found = classifier.first_match(&fields(rule.into()));
        assert_eq!(found, Some(RuleIndex(rule)));
    }
    assert_eq!(classifier.first_match(&fields(256)), None);
    // The last one that matches all is the last resort; put first, it is the only one.
    rules[255] = Rule {
        matches: Match::default(),
        ..named_port(0)
    };
    let of = |rules: &[Rule], port| Classifier::new(rules).first_match(&fields(port));
    assert_eq!(of(&rules, 7), Some(RuleIndex(7)));
    assert_eq!(of(&rules, 999), Some(RuleIndex(255)));
    rules.rotate_right(1);
    assert_eq!(of(&rules, 7), Some(RuleIndex(0)));
}
