//! What the kernel has been told to do with what it forwards, and the fast path does not do: packet
//! filters, address translation, policy routing, traffic control on twins, bridges and VRFs. It is found and said, as who
//! relies on it must know.

mod nftables;

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStream, TryStreamExt as _};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    rule::{RuleAttribute, RuleMessage},
    tc::{TcAttribute, TcHandle, TcMessage},
};
use rtnetlink::{Error, Handle, IpVersion, MulticastGroup, new_multicast_connection};
use tokio::{
    sync::watch,
    time::{interval, sleep},
};
use tracing::{debug, warn};

use crate::attribute::attribute;

/// How often is looked where the kernel does not say what changes (iptables-legacy).
const PERIOD: Duration = Duration::from_secs(30);
/// How long after a change is looked: what belongs together comes together, and a script that adds a
/// thousand rules costs one look a second.
const SETTLE: Duration = Duration::from_secs(1);
/// The most that is told.
const MAX_FOUND: usize = 64;

/// What was found, each with what to do: `nftables chain inet filter forward: …`.
pub type Found = watch::Receiver<Arc<[String]>>;

/// For what another way is known.
const FILTER: &str = "write [[rule]] with drop = true in the configuration";
const NAT: &str = "translate addresses on another host";
const ROUTING: &str = "the main table decides alone";
const JOINED: &str =
    "take it out (ip link set dev NAME nomaster), and put an interface beside it there";
const CONTROL: &str = "write rate and [port.queue] in the configuration";

/// Looks now and whenever something changes, until the process ends. `twins` are named by the kernel's
/// number of them. Nobody else asks for lists by the handle.
#[must_use]
pub fn follow(handle: Handle, twins: BTreeMap<u32, String>) -> Found {
    let (sender, found) = watch::channel(Arc::default());
    tokio::spawn(async move {
        let mut changes = Changes::subscribe();
        let mut said: Arc<[String]> = Arc::default();
        loop {
            let now = look(&handle, &twins).await;
            for one in now.iter().filter(|one| !said.contains(one)) {
                warn!("forwarded traffic bypasses {one}");
            }
            said = now.into();
            if sender.send(Arc::clone(&said)).is_err() {
                return;
            }
            tokio::select! {
                () = changes.next() => {}
                () = sender.closed() => return,
            }
            sleep(SETTLE).await;
        }
    });
    found
}

/// All that is there now, of what can be read.
async fn look(handle: &Handle, twins: &BTreeMap<u32, String>) -> Vec<String> {
    let mut found = Vec::new();
    match nftables::chains().await {
        Ok(chains) => found.extend(chains.iter().filter_map(|chain| told(chain, twins))),
        // A kernel without.
        Err(error) => debug!(%error, "nftables cannot be read"),
    }
    found.extend(legacy_tables());
    for (version, family) in [(IpVersion::V4, "IPv4"), (IpVersion::V6, "IPv6")] {
        let rules = list(
            "rules of policy routing",
            handle.rule().get(version).execute(),
        )
        .await;
        found.extend(rules.iter().filter_map(|rule| policy_rule(rule, family)));
    }
    let links = list("links", handle.link().get().execute()).await;
    found.extend(joined(&links, twins));
    let disciplines = list("queueing disciplines", handle.qdisc().get().execute()).await;
    found.extend(disciplines.iter().filter_map(|it| queueing(it, twins)));
    found.sort();
    found.dedup();
    let more = found.len().saturating_sub(MAX_FOUND);
    if more > 0 {
        found.truncate(MAX_FOUND);
        found.push(format!("{more} more of the kind"));
    }
    found
}

/// All that the kernel answers; nothing, if it fails.
async fn list<T>(what: &str, answers: impl TryStream<Ok = T, Error = Error>) -> Vec<T> {
    answers.try_collect().await.unwrap_or_else(|error| {
        debug!(%error, "{what} cannot be read");
        Vec::new()
    })
}

/// A chain that forwarded traffic would pass, if it does anything.
fn told(chain: &nftables::Chain, twins: &BTreeMap<u32, String>) -> Option<String> {
    let on_twin = chain
        .device
        .as_ref()
        .is_none_or(|device| twins.values().any(|twin| twin == device));
    let acts = chain.drops || chain.rules > 0;
    let (nat, hook) = (chain.kind == "nat", chain.hook);
    let instead = if nat { NAT } else { FILTER };
    let kind = &chain.kind;
    (acts && on_twin).then(|| {
        format!(
            "nftables chain {} {} {} (type {kind}, hook {hook}): {instead}",
            chain.family, chain.table, chain.name
        )
    })
}

/// iptables-legacy's tables, which are there once somebody has used them; whether they have rules, the
/// kernel tells iptables alone.
fn legacy_tables() -> Vec<String> {
    let of = |file: &str, family: &str| {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let table = |name: &str| {
            let instead = if name == "nat" { NAT } else { FILTER };
            format!("iptables-legacy table {name} ({family}): {instead}")
        };
        names.lines().map(table).collect::<Vec<_>>()
    };
    [
        of("ip_tables_names", "IPv4"),
        of("ip6_tables_names", "IPv6"),
    ]
    .concat()
}

/// A rule that the kernel does not begin with (`ip rule`).
fn policy_rule(rule: &RuleMessage, family: &str) -> Option<String> {
    /// Those that it begins with, by priority.
    const FIRST: [(u32, u32); 3] = [(0, 255), (32_766, 254), (32_767, 253)];
    let (mut priority, mut table, mut selects) = (0, u32::from(rule.header.table), false);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => selects = true,
        }
    }
    (selects || !FIRST.contains(&(priority, table)))
        .then(|| format!("ip rule {priority} ({family}, table {table}): {ROUTING}"))
}

/// A queueing discipline that somebody gave a twin: those of the kernel have no number. Filters are in
/// one.
fn queueing(message: &TcMessage, twins: &BTreeMap<u32, String>) -> Option<String> {
    let index = u32::try_from(message.header.index).ok()?;
    let twin = twins.get(&index)?;
    let outermost = [TcHandle::ROOT, TcHandle::INGRESS].contains(&message.header.parent);
    if !outermost || message.header.handle.major == 0 {
        return None;
    }
    let kind = attribute!(message.attributes, TcAttribute::Kind(kind) => kind.as_str());
    Some(format!(
        "tc qdisc {} on {twin}: {CONTROL}",
        kind.unwrap_or("?")
    ))
}

/// The bridges, bonds and VRFs that twins were put in.
fn joined(links: &[LinkMessage], twins: &BTreeMap<u32, String>) -> Vec<String> {
    let told = |link: &LinkMessage| {
        let twin = twins.get(&link.header.index)?;
        let master = attribute!(link.attributes, LinkAttribute::Controller(index) => *index)?;
        let master = links.iter().find(|link| link.header.index == master)?;
        let (mut name, mut kind) = ("?", "link");
        for attribute in &master.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = text,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(InfoKind::Bridge) => kind = "bridge",
                            LinkInfo::Kind(InfoKind::Bond) => kind = "bond",
                            LinkInfo::Kind(InfoKind::Vrf) => kind = "VRF",
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let instead = JOINED.replace("NAME", twin);
        let instead = if kind == "VRF" { ROUTING } else { &instead };
        Some(format!("{kind} {name}, which {twin} was put in: {instead}"))
    };
    links.iter().filter_map(told).collect()
}

/// What the kernel says of changes.
struct Changes {
    routing: Option<futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>>,
    nftables: Option<nftables::Changes>,
    ticks: tokio::time::Interval,
}

impl Changes {
    fn subscribe() -> Self {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Tc,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let routing = new_multicast_connection(&groups).map(|(connection, _, messages)| {
            tokio::spawn(connection);
            messages.map(|(message, _)| message).boxed()
        });
        Self {
            routing: routing.ok(),
            nftables: nftables::Changes::subscribe().ok(),
            ticks: interval(PERIOD),
        }
    }

    /// Waits for one, or for so long that some may not have been said.
    async fn next(&mut self) {
        let Self {
            routing,
            nftables,
            ticks,
        } = self;
        let routing = async {
            if let Some(messages) = routing {
                while let Some(message) = messages.next().await {
                    if matches!(
                        message.payload,
                        NetlinkPayload::InnerMessage(_) | NetlinkPayload::Overrun(_)
                    ) {
                        return;
                    }
                }
            }
            std::future::pending().await
        };
        let nftables = async {
            match nftables {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = routing => {}
            () = nftables => {}
            _ = ticks.tick() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: Option<u32>, table: u8, more: &[RuleAttribute]) -> Option<String> {
        let mut rule = RuleMessage::default();
        rule.header.table = table;
        rule.attributes
            .extend(priority.map(RuleAttribute::Priority));
        rule.attributes
            .push(RuleAttribute::SuppressPrefixLen(u32::MAX));
        rule.attributes.extend(more.iter().cloned());
        policy_rule(&rule, "IPv4")
    }

    #[test]
    fn rules_of_the_kernel_are_not_told() {
        assert_eq!(rule(None, 255, &[]), None);
        assert_eq!(rule(Some(32_766), 254, &[]), None);
        assert_eq!(rule(Some(32_767), 253, &[]), None);
        let told = rule(Some(100), 100, &[]).unwrap();
        assert!(
            told.starts_with("ip rule 100 (IPv4, table 100): "),
            "{told}"
        );
        assert!(rule(Some(32_766), 254, &[RuleAttribute::FwMark(1)]).is_some());
    }

    /// A kernel need not have VRFs to be asked.
    #[test]
    fn what_twins_are_put_in_is_told() {
        let twins = BTreeMap::from([(7, "lan".to_owned()), (8, "core".to_owned())]);
        let link = |index, attributes: &[LinkAttribute]| {
            let mut link = LinkMessage::default();
            link.header.index = index;
            link.attributes.extend_from_slice(attributes);
            link
        };
        let master = |index, name: &str, kind| {
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
            link(index, &[LinkAttribute::IfName(name.to_owned()), info])
        };
        let in_it = |index, master| link(index, &[LinkAttribute::Controller(master)]);
        let links = [
            master(20, "red", InfoKind::Vrf),
            master(21, "br0", InfoKind::Bridge),
            in_it(7, 20),
            in_it(8, 21),
            in_it(9, 21),
            link(10, &[]),
        ];
        let told = joined(&links, &twins);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("VRF red, which lan was put in: the main"));
        assert!(told[1].starts_with("bridge br0, which core was put in: take it out"));
        assert!(told[1].contains("dev core nomaster"), "{told:?}");
    }

    #[test]
    fn disciplines_of_the_kernel_and_of_others_are_not_told() {
        let twins = BTreeMap::from([(7, "lan".to_owned())]);
        let told = |index, major, parent| {
            let mut message = TcMessage::default();
            message.header.index = index;
            message.header.handle = TcHandle { major, minor: 0 };
            message.header.parent = parent;
            message.attributes.push(TcAttribute::Kind("htb".to_owned()));
            queueing(&message, &twins)
        };
        assert_eq!(told(7, 0, TcHandle::ROOT), None);
        assert_eq!(told(8, 1, TcHandle::ROOT), None);
        assert_eq!(told(7, 2, TcHandle { major: 1, minor: 1 }), None);
        assert!(
            told(7, 1, TcHandle::ROOT)
                .unwrap()
                .starts_with("tc qdisc htb on lan: ")
        );
        assert!(told(7, 0xffff, TcHandle::INGRESS).is_some());
    }
}
