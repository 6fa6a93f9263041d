use std::{
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

#[cfg(not(target_arch = "x86_64"))]
use voicelane_dpdk_sys as sys;

/// How long the counter is measured for. Each end is known to less than a microsecond.
const MEASURE: Duration = Duration::from_millis(100);
/// Attempts at reading counter and clock at the same moment.
const ATTEMPTS: usize = 16;

/// Reads the CPU's time-stamp counter.
#[inline]
#[must_use]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 CPU has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register.
    unsafe {
        sys::vl_tsc()
    }
}

/// Ticks of [`tsc`] in a second, measured when it is first asked for.
///
/// EAL's figure may be rounded to 10 MHz (lib/eal/linux/eal_timer.c), which is 0.15 % of 2,596 MHz: a
/// policer that takes its seconds for so much longer drops each 700th packet of a call that sends at its rate.
#[must_use]
pub fn tsc_hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(measured)
}

fn measured() -> u64 {
    let (began, from) = at_once();
    sleep(MEASURE);
    let (ended, to) = at_once();
    let ticks = u128::from(to.wrapping_sub(from)) * 1_000_000_000;
    let hz = ticks / ended.duration_since(began).as_nanos().max(1);
    u64::try_from(hz).unwrap_or(u64::MAX)
}

/// The clock and the counter at the same moment: of several attempts the one that took the fewest ticks, as
/// nothing came between.
fn at_once() -> (Instant, u64) {
    let attempt = || {
        let before = tsc();
        let now = Instant::now();
        let took = tsc().wrapping_sub(before);
        (took, now, before.wrapping_add(took / 2))
    };
    let mut best = attempt();
    for _ in 1..ATTEMPTS {
        let next = attempt();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second() {
        let (began, from) = at_once();
        sleep(5 * MEASURE);
        let (ended, to) = at_once();
        let seconds = (to - from) as f64 / tsc_hz() as f64;
        let ppm = (seconds / (ended - began).as_secs_f64() - 1.0).abs() * 1e6;
        // Less than what two quartz clocks differ by.
        assert!(ppm < 50.0, "{ppm} ppm");
    }
}
