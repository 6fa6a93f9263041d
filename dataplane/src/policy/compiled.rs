use super::{
    Action, Classifier, DscpMap, InterfacePolicy, KernelPolicy, Metering, PolicyError,
    PolicyReport, PolicySpec, ReversePath, Routing, Rule, RuleCounters, RuleIndex,
};
use crate::{
    diffserv::{Colour, ColourAction, Dscp, Meter, MeterError, MeterProfile, Phb},
    stats::{Count, DropReason},
    units::{InterfaceIndex, TickRate, Ticks},
};

/// A policy as a worker applies it, with the state of its meters.
#[derive(Clone, Debug)]
pub struct Policy {
    generation: u64,
    /// `None`: there are no rules.
    classifier: Option<Classifier>,
    rules: Box<[CompiledRule]>,
    /// The rules' places, in the order of their names.
    by_name: Box<[u8]>,
    interfaces: Box<[Interface]>,
    kernel: KernelPolicy,
    /// What its trust makes of code points.
    kernel_trust: DscpMap,
}

#[derive(Clone, Debug)]
struct CompiledRule {
    name: Box<str>,
    action: Action,
    meter: Option<Metered>,
    counters: RuleCounters,
}

#[derive(Clone, Debug)]
struct Interface {
    trust: DscpMap,
    reverse_path: ReversePath,
    /// A bit for each behaviour with an aggregate meter.
    policed: u16,
    aggregates: [Option<Metered>; Phb::COUNT],
    counters: [[Count; Colour::ALL.len()]; Phb::COUNT],
}

/// A meter at work.
#[derive(Clone, Copy, Debug)]
struct Metered {
    terms: Metering,
    profile: MeterProfile,
    meter: Meter,
}

impl Metered {
    fn new(terms: &Metering, clock: TickRate) -> Result<Self, MeterError> {
        let profile = MeterProfile::new(&terms.spec, clock)?;
        Ok(Self {
            terms: *terms,
            profile,
            // Full at any time before it is used is full when it is used.
            meter: Meter::full(&profile, Ticks(0)),
        })
    }

    /// Meters a packet that was to go with `dscp`, and came with the colour of `came_with`: the code
    /// point that it goes with; `None` if it is dropped.
    #[inline]
    fn meter(
        &mut self,
        dscp: Dscp,
        came_with: Dscp,
        bytes: u32,
        now: Ticks,
        counters: &mut [Count; Colour::ALL.len()],
    ) -> Option<Dscp> {
        let colour = self
            .meter
            .colour(&self.profile, now, bytes, Colour::of(came_with));
        counters[colour.index()].add(bytes);
        match self.terms.marking.action(colour) {
            ColourAction::Keep => Some(dscp),
            ColourAction::Mark(other) => Some(other),
            ColourAction::Drop => None,
        }
    }

    /// Goes on where another one with the same terms is.
    fn take_over(&mut self, old: &Self) {
        if self.terms.spec == old.terms.spec && self.profile == old.profile {
            self.meter = old.meter;
        }
    }
}

impl Policy {
    /// Compiles a policy for a worker with this clock. `generation` tells its reports from those of
    /// other policies.
    pub fn new(
        spec: &PolicySpec,
        generation: u64,
        clock: TickRate,
    ) -> Result<Box<Self>, PolicyError> {
        spec.check()?;
        let rules: Result<Box<_>, _> = spec.rules.iter().map(|r| rule(r, clock)).collect();
        let interfaces: Result<Box<_>, _> = spec
            .interfaces
            .iter()
            .enumerate()
            .map(|(index, policy)| interface(index, policy, clock))
            .collect();
        let mut by_name: Vec<_> = (0..=u8::MAX).take(spec.rules.len()).collect();
        by_name.sort_unstable_by_key(|&index| &spec.rules[usize::from(index)].name);
        Ok(Box::new(Self {
            generation,
            classifier: (!spec.rules.is_empty()).then(|| Classifier::new(&spec.rules)),
            rules: rules?,
            by_name: by_name.into(),
            interfaces: interfaces?,
            kernel: spec.kernel.clone(),
            kernel_trust: spec.kernel.trust.map(),
        }))
    }

    /// Trust alone, which nothing can be wrong with.
    pub(crate) fn of_trusts(trusts: impl Iterator<Item = DscpMap>) -> Box<Self> {
        Box::new(Self {
            generation: 0,
            classifier: None,
            rules: Box::default(),
            by_name: Box::default(),
            interfaces: trusts.map(Interface::new).collect(),
            kernel: KernelPolicy::default(),
            kernel_trust: DscpMap::BLEACH,
        })
    }

    /// Goes on where another policy is: what is in both keeps its counters, and its meter if the
    /// terms are the same. Takes time for each rule once, and allocates nothing.
    pub(crate) fn take_over(&mut self, old: &Self) {
        let mut olds = old
            .by_name
            .iter()
            .map(|&rule| &old.rules[usize::from(rule)]);
        let mut candidate = olds.next();
        for &rule in &self.by_name {
            let rule = &mut self.rules[usize::from(rule)];
            while candidate.is_some_and(|old| old.name < rule.name) {
                candidate = olds.next();
            }
            if let Some(old) = candidate.filter(|old| old.name == rule.name) {
                rule.counters = old.counters;
                if let (Some(meter), Some(old)) = (&mut rule.meter, &old.meter) {
                    meter.take_over(old);
                }
            }
        }
        for (interface, old) in self.interfaces.iter_mut().zip(&old.interfaces) {
            interface.counters = old.counters;
            for (meter, old) in interface.aggregates.iter_mut().zip(&old.aggregates) {
                if let (Some(meter), Some(old)) = (meter, old) {
                    meter.take_over(old);
                }
            }
        }
    }

    /// The rules; `None` when there are none.
    #[inline]
    pub(crate) fn classifier(&self) -> Option<&Classifier> {
        self.classifier.as_ref()
    }

    /// Counts up with each policy that is applied.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What an interface makes of code points.
    #[inline]
    pub(crate) fn trust(&self, interface: InterfaceIndex) -> &DscpMap {
        self.interfaces
            .get(interface.index())
            .map_or(&DscpMap::BLEACH, |interface| &interface.trust)
    }

    /// What becomes of the code points of frames that the kernel sends.
    pub(crate) fn kernel_trust(&self) -> &DscpMap {
        &self.kernel_trust
    }

    /// The routing protocols that the router speaks.
    pub(crate) fn routing(&self) -> &Routing {
        &self.kernel.routing
    }

    /// What the sources of an interface's packets must be.
    #[inline]
    pub(crate) fn reverse_path(&self, interface: InterfaceIndex) -> ReversePath {
        self.interfaces
            .get(interface.index())
            .map_or(ReversePath::Off, |interface| interface.reverse_path)
    }

    /// The code point that a rule gives a packet which came with `own`.
    #[inline]
    pub(crate) fn code_point(&self, rule: RuleIndex, own: Dscp) -> Dscp {
        match self.rules.get(rule.index()).map(|rule| rule.action) {
            Some(Action::Mark(dscp)) => dscp,
            _ => own,
        }
    }

    /// Counts and meters a packet that a rule matched, that came with `own` and was given `dscp`.
    #[inline]
    pub(crate) fn meter_rule(
        &mut self,
        rule: RuleIndex,
        (own, dscp): (Dscp, Dscp),
        bytes: u32,
        now: Ticks,
    ) -> Result<Dscp, DropReason> {
        let Some(rule) = self.rules.get_mut(rule.index()) else {
            return Ok(dscp);
        };
        let RuleCounters { matched, colours } = &mut rule.counters;
        matched.add(bytes);
        match (&mut rule.meter, rule.action) {
            (_, Action::Drop) => Err(DropReason::RuleDrop),
            (None, _) => Ok(dscp),
            (Some(meter), _) => meter
                .meter(dscp, own, bytes, now, colours)
                .ok_or(DropReason::RuleMetered),
        }
    }

    /// Meters a packet without a session by its interface's aggregate of its behaviour.
    #[inline]
    pub(crate) fn meter_aggregate(
        &mut self,
        interface: InterfaceIndex,
        (phb, dscp): (Phb, Dscp),
        bytes: u32,
        now: Ticks,
    ) -> Result<Dscp, DropReason> {
        match self.interfaces.get_mut(interface.index()) {
            Some(interface) if interface.policed >> phb.index() & 1 == 1 => {
                interface.meter(phb, dscp, bytes, now)
            }
            _ => Some(dscp),
        }
        .ok_or(DropReason::AggregatePoliced)
    }

    /// Writes down what was counted, within the room that there is.
    pub(crate) fn fill(&self, report: &mut PolicyReport) {
        report.generation = self.generation;
        report.rules.clear();
        let room = report.rules.capacity();
        let counters = self.rules.iter().map(|rule| rule.counters);
        report.rules.extend(counters.take(room));
        for (to, from) in report.interfaces.iter_mut().zip(&self.interfaces) {
            to.aggregates = from.counters;
        }
    }

    /// Checks what must hold between calls.
    pub(crate) fn invariants(&self) {
        let of_rules = self.rules.iter().filter_map(|rule| rule.meter.as_ref());
        let of_aggregates = self
            .interfaces
            .iter()
            .flat_map(|i| i.aggregates.iter().flatten());
        for metered in of_rules.chain(of_aggregates) {
            metered.meter.invariants(&metered.profile);
        }
        for rule in &self.rules {
            let RuleCounters { matched, colours } = rule.counters;
            let coloured: u64 = colours.iter().map(|colour| colour.packets).sum();
            assert!(
                coloured <= matched.packets,
                "{} metered what it did not match",
                rule.name
            );
        }
    }
}

impl Interface {
    fn new(trust: DscpMap) -> Self {
        Self {
            trust,
            reverse_path: ReversePath::Off,
            policed: 0,
            aggregates: [None; Phb::COUNT],
            counters: Default::default(),
        }
    }

    /// Kept out of the way of packets that no meter waits for.
    #[inline(never)]
    fn meter(&mut self, phb: Phb, dscp: Dscp, bytes: u32, now: Ticks) -> Option<Dscp> {
        let counters = &mut self.counters[phb.index()];
        match &mut self.aggregates[phb.index()] {
            Some(meter) => meter.meter(dscp, dscp, bytes, now, counters),
            None => Some(dscp),
        }
    }
}

fn rule(rule: &Rule, clock: TickRate) -> Result<CompiledRule, PolicyError> {
    let meter = rule.meter.map(|terms| Metered::new(&terms, clock));
    Ok(CompiledRule {
        name: rule.name.as_str().into(),
        action: rule.action,
        meter: meter.transpose().map_err(|reason| PolicyError::RuleMeter {
            rule: rule.name.clone(),
            reason,
        })?,
        counters: RuleCounters::default(),
    })
}

fn interface(
    index: usize,
    policy: &InterfacePolicy,
    clock: TickRate,
) -> Result<Interface, PolicyError> {
    let mut interface = Interface::new(policy.trust.map());
    interface.reverse_path = policy.reverse_path;
    for (phb, terms) in &policy.police {
        let metered = Metered::new(terms, clock);
        let metered = metered.map_err(|reason| PolicyError::AggregateMeter {
            interface: index,
            phb: *phb,
            reason,
        })?;
        interface.policed |= 1 << phb.index();
        interface.aggregates[phb.index()] = Some(metered);
    }
    Ok(interface)
}

#[cfg(test)]
mod tests;
