//! Three-colour meters: their parameters and the colours that they give. The buckets are the data
//! plane's.

use std::fmt;

use crate::{BitRate, Dscp};

/// A packet's colour (RFC 2697, RFC 2698, RFC 4115).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// Within the committed rate and burst.
    #[default]
    Green,
    /// Over the committed, within the excess or the peak.
    Yellow,
    /// Over the excess or the peak.
    Red,
}

impl Colour {
    /// All, from best to worst.
    pub const ALL: [Self; 3] = [Self::Green, Self::Yellow, Self::Red];

    /// The colour that a code point stands for: "the color can be coded as the drop precedence of
    /// the packet" (RFC 2697 section 4, RFC 2698 section 4). Outside of assured forwarding nothing
    /// codes a colour, so all of that is green.
    #[inline]
    #[must_use]
    pub const fn of(dscp: Dscp) -> Self {
        match dscp.drop_precedence() {
            Some(2) => Self::Yellow,
            Some(3) => Self::Red,
            _ => Self::Green,
        }
    }

    /// As an index into an array of three.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// In the form of a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// Whether a meter reads the colour that a packet comes with (RFC 2697 section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMode {
    /// Each packet is metered as if it were green.
    #[default]
    Blind,
    /// A packet never leaves with a better colour than it came with.
    Aware,
}

/// The kind of three-colour marker, with its parameters beside CIR and CBS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterKind {
    /// RFC 2697: one rate; tokens that overflow the committed bucket fill the excess bucket.
    SrTcm {
        /// Excess burst size, bytes.
        ebs_bytes: u32,
    },
    /// RFC 2698: a packet must be within the peak to be yellow, and within both to be green.
    TrTcm {
        /// Peak information rate, at least the committed one.
        pir: BitRate,
        /// Peak burst size, bytes.
        pbs_bytes: u32,
    },
    /// RFC 4115: two independent rates.
    Rfc4115 {
        /// Excess information rate (RFC 4115, section 3), bit/s.
        eir: BitRate,
        /// Excess burst size, bytes.
        ebs_bytes: u32,
    },
}

impl MeterKind {
    /// The name in configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SrTcm { .. } => "srtcm",
            Self::TrTcm { .. } => "trtcm",
            Self::Rfc4115 { .. } => "rfc4115",
        }
    }
}

/// A meter's parameters, named as in its RFC. Rates and bytes are of IP packets: with the IP header,
/// without the link's (RFC 2697 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterSpec {
    /// The kind, with the parameters of the second bucket.
    pub kind: MeterKind,
    /// Committed information rate, bit/s.
    pub cir: BitRate,
    /// Committed burst size, bytes.
    pub cbs_bytes: u32,
    /// Whether the meter reads the colour that a packet came with (RFC 2697, section 3).
    pub mode: ColourMode,
}

impl MeterSpec {
    /// The parameters of each of `meters` meters that together stand for this one: a part of the
    /// rates, and the bursts in full, as a part of a burst might not hold a packet.
    #[must_use]
    pub fn share(self, meters: u64) -> Self {
        let kind = match self.kind {
            MeterKind::SrTcm { ebs_bytes } => MeterKind::SrTcm { ebs_bytes },
            MeterKind::TrTcm { pir, pbs_bytes } => MeterKind::TrTcm {
                pir: pir.share(meters),
                pbs_bytes,
            },
            MeterKind::Rfc4115 { eir, ebs_bytes } => MeterKind::Rfc4115 {
                eir: eir.share(meters),
                ebs_bytes,
            },
        };
        Self {
            kind,
            cir: self.cir.share(meters),
            ..self
        }
    }
}

impl fmt::Display for MeterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, cir, cbs) = (self.kind.name(), self.cir, self.cbs_bytes);
        write!(f, "{name} cir {cir} cbs {cbs}B")?;
        match self.kind {
            MeterKind::SrTcm { ebs_bytes } => write!(f, " ebs {ebs_bytes}B")?,
            MeterKind::TrTcm { pir, pbs_bytes } => write!(f, " pir {pir} pbs {pbs_bytes}B")?,
            MeterKind::Rfc4115 { eir, ebs_bytes } => write!(f, " eir {eir} ebs {ebs_bytes}B")?,
        }
        f.write_str(match self.mode {
            ColourMode::Blind => "",
            ColourMode::Aware => " colour-aware",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_drop_precedences() {
        for (precedence, (place, name)) in (1..).zip(["green", "yellow", "red"].iter().enumerate())
        {
            let colour = Colour::of(Dscp::af(4, precedence).unwrap());
            assert_eq!((colour.index(), colour.name()), (place, *name));
            assert_eq!(colour, Colour::ALL[place]);
        }
        assert_eq!(Colour::of(Dscp::EF), Colour::Green);
    }

    /// Rates in parts, bursts whole, of each kind.
    #[test]
    fn meters_are_shared_by_their_rates() {
        let rate = |bps| BitRate::from_bps(bps).unwrap();
        let of = |kind, cir| MeterSpec {
            kind,
            cir: rate(cir),
            cbs_bytes: 3_000,
            mode: ColourMode::Aware,
        };
        let kinds = |bps| {
            [
                MeterKind::SrTcm { ebs_bytes: 9_000 },
                MeterKind::TrTcm {
                    pir: rate(bps),
                    pbs_bytes: 9_000,
                },
                MeterKind::Rfc4115 {
                    eir: rate(bps),
                    ebs_bytes: 9_000,
                },
            ]
        };
        for ((kind, part), (name, text)) in kinds(6_000).into_iter().zip(kinds(2_000)).zip([
            ("srtcm", "srtcm cir 3kbit/s cbs 3000B"),
            ("trtcm", "trtcm cir 3kbit/s cbs 3000B"),
            ("rfc4115", "rfc4115 cir 3kbit/s cbs 3000B"),
        ]) {
            let whole = of(kind, 3_000);
            assert_eq!(whole.share(3), of(part, 1_000));
            assert_eq!(whole.share(1), whole);
            assert_eq!(kind.name(), name);
            assert!(whole.to_string().starts_with(text), "{whole}");
            assert!(whole.to_string().contains("9000B"), "{whole}");
        }
    }
}
