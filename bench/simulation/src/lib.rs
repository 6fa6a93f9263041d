//! What each class gets from the dataplane under several loads, on a simulated device's clock: the
//! figures are the scheduler's own, whatever the machine.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "a tool of this tree: fields are documented where the name leaves something open"
)]

mod network;
mod offer;
mod table;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use voicelane_dataplane::{
    diffserv::{ClassSettings, Colour, Dscp, Phb, Service},
    units::BitRate,
};

use network::{CLOCK_HZ, Network};
use offer::{Offer, wire_bytes};

pub use table::markdown;

/// What a class got under one load. Rates and lengths are those of the wire.
#[derive(Clone, Debug, Serialize)]
pub struct ClassFigures {
    pub class: &'static str,
    /// "strict", "weight 10", "lower effort".
    pub service: String,
    /// bit/s.
    pub offered_bit_s: f64,
    /// bit/s.
    pub delivered_bit_s: f64,
    /// What its weight promises, where it was offered more: in percent of the link.
    pub promised_percent: Option<f64>,
    /// What it got, in percent of the link.
    pub got_percent: f64,
    /// By drop precedence 1, 2, 3, in percent; `None` where none was offered.
    pub lost_percent: [Option<f64>; 3],
    /// From arrival to hand-over, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Packets that left before one of their class that had come before them.
    pub reordered: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoadFigures {
    /// Of what the link carries.
    pub load: f64,
    /// In the order of RFC 4594's table.
    pub classes: Vec<ClassFigures>,
    /// RFC 3246: the strict classes' error term as an aggregate, in microseconds.
    pub e_a_us: f64,
    /// And the one that knows each packet.
    pub e_p_us: f64,
    /// One packet of the largest size on the wire, in microseconds.
    pub largest_packet_us: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub rate_bit_s: u64,
    /// Simulated time of each load.
    pub seconds: f64,
    /// How often the worker's loop turns, in nanoseconds.
    pub turn_ns: u64,
    /// In the order asked for.
    pub loads: Vec<LoadFigures>,
}

/// Runs each load for as many simulated seconds, with all classes active.
pub fn run(rate: BitRate, seconds: u64, loads: &[f64]) -> anyhow::Result<Figures> {
    // A quarter of the shortest packet's time.
    let turn_ns = (wire_bytes(60) * 8 * CLOCK_HZ / rate.bps() / 4).max(1);
    let loads = loads
        .iter()
        .map(|&load| run_load(rate, seconds, load, turn_ns))
        .collect::<anyhow::Result<_>>()?;
    Ok(Figures {
        rate_bit_s: rate.bps(),
        seconds: f64::from(u32::try_from(seconds)?),
        turn_ns,
        loads,
    })
}

/// What came out of one code point's packets.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    offered: u64,
    lost: u64,
    bytes: u64,
}

struct Class {
    phb: Phb,
    counts: [Count; 3],
    waits_ns: Histogram<u64>,
    last: u64,
    reordered: u64,
}

fn run_load(rate: BitRate, seconds: u64, load: f64, turn_ns: u64) -> anyhow::Result<LoadFigures> {
    let mut network = Network::new(rate)?;
    let mut offer = Offer::new(rate, load);
    for stream in &offer.streams {
        if stream.is_call {
            network.admit(stream.dscp)?;
        }
    }
    let mut classes = Phb::ALL
        .iter()
        .map(|&phb| {
            Ok(Class {
                phb,
                counts: [Count::default(); 3],
                waits_ns: Histogram::new_with_bounds(1, 3_600 * CLOCK_HZ, 3)?,
                last: 0,
                reordered: 0,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let end = seconds * CLOCK_HZ;
    while network.now() < end {
        offer.until(network.now(), |dscp, frame| {
            classes[Phb::of(dscp).index()].counts[Colour::of(dscp).index()].offered += 1;
            network.arrive(frame);
        });
        for (at, frame) in network.turn() {
            note(&mut classes, at, &frame).context("a frame that nobody sent")?;
        }
        network.advance(turn_ns);
    }
    let core = network.report()?.ports.swap_remove(1);
    for (class, queue) in classes.iter_mut().zip(&core.queues) {
        let refused = queue.full_packets.iter().zip(&queue.early_packets);
        for (count, (full, early)) in class.counts.iter_mut().zip(refused) {
            count.lost = full + early;
        }
        // Controlled delay does not know precedences, nor have its classes any.
        class.counts[0].lost += queue.delay_dropped_packets;
    }
    let ef = core.ef.total;
    let strict = strict_share(&classes, rate, seconds);
    Ok(LoadFigures {
        load,
        classes: classes
            .iter()
            .map(|class| figures(class, rate, seconds, strict))
            .collect(),
        e_a_us: us(ef.aggregate.0),
        e_p_us: us(ef.packet.0),
        largest_packet_us: us(wire_bytes(offer::DATA_FRAME_BYTES) * 8 * CLOCK_HZ / rate.bps()),
    })
}

/// Counts a frame that has left.
fn note(classes: &mut [Class], at: u64, frame: &[u8]) -> Option<()> {
    let dscp = Dscp::new(u32::from(frame.get(15)? >> 2)).ok()?;
    let arrived = u64::from_be_bytes(*frame.last_chunk()?);
    let class = classes.get_mut(Phb::of(dscp).index())?;
    let count = &mut class.counts[Colour::of(dscp).index()];
    count.bytes += wire_bytes(frame.len());
    class.waits_ns.saturating_record(at - arrived);
    class.reordered += u64::from(arrived < class.last);
    class.last = arrived;
    Some(())
}

/// What the strict classes took of the link.
fn strict_share(classes: &[Class], rate: BitRate, seconds: u64) -> f64 {
    let bytes: u64 = classes
        .iter()
        .filter(|class| ClassSettings::of(class.phb, rate).service == Service::Strict)
        .map(delivered_bytes)
        .sum();
    bits(bytes, seconds) / float(rate.bps())
}

fn figures(class: &Class, rate: BitRate, seconds: u64, strict: f64) -> ClassFigures {
    let settings = ClassSettings::of(class.phb, rate);
    let minimum = settings.minimum.map_or(0.0, |minimum| float(minimum.bps())) / float(rate.bps());
    // The only minimum is that of lower effort, 1 %.
    let left = 1.0 - strict - 0.01;
    let promised = match settings.service {
        Service::Strict => None,
        Service::Weighted(weight) => Some(left * f64::from(weight) / 100.0),
        Service::LowerEffort => Some(minimum),
    };
    let frame_bytes = wire_bytes(offer::frame_bytes(class.phb));
    let offered: u64 = class.counts.iter().map(|count| count.offered).sum();
    let offered_bit_s = bits(offered * frame_bytes, seconds);
    let delivered_bit_s = bits(delivered_bytes(class), seconds);
    let full = float(rate.bps());
    let quantile = |quantile| us(class.waits_ns.value_at_quantile(quantile));
    ClassFigures {
        class: class.phb.name(),
        service: match settings.service {
            Service::Strict => "strict".to_owned(),
            Service::Weighted(weight) => format!("weight {weight}"),
            Service::LowerEffort => "lower effort".to_owned(),
        },
        offered_bit_s,
        delivered_bit_s,
        promised_percent: promised
            .filter(|promised| offered_bit_s / full > *promised)
            .map(|promised| promised * 100.0),
        got_percent: delivered_bit_s / full * 100.0,
        lost_percent: class.counts.map(|count| {
            (count.offered > 0).then(|| float(count.lost) / float(count.offered) * 100.0)
        }),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: us(class.waits_ns.max()),
        reordered: class.reordered,
    }
}

fn delivered_bytes(class: &Class) -> u64 {
    class.counts.iter().map(|count| count.bytes).sum()
}

fn bits(bytes: u64, seconds: u64) -> f64 {
    float(bytes * 8) / float(seconds)
}

fn us(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e3
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn float(number: u64) -> f64 {
    number as f64
}
