//! Rules and meters.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
};

use ipnet::IpNet;
use voicelane_dataplane::{
    diffserv::{
        ColourAction, ColourMode, Dscp, Marking, MeterError, MeterKind, MeterProfile, MeterSpec,
        Phb,
    },
    policy::{Action, MAX_RULES, Match, Metering, Prefix, Rule},
    session::Protocol,
    units::{BitRate, InterfaceIndex, TickRate},
};

use super::{Problems, values};
use crate::config::{
    PoliceConfig, RuleConfig,
    raw::{RawMeter, RawRule},
    words::Words,
};

/// The most values that a field of a rule has: they bound what compiling the rules costs.
const MAX_VALUES: usize = 16;

/// Meters by their names; nothing for one that is wrong, which is said once.
pub(super) type Meters = HashMap<String, Option<Metering>>;

/// The sections `[meter.NAME]`.
pub(super) fn meters(raw: &BTreeMap<String, RawMeter>, problems: &mut Problems) -> Meters {
    let named = raw.iter().map(|(name, meter)| {
        let path = format!("meter.{name}");
        if let Err(reason) = values::name(name) {
            problems.add(path.as_str(), reason);
        }
        (name.clone(), self::meter(&path, meter, problems))
    });
    named.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    SrTcm,
    TrTcm,
    Rfc4115,
}

fn meter(path: &str, raw: &RawMeter, problems: &mut Problems) -> Option<Metering> {
    let key = |name: &str| format!("{path}.{name}");
    let kinds = [
        ("srtcm", Kind::SrTcm),
        ("trtcm", Kind::TrTcm),
        ("rfc4115", Kind::Rfc4115),
    ];
    let kind = problems.keep(key("type"), values::word(&raw.kind, &kinds));
    let cir = problems.keep(key("cir"), raw.cir.parse::<BitRate>());
    let mode = [("blind", ColourMode::Blind), ("aware", ColourMode::Aware)];
    let mode = values::word(raw.colour.as_deref().unwrap_or("blind"), &mode);
    let mode = problems.keep(key("colour"), mode);
    let mut action = |name: &str, text: &Option<String>, default| match text {
        Some(text) => problems.keep(key(name), colour_action(text)),
        None => Some(default),
    };
    let green = action("green", &raw.green, ColourAction::Keep);
    let yellow = action("yellow", &raw.yellow, ColourAction::Keep);
    let red = action("red", &raw.red, ColourAction::Drop);
    let kind = kind?;
    let mut peak = |name: &str, text: &Option<String>, wanted: bool| match (text, wanted) {
        (Some(text), true) => problems.keep(key(name), text.parse::<BitRate>()),
        (None, true) => {
            let reason = format!(
                "is missing: type {:?} needs it, such as \"2Mbit/s\"",
                raw.kind
            );
            problems.add(key(name), reason);
            None
        }
        (Some(_), false) => {
            let reason = format!("type {:?} does not have it: leave it out", raw.kind);
            problems.add(key(name), reason);
            None
        }
        (None, false) => None,
    };
    let pir = peak("pir", &raw.pir, kind == Kind::TrTcm);
    let eir = peak("eir", &raw.eir, kind == Kind::Rfc4115);
    let mut size = |name, bytes, ms, rate| burst(path, name, (bytes, ms), rate, problems);
    let cbs_bytes = size("cbs", raw.cbs, raw.cbs_ms, cir);
    let (second, name, rate) = match kind {
        Kind::SrTcm => (
            (
                raw.ebs.or(Some(0).filter(|_| raw.ebs_ms.is_none())),
                raw.ebs_ms,
            ),
            "ebs",
            cir,
        ),
        Kind::TrTcm => ((raw.pbs, raw.pbs_ms), "pbs", pir),
        Kind::Rfc4115 => ((raw.ebs, raw.ebs_ms), "ebs", eir),
    };
    let second = size(name, second.0, second.1, rate);
    for (name, there) in [
        ("ebs", raw.ebs.is_some() || raw.ebs_ms.is_some()),
        ("pbs", raw.pbs.is_some() || raw.pbs_ms.is_some()),
    ] {
        if there && (name == "ebs") == (kind == Kind::TrTcm) {
            let reason = format!("type {:?} does not have it: leave it out", raw.kind);
            problems.add(key(name), reason);
        }
    }
    let kind = match kind {
        Kind::SrTcm => MeterKind::SrTcm { ebs_bytes: second? },
        Kind::TrTcm => MeterKind::TrTcm {
            pir: pir?,
            pbs_bytes: second?,
        },
        Kind::Rfc4115 => MeterKind::Rfc4115 {
            eir: eir?,
            ebs_bytes: second?,
        },
    };
    let spec = MeterSpec {
        kind,
        cir: cir?,
        cbs_bytes: cbs_bytes?,
        mode: mode?,
    };
    // What the fastest clock holds, every clock holds.
    if let Err(error) = MeterProfile::new(&spec, TickRate::from_hz(u64::MAX)) {
        let name = match error {
            MeterError::NoBurst => "cbs".to_owned(),
            MeterError::PeakUnderCommitted { .. } => "pir".to_owned(),
            MeterError::Burst { name, .. } => name.to_lowercase(),
        };
        problems.add(key(&name), error);
        return None;
    }
    let marking = Marking {
        green: green?,
        yellow: yellow?,
        red: red?,
    };
    Some(Metering { spec, marking })
}

/// A burst, in bytes or as the time that the rate needs for it.
fn burst(
    path: &str,
    name: &str,
    written: (Option<i64>, Option<i64>),
    rate: Option<BitRate>,
    problems: &mut Problems,
) -> Option<u32> {
    let key = format!("{path}.{name}");
    let most = i64::from(u32::MAX);
    match written {
        (Some(bytes), None) => problems.keep(key, values::bounded(bytes, 0, most)),
        (None, Some(ms)) => {
            let key = format!("{key}_ms");
            let ms: u64 = problems.keep(key.as_str(), values::bounded(ms, 1, 60_000))?;
            let bytes = u32::try_from(rate?.bytes_in_ms(ms));
            problems.keep(key, bytes.map_err(|_| "is over 4 GB: write less"))
        }
        (None, None) => {
            let reason = format!(
                "is missing: write {name} = BYTES, or {name}_ms = the time that its rate needs for them"
            );
            problems.add(key, reason);
            None
        }
        (Some(_), Some(_)) => {
            let reason = format!("is written twice: write {name} or {name}_ms");
            problems.add(key, reason);
            None
        }
    }
}

fn colour_action(text: &str) -> Result<ColourAction, String> {
    match text {
        "keep" => Ok(ColourAction::Keep),
        "drop" => Ok(ColourAction::Drop),
        other => other
            .parse()
            .map(ColourAction::Mark)
            .map_err(|error| format!("{error}; or \"keep\" or \"drop\"")),
    }
}

/// The table `police` of an interface.
pub(super) fn police(
    path: &str,
    raw: &BTreeMap<String, String>,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<Vec<PoliceConfig>> {
    let mut all = Some(Vec::new());
    for (class, meter) in raw {
        let key = format!("{path}.police");
        let phbs = Phb::ALL.map(|phb| (phb.name(), phb));
        let phb = problems.keep(key.as_str(), values::word(class, &phbs));
        let metering = metering(&key, meter, meters, problems);
        all = all
            .zip(phb.zip(metering))
            .map(|(mut all, (phb, metering))| {
                all.push(PoliceConfig {
                    phb,
                    meter: meter.clone(),
                    metering,
                });
                all
            });
    }
    all
}

/// The meter of a name.
fn metering(key: &str, name: &str, meters: &Meters, problems: &mut Problems) -> Option<Metering> {
    if let Some(meter) = meters.get(name) {
        return *meter;
    }
    let reason = format!("there is no meter {name:?}: write a section [meter.{name}]");
    problems.add(key, reason);
    None
}

/// The sections `[[rule]]`, in their order.
pub(super) fn rules(
    raw: &[RawRule],
    interfaces: &HashMap<String, InterfaceIndex>,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<Vec<RuleConfig>> {
    if raw.len() > MAX_RULES {
        let reason = format!("there are {} rules: write at most {MAX_RULES}", raw.len());
        problems.add("rule", reason);
    }
    let mut seen = HashMap::new();
    let rules: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            let name = values::name(&raw.name);
            let path = match &name {
                Ok(name) => format!("rule.{name}"),
                Err(_) => format!("rule[{index}]"),
            };
            let name = problems.keep(format!("{path}.name"), name);
            if let Some(other) = seen.insert(&raw.name, index) {
                let reason = format!("rule[{other}] has this name, too: give each another one");
                problems.add(format!("{path}.name"), reason);
            }
            rule(&path, name, raw, interfaces, meters, problems)
        })
        .collect();
    rules.into_iter().collect()
}

fn rule(
    path: &str,
    name: Option<String>,
    raw: &RawRule,
    interfaces: &HashMap<String, InterfaceIndex>,
    meters: &Meters,
    problems: &mut Problems,
) -> Option<RuleConfig> {
    let key = |name: &str| format!("{path}.{name}");
    let interface = |name: &str| {
        interfaces.get(name).copied().ok_or_else(|| {
            let mut names: Vec<_> = interfaces.keys().map(String::as_str).collect();
            names.sort_unstable();
            format!(
                "there is no interface {name:?}: write one of {}",
                names.join(", ")
            )
        })
    };
    let interfaces = each(key("interface"), &raw.interface, interface, problems);
    let sources = each(key("source"), &raw.source, prefix, problems);
    let destinations = each(key("destination"), &raw.destination, prefix, problems);
    let protocols = each(key("protocol"), &raw.protocol, protocol, problems);
    let source_ports = each(key("source_port"), &raw.source_port, ports, problems);
    let destination_ports = each(
        key("destination_port"),
        &raw.destination_port,
        ports,
        problems,
    );
    let dscps = each(key("dscp"), &raw.dscp, dscp, problems);
    let action = match (raw.mark.as_deref(), raw.drop.unwrap_or(false)) {
        (Some("keep"), false) => Some(Action::Keep),
        (Some(mark), false) => {
            let mark = mark.parse().map(Action::Mark);
            let mark = mark.map_err(|error| format!("{error}; or \"keep\""));
            problems.keep(key("mark"), mark)
        }
        (None, true) => Some(Action::Drop),
        (Some(_), true) => {
            problems.add(
                key("drop"),
                "what is dropped is not marked: write one of the two",
            );
            None
        }
        (None, false) => {
            let reason = "is missing: write what becomes of the packets: mark = \"CS5\" (or another \
                          code point), mark = \"keep\", or drop = true";
            problems.add(key("mark"), reason);
            None
        }
    };
    let meter = match &raw.meter {
        None => Some(None),
        Some(_) if action == Some(Action::Drop) => {
            let reason = "what is dropped is not metered: leave it out";
            problems.add(key("meter"), reason);
            None
        }
        Some(meter) => metering(&key("meter"), meter, meters, problems).map(Some),
    };
    let matches = Match {
        interfaces: interfaces?,
        sources: sources?,
        destinations: destinations?,
        protocols: protocols?,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
        dscps: dscps?,
    };
    possible(path, &matches, raw, problems)?;
    let rule = Rule {
        name: name?,
        matches,
        action: action?,
        meter: meter?,
    };
    Some(RuleConfig {
        rule,
        meter: raw.meter.clone(),
    })
}

/// What no packet can be, the operator did not mean.
fn possible(path: &str, matches: &Match, raw: &RawRule, problems: &mut Problems) -> Option<()> {
    let has_ports = !matches.source_ports.is_empty() || !matches.destination_ports.is_empty();
    let with_ports = [Protocol::UDP, Protocol::TCP];
    if has_ports
        && !matches.protocols.is_empty()
        && !matches.protocols.iter().any(|one| with_ports.contains(one))
    {
        let reason = "only udp and tcp have ports: name one of them, or leave the ports out";
        problems.add(format!("{path}.protocol"), reason);
        return None;
    }
    let is_ipv6 = |text: &String| text.contains(':');
    let (from, to) = (&raw.source.0, &raw.destination.0);
    if let (Some(first), false) = (from.first(), to.is_empty()) {
        let one_family = |all: &[String]| all.iter().all(|text| is_ipv6(text) == is_ipv6(first));
        if one_family(from) && !to.iter().any(|text| is_ipv6(text) == is_ipv6(first)) {
            let reason = "is of another family than the source: no packet has both";
            problems.add(format!("{path}.destination"), reason);
            return None;
        }
    }
    Some(())
}

/// Each word of a field.
fn each<T>(
    key: String,
    Words(words): &Words,
    value: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Option<Vec<T>> {
    if words.len() > MAX_VALUES {
        let reason = format!(
            "has {} values: write at most {MAX_VALUES}, or two rules",
            words.len()
        );
        problems.add(key, reason);
        return None;
    }
    let values: Vec<_> = words
        .iter()
        .map(|word| problems.keep(key.as_str(), value(word)))
        .collect();
    values.into_iter().collect()
}

fn dscp(text: &str) -> Result<Dscp, String> {
    text.parse()
        .map_err(|error: voicelane_dataplane::diffserv::UnknownDscp| error.to_string())
}

/// A network, or an address alone.
fn prefix(text: &str) -> Result<Prefix, String> {
    let wanted = "write a network such as \"10.1.0.0/16\" or \"2001:db8:1::/48\", or an address";
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse()
            .map_err(|_| format!("{text:?} is no prefix: {wanted}"))?,
    };
    if net != net.trunc() {
        let network = net.trunc();
        return Err(format!(
            "{text:?} names a host in a network: write {network}"
        ));
    }
    Prefix::new(net.addr(), net.prefix_len()).ok_or_else(|| format!("{text:?}: {wanted}"))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "udp" => Ok(Protocol::UDP),
        "tcp" => Ok(Protocol::TCP),
        "icmp" => Ok(Protocol::ICMP),
        "icmp6" => Ok(Protocol::ICMP_V6),
        number => number.parse().map(Protocol).map_err(|_| {
            format!(
                "{text:?} is no protocol: write \"udp\", \"tcp\", \"icmp\", \"icmp6\", or a number \
                 from 0 to 255"
            )
        }),
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wanted = "write a port such as \"5060\", or a range such as \"5060-5061\"";
    let port = |text: &str| {
        text.trim()
            .parse::<u16>()
            .map_err(|_| format!("{text:?} is no port: {wanted}"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("{text:?} ends before it begins: {wanted}"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests;
