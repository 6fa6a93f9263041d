//! What routers report of their interfaces: in parts, and later by differences.

use ipnet::IpNet;

use super::registry::Interface;

/// The most interfaces of a router.
pub const MAX_INTERFACES: usize = 1_024;
/// The most addresses of a router.
pub const MAX_ADDRESSES: usize = 4_096;
/// Interfaces and addresses that changes may name, told together: so many times as many as a router may have.
pub const CHANGES_FACTOR: usize = 4;
/// Prefixes that a router may report, or that may wait to be taken: four full Internet tables.
pub const MAX_PREFIXES: usize = 4_000_000;

/// Whether a router may have these interfaces: what is refused counts, too.
pub fn fits(all: &[Interface]) -> bool {
    let addresses: usize = all.iter().map(|it| it.addresses.len()).sum();
    let of = |it: &Interface| it.prefixes.len() + it.refused.len();
    all.len() <= MAX_INTERFACES
        && addresses <= MAX_ADDRESSES
        && all.iter().map(of).sum::<usize>() <= MAX_PREFIXES
}

/// An interface that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceChange {
    /// As it is now, without its prefixes.
    pub interface: Interface,
    /// In order, each once.
    pub added: Vec<IpNet>,
    /// In order, each once.
    pub removed: Vec<IpNet>,
}

/// What is different since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that are new or different.
    pub interfaces: Vec<InterfaceChange>,
    /// Names of those that are no more.
    pub gone: Vec<Box<str>>,
}

impl Changes {
    /// How many prefixes it names.
    pub fn prefixes(&self) -> usize {
        let of = |it: &InterfaceChange| it.added.len() + it.removed.len();
        self.interfaces.iter().map(of).sum()
    }

    /// Whether they name no more than may be told together.
    pub fn fits(&self) -> bool {
        let of = |it: &InterfaceChange| it.interface.addresses.len();
        let addresses: usize = self.interfaces.iter().map(of).sum();
        self.interfaces.len() + self.gone.len() <= CHANGES_FACTOR * MAX_INTERFACES
            && addresses <= CHANGES_FACTOR * MAX_ADDRESSES
            && self.prefixes() <= MAX_PREFIXES
    }

    /// Makes the changes.
    pub fn apply(self, interfaces: &mut Vec<Interface>) {
        for change in self.interfaces {
            let InterfaceChange {
                interface,
                added,
                removed,
            } = change;
            match interfaces.iter_mut().find(|it| it.name == interface.name) {
                Some(there) => {
                    let before = std::mem::take(&mut there.prefixes);
                    let prefixes = if added.is_empty() && removed.is_empty() {
                        before
                    } else {
                        changed(&before, &added, &removed)
                    };
                    *there = Interface {
                        prefixes,
                        ..interface
                    };
                }
                None => interfaces.push(Interface {
                    prefixes: added,
                    ..interface
                }),
            }
        }
        interfaces.retain(|it| !self.gone.iter().any(|name| **name == *it.name));
    }
}

/// These prefixes, with some more and without some; all in order.
fn changed(before: &[IpNet], added: &[IpNet], removed: &[IpNet]) -> Vec<IpNet> {
    let mut all = Vec::with_capacity(before.len() + added.len());
    let mut added = added.iter().peekable();
    for prefix in before {
        while let Some(new) = added.next_if(|new| *new < prefix) {
            all.push(*new);
        }
        added.next_if(|new| *new == prefix);
        if removed.binary_search(prefix).is_err() {
            all.push(*prefix);
        }
    }
    all.extend(added);
    all
}

/// A report that comes in parts.
#[derive(Debug, Default)]
pub struct Parts(Vec<Interface>);

impl Parts {
    /// Takes a part; an interface that is there already has more prefixes. False if that is more than
    /// a router may have.
    #[must_use]
    pub fn add(&mut self, part: Vec<Interface>) -> bool {
        for interface in part {
            match self.0.iter_mut().find(|it| it.name == interface.name) {
                Some(there) => there.prefixes.extend(interface.prefixes),
                None => self.0.push(interface),
            }
        }
        fits(&self.0)
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<Interface> {
        let mut all = std::mem::take(&mut self.0);
        for interface in &mut all {
            interface.prefixes.sort_unstable();
            interface.prefixes.dedup();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::registry::Role;

    fn nets() -> impl Strategy<Value = BTreeSet<IpNet>> {
        let net = (0_u8..40).prop_map(|it| IpNet::new([10, it, 0, 0].into(), 16).unwrap());
        proptest::collection::btree_set(net, 0..20)
    }

    #[test]
    fn parts_that_come_to_more_than_a_router_may_have_do_not_fit() {
        let interface = |name: usize, addresses: usize| Interface {
            name: name.to_string().into(),
            role: Role::Core,
            up: true,
            addresses: vec!["10.1.0.1/24".parse().unwrap(); addresses],
            prefixes: Vec::new(),
            refused: Vec::new(),
            rate_bps: 0,
            ef_budget_bps: 0,
            ef_ingress_budget_bps: 0,
            mtu_bytes: 0,
            overhead_bytes: 0,
            vlan_id: 0,
            port: "".into(),
        };
        for (first, second, addresses, expected) in [
            (1_000, 24, 4, true),
            (1_000, 25, 3, false),
            (512, 512, 5, false),
        ] {
            let mut parts = Parts::default();
            let part = |from, count| (from..from + count).map(|it| interface(it, addresses));
            assert!(parts.add(part(0, first).collect()), "{first} fit");
            let fits = parts.add(part(first, second).collect());
            assert_eq!(fits, expected, "{first} and {second}");
        }
    }

    proptest! {
        #[test]
        fn changes_make_the_set_that_they_say(
            before in nets(), added in nets(), removed in nets(),
        ) {
            let removed: BTreeSet<_> = removed.difference(&added).copied().collect();
            let expected: Vec<IpNet> = before
                .union(&added)
                .filter(|it| !removed.contains(it))
                .copied()
                .collect();
            let list = |set: BTreeSet<IpNet>| set.into_iter().collect::<Vec<_>>();
            prop_assert_eq!(changed(&list(before), &list(added), &list(removed)), expected);
        }
    }
}
