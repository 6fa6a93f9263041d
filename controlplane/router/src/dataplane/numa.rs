//! Memory next to the cores and devices that use it, on machines where that makes a difference.

use std::{fs, panic::resume_unwind, thread};

use voicelane_dpdk::WorkerThread;

use super::cores;

/// The number of a NUMA node.
pub type Node = u16;

/// The node of a core; `None` where the machine does not say.
#[must_use]
pub fn of_core(core: usize) -> Option<Node> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .next()
}

/// The node that most of the devices are next to, of several such ones the first; `None` when none
/// is known.
#[must_use]
pub fn of_most(devices: &[Option<Node>]) -> Option<Node> {
    let count = |node: Node| {
        devices
            .iter()
            .filter(|device| **device == Some(node))
            .count()
    };
    let mut nodes: Vec<_> = devices.iter().copied().flatten().collect();
    nodes.sort_unstable();
    nodes.into_iter().rev().max_by_key(|&node| count(node))
}

/// Does something on a core, so that DPDK's memory which it takes is on that core's node.
pub fn beside<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            // Where the core cannot be had the worker says so; here any other will do.
            let _pinned = cores::stay_on(&[core]);
            let _registered = WorkerThread::register();
            work()
        });
        there.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// As DPDK wants it: any, where it is not known.
#[must_use]
pub fn socket(node: Option<Node>) -> i32 {
    node.map_or(-1, i32::from)
}

/// Whether both are known, and not the same.
#[must_use]
pub fn apart(one: Option<Node>, other: Option<Node>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_where_most_devices_are() {
        assert_eq!(of_most(&[]), None);
        assert_eq!(of_most(&[None, None]), None);
        assert_eq!(of_most(&[None, Some(1), None]), Some(1));
        assert_eq!(of_most(&[Some(1), Some(0), Some(1)]), Some(1));
        assert_eq!(of_most(&[Some(1), Some(0)]), Some(0));
        assert_eq!((socket(None), socket(Some(1))), (-1, 1));
    }

    #[test]
    fn what_is_unknown_is_not_apart() {
        assert!(apart(Some(0), Some(1)));
        for (one, other) in [(Some(1), Some(1)), (None, Some(1)), (Some(0), None)] {
            assert!(!apart(one, other));
        }
        assert!(of_core(usize::MAX).is_none());
    }
}
