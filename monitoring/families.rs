//! What dashboards and alerts of others go by: the families of a program's metrics, by name, type and unit.
//! The tests of each program hold it to its list; a change there is a change for them, and belongs into the
//! change log.

use std::collections::BTreeMap;

/// Compares a scrape with the families that are known: a line each, of name, type and unit.
#[track_caller]
pub(crate) fn assert_families(metrics: &str, known: &str) {
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
    assert_eq!(found, known, "the families are now:\n{found}");
    for (family, [kind, unit]) in &families {
        let end = ["bytes", "packets", "ratio", "seconds"]
            .into_iter()
            .find(|end| family.ends_with(&format!("_{end}")));
        assert_eq!(end.unwrap_or_default(), *unit, "the unit of {family}");
        let of_family = |line: &&str| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_total"))
        };
        for sample in metrics.lines().filter(of_family) {
            let counted = sample.starts_with(&format!("{family}_total"));
            assert_eq!(*kind == "counter", counted, "{sample} of a {kind}");
        }
    }
}
