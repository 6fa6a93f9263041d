//! What the measurement must show.

use voicelane_types::BitRate;

use super::{
    ClassFigures, LoadReport,
    plan::{CLASSES, Share},
};
use crate::demo::Check;

/// The part of its fair share that a class must get.
const FAIR: f64 = 0.95;
/// What E_a may be above one full packet's time: another one at 10 Mbit/s.
const EF_MARGIN_MS: f64 = 1.25;
/// How many standard deviations a difference of losses must have, to be one.
const CHANCE: f64 = 4.0;
/// Above it, a busy machine can be too slow for sender, routers and receivers together.
const EASY_RATE: BitRate = BitRate::from_mbit(20);
/// What the window's edges and the shaper's burst may add to the link's rate.
const RATE_MARGIN: f64 = 1.01;

pub(super) fn check(loads: &[LoadReport], rate: BitRate) -> Vec<Check> {
    loads
        .iter()
        .flat_map(|load| check_load(load, rate))
        .collect()
}

fn check_load(load: &LoadReport, rate: BitRate) -> Vec<Check> {
    let name = |what: &str| format!("load {}: {what}", load.load);
    let mut checks = Vec::new();
    let mut every = |what: &str, timed: bool, wrong: &dyn Fn(&ClassFigures) -> Option<String>| {
        let classes = load.classes.iter();
        let said: Vec<_> = classes
            .filter_map(|class| wrong(class).map(|what| format!("{}: {what}", class.class)))
            .collect();
        let detail = if said.is_empty() {
            "none does not".to_owned()
        } else {
            said.join(", ")
        };
        checks.push(Check {
            timed,
            ..Check::new(name(what), said.is_empty(), detail)
        });
    };
    let is_voice = |name| {
        let mut voice = CLASSES.iter();
        voice.any(|class| class.name == name && matches!(class.share, Share::Strict(_)))
    };
    let lost = |class: &ClassFigures| (class.lost > 0).then(|| format!("{} lost", class.lost));

    every("admitted voice loses nothing", rate > EASY_RATE, &|class| {
        lost(class).filter(|_| is_voice(class.class))
    });
    every("every class keeps its order", false, &|class| {
        (class.reordered > 0).then(|| format!("{} overtaken", class.reordered))
    });
    every("every class keeps its code points", false, &|class| {
        (class.remarked > 0).then(|| format!("{} changed", class.remarked))
    });
    every("every class moves", false, &|class| {
        (class.delivered_mbit_s == 0.0).then(|| "nothing arrived".to_owned())
    });
    let precedence = "a higher drop precedence is not the better one";
    every(precedence, false, &|class| {
        let losses: Vec<_> = class.loss_percent_by_dscp.values().copied().collect();
        // Of two losses near one half, each over its third of the packets.
        #[allow(clippy::cast_precision_loss)] // counts of one run
        let packets = class.sent as f64 / losses.len().max(1) as f64;
        let chance = 100.0 * CHANCE * (0.5 / packets.max(1.0)).sqrt();
        let better = losses
            .windows(2)
            .any(|pair| matches!(pair, [low, high] if *low > high + chance));
        better.then(|| format!("{losses:.1?} % lost"))
    });
    every("each class gets its fair share", true, &|class| {
        let (got, fair) = (class.delivered_mbit_s, class.fair_mbit_s);
        (got < FAIR * fair).then(|| format!("{got:.3} of {fair:.3} Mbit/s"))
    });
    if load.load < 0.95 {
        every("no class loses anything", true, &lost);
    }
    if let Some(ef) = &load.router.ef {
        // Nothing is served while the machine has given the core to somebody else.
        let most = ef.ideal_ms + EF_MARGIN_MS + ef.longest_stall_ms;
        checks.push(Check::timed(
            name("EF's error term is near its ideal"),
            ef.e_a_ms <= most,
            format!(
                "E_a {:.2} ms, {most:.2} ms allowed, {:.2} ms of them as the loop stood still",
                ef.e_a_ms, ef.longest_stall_ms
            ),
        ));
    }
    let total: f64 = load
        .classes
        .iter()
        .map(|class| class.delivered_mbit_s)
        .sum();
    checks.push(Check::new(
        name("no more than the link's rate arrives"),
        total <= rate.mbit_s() * RATE_MARGIN,
        format!("{total:.3} Mbit/s at {rate}"),
    ));
    checks.push(Check::timed(
        name("the testbed kept up"),
        load.sender_lapses == 0 && load.receiver_faults == 0,
        format!(
            "lapses of its sender {}, dropped by or strange to its receivers {}",
            load.sender_lapses, load.receiver_faults
        ),
    ));
    checks
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::classes::RouterFigures;

    fn load(change: impl Fn(&mut ClassFigures)) -> LoadReport {
        let classes = CLASSES.map(|class| {
            let mut figures = ClassFigures {
                class: class.name,
                fair_mbit_s: 0.7,
                offered_mbit_s: 1.0,
                delivered_mbit_s: 0.7,
                sent: 3_000,
                lost: 900,
                loss_percent_by_dscp: class.points.iter().map(|(name, _)| (*name, 30.0)).collect(),
                ..ClassFigures::default()
            };
            if matches!(class.share, Share::Strict(_)) {
                figures.lost = 0;
                figures.loss_percent_by_dscp = BTreeMap::new();
            }
            change(&mut figures);
            figures
        });
        LoadReport {
            load: 1.5,
            calls: 15,
            classes: classes.into(),
            router: RouterFigures::default(),
            sender_lapses: 0,
            receiver_faults: 0,
            load_average: None,
        }
    }

    fn failed(change: impl Fn(&mut ClassFigures)) -> Vec<String> {
        check(&[load(change)], BitRate::from_mbit(10))
            .into_iter()
            .filter(|check| !check.pass)
            .map(|check| check.name)
            .collect()
    }

    #[test]
    fn each_fault_fails_its_check() {
        assert_eq!(failed(|_| ()), Vec::<String>::new());
        let voice = failed(|class| class.lost += u64::from(class.class == "telephony"));
        assert_eq!(voice, ["load 1.5: admitted voice loses nothing"]);
        let order = failed(|class| class.reordered += u64::from(class.class == "oam"));
        assert_eq!(order, ["load 1.5: every class keeps its order"]);
        let precedence = failed(|class| {
            if let Some(loss) = class.loss_percent_by_dscp.get_mut("AF21") {
                *loss = 60.0;
            }
        });
        assert_eq!(
            precedence,
            ["load 1.5: a higher drop precedence is not the better one"]
        );
        let still = failed(|class| {
            if class.class == "lower-effort" {
                class.delivered_mbit_s = 0.0;
            }
        });
        let [moves, fair] = ["every class moves", "each class gets its fair share"];
        assert_eq!(
            still,
            [format!("load 1.5: {moves}"), format!("load 1.5: {fair}")]
        );
        let rate = failed(|class| class.delivered_mbit_s *= 2.0);
        assert_eq!(rate, ["load 1.5: no more than the link's rate arrives"]);
    }
}
