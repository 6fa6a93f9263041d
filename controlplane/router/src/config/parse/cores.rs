use std::collections::HashSet;

use crate::config::{CoresConfig, problems::Section, raw::RawRouter};

/// `router.cores` and `router.scheduler_cores`, on a machine with these cores.
pub(super) fn parse(
    raw: &RawRouter,
    available: &[usize],
    section: &mut Section<'_>,
) -> Option<CoresConfig> {
    let mut taken = HashSet::new();
    let mut cores = |key: &str, wanted: &[i64]| {
        let cores: Result<Vec<_>, _> = wanted
            .iter()
            .map(|&core| usable(core, available, &mut taken))
            .collect();
        section.keep(key, cores)
    };
    let workers = cores("cores", &raw.cores);
    let schedulers = cores("scheduler_cores", &raw.scheduler_cores);
    let (workers, schedulers) = (workers?, schedulers?);
    if workers.is_empty() {
        let reason = format!(
            "no worker core is named: write some of {}, as in [0]",
            list(available)
        );
        return section.wrong("cores", reason);
    }
    Some(CoresConfig {
        workers,
        schedulers,
    })
}

fn usable(core: i64, available: &[usize], taken: &mut HashSet<usize>) -> Result<usize, String> {
    let number = usize::try_from(core)
        .ok()
        .filter(|core| available.contains(core))
        .ok_or_else(|| {
            format!(
                "this process cannot use core {core}: write some of {}",
                list(available)
            )
        })?;
    if taken.insert(number) {
        Ok(number)
    } else {
        Err(format!("core {core} is named twice: each has one part"))
    }
}

fn list(cores: &[usize]) -> String {
    let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
    cores.join(", ")
}
