use crate::units::{TickRate, Ticks};

/// Numbers in a block: each multiple of it is looked at for itself.
pub(super) const BLOCK: u32 = 64;

/// A block is a number divided by [`BLOCK`], so blocks begin anew after so many.
const BLOCKS: u32 = u32::MAX / BLOCK + 1;

/// Of so many blocks it is known when their first packet came.
pub(super) const MARKS: usize = 4;

/// The numbers before one, of a stream, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Extended, as [`FlowQuality::first_number`](super::FlowQuality::first_number) is; its last 16 bits
    /// are RTP's.
    pub number: u32,
    /// How many did not come, from the stream's first number on.
    pub lost: u32,
    /// How many came and did not go on from here: exceeded the policer, or were let into no queue. `None`:
    /// other workers have the queues. What controlled delay drops later is not among them.
    pub dropped: Option<u32>,
}

/// When a packet came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Extended to 32 bits; a multiple of the block length.
    pub number: u32,
    /// On the worker's clock.
    pub at_ns: u64,
}

/// What was lost and dropped of a stream by blocks of its numbers, and when the first packets of blocks
/// came: what is compared with another router's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks {
    lost: Tally,
    dropped: Tally,
    moments: Moments,
}

/// Counts numbers, those in the last blocks for each block.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: u32,
    /// The block of the last one.
    last: u32,
    /// How many in that block and in those before it, each at its number modulo the length.
    by_block: [u8; Self::REMEMBERED as usize],
}

impl Tally {
    const REMEMBERED: u32 = 16;
    /// A block that is fewer blocks behind the last one is before it, around their end; any other is
    /// after it.
    const BEHIND: u32 = 1_024;

    /// Counts numbers of a block; what is of one before the last counts as the last one's. A block takes
    /// 255 numbers, and the sum leaves out the rest, too.
    fn add(&mut self, block: u32, count: u32) {
        if self.all == 0 {
            self.last = block;
        }
        if self.behind(block) == 0 {
            let new = distance(self.last, block).min(Self::REMEMBERED);
            for it in 0..new {
                self.by_block[Self::place(block.wrapping_sub(it))] = 0;
            }
            self.last = block;
        }
        let here = &mut self.by_block[Self::place(self.last)];
        let count = u8::try_from(count).unwrap_or(u8::MAX).min(u8::MAX - *here);
        *here += count;
        self.all = self.all.saturating_add(count.into());
    }

    /// How many before a block; `None` of one that is too long ago.
    fn before(&self, block: u32) -> Option<u32> {
        if self.all == 0 {
            return Some(0);
        }
        let later = match self.behind(block) {
            0 => u32::from(distance(block, self.last) == 0),
            behind => behind + 1,
        };
        if later > Self::REMEMBERED {
            return None;
        }
        let later = (0..later).map(|it| self.by_block[Self::place(self.last.wrapping_sub(it))]);
        Some(self.all.saturating_sub(later.map(u32::from).sum()))
    }

    /// How many blocks one is before the last one; 0: it is not.
    fn behind(&self, block: u32) -> u32 {
        let behind = distance(block, self.last);
        if behind < Self::BEHIND { behind } else { 0 }
    }

    #[allow(clippy::cast_possible_truncation, reason = "less than the length")]
    fn place(block: u32) -> usize {
        (block % Self::REMEMBERED) as usize
    }
}

/// How many blocks one is after another, around their end.
fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) % BLOCKS
}

/// When the first packets of the last blocks came, each at its number modulo the length; 0: it did not.
#[derive(Clone, Copy, Debug, Default)]
struct Moments([Ticks; Self::LENGTH]);

impl Moments {
    const LENGTH: usize = MARKS;

    fn set(&mut self, block: u32, at: Option<Ticks>) {
        self.0[block as usize % Self::LENGTH] = at.unwrap_or_default();
    }

    fn at(&self, block: u32) -> Option<Ticks> {
        let at = self.0[block as usize % Self::LENGTH];
        (at != Ticks::default()).then_some(at)
    }
}

impl Blocks {
    /// A run of numbers was lost, later ones than all before.
    pub(super) fn lose(&mut self, mut number: u32, mut count: u32) {
        while count > 0 {
            let here = (BLOCK - number % BLOCK).min(count);
            self.lost.add(number / BLOCK, here);
            number = number.wrapping_add(here);
            count -= here;
        }
    }

    /// A number came and did not go on.
    pub(super) fn count_dropped(&mut self, number: u32) {
        self.dropped.add(number / BLOCK, 1);
    }

    /// The numbers from one to another have passed, the latter one now.
    pub(super) fn pass(&mut self, before: u32, number: u32, now: Ticks) {
        let (from, to) = (before / BLOCK, number / BLOCK);
        for back in (0..distance(from, to)).take(Moments::LENGTH) {
            self.moments.set(to.wrapping_sub(back), None);
        }
        if number.is_multiple_of(BLOCK) {
            self.moments.set(to, Some(now));
        }
    }

    /// The latest ones first, of a stream whose numbers before `settled` will not come any more.
    pub(super) fn checkpoints<const N: usize>(
        &self,
        base: u32,
        settled: u32,
    ) -> [Option<Checkpoint>; N] {
        let mut block = settled / BLOCK;
        [(); N].map(|()| {
            let number = block.wrapping_mul(BLOCK);
            block = block.wrapping_sub(1);
            let is_in = number.wrapping_sub(base).cast_signed() > 0;
            let lost = self.lost.before(number / BLOCK).filter(|_| is_in)?;
            let dropped = Some(self.dropped.before(number / BLOCK)?);
            Some(Checkpoint {
                number,
                lost,
                dropped,
            })
        })
    }

    /// The latest ones first.
    pub(super) fn marks(&self, highest: u32, clock: TickRate) -> [Option<Mark>; MARKS] {
        let mut block = highest / BLOCK;
        [(); MARKS].map(|()| {
            let (number, at) = (block.wrapping_mul(BLOCK), self.moments.at(block));
            block = block.wrapping_sub(1);
            let at_ns = clock.nanoseconds(at?);
            Some(Mark { number, at_ns })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_possible_truncation, reason = "small numbers")]
    fn losses_are_counted_up_to_any_late_block() {
        let mut blocks = Blocks::default();
        let base = 65_536 + 1_000;
        blocks.lose(base + 10, 1);
        blocks.lose(base + 100, 3);
        blocks.lose(base + 200, 200);
        let settled = base + 500;
        let lost = |number: u32| {
            let all = [10..11, 100..103, 200..400];
            let before = |run: std::ops::Range<u32>| {
                run.map(|it| it + base).filter(|&it| it < number).count() as u32
            };
            all.map(before).iter().sum::<u32>()
        };
        let checkpoints = blocks.checkpoints::<5>(base, settled);
        for Checkpoint {
            number, lost: told, ..
        } in checkpoints.into_iter().flatten()
        {
            assert!(number.is_multiple_of(BLOCK) && number <= settled);
            assert_eq!(told, lost(number), "{number}");
        }
        assert_eq!(checkpoints.into_iter().flatten().count(), 5);
        let none = blocks.checkpoints::<5>(settled - 70, settled);
        assert_eq!(none.into_iter().flatten().count(), 1, "{none:?}");
        blocks.lose(base + 64 * 100, 1);
        assert_eq!(blocks.lost.before(base / 64), None, "too long ago");
        assert_eq!(blocks.lost.before(base / 64 + 102), Some(205));
    }

    #[test]
    fn what_is_dropped_counts_from_its_block_on() {
        let mut blocks = Blocks::default();
        let base = 65_536;
        for number in [
            base + 10,
            base + 63,
            base + 64,
            base + 200,
            base + 199,
            base + 130,
        ] {
            blocks.count_dropped(number);
        }
        let dropped = blocks
            .checkpoints::<5>(base, base + 260)
            .map(|it| it?.dropped);
        // The one that came late counts as the last block's.
        assert_eq!(dropped, [Some(6), Some(3), Some(3), Some(2), None]);
    }

    #[test]
    fn a_sum_leaves_out_what_its_block_does_not_take() {
        let mut blocks = Blocks::default();
        let base = 65_536;
        blocks.count_dropped(base + 10);
        for _ in 0..300 {
            blocks.count_dropped(base + 70);
        }
        let dropped = blocks
            .checkpoints::<2>(base, base + 130)
            .map(|it| it?.dropped);
        assert_eq!(dropped, [Some(256), Some(1)]);
    }

    #[test]
    fn blocks_go_on_after_the_last_number() {
        let mut blocks = Blocks::default();
        let base = 0_u32.wrapping_sub(300);
        for it in [10, 100, 310, 400] {
            let number = base.wrapping_add(it);
            blocks.lose(number, 2);
            blocks.count_dropped(number);
        }
        let told = blocks
            .checkpoints::<4>(base, 200)
            .map(|it| it.map(|it| (it.number, it.lost, it.dropped)));
        let expected = [
            (192, 8, Some(4)),
            (128, 8, Some(4)),
            (64, 6, Some(3)),
            (0, 4, Some(2)),
        ];
        assert_eq!(told, expected.map(Some));

        let clock = TickRate::from_hz(1_000_000_000);
        let before = 0_u32.wrapping_sub(256);
        blocks.pass(before.wrapping_sub(1), before, Ticks(7));
        blocks.pass(u32::MAX, 1, Ticks(8));
        assert_eq!(blocks.marks(1, clock), [None; 4], "number 0 has not come");
    }

    #[test]
    fn a_block_whose_first_packet_is_lost_has_no_mark() {
        let clock = TickRate::from_hz(1_000_000_000);
        let mut blocks = Blocks::default();
        blocks.pass(65_535, 65_536, Ticks(7));
        blocks.pass(65_599, 65_600, Ticks(8));
        blocks.pass(65_600, 65_665, Ticks(9));
        let marks = blocks.marks(65_665, clock).map(|it| it.map(|it| it.at_ns));
        assert_eq!(marks, [None, Some(8), Some(7), None]);
        blocks.pass(65_665, 70_000, Ticks(10));
        assert_eq!(blocks.marks(70_000, clock), [None; 4]);
    }
}
