//! Changes at a fixed rate: slots that are free get a call, those that have one lose it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use voicelane_dataplane::units::{TickRate, Ticks};
use voicelane_dpdk::{tsc, tsc_hz};

use crate::{calls::Call, figures::LONGEST_NS, road::Seen};

/// How often changes are started.
const TICK: Duration = Duration::from_millis(1);
/// How long answers may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Adds and removes a call somewhere. `false`: it failed.
pub(crate) trait Change: Clone + Send + Sync + 'static {
    /// Whether a call that is added has its packets marked.
    const MARKS: bool = true;
    fn add(&self, call: Call) -> impl Future<Output = bool> + Send;
    fn remove(&self, call: Call) -> impl Future<Output = bool> + Send;
}

/// What came of the changes.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) failed: u64,
    /// Nanoseconds.
    pub(crate) answer: Histogram<u64>,
    pub(crate) marked: Histogram<u64>,
}

impl Done {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            count: 0,
            failed: 0,
            answer: Histogram::new_with_max(LONGEST_NS, 3)?,
            marked: Histogram::new_with_max(LONGEST_NS, 3)?,
        })
    }
}

#[derive(Debug)]
struct Slots {
    free: VecDeque<Call>,
    busy: VecDeque<Call>,
    done: Done,
}

/// Changes calls for so long, and waits for all answers.
pub(crate) async fn churn(
    change: impl Change,
    seen: &Arc<Seen>,
    per_second: u64,
    last: Duration,
) -> anyhow::Result<Done> {
    let calls = u16::try_from(seen.marked.len())?;
    let slots = Arc::new(Mutex::new(Slots {
        free: (0..calls).map(Call).collect(),
        busy: VecDeque::new(),
        done: Done::new()?,
    }));
    let mut under_way = JoinSet::new();
    let started = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut begun = 0;
    let mut adds = true;
    while started.elapsed() < last {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let due = started.elapsed().as_nanos() * u128::from(per_second) / 1_000_000_000;
        let due = u64::try_from(due)?;
        while begun < due {
            // What there is no slot for is not done, and seen as missing in the rate.
            begun += 1;
            let call = {
                let mut slots = lock(&slots);
                let call = if adds {
                    slots.free.pop_front()
                } else {
                    slots.busy.pop_front()
                };
                adds = !adds;
                call
            };
            if let Some(call) = call {
                let (change, seen) = (change.clone(), Arc::clone(seen));
                under_way.spawn(one(change, call, !adds, seen, Arc::clone(&slots)));
            }
        }
    }
    // What is not answered by then is counted below.
    let _ = timeout(PATIENCE, async {
        while under_way.join_next().await.is_some() {}
    })
    .await;
    let mut slots = lock(&slots);
    slots.done.failed += u64::try_from(under_way.len())?;
    let done = Done::new()?;
    Ok(std::mem::replace(&mut slots.done, done))
}

/// One change, and what is to be known of it.
async fn one<C: Change>(
    change: C,
    call: Call,
    is_add: bool,
    seen: Arc<Seen>,
    slots: Arc<Mutex<Slots>>,
) {
    let begin = tsc();
    let right = if is_add {
        change.add(call).await
    } else {
        change.remove(call).await
    };
    let answered = tsc();
    let marked = || seen.marked[usize::from(call.0)].load(Ordering::Acquire);
    let shows = C::MARKS && is_add && right;
    // Its packets come in turns with the others': the first one after the answer may be a while.
    while shows && marked() < begin && nanoseconds(tsc() - answered) < 1_000_000_000 {
        sleep(TICK).await;
    }
    let marked = marked();
    let mut slots = lock(&slots);
    let done = &mut slots.done;
    done.count += u64::from(right);
    done.failed += u64::from(!right || shows && marked < begin);
    done.answer.saturating_record(nanoseconds(answered - begin));
    if shows && marked >= begin {
        done.marked.saturating_record(nanoseconds(marked - begin));
    }
    if is_add {
        slots.busy.push_back(call);
    } else {
        slots.free.push_back(call);
    }
}

/// Of ticks of the TSC.
pub(crate) fn nanoseconds(ticks: u64) -> u64 {
    TickRate::from_hz(tsc_hz()).nanoseconds(Ticks(ticks))
}

fn lock(slots: &Mutex<Slots>) -> std::sync::MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}
