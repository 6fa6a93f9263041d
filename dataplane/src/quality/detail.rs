use super::{
    blocks::Blocks,
    kind::{Kind, Rtp},
    payload::PayloadTypes,
    rtcp::{ReceiverReport, Reports},
};
use crate::units::Ticks;

/// Fewer packets received in a row than this do not end a burst (RFC 3611 section 4.7.2).
const GMIN: u32 = 16;

/// What irregular packets of a flow have left. Four cache lines. Counters stand still at their end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Detail {
    /// A packet that may be the first of another stream, if `Stream` says that there is one.
    pub(super) held: Held,
    pub(super) blocks: Blocks,
    /// The lowest number of the stream.
    pub(super) base: u32,
    /// Numbers of the streams before this one.
    pub(super) expected_before: u32,
    /// Maximal runs of lost numbers.
    pub(super) runs: u32,
    pub(super) duplicates: u32,
    pub(super) reordered: u32,
    pub(super) events: u32,
    pub(super) noise: u32,
    pub(super) spurts: u32,
    /// Packets of another stream that none followed in sequence.
    pub(super) foreign: u32,
    pub(super) restarts: u32,
    pub(super) ssrc_changes: u32,
    pub(super) timestamp_jumps: u32,
    pub(super) rtcp: u32,
    pub(super) stun: u32,
    pub(super) dtls: u32,
    pub(super) other: u32,
    pub(super) bursts: Bursts,
    pub(super) types: PayloadTypes,
    pub(super) reports: Reports,
}

const _: () = assert!(size_of::<Detail>() == 256, "four cache lines");

/// A packet, and when it came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) rtp: Rtp,
    pub(super) now: Ticks,
}

impl Detail {
    /// Counts what is no RTP.
    pub(super) fn count(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::Rtp => return,
            Kind::Rtcp => &mut self.rtcp,
            Kind::Stun => &mut self.stun,
            Kind::Dtls => &mut self.dtls,
            Kind::Other => &mut self.other,
        };
        increment(counter);
    }

    /// Counts an RTCP packet, and keeps what a receiver says in it.
    pub(super) fn take_rtcp(&mut self, packet: &[u8]) {
        self.count(Kind::Rtcp);
        if let Some(report) = ReceiverReport::first_in(packet) {
            self.reports.add(report);
        }
    }
}

/// A counter that stands still at its end.
pub(super) fn increment(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

/// Bursts as RFC 3611 section 4.7.2 has them: from a lost number to a lost number, without [`GMIN`]
/// received in a row between. A loss that stands alone is none; it belongs to a gap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bursts {
    pub(super) count: u32,
    /// Numbers in them.
    pub(super) numbers: u32,
    /// Of these, lost.
    pub(super) lost: u32,
    /// Of what may become one: the first and the last lost number, and how many; 0: there is none.
    first: u32,
    last: u32,
    open: u32,
}

impl Bursts {
    /// Takes a run of lost numbers, later ones than all before.
    pub(super) fn add(&mut self, first: u32, length: u32) {
        let last = first.wrapping_add(length - 1);
        if self.open > 0 && first.wrapping_sub(self.last) <= GMIN {
            self.open = self.open.saturating_add(length);
        } else {
            self.close();
            (self.first, self.open) = (first, length);
        }
        self.last = last;
    }

    /// The stream has ended, or so many were received that a burst has.
    pub(super) fn close(&mut self) {
        if self.open > 1 {
            let numbers = self.last.wrapping_sub(self.first).saturating_add(1);
            increment(&mut self.count);
            self.numbers = self.numbers.saturating_add(numbers);
            self.lost = self.lost.saturating_add(self.open);
        }
        self.open = 0;
    }
}
