use arrayvec::ArrayVec;
use voicelane_dpdk::{BURST, Mbuf, RxQueue, TxQueue, tsc, tsc_hz};

use super::{Buffer, Device};
use crate::units::{PortIndex, TickRate, Ticks};

impl Buffer for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        Self::bytes(self)
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        Self::bytes_mut(self)
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        Self::is_contiguous(self)
    }

    #[inline]
    fn stripped_vlan(&self) -> Option<u16> {
        Self::stripped_vlan(self)
    }

    #[inline]
    fn shrink_front(&mut self, bytes: u16) -> bool {
        Self::shrink_front(self, bytes)
    }

    #[inline]
    fn grow_front(&mut self, bytes: u16) -> bool {
        Self::grow_front(self, bytes)
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch_frame();
    }

    #[inline]
    fn prefetch_handle(&self) {
        Self::prefetch_handle(self);
    }
}

/// DPDK ports: one receive and one transmit queue of each, and the time-stamp counter.
#[derive(Debug)]
pub struct DpdkDevice {
    queues: Vec<(RxQueue, TxQueue)>,
    tick_rate: TickRate,
}

impl DpdkDevice {
    /// Of started ports' queues, in the order of [`PortIndex`].
    #[must_use]
    pub fn new(queues: Vec<(RxQueue, TxQueue)>) -> Self {
        Self {
            queues,
            tick_rate: TickRate::from_hz(tsc_hz()),
        }
    }
}

impl Device for DpdkDevice {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Mbuf, BURST>) {
        if let Some((rx, _)) = self.queues.get_mut(port.index()) {
            rx.receive(into);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<Mbuf, BURST>) {
        if let Some((_, tx)) = self.queues.get_mut(port.index()) {
            tx.send(from);
        }
    }

    #[inline]
    fn now(&self) -> Ticks {
        Ticks(tsc())
    }

    #[inline]
    fn tick_rate(&self) -> TickRate {
        self.tick_rate
    }
}
