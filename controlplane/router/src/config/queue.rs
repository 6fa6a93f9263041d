//! Sections `[port.queue.CLASS]`: how a port serves a class, where that is not RFC 4594's default.

use std::collections::BTreeMap;

use serde::Deserialize;
use voicelane_dataplane::{
    diffserv::{ClassSettings, CodelProfile, Management, Phb, Service, WredCurve, WredProfile},
    units::BitRate,
};

use super::{parse::Problems, values};

/// The sections of one port, by the class's name.
pub(super) type RawQueues = BTreeMap<String, RawQueue>;

/// One section, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    service: Option<String>,
    weight: Option<i64>,
    minimum: Option<String>,
    maximum: Option<String>,
    limit_ms: Option<i64>,
    limit_packets: Option<i64>,
    drop: Option<String>,
    wred: Option<RawWred>,
    target_us: Option<i64>,
    interval_us: Option<i64>,
    ecn: Option<bool>,
}

/// Minimum, maximum and probability in percent, for each drop precedence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWred {
    green: [i64; 3],
    yellow: [i64; 3],
    red: [i64; 3],
}

/// What all queues of a port have in common.
pub(super) struct PortRates {
    pub(super) rate: BitRate,
    pub(super) ef_budget: BitRate,
    pub(super) limit_ms: u32,
}

/// How a port at `path` serves each class.
pub(super) fn classes(
    path: &str,
    port: &PortRates,
    raw: &RawQueues,
    problems: &mut Problems,
) -> Option<[ClassSettings; Phb::COUNT]> {
    let mut right = true;
    for name in raw.keys() {
        if Phb::ALL.iter().all(|phb| phb.name() != name) {
            let names: Vec<_> = Phb::ALL.iter().map(|phb| phb.name()).collect();
            let reason = format!("there is no such class: write one of {}", names.join(", "));
            problems.add(format!("{path}.queue.{name}"), reason);
            right = false;
        }
    }
    let mut class_of = |phb: Phb| {
        let default = ClassSettings {
            limit_ms: port.limit_ms,
            ..ClassSettings::of(phb, port.rate)
        };
        match raw.get(phb.name()) {
            None => Some(default),
            Some(raw) => {
                let path = format!("{path}.queue.{}", phb.name());
                class(&path, port.rate, default, raw, problems)
            }
        }
    };
    // All of them, so that each mistake is named.
    let classes: Vec<_> = Phb::ALL.iter().map(|&phb| class_of(phb)).collect();
    let classes: Vec<_> = classes.into_iter().collect::<Option<_>>()?;
    let classes: [ClassSettings; Phb::COUNT] = classes.try_into().ok()?;
    if !right {
        return None;
    }
    let guaranteed = classes
        .iter()
        .filter(|class| class.service != Service::Strict)
        .filter_map(|class| class.minimum)
        .map(BitRate::bps)
        .sum::<u64>();
    if guaranteed + port.ef_budget.bps() > port.rate.bps() {
        let reason = format!(
            "the classes' minima ({guaranteed} bit/s) and ef_budget ({}) are more than the port's \
             rate ({}): nobody could keep such a promise; make some of them smaller",
            port.ef_budget, port.rate
        );
        problems.add(format!("{path}.queue"), reason);
        return None;
    }
    Some(classes)
}

fn class(
    path: &str,
    rate: BitRate,
    default: ClassSettings,
    raw: &RawQueue,
    problems: &mut Problems,
) -> Option<ClassSettings> {
    let key = |name: &str| format!("{path}.{name}");
    let service = service(path, default.service, raw, problems);
    let mut part = |name: &str, text: Option<&str>, default: Option<BitRate>| match text {
        None => Some(default),
        Some(text) => problems
            .keep(key(name), values::budget(text, rate))
            .map(Some),
    };
    let minimum = part("minimum", raw.minimum.as_deref(), default.minimum);
    let maximum = part("maximum", raw.maximum.as_deref(), default.maximum);
    if let (Some(Some(minimum)), Some(Some(maximum))) = (minimum, maximum)
        && minimum > maximum
    {
        let reason = format!("{maximum} is less than the minimum, {minimum}");
        problems.add(key("maximum"), reason);
        return None;
    }
    let limit_ms = raw.limit_ms.unwrap_or(default.limit_ms.into());
    let limit_ms = problems.keep(key("limit_ms"), values::bounded(limit_ms, 1, 10_000));
    let limit_packets = raw
        .limit_packets
        .map_or(Ok(default.limit_packets), |packets| {
            values::bounded(packets, 1, 65_536)
        });
    let limit_packets = problems.keep(key("limit_packets"), limit_packets);
    let management = management(path, default.management, raw, problems);
    let service = service?;
    if service == Service::Strict {
        if raw.minimum.is_some() {
            let reason = "strict priority needs none: ef_budget says how much it may take";
            problems.add(key("minimum"), reason);
            return None;
        }
        if management? != Management::TailDrop {
            let reason = "what has strict priority is admitted, not managed: write drop = \"tail\"";
            problems.add(key("drop"), reason);
            return None;
        }
    }
    Some(ClassSettings {
        service,
        minimum: minimum?.filter(|_| service != Service::Strict),
        maximum: maximum?,
        limit_ms: limit_ms?,
        limit_packets: limit_packets?,
        management: management?,
    })
}

fn service(
    path: &str,
    default: Service,
    raw: &RawQueue,
    problems: &mut Problems,
) -> Option<Service> {
    let weight = raw
        .weight
        .map(|weight| values::bounded::<u16>(weight, 1, 1_000));
    let weight = problems.keep(format!("{path}.weight"), weight.transpose())?;
    let written = match (raw.service.as_deref(), weight, default) {
        (None, None, default) => return Some(default),
        (None, Some(weight), Service::Weighted(_)) => return Some(Service::Weighted(weight)),
        (None, Some(_), _) => "",
        (Some(service), ..) => service,
    };
    let known = [
        ("strict", Service::Strict),
        ("weighted", Service::Weighted(0)),
        ("lower-effort", Service::LowerEffort),
    ];
    if written.is_empty() {
        let reason = "only weighted classes have one: write service = \"weighted\" beside it";
        problems.add(format!("{path}.weight"), reason);
        return None;
    }
    match problems.keep(format!("{path}.service"), values::word(written, &known))? {
        Service::Weighted(_) => match (weight, default) {
            (Some(weight), _) | (None, Service::Weighted(weight)) => {
                Some(Service::Weighted(weight))
            }
            (None, _) => {
                let reason = "is missing: a weighted class has one, such as weight = 10";
                problems.add(format!("{path}.weight"), reason);
                None
            }
        },
        Service::Strict | Service::LowerEffort if weight.is_some() => {
            let reason = format!("{written:?} has no weight: leave it out");
            problems.add(format!("{path}.weight"), reason);
            None
        }
        other => Some(other),
    }
}

fn management(
    path: &str,
    default: Management,
    raw: &RawQueue,
    problems: &mut Problems,
) -> Option<Management> {
    let key = |name: &str| format!("{path}.{name}");
    let kinds = [
        ("tail", Management::TailDrop),
        ("wred", Management::Wred(WredProfile::default())),
        ("codel", Management::Codel(CodelProfile::default())),
    ];
    let chosen = raw.drop.as_deref().map(|word| values::word(word, &kinds));
    let chosen = problems.keep(key("drop"), chosen.transpose())?;
    // The default of the class itself knows its rate.
    let same_kind =
        |chosen: &Management| std::mem::discriminant(chosen) == std::mem::discriminant(&default);
    let chosen = chosen
        .filter(|chosen| !same_kind(chosen))
        .unwrap_or(default);
    let mut only = |name: &str, given: bool, kind: &str| {
        if given {
            problems.add(
                key(name),
                format!("is of drop = {kind:?}: write that beside it"),
            );
        }
        !given
    };
    match chosen {
        Management::Wred(profile) => {
            let codel = raw.target_us.is_some() || raw.interval_us.is_some() || raw.ecn.is_some();
            only("target_us", codel, "codel").then_some(())?;
            match &raw.wred {
                None => Some(Management::Wred(profile)),
                Some(raw) => wred(&key("wred"), raw, problems).map(Management::Wred),
            }
        }
        Management::Codel(profile) => {
            only("wred", raw.wred.is_some(), "wred").then_some(())?;
            let us = |value: Option<i64>, default: u32| {
                value.map_or(Ok(default), |us| values::bounded(us, 1, 10_000_000))
            };
            let target = problems.keep(key("target_us"), us(raw.target_us, profile.target_us));
            let interval =
                problems.keep(key("interval_us"), us(raw.interval_us, profile.interval_us));
            Some(Management::Codel(CodelProfile {
                target_us: target?,
                interval_us: interval?,
                ecn: raw.ecn.unwrap_or(profile.ecn),
            }))
        }
        Management::TailDrop => {
            let codel = raw.target_us.is_some() || raw.interval_us.is_some() || raw.ecn.is_some();
            let right =
                only("target_us", codel, "codel") & only("wred", raw.wred.is_some(), "wred");
            right.then_some(Management::TailDrop)
        }
    }
}

fn wred(path: &str, raw: &RawWred, problems: &mut Problems) -> Option<WredProfile> {
    let mut curve = |name: &str, raw: [i64; 3]| {
        let percents = raw.map(|percent| values::bounded::<u8>(percent, 0, 100).ok());
        match percents {
            [
                Some(minimum_percent),
                Some(maximum_percent),
                Some(drop_percent),
            ] if minimum_percent < maximum_percent => Some(WredCurve {
                minimum_percent,
                maximum_percent,
                drop_percent,
            }),
            _ => {
                let reason = format!(
                    "{raw:?} is no curve: write [minimum, maximum, probability] in percent, the \
                     minimum below the maximum, such as [30, 60, 100]"
                );
                problems.add(format!("{path}.{name}"), reason);
                None
            }
        }
    };
    let curves = [
        curve("green", raw.green),
        curve("yellow", raw.yellow),
        curve("red", raw.red),
    ];
    let [Some(green), Some(yellow), Some(red)] = curves else {
        return None;
    };
    Some(WredProfile {
        curves: [green, yellow, red],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<[ClassSettings; Phb::COUNT], String> {
        let raw: RawQueues = toml::from_str(text).map_err(|error| error.to_string())?;
        let rate: BitRate = "10Mbit/s".parse().unwrap();
        let port = PortRates {
            rate,
            ef_budget: rate.percent(50),
            limit_ms: 80,
        };
        let mut problems = Problems::default();
        let classes = classes("port.wan", &port, &raw, &mut problems);
        classes.ok_or_else(|| problems.into_error("r.toml".into()).to_string())
    }

    fn of(text: &str, phb: Phb) -> ClassSettings {
        parse(text).unwrap()[phb.index()]
    }

    #[test]
    fn what_is_not_written_is_the_default() {
        let rate: BitRate = "10Mbit/s".parse().unwrap();
        for (class, phb) in parse("").unwrap().into_iter().zip(Phb::ALL) {
            let default = ClassSettings::of(phb, rate);
            assert_eq!(
                class,
                ClassSettings {
                    limit_ms: 80,
                    ..default
                }
            );
        }
        let class = of("[standard]\nweight = 30\nlimit_ms = 20", Phb::Standard);
        assert_eq!((class.service, class.limit_ms), (Service::Weighted(30), 20));
        assert_eq!(
            class.management,
            ClassSettings::of(Phb::Standard, rate).management
        );
    }

    #[test]
    fn everything_can_be_written() {
        let text = "[signalling]\nservice = \"strict\"\nmaximum = \"500kbit/s\"\nlimit_packets = 9\n\
                    [oam]\nminimum = \"2%\"\ndrop = \"tail\"\n\
                    [standard]\ntarget_us = 7000\ninterval_us = 90000\necn = false\n\
                    [low-latency-data.wred]\ngreen = [50, 90, 10]\nyellow = [20, 50, 50]\nred = [0, 20, 100]";
        let signalling = of(text, Phb::Signalling);
        assert_eq!(signalling.service, Service::Strict);
        assert_eq!(signalling.maximum.unwrap().bps(), 500_000);
        assert_eq!(signalling.limit_packets, 9);
        assert_eq!(of(text, Phb::Oam).minimum.unwrap().bps(), 200_000);
        assert_eq!(of(text, Phb::Oam).management, Management::TailDrop);
        let codel = CodelProfile {
            target_us: 7_000,
            interval_us: 90_000,
            ecn: false,
        };
        assert_eq!(of(text, Phb::Standard).management, Management::Codel(codel));
        let Management::Wred(wred) = of(text, Phb::LowLatencyData).management else {
            panic!("wred")
        };
        assert_eq!(wred.curves[2].maximum_percent, 20);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            (
                "[voice]\nweight = 3",
                "port.wan.queue.voice: there is no such class",
            ),
            ("[standard]\nweight = 0", "queue.standard.weight"),
            ("[telephony]\nweight = 3", "service = \"weighted\""),
            ("[telephony]\nservice = \"weighted\"", "weight = 10"),
            ("[standard]\nservice = \"strict\"\nweight = 3", "no weight"),
            ("[standard]\nservice = \"best\"", "\"lower-effort\""),
            ("[telephony]\nminimum = \"1Mbit/s\"", "ef_budget"),
            ("[telephony]\ndrop = \"codel\"", "drop = \"tail\""),
            ("[oam]\nminimum = \"fast\"", "queue.oam.minimum"),
            (
                "[oam]\nminimum = \"2Mbit/s\"\nmaximum = \"1Mbit/s\"",
                "less than the minimum",
            ),
            ("[oam]\nminimum = \"6Mbit/s\"", "such a promise"),
            ("[oam]\ndrop = \"random\"", "\"codel\""),
            (
                "[oam]\nwred = { green = [1, 2, 3], yellow = [1, 2, 3], red = [1, 2, 3] }",
                "drop = \"wred\"",
            ),
            ("[signalling]\necn = true", "drop = \"codel\""),
            (
                "[low-latency-data.wred]\ngreen = [60, 50, 10]\nyellow = [1, 2, 3]\nred = [1, 2, 3]",
                "wred.green",
            ),
            ("[oam]\nlimit_ms = 0", "queue.oam.limit_ms"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
