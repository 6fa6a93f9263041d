//! Sections `[port.queue.CLASS]`: how a port serves a class, where that is not RFC 4594's default.

use std::collections::BTreeMap;

use serde::Deserialize;
use voicelane_dataplane::{
    diffserv::{ClassSettings, CodelProfile, Management, Phb, Service, WredCurve, WredProfile},
    units::BitRate,
};

use super::{
    problems::{Problems, Section},
    values,
};

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
    let mut section = problems.section(format!("{path}.queue"));
    let mut right = true;
    for name in raw.keys() {
        if Phb::ALL.iter().all(|phb| phb.name() != name) {
            let names: Vec<_> = Phb::ALL.iter().map(|phb| phb.name()).collect();
            let reason = format!("there is no such class: write one of {}", names.join(", "));
            section.wrong::<()>(name, reason);
            right = false;
        }
    }
    let class_of = |phb: Phb| {
        let default = ClassSettings {
            limit_ms: port.limit_ms,
            ..ClassSettings::of(phb, port.rate)
        };
        let Some(raw) = raw.get(phb.name()) else {
            return Some(default);
        };
        let mut section = section
            .problems
            .section(format!("{path}.queue.{}", phb.name()));
        class(port.rate, default, raw, &mut section)
    };
    // All of them, so that each mistake is named.
    let classes: Vec<_> = Phb::ALL.iter().copied().map(class_of).collect();
    let classes: Vec<_> = classes.into_iter().collect::<Option<_>>()?;
    let classes: [ClassSettings; Phb::COUNT] = classes.try_into().ok()?;
    if !right {
        return None;
    }
    let weighted = classes.iter().filter(|it| it.service != Service::Strict);
    let minima = weighted.filter_map(|class| class.minimum);
    let guaranteed: u64 = minima.map(BitRate::bps).sum();
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
    rate: BitRate,
    default: ClassSettings,
    raw: &RawQueue,
    section: &mut Section<'_>,
) -> Option<ClassSettings> {
    let service = service(default.service, raw, section);
    let mut part = |name: &str, text: Option<&str>, default: Option<BitRate>| match text {
        None => Some(default),
        Some(text) => section.keep(name, values::budget(text, rate)).map(Some),
    };
    let minimum = part("minimum", raw.minimum.as_deref(), default.minimum);
    let maximum = part("maximum", raw.maximum.as_deref(), default.maximum);
    if let (Some(Some(minimum)), Some(Some(maximum))) = (minimum, maximum)
        && minimum > maximum
    {
        let reason = format!("{maximum} is less than the minimum, {minimum}");
        return section.wrong("maximum", reason);
    }
    let limit_ms = raw.limit_ms.unwrap_or(default.limit_ms.into());
    let limit_ms = section.number("limit_ms", limit_ms, 1..=10_000);
    let limit_packets = match raw.limit_packets {
        None => Some(default.limit_packets),
        Some(packets) => section.number("limit_packets", packets, 1..=65_536),
    };
    let management = management(default.management, raw, section);
    let service = service?;
    if service == Service::Strict {
        if raw.minimum.is_some() {
            let reason = "strict priority needs none: ef_budget says how much it may take";
            return section.wrong("minimum", reason);
        }
        if management? != Management::TailDrop {
            let reason = "what has strict priority is admitted, not managed: write drop = \"tail\"";
            return section.wrong("drop", reason);
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

fn service(default: Service, raw: &RawQueue, section: &mut Section<'_>) -> Option<Service> {
    let weight: Option<u16> = match raw.weight {
        None => None,
        Some(weight) => Some(section.number("weight", weight, 1..=1_000)?),
    };
    let words = [
        ("strict", Service::Strict),
        ("weighted", Service::Weighted(0)),
        ("lower-effort", Service::LowerEffort),
    ];
    let written = match &raw.service {
        None => None,
        Some(word) => Some(section.word("service", word, &words)?),
    };
    match (written.unwrap_or(default), weight, default) {
        (Service::Weighted(_), Some(weight), _)
        | (Service::Weighted(_), None, Service::Weighted(weight)) => {
            Some(Service::Weighted(weight))
        }
        (Service::Weighted(_), None, _) => {
            let reason = "is missing: a weighted class has one, such as weight = 10";
            section.wrong("weight", reason)
        }
        (other, None, _) => Some(other),
        (_, Some(_), _) => match &raw.service {
            Some(word) => section.wrong("weight", format!("{word:?} has no weight: leave it out")),
            None => section.wrong(
                "weight",
                "only weighted classes have one: write service = \"weighted\" beside it",
            ),
        },
    }
}

fn management(
    default: Management,
    raw: &RawQueue,
    section: &mut Section<'_>,
) -> Option<Management> {
    let kinds = [
        ("tail", Management::TailDrop),
        ("wred", Management::Wred(WredProfile::default())),
        ("codel", Management::Codel(CodelProfile::default())),
    ];
    let written = match &raw.drop {
        None => default,
        Some(word) => section.word("drop", word, &kinds)?,
    };
    // The default of the class itself knows its rate.
    let same_kind = std::mem::discriminant(&written) == std::mem::discriminant(&default);
    let chosen = if same_kind { default } else { written };
    let codel = raw.target_us.is_some() || raw.interval_us.is_some() || raw.ecn.is_some();
    let of_others = [
        (
            "target_us",
            codel && !matches!(chosen, Management::Codel(_)),
            "codel",
        ),
        (
            "wred",
            raw.wred.is_some() && !matches!(chosen, Management::Wred(_)),
            "wred",
        ),
    ];
    let wrong = of_others.into_iter().filter(|(_, wrong, _)| *wrong);
    let wrong = wrong.map(|(key, _, kind)| {
        let reason = format!("is of drop = {kind:?}: write that beside it");
        section.wrong::<()>(key, reason)
    });
    if wrong.count() > 0 {
        return None;
    }
    match chosen {
        Management::Wred(profile) => match &raw.wred {
            None => Some(Management::Wred(profile)),
            Some(raw) => wred(raw, section).map(Management::Wred),
        },
        Management::Codel(profile) => {
            let mut us = |key, value: Option<i64>, default: u32| {
                section.number(key, value.unwrap_or(default.into()), 1..=10_000_000)
            };
            let target = us("target_us", raw.target_us, profile.target_us);
            let interval = us("interval_us", raw.interval_us, profile.interval_us);
            Some(Management::Codel(CodelProfile {
                target_us: target?,
                interval_us: interval?,
                ecn: raw.ecn.unwrap_or(profile.ecn),
            }))
        }
        Management::TailDrop => Some(Management::TailDrop),
    }
}

fn wred(raw: &RawWred, section: &mut Section<'_>) -> Option<WredProfile> {
    let mut curve = |name: &str, raw: [i64; 3]| {
        let percents = raw.map(|percent| u8::try_from(percent).ok().filter(|it| *it <= 100));
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
                section.wrong(&format!("wred.{name}"), reason)
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
        classes.ok_or_else(|| problems.into_error("r.toml".into(), "").to_string())
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
