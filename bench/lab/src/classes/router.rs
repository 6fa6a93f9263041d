//! What a router says of its own port.

use std::{fmt, time::Duration};

use serde::Serialize;
use voicelane_proto::v1::{PortEf, PortStatus, QueueStatus};
use voicelane_testbed::{
    LabError,
    clock::{Moment, Window},
    control::Agent,
    topology::Site,
};

use super::figures::Quantiles;

/// The most that a router measures at once.
const LONGEST_REPORT: Duration = Duration::from_secs(60);
const CORE: &str = "core";

/// A port as its router measured it over a window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouterFigures {
    /// How well it served EF.
    pub ef: Option<EfFigures>,
    /// Its queues, in the order of RFC 4594's table.
    pub queues: Vec<QueueFigures>,
}

/// How well a port served the EF aggregate (RFC 3246 section 2.2).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EfFigures {
    /// The configured EF rate, on the wire.
    pub ef_rate_bit_s: u64,
    /// Packets of the aggregate that left.
    pub packets: u64,
    /// The aggregate's error term.
    pub e_a_ms: f64,
    /// The error term that knows each packet.
    pub e_p_ms: f64,
    /// One packet of the largest size on the wire: what no scheduler can be without.
    pub ideal_ms: f64,
    /// For how long the router's loop stood still at most, as when the machine took its core away.
    pub longest_stall_ms: f64,
}

/// A queue as its router counted it.
#[derive(Clone, Debug, Serialize)]
pub struct QueueFigures {
    pub phb: String,
    pub enqueued_packets: u64,
    pub sent_packets: u64,
    /// Packets dropped, for any of the reasons below.
    pub dropped_packets: u64,
    /// Packets that found it full, by drop precedence.
    pub full_packets: Vec<u64>,
    /// Packets that random early detection dropped, by drop precedence.
    pub early_packets: Vec<u64>,
    /// Packets that controlled delay dropped.
    pub delay_dropped_packets: u64,
    /// Packets that it marked instead.
    pub ecn_marked_packets: u64,
    /// Packets inside at the window's end.
    pub depth_packets: u64,
    /// Time in the queue.
    pub delay_us: Quantiles,
}

/// Lets a window pass, while router A measures its core port.
pub(super) fn pass(agent: &Agent, length: Duration) -> Result<(Window, RouterFigures), LabError> {
    let before = core_port(agent)?;
    let from = Moment::now();
    let window = Window {
        from,
        to: from + length,
    };
    let ef = agent.router_ef(Site::A, length.min(LONGEST_REPORT))?;
    window.to.sleep_at_most(length);
    let after = core_port(agent)?;
    let stall_us = ef.longest_stall_us;
    let ef = ef.ports.into_iter().find(|port| port.port == CORE);
    let queues = after.queues.iter().map(|queue| {
        let before = before.queues.iter().find(|before| before.phb == queue.phb);
        QueueFigures::between(
            before.unwrap_or(&QueueStatus::default()),
            queue,
            ef.as_ref(),
        )
    });
    let figures = RouterFigures {
        queues: queues.collect(),
        ef: ef.as_ref().map(|port| EfFigures::of(port, stall_us)),
    };
    Ok((window, figures))
}

fn core_port(agent: &Agent) -> Result<PortStatus, LabError> {
    let (ports, _) = agent.router_ports(Site::A)?;
    let is_core = |port: &PortStatus| port.interface.as_ref().is_some_and(|i| i.name == CORE);
    Ok(ports.into_iter().find(is_core).unwrap_or_default())
}

impl EfFigures {
    fn of(port: &PortEf, stall_us: f64) -> Self {
        Self {
            ef_rate_bit_s: port.ef_rate_bps,
            packets: port.packets,
            e_a_ms: port.e_a_us / 1e3,
            e_p_ms: port.e_p_us / 1e3,
            ideal_ms: port.ideal_us / 1e3,
            longest_stall_ms: stall_us / 1e3,
        }
    }
}

impl fmt::Display for EfFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EF at the core port, by RFC 3246: E_a {:.2} ms, E_p {:.2} ms over {} packets; one full \
             packet is {:.2} ms; the router's loop stood still for {:.2} ms at most",
            self.e_a_ms, self.e_p_ms, self.packets, self.ideal_ms, self.longest_stall_ms
        )
    }
}

impl QueueFigures {
    fn between(before: &QueueStatus, after: &QueueStatus, ef: Option<&PortEf>) -> Self {
        let more = |count: fn(&QueueStatus) -> u64| count(after).saturating_sub(count(before));
        let each = |before: &[u64], after: &[u64]| {
            let before = before.iter().chain(std::iter::repeat(&0));
            let pairs = after.iter().zip(before);
            pairs
                .map(|(after, before)| after.saturating_sub(*before))
                .collect()
        };
        let of_class = ef.and_then(|ef| ef.phbs.iter().find(|delay| delay.phb == after.phb));
        let delay = of_class
            .and_then(|of_class| of_class.delay_us)
            .unwrap_or_default();
        Self {
            phb: after.phb.clone(),
            enqueued_packets: more(|queue| queue.enqueued_packets),
            sent_packets: more(|queue| queue.sent_packets),
            dropped_packets: more(|queue| queue.dropped_packets),
            full_packets: each(&before.full_packets, &after.full_packets),
            early_packets: each(&before.early_packets, &after.early_packets),
            delay_dropped_packets: more(|queue| queue.delay_dropped_packets),
            ecn_marked_packets: more(|queue| queue.ecn_marked_packets),
            depth_packets: after.depth_packets,
            delay_us: Quantiles {
                p50: delay.p50,
                p99: delay.p99,
                p999: delay.p999,
                max: delay.max,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use voicelane_proto::v1::{self, PhbDelay};

    use super::*;

    #[test]
    fn counts_are_of_the_window_and_delays_of_its_report() {
        let queue = |sent, full: &[u64]| QueueStatus {
            phb: "oam".to_owned(),
            sent_packets: sent,
            full_packets: full.to_vec(),
            ..QueueStatus::default()
        };
        let ef = PortEf {
            phbs: vec![PhbDelay {
                phb: "oam".to_owned(),
                delay_us: Some(v1::Quantiles {
                    p99: 7.0,
                    ..v1::Quantiles::default()
                }),
            }],
            ..PortEf::default()
        };
        let figures =
            QueueFigures::between(&queue(10, &[1, 2, 3]), &queue(25, &[1, 3, 9]), Some(&ef));
        assert_eq!(
            (figures.sent_packets, figures.full_packets),
            (15, vec![0, 1, 6])
        );
        assert_eq!(figures.delay_us.p99, 7.0);
        // A queue that nothing had come to before.
        let first = QueueFigures::between(&QueueStatus::default(), &queue(5, &[4, 0, 0]), None);
        assert_eq!((first.sent_packets, first.full_packets), (5, vec![4, 0, 0]));
    }
}
