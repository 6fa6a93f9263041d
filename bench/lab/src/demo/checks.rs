//! What the demo must show.

use serde::Serialize;
use voicelane_testbed::topology::IpVersion;

use super::{
    BULK_PACKET_BYTES, CALL_PACKETS_PER_SECOND, CALL_PAYLOAD_BYTES, CORE_BITS_PER_SECOND, DELETED,
    EF, EF_MARKED_BULK, IDLE, OVERLOAD, Phase, SESSIONS, WIRE_BYTES,
};

const HEAVY_LOSS_PERCENT: f64 = 20.0;
/// A call that this is the best of cannot be used.
const RUINED_MOS: f64 = 2.0;
/// A call that this is the worst of is as good as G.711 gets, all but.
const GOOD_MOS: f64 = 4.3;
/// How much longer than idle's the 99th percentile of delay may be.
const DELAY_MARGIN_MS: f64 = 5.0;
/// The part that bulk must get of what the calls leave of the link.
const BULK_SHARE: f64 = 0.95;
/// Within this, two rates of bulk are the same.
const SAME_RATE: f64 = 0.03;
/// Within this, two losses are the same.
const SAME_LOSS_POINTS: f64 = 10.0;

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub pass: bool,
    /// The figures that say so.
    pub detail: String,
    /// Whether it is about time, so that it can fail for no other reason than a busy machine.
    pub timed: bool,
}

impl Check {
    pub(crate) fn new(name: impl Into<String>, pass: bool, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pass,
            detail: detail.into(),
            timed: false,
        }
    }

    /// One that is about time.
    pub(crate) fn timed(name: impl Into<String>, pass: bool, detail: impl Into<String>) -> Self {
        Self {
            timed: true,
            ..Self::new(name, pass, detail)
        }
    }
}

/// Judges the phases. A phase that is missing is a failed check.
pub fn check(phases: &[Phase], ip: IpVersion) -> Vec<Check> {
    let mut checks = Vec::new();
    let find = |name: &str| phases.iter().find(|phase| phase.name == name);
    let (Some(idle), Some(overload), Some(sessions), Some(marked), Some(deleted)) = (
        find(IDLE),
        find(OVERLOAD),
        find(SESSIONS),
        find(EF_MARKED_BULK),
        find(DELETED),
    ) else {
        return vec![Check::new("all phases ran", false, "a phase is missing")];
    };

    checks.push(Check::new(
        "idle: the network itself loses nothing",
        idle.lost() == 0,
        format!("{} of {} packets lost", idle.lost(), sent(idle)),
    ));
    checks.extend(ruined(overload));
    for phase in [sessions, marked] {
        checks.extend(untouched(phase, idle, ip));
    }
    checks.push(Check::timed(
        "ef-marked-bulk: bulk gains nothing by marking itself",
        (marked.bulk_mbit_s / sessions.bulk_mbit_s - 1.0).abs() <= SAME_RATE,
        format!(
            "{:.2} Mbit/s against {:.2} unmarked",
            marked.bulk_mbit_s, sessions.bulk_mbit_s,
        ),
    ));
    let kept = marked.bulk_dscp.get(&EF).copied().unwrap_or(0);
    checks.push(Check::new(
        "ef-marked-bulk: bulk's own mark is taken away",
        kept == 0,
        format!("{kept} packets arrived with EF"),
    ));
    checks.extend(ruined(deleted));
    let marks = [&deleted.to_callee, &deleted.to_caller].map(|d| d.dscp.get(&EF).unwrap_or(&0));
    checks.push(Check::new(
        "deleted: as before the sessions",
        (deleted.loss_percent - overload.loss_percent).abs() <= SAME_LOSS_POINTS
            && marks == [&0, &0],
        format!(
            "loss {:.1} % against {:.1} % before; {} packets arrived with EF",
            deleted.loss_percent,
            overload.loss_percent,
            marks[0] + marks[1],
        ),
    ));
    checks
}

fn ruined(phase: &Phase) -> [Check; 2] {
    [
        Check::new(
            format!("{}: heavy loss", phase.name),
            phase.loss_percent >= HEAVY_LOSS_PERCENT,
            format!(
                "{:.1} %, at least {HEAVY_LOSS_PERCENT} % expected",
                phase.loss_percent
            ),
        ),
        Check::new(
            format!("{}: every call is ruined", phase.name),
            phase.mos.max < RUINED_MOS,
            format!(
                "MOS of the best call {:.2}, below {RUINED_MOS} expected",
                phase.mos.max
            ),
        ),
    ]
}

fn untouched(phase: &Phase, idle: &Phase, ip: IpVersion) -> [Check; 5] {
    let left = bulk_share_mbit_s(phase.calls, ip);
    let unmarked = phase.unmarked_after_answer;
    [
        Check::new(
            format!("{}: no loss at all", phase.name),
            phase.lost() == 0 && sent(phase) > 0,
            format!("{} of {} packets lost", phase.lost(), sent(phase)),
        ),
        Check::new(
            format!("{}: every call is good", phase.name),
            phase.mos.min >= GOOD_MOS,
            format!(
                "MOS of the worst call {:.2}, at least {GOOD_MOS} expected",
                phase.mos.min
            ),
        ),
        Check::timed(
            format!("{}: delay as when idle", phase.name),
            phase.delay_ms.p99 - idle.delay_ms.p99 <= DELAY_MARGIN_MS,
            format!(
                "p99 {:.2} ms against {:.2} ms idle, {DELAY_MARGIN_MS} ms more allowed",
                phase.delay_ms.p99, idle.delay_ms.p99,
            ),
        ),
        Check::timed(
            format!("{}: bulk gets what the calls leave", phase.name),
            phase.bulk_mbit_s >= BULK_SHARE * left,
            format!(
                "{:.2} Mbit/s of {left:.2} Mbit/s, at least {:.0} % expected",
                phase.bulk_mbit_s,
                100.0 * BULK_SHARE,
            ),
        ),
        Check::new(
            format!(
                "{}: every packet after AddSession's answer is marked",
                phase.name
            ),
            unmarked == Some(0),
            unmarked.map_or_else(
                || "no session was added".to_owned(),
                |count| format!("{count} packets arrived without EF"),
            ),
        ),
    ]
}

/// What the calls leave of the core link for bulk's IP packets.
#[allow(clippy::cast_precision_loss)] // small numbers
fn bulk_share_mbit_s(calls: usize, ip: IpVersion) -> f64 {
    let packet = CALL_PAYLOAD_BYTES + u64::from(ip.udp_headers_bytes()) + WIRE_BYTES;
    let one = packet * 8 * CALL_PACKETS_PER_SECOND;
    let left = CORE_BITS_PER_SECOND.saturating_sub(one * calls as u64) as f64;
    let bulk = u64::from(BULK_PACKET_BYTES);
    left * bulk as f64 / (bulk + WIRE_BYTES) as f64 / 1e6
}

/// Packets of calls that both ends have sent.
pub(super) fn sent(phase: &Phase) -> u64 {
    phase.to_callee.sent + phase.to_caller.sent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::demo::{DelayMs, DirectionFigures, Mos};

    fn phase(name: &'static str, loss: u64, mos: f64, p99: f64, bulk_mbit_s: f64) -> Phase {
        let to_callee = DirectionFigures {
            sent: 100,
            lost: loss,
            ..DirectionFigures::default()
        };
        Phase {
            name,
            calls: 20,
            #[allow(clippy::cast_precision_loss)]
            loss_percent: loss as f64,
            delay_ms: DelayMs {
                p50: 1.0,
                p99,
                max: p99,
            },
            mos: Mos {
                min: mos,
                mean: mos,
                max: mos,
            },
            bulk_mbit_s,
            to_callee,
            unmarked_after_answer: Some(0),
            ..Phase::default()
        }
    }

    fn good() -> Vec<Phase> {
        vec![
            phase(IDLE, 0, 4.38, 1.0, 0.0),
            phase(OVERLOAD, 55, 1.5, 120.0, 9.0),
            phase(SESSIONS, 0, 4.37, 3.0, 7.8),
            phase(EF_MARKED_BULK, 0, 4.37, 3.0, 7.8),
            phase(DELETED, 54, 1.5, 120.0, 9.0),
        ]
    }

    fn failed(phases: &[Phase]) -> Vec<String> {
        check(phases, IpVersion::V4)
            .into_iter()
            .filter(|check| !check.pass)
            .map(|check| check.name)
            .collect()
    }

    #[test]
    fn a_good_run_passes() {
        assert_eq!(failed(&good()), Vec::<String>::new());
    }

    #[test]
    fn what_calls_leave_by_hand() {
        // 20 calls: 20 * 50 * 238 * 8 = 1.904 Mbit/s; 8.096 * 1200 / 1238 = 7.8475.
        assert!((bulk_share_mbit_s(20, IpVersion::V4) - 7.8475).abs() < 1e-4);
        // 258 bytes instead of 238: 2.064 Mbit/s; 7.936 * 1200 / 1238 = 7.6924.
        assert!((bulk_share_mbit_s(20, IpVersion::V6) - 7.6924).abs() < 1e-4);
    }

    #[test]
    fn one_lost_packet_fails() {
        let mut phases = good();
        phases[2].to_callee.lost = 1;
        assert_eq!(failed(&phases), ["sessions: no loss at all"]);
    }

    #[test]
    fn bulk_that_smuggles_ef_fails() {
        let mut phases = good();
        phases[3].bulk_dscp = BTreeMap::from([(46, 1)]);
        assert_eq!(
            failed(&phases),
            ["ef-marked-bulk: bulk's own mark is taken away"]
        );
    }

    #[test]
    fn a_missing_phase_fails() {
        assert_eq!(failed(&good()[..4]).len(), 1);
    }
}
