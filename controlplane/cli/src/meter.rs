//! Three-colour meters, as they are typed and shown.

use clap::{Args, ValueEnum};
use voicelane_proto::v1::{
    self,
    meter::{Marker, Rfc4115, SrTcm, TrTcm},
};

use crate::{media::Rate, output::rate};

/// A three-colour meter in place of one rate and burst.
#[derive(Args, Debug)]
#[command(next_help_heading = "Three-colour meter, in place of --codec or --rate")]
pub(crate) struct MeterArgs {
    /// Mark what is over the rate instead of dropping it, as video wants it: green packets AF41,
    /// yellow AF42, red AF43, of which a full queue drops the last first. Implies --class
    /// multimedia-conferencing, the one class that has these three.
    #[arg(
        long = "meter",
        value_enum,
        value_name = "KIND",
        requires_all = ["cir", "cbs"],
        conflicts_with_all = ["codec", "rate", "srtp", "burst"]
    )]
    pub(crate) meter: Option<Kind>,
    /// What is committed, bit/s at the IP layer: what keeps to it is green.
    #[arg(long, value_name = "RATE", requires = "meter")]
    cir: Option<Rate>,
    /// How much of that may come at once.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    cbs: Option<u32>,
    /// Of trtcm: the peak, at least the CIR. What is over it is red; what is between, yellow.
    #[arg(long, value_name = "RATE", requires = "meter")]
    pir: Option<Rate>,
    /// Of trtcm: how much of the peak may come at once.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    pbs: Option<u32>,
    /// Of rfc4115: what may come beside the CIR, yellow.
    #[arg(long, value_name = "RATE", requires = "meter")]
    eir: Option<Rate>,
    /// Of srtcm and rfc4115: how much may be yellow at once.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    ebs: Option<u32>,
    /// Heed how the sender marks: what comes as AF42 is at best yellow, as AF43 red.
    #[arg(long, requires = "meter")]
    colour_aware: bool,
    /// Drop red packets instead of marking them AF43.
    #[arg(long, requires = "meter")]
    drop_red: bool,
}

/// Which meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One rate, two bursts (RFC 2697): --cir --cbs --ebs.
    Srtcm,
    /// A committed rate and a peak (RFC 2698): --cir --cbs --pir --pbs.
    Trtcm,
    /// A committed rate and another beside it (RFC 4115): --cir --cbs --eir --ebs.
    Rfc4115,
}

impl MeterArgs {
    /// What was typed, or what is missing or too much of it.
    pub(crate) fn message(&self) -> Result<Option<v1::Meter>, String> {
        let (Some(kind), Some(cir), Some(cbs_bytes)) = (self.meter, self.cir, self.cbs) else {
            return Ok(None);
        };
        let name = kind
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        let given = [
            ("--pir", self.pir.is_some(), kind == Kind::Trtcm),
            ("--pbs", self.pbs.is_some(), kind == Kind::Trtcm),
            ("--eir", self.eir.is_some(), kind == Kind::Rfc4115),
            ("--ebs", self.ebs.is_some(), kind != Kind::Trtcm),
        ];
        for (option, given, wanted) in given {
            match (given, wanted) {
                (true, false) => {
                    return Err(format!("--meter {name} has no {option}; leave it out"));
                }
                (false, true) => return Err(format!("--meter {name} needs {option}, too")),
                _ => {}
            }
        }
        let bps = |rate: Option<Rate>| rate.map_or(0, |rate| rate.0);
        let (pbs_bytes, ebs_bytes) = (self.pbs.unwrap_or(0), self.ebs.unwrap_or(0));
        let marker = match kind {
            Kind::Srtcm => Marker::Srtcm(SrTcm { ebs_bytes }),
            Kind::Trtcm => Marker::Trtcm(TrTcm {
                pir_bps: bps(self.pir),
                pbs_bytes,
            }),
            Kind::Rfc4115 => Marker::Rfc4115(Rfc4115 {
                eir_bps: bps(self.eir),
                ebs_bytes,
            }),
        };
        Ok(Some(v1::Meter {
            marker: Some(marker),
            cir_bps: cir.0,
            cbs_bytes,
            colour_aware: self.colour_aware,
            drop_red: self.drop_red,
        }))
    }
}

/// A meter as JSON shows it.
#[derive(serde::Serialize)]
pub(crate) struct Meter {
    /// "srtcm", "trtcm", "rfc4115"; empty if this release does not know it.
    kind: String,
    cir_bps: u64,
    cbs_bytes: u32,
    /// null where the kind has none; so the next three.
    pir_bps: Option<u64>,
    pbs_bytes: Option<u32>,
    eir_bps: Option<u64>,
    ebs_bytes: Option<u32>,
    colour_aware: bool,
    drop_red: bool,
}

impl From<v1::Meter> for Meter {
    fn from(meter: v1::Meter) -> Self {
        let (kind, pir, eir, ebs) = match meter.marker {
            Some(Marker::Srtcm(it)) => ("srtcm", None, None, Some(it.ebs_bytes)),
            Some(Marker::Trtcm(it)) => ("trtcm", Some((it.pir_bps, it.pbs_bytes)), None, None),
            Some(Marker::Rfc4115(it)) => ("rfc4115", None, Some(it.eir_bps), Some(it.ebs_bytes)),
            None => ("", None, None, None),
        };
        Self {
            kind: kind.to_owned(),
            cir_bps: meter.cir_bps,
            cbs_bytes: meter.cbs_bytes,
            pir_bps: pir.map(|(bps, _)| bps),
            pbs_bytes: pir.map(|(_, bytes)| bytes),
            eir_bps: eir,
            ebs_bytes: ebs,
            colour_aware: meter.colour_aware,
            drop_red: meter.drop_red,
        }
    }
}

impl Meter {
    /// As people read it, a line a bucket.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} cir {}, cbs {} B",
            self.kind,
            rate(self.cir_bps),
            self.cbs_bytes
        );
        if let (Some(pir), Some(pbs)) = (self.pir_bps, self.pbs_bytes) {
            text += &format!("\npir {}, pbs {pbs} B", rate(pir));
        }
        if let Some(ebs) = self.ebs_bytes {
            let eir = self
                .eir_bps
                .map_or_else(String::new, |eir| format!("eir {}, ", rate(eir)));
            text += &format!("\n{eir}ebs {ebs} B");
        }
        if self.colour_aware {
            text += "\ncolour-aware";
        }
        if self.drop_red {
            text += "\ndrops red";
        }
        text
    }

    /// In a few letters.
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.kind, rate(self.cir_bps))
    }
}

/// Packets by the colour that a meter gave them.
#[derive(serde::Serialize)]
pub(crate) struct Colours {
    green_packets: u64,
    green_bytes: u64,
    yellow_packets: u64,
    yellow_bytes: u64,
    red_packets: u64,
    red_bytes: u64,
}

impl From<v1::ColourCounts> for Colours {
    fn from(counts: v1::ColourCounts) -> Self {
        Self {
            green_packets: counts.green_packets,
            green_bytes: counts.green_bytes,
            yellow_packets: counts.yellow_packets,
            yellow_bytes: counts.yellow_bytes,
            red_packets: counts.red_packets,
            red_bytes: counts.red_bytes,
        }
    }
}

impl Colours {
    /// "60 / 30 / 4".
    pub(crate) fn text(&self) -> String {
        format!(
            "{} / {} / {}",
            self.green_packets, self.yellow_packets, self.red_packets
        )
    }
}
