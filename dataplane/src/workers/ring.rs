//! Rings between two cores.

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

use super::wakeup::Wakeup;
use crate::{device::BURST, stats::DropReason};

/// The writing end of a ring, with what is written of a burst and not published yet.
#[derive(Debug)]
pub(super) struct RingWriter<T> {
    producer: Producer<T>,
    pub(super) staged: ArrayVec<T, BURST>,
    /// How many more there was room for when the burst began.
    room: usize,
    reader: Wakeup,
}

/// A ring for `capacity` items, whose reader wakes at the wakeup.
pub(super) fn ring<T>(capacity: usize, reader: Wakeup) -> (RingWriter<T>, Consumer<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let writer = RingWriter {
        producer,
        staged: ArrayVec::new(),
        room: 0,
        reader,
    };
    (writer, consumer)
}

impl<T> RingWriter<T> {
    /// The part of the ring that is kept for what may not be held up by the rest.
    fn reserve(&self) -> usize {
        self.producer.buffer().capacity() / 4
    }

    /// For how many more items there is room, beside what is kept for `favoured` ones.
    #[inline]
    pub(super) fn room(&mut self, favoured: bool) -> usize {
        let reserve = self.reserve();
        if self.staged.is_empty() {
            self.room = self.producer.cached_slots();
            if self.room < BURST + reserve {
                self.room = self.producer.slots();
            }
        }
        let kept = if favoured { 0 } else { reserve };
        let room = self.room.saturating_sub(self.staged.len() + kept);
        room.min(self.staged.remaining_capacity())
    }

    /// Writes one item, if there is room.
    #[inline]
    pub(super) fn write(&mut self, item: T, favoured: bool) -> Result<(), DropReason> {
        if self.room(favoured) == 0 {
            return Err(DropReason::RingFull);
        }
        self.staged.try_push(item).map_err(|_| DropReason::RingFull)
    }

    /// Publishes what was written, and wakes the reader.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        // There is room: it was asked for, and nobody else writes.
        if let Ok(chunk) = self.producer.write_chunk_uninit(self.staged.len()) {
            chunk.fill_from_iter(self.staged.drain(..));
        }
        self.reader.notify();
    }
}
