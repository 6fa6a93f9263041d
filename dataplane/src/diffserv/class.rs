use super::{CodelProfile, Phb, WredProfile};
use crate::units::BitRate;

/// So many packets of a class may wait whatever its limits in time, and whatever others leave: without
/// them there is no queue.
pub const FEW: usize = 8;

/// A queue may hold so many times what is left of the room that a port's queues share.
pub const SHARE_FACTOR: usize = 4;

/// For how many packets a port's queues share room, where the longest may hold so many: as much as it may,
/// and what is then left for others. Those of strict priority take no part, and have room of their own.
pub const fn shared_packets(longest: usize) -> usize {
    longest.saturating_add(longest.div_ceil(SHARE_FACTOR))
}

/// When a class is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Before all others, while the port's cap for strict priority allows it.
    Strict,
    /// By weight: its share of what strict priority and guaranteed minima leave, against the weights
    /// of the others that have something to send.
    Weighted(u16),
    /// After all others (RFC 8622): what they leave, and its minimum.
    LowerEffort,
}

/// What keeps a queue short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// Drops what finds the queue at its limit.
    TailDrop,
    /// Random early detection by drop precedence.
    Wred(WredProfile),
    /// Controlled delay, with ECN if wanted (RFC 8289).
    Codel(CodelProfile),
}

/// How a port serves one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSettings {
    /// When it is served beside the others.
    pub service: Service,
    /// What it gets whatever the others' weights, on the wire; not of strict ones.
    pub minimum: Option<BitRate>,
    /// What it gets at most, even when the other classes are idle, on the wire.
    pub maximum: Option<BitRate>,
    /// The most that its queue holds, as time: what the port's whole rate sends in it, and no more
    /// than a few packets once the first has waited for as long.
    pub limit_ms: u32,
    /// The most that its queue holds, in packets.
    pub limit_packets: usize,
    /// What keeps its queue short before that.
    pub management: Management,
}

/// Bytes on the wire of the packets by which the slowest classes' delay targets are set.
const PACKET_BYTES: u64 = 1_538;

impl ClassSettings {
    /// The default of each class at a port of `rate`: RFC 4594 figure 4, with RFC 8622. The weights
    /// add up to 100.
    #[must_use]
    pub fn of(phb: Phb, rate: BitRate) -> Self {
        let service = match phb {
            Phb::Telephony | Phb::AdmittedTelephony => Service::Strict,
            Phb::NetworkControl => Service::Weighted(10),
            Phb::Signalling | Phb::Oam => Service::Weighted(5),
            Phb::MultimediaConferencing => Service::Weighted(15),
            Phb::RealtimeInteractive
            | Phb::MultimediaStreaming
            | Phb::BroadcastVideo
            | Phb::LowLatencyData
            | Phb::HighThroughputData => Service::Weighted(9),
            Phb::Standard => Service::Weighted(20),
            Phb::LowerEffort => Service::LowerEffort,
        };
        let management = match phb {
            Phb::NetworkControl | Phb::Oam | Phb::Standard | Phb::LowerEffort => {
                let share = match service {
                    Service::Weighted(weight) => u64::from(weight),
                    _ => Self::LOWER_EFFORT_PERCENT.into(),
                };
                Management::Codel(codel(rate, share))
            }
            Phb::MultimediaConferencing
            | Phb::MultimediaStreaming
            | Phb::LowLatencyData
            | Phb::HighThroughputData => Management::Wred(WredProfile::default()),
            _ => Management::TailDrop,
        };
        Self {
            service,
            minimum: (service == Service::LowerEffort)
                .then(|| rate.percent(Self::LOWER_EFFORT_PERCENT)),
            maximum: None,
            limit_ms: 100,
            limit_packets: Self::LIMIT_PACKETS,
            management,
        }
    }

    /// 6 ms of full-sized packets at 1 Gbit/s, more than controlled delay wants to see; 1 ms of G.711.
    /// Each packet that waits has memory of its own: with more of them the CPU's caches and address
    /// translation do not hold what is about to leave.
    const LIMIT_PACKETS: usize = 512;

    /// What lower effort is never below: enough to move, too little to be felt.
    const LOWER_EFFORT_PERCENT: u8 = 1;
}

/// The delay target of a class that may be left with a share, in percent, of a port's rate: RFC 8289
/// section 4.3's 5 ms, but at least one and a half packets, without which the queue would be
/// dropped empty.
fn codel(rate: BitRate, share: u64) -> CodelProfile {
    let default = CodelProfile::default();
    let packet_us = PACKET_BYTES * 8 * 1_000_000 * 100 / (rate.bps() * share).max(1);
    let least = u32::try_from(packet_us * 3 / 2).unwrap_or(u32::MAX);
    let target_us = default.target_us.max(least);
    CodelProfile {
        target_us,
        interval_us: default.interval_us.max(target_us.saturating_mul(4)),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_weights_add_up() {
        let rate = BitRate::from_bps(10_000_000).unwrap();
        let weights = Phb::ALL.map(|phb| match ClassSettings::of(phb, rate).service {
            Service::Weighted(weight) => weight,
            Service::Strict | Service::LowerEffort => 0,
        });
        assert_eq!(weights.iter().sum::<u16>(), 100);
    }

    #[test]
    fn targets_have_room_for_packets() {
        for (rate, standard, lower_effort) in [
            (10_000_000, 9_228, 184_560),
            (100_000_000, 5_000, 18_456),
            (10_000_000_000, 5_000, 5_000),
        ] {
            let rate = BitRate::from_bps(rate).unwrap();
            let target = |phb| match ClassSettings::of(phb, rate).management {
                Management::Codel(codel) => codel.target_us,
                other => panic!("{other:?}"),
            };
            assert_eq!(target(Phb::Standard), standard);
            assert_eq!(target(Phb::LowerEffort), lower_effort);
        }
    }
}
