//! How well each port serves EF: since the start, or over a window that begins when it is asked for.

use std::{sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use voicelane_dataplane::{
    diffserv::Phb,
    stats::SECONDS,
    stats::{PortReport, QueueCounters, Report},
    units::TickRate,
};
use voicelane_proto::v1::{PhbDelay, PortEf, ReportEfResponse};

use super::{figures, source::Source};
use crate::{config::PortConfig, dataplane::WorkerGone};

/// Each second is remembered for longer, so that nothing of a window is gone when it ends.
pub(super) const LONGEST_WINDOW_S: u32 = 60;

const _: () = assert!(SECONDS > LONGEST_WINDOW_S as usize + 2);

/// What Ethernet's header adds to an IP packet, without FCS.
const HEADER_BYTES: u64 = 14;

/// Measures over the window, or takes what there is since the start.
pub(super) async fn report(
    source: &Source,
    window: Option<Duration>,
) -> Result<ReportEfResponse, WorkerGone> {
    let before = match window {
        None => None,
        Some(window) => {
            let before = source.report().await?;
            tokio::time::sleep(window).await;
            Some(before)
        }
    };
    let after = source.report().await?;
    let seconds = before.as_ref().map_or_else(
        || source.started.elapsed().as_secs_f64(),
        |before| seconds(before, &after),
    );
    let stall = match &before {
        None => after.stalls.longest,
        Some(_) => after.stalls.last(whole(seconds) + 1),
    };
    let ports = source.interfaces.ports.iter().zip(&after.ports).enumerate();
    let ports = ports.map(|(index, (config, port))| {
        let before = before.as_ref().and_then(|before| before.ports.get(index));
        port_ef(
            config,
            port,
            after.clock,
            before.map(|before| (before, seconds)),
        )
    });
    Ok(ReportEfResponse {
        router_id: source.identity.router_id.clone(),
        since_start: before.is_none(),
        seconds,
        longest_stall_us: microseconds(after.clock.nanoseconds(stall)),
        ports: ports.collect(),
    })
}

fn seconds(before: &Arc<Report>, after: &Arc<Report>) -> f64 {
    let nanoseconds = after.clock.nanoseconds(after.now.since(before.now));
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn port_ef(
    config: &PortConfig,
    port: &PortReport,
    clock: TickRate,
    since: Option<(&PortReport, f64)>,
) -> PortEf {
    let error = since.map_or(port.ef.total, |(_, seconds)| {
        port.ef.last(whole(seconds) + 1)
    });
    let packets = since.map_or(port.ef.total.packets, |(before, _)| {
        port.ef.total.packets - before.ef.total.packets
    });
    let longest = u64::from(config.mtu) + HEADER_BYTES + u64::from(config.overhead_bytes);
    let queues = port.queues.iter().enumerate().map(|(index, queue)| {
        let before = since.and_then(|(before, _)| before.queues.get(index));
        delays(queue, before)
    });
    let phbs = Phb::ALL
        .iter()
        .zip(queues)
        .filter(|(_, delays)| !delays.is_empty())
        .map(|(phb, delays)| PhbDelay {
            phb: phb.name().to_owned(),
            delay_us: Some(figures::quantiles(&delays)),
        });
    PortEf {
        port: config.name.clone(),
        rate_bps: config.rate.bps(),
        ef_rate_bps: config.ef_budget.bps(),
        mtu: config.mtu.into(),
        packets,
        e_a_us: microseconds(clock.nanoseconds(error.aggregate)),
        e_p_us: microseconds(clock.nanoseconds(error.packet)),
        ideal_us: microseconds(longest * 8 * 1_000_000_000 / config.rate.bps()),
        phbs: phbs.collect(),
    }
}

/// A queue's delays since then.
fn delays(queue: &QueueCounters, before: Option<&QueueCounters>) -> Histogram<u64> {
    let mut delays = queue.delay_ns.clone();
    if let Some(before) = before {
        // Counts only grow, and both have the same bounds: this cannot fail.
        let _ = delays.subtract(&before.delay_ns);
    }
    delays
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a window of up to a minute and a bit"
)]
fn whole(seconds: f64) -> usize {
    seconds.ceil() as usize
}

fn microseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6
}
