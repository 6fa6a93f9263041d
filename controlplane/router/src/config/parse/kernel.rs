//! Sections `[kernel]` and `[punt]`.

use std::collections::BTreeMap;

use voicelane_dataplane::{
    policy::{ROUTING_PROTOCOLS, Speaks},
    settings::PuntRates,
    stats::PuntClass,
};

use super::interface::trust;
use crate::config::{
    kernel::{KernelConfig, RoutingConfig},
    problems::Problems,
    raw::RawKernel,
};

/// The most routing protocols: each is asked of each frame that the kernel sends or gets.
const MAX_ROUTING: usize = 32;
/// As many as a kernel takes in.
const MOST_PACKETS: i64 = 1_000_000;

pub(super) fn kernel(raw: &RawKernel, problems: &mut Problems) -> Option<KernelConfig> {
    let mut section = problems.section("kernel");
    let trust = trust(raw.trust.as_deref(), raw.remark.as_ref(), &mut section);
    let default = KernelConfig::default();
    let routing = match &raw.routing {
        None => Some(default.routing),
        Some(words) if words.len() > MAX_ROUTING => {
            let reason = format!("has {} values: write at most {MAX_ROUTING}", words.len());
            section.wrong("routing", reason)
        }
        Some(words) => words
            .iter()
            .map(|word| section.keep("routing", routing(word)))
            .collect(),
    };
    Some(KernelConfig {
        trust: trust?.unwrap_or(default.trust),
        routing: routing?,
    })
}

fn routing(word: &str) -> Result<RoutingConfig, String> {
    let named = ROUTING_PROTOCOLS.iter().find(|(name, _)| *name == word);
    let speaks = match named {
        Some((_, speaks)) => speaks.to_vec(),
        None => vec![by_number(word).ok_or_else(|| {
            let names: Vec<_> = ROUTING_PROTOCOLS.iter().map(|(name, _)| *name).collect();
            format!(
                "{word:?} is no routing protocol: write one of {}, or one like \"tcp/179\", \
                 \"udp/3784\", \"ip/89\"",
                names.join(", ")
            )
        })?],
    };
    Ok(RoutingConfig {
        name: word.to_owned(),
        speaks,
    })
}

fn by_number(word: &str) -> Option<Speaks> {
    let (layer, number) = word.split_once('/')?;
    match layer {
        "ip" => number.parse().ok().map(Speaks::Ip),
        "tcp" => number.parse().ok().map(Speaks::Tcp),
        "udp" => number.parse().ok().map(Speaks::Udp),
        _ => None,
    }
}

/// Packets a second, by class.
pub(super) fn punt(raw: &BTreeMap<String, i64>, problems: &mut Problems) -> Option<PuntRates> {
    let mut rates = PuntRates::default();
    let mut section = problems.section("punt");
    let mut right = true;
    for (name, &rate) in raw {
        let class = PuntClass::ALL.iter().find(|class| class.name() == name);
        let slot = match (class, name.as_str()) {
            (Some(class), _) => &mut rates.classes[class.index()],
            (None, "edge_routing") => &mut rates.edge_routing,
            (None, "total") => &mut rates.total,
            (None, _) => {
                let names: Vec<_> = PuntClass::ALL.iter().map(|class| class.name()).collect();
                let reason = format!(
                    "is not known here: write one of {}, edge_routing, total",
                    names.join(", ")
                );
                section.problems.add(format!("punt.{name}"), reason);
                right = false;
                continue;
            }
        };
        match section.number(name, rate, 1..=MOST_PACKETS) {
            Some(rate) => *slot = rate,
            None => right = false,
        }
    }
    right.then_some(rates)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use voicelane_dataplane::{
        policy::{DscpMap, KernelPolicy, Routing, Trust},
        session::Protocol,
    };

    use super::*;
    use crate::config::{Config, EXAMPLE};

    /// The example's router and ports with this behind them.
    fn with(text: &str) -> Result<Config, String> {
        let (ports, _) = EXAMPLE.split_once("[[rule]]").unwrap();
        let ports = ports.replace("police = {", "# police = {");
        let text = format!("{ports}\n{text}");
        Config::parse(Path::new("x"), &text, &[0]).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_nothing_is_believed() {
        let config = with("").unwrap();
        let KernelPolicy { trust, routing } = config.policy().kernel;
        assert_eq!(trust, Trust::Bleach);
        assert_eq!(routing, Routing::default());
        assert_eq!(config.punt, PuntRates::default());
        let routing: Vec<_> = config.ports.iter().map(|port| port.routing).collect();
        assert_eq!(routing, [false, true], "by role");
    }

    #[test]
    fn the_example_says_the_defaults_of_rates() {
        let config = Config::parse(Path::new("x"), EXAMPLE, &[0]).unwrap();
        assert_eq!(config.punt, PuntRates::default());
        let names: Vec<_> = config.kernel.names().collect();
        assert_eq!(names, ["bgp", "bfd", "ospf"]);
    }

    #[test]
    fn policy_and_rates_are_as_written() {
        let text = "[kernel]\ntrust = \"remark\"\nremark = { EF = \"AF41\" }\n\
                    routing = [\"bgp\", \"udp/9999\", \"ip/89\"]\n\
                    [punt]\nlocal = 50\nedge_routing = 7\ntotal = 99\n";
        let config = with(text).unwrap();
        let KernelPolicy { trust, routing } = config.policy().kernel;
        let map = DscpMap::IDENTITY.with("EF".parse().unwrap(), "AF41".parse().unwrap());
        assert_eq!(trust, Trust::Remark(map));
        assert!(routing.has(Protocol::TCP, Some((179, 1))));
        assert!(routing.has(Protocol::UDP, Some((1, 9999))));
        assert!(routing.has(Protocol(89), None));
        assert!(!routing.has(Protocol::UDP, Some((3784, 3784))));
        let punt = &config.punt;
        let local = punt.classes[PuntClass::Local.index()];
        assert_eq!((local, punt.edge_routing, punt.total), (50, 7, 99));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, problem) in [
            (
                "[kernel]\ntrust = \"no\"",
                "kernel.trust: \"no\" is not known here",
            ),
            ("[kernel]\ntrust = \"remark\"", "kernel.remark: is missing"),
            (
                "[kernel]\nrouting = [\"bpg\"]",
                "kernel.routing: \"bpg\" is no routing protocol",
            ),
            (
                "[kernel]\nrouting = [\"ip/256\"]",
                "kernel.routing: \"ip/256\" is no",
            ),
            ("[punt]\nlocal = 0", "punt.local: 0 is not between 1 and"),
            ("[punt]\nicmp = 5", "punt.icmp: is not known here"),
            ("[kernel]\ntrusts = 1", "unknown field"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
