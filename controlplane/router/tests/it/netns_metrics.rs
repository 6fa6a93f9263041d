//! All families of metrics, by name, type and unit.

use std::collections::BTreeMap;

use crate::support::OneRouter;

/// What dashboards and alerts of others go by: a change here is a change for them, and belongs into the
/// change log.
const FAMILIES: &str = include_str!("metrics.txt");

#[test]
fn families_have_the_names_types_and_units_that_are_known() {
    let network = OneRouter::new("families");
    let _router = network.start();
    let metrics = network.metrics();
    let mut families: BTreeMap<&str, [&str; 2]> = BTreeMap::new();
    for line in metrics.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", family, kind] => families.entry(family).or_default()[0] = kind,
            ["#", "UNIT", family, unit] => families.entry(family).or_default()[1] = unit,
            _ => {}
        }
    }
    let found: String = families
        .iter()
        .map(|(family, [kind, unit])| {
            format!("{family} {kind} {unit}").trim_end().to_owned() + "\n"
        })
        .collect();
    assert_eq!(found, FAMILIES, "the families are now:\n{found}");
    for (family, [kind, unit]) in &families {
        assert!(
            family.ends_with(unit),
            "{family} does not end with its unit"
        );
        let total = format!("{family}_total");
        let of_family = |line: &&str| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_total"))
        };
        for sample in metrics.lines().filter(of_family) {
            let counted = sample.starts_with(&total);
            assert_eq!(*kind == "counter", counted, "{sample} of a {kind}");
        }
    }
}
