//! Whose instructions are whose: each stage of the packet's way is a function of its own, and what it
//! calls is its, wherever that stands.

use std::collections::{BTreeMap, HashMap};

use anyhow::bail;

/// The stages, in the packet's order: `dataplane/src/pipeline/stages`, and `dataplane/src/scheduler`.
pub(crate) const STAGES: [&str; 11] = [
    "rx", "parse", "classify", "verify", "measure", "police", "mark", "route", "queue", SCHEDULE,
    "tx",
];
/// The stage that packets which pass empty queues by need not come to.
const SCHEDULE: &str = "schedule";
/// The worker's loop, and what is in no stage.
pub(crate) const LOOP: &str = "loop";
/// The ports in memory.
pub(crate) const DEVICE: &str = "device";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Function {
    /// In its own code, what is inlined there included.
    pub(crate) own: u64,
    /// In the functions that it calls, and in those that these call.
    pub(crate) calls: BTreeMap<String, u64>,
}

/// All functions, by name.
pub(crate) type Functions = HashMap<String, Function>;

/// Who a function's instructions belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Stage(&'static str),
    Device,
    /// To who calls it.
    Caller,
}

fn part(name: &str) -> Part {
    if name.contains("voicelane_micro::device::") {
        return Part::Device;
    }
    if name.contains("voicelane_dataplane::scheduler::") {
        return Part::Stage(SCHEDULE);
    }
    let stage = name
        .split_once("voicelane_dataplane::pipeline::stages::")
        .and_then(|(_, rest)| STAGES.into_iter().find(|stage| starts(rest, stage)));
    stage.map_or(Part::Caller, Part::Stage)
}

fn starts(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.starts_with("::"))
}

/// How many instructions each stage, the loop and the device have of a function and all that it calls.
pub(crate) fn split(
    functions: &Functions,
    root: &str,
) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let mut shares = Shares {
        functions,
        known: HashMap::new(),
    };
    let mut all: BTreeMap<_, _> = shares.of(root, 0)?.into_iter().collect();
    let own = all.remove(CALLER).unwrap_or_default();
    *all.entry(LOOP).or_default() += own;
    let counted = |stage: &str| stage == SCHEDULE || all.contains_key(stage);
    if let Some(missing) = STAGES.into_iter().find(|stage| !counted(stage)) {
        bail!("nothing was counted in stage {missing}: is it a function of its own?");
    }
    Ok(all)
}

struct Shares<'a> {
    functions: &'a Functions,
    known: HashMap<&'a str, HashMap<&'static str, f64>>,
}

/// What belongs to the caller.
const CALLER: &str = "";

impl<'a> Shares<'a> {
    /// Of a function and all that it calls.
    fn of(&mut self, name: &'a str, depth: usize) -> anyhow::Result<HashMap<&'static str, f64>> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        if depth > 100 {
            bail!("{name} calls itself");
        }
        let functions = self.functions;
        let Some(function) = functions.get(name) else {
            bail!("{name} was called and has no instructions");
        };
        let mut shares = HashMap::from([(CALLER, function.own as f64)]);
        for (callee, &cost) in &function.calls {
            let below = self.of(callee, depth + 1)?;
            let all: f64 = below.values().sum();
            for (whose, share) in below {
                *shares.entry(whose).or_default() += share / all.max(1.0) * cost as f64;
            }
        }
        let device = shares.get(DEVICE).copied().unwrap_or_default();
        let all: f64 = shares.values().sum();
        match part(name) {
            Part::Caller => {}
            // A stage that another calls is the other's.
            Part::Stage(stage) => shares = HashMap::from([(stage, all - device), (DEVICE, device)]),
            Part::Device => shares = HashMap::from([(DEVICE, all)]),
        }
        self.known.insert(name, shares.clone());
        Ok(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(own: u64, calls: &[(&str, u64)]) -> Function {
        Function {
            own,
            calls: calls
                .iter()
                .map(|&(to, cost)| (to.to_owned(), cost))
                .collect(),
        }
    }

    #[test]
    fn instructions_are_the_outermost_stages_but_for_the_devices() {
        let at = |path: &str| format!("voicelane_dataplane::pipeline::stages::{path}");
        let scheduler =
            |method| format!("voicelane_dataplane::scheduler::PortScheduler<B>::{method}");
        let (queue, enqueue) = (at("queue::queue"), scheduler("enqueue"));
        let (schedule, drop) = (scheduler("schedule"), "core::ptr::drop_in_place<Frame>");
        let frame = "<voicelane_micro::device::Frame as core::ops::drop::Drop>::drop";
        let mut functions = Functions::from([
            ("root".to_owned(), function(5, &[("turn", 795)])),
            (queue.clone(), function(30, &[(&enqueue, 50), (drop, 20)])),
            (enqueue.clone(), function(40, &[(drop, 10)])),
            (schedule.clone(), function(100, &[(drop, 90)])),
            // Half of what `drop` takes is the device's.
            (drop.to_owned(), function(60, &[(frame, 60)])),
            (frame.to_owned(), function(10, &[("memcpy", 50)])),
            ("memcpy".to_owned(), function(50, &[])),
        ]);
        let mut calls = vec![(queue.as_str(), 100), (&schedule, 190), (frame, 5)];
        let others: Vec<_> = [
            "rx", "parse", "classify", "verify", "measure", "police", "mark", "route", "tx",
        ]
        .map(|stage| at(&format!("{stage}::{stage}")))
        .into();
        for other in &others {
            functions.insert(other.clone(), function(50, &[]));
            calls.push((other, 50));
        }
        functions.insert("turn".to_owned(), function(50, &calls));
        let split = split(&functions, "root").unwrap();
        let rounded = |part| split[part].round();
        assert_eq!(rounded("queue"), 85.0);
        assert_eq!(rounded("schedule"), 145.0);
        assert_eq!(rounded(DEVICE), 65.0);
        assert_eq!(rounded("route"), 50.0);
        assert_eq!(rounded(LOOP), 55.0);
        assert_eq!(split.values().sum::<f64>().round(), 800.0);
    }

    #[test]
    fn a_stage_that_is_inlined_is_missed() {
        let functions = Functions::from([("root".to_owned(), function(5, &[]))]);
        assert!(split(&functions, "root").is_err());
    }
}
