use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The most pairs of routers that have a histogram: those that come first.
const MOST: usize = 256;

type Labels = [(&'static str, String); 3];

/// Delays between routers. These are the only labels that hold names from outside.
#[derive(Debug)]
pub(super) struct Paths {
    known: Mutex<BTreeSet<[String; 2]>>,
    delays: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for Paths {
    fn default() -> Self {
        // 0.25 ms to 2 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(2.5e-4, 2.0, 14));
        Self {
            known: Mutex::default(),
            delays: Family::new_with_constructor(histogram),
        }
    }
}

impl Paths {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "voicelane_path_delay",
            "How long packets took from one router to another and back, of one call of theirs about every ten seconds, for at most 256 pairs of routers",
            Unit::Seconds,
            self.delays.clone(),
        );
    }

    pub(super) fn observe(&self, routers: [&str; 2], delay: Duration) {
        let routers = routers.map(str::to_owned);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST && !known.contains(&routers) {
                return;
            }
            known.insert(routers.clone());
        }
        let [from, to] = routers;
        let labels = [("from", from), ("to", to), ("kind", "two-way".to_owned())];
        let histogram = self.delays.get_or_create(&labels);
        histogram.observe(delay.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn pairs_of_routers_are_bounded() {
        let (paths, mut registry) = (Paths::default(), Registry::default());
        paths.register(&mut registry);
        for number in 0..MOST + 9 {
            paths.observe(["a", &format!("b{number}")], Duration::from_millis(80));
            paths.observe(["a", "b0"], Duration::from_millis(8));
        }
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        let counts = written.lines().filter(|it| it.contains("seconds_count"));
        assert_eq!(counts.count(), MOST);
        let first = r#"voicelane_path_delay_seconds_count{from="a",to="b0",kind="two-way"} 266"#;
        assert!(written.lines().any(|it| it == first), "{written}");
    }
}
