use arrayvec::ArrayVec;
use voicelane_dataplane::{
    device::{BURST, Buffer, Device},
    units::{PortIndex, TickRate, Ticks},
    workers::Layout,
};

use crate::{Mbuf, Parked, RxQueue, TxQueue, tsc, tsc_hz};

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
    fn truncate(&mut self, bytes: u16) {
        Self::truncate(self, bytes);
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch_frame();
    }

    #[inline]
    fn prefetch_handle(&self) {
        Self::prefetch_handle(self);
    }

    #[inline]
    fn free_all(buffers: &mut ArrayVec<Self, BURST>) {
        Self::free_all(buffers);
    }
}

/// A port's queues of one core.
type ParkedQueues = (Option<Parked<RxQueue>>, Option<Parked<TxQueue>>);

/// One core's receive and transmit queues of DPDK ports, and the time-stamp counter.
#[derive(Debug)]
pub struct DpdkDevice {
    /// In the order of [`PortIndex`], as those below; `None` where another core receives.
    receive: Vec<Option<RxQueue>>,
    /// `None` where another core sends.
    transmit: Vec<Option<TxQueue>>,
    /// Those of ports that are not open.
    parked: Vec<(PortIndex, ParkedQueues)>,
    tick_rate: TickRate,
}

impl DpdkDevice {
    /// One core's, which receives and sends on all ports. Of started ports, in the order of
    /// [`PortIndex`].
    #[must_use]
    pub fn new(queues: Vec<(RxQueue, TxQueue)>) -> Self {
        let (receive, transmit) = queues
            .into_iter()
            .map(|(rx, tx)| (Some(rx), Some(tx)))
            .unzip();
        Self {
            receive,
            transmit,
            parked: Vec::new(),
            tick_rate: TickRate::from_hz(tsc_hz()),
        }
    }

    /// Those of all cores, from all queues of each port: a receive queue for each worker, or one,
    /// which is [`Layout::receiver`]'s. A port is sent to by one core, through its first transmit
    /// queue.
    #[must_use]
    pub fn share(ports: Vec<Vec<(RxQueue, TxQueue)>>, layout: Layout) -> Vec<Self> {
        let none = || Self::new(Vec::new());
        let mut cores: Vec<_> = (0..layout.cores()).map(|_| none()).collect();
        for (port, queues) in (0..=u8::MAX).map(PortIndex).zip(ports) {
            for core in &mut cores {
                core.receive.push(None);
                core.transmit.push(None);
            }
            let alone = (queues.len() == 1).then(|| layout.receiver(port));
            for (index, (rx, tx)) in queues.into_iter().enumerate() {
                if let Some(core) = cores.get_mut(alone.unwrap_or(index)) {
                    core.receive[port.index()] = Some(rx);
                }
                if let Some(core) = cores.get_mut(layout.scheduler(port)).filter(|_| index == 0) {
                    core.transmit[port.index()] = Some(tx);
                }
            }
        }
        cores
    }
}

impl Device for DpdkDevice {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Mbuf, BURST>) {
        if let Some(Some(queue)) = self.receive.get_mut(port.index()) {
            queue.receive(into);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<Mbuf, BURST>) {
        if let Some(Some(queue)) = self.transmit.get_mut(port.index()) {
            queue.send(from);
        }
    }

    fn set_open(&mut self, port: PortIndex, open: bool) {
        let (Some(receive), Some(transmit)) = (
            self.receive.get_mut(port.index()),
            self.transmit.get_mut(port.index()),
        ) else {
            return;
        };
        let parked = self.parked.iter().position(|(parked, ..)| *parked == port);
        match (open, parked) {
            (false, None) => {
                let (receive, transmit) = (receive.take(), transmit.take());
                let queues = (receive.map(RxQueue::park), transmit.map(TxQueue::park));
                self.parked.push((port, queues));
            }
            (true, Some(parked)) => {
                let (_, queues) = self.parked.swap_remove(parked);
                *receive = queues.0.map(Parked::resume);
                *transmit = queues.1.map(Parked::resume);
            }
            _ => {}
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
