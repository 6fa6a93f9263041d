use crossbeam_channel::Sender;

use crate::{
    counters::{DropReason, InterfaceCounters, PuntReason},
    diffserv::{BucketProfile, TokenBucket},
    units::{BitRate, InterfaceIndex, TickRate, Ticks},
};

/// The way to the kernel twins: for each reason so many packets a second, so that no kind of
/// packet, and nobody who sends it, can take the kernel's time from the others.
#[derive(Debug)]
pub(super) struct Punts<B> {
    twins: Sender<(InterfaceIndex, B)>,
    /// Counts a packet as one byte.
    profile: Option<BucketProfile>,
    buckets: [TokenBucket; PuntReason::COUNT],
}

/// How many packets of a kind may come at once.
const BURST_PACKETS: u64 = 64;

impl<B> Punts<B> {
    pub(super) fn new(
        twins: Sender<(InterfaceIndex, B)>,
        packets_per_second: u32,
        clock: TickRate,
        now: Ticks,
    ) -> Self {
        // Without a rate nothing goes to the kernel.
        let profile = BitRate::from_bps(u64::from(packets_per_second) * 8)
            .ok()
            .and_then(|rate| BucketProfile::new(rate, BURST_PACKETS, clock).ok());
        let bucket = profile.map_or_else(TokenBucket::default, |profile| {
            TokenBucket::full(&profile, now)
        });
        Self {
            twins,
            profile,
            buckets: [bucket; PuntReason::COUNT],
        }
    }

    /// Gives a frame to the twin of the interface it came in on, or counts why not.
    pub(super) fn punt(
        &mut self,
        ingress: InterfaceIndex,
        frame: B,
        reason: PuntReason,
        counters: &mut InterfaceCounters,
        now: Ticks,
    ) {
        let bucket = &mut self.buckets[reason.index()];
        let conforms = self.profile.is_some_and(|profile| {
            bucket.refill(&profile, now);
            bucket.conforms(&profile, 1)
        });
        if !conforms {
            counters.drops[DropReason::PuntPoliced.index()] += 1;
        } else if self.twins.try_send((ingress, frame)).is_err() {
            counters.drops[DropReason::PuntQueueFull.index()] += 1;
        } else {
            counters.punts[reason.index()] += 1;
        }
    }
}
