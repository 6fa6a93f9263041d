use std::time::Duration;

use tokio::time::Instant;

/// For how long no route must be refused before that is said: routes that flap where there is little room
/// cost two log lines.
const CALM: Duration = Duration::from_secs(10);

/// What is said of routes that the worker has no room for: when the first one is refused, and when none has
/// been for a while.
#[derive(Debug, Default)]
pub(super) struct Refusals(Option<Episode>);

#[derive(Debug)]
struct Episode {
    /// The most routes that were refused at once.
    most: usize,
    /// How often there was no room, after there had been for all.
    times: u64,
    /// Since when none is refused.
    calm_since: Option<Instant>,
}

/// Something to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Began {
        routes: usize,
    },
    /// None is any more.
    Over {
        /// The most that were at once.
        most: usize,
        /// How often there were some.
        times: u64,
    },
}

impl Refusals {
    /// Takes in how many routes are refused now.
    pub(super) fn look(&mut self, routes: usize, now: Instant) -> Option<Said> {
        let Some(episode) = &mut self.0 else {
            self.0 = (routes > 0).then_some(Episode {
                most: routes,
                times: 1,
                calm_since: None,
            });
            return (routes > 0).then_some(Said::Began { routes });
        };
        episode.most = episode.most.max(routes);
        if routes > 0 {
            episode.times += u64::from(episode.calm_since.take().is_some());
            return None;
        }
        let since = *episode.calm_since.get_or_insert(now);
        if now.duration_since(since) < CALM {
            return None;
        }
        let (most, times) = (episode.most, episode.times);
        self.0 = None;
        Some(Said::Over { most, times })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_flap_cost_two_lines() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let mut look = |routes, ms| refusals.look(routes, start + Duration::from_millis(ms));
        assert_eq!(look(0, 0), None);
        assert_eq!(look(3, 1), Some(Said::Began { routes: 3 }));
        for flap in 0..1000 {
            assert_eq!(look(usize::from(flap % 2 == 0) * 5, 2 + flap * 9), None);
        }
        // The last one that was refused went at 8,984.
        assert_eq!(look(0, 18_992), None);
        let over = Said::Over {
            most: 5,
            times: 500,
        };
        assert_eq!(look(0, 18_993), Some(over));
        assert_eq!(look(0, 40_000), None);
        assert_eq!(look(1, 40_001), Some(Said::Began { routes: 1 }));
    }
}
