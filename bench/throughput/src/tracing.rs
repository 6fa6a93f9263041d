//! What a trace takes away at full rate, and whether packets are lost by it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::{Value, json};
use voicelane_dataplane::{
    control::{Answer, Control, Request},
    stats::Report,
    trace::{TraceFilter, Tracer},
};

use crate::{Ways, ask, report};

/// How long it does not trace, and traces, by turns, so that both have the machine's noise.
const TURN: Duration = Duration::from_millis(500);
/// How often it takes what was traced: as a router does for whoever traces.
const READ_EVERY: Duration = Duration::from_millis(50);

/// What came and was lost in the turns with a trace, or in the others.
#[derive(Default)]
struct Turns {
    packets: u64,
    ticks: u64,
    lost: u64,
}

impl Turns {
    fn add(&mut self, before: &Report, after: &Report, ways: &Ways) {
        self.packets += received(after) - received(before);
        self.ticks += after.now.0 - before.now.0;
        self.lost += lost(after, ways) - lost(before, ways);
    }

    fn mpps(&self, hz: u64) -> f64 {
        self.packets as f64 / (self.ticks as f64 / hz as f64) / 1e6
    }
}

/// Records that were taken, and packets for which there was no room.
#[derive(Default)]
struct Traced {
    records: u64,
    missed: u64,
}

impl Traced {
    /// Goes on with another tracer, or with none, and takes what the last one has.
    fn take(&mut self, control: &Control, next: Option<Box<Tracer>>) -> anyhow::Result<()> {
        match ask(control, Request::Trace(next))? {
            Answer::Traced(None) => {}
            Answer::Traced(Some(tracer)) => {
                self.records += tracer.records.len() as u64;
                self.missed += tracer.missed;
            }
            other => bail!("{other:?}"),
        }
        Ok(())
    }
}

fn received(report: &Report) -> u64 {
    report.ports[0].port.rx_packets
}

/// Packets that came in and were dropped, wherever that was.
fn lost(report: &Report, ways: &Ways) -> u64 {
    let dropped: u64 = report.interfaces[usize::from(ways.input.0)]
        .drops
        .iter()
        .sum();
    let output = &report.ports[1];
    let queues = output.queues.iter();
    let delay_dropped: u64 = queues.map(|queue| queue.delay_dropped_packets).sum();
    dropped + delay_dropped + output.port.link_lost_packets
}

/// Traces, by turns with nothing, all that comes, so many packets each time, until it is over.
pub(crate) fn by_turns(
    control: &Control,
    ways: &Ways,
    packets: usize,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<Value> {
    let mut turns = [Turns::default(), Turns::default()];
    let mut traced = Traced::default();
    let mut traces = false;
    let mut before = report(control, ways)?;
    while !is_over() {
        let end = Instant::now() + TURN;
        while Instant::now() < end {
            if traces {
                let next = Tracer::new(TraceFilter::default(), packets);
                traced.take(control, Some(next))?;
            }
            thread::sleep(READ_EVERY);
        }
        let after = report(control, ways)?;
        turns[usize::from(traces)].add(&before, &after, ways);
        traced.take(control, None)?;
        traces = !traces;
        before = report(control, ways)?;
    }
    let gone = before.ports[1].port.tx_packets + lost(&before, ways);
    let hz = before.clock.hz();
    let [without, with] = turns;
    let [mpps_without, mpps_with] = [&without, &with].map(|it| it.mpps(hz));
    Ok(json!({
        "records": traced.records,
        "missed": traced.missed,
        "mpps_without": mpps_without,
        "mpps_with": mpps_with,
        "ratio": mpps_with / mpps_without,
        "lost_without": without.lost,
        "lost_with": with.lost,
        // The last burst, and what waits in queues.
        "not_sent_yet": received(&before).saturating_sub(gone),
    }))
}
