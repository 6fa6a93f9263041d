//! Sections `[[route]]`: static routes.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    PortConfig, interfaces,
    problems::{Problems, Section},
    raw::RawRoute,
    values,
    words::Words,
};

/// The kernel gives IPv6 routes this metric by default one, and 0 to those of IPv4.
const IPV6_METRIC: u32 = 1024;
/// What a router is to have of its own; more are a routing daemon's.
const MAX_ROUTES: usize = 4096;
/// As many next hops as the kernel's messages have room for, and more than anybody writes.
const MAX_NEXT_HOPS: usize = 64;

/// A section `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The destination prefix, host bits 0.
    pub to: IpNet,
    /// The lower one wins.
    pub metric: u32,
    /// Next hops, or none.
    pub way: RouteWay,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteWay {
    /// To one of these, by flow. At least one.
    NextHops(Vec<NextHop>),
    /// Nowhere, and nobody is told.
    Blackhole,
}

/// A next hop of a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The gateway; `None`: hosts on the link itself.
    pub via: Option<IpAddr>,
    /// The interface, by its name.
    pub dev: String,
}

/// All routes of a file; `None` if one of them is wrong.
pub(super) fn routes(
    raw: &[RawRoute],
    ports: &[PortConfig],
    problems: &mut Problems,
) -> Option<Vec<RouteConfig>> {
    if raw.len() > MAX_ROUTES {
        let reason = format!(
            "there are {}: write at most {MAX_ROUTES} [[route]]",
            raw.len()
        );
        problems.add("route", reason);
        return None;
    }
    let mut first = HashMap::new();
    let mut route = |(index, raw): (usize, &RawRoute)| {
        let mut section = problems.section(format!("route[{index}]"));
        let route = route(raw, ports, &mut section)?;
        if let Some(other) = first.insert((route.to, route.metric), index) {
            let reason = format!(
                "route[{other}] leads to {} with metric {} already: write one with several next \
                 hops, as via = [\"10.9.0.2\", \"10.9.0.6\"], or another metric",
                route.to, route.metric
            );
            section.wrong::<()>("to", reason);
        }
        Some(route)
    };
    let routes: Vec<_> = raw.iter().enumerate().map(&mut route).collect();
    routes.into_iter().collect()
}

fn route(raw: &RawRoute, ports: &[PortConfig], section: &mut Section<'_>) -> Option<RouteConfig> {
    let to = section.keep("to", values::prefix(&raw.to));
    let metric: Option<u32> = match raw.metric {
        None => None,
        Some(metric) => Some(section.number("metric", metric, 0..=u32::MAX.into())?),
    };
    let to = to?;
    let metric = match metric {
        // 0 means this to the kernel.
        None | Some(0) if to.addr().is_ipv6() => IPV6_METRIC,
        metric => metric.unwrap_or(0),
    };
    match way(to, raw, ports) {
        Ok(way) => Some(RouteConfig { to, metric, way }),
        Err((key, reason)) => section.wrong(key, reason),
    }
}

type Wrong = (&'static str, String);

fn way(to: IpNet, raw: &RawRoute, ports: &[PortConfig]) -> Result<RouteWay, Wrong> {
    let RawRoute {
        via: Words(via),
        dev,
        blackhole,
        ..
    } = raw;
    if *blackhole == Some(true) {
        return if via.is_empty() && dev.is_none() {
            Ok(RouteWay::Blackhole)
        } else {
            let reason = "a route to nowhere has no next hop: leave out via and dev, or this";
            Err(("blackhole", reason.to_owned()))
        };
    }
    if let Some(dev) = dev
        && !interfaces(ports).any(|interface| interface.name() == dev)
    {
        let names: Vec<_> = interfaces(ports).map(|one| one.name().to_owned()).collect();
        let reason = format!(
            "there is no interface {dev:?}: write one of {}",
            names.join(", ")
        );
        return Err(("dev", reason));
    }
    if via.len() > MAX_NEXT_HOPS {
        let reason = format!("there are {}: write at most {MAX_NEXT_HOPS}", via.len());
        return Err(("via", reason));
    }
    let mut hops = Vec::new();
    for via in via {
        let hop = next_hop(to, via, dev.as_deref(), ports).map_err(|reason| ("via", reason))?;
        if hops.contains(&hop) {
            return Err(("via", format!("{via:?} is there twice: leave one out")));
        }
        hops.push(hop);
    }
    match (hops.is_empty(), dev) {
        (false, _) => Ok(RouteWay::NextHops(hops)),
        (true, Some(dev)) => Ok(RouteWay::NextHops(vec![NextHop {
            via: None,
            dev: dev.clone(),
        }])),
        (true, None) => {
            let reason = "is missing: write the gateway's address, several of them, dev = \"NAME\", \
                          or blackhole = true";
            Err(("via", reason.to_owned()))
        }
    }
}

fn next_hop(
    to: IpNet,
    via: &str,
    dev: Option<&str>,
    ports: &[PortConfig],
) -> Result<NextHop, String> {
    let via: IpAddr = via.parse().map_err(|_| {
        format!("{via:?} is no address: write the gateway's, such as \"10.9.0.2\" or \"fe80::1\"")
    })?;
    if via.is_ipv4() != to.addr().is_ipv4() {
        return Err(format!(
            "{via} and {to} are of different families: write one of {to}'s"
        ));
    }
    if let Some(own) =
        interfaces(ports).find(|one| one.addresses().iter().any(|net| net.addr() == via))
    {
        return Err(format!(
            "{via} is the router's own address, on {own}: write the next router's"
        ));
    }
    let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
    if link_local && dev.is_none() {
        return Err(format!(
            "{via} is on every link: write dev = \"NAME\" beside it"
        ));
    }
    if via.is_unspecified() || via.is_multicast() {
        return Err(format!("{via} is no router's address"));
    }
    let mut on = interfaces(ports).filter(|one| dev.is_none_or(|dev| one.name() == dev));
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == via.is_ipv4();
    let reached = on.find(|one| {
        let mut nets = one.addresses().iter().filter(of_family).peekable();
        // Where a DHCP client or somebody else gives the addresses, nobody knows them yet.
        let later = dev.is_some() && nets.peek().is_none();
        link_local || later || nets.any(|net| net.contains(&via))
    });
    let dev = reached.map(|one| one.name().to_owned()).ok_or_else(|| {
        let where_ = dev.map_or("any port or VLAN".to_owned(), |dev| format!("{dev:?}"));
        format!(
            "{via} is in no subnet of {where_}: write the address of a router that is next to \
             this one"
        )
    })?;
    Ok(NextHop {
        via: Some(via),
        dev,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, EXAMPLE};

    fn parse(routes: &str) -> Result<Vec<RouteConfig>, String> {
        let text = format!("{EXAMPLE}\n{routes}");
        let config = Config::parse(Path::new("r.toml"), &text, &[0, 1]);
        let example = Config::parse(Path::new("r.toml"), EXAMPLE, &[0, 1]).unwrap();
        let mut routes = config.map_err(|error| error.to_string())?.routes;
        Ok(routes.split_off(example.routes.len()))
    }

    #[test]
    fn a_gateway_says_on_which_interface_it_is() {
        let routes = parse(
            "[[route]]\nto = '172.16.0.0/12'\nvia = ['10.9.0.2', '10.1.100.9']\nmetric = 20\n\
             [[route]]\nto = 'default'\nvia = '10.9.0.2'\nmetric = 7\n\
             [[route]]\nto = '2001:db8:7::/48'\nvia = 'fe80::1'\ndev = 'core'\n\
             [[route]]\nto = '2001:db8:8::/48'\nvia = '2001:db8:9::2'\n\
             [[route]]\nto = '192.0.2.0/24'\nblackhole = true\n\
             [[route]]\nto = '198.51.100.7/32'\ndev = 'phones'\n",
        )
        .unwrap();
        let hop = |via: &str, dev: &str| NextHop {
            via: via.parse().ok(),
            dev: dev.to_owned(),
        };
        let hops = |hops: &[NextHop]| RouteWay::NextHops(hops.to_vec());
        let to = |text: &str| text.parse::<IpNet>().unwrap();
        let all = [
            (
                to("172.16.0.0/12"),
                20,
                hops(&[hop("10.9.0.2", "core"), hop("10.1.100.9", "phones")]),
            ),
            (to("0.0.0.0/0"), 7, hops(&[hop("10.9.0.2", "core")])),
            (to("2001:db8:7::/48"), 1024, hops(&[hop("fe80::1", "core")])),
            (
                to("2001:db8:8::/48"),
                1024,
                hops(&[hop("2001:db8:9::2", "core")]),
            ),
            (to("192.0.2.0/24"), 0, RouteWay::Blackhole),
            (to("198.51.100.7/32"), 0, hops(&[hop("", "phones")])),
        ];
        let all = all.map(|(to, metric, way)| RouteConfig { to, metric, way });
        assert_eq!(routes, all);
    }

    #[test]
    fn what_is_wrong_with_a_route_is_said() {
        for (route, key, says) in [
            ("to = '10.2.0.1/16'\nvia = '10.9.0.2'", "to", "10.2.0.0/16"),
            ("to = 'somewhere'\nvia = '10.9.0.2'", "to", "\"default\""),
            ("to = '10.2.0.0/16'", "via", "missing"),
            ("to = '10.2.0.0/16'\nblackhole = false", "via", "missing"),
            ("to = '10.2.0.0/16'\nvia = 'b'", "via", "no address"),
            (
                "to = '10.2.0.0/16'\nvia = '10.8.0.2'",
                "via",
                "in no subnet",
            ),
            (
                "to = '10.2.0.0/16'\nvia = '10.9.0.2'\ndev = 'lan'",
                "via",
                "\"lan\"",
            ),
            ("to = '10.2.0.0/16'\nvia = '10.9.0.1'", "via", "own address"),
            (
                "to = '10.2.0.0/16'\nvia = '2001:db8:9::2'",
                "via",
                "families",
            ),
            ("to = '2001:db8:7::/48'\nvia = 'fe80::1'", "via", "dev"),
            (
                "to = '10.2.0.0/16'\nvia = ['10.9.0.2', '10.9.0.2']",
                "via",
                "twice",
            ),
            ("to = '10.2.0.0/16'\ndev = 'eth9'", "dev", "phones"),
            (
                "to = '10.2.0.0/16'\ndev = 'core'\nblackhole = true",
                "blackhole",
                "leave out",
            ),
            (
                "to = '10.2.0.0/16'\nvia = '10.9.0.2'\nmetric = -1",
                "metric",
                "between 0",
            ),
            (
                "to = '10.2.0.0/16'\nvia = '10.9.0.2'\n[[route]]\nto = '10.2.0.0/16'\ndev = 'core'",
                "to",
                "metric",
            ),
        ] {
            let error = parse(&format!("[[route]]\n{route}\n")).unwrap_err();
            assert!(error.contains(&format!("].{key}: ")), "{route}: {error}");
            assert!(error.contains(says), "{route}: {error}");
            assert_eq!(error.lines().count(), 1, "{route}: {error}");
        }
    }
}
