//! Two ports in memory: one that always has packets, one that takes them all.

use std::sync::{Arc, Mutex, Weak};

use arrayvec::ArrayVec;
use voicelane_dataplane::{
    device::{BURST, Buffer, Device},
    units::{PortIndex, TickRate, Ticks},
};
use voicelane_machine::prefetch;

/// Room in front of a frame, as much as DPDK's buffers have.
const HEADROOM: u16 = 128;
/// Room for a frame.
const ROOM: u16 = 128;

/// Where frames go that are dropped on their way.
type Bin = Mutex<Vec<Frame>>;

#[derive(Debug)]
struct Memory {
    start: u16,
    length: u16,
    bin: Weak<Bin>,
    bytes: [u8; (HEADROOM + ROOM) as usize],
}

/// A frame in memory that is used again and again. As large as DPDK's: a pointer. Nothing is in it
/// only while it is dropped.
#[derive(Debug)]
pub struct Frame(Option<Box<Memory>>);

impl Frame {
    fn fill(&mut self, frame: &[u8]) {
        if let Some(memory) = &mut self.0 {
            memory.start = HEADROOM;
            memory.length = u16::try_from(frame.len()).unwrap_or(ROOM).min(ROOM);
            let frame = &frame[..usize::from(memory.length)];
            memory.bytes[usize::from(HEADROOM)..][..frame.len()].copy_from_slice(frame);
        }
    }
}

impl Drop for Frame {
    #[inline(never)]
    fn drop(&mut self) {
        if let Some(memory) = self.0.take()
            && let Some(bin) = memory.bin.upgrade()
            && let Ok(mut frames) = bin.lock()
        {
            frames.push(Self(Some(memory)));
        }
    }
}

impl Buffer for Frame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |memory| {
            let start = usize::from(memory.start);
            &memory.bytes[start..start + usize::from(memory.length)]
        })
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |memory| {
            let start = usize::from(memory.start);
            &mut memory.bytes[start..start + usize::from(memory.length)]
        })
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        true
    }

    #[inline]
    fn stripped_vlan(&self) -> Option<u16> {
        None
    }

    fn shrink_front(&mut self, bytes: u16) -> bool {
        match &mut self.0 {
            Some(memory) if memory.length >= bytes => {
                memory.start += bytes;
                memory.length -= bytes;
                true
            }
            _ => false,
        }
    }

    fn grow_front(&mut self, bytes: u16) -> bool {
        match &mut self.0 {
            Some(memory) if memory.start >= bytes => {
                memory.start -= bytes;
                memory.length += bytes;
                true
            }
            _ => false,
        }
    }

    fn truncate(&mut self, bytes: u16) {
        if let Some(memory) = &mut self.0 {
            memory.length = memory.length.min(bytes);
        }
    }

    #[inline]
    fn prefetch(&self) {
        if let Some(memory) = &self.0 {
            prefetch(&memory.bytes[usize::from(HEADROOM)]);
        }
    }

    #[inline]
    fn prefetch_handle(&self) {
        if let Some(memory) = &self.0 {
            prefetch(&memory.start);
        }
    }
}

/// Port 0 receives the same frames in turn, as fast as it is asked; the other ports take everything.
/// The clock stands still unless it is moved.
#[derive(Debug)]
pub struct Replay {
    /// One after the other, each as long as the others.
    frames: Vec<u8>,
    length: usize,
    next: usize,
    /// Where RTP's header begins in each frame, if it has one.
    rtp: Option<usize>,
    /// How many times all frames have come.
    round: u16,
    free: Vec<Frame>,
    bin: Arc<Bin>,
    paused: bool,
    now: Ticks,
    clock: TickRate,
}

impl Replay {
    /// Of frames of so many bytes, at most 128, one after the other in `frames`; paused. There are
    /// `buffers` for those that are on their way.
    #[must_use]
    pub fn new(frames: Vec<u8>, length: usize, buffers: usize, clock: TickRate) -> Self {
        let bin = Arc::new(Mutex::new(Vec::with_capacity(buffers)));
        let buffer = || {
            Frame(Some(Box::new(Memory {
                start: HEADROOM,
                length: 0,
                bin: Arc::downgrade(&bin),
                bytes: [0; (HEADROOM + ROOM) as usize],
            })))
        };
        Self {
            frames,
            length,
            next: 0,
            rtp: None,
            round: 0,
            free: std::iter::repeat_with(buffer).take(buffers).collect(),
            bin,
            paused: true,
            now: Ticks(0),
            clock,
        }
    }

    /// The frames carry RTP with its header there: they come in sequence, at the time of their timestamp.
    #[must_use]
    pub fn with_rtp(mut self, at: usize) -> Self {
        self.rtp = Some(at);
        self
    }

    /// Writes number and timestamp, of a clock of 8 kHz.
    #[allow(clippy::cast_possible_truncation, reason = "timestamps wrap around")]
    fn number(&self, frame: &mut Frame) {
        let Some(at) = self.rtp else {
            return;
        };
        let timestamp = (u128::from(self.now.0) * 8_000 / u128::from(self.clock.hz())) as u32;
        if let Some(header) = frame.bytes_mut().get_mut(at + 2..at + 8) {
            header[..2].copy_from_slice(&self.round.to_be_bytes());
            header[2..].copy_from_slice(&timestamp.to_be_bytes());
        }
    }

    /// Receives nothing, or receives again.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Moves the simulated clock forward.
    #[inline]
    pub fn advance(&mut self, span: Ticks) {
        self.now = self.now + span;
    }

    fn empty_bin(&mut self) {
        if let Ok(mut frames) = self.bin.lock() {
            self.free.append(&mut frames);
        }
    }
}

impl Device for Replay {
    type Buffer = Frame;

    #[inline(never)]
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Frame, BURST>) {
        if port.index() != 0 || self.paused {
            return;
        }
        if self.free.len() < BURST {
            self.empty_bin();
        }
        while !into.is_full() {
            let Some(mut buffer) = self.free.pop() else {
                return;
            };
            if self.next + self.length > self.frames.len() {
                self.next = 0;
                self.round = self.round.wrapping_add(1);
            }
            let Some(frame) = self.frames.get(self.next..self.next + self.length) else {
                return;
            };
            buffer.fill(frame);
            self.number(&mut buffer);
            self.next += self.length;
            into.push(buffer);
        }
    }

    #[inline(never)]
    fn transmit(&mut self, _: PortIndex, from: &mut ArrayVec<Frame, BURST>) {
        self.free.extend(from.drain(..));
    }

    #[inline]
    fn now(&self) -> Ticks {
        self.now
    }

    #[inline]
    fn tick_rate(&self) -> TickRate {
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_turn_and_buffers_come_back() {
        let frames = [[1; 60], [2; 60], [3; 60]].concat();
        let mut replay = Replay::new(frames, 60, 70, TickRate::from_hz(1_000_000_000));
        let mut burst = ArrayVec::new();
        replay.receive(PortIndex(0), &mut burst);
        assert!(burst.is_empty(), "it is paused");
        replay.pause(false);
        for first in [1, 2, 3, 1] {
            replay.receive(PortIndex(0), &mut burst);
            assert_eq!(burst.len(), BURST);
            assert_eq!(burst[0].bytes(), [first; 60]);
            assert!(burst[0].shrink_front(2) && burst[0].bytes().len() == 58);
            // Half of them are dropped, half are sent.
            burst.truncate(BURST / 2);
            replay.transmit(PortIndex(1), &mut burst);
            assert!(burst.is_empty());
        }
        replay.receive(PortIndex(1), &mut burst);
        assert!(burst.is_empty(), "nothing comes in at the other port");
    }
}
