//! What the runs of each case come to.

use std::collections::BTreeMap;

use serde::Serialize;
use voicelane_bench::Machine;

use crate::{
    case::{Case, FULL_LINK_FLOWS, Program, VOICE},
    run::Sample,
};

/// Packets a second of a 10GbE link full of G.711, one way.
pub(crate) const FULL_LINK_MPPS: f64 = 5.25;

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let above = *values.get(middle)?;
        let below = values[(values.len() - 1) / 2];
        Some(Self {
            min: values[0],
            median: f64::midpoint(below, above),
            max: values[values.len() - 1],
        })
    }
}

/// What each round showed of a case, by the round's number: one that failed has none.
pub(crate) type Samples = BTreeMap<u8, Sample>;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) flows: u32,
    /// Frame length without FCS, bytes.
    pub(crate) frame_bytes: u16,
    /// Version of IP, 4 or 6.
    pub(crate) ip: u8,
    /// Whether the shaper was set to half of what came.
    pub(crate) saturated: bool,
    /// What Voicelane's sessions are marked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) classes: Option<&'static str>,
    /// Packets that found their session, or their rule, of those received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hit_share: Option<f64>,
    /// Packets sent, of those received.
    pub(crate) sent_share: f64,
    /// Packets received a second, millions.
    pub(crate) mpps: Spread,
    /// TSC ticks of one core for each packet received.
    pub(crate) cycles_per_packet: Spread,
    /// The same for each packet sent.
    pub(crate) cycles_per_sent: Spread,
    /// How it differs from what the program is usually run with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) variations: Vec<String>,
    /// Whether packets leave Voicelane without having been in a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bypasses: Option<bool>,
    /// Cycles for each packet received, by the round's number.
    pub(crate) cycles_by_round: BTreeMap<u8, f64>,
    /// For each packet sent.
    #[serde(skip)]
    sent_cycles_by_round: BTreeMap<u8, f64>,
    /// Cycles divided by the unsaturated ones of the same case: the median over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of_unsaturated: Option<f64>,
    /// Cycles for each packet received over those of the same case with nothing measured: the median over the
    /// rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measuring: Option<f64>,
    /// Cycles divided by each peer's: for each packet received, but by qos_sched's for each packet sent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ratio: BTreeMap<&'static str, Ratio>,
    #[serde(skip)]
    pub(crate) case: Case,
}

/// One program beside another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// This one's cycles a packet divided by the peer's: the median over the rounds.
    pub(crate) cycles: f64,
    /// What the peer was given: it is not measured with everything.
    pub(crate) flows: u32,
    pub(crate) frame_bytes: u16,
    pub(crate) ip: u8,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) machine: Machine,
    /// The commit that was built, with `-dirty` where files had been changed.
    pub(crate) commit: String,
    /// When it began, UTC.
    pub(crate) date: String,
    pub(crate) tsc_hz: f64,
    pub(crate) rounds: usize,
    /// How the programs were compiled.
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) notes: Vec<String>,
    /// Runs that gave no figures, and why.
    pub(crate) failures: Vec<String>,
}

/// Rows from the samples of each case, in the cases' order. A case without samples has none.
pub(crate) fn rows(samples: &[(Case, Samples)]) -> Vec<Row> {
    let mut rows: Vec<_> = samples
        .iter()
        .filter_map(|(case, samples)| row(case, samples))
        .collect();
    let plain = rows.clone();
    for row in &mut rows {
        row.of_unsaturated = plain
            .iter()
            .find(|other| row.saturated && other.case == row.case.unsaturated())
            .and_then(|other| quotient(&row.cycles_by_round, &other.cycles_by_round));
        row.measuring = plain
            .iter()
            .find(|other| row.case.measure_every != 0 && other.case == row.case.unmeasured())
            .and_then(|other| difference(&row.cycles_by_round, &other.cycles_by_round));
        if row.case.program == Program::Voicelane {
            row.ratio = Program::PEERS
                .into_iter()
                .filter_map(|peer| Some((peer.name(), ratio(row, nearest(peer, row, &plain)?)?)))
                .collect();
        }
    }
    rows
}

fn row(case: &Case, samples: &Samples) -> Option<Row> {
    let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.values().map(figure));
    let hits = samples.values().filter_map(|sample| sample.hit_share);
    Some(Row {
        name: case.program.name(),
        flows: case.flows,
        frame_bytes: case.frame_bytes,
        ip: case.ip.number(),
        saturated: case.saturated,
        classes: (case.program == Program::Voicelane).then(|| case.classes.name()),
        hit_share: Spread::of(hits).map(|spread| spread.median),
        sent_share: spread(|sample| sample.sent_share)?.median,
        mpps: spread(|sample| sample.mpps)?,
        cycles_per_packet: spread(|sample| sample.cycles_per_packet)?,
        cycles_per_sent: spread(Sample::cycles_per_sent)?,
        variations: case.variations(),
        bypasses: (case.program == Program::Voicelane).then(|| case.bypasses()),
        cycles_by_round: by_round(samples, |sample| sample.cycles_per_packet),
        sent_cycles_by_round: by_round(samples, Sample::cycles_per_sent),
        of_unsaturated: None,
        measuring: None,
        ratio: BTreeMap::new(),
        case: *case,
    })
}

fn by_round(samples: &Samples, figure: fn(&Sample) -> f64) -> BTreeMap<u8, f64> {
    let rounds = samples.iter();
    rounds
        .map(|(&round, sample)| (round, figure(sample)))
        .collect()
}

fn ratio(row: &Row, peer: &Row) -> Option<Ratio> {
    let cycles = |row: &'_ Row| match peer.case.program {
        // Its worker's packets are counted when they are sent.
        Program::QosSched => row.sent_cycles_by_round.clone(),
        _ => row.cycles_by_round.clone(),
    };
    Some(Ratio {
        cycles: quotient(&cycles(row), &cycles(peer))?,
        flows: peer.flows,
        frame_bytes: peer.frame_bytes,
        ip: peer.ip,
    })
}

/// One row's cycles divided by another's: the median of the rounds that have both. In a round they took
/// turns, so a machine that is slower in one round than in another changes both.
fn quotient(row: &BTreeMap<u8, f64>, other: &BTreeMap<u8, f64>) -> Option<f64> {
    median(row, other, |cycles, others| cycles / others)
}

/// One row's cycles less another's, likewise.
fn difference(row: &BTreeMap<u8, f64>, other: &BTreeMap<u8, f64>) -> Option<f64> {
    median(row, other, |cycles, others| cycles - others)
}

fn median(
    row: &BTreeMap<u8, f64>,
    other: &BTreeMap<u8, f64>,
    compare: fn(f64, f64) -> f64,
) -> Option<f64> {
    let compared = row
        .iter()
        .filter_map(|(round, cycles)| Some(compare(*cycles, *other.get(round)?)));
    Some(Spread::of(compared)?.median)
}

/// The peer's row that is most like this one: by IP, then by frame, then by flows.
fn nearest<'a>(peer: Program, row: &Row, rows: &'a [Row]) -> Option<&'a Row> {
    let distance = |other: &&Row| {
        (
            other.ip != row.ip,
            (other.frame_bytes == VOICE) != (row.frame_bytes == VOICE),
            other.flows.max(row.flows) / other.flows.min(row.flows),
        )
    };
    rows.iter()
        .filter(|other| other.case.program == peer && other.variations.is_empty())
        .min_by_key(distance)
}

impl Report {
    /// The share of a core that a 10GbE link full of G.711 would take, by the cycles of a core that is never idle.
    pub(crate) fn full_link_share(&self) -> Option<f64> {
        let full = self.rows.iter().find(|row| {
            row.case.program == Program::Voicelane
                && (row.flows, row.frame_bytes) == (FULL_LINK_FLOWS, VOICE)
                && row.variations.is_empty()
        })?;
        Some(full.cycles_per_packet.median * FULL_LINK_MPPS * 1e6 / self.tsc_hz)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs, process};

    use serde_json::Value;

    use voicelane_bench::flows::IpVersion;

    use super::*;
    use crate::chart;

    fn sample(cycles_per_packet: f64) -> Sample {
        Sample {
            mpps: 2_300.0 / cycles_per_packet,
            cycles_per_packet,
            sent_share: 1.0,
            hit_share: Some(1.0),
            tsc_hz: 2.3e9,
        }
    }

    /// A report of every case, of three rounds with figures of their own.
    fn report() -> Report {
        let samples: Vec<_> = (1..)
            .zip(Case::all())
            .map(|(number, case)| {
                let sample = |round: u8| Sample {
                    mpps: f64::from(number * 10 + u32::from(round)),
                    ..sample(f64::from(number * 100 + u32::from(round) % 3))
                };
                (case, (1..=3).map(|round| (round, sample(round))).collect())
            })
            .collect();
        Report {
            rows: rows(&samples),
            machine: Machine::read(),
            commit: "c0ffee".to_owned(),
            date: "2026-11-22T18:00:00Z".to_owned(),
            tsc_hz: 2.3e9,
            rounds: 3,
            flags: BTreeMap::from([("voicelane", "release".to_owned())]),
            notes: vec![],
            failures: vec![],
        }
    }

    #[test]
    fn the_json_has_what_it_promises() {
        let json: Value = serde_json::to_value(report()).unwrap();
        let rows = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), Case::all().len());
        let mut seen = BTreeSet::new();
        for row in rows {
            assert!(
                row["name"].is_string() && row["saturated"].is_boolean(),
                "{row}"
            );
            for key in ["flows", "frame_bytes", "ip"] {
                assert!(row[key].is_u64(), "{row}");
            }
            for key in ["mpps", "cycles_per_packet"] {
                let figure = |name: &str| row[key][name].as_f64().unwrap();
                assert!(figure("min") < figure("median"), "{row}");
                assert!(figure("median") < figure("max"), "{row}");
            }
            seen.insert((
                row["name"].to_string(),
                row["flows"].as_u64(),
                row["ip"].as_u64(),
            ));
        }
        for program in ["testpmd io", "l3fwd em", "voicelane"] {
            for flows in [1_000, 65_536, 1_000_000] {
                for ip in [4, 6] {
                    let row = (format!("{program:?}"), Some(flows), Some(ip));
                    assert!(seen.contains(&row), "{row:?}");
                }
            }
        }
        for key in ["machine", "commit", "flags", "date"] {
            assert!(!json[key].is_null(), "{key}");
        }
    }

    #[test]
    fn rows_are_compared_with_what_is_most_like_them() {
        let report = report();
        let find = |wanted: &dyn Fn(&&Row) -> bool| report.rows.iter().find(wanted).unwrap();
        for row in report.rows.iter().filter(|row| row.name == "voicelane") {
            let exact = row.ratio["l3fwd em"];
            assert_eq!(row.bypasses, Some(!row.saturated && !row.case.full));
            assert_eq!(exact.ip, row.ip);
            assert_eq!(exact.frame_bytes, row.frame_bytes);
            if row.flows != FULL_LINK_FLOWS {
                assert_eq!(exact.flows, row.flows);
            }
            let peer = find(&|peer| {
                peer.name == "l3fwd em"
                    && peer.variations.is_empty()
                    && (peer.ip, peer.frame_bytes, peer.flows)
                        == (exact.ip, exact.frame_bytes, exact.flows)
            });
            let of = |row: &Row, round| row.cycles_by_round[&round];
            let quotients = [1, 2, 3].map(|round| of(row, round) / of(peer, round));
            assert_eq!(exact.cycles, Spread::of(quotients).unwrap().median);
            assert_eq!(row.of_unsaturated.is_some(), row.saturated);
            let measured = row.case.measure_every != 0 && !row.case.full;
            assert_eq!(row.measuring.is_some(), measured, "{}", row.case);
        }
        let full = find(&|row| row.name == "voicelane" && row.flows == FULL_LINK_FLOWS);
        let share = full.cycles_per_packet.median * 5.25e6 / 2.3e9;
        assert_eq!(report.full_link_share(), Some(share));
    }

    #[test]
    fn a_machine_that_slows_down_changes_no_ratio() {
        let case = Case::new(Program::Voicelane, IpVersion::V4, VOICE, 1_000);
        let saturated = Case {
            saturated: true,
            ..case
        };
        let samples = |cycles: [f64; 3]| -> Samples { (1..).zip(cycles.map(sample)).collect() };
        let mut both = [
            (case, samples([100.0, 150.0, 100.0])),
            (saturated, samples([120.0, 180.0, 170.0])),
        ];
        assert_eq!(rows(&both)[1].of_unsaturated, Some(1.2));
        // What failed in one has no counterpart.
        both[0].1.remove(&1);
        assert_eq!(rows(&both)[1].of_unsaturated, Some(1.45));
        both[0].1.clear();
        assert_eq!(rows(&both)[0].of_unsaturated, None);
    }

    #[test]
    fn the_table_and_the_picture_have_every_row() {
        let report = report();
        let table = report.to_string();
        let file = env::temp_dir().join(format!("voicelane-bench-{}.svg", process::id()));
        chart::draw(&report, &file).unwrap();
        let svg = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        for row in &report.rows {
            let cycles = row.cycles_per_packet;
            let cell = format!(
                " {:.0} / {:.0} / {:.0} |",
                cycles.min, cycles.median, cycles.max
            );
            assert!(table.contains(&cell), "{cell}");
            assert!(svg.contains(&format!("{:.0}  (", cycles.median)), "{cell}");
        }
    }

    #[test]
    fn a_spread_is_ordered() {
        assert_eq!(Spread::of([]), None);
        let spread = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(Spread::of([3.0]), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), spread(1.0, 2.0, 9.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), spread(1.0, 3.0, 9.0));
    }
}
