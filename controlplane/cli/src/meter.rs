//! Options of three-colour meters.

use clap::{Args, ValueEnum};
use voicelane_proto::v1::{
    self,
    meter::{Marker, Rfc4115, SrTcm, TrTcm},
};
use voicelane_types::BitRate;

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
    /// Committed rate, bit/s at the IP layer: packets within it are green.
    #[arg(long, value_name = "RATE", requires = "meter")]
    cir: Option<BitRate>,
    /// Committed burst size.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    cbs: Option<u32>,
    /// Of trtcm: peak rate, at least the CIR. Packets over it are red; between both, yellow.
    #[arg(long, value_name = "RATE", requires = "meter")]
    pir: Option<BitRate>,
    /// Of trtcm: peak burst size.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    pbs: Option<u32>,
    /// Of rfc4115: excess rate beside the CIR, yellow.
    #[arg(long, value_name = "RATE", requires = "meter")]
    eir: Option<BitRate>,
    /// Of srtcm and rfc4115: excess burst size, yellow.
    #[arg(long, value_name = "BYTES", requires = "meter")]
    ebs: Option<u32>,
    /// Read the sender's marks: AF42 is at best yellow, AF43 red.
    #[arg(long, requires = "meter")]
    colour_aware: bool,
    /// Drop red packets instead of marking them AF43.
    #[arg(long, requires = "meter")]
    drop_red: bool,
}

/// The kind of three-colour meter.
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
    /// The meter as a message; an error names the option that is missing or does not belong.
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
        let bps = |rate: Option<BitRate>| rate.map_or(0, BitRate::bps);
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
            cir_bps: cir.bps(),
            cbs_bytes,
            colour_aware: self.colour_aware,
            drop_red: self.drop_red,
        }))
    }
}
