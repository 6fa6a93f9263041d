use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrayvec::ArrayVec;

use super::{BURST, Buffer, Device};
use crate::units::{PortIndex, TickRate, Ticks};

/// Counts the simulated frames that exist, as a pool would.
#[derive(Clone, Debug, Default)]
pub struct SimPool(Arc<AtomicUsize>);

impl SimPool {
    /// How many frames exist.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A frame with these bytes and 128 bytes of headroom.
    #[must_use]
    pub fn frame(&self, bytes: impl Into<Vec<u8>>) -> SimBuffer {
        self.0.fetch_add(1, Ordering::SeqCst);
        SimBuffer {
            bytes: bytes.into(),
            headroom: HEADROOM,
            stripped_vlan: None,
            pool: self.clone(),
        }
    }
}

/// As much as DPDK's buffers have.
const HEADROOM: u16 = 128;

/// A frame on the heap, counted by its [`SimPool`].
#[derive(Debug)]
pub struct SimBuffer {
    bytes: Vec<u8>,
    headroom: u16,
    stripped_vlan: Option<u16>,
    pool: SimPool,
}

impl SimBuffer {
    /// The same with another room in front of the frame.
    #[must_use]
    pub fn with_headroom(mut self, bytes: u16) -> Self {
        self.headroom = bytes;
        self
    }

    /// The same as if the device had taken a VLAN tag out of it.
    #[must_use]
    pub fn with_stripped_vlan(mut self, tci: u16) -> Self {
        self.stripped_vlan = Some(tci);
        self
    }
}

impl Drop for SimBuffer {
    fn drop(&mut self) {
        self.pool.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Buffer for SimBuffer {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn is_contiguous(&self) -> bool {
        true
    }

    fn stripped_vlan(&self) -> Option<u16> {
        self.stripped_vlan
    }

    fn shrink_front(&mut self, bytes: u16) -> bool {
        let enough = self.bytes.len() >= bytes.into();
        if enough {
            self.bytes.drain(..usize::from(bytes));
            self.headroom = self.headroom.saturating_add(bytes);
        }
        enough
    }

    fn grow_front(&mut self, bytes: u16) -> bool {
        let Some(headroom) = self.headroom.checked_sub(bytes) else {
            return false;
        };
        self.headroom = headroom;
        // What stood there before is nothing that anybody may count on.
        let rubbish = std::iter::repeat_n(0xee, bytes.into());
        self.bytes.splice(..0, rubbish);
        true
    }

    fn truncate(&mut self, bytes: u16) {
        self.bytes.truncate(bytes.into());
    }

    fn prefetch(&self) {}

    fn prefetch_handle(&self) {}
}

#[derive(Debug, Default)]
struct Port {
    arriving: VecDeque<SimBuffer>,
    sent: Vec<(Ticks, SimBuffer)>,
    blocked: bool,
}

/// Ports that take what a test gives them, keep what they are given with the time, and share a
/// virtual clock that only the test moves.
#[derive(Debug)]
pub struct SimDevice {
    ports: Vec<Port>,
    now: Ticks,
    tick_rate: TickRate,
}

impl SimDevice {
    /// `ports` quiet ports, and a clock that stands at 0.
    #[must_use]
    pub fn new(ports: usize, tick_rate: TickRate) -> Self {
        Self {
            ports: std::iter::repeat_with(Port::default).take(ports).collect(),
            now: Ticks(0),
            tick_rate,
        }
    }

    /// Sets the clock, which does not go back.
    pub fn advance_to(&mut self, now: Ticks) {
        self.now = self.now.max(now);
    }

    /// Lets a frame arrive.
    pub fn deliver(&mut self, port: PortIndex, frame: SimBuffer) {
        self.ports[port.index()].arriving.push_back(frame);
    }

    /// Takes what was sent since the last call, with the times.
    pub fn take_sent(&mut self, port: PortIndex) -> Vec<(Ticks, SimBuffer)> {
        std::mem::take(&mut self.ports[port.index()].sent)
    }

    /// Lets the port take nothing more, or again.
    pub fn block(&mut self, port: PortIndex, blocked: bool) {
        self.ports[port.index()].blocked = blocked;
    }
}

impl Device for SimDevice {
    type Buffer = SimBuffer;

    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<SimBuffer, BURST>) {
        let arriving = &mut self.ports[port.index()].arriving;
        let count = arriving.len().min(into.remaining_capacity());
        into.extend(arriving.drain(..count));
    }

    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<SimBuffer, BURST>) {
        let port = &mut self.ports[port.index()];
        if !port.blocked {
            port.sent
                .extend(from.drain(..).map(|frame| (self.now, frame)));
        }
    }

    fn now(&self) -> Ticks {
        self.now
    }

    fn tick_rate(&self) -> TickRate {
        self.tick_rate
    }
}
