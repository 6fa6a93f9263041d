//! The report as a Markdown page.

use std::fmt;

use comfy_table::Table;
use voicelane_bench::report;

use crate::{
    case::Program,
    figures::{Report, Row, Spread},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Voicelane beside DPDK's own programs\n\n\
             One core, one source and sink under all programs, {} rounds; in each, those with the same\n\
             packets take many short turns. Minimum / median / maximum over the rounds; ratios are the\n\
             median of each round's, to the peer with packets most alike (with how many flows, where it is\n\
             not as many).\n\n\
             {}; TSC {:.2} GHz; commit {}; {}\n",
            self.rounds,
            self.machine,
            self.tsc_hz / 1e9,
            self.commit,
            self.date
        )?;
        writeln!(f, "## Voicelane\n\n{}\n", voicelane(&self.rows))?;
        writeln!(f, "## Peers\n\n{}\n", peers(&self.rows))?;
        if let Some(share) = self.full_link_share() {
            writeln!(
                f,
                "Extrapolated from a core that is never idle: a 10GbE link full of G.711 (5.25 Mpps, 105,000 calls \
                 each way) takes {share:.2} of it here; machines so far gave 0.28 to 0.61.\n"
            )?;
        }
        for (program, flags) in &self.flags {
            writeln!(f, "- {program}: {flags}")?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        for failure in &self.failures {
            writeln!(f, "- FAILED: {failure}")?;
        }
        Ok(())
    }
}

fn peers(rows: &[Row]) -> Table {
    let header = "program | IP | frame | flows | load | Mpps | cycles a packet | \
        cycles a packet sent | hits";
    let mut table = report::table(header, 0);
    for row in rows
        .iter()
        .filter(|row| row.case.program != Program::Voicelane)
    {
        table.add_row([
            row.name.to_owned(),
            row.ip.to_string(),
            row.frame_bytes.to_string(),
            thousands(row.flows),
            row.variations.join(", "),
            spread(&row.mpps, 1),
            spread(&row.cycles_per_packet, 0),
            spread(&row.cycles_per_sent, 0),
            row.hit_share.map(percent).unwrap_or_default(),
        ]);
    }
    table
}

fn voicelane(rows: &[Row]) -> Table {
    let header = "IP | frame | flows | load | classes | hits | queues | saturated | Mpps | \
        cycles a packet | cycles a packet sent | of unsaturated | for measuring | of testpmd io | \
        of l3fwd lpm | of l3fwd em | of qos_sched";
    let mut table = report::table(header, 0);
    for row in rows
        .iter()
        .filter(|row| row.case.program == Program::Voicelane)
    {
        let mut cells = vec![
            row.ip.to_string(),
            row.frame_bytes.to_string(),
            thousands(row.flows),
            row.variations.join(", "),
            row.classes.unwrap_or_default().to_owned(),
            row.hit_share.map(percent).unwrap_or_default(),
            match row.bypasses {
                Some(true) => "bypass".to_owned(),
                _ => String::new(),
            },
            match row.saturated {
                true => format!("{} sent", percent(row.sent_share)),
                false => "no".to_owned(),
            },
            spread(&row.mpps, 1),
            spread(&row.cycles_per_packet, 0),
            spread(&row.cycles_per_sent, 0),
            row.of_unsaturated
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
            row.measuring
                .map(|cycles| format!("{cycles:+.0}"))
                .unwrap_or_default(),
        ];
        cells.extend(Program::PEERS.map(|peer| match row.ratio.get(peer.name()) {
            Some(ratio) if ratio.flows == row.flows => format!("{:.2}", ratio.cycles),
            Some(ratio) => format!("{:.2} ({})", ratio.cycles, thousands(ratio.flows)),
            None => String::new(),
        }));
        table.add_row(cells);
    }
    table
}

fn spread(spread: &Spread, digits: usize) -> String {
    format!(
        "{:.digits$} / {:.digits$} / {:.digits$}",
        spread.min, spread.median, spread.max
    )
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn thousands(number: u32) -> String {
    match number {
        1_000_000.. => format!("{} M", f64::from(number / 100_000) / 10.0),
        1_000.. => format!("{} k", number / 1_000),
        _ => number.to_string(),
    }
}
