//! Both ends of the wire: packets come at a fixed rate, and what comes out is looked at.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrayvec::ArrayVec;
use voicelane_dataplane::{
    device::{BURST, Device},
    units::{PortIndex, TickRate, Ticks},
};
use voicelane_dpdk::{Mbuf, Mempool, tsc, tsc_hz};

use crate::calls::Call;

/// EF's code point in the second byte of an IPv4 header.
const EF: u8 = 46 << 2;
/// Where in a frame things are: Ethernet, then IPv4 without options.
const CLASS: usize = 15;
const IDENTIFICATION: usize = 18;

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Packets that should have come by now.
    pub(crate) offered: AtomicU64,
    /// Of these, those for which the ring had no room.
    pub(crate) missed: AtomicU64,
    /// What was sent on.
    pub(crate) sent: AtomicU64,
    /// What was sent to the wrong neighbour.
    pub(crate) misrouted: AtomicU64,
    /// Of each call: when its first marked packet after an unmarked one was sent, in ticks.
    pub(crate) marked: Vec<AtomicU64>,
}

/// A device with two ports: packets of calls come in at the first.
#[derive(Debug)]
pub(crate) struct Road {
    pool: Mempool,
    seen: Arc<Seen>,
    frames: Vec<Vec<u8>>,
    packets_per_second: u64,
    /// Packets that the receive ring holds: what comes while it is full is lost.
    ring: u64,
    started: u64,
    /// Packets taken or missed.
    gone: u64,
    is_marked: Vec<bool>,
}

impl Road {
    /// Packets of so many calls in turns, at this rate, from the first look on.
    pub(crate) fn new(
        pool: Mempool,
        calls: u16,
        packets_per_second: u64,
        ring: u64,
    ) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen {
            offered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            misrouted: AtomicU64::new(0),
            marked: (0..calls).map(|_| AtomicU64::new(0)).collect(),
        });
        let road = Self {
            pool,
            seen: Arc::clone(&seen),
            frames: (0..calls).map(|number| Call(number).frame()).collect(),
            packets_per_second,
            ring,
            started: 0,
            gone: 0,
            is_marked: vec![false; calls.into()],
        };
        (road, seen)
    }

    fn take(&mut self) -> Option<Mbuf> {
        let calls = u64::try_from(self.frames.len()).ok()?;
        let next = usize::try_from(self.gone % calls).ok()?;
        let mut buffer = self.pool.allocate()?;
        buffer.write(self.frames.get(next)?).ok()?;
        Some(buffer)
    }
}

impl Device for Road {
    type Buffer = Mbuf;

    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Mbuf, BURST>) {
        if port != PortIndex(0) {
            return;
        }
        let now = tsc();
        if self.started == 0 {
            self.started = now;
        }
        let passed = u128::from(now - self.started) * u128::from(self.packets_per_second);
        let due = u64::try_from(passed / u128::from(tsc_hz())).unwrap_or(u64::MAX);
        self.seen.offered.store(due, Ordering::Relaxed);
        let missed = (due - self.gone).saturating_sub(self.ring);
        if missed > 0 {
            self.seen.missed.fetch_add(missed, Ordering::Relaxed);
            self.gone += missed;
        }
        while self.gone < due && !into.is_full() {
            let Some(buffer) = self.take() else {
                break;
            };
            into.push(buffer);
            self.gone += 1;
        }
    }

    fn transmit(&mut self, _: PortIndex, from: &mut ArrayVec<Mbuf, BURST>) {
        let count = u64::try_from(from.len()).unwrap_or(0);
        let now = tsc();
        for buffer in from.drain(..) {
            let frame = buffer.bytes();
            let Some(&[high, low]) = frame.get(IDENTIFICATION..IDENTIFICATION + 2) else {
                continue;
            };
            let call = usize::from(u16::from_be_bytes([high, low]));
            let is_marked = frame.get(CLASS).is_some_and(|class| class & !3 == EF);
            if frame.first() != Some(&Call::NEXT_HOP) {
                self.seen.misrouted.fetch_add(1, Ordering::Relaxed);
            }
            let (Some(was_marked), Some(marked)) =
                (self.is_marked.get_mut(call), self.seen.marked.get(call))
            else {
                continue;
            };
            if is_marked && !*was_marked {
                marked.store(now, Ordering::Release);
            }
            *was_marked = is_marked;
        }
        self.seen.sent.fetch_add(count, Ordering::Relaxed);
    }

    fn now(&self) -> Ticks {
        Ticks(tsc())
    }

    fn tick_rate(&self) -> TickRate {
        TickRate::from_hz(tsc_hz())
    }
}
