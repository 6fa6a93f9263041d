//! Namespaces and links of the two sites.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use time::OffsetDateTime;
use voicelane_identity::{Authority, Files, Role, authority::Validity};

use super::addresses::{
    self, AGENT, CORE_PREFIX, LAN_PREFIX, SERVER, bulk, bulk_gateway, core, lan_gateway,
    management, phone, prefixes,
};
use crate::{
    error::LabError,
    lab::Lab,
    link::End,
    namespace::Namespace,
    traffic::{Direction, Flow},
};

/// Of all names in the lab's certificates.
const DOMAIN: &str = "lab";

/// One of the two sites: its router, and the hosts behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The caller's, with the source of bulk traffic.
    A,
    /// The callee's, with the sink of bulk traffic.
    B,
}

impl Site {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The router's id at the QoS server.
    pub const fn router_id(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The part of addresses in which the sites differ.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The site at the far end of the core link.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The interfaces of a router's namespace that are the far ends of its links. A DPDK router works
/// on them and puts its twins `lan`, `bulk` and `core` beside them.
pub(crate) const UNDERLAYS: [&str; 3] = ["u-lan", "u-bulk", "u-core"];

/// Two routers' namespaces, without routers yet, with hosts, core link and management network.
#[derive(Debug)]
pub struct TwoSites {
    /// What owns all of it.
    pub lab: Lab,
    /// The caller's host, at site A.
    pub caller: Namespace,
    /// The bulk sender, at site A.
    pub bulk_src: Namespace,
    /// The callee's host, at site B.
    pub callee: Namespace,
    /// The bulk sink, at site B.
    pub bulk_sink: Namespace,
    pub router_a: Namespace,
    pub router_b: Namespace,
    pub server: Namespace,
    pub agent: Namespace,
    authority: Authority,
}

impl TwoSites {
    /// A program's certificate, key and authority: issued when they are asked for first.
    pub fn identity(&self, role: Role, id: &str) -> Result<Files, LabError> {
        let files = Files::in_dir(&self.identity_dir(role, id));
        if !files.cert.exists() {
            let tomorrow = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
            self.identity_until(role, id, tomorrow)?;
        }
        Ok(files)
    }

    /// Issues one that expires then.
    pub fn identity_until(
        &self,
        role: Role,
        id: &str,
        not_after: OffsetDateTime,
    ) -> Result<(), LabError> {
        let validity = Validity {
            not_before: OffsetDateTime::now_utc() - Duration::from_secs(300),
            not_after,
        };
        let dir = self.identity_dir(role, id);
        self.authority.issue(role, id, validity, &dir)?;
        Ok(())
    }

    /// Puts another one in its place.
    pub fn renew_identity(&self, role: Role, id: &str) -> Result<(), LabError> {
        let dir = self.identity_dir(role, id);
        self.authority
            .renew(&dir, true, OffsetDateTime::now_utc())?;
        Ok(())
    }

    fn identity_dir(&self, role: Role, id: &str) -> PathBuf {
        self.lab.dir().join(format!("{role}-{id}"))
    }

    /// Builds it. `name` is the lab's.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let lab = Lab::new(name)?;
        let sites = Self {
            caller: lab.namespace("caller")?,
            bulk_src: lab.namespace("bulk-src")?,
            callee: lab.namespace("callee")?,
            bulk_sink: lab.namespace("bulk-sink")?,
            router_a: lab.namespace("router-a")?,
            router_b: lab.namespace("router-b")?,
            server: lab.namespace("server")?,
            agent: lab.namespace("agent")?,
            authority: Authority::init(&lab.dir().join("pki"), DOMAIN, OffsetDateTime::now_utc())?,
            lab,
        };
        for site in Site::BOTH {
            let (lan, bulk_lan) = (lan_gateway(site), bulk_gateway(site));
            for (host, underlay, address, gateway) in [
                (sites.phone(site), "u-lan", phone(site), lan),
                (sites.bulk(site), "u-bulk", bulk(site).ip(), bulk_lan),
            ] {
                let far = End::new(sites.router(site), underlay);
                sites.lab.link(End::new(host, "eth0"), far)?;
                host.ip(&format!(
                    "address add {address}/{LAN_PREFIX} dev eth0\nroute add default via {gateway}"
                ))?;
            }
        }
        let [a, b] = Site::BOTH.map(|site| End::new(sites.router(site), "u-core"));
        sites.lab.link(a, b)?;
        sites.join_management()?;
        Ok(sites)
    }

    pub fn router(&self, site: Site) -> &Namespace {
        match site {
            Site::A => &self.router_a,
            Site::B => &self.router_b,
        }
    }

    /// The phones' namespace at a site.
    pub fn phone(&self, site: Site) -> &Namespace {
        match site {
            Site::A => &self.caller,
            Site::B => &self.callee,
        }
    }

    /// The bulk host's namespace at a site.
    pub fn bulk(&self, site: Site) -> &Namespace {
        match site {
            Site::A => &self.bulk_src,
            Site::B => &self.bulk_sink,
        }
    }

    /// Both flows of each of `count` calls between caller and callee, call by call, the way to the
    /// callee first.
    pub fn calls(&self, count: u16) -> Vec<Flow> {
        self.calls_of(count, addresses::rtp)
    }

    pub(super) fn calls_of(&self, count: u16, rtp: fn(Site, u16) -> SocketAddr) -> Vec<Flow> {
        let flow = |call: u16, direction, from: Site| Flow {
            call: call.into(),
            direction,
            source_namespace: self.phone(from).clone(),
            source: rtp(from, call),
            destination_namespace: self.phone(from.other()).clone(),
            destination: rtp(from.other(), call),
            tos: 0,
        };
        (0..count)
            .flat_map(|call| {
                [
                    flow(call, Direction::ToCallee, Site::A),
                    flow(call, Direction::ToCaller, Site::B),
                ]
            })
            .collect()
    }

    /// Lets the kernel forward in place of the routers, for tests of the testbed itself. With
    /// `core_rate` (as tc(8) takes it: `10mbit`) both ends of the core link are shaped, into a
    /// queue of 50 full packets.
    pub fn forward_by_kernel(&self, core_rate: Option<&str>) -> Result<(), LabError> {
        for site in Site::BOTH {
            let router = self.router(site);
            router.sysctl("net.ipv4.ip_forward", "1")?;
            let mut lines = String::new();
            let own = [
                (lan_gateway(site), LAN_PREFIX),
                (bulk_gateway(site), LAN_PREFIX),
                (core(site), CORE_PREFIX),
            ];
            for (interface, (address, prefix)) in UNDERLAYS.into_iter().zip(own) {
                lines.push_str(&format!("address add {address}/{prefix} dev {interface}\n"));
            }
            lines.push_str(&routes(site, "u-core"));
            router.ip(&lines)?;
            if let Some(rate) = core_rate {
                // The inner queue counts packets: one that counts bytes has room for a small packet
                // where a large one is dropped, and calls would lose nothing.
                router.tc(&format!(
                    "qdisc add dev u-core root handle 1: tbf rate {rate} burst 3000 limit 75000\n\
                     qdisc add dev u-core parent 1: pfifo limit 50"
                ))?;
            }
        }
        Ok(())
    }

    fn join_management(&self) -> Result<(), LabError> {
        let hub = End::new(&self.server, "mgmt");
        self.server.ip(&format!(
            "link add mgmt type bridge\nlink set mgmt up\naddress add {SERVER}/24 dev mgmt"
        ))?;
        let members = [
            (&self.agent, AGENT, "p-agent"),
            (&self.router_a, management(Site::A), "p-router-a"),
            (&self.router_b, management(Site::B), "p-router-b"),
        ];
        for (namespace, address, port) in members {
            self.lab.plug(End::new(namespace, "mgmt"), hub, port)?;
            namespace.ip(&format!("address add {address}/24 dev mgmt"))?;
        }
        Ok(())
    }
}

/// `ip` commands that lead from a site's router to the other site.
pub(crate) fn routes(site: Site, core_interface: &str) -> String {
    let via = core(site.other());
    prefixes(site.other())
        .map(|prefix| format!("route replace {prefix} via {via} dev {core_interface}\n"))
        .concat()
}
