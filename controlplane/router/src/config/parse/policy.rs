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

use crate::config::{
    PoliceConfig, RuleConfig,
    problems::{Problems, Section},
    raw::{RawMeter, RawRule},
    values,
    words::Words,
};

/// The most values that a field of a rule has: they bound what compiling the rules costs.
const MAX_VALUES: usize = 16;

/// Meters by their names; `None` for one that is wrong, which is said once.
pub(super) type Meters = HashMap<String, Option<Metering>>;

/// The sections `[meter.NAME]`.
pub(super) fn meters(raw: &BTreeMap<String, RawMeter>, problems: &mut Problems) -> Meters {
    let named = raw.iter().map(|(name, meter)| {
        let path = format!("meter.{name}");
        if let Err(reason) = values::name(name) {
            problems.add(path.as_str(), reason);
        }
        let mut section = problems.section(path);
        (name.clone(), self::meter(meter, &mut section))
    });
    named.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    SrTcm,
    TrTcm,
    Rfc4115,
}

fn meter(raw: &RawMeter, section: &mut Section<'_>) -> Option<Metering> {
    let kinds = [
        ("srtcm", Kind::SrTcm),
        ("trtcm", Kind::TrTcm),
        ("rfc4115", Kind::Rfc4115),
    ];
    let kind = section.word("type", &raw.kind, &kinds);
    let cir = section.parse("cir", &raw.cir);
    let modes = [("blind", ColourMode::Blind), ("aware", ColourMode::Aware)];
    let mode = section.word("colour", raw.colour.as_deref().unwrap_or("blind"), &modes);
    let mut action = |name: &str, text: &Option<String>, default| match text {
        Some(text) => section.keep(name, colour_action(text)),
        None => Some(default),
    };
    let green = action("green", &raw.green, ColourAction::Keep);
    let yellow = action("yellow", &raw.yellow, ColourAction::Keep);
    let red = action("red", &raw.red, ColourAction::Drop);
    let kind = kind?;
    let superfluous = format!("type {:?} does not have it: leave it out", raw.kind);
    let mut peak = |name: &str, text: &Option<String>, wanted: bool| match (text, wanted) {
        (Some(text), true) => section.parse::<BitRate>(name, text),
        (None, true) => {
            let kind = &raw.kind;
            let reason = format!("is missing: type {kind:?} needs it, such as \"2Mbit/s\"");
            section.wrong(name, reason)
        }
        (Some(_), false) => section.wrong(name, &superfluous),
        (None, false) => None,
    };
    let pir = peak("pir", &raw.pir, kind == Kind::TrTcm);
    let eir = peak("eir", &raw.eir, kind == Kind::Rfc4115);
    let cbs_bytes = burst("cbs", (raw.cbs, raw.cbs_ms), cir, section);
    let (ebs, pbs) = ((raw.ebs, raw.ebs_ms), (raw.pbs, raw.pbs_ms));
    let second = match kind {
        // RFC 2697 allows an excess burst of 0.
        Kind::SrTcm if ebs == (None, None) => Some(0),
        Kind::SrTcm => burst("ebs", ebs, cir, section),
        Kind::TrTcm => burst("pbs", pbs, pir, section),
        Kind::Rfc4115 => burst("ebs", ebs, eir, section),
    };
    let (other, written) = match kind {
        Kind::TrTcm => ("ebs", ebs),
        Kind::SrTcm | Kind::Rfc4115 => ("pbs", pbs),
    };
    if written != (None, None) {
        section.wrong::<()>(other, &superfluous);
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
        return section.wrong(&name, error);
    }
    let marking = Marking {
        green: green?,
        yellow: yellow?,
        red: red?,
    };
    Some(Metering { spec, marking })
}

/// A burst, written in bytes or as the time that the rate needs for it.
fn burst(
    name: &str,
    written: (Option<i64>, Option<i64>),
    rate: Option<BitRate>,
    section: &mut Section<'_>,
) -> Option<u32> {
    match written {
        (Some(bytes), None) => section.number(name, bytes, 0..=u32::MAX.into()),
        (None, Some(ms)) => {
            let key = format!("{name}_ms");
            let ms: u64 = section.number(&key, ms, 1..=60_000)?;
            let bytes = u32::try_from(rate?.bytes_in_ms(ms));
            section.keep(&key, bytes.map_err(|_| "is over 4 GB: write less"))
        }
        (None, None) => {
            let reason = format!(
                "is missing: write {name} = BYTES, or {name}_ms = the time that its rate needs for them"
            );
            section.wrong(name, reason)
        }
        (Some(_), Some(_)) => {
            let reason = format!("is written twice: write {name} or {name}_ms");
            section.wrong(name, reason)
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
    raw: &BTreeMap<String, String>,
    meters: &Meters,
    section: &mut Section<'_>,
) -> Option<Vec<PoliceConfig>> {
    let phbs = Phb::ALL.map(|phb| (phb.name(), phb));
    let all: Vec<_> = raw
        .iter()
        .map(|(class, meter)| {
            let phb = section.word("police", class, &phbs);
            let metering = metering("police", meter, meters, section);
            Some(PoliceConfig {
                phb: phb?,
                meter: meter.clone(),
                metering: metering?,
            })
        })
        .collect();
    all.into_iter().collect()
}

/// The meter of a name.
fn metering(key: &str, name: &str, meters: &Meters, section: &mut Section<'_>) -> Option<Metering> {
    if let Some(meter) = meters.get(name) {
        return *meter;
    }
    let reason = format!("there is no meter {name:?}: write a section [meter.{name}]");
    section.wrong(key, reason)
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
            let mut section = problems.section(path);
            let name = section.keep("name", name);
            if let Some(other) = seen.insert(&raw.name, index) {
                let reason = format!("rule[{other}] has this name, too: give each another one");
                section.wrong::<()>("name", reason);
            }
            rule(name, raw, interfaces, meters, &mut section)
        })
        .collect();
    rules.into_iter().collect()
}

fn rule(
    name: Option<String>,
    raw: &RawRule,
    interfaces: &HashMap<String, InterfaceIndex>,
    meters: &Meters,
    section: &mut Section<'_>,
) -> Option<RuleConfig> {
    let interface = |name: &str| {
        interfaces.get(name).copied().ok_or_else(|| {
            let mut names: Vec<_> = interfaces.keys().map(String::as_str).collect();
            names.sort_unstable();
            let names = names.join(", ");
            format!("there is no interface {name:?}: write one of {names}")
        })
    };
    let interfaces = each("interface", &raw.interface, interface, section);
    let sources = each("source", &raw.source, prefix, section);
    let destinations = each("destination", &raw.destination, prefix, section);
    let protocols = each("protocol", &raw.protocol, protocol, section);
    let source_ports = each("source_port", &raw.source_port, ports, section);
    let destination_ports = each("destination_port", &raw.destination_port, ports, section);
    let dscps = each("dscp", &raw.dscp, dscp, section);
    let action = match (raw.mark.as_deref(), raw.drop.unwrap_or(false)) {
        (Some("keep"), false) => Some(Action::Keep),
        (Some(mark), false) => {
            let mark = mark.parse().map(Action::Mark);
            section.keep(
                "mark",
                mark.map_err(|error| format!("{error}; or \"keep\"")),
            )
        }
        (None, true) => Some(Action::Drop),
        (Some(_), true) => {
            let reason = "what is dropped is not marked: write one of the two";
            section.wrong("drop", reason)
        }
        (None, false) => section.wrong(
            "mark",
            "is missing: write what becomes of the packets: mark = \"CS5\" (or another \
             code point), mark = \"keep\", or drop = true",
        ),
    };
    let meter = match &raw.meter {
        None => Some(None),
        Some(_) if action == Some(Action::Drop) => {
            section.wrong("meter", "what is dropped is not metered: leave it out")
        }
        Some(meter) => metering("meter", meter, meters, section).map(Some),
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
    possible(&matches, raw, section)?;
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
fn possible(matches: &Match, raw: &RawRule, section: &mut Section<'_>) -> Option<()> {
    let has_ports = !matches.source_ports.is_empty() || !matches.destination_ports.is_empty();
    let with_ports = [Protocol::UDP, Protocol::TCP];
    if has_ports
        && !matches.protocols.is_empty()
        && !matches.protocols.iter().any(|one| with_ports.contains(one))
    {
        let reason = "only udp and tcp have ports: name one of them, or leave the ports out";
        return section.wrong("protocol", reason);
    }
    let is_ipv6 = |text: &String| text.contains(':');
    let (from, to) = (&raw.source.0, &raw.destination.0);
    if let (Some(first), false) = (from.first(), to.is_empty()) {
        let one_family = |all: &[String]| all.iter().all(|text| is_ipv6(text) == is_ipv6(first));
        if one_family(from) && !to.iter().any(|text| is_ipv6(text) == is_ipv6(first)) {
            let reason = "is of another family than the source: no packet has both";
            return section.wrong("destination", reason);
        }
    }
    Some(())
}

/// Each word of a field.
fn each<T>(
    key: &str,
    Words(words): &Words,
    value: impl Fn(&str) -> Result<T, String>,
    section: &mut Section<'_>,
) -> Option<Vec<T>> {
    let count = words.len();
    if count > MAX_VALUES {
        let reason = format!("has {count} values: write at most {MAX_VALUES}, or two rules");
        return section.wrong(key, reason);
    }
    let values: Vec<_> = words
        .iter()
        .map(|word| section.keep(key, value(word)))
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
