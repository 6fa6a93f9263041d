//! Counters by table: one line defines a counter, and whoever sums or shows counters loops over the
//! definitions.

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The counter's name ends with `_packets`.
    Packets,
    /// The counter's name ends with `_bytes`.
    Bytes,
    /// Events that the counter's name says.
    Events,
}

impl Unit {
    /// The unit's name as the end of a metric's name; `None` for events.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Packets => Some("packets"),
            Self::Bytes => Some("bytes"),
            Self::Events => None,
        }
    }
}

/// Whether a value can go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows from 0 and is never reset.
    Counter,
    /// Is what it is at the moment.
    Gauge,
}

/// The definition of one counter, or of one for each value of a label.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The field's name, for metrics without the prefix that says of what.
    pub name: &'static str,
    /// What is counted, in a sentence without a full stop.
    pub help: &'static str,
    /// Packets, bytes or other events.
    pub unit: Unit,
    /// Whether it can go down.
    pub kind: Kind,
    /// The label's name and values, where there is a count for each.
    pub by: Option<(&'static str, &'static [&'static str])>,
}

/// A struct of counters that [`counters!`] has defined.
pub trait Table {
    /// What has these counters, in one word: the prefix of their metrics.
    const OF: &'static str;
    /// Its counters, in the order of the fields.
    const DEFINITIONS: &'static [Definition];

    /// The value of each counter, or its values by label.
    fn values(&self) -> impl Iterator<Item = &[u64]>;

    /// As [`values`](Self::values), to be changed.
    fn values_mut(&mut self) -> impl Iterator<Item = &mut [u64]>;

    /// Each single count: its definition, its label's value and its value.
    fn counts(&self) -> impl Iterator<Item = (&'static Definition, Option<&'static str>, u64)> {
        let definitions = Self::DEFINITIONS.iter().zip(self.values());
        definitions.flat_map(|(definition, values)| {
            let labels = definition.by.map_or(&[][..], |(_, labels)| labels);
            let labels = labels.iter().copied().map(Some).chain([None]);
            let counts = labels.zip(values.iter().copied());
            counts.map(move |(label, value)| (definition, label, value))
        })
    }

    /// Adds another core's counts.
    fn add_counts(&mut self, other: &Self) {
        for (to, from) in self.values_mut().zip(other.values()) {
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
    }

    /// Takes over another's counts.
    fn copy_counts(&mut self, other: &Self) {
        for (to, from) in self.values_mut().zip(other.values()) {
            to.copy_from_slice(from);
        }
    }
}

/// Defines a struct of counters with its [`Table`]. Each counter is a line `name: Unit`, or `name: Unit
/// by Label` with an enum of [`labels!`](super::labels) for an array of counts; its doc comment is its
/// help. `gauge` stands before the unit of what can go down. Other fields stand behind `with`.
macro_rules! counters {
    (
        $(#[$attribute:meta])*
        $name:ident of $of:literal {
            $($(#[doc = $help:literal])+ $field:ident: $($gauge:ident)? [$unit:ident $(by $label:ty)?],)*
        }
        $(with { $($(#[$other_doc:meta])* $other:ident: $type:ty = $default:expr,)* })?
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[doc = $help])+ pub $field: $crate::stats::counters!(@type $($label)?),)*
            $($($(#[$other_doc])* pub $other: $type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $crate::stats::counters!(@zero $($label)?),)*
                    $($($other: $default,)*)?
                }
            }
        }

        impl $crate::stats::Table for $name {
            const OF: &'static str = $of;
            const DEFINITIONS: &'static [$crate::stats::Definition] = &[$(
                $crate::stats::Definition {
                    name: stringify!($field),
                    help: $crate::stats::sentence(concat!($($help),+)),
                    unit: $crate::stats::Unit::$unit,
                    kind: $crate::stats::counters!(@kind $($gauge)?),
                    by: $crate::stats::counters!(@by $($label)?),
                },
            )*];

            fn values(&self) -> impl Iterator<Item = &[u64]> {
                [$($crate::stats::counters!(@values self.$field, $($label)?),)*].into_iter()
            }

            fn values_mut(&mut self) -> impl Iterator<Item = &mut [u64]> {
                [$($crate::stats::counters!(@values_mut self.$field, $($label)?),)*].into_iter()
            }
        }
    };
    (@type) => { u64 };
    (@type $label:ty) => { [u64; <$label>::COUNT] };
    (@zero) => { 0 };
    (@zero $label:ty) => { [0; <$label>::COUNT] };
    (@kind) => { $crate::stats::Kind::Counter };
    (@kind gauge) => { $crate::stats::Kind::Gauge };
    (@by) => { None };
    (@by $label:ty) => { Some((<$label>::LABEL, <$label>::NAMES)) };
    (@values $field:expr,) => { std::slice::from_ref(&$field) };
    (@values $field:expr, $label:ty) => { &$field[..] };
    (@values_mut $field:expr,) => { std::slice::from_mut(&mut $field) };
    (@values_mut $field:expr, $label:ty) => { &mut $field[..] };
}

pub(crate) use counters;

/// A doc comment as a help text: without the space before it and the full stop behind it.
pub(crate) const fn sentence(doc: &str) -> &str {
    let doc = doc.trim_ascii();
    match doc.as_bytes() {
        [_, .., b'.'] => doc.split_at(doc.len() - 1).0,
        _ => doc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{DropReason, InterfaceCounters, PortCounters, QueueCounters};

    #[test]
    fn a_counter_is_summed_and_shown_by_its_definition() {
        let mut sum = InterfaceCounters::default();
        let mut other = InterfaceCounters {
            rx_packets: 2,
            ..InterfaceCounters::default()
        };
        other.drops[DropReason::QueueFull.index()] = 3;
        sum.add_counts(&other);
        sum.add_counts(&other);
        let counts: Vec<_> = sum.counts().filter(|(.., value)| *value > 0).collect();
        let [(packets, None, 4), (drops, Some("queue-full"), 6)] = counts[..] else {
            panic!("{counts:?}");
        };
        assert_eq!((packets.name, packets.unit), ("rx_packets", Unit::Packets));
        assert_eq!(packets.help, "Packets received");
        assert_eq!((drops.name, drops.by.unwrap().0), ("drops", "reason"));
        assert_eq!(sum.counts().count(), sum.values().flatten().count());
    }

    fn check<T: Table>() {
        for definition in T::DEFINITIONS {
            let Definition {
                name, help, unit, ..
            } = *definition;
            if let Some(unit) = unit.name() {
                assert!(
                    name.ends_with(unit),
                    "{name} does not end with its unit, {unit}"
                );
            }
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        }
    }

    /// Prometheus' conventions: the unit is at the end of the name.
    #[test]
    fn names_end_with_their_units() {
        check::<PortCounters>();
        check::<InterfaceCounters>();
        check::<QueueCounters>();
        check::<crate::session::FlowCounters>();
    }
}
