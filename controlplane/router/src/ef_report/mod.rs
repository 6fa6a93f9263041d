//! `voicelane-router ef-report`: how well a running router serves voice, for people and as a
//! document.

mod chart;

use std::{
    convert::Infallible,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;
use voicelane_dataplane::units::BitRate;
use voicelane_proto::v1::{self, ReportEfRequest, router_operator_client::RouterOperatorClient};

use crate::cli::EfReportArgs;

/// How long a router may take, beside the window.
const PATIENCE: Duration = Duration::from_secs(10);

/// The document.
#[derive(Debug, Serialize)]
struct Report {
    router: String,
    /// Else over a window.
    since_start: bool,
    seconds: f64,
    /// For how long the worker's loop stood still at most.
    longest_stall_us: f64,
    ports: Vec<Port>,
}

/// Of one port. Times are in microseconds, lengths and rates on the wire.
#[derive(Debug, Serialize)]
struct Port {
    port: String,
    rate_bps: u64,
    ef_rate_bps: u64,
    mtu: u32,
    /// Of the EF aggregate, that left.
    packets: u64,
    e_a_us: f64,
    e_p_us: f64,
    /// One packet of the largest size.
    ideal_us: f64,
    /// Of each class that was queued.
    classes: Vec<Class>,
}

/// How long a class's packets waited, in microseconds.
#[derive(Debug, Serialize)]
struct Class {
    class: String,
    packets: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

/// Asks, prints, and draws.
pub fn run(args: &EfReportArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?;
    let report = runtime.block_on(ask(&args.api, args.window.unwrap_or(0)))?;
    let printed = if args.json {
        serde_json::to_string(&report)?
    } else {
        report.text()
    };
    writeln!(std::io::stdout(), "{printed}").context("printing")?;
    if let Some(file) = &args.svg {
        chart::draw(&report, file)
            .map_err(|error| anyhow::anyhow!("{}: cannot be drawn: {error}", file.display()))?;
    }
    Ok(())
}

async fn ask(api: &str, window_s: u32) -> anyhow::Result<Report> {
    let endpoint = Endpoint::from_shared(api.to_owned())
        .with_context(|| format!("{api:?} is no URL: write it as http://172.30.0.11:7401"))?
        .connect_timeout(PATIENCE);
    let channel = endpoint.connect().await.with_context(|| {
        format!("no router answers at {api}: is it running, with this address as its router.api?")
    })?;
    let mut client = RouterOperatorClient::new(channel);
    let window = Duration::from_secs(window_s.into());
    let asked = timeout(
        window + PATIENCE,
        client.report_ef(ReportEfRequest { window_s }),
    );
    let answer = tokio::select! {
        answer = asked => answer,
        never = progress(window) => match never {},
    };
    let answer = answer
        .with_context(|| format!("the router at {api} does not answer"))?
        .with_context(|| format!("the router at {api} refuses"))?;
    Ok(answer.into_inner().into())
}

/// Says on a terminal how long it will still take.
async fn progress(window: Duration) -> Infallible {
    let end = Instant::now() + window;
    while std::io::stderr().is_terminal() && Instant::now() < end {
        eprint!("\rmeasuring, {} s to go ", (end - Instant::now()).as_secs());
        sleep(Duration::from_secs(1).min(end - Instant::now())).await;
        if Instant::now() >= end {
            eprint!("\r\x1b[K");
        }
    }
    std::future::pending().await
}

impl From<v1::ReportEfResponse> for Report {
    fn from(report: v1::ReportEfResponse) -> Self {
        Self {
            router: report.router_id,
            since_start: report.since_start,
            seconds: report.seconds,
            longest_stall_us: report.longest_stall_us,
            ports: report.ports.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::PortEf> for Port {
    fn from(port: v1::PortEf) -> Self {
        let class = |phb: v1::PhbDelay| {
            let delay = phb.delay_us.unwrap_or_default();
            Class {
                class: phb.phb,
                packets: delay.count,
                p50_us: delay.p50,
                p90_us: delay.p90,
                p99_us: delay.p99,
                p999_us: delay.p999,
                max_us: delay.max,
            }
        };
        Self {
            port: port.port,
            rate_bps: port.rate_bps,
            ef_rate_bps: port.ef_rate_bps,
            mtu: port.mtu,
            packets: port.packets,
            e_a_us: port.e_a_us,
            e_p_us: port.e_p_us,
            ideal_us: port.ideal_us,
            classes: port.phbs.into_iter().map(class).collect(),
        }
    }
}

impl Report {
    fn title(&self) -> String {
        let since = if self.since_start {
            "since its start,"
        } else {
            "over"
        };
        format!("router {} {since} {:.1} s", self.router, self.seconds)
    }

    fn text(&self) -> String {
        let us = |value: f64| format!("{value:.1}");
        let ports = self.ports.iter().map(|port| {
            // Nothing of the kind was sent: there is nothing to say.
            let error = |value: f64| {
                if port.packets > 0 {
                    us(value)
                } else {
                    String::new()
                }
            };
            [
                port.port.clone(),
                rate(port.rate_bps),
                rate(port.ef_rate_bps),
                port.mtu.to_string(),
                port.packets.to_string(),
                error(port.e_a_us),
                error(port.e_p_us),
                us(port.ideal_us),
            ]
        });
        let classes = self.ports.iter().flat_map(|port| {
            port.classes.iter().map(move |class| {
                [
                    port.port.clone(),
                    class.class.clone(),
                    class.packets.to_string(),
                    us(class.p50_us),
                    us(class.p90_us),
                    us(class.p99_us),
                    us(class.p999_us),
                    us(class.max_us),
                ]
            })
        });
        format!(
            "{}; the worker's loop stood still for {} us at most\n{}\n\n{}",
            self.title(),
            us(self.longest_stall_us),
            table(
                [
                    "PORT",
                    "RATE",
                    "EF RATE",
                    "MTU",
                    "EF PACKETS",
                    "E_a us",
                    "E_p us",
                    "IDEAL us"
                ],
                ports,
            ),
            table(
                [
                    "PORT", "CLASS", "PACKETS", "p50 us", "p90 us", "p99 us", "p99.9 us", "MAX us"
                ],
                classes,
            )
        )
    }
}

fn rate(bps: u64) -> String {
    BitRate::from_bps(bps).map_or_else(|_| bps.to_string(), |rate| rate.to_string())
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header).add_rows(rows);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let quantiles = v1::Quantiles {
            count: 1_000,
            p50: 300.0,
            p90: 700.0,
            p99: 1_200.5,
            p999: 1_300.0,
            max: 1_400.0,
        };
        let port = v1::PortEf {
            port: "core".to_owned(),
            rate_bps: 10_000_000,
            ef_rate_bps: 5_000_000,
            mtu: 1500,
            packets: 1_000,
            e_a_us: 1_250.0,
            e_p_us: 1_260.0,
            ideal_us: 1_230.4,
            phbs: vec![v1::PhbDelay {
                phb: "telephony".to_owned(),
                delay_us: Some(quantiles),
            }],
        };
        let idle = v1::PortEf {
            port: "lan".to_owned(),
            ..v1::PortEf::default()
        };
        v1::ReportEfResponse {
            router_id: "a".to_owned(),
            since_start: false,
            seconds: 10.0,
            longest_stall_us: 42.5,
            ports: vec![port, idle],
        }
        .into()
    }

    #[test]
    fn the_text_says_all_figures() {
        let text = report().text();
        for figure in [
            "router a over 10.0 s",
            "42.5 us",
            "10Mbit/s",
            "1250.0",
            "1260.0",
            "1230.4",
            "telephony",
            "1200.5",
        ] {
            assert!(text.contains(figure), "{figure}: {text}");
        }
    }

    #[test]
    fn the_picture_names_ports_and_classes() {
        let file = std::env::temp_dir().join(format!("ef-report-{}.svg", std::process::id()));
        chart::draw(&report(), &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for word in ["core", "telephony", "E_a", "ideal"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
