//! Packets of a device with one receive queue, spread over several workers by their flows.

use std::mem;

use arrayvec::ArrayVec;
use rtrb::Consumer;

use super::ring::RingWriter;
use crate::{
    device::{BURST, Buffer, Device},
    routing::flow_hash,
    units::{PortIndex, TickRate, Ticks},
};

/// Where a worker's packets of a port come from.
#[derive(Debug)]
pub(super) enum ReceiveQueue<B> {
    /// A receive queue of its own.
    Own,
    /// The port's only receive queue: it hands the others theirs.
    Distributed(Distributor<B>),
    /// The worker that has the only queue.
    Handed(Consumer<B>),
}

/// The ways from the worker that receives to all workers.
#[derive(Debug)]
pub(super) struct Distributor<B> {
    /// To each worker; nothing to itself.
    pub(super) workers: Vec<Option<RingWriter<B>>>,
    /// The same for all ports, so that a flow has one worker wherever it comes in.
    pub(super) seed: [u64; 4],
    /// Packets, and their bytes, that found a ring full.
    pub(super) lost: (u64, u64),
}

/// A device, and what other workers receive for this one.
#[derive(Debug)]
pub(super) struct SoftwareRss<D: Device> {
    pub(super) device: D,
    /// Of each port; past its end: [`ReceiveQueue::Own`].
    sources: Vec<ReceiveQueue<D::Buffer>>,
    /// How many packets it has received for others since that was asked last.
    for_others: usize,
}

impl<D: Device> SoftwareRss<D> {
    pub(super) fn new(device: D, sources: Vec<ReceiveQueue<D::Buffer>>) -> Self {
        Self {
            device,
            sources,
            for_others: 0,
        }
    }

    /// How many packets were received for others since this was asked last.
    #[inline]
    pub(super) fn take_for_others(&mut self) -> usize {
        mem::take(&mut self.for_others)
    }

    /// Whether another worker has received something for this one.
    pub(super) fn has_mail(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| matches!(source, ReceiveQueue::Handed(ring) if !ring.is_empty()))
    }

    /// What was received on each port and could not be handed over: packets and bytes.
    pub(super) fn lost(&self) -> impl Iterator<Item = (u64, u64)> {
        self.sources.iter().map(|source| match source {
            ReceiveQueue::Distributed(shared) => shared.lost,
            _ => (0, 0),
        })
    }
}

impl<B: Buffer> Distributor<B> {
    fn share_out(&mut self, arrived: ArrayVec<B, BURST>, own: &mut ArrayVec<B, BURST>) {
        for buffer in &arrived {
            buffer.prefetch();
        }
        let workers = self.workers.len() as u64;
        for buffer in arrived {
            // What has no flow is for the kernel, or for nobody.
            let worker = flow_hash(buffer.bytes(), &self.seed).map(|hash| hash % workers);
            let worker = worker.and_then(|worker| usize::try_from(worker).ok());
            let ring = worker.and_then(|worker| self.workers.get_mut(worker)?.as_mut());
            let Some(ring) = ring else {
                own.push(buffer);
                continue;
            };
            let bytes = buffer.bytes().len() as u64;
            if ring.write(buffer, true).is_err() {
                self.lost.0 += 1;
                self.lost.1 += bytes;
            }
        }
        for ring in self.workers.iter_mut().flatten() {
            ring.publish();
        }
    }
}

impl<D: Device> Device for SoftwareRss<D> {
    type Buffer = D::Buffer;

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<D::Buffer, BURST>) {
        match self.sources.get_mut(port.index()) {
            None | Some(ReceiveQueue::Own) => self.device.receive(port, into),
            Some(ReceiveQueue::Distributed(shared)) => {
                // `into` is empty, so that all that arrive have room there.
                let mut arrived = ArrayVec::new();
                self.device.receive(port, &mut arrived);
                self.for_others += arrived.len();
                shared.share_out(arrived, into);
                self.for_others -= into.len();
            }
            Some(ReceiveQueue::Handed(ring)) => {
                let count = ring.slots().min(into.remaining_capacity());
                if let Ok(mut chunk) = ring.read_chunk(count) {
                    let (first, second) = chunk.as_mut_slices();
                    for buffer in first.iter().chain(second.iter()) {
                        buffer.prefetch_handle();
                    }
                    into.extend(chunk);
                }
            }
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<D::Buffer, BURST>) {
        self.device.transmit(port, from);
    }

    fn set_open(&mut self, port: PortIndex, open: bool) {
        self.device.set_open(port, open);
    }

    #[inline]
    fn now(&self) -> Ticks {
        self.device.now()
    }

    #[inline]
    fn tick_rate(&self) -> TickRate {
        self.device.tick_rate()
    }
}
