//! What the measurement found, for people and for programs.

use std::fmt;

use comfy_table::Table;
use serde::Serialize;
use voicelane_bench::{Machine, report};
use voicelane_types::BitRate;

use super::{
    ClassFigures, RouterFigures,
    plan::{CLASSES, Share},
};
use crate::demo::Check;

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict(percent) => write!(f, "strict, {percent} %"),
            Self::Weight(percent) => write!(f, "weight {percent}"),
            Self::Rest(percent) => write!(f, "what is left, at least {percent} %"),
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of the core link, on the wire.
    pub rate_bit_s: u64,
    /// The version of IP.
    pub ip: u8,
    /// Of each load's window.
    pub seconds: f64,
    /// In the order in which they ran.
    pub loads: Vec<LoadReport>,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// What the routers' configuration said of the core port besides the lab's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub core_toml: String,
    pub machine: Machine,
    /// The commit that was built.
    pub commit: String,
    /// How these figures were taken.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Of each class's fair share.
    pub load: f64,
    /// Of both voice classes.
    pub calls: usize,
    /// In the order of RFC 4594's table.
    pub classes: Vec<ClassFigures>,
    /// Router A's core port, as the router itself measured it over the window.
    pub router: RouterFigures,
    /// How often the sender lost its rate: then offers are not what they should be.
    pub sender_lapses: u64,
    /// Packets that receiving sockets dropped, or did not know.
    pub receiver_faults: u64,
    /// How many threads wanted a core over the last minute, those under test included.
    pub load_average: Option<f64>,
}

impl LoadReport {
    /// One table: a class a row.
    pub fn table(&self) -> Table {
        let header = "class | code points | offered Mbit/s | delivered | fair | lost % | \
            delay p50 ms | p99 ms | p99.9 ms";
        let mut table = report::table(header, 2);
        for (figures, class) in self.classes.iter().zip(&CLASSES) {
            let points: Vec<_> = class.points.iter().map(|(name, _)| *name).collect();
            let losses = class.points.iter().map(|(name, _)| {
                let loss = figures.loss_percent_by_dscp.get(name).copied();
                format!("{:.2}", loss.unwrap_or_default())
            });
            table.add_row([
                figures.class.to_owned(),
                points.join(" / "),
                format!("{:.3}", figures.offered_mbit_s),
                format!("{:.3}", figures.delivered_mbit_s),
                format!("{:.3}", figures.fair_mbit_s),
                losses.collect::<Vec<_>>().join(" / "),
                format!("{:.2}", figures.delay_ms.p50),
                format!("{:.2}", figures.delay_ms.p99),
                format!("{:.2}", figures.delay_ms.p999),
            ]);
        }
        let sum =
            |figure: fn(&ClassFigures) -> f64| -> f64 { self.classes.iter().map(figure).sum() };
        table.add_row([
            "all".to_owned(),
            String::new(),
            format!("{:.3}", sum(|class| class.offered_mbit_s)),
            format!("{:.3}", sum(|class| class.delivered_mbit_s)),
            format!("{:.3}", sum(|class| class.fair_mbit_s)),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
        table
    }
}

impl Report {
    pub fn markdown(&self) -> String {
        let rate = BitRate::from_bps(self.rate_bit_s).unwrap_or_default();
        let mut page = format!("# Every class at once at {rate}, on real ports\n\n");
        for note in &self.notes {
            page.push_str(&format!("- {note}\n"));
        }
        if !self.core_toml.is_empty() {
            let toml = self.core_toml.trim().replace('\n', "; ");
            page.push_str(&format!("- core port: `{toml}`\n"));
        }
        page.push_str(&format!(
            "- IPv{}; {}\n- commit {}\n\n{self}",
            self.ip, self.machine, self.commit
        ));
        page
    }
}

/// A table for each load.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, load) in self.loads.iter().enumerate() {
            let space = if number == 0 { "" } else { "\n" };
            let busy = load
                .load_average
                .map_or_else(String::new, |load| format!(" (load average {load})"));
            writeln!(f, "{space}## Load {}{busy}\n\n{}", load.load, load.table())?;
            if let Some(ef) = &load.router.ef {
                writeln!(f, "\n{ef}")?;
            }
        }
        Ok(())
    }
}
