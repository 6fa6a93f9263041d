//! Rules, aggregates, and who claims what is taken away.

use std::fmt;

use voicelane_dataplane::{
    diffserv::Colour,
    policy::{Offence, RuleCounters},
    stats::Count,
};

use super::{Figures, Out};
use crate::{
    api::policy::greatest,
    config::{InterfaceTrust, RuleConfig},
};

/// The senders of an interface that have series; `ListPorts` gives all that are known.
const MAX_SENDER_SERIES: usize = 8;

impl Figures {
    fn each_rule(&self) -> impl Iterator<Item = (&RuleConfig, &RuleCounters)> {
        let rules = self.installed.config.rules.iter();
        rules.zip(&self.report.policy.rules)
    }

    fn each_trust(&self) -> impl Iterator<Item = InterfaceTrust<'_>> {
        self.installed.config.trusts()
    }

    pub(super) fn policy(&self, out: &mut Out<'_>) -> fmt::Result {
        type Of = fn(&Count) -> u64;
        let plain: [(&str, &str, &str, Of); 2] = [
            ("packets", "Packets", "", |counted| counted.packets),
            ("bytes", "Bytes", ", IP", |counted| counted.bytes),
        ];
        for (unit, what, of, count) in plain {
            let matched = self.each_rule();
            let matched = matched.map(|(config, counters)| {
                let labels = [("rule", config.rule.name.as_str())];
                (labels, count(&counters.matched))
            });
            out.counters(
                &format!("voicelane_rule_{unit}"),
                &format!("{what} that a rule matched{of}"),
                matched,
            )?;
            let metered = self
                .each_rule()
                .filter(|(config, _)| config.meter.is_some());
            let metered = metered.flat_map(|(config, counters)| {
                let colours = Colour::ALL.iter().zip(&counters.colours);
                colours.map(|(colour, counted)| {
                    let rule = ("rule", config.rule.name.as_str());
                    ([rule, ("colour", colour.name())], count(counted))
                })
            });
            out.counters(
                &format!("voicelane_rule_colour_{unit}"),
                &format!("{what} that a rule's meter coloured{of}"),
                metered,
            )?;
            let aggregates = self.each_trust().zip(&self.report.policy.interfaces);
            let aggregates = aggregates.flat_map(|(of, counted)| {
                of.police.iter().flat_map(move |police| {
                    let counted = &counted.aggregates[police.phb.index()];
                    Colour::ALL
                        .iter()
                        .zip(counted)
                        .map(move |(colour, counted)| {
                            let (port, phb) = (("port", of.name), ("phb", police.phb.name()));
                            ([port, phb, ("colour", colour.name())], count(counted))
                        })
                })
            });
            out.counters(
                &format!("voicelane_aggregate_{unit}"),
                &format!("{what} without sessions that an interface's meter coloured{of}"),
                aggregates,
            )?;
        }
        let senders = self.each_trust().zip(&self.report.policy.interfaces);
        let senders: Vec<_> = senders
            .flat_map(|(of, counted)| {
                let first = greatest(&counted.senders)
                    .into_iter()
                    .filter(|one| one.offence == Offence::Claim)
                    .take(MAX_SENDER_SERIES);
                first.map(move |one| {
                    let sure = one.packets - one.error;
                    (
                        of.name,
                        one.address.to_string(),
                        one.claims.to_string(),
                        sure,
                    )
                })
            })
            .collect();
        let senders = senders.iter().map(|(port, address, claims, packets)| {
            let labels = [("port", *port), ("source", address), ("dscp", claims)];
            (labels, *packets)
        });
        out.gauges(
            "voicelane_bleached_sender_packets",
            "Packets, at least, of those who claim most of what is taken away",
            senders,
        )
    }
}
