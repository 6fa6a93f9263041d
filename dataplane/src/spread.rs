//! Packets of a device with one receive queue, spread over several workers by their flows.

use std::mem;

use arrayvec::ArrayVec;
use rtrb::Consumer;
use voicelane_dpdk::BURST;

use crate::{
    device::{Buffer, Device},
    pipeline::{RingWriter, flow_hash},
    units::{PortIndex, TickRate, Ticks},
};

/// Where a worker's packets of a port come from.
#[derive(Debug)]
pub(crate) enum Source<B> {
    /// A receive queue of its own.
    Own,
    /// The port's only receive queue: it hands the others theirs.
    Shared(Shared<B>),
    /// The worker that has the only queue.
    Handed(Consumer<B>),
}

/// The ways from the worker that receives to all workers.
#[derive(Debug)]
pub(crate) struct Shared<B> {
    /// To each worker; nothing to itself.
    pub(crate) workers: Vec<Option<RingWriter<B>>>,
    /// The same for all ports, so that a flow has one worker wherever it comes in.
    pub(crate) seed: [u64; 4],
    /// Packets, and their bytes, that found a ring full.
    pub(crate) lost: (u64, u64),
}

/// A device, and what other workers receive for this one.
#[derive(Debug)]
pub(crate) struct Spread<D: Device> {
    pub(crate) device: D,
    /// Of each port; past its end: [`Source::Own`].
    sources: Vec<Source<D::Buffer>>,
    /// How many packets it has received for others since that was asked last.
    for_others: usize,
}

impl<D: Device> Spread<D> {
    pub(crate) fn new(device: D, sources: Vec<Source<D::Buffer>>) -> Self {
        Self {
            device,
            sources,
            for_others: 0,
        }
    }

    /// How many packets were received for others since this was asked last.
    #[inline]
    pub(crate) fn take_for_others(&mut self) -> usize {
        mem::take(&mut self.for_others)
    }

    /// Whether another worker has received something for this one.
    pub(crate) fn has_mail(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| matches!(source, Source::Handed(ring) if !ring.is_empty()))
    }

    /// What was received on each port and could not be handed over: packets and bytes.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (u64, u64)> {
        self.sources.iter().map(|source| match source {
            Source::Shared(shared) => shared.lost,
            _ => (0, 0),
        })
    }
}

impl<B: Buffer> Shared<B> {
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

impl<D: Device> Device for Spread<D> {
    type Buffer = D::Buffer;

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<D::Buffer, BURST>) {
        match self.sources.get_mut(port.index()) {
            None | Some(Source::Own) => self.device.receive(port, into),
            Some(Source::Shared(shared)) => {
                // `into` is empty, so that all that arrive have room there.
                let mut arrived = ArrayVec::new();
                self.device.receive(port, &mut arrived);
                self.for_others += arrived.len();
                shared.share_out(arrived, into);
                self.for_others -= into.len();
            }
            Some(Source::Handed(ring)) => {
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
