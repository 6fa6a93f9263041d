//! The highest rate at which hardly anything is lost (RFC 2544 section 26.1), by bisection.

use std::time::Duration;

use anyhow::bail;

use crate::{page::Counters, run::Running};

/// The search begins between these, packets a second, and ends so near to the highest rate.
const SLOWEST: f64 = 0.1e6;
const FASTEST: f64 = 120e6;
const NEAR: f64 = 1.02;
/// Until what is on its way has come.
pub(crate) const DRAIN: Duration = Duration::from_millis(50);

/// What counts as carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Lost packets of those that were due, at most.
    pub(crate) loss: f64,
    /// How long packets come at each rate.
    pub(crate) time: Duration,
    /// A rate is carried if one of so many tries is: on a machine that stands still for milliseconds, any
    /// rate loses something now and then.
    pub(crate) tries: u8,
}

/// The highest rate that a paced program carries, in packets a second.
pub(crate) fn highest_rate(running: &mut Running<'_>, terms: Terms) -> anyhow::Result<f64> {
    let (mut carried, mut lost) = (SLOWEST, FASTEST);
    if !carries(running, carried, terms)? {
        bail!("even {SLOWEST} packets a second are too many");
    }
    while lost / carried > NEAR {
        let middle = (carried * lost).sqrt();
        if carries(running, middle, terms)? {
            carried = middle;
        } else {
            lost = middle;
        }
    }
    Ok(carried)
}

fn carries(running: &mut Running<'_>, pps: f64, terms: Terms) -> anyhow::Result<bool> {
    for _ in 0..terms.tries {
        let before = running.page.counters()?;
        running.page.set_pps(whole(pps))?;
        running.pause(terms.time)?;
        running.page.set_pps(0)?;
        running.pause(DRAIN)?;
        let after = running.page.counters()?;
        let due = (after.received - before.received) + (after.lost - before.lost);
        if missing(&before, &after) as f64 <= terms.loss * due as f64 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Packets that found no place in the receive ring, or were not sent.
fn missing(before: &Counters, after: &Counters) -> u64 {
    let sent: u64 = after.sent.iter().sum::<u64>() - before.sent.iter().sum::<u64>();
    (after.lost - before.lost) + (after.received - before.received).saturating_sub(sent)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and far below 2^64"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}
