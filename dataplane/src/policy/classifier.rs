//! The first rule that matches, found without looking at one rule after the other.
//!
//! Each field has a table: for each value, or each interval of values, the set of rules that say yes
//! to it, as a bit for each rule. The sets of a packet's fields are intersected, and the first bit
//! that is left is the first rule in the file's order (Lakshman and Stiliadis, "High-speed
//! policy-based packet forwarding using efficient multi-dimensional range matching", 1998).

use std::ops::RangeInclusive;

use super::{Addresses, Fields, Rule};
use crate::{diffserv::Dscp, session::Protocol, units::InterfaceIndex};

/// The most rules that a classifier holds.
pub const MAX_RULES: usize = 256;

/// Which rule, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleIndex(pub u8);

impl RuleIndex {
    /// As an index into arrays by rule.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Rules, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RuleSet([u64; MAX_RULES / 64]);

impl RuleSet {
    const NONE: Self = Self([0; MAX_RULES / 64]);

    fn insert(&mut self, RuleIndex(rule): RuleIndex) {
        if let Some(word) = self.0.get_mut(usize::from(rule >> 6)) {
            *word |= 1 << (rule & 63);
        }
    }

    #[inline]
    fn and(self, other: &Self) -> Self {
        let mut both = self;
        for (word, other) in both.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        both
    }

    #[inline]
    fn first(&self) -> Option<RuleIndex> {
        let (base, word) = [0_u8, 64, 128, 192]
            .into_iter()
            .zip(self.0)
            .find(|&(_, word)| word != 0)?;
        #[allow(clippy::cast_possible_truncation, reason = "at most 63")]
        Some(RuleIndex(base + word.trailing_zeros() as u8))
    }
}

/// Which rules say yes to a value, by the intervals in which their answers are the same.
#[derive(Clone, Debug)]
struct Intervals<T> {
    /// Each interval's first value, in order; the first one is the least value that there is.
    starts: Box<[T]>,
    sets: Box<[RuleSet]>,
}

/// The values that a rule says yes to; `None`: to all.
type Ranges<T> = Option<Vec<RangeInclusive<T>>>;

impl<T: Copy + Ord + Default> Intervals<T> {
    /// Of the rules in order; `next` gives the value after one.
    fn new(rules: &[Ranges<T>], next: impl Fn(T) -> Option<T>) -> Self {
        let ranges = || rules.iter().flatten().flatten();
        let mut starts = vec![T::default()];
        starts.extend(ranges().map(|range| *range.start()));
        starts.extend(ranges().filter_map(|range| next(*range.end())));
        starts.sort_unstable();
        starts.dedup();
        let sets = starts.iter().map(|start| {
            let says_yes = |ranges: &Ranges<T>| {
                ranges
                    .as_ref()
                    .is_none_or(|r| r.iter().any(|r| r.contains(start)))
            };
            set_of(rules.iter().map(says_yes))
        });
        Self {
            sets: sets.collect(),
            starts: starts.into(),
        }
    }

    #[inline]
    fn find(&self, value: T) -> &RuleSet {
        let after = self.starts.partition_point(|&start| start <= value);
        self.sets
            .get(after.wrapping_sub(1))
            .unwrap_or(&RuleSet::NONE)
    }
}

/// The rules that say yes.
fn set_of(answers: impl Iterator<Item = bool>) -> RuleSet {
    let mut set = RuleSet::NONE;
    for (rule, _) in (0..=u8::MAX)
        .map(RuleIndex)
        .zip(answers)
        .filter(|&(_, yes)| yes)
    {
        set.insert(rule);
    }
    set
}

/// Rules as sets of bits, one bit a rule, for each interval of each field.
#[derive(Clone, Debug)]
pub struct Classifier {
    interfaces: Box<[RuleSet]>,
    protocols: Box<[RuleSet; 256]>,
    dscps: Box<[RuleSet; 64]>,
    sources4: Intervals<u32>,
    destinations4: Intervals<u32>,
    sources6: Intervals<u128>,
    destinations6: Intervals<u128>,
    source_ports: Intervals<u16>,
    destination_ports: Intervals<u16>,
    /// The rules that ask for no port.
    portless: RuleSet,
}

impl Classifier {
    /// Of the first [`MAX_RULES`] rules.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        let rules = &rules[..rules.len().min(MAX_RULES)];
        let set = |says_yes: &dyn Fn(&Rule) -> bool| set_of(rules.iter().map(says_yes));
        let mut protocols = Box::new([RuleSet::NONE; 256]);
        for (protocol, to) in (0..=u8::MAX).map(Protocol).zip(protocols.iter_mut()) {
            *to = set(&|rule| says_yes(&rule.matches.protocols, &protocol));
        }
        let mut dscps = Box::new([RuleSet::NONE; 64]);
        for (dscp, to) in Dscp::ALL.iter().zip(dscps.iter_mut()) {
            *to = set(&|rule| says_yes(&rule.matches.dscps, dscp));
        }
        let interfaces = (0..=u8::MAX).map(InterfaceIndex);
        let interfaces =
            interfaces.map(|interface| set(&|rule| says_yes(&rule.matches.interfaces, &interface)));

        let next = |port: u16| port.checked_add(1);
        let next4 = |address: u32| address.checked_add(1);
        let next6 = |address: u128| address.checked_add(1);
        let sources4 = of_family(rules, |rule| &rule.matches.sources, |p| p.range4());
        let sources6 = of_family(rules, |rule| &rule.matches.sources, |p| p.range6());
        let destinations4 = of_family(rules, |rule| &rule.matches.destinations, |p| p.range4());
        let destinations6 = of_family(rules, |rule| &rule.matches.destinations, |p| p.range6());
        let ports = |ports: fn(&Rule) -> &Vec<RangeInclusive<u16>>| -> Vec<_> {
            let ports = rules.iter().map(ports);
            ports
                .map(|ports| (!ports.is_empty()).then(|| ports.clone()))
                .collect()
        };
        Self {
            interfaces: interfaces.collect(),
            protocols,
            dscps,
            sources4: Intervals::new(&sources4, next4),
            destinations4: Intervals::new(&destinations4, next4),
            sources6: Intervals::new(&sources6, next6),
            destinations6: Intervals::new(&destinations6, next6),
            source_ports: Intervals::new(&ports(|rule| &rule.matches.source_ports), next),
            destination_ports: Intervals::new(&ports(|rule| &rule.matches.destination_ports), next),
            portless: set(&|Rule { matches, .. }| {
                matches.source_ports.is_empty() && matches.destination_ports.is_empty()
            }),
        }
    }

    /// The first rule, in the file's order, that matches.
    #[inline]
    #[must_use]
    pub fn first_match(&self, fields: &Fields) -> Option<RuleIndex> {
        let interface = self.interfaces.get(fields.interface.index())?;
        let mut set = interface
            .and(&self.protocols[usize::from(fields.protocol.0)])
            .and(self.dscps.get(usize::from(fields.dscp.number()))?);
        if set == RuleSet::NONE {
            return None;
        }
        set = match fields.addresses {
            Addresses::V4(source, destination) => set
                .and(self.sources4.find(source))
                .and(self.destinations4.find(destination)),
            Addresses::V6(source, destination) => set
                .and(self.sources6.find(source))
                .and(self.destinations6.find(destination)),
        };
        set = match fields.ports {
            Some((source, destination)) => set
                .and(self.source_ports.find(source))
                .and(self.destination_ports.find(destination)),
            None => set.and(&self.portless),
        };
        set.first()
    }
}

/// Whether a list has a value, or asks for none.
fn says_yes<T: PartialEq>(list: &[T], value: &T) -> bool {
    list.is_empty() || list.contains(value)
}

/// Each rule's prefixes of one family as ranges.
fn of_family<T>(
    rules: &[Rule],
    prefixes: impl Fn(&Rule) -> &Vec<super::Prefix>,
    range: impl Fn(&super::Prefix) -> Option<RangeInclusive<T>>,
) -> Vec<Ranges<T>> {
    let ranges = |rule| {
        let prefixes: &Vec<_> = prefixes(rule);
        (!prefixes.is_empty()).then(|| prefixes.iter().filter_map(&range).collect())
    };
    rules.iter().map(ranges).collect()
}

#[cfg(test)]
mod tests;
