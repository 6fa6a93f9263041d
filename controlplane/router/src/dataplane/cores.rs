//! Which thread runs where: the data plane's alone on their cores, everything else on the others.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const THIS_THREAD: Pid = Pid::from_raw(0);

/// The cores that this thread may run on.
#[must_use]
pub fn available() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(THIS_THREAD) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|&core| set.is_set(core).unwrap_or(false))
        .collect()
}

/// Keeps this thread, and those that it starts from now on, on these cores.
pub fn stay_on(cores: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(THIS_THREAD, &set)
}

/// What is left of the cores for everything but the data plane: all of them, where it takes all.
#[must_use]
pub fn beside(dataplane: &[usize], available: &[usize]) -> Vec<usize> {
    let others: Vec<_> = available
        .iter()
        .copied()
        .filter(|core| !dataplane.contains(core))
        .collect();
    if others.is_empty() {
        available.to_vec()
    } else {
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_plane_is_alone_where_it_can_be() {
        assert_eq!(beside(&[1], &[0, 1, 3]), [0, 3]);
        assert_eq!(beside(&[0, 3], &[0, 1, 3]), [1]);
        assert_eq!(beside(&[0, 1], &[0, 1]), [0, 1]);
        let all = available();
        assert!(!all.is_empty());
        stay_on(&all[..1]).unwrap();
        assert_eq!(available(), all[..1]);
    }
}
