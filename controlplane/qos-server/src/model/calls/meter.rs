//! Three-colour meters, as an agent asks for one in place of a rate and burst.

use voicelane_proto::limits::MAX_BURST_BYTES;
use voicelane_types::{MeterKind, MeterSpec, ServiceClass};

use super::session::MIN_BURST_BYTES;
use crate::model::error::Error;

/// A three-colour meter, every field valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its parameters, at the IP layer.
    pub spec: MeterSpec,
    /// Whether red packets are dropped instead of marked.
    pub drop_red: bool,
}

impl Meter {
    /// Checks what goes together; `field` is where it came from. The rates are within their bounds
    /// already.
    pub fn parse(field: &str, meter: Self, class: ServiceClass) -> Result<Self, Error> {
        let invalid = |name: &str, reason: String| {
            let path = match name {
                "" => field.to_owned(),
                name => format!("{field}.{name}"),
            };
            Err(Error::invalid(path, reason))
        };
        if class.dscp().drop_precedence() != Some(1) {
            return invalid(
                "",
                "marks drop precedences, which only the class MULTIMEDIA_CONFERENCING has; ask \
                 for that class, or give max_bitrate_bps in place of the meter"
                    .to_owned(),
            );
        }
        // RFC 4115 wants more tokens than the packet has bytes.
        let least = match meter.spec.kind {
            MeterKind::SrTcm { .. } | MeterKind::TrTcm { .. } => MIN_BURST_BYTES,
            MeterKind::Rfc4115 { .. } => MIN_BURST_BYTES + 1,
        };
        let (name, second, may_be_0) = match meter.spec.kind {
            MeterKind::SrTcm { ebs_bytes } => ("srtcm.ebs_bytes", ebs_bytes, true),
            MeterKind::TrTcm { pbs_bytes, .. } => ("trtcm.pbs_bytes", pbs_bytes, false),
            MeterKind::Rfc4115 { ebs_bytes, .. } => ("rfc4115.ebs_bytes", ebs_bytes, true),
        };
        for (name, bytes, may_be_0) in [
            ("cbs_bytes", meter.spec.cbs_bytes, false),
            (name, second, may_be_0),
        ] {
            if bytes > MAX_BURST_BYTES {
                let reason = format!(
                    "is {bytes} bytes, more than routers count; give at most {MAX_BURST_BYTES}"
                );
                return invalid(name, reason);
            }
            if bytes < least && !(bytes == 0 && may_be_0) {
                let or_0 = if may_be_0 {
                    ", or 0 if nothing is to be yellow"
                } else {
                    ""
                };
                let reason = format!(
                    "is {bytes} bytes, which no full packet of 1500 fits; give at least \
                     {least}{or_0}"
                );
                return invalid(name, reason);
            }
        }
        if let MeterKind::TrTcm { pir, .. } = meter.spec.kind
            && pir < meter.spec.cir
        {
            let (pir, cir) = (pir.bps(), meter.spec.cir.bps());
            let reason = format!("is {pir} bit/s, under the CIR; give at least {cir}");
            return invalid("trtcm.pir_bps", reason);
        }
        Ok(meter)
    }

    /// The most that is not red: bit/s, and bytes at once.
    pub fn most(&self) -> (u64, u32) {
        let (cir, cbs) = (self.spec.cir.bps(), self.spec.cbs_bytes);
        match self.spec.kind {
            MeterKind::SrTcm { ebs_bytes } => (cir, sum(cbs, ebs_bytes)),
            MeterKind::TrTcm { pir, pbs_bytes } => (pir.bps(), pbs_bytes),
            MeterKind::Rfc4115 { eir, ebs_bytes } => {
                (cir.saturating_add(eir.bps()), sum(cbs, ebs_bytes))
            }
        }
    }

    /// The same meter with room for something that is committed beside.
    #[must_use]
    pub fn with_room(mut self, rate_bps: u64, burst_bytes: u32) -> Self {
        self.spec.cir = self.spec.cir.plus(rate_bps);
        self.spec.cbs_bytes = sum(self.spec.cbs_bytes, burst_bytes);
        if let MeterKind::TrTcm { pir, pbs_bytes } = &mut self.spec.kind {
            *pir = pir.plus(rate_bps);
            *pbs_bytes = sum(*pbs_bytes, burst_bytes);
        }
        self
    }
}

/// Bursts together, as far as routers count.
pub(in crate::model) fn sum(a: u32, b: u32) -> u32 {
    a.saturating_add(b).min(MAX_BURST_BYTES)
}
