use crate::units::PortIndex;

/// How many cores do what. They are numbered from the workers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cores that forward, at least one.
    pub workers: usize,
    /// Cores that schedule only. Without any, workers schedule.
    pub schedulers: usize,
}

impl Layout {
    /// One core for all.
    pub const FUSED: Self = Self {
        workers: 1,
        schedulers: 0,
    };

    /// Workers and schedulers together.
    #[must_use]
    pub fn cores(self) -> usize {
        self.workers + self.schedulers
    }

    /// Which core has a port's queues.
    #[must_use]
    pub fn scheduler(self, port: PortIndex) -> usize {
        match self.schedulers {
            0 => port.index() % self.workers.max(1),
            schedulers => self.workers + port.index() % schedulers,
        }
    }

    /// Which worker receives all of a port that has one receive queue.
    #[must_use]
    pub fn receiver(self, port: PortIndex) -> usize {
        port.index() % self.workers.max(1)
    }

    /// How many rings there are from one core to another.
    #[must_use]
    pub fn rings(self, ports: usize) -> usize {
        let feeds = |from: usize, to: usize| from != to && self.own(to, ports).next().is_some();
        let workers = 0..self.workers;
        workers
            .map(|from| (0..self.cores()).filter(|&to| feeds(from, to)).count())
            .sum()
    }

    /// How many rings there are between workers for each port with [`PortSettings::one_receiver`].
    ///
    /// [`PortSettings::one_receiver`]: crate::settings::PortSettings::one_receiver
    #[must_use]
    pub fn spreading_rings(self) -> usize {
        self.workers.saturating_sub(1)
    }

    /// The ports whose queues a core has.
    pub(super) fn own(self, core: usize, ports: usize) -> impl Iterator<Item = PortIndex> {
        let all = (0..=u8::MAX).map(PortIndex).take(ports);
        all.filter(move |&port| self.scheduler(port) == core)
    }
}
