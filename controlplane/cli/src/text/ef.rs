//! `router ef-report`: how well each port serves EF, and how long every class waits.

use voicelane_proto::v1;

use super::{rate, table};

/// What the figures are of, and over which time.
pub(super) fn title(report: &v1::ReportEfResponse) -> String {
    let over = if report.since_start {
        "since its start,"
    } else {
        "over"
    };
    format!("router {} {over} {:.1} s", report.router_id, report.seconds)
}

/// EF's error terms of each port, and each class's delays.
pub(crate) fn report(report: &v1::ReportEfResponse) -> String {
    let us = |value: f64| format!("{value:.1}");
    let ports = report.ports.iter().map(|port| {
        // Without packets of the aggregate there is no error.
        let error = |value| match port.packets {
            0 => String::new(),
            _ => us(value),
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
    let classes = report.ports.iter().flat_map(|port| {
        port.phbs.iter().map(move |class| {
            let delay = class.delay_us.unwrap_or_default();
            [
                port.port.clone(),
                class.phb.clone(),
                delay.count.to_string(),
                us(delay.p50),
                us(delay.p90),
                us(delay.p99),
                us(delay.p999),
                us(delay.max),
            ]
        })
    });
    format!(
        "{}; the worker's loop stood still for {} us at most\n{}\n\n{}",
        title(report),
        us(report.longest_stall_us),
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::text) fn example() -> v1::ReportEfResponse {
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
    }

    #[test]
    fn the_text_says_all_figures() {
        let text = report(&example());
        for figure in [
            "router a over 10.0 s",
            "42.5 us",
            "10 Mbit/s",
            "1250.0",
            "1260.0",
            "1230.4",
            "telephony",
            "1200.5",
        ] {
            assert!(text.contains(figure), "{figure}: {text}");
        }
        let idle = text.lines().find(|line| line.contains("lan")).unwrap();
        assert_eq!(idle.split_whitespace().count(), 8, "no errors: {idle}");
    }
}
