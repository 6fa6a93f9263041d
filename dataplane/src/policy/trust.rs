use std::fmt;

use crate::diffserv::Dscp;

/// How far an interface's own code points are believed, where neither a session nor a rule says
/// what a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A core interface: other routers have marked what comes from there.
    Keep,
    /// An edge interface: everything becomes default forwarding, except lower effort (RFC 8622),
    /// which harms nobody and may be asked for without a session.
    Bleach,
    /// The border to a network that gives code points other meanings: each becomes what the map
    /// says, and stays as it is where the map says nothing.
    Remark(DscpMap),
}

impl Trust {
    /// What becomes of each code point.
    #[must_use]
    pub fn map(&self) -> DscpMap {
        match self {
            Self::Keep => DscpMap::IDENTITY,
            Self::Bleach => DscpMap::BLEACH,
            Self::Remark(map) => *map,
        }
    }
}

/// As in the configuration; a map with what it changes.
impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Bleach => f.write_str("bleach"),
            Self::Remark(map) => {
                f.write_str("remark")?;
                let mut separator = " ";
                for (from, to) in map.changes() {
                    write!(f, "{separator}{from}->{to}")?;
                    separator = ", ";
                }
                Ok(())
            }
        }
    }
}

/// What becomes of each of the 64 code points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DscpMap([Dscp; 64]);

impl DscpMap {
    /// Leaves every code point as it is.
    pub const IDENTITY: Self = Self(Dscp::ALL);

    /// All become default forwarding, but lower effort stays.
    pub const BLEACH: Self = {
        let mut map = [Dscp::DF; 64];
        map[Dscp::LE.number() as usize] = Dscp::LE;
        Self(map)
    };

    /// The same with another value for `from`.
    #[must_use]
    pub fn with(mut self, from: Dscp, to: Dscp) -> Self {
        self.0[usize::from(from.number() & 63)] = to;
        self
    }

    /// What becomes of a code point.
    #[inline]
    #[must_use]
    pub fn get(&self, dscp: Dscp) -> Dscp {
        self.0[usize::from(dscp.number() & 63)]
    }

    /// Those that do not stay, each with what becomes of it.
    pub fn changes(&self) -> impl Iterator<Item = (Dscp, Dscp)> {
        let pairs = Dscp::ALL.into_iter().zip(self.0);
        pairs.filter(|(from, to)| from != to)
    }
}

impl fmt::Debug for DscpMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.changes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_say_what_becomes_of_each_code_point() {
        let remark = Trust::Remark(
            DscpMap::IDENTITY
                .with(Dscp::EF, Dscp::AF41)
                .with(Dscp::CS7, Dscp::DF),
        );
        assert_eq!(remark.to_string(), "remark EF->AF41, CS7->DF");
        for dscp in Dscp::ALL {
            assert_eq!(Trust::Keep.map().get(dscp), dscp);
            let bleached = if dscp == Dscp::LE { dscp } else { Dscp::DF };
            assert_eq!(Trust::Bleach.map().get(dscp), bleached);
            let remarked = match dscp {
                Dscp::EF => Dscp::AF41,
                Dscp::CS7 => Dscp::DF,
                other => other,
            };
            assert_eq!(remark.map().get(dscp), remarked);
        }
        assert_eq!(Trust::Bleach.map().changes().count(), 62);
        assert_eq!(Trust::Keep.map().changes().count(), 0);
    }
}
