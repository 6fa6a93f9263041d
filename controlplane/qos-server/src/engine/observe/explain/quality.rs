//! What needs all flows of a call: how long packets take, what its receivers say, and how it sounds.

use voicelane_proto::v1::{MediaQuality, QualityMark, ReceiverReport};
use voicelane_types::emodel::{Codec, FIXED_DELAY_MS, mean_opinion_score, transmission_rating};

use super::{
    FlowExplanation,
    loss::low,
    media_of,
    receiver::{self, Known, LostAfter},
};
use crate::{
    engine::{EntryCounters, SessionView},
    model::placement::FlowPlacement,
};

/// Longer than this no packet takes between two routers, there and back: what says so is no delay.
const LONGEST_TWO_WAY_NS: i128 = 10_000_000_000;
/// Clocks that are not in step drift by little in that time.
const TOGETHER_NS: u128 = 30_000_000_000;
/// The score is of the numbers from the latest checkpoint to the one so many before: five seconds of most
/// calls.
const SCORED: usize = 4;

/// How the last packets sounded, on the narrowband scale of ITU-T G.107, with factors of G.113.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean opinion score, 1 to 4.5 (G.107 annex B).
    pub mos: f64,
    /// The transmission rating R.
    pub rating: f64,
    /// Of how many packets it is.
    pub packets: u32,
    /// How many of these were lost.
    pub lost: u32,
}

/// Adds what needs other flows of the call. Receivers' reports are compared with the `known` ones, by flow.
pub(super) fn judge(session: &SessionView, flows: &mut [FlowExplanation], known: &[Option<Known>]) {
    let known = |index| known.get(index).copied().flatten();
    let found: Vec<_> = (0..flows.len())
        .map(|index| {
            (
                two_way_delay(session, flows, index),
                after_destination(flows, index, known(index)),
            )
        })
        .collect();
    for ((index, flow), (delay, after)) in flows.iter_mut().enumerate().zip(found) {
        flow.two_way_delay_ns = delay;
        flow.receiver = after.map_or(known(index), |it| it.known);
        if let Some(after) = after {
            for (loss, after) in [
                (&mut flow.loss, after.all),
                (&mut flow.recent_loss, after.recent),
            ] {
                let (Some(loss), Some(after)) = (loss, after) else {
                    continue;
                };
                loss.after_destination = Some(after.lost);
                (loss.reported_packets, loss.reported_end) = (after.packets, after.end);
            }
        }
        let at_end = media(&flow.destination_counters);
        flow.score = at_end.and_then(|it| score(session, index, it, delay));
    }
}

/// What was measured of a flow's RTP.
fn media(counters: &[EntryCounters]) -> Option<&MediaQuality> {
    media_of(counters)?.quality.as_ref()
}

/// What the flow's receiver says of it, in whichever flow its RTCP goes.
fn after_destination(
    flows: &[FlowExplanation],
    index: usize,
    known: Option<Known>,
) -> Option<LostAfter> {
    let measured = media(&flows.get(index)?.destination_counters)?;
    let counters = flows
        .iter()
        .flat_map(|it| it.source_counters.iter().chain(&it.destination_counters));
    let reports = counters.flat_map(|it| it.quality.iter().flat_map(|it| &it.receiver_reports));
    // The latest first.
    let mut reports: Vec<ReceiverReport> = reports.copied().collect();
    let end = measured.checkpoints.first()?.number;
    reports.sort_by_key(|it| low(end).wrapping_sub(low(it.highest_number)));
    receiver::after(measured, reports.into_iter(), known)
}

/// From a flow's source's router to its destination's, and by another flow back.
fn two_way_delay(session: &SessionView, flows: &[FlowExplanation], index: usize) -> Option<u64> {
    let there = session.placement.get(index)?;
    let passages_there = passages(flows.get(index)?);
    let others = session.placement.iter().zip(flows);
    let two_way = others
        .filter(|(back, _)| is_other_way(there, back))
        .find_map(|(_, flow)| least_two_way(&passages_there, &passages(flow)))?;
    let known = (0..LONGEST_TWO_WAY_NS).contains(&two_way);
    known.then(|| u64::try_from(two_way).ok())?
}

/// Whether one flow goes from one router to another, and the other one back.
fn is_other_way(there: &FlowPlacement, back: &FlowPlacement) -> bool {
    let (there, back) = (&there.media, &back.media);
    let ends = [
        &there.source,
        &there.destination,
        &back.destination,
        &back.source,
    ];
    let [a, b, c, d] = ends.map(|at| at.as_ref().map(|at| &at.router));
    a.is_some() && b.is_some() && a != b && a == c && b == d
}

/// A packet that both routers of a flow have marked: when it came to either, on that one's clock.
#[derive(Clone, Copy, Debug)]
struct Passage {
    near_ns: i128,
    far_ns: i128,
}

impl Passage {
    /// With the unknown difference of the two clocks.
    fn delay_ns(self) -> i128 {
        self.far_ns - self.near_ns
    }
}

fn passages(flow: &FlowExplanation) -> Vec<Passage> {
    let ends = media(&flow.source_counters).zip(media(&flow.destination_counters));
    let Some((near, far)) = ends.filter(|(near, far)| near.ssrc == far.ssrc) else {
        return Vec::new();
    };
    let passage = |sent: &QualityMark| {
        let mut marks = far.marks.iter();
        let came = marks.find(|it| low(it.number) == low(sent.number))?;
        Some(Passage {
            near_ns: sent.at_ns.into(),
            far_ns: came.at_ns.into(),
        })
    };
    near.marks.iter().filter_map(passage).collect()
}

/// The least that a packet there and one back took together, of those that each router saw at about the
/// same time: the two clocks drift, and either may have begun anew.
fn least_two_way(there: &[Passage], back: &[Passage]) -> Option<i128> {
    let pairs = there
        .iter()
        .flat_map(|there| back.iter().map(move |back| (there, back)));
    let are_together = |one: i128, other: i128| one.abs_diff(other) <= TOGETHER_NS;
    pairs
        .filter(|(there, back)| are_together(there.near_ns, back.far_ns))
        .filter(|(there, back)| are_together(there.far_ns, back.near_ns))
        .map(|(there, back)| there.delay_ns() + back.delay_ns())
        .min()
}

/// Of the numbers from a checkpoint to the latest, each loss by itself.
fn score(
    session: &SessionView,
    flow: usize,
    quality: &MediaQuality,
    two_way_ns: Option<u64>,
) -> Option<Score> {
    let all = &quality.checkpoints;
    let (last, first) = (all.first()?, all.get(SCORED).or(all.last())?);
    let packets = last.number.wrapping_sub(first.number);
    let lost = last.lost.checked_sub(first.lost)?;
    let codec = codec(session, flow, quality.payload_type?)?;
    rate(codec, [lost, packets], 1.0, two_way_ns)
}

/// As [`Score`], of all numbers of the flow since it was installed at the destination's router.
pub(in crate::engine) fn whole_score(
    session: &SessionView,
    index: usize,
    flow: &FlowExplanation,
) -> Option<Score> {
    let quality = media(&flow.destination_counters)?;
    let codec = codec(session, index, quality.payload_type?)?;
    let narrow = |count: u64| u32::try_from(count).ok();
    let lost = narrow(quality.lost.saturating_sub(quality.missing))?;
    let (packets, runs) = (narrow(quality.expected)?, narrow(quality.runs)?);
    // Of the mean length of runs, which would be 1 / (1 - loss) were each lost by itself (ITU-T G.107).
    let by_itself = 1.0 - f64::from(lost) / f64::from(packets.max(1));
    let burst_ratio = f64::from(lost) / f64::from(runs.max(1)) * by_itself;
    let is_known = runs > 0 && !quality.spread;
    let burst_ratio = if is_known { burst_ratio.max(1.0) } else { 1.0 };
    rate(codec, [lost, packets], burst_ratio, flow.two_way_delay_ns)
}

fn rate(
    codec: Codec,
    [lost, packets]: [u32; 2],
    burst_ratio: f64,
    two_way_ns: Option<u64>,
) -> Option<Score> {
    if packets == 0 || lost > packets {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "at most ten seconds")]
    let one_way_ms = two_way_ns.unwrap_or_default() as f64 / 2e6;
    let percent = f64::from(lost) * 100.0 / f64::from(packets);
    let delay_ms = FIXED_DELAY_MS + one_way_ms;
    let rating = transmission_rating(codec, delay_ms, percent, burst_ratio);
    Some(Score {
        mos: mean_opinion_score(rating),
        rating,
        packets,
        lost,
    })
}

/// What the E-model knows of a payload type (RFC 3551 section 6, or as the session's description says).
fn codec(session: &SessionView, flow: usize, payload_type: u32) -> Option<Codec> {
    match payload_type {
        0 | 8 => return Some(Codec::G711),
        18 => return Some(Codec::G729A),
        ..96 => return None,
        _ => {}
    }
    let mut declared = session.spec.flows.get(flow)?.codecs.iter();
    let declared = declared.find(|it| u32::from(it.payload_type) == payload_type)?;
    match declared.encoding.to_ascii_uppercase().as_str() {
        "PCMU" | "PCMA" if declared.clock_rate == 8_000 => Some(Codec::G711),
        "G729" => Some(Codec::G729A),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entries::FlowKind;

    fn measured(marks: &[(u32, u64)]) -> Vec<EntryCounters> {
        let mark = |&(number, at_ns)| QualityMark { number, at_ns };
        vec![EntryCounters {
            flow: 0,
            kind: Some(FlowKind::Rtp),
            tuple: None,
            packets: 0,
            bytes: 0,
            policed_packets: 0,
            policed_bytes: 0,
            last_seen_ms_ago: None,
            colours: None,
            spoofed_packets: 0,
            spoofed_interface: String::new(),
            quality: Some(MediaQuality {
                marks: marks.iter().map(mark).collect(),
                ..MediaQuality::default()
            }),
        }]
    }

    #[test]
    fn clocks_that_are_not_in_step_cancel_out() {
        let flow = |near: &[(u32, u64)], far: &[(u32, u64)]| FlowExplanation {
            source_counters: measured(near),
            destination_counters: measured(far),
            ..FlowExplanation::uncounted(Vec::new())
        };
        let ms = 1_000_000;
        // B's clock is 5 s behind A's; 40 ms there, at least, and 42 back.
        let there = flow(
            &[(192, 9_000 * ms), (128, 8_000 * ms)],
            &[(65_664, 3_040 * ms), (65_728, 4_055 * ms)],
        );
        let back = flow(&[(640, 4_000 * ms)], &[(640, 9_042 * ms)]);
        let two_way = |there: &FlowExplanation, back: &FlowExplanation| {
            least_two_way(&passages(there), &passages(back))
        };
        assert_eq!(two_way(&there, &back), Some(82 * i128::from(ms)));
        assert_eq!(two_way(&there, &flow(&[], &[(640, 1)])), None);
        // A's clock at the last one there is 9 s, and at the first one back as long after as is allowed.
        let later = |by: u64| flow(&[(640, 4_000 * ms)], &[(640, (9_000 + by) * ms)]);
        assert!(two_way(&there, &later(30_000)).is_some());
        assert_eq!(two_way(&there, &later(30_001)), None);
        // Of two ways back it is the one of the same time, though the other one seems shorter.
        let drifted = flow(
            &[(640, 4_000 * ms), (704, 99_000 * ms)],
            &[(640, 9_042 * ms), (704, 104_000 * ms)],
        );
        assert_eq!(two_way(&there, &drifted), Some(82 * i128::from(ms)));
    }
}
