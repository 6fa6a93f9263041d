use super::{Queues, limiter::Limiter, set, with};
use crate::{
    diffserv::{ClassSettings, Phb, Service},
    units::{BitRate, Ticks},
};

/// The classes' guaranteed minima, and their maxima.
#[derive(Debug)]
pub(super) struct Bounds {
    minima: [Option<Limiter>; Phb::COUNT],
    maxima: [Option<Limiter>; Phb::COUNT],
    /// Those that have either.
    bounded: Queues,
    under_minimum: Queues,
    at_maximum: Queues,
}

impl Bounds {
    /// Strict priority has no minimum: it comes first as it is.
    pub(super) fn new(
        classes: &[ClassSettings; Phb::COUNT],
        limiter: impl Fn(BitRate) -> Limiter,
    ) -> Self {
        let minima = classes.each_ref().map(|class| {
            let guaranteed = class.service != Service::Strict;
            class.minimum.filter(|_| guaranteed).map(&limiter)
        });
        let maxima = classes.each_ref().map(|class| class.maximum.map(&limiter));
        let under_minimum = set(&minima.each_ref().map(Option::is_some));
        Self {
            bounded: under_minimum | set(&maxima.each_ref().map(Option::is_some)),
            under_minimum,
            at_maximum: 0,
            minima,
            maxima,
        }
    }

    /// The classes whose minimum is not used up.
    #[inline]
    pub(super) fn under_minimum(&self) -> Queues {
        self.under_minimum
    }

    /// The classes whose maximum is.
    #[inline]
    pub(super) fn at_maximum(&self) -> Queues {
        self.at_maximum
    }

    /// Brings all up to date, if any class that waits has one.
    #[inline]
    pub(super) fn refill(&mut self, waiting: Queues, now: Ticks) {
        if self.bounded & waiting != 0 {
            self.refill_all(now);
        }
    }

    #[cold]
    fn refill_all(&mut self, now: Ticks) {
        for index in 0..Phb::COUNT {
            let bit = 1 << index;
            if let Some(limiter) = &mut self.minima[index] {
                limiter.refill(now);
                self.under_minimum = with(self.under_minimum, bit, limiter.is_open());
            }
            if let Some(limiter) = &mut self.maxima[index] {
                limiter.refill(now);
                self.at_maximum = with(self.at_maximum, bit, !limiter.is_open());
            }
        }
    }

    /// How many packets of one cost a class's maximum lets go, of at most so many.
    #[inline]
    pub(super) fn lets(&self, index: usize, cost: i64, most: u32) -> u32 {
        let maximum = self.maxima[index].as_ref();
        maximum.map_or(most, |maximum| maximum.lets(cost, most))
    }

    /// How many packets of one cost a class's minimum covers, of at most so many.
    #[inline]
    pub(super) fn minimum_lets(&self, index: usize, cost: i64, most: u32) -> u32 {
        let minimum = self.minima[index].as_ref();
        minimum.map_or(0, |minimum| minimum.lets(cost, most))
    }

    #[inline]
    pub(super) fn charge_minimum(&mut self, index: usize, cost: i64) {
        if let Some(limiter) = &mut self.minima[index] {
            limiter.take(cost);
            self.under_minimum = with(self.under_minimum, 1 << index, limiter.is_open());
        }
    }

    #[inline]
    pub(super) fn charge_maximum(&mut self, index: usize, cost: i64) {
        if let Some(limiter) = &mut self.maxima[index] {
            limiter.take(cost);
            self.at_maximum = with(self.at_maximum, 1 << index, !limiter.is_open());
        }
    }

    /// When the first of some classes is not at its maximum any more.
    pub(super) fn open_at(&self, classes: Queues) -> Option<Ticks> {
        (0..Phb::COUNT)
            .filter(|index| classes >> index & 1 == 1)
            .filter_map(|index| self.maxima[index].as_ref().map(Limiter::opens_at))
            .min()
    }

    pub(super) fn limiters(&self) -> impl Iterator<Item = &Limiter> {
        self.minima.iter().chain(&self.maxima).flatten()
    }
}
