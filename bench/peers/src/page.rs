//! The page of counters that the source and sink keep: `struct page` in `shim/replay.h`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const MAGIC: u64 = 0x3130_594c_5045_5256;
const PORTS: usize = 4;
const QUEUES: usize = 4;
const HEADER_WORDS: usize = 8;
const COUNTER_WORDS: usize = 8;
const PPS_WORD: u64 = 2;
const DIRECTION_WORDS: usize = PORTS * QUEUES * COUNTER_WORDS;
const COUNTERS_END: usize = HEADER_WORDS + 2 * DIRECTION_WORDS;
/// Of the histograms: steps for each power of two, and buckets in all.
const STEPS: usize = 64;
const BUCKETS: usize = 58 * STEPS;
const END: usize = COUNTERS_END + 2 * BUCKETS;

/// The page, in a file that the program under test has mapped.
#[derive(Debug)]
pub(crate) struct Page {
    file: File,
    pub(crate) tsc_hz: f64,
}

/// What came and went until a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// How often it asked for packets.
    pub(crate) polls: u64,
    /// Packets that the program took.
    pub(crate) received: u64,
    /// Packets that found the paced source's receive ring full.
    pub(crate) lost: u64,
    /// Packets that the program sent, by port.
    pub(crate) sent: [u64; PORTS],
}

/// How many packets took how many ticks until a moment, by bucket.
#[derive(Clone, Debug)]
pub(crate) struct DelayCounts {
    /// Marked EF when they were sent.
    pub(crate) ef: Vec<u64>,
    pub(crate) other: Vec<u64>,
}

impl Page {
    /// `None` while it is not there or not filled in.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut page = Self { file, tsc_hz: 0.0 };
        if page.file.metadata()?.len() < END as u64 * 8 {
            return Ok(None);
        }
        let header = page.words(0, HEADER_WORDS)?;
        page.tsc_hz = header[1] as f64;
        Ok((header[0] == MAGIC).then_some(page))
    }

    fn words(&self, from: usize, count: usize) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        self.file.read_exact_at(&mut bytes, from as u64 * 8)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().copied().map(u64::from_le_bytes).collect())
    }

    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let words = self.words(HEADER_WORDS, 2 * DIRECTION_WORDS)?;
        let (rx, tx) = words.split_at(DIRECTION_WORDS);
        let sum = |words: &[u64], counter: usize| -> u64 {
            let queues = words.chunks_exact(COUNTER_WORDS);
            queues.map(|queue| queue[counter]).sum()
        };
        let mut sent = [0; PORTS];
        for (sent, port) in sent.iter_mut().zip(tx.chunks_exact(QUEUES * COUNTER_WORDS)) {
            *sent = sum(port, 0);
        }
        Ok(Counters {
            polls: sum(rx, 2),
            received: sum(rx, 0),
            lost: sum(rx, 3),
            sent,
        })
    }

    /// Sets the paced source's rate. 0: silence.
    pub(crate) fn set_pps(&self, pps: u64) -> io::Result<()> {
        self.file.write_all_at(&pps.to_le_bytes(), PPS_WORD * 8)
    }

    pub(crate) fn delays(&self) -> io::Result<DelayCounts> {
        let mut ef = self.words(COUNTERS_END, 2 * BUCKETS)?;
        let other = ef.split_off(BUCKETS);
        Ok(DelayCounts { ef, other })
    }

    /// The most ticks that are counted in a bucket.
    pub(crate) fn highest_ticks(bucket: usize) -> u64 {
        if bucket < 2 * STEPS {
            return bucket as u64;
        }
        let shift = bucket / STEPS - 1;
        (((bucket - shift * STEPS + 1) as u64) << shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(ticks: u64) -> usize {
        if ticks < 2 * STEPS as u64 {
            return usize::try_from(ticks).unwrap();
        }
        let shift = 63 - ticks.leading_zeros() - STEPS.trailing_zeros();
        usize::try_from(shift).unwrap() * STEPS + usize::try_from(ticks >> shift).unwrap()
    }

    #[test]
    fn a_bucket_s_highest_ticks_are_its_last() {
        for index in 0..BUCKETS {
            let highest = Page::highest_ticks(index);
            assert_eq!(bucket(highest), index);
            assert_eq!(bucket(highest + 1), index + 1);
        }
    }
}
