use voicelane_dataplane::{
    diffserv::Phb,
    policy::{InterfacePolicy, Metering, PolicySpec, ReversePath, Rule, Trust},
};

use super::{Config, Role};

/// A section `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// As the dataplane knows it.
    pub rule: Rule,
    /// The name of its meter.
    pub meter: Option<String>,
}

/// An entry of `police`: how much of a behaviour comes in without sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoliceConfig {
    /// The behaviour that is metered.
    pub phb: Phb,
    /// The name of the meter.
    pub meter: String,
    /// Rates, bursts, and what becomes of each colour.
    pub metering: Metering,
}

/// What an interface does with what neither a session nor a rule covers.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceTrust<'a> {
    /// The name of the interface.
    pub name: &'a str,
    /// How far code points from there are believed.
    pub trust: Trust,
    /// What the sources of packets from there must be, if they have no session.
    pub reverse_path: ReversePath,
    /// How much of each behaviour may come from there.
    pub police: &'a [PoliceConfig],
}

impl Config {
    /// What is allowed and may be a mistake, each with what follows from it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.interfaces().zip(self.trusts());
        let open = open.filter(|(interface, of)| {
            interface.role() == Role::Edge && of.reverse_path != ReversePath::Strict
        });
        let told = open.map(|(_, of)| {
            let (name, reverse_path) = (of.name, of.reverse_path);
            format!(
                "{name}: reverse_path is {reverse_path} on an edge: hosts there can send with \
                 others' addresses, and what has a call's five-tuple counts against that call at \
                 the router of its destination; write \"strict\" unless hosts are reached another \
                 way than they send"
            )
        });
        told.collect()
    }

    /// Of each interface, in the order of [`voicelane_dataplane::units::InterfaceIndex`].
    pub fn trusts(&self) -> impl Iterator<Item = InterfaceTrust<'_>> {
        self.interfaces().map(|one| InterfaceTrust {
            name: one.name(),
            trust: one.vlan.map_or(one.port.trust, |vlan| vlan.trust),
            reverse_path: one
                .vlan
                .map_or(one.port.reverse_path, |vlan| vlan.reverse_path),
            police: one.vlan.map_or(&one.port.police, |vlan| &vlan.police),
        })
    }

    /// What each worker is told of rules, trust and meters. Workers know nothing of each other's
    /// packets, so each has its share of a meter's rates: together they let no more pass.
    #[must_use]
    pub fn policy(&self) -> PolicySpec {
        let workers = self.router.cores.workers.len() as u64;
        let share = |metering: Metering| Metering {
            spec: metering.spec.share(workers),
            ..metering
        };
        let interfaces = self.trusts().map(|of| InterfacePolicy {
            trust: of.trust,
            reverse_path: of.reverse_path,
            police: of
                .police
                .iter()
                .map(|one| (one.phb, share(one.metering)))
                .collect(),
        });
        PolicySpec {
            rules: self
                .rules
                .iter()
                .map(|rule| Rule {
                    meter: rule.rule.meter.map(share),
                    ..rule.rule.clone()
                })
                .collect(),
            interfaces: interfaces.collect(),
            kernel: self.kernel.policy(),
        }
    }
}
