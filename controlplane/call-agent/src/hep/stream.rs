//! HEP over TCP: frames one after the other, cut wherever TCP likes.

use super::{HEADER, MAGIC};
use crate::text::find;

/// How many bytes between frames are skipped in search of the next one before the connection is not
/// worth keeping.
pub const MAX_SKIPPED: usize = 65_536;

/// Frames out of a byte stream. Holds at most one frame beyond what was pushed last.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    start: usize,
    /// Since the last whole frame.
    skipped: usize,
}

/// The stream is no HEP: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_SKIPPED} bytes without a HEP frame")]
pub struct NotHep;

impl Frames {
    /// Adds what came from the connection. Take all frames before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more comes.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, NotHep> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let Some(header) = rest.first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if !header.starts_with(MAGIC) || length < HEADER {
                self.skip()?;
                continue;
            }
            if rest.len() < length {
                return Ok(None);
            }
            let from = self.start;
            self.start += length;
            self.skipped = 0;
            return Ok(self.buffer.get(from..self.start));
        }
    }

    /// Goes on to what may be the next frame's beginning.
    fn skip(&mut self) -> Result<(), NotHep> {
        let rest = self.buffer.get(self.start + 1..).unwrap_or_default();
        let keep = MAGIC.len() - 1;
        let skipped = 1 + find(rest, MAGIC).unwrap_or(rest.len().saturating_sub(keep));
        self.start += skipped;
        self.skipped += skipped;
        if self.skipped > MAX_SKIPPED {
            return Err(NotHep);
        }
        Ok(())
    }

    /// Bytes skipped since the last whole frame.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}
