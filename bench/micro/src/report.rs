//! The figures, for programs and for people.

use std::{collections::BTreeMap, fmt};

use anyhow::ensure;
use comfy_table::Table;
use serde::Serialize;
use voicelane_bench::{Machine, report};

use crate::{
    case::Case,
    rig::Measured,
    stages::{DEVICE, LOOP, STAGES},
};

/// All figures, and what they depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The date, UTC, RFC 3339.
    pub date: String,
    /// Commit of the sources.
    pub commit: String,
    /// Where they were taken.
    pub machine: Machine,
    /// Turns of the worker's loop a case, each with a burst of 64 packets.
    pub turns: usize,
    /// One for each case.
    pub rows: Vec<Row>,
}

/// Figures of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// Version of IP, 4 or 6.
    pub ip: u8,
    pub flows: u32,
    /// State that the packets meet: `hit`, `measured`, `miss`, `policed`, `saturated`.
    pub load: &'static str,
    pub packets: u64,
    /// The share of them that left.
    pub sent_share: f64,
    /// The share of them that were dropped.
    pub dropped_share: f64,
    /// Instructions a packet received, of each stage, the loop and the device.
    pub instructions: BTreeMap<&'static str, f64>,
    /// Instructions a packet received, of all but the device.
    pub router_instructions: f64,
    /// Memory allocations for each packet.
    pub allocations_per_packet: f64,
}

impl Row {
    pub(crate) fn new(
        case: Case,
        measured: &Measured,
        instructions: &BTreeMap<&'static str, f64>,
    ) -> anyhow::Result<Self> {
        let counts = measured.counts;
        ensure!(counts.received > 0, "{case}: no packet came");
        ensure!(
            counts.astray == 0,
            "{case}: packets went astray: {counts:?}"
        );
        let a_packet = |number: f64| number / counts.received as f64;
        let instructions: BTreeMap<_, _> = instructions
            .iter()
            .map(|(&part, &count)| (part, a_packet(count)))
            .collect();
        let device = instructions.get(DEVICE).copied().unwrap_or_default();
        Ok(Self {
            case: case.to_string(),
            ip: case.ip.number(),
            flows: case.flows,
            load: case.load.name(),
            packets: counts.received,
            sent_share: a_packet(counts.sent as f64),
            dropped_share: a_packet((counts.policed + counts.unqueued) as f64),
            router_instructions: instructions.values().sum::<f64>() - device,
            instructions,
            allocations_per_packet: a_packet(measured.allocations as f64),
        })
    }
}

/// The page for people, as Markdown.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions and allocations a packet\n\n\
             The worker turned by hand over two ports in memory, under callgrind: instructions of each\n\
             stage and what it calls, over all packets that came, {} bursts of 64 a case. Frames of 60\n\
             bytes (IPv6: 62; measured: 74). `queue` is the way into a queue, with WRED; `schedule` is the way out,\n\
             with the shaper, controlled delay and EF's error terms. `device` are the ports in memory,\n\
             and not in the sum. `measured` is `hit` with RTP\n\
             that is measured. But for `saturated` queues are empty and there is one class; `saturated` are 13 classes at twice the port's rate.\n\n\
             {}; commit {}; {}\n",
            self.turns, self.machine, self.commit, self.date
        )?;
        writeln!(f, "{}", self.table())
    }
}

impl Figures {
    fn table(&self) -> Table {
        let parts = || STAGES.into_iter().chain([LOOP]);
        let stages = parts().collect::<Vec<_>>().join(" | ");
        let header = format!("case | sent | {stages} | sum | {DEVICE} | allocations");
        let mut table = report::table(&header, 1);
        for row in &self.rows {
            let part = |part| row.instructions.get(part).copied().unwrap_or_default();
            let numbers = parts()
                .map(part)
                .chain([row.router_instructions, part(DEVICE)]);
            table.add_row(
                [row.case.clone(), format!("{:.0} %", row.sent_share * 100.0)]
                    .into_iter()
                    .chain(numbers.map(|number| format!("{number:.1}")))
                    .chain([row.allocations_per_packet.to_string()]),
            );
        }
        table
    }
}
