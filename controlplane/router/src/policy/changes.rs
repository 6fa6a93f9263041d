//! What a new configuration changes, in words.

use std::collections::HashMap;

use crate::config::{Config, KernelConfig, PoliceConfig, RuleConfig};

/// Each change of rules, trust, aggregates and what the kernel sends. The ports and VLANs of both are the same.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = rules(&old.rules, &new.rules);
    for (old, new) in old.trusts().zip(new.trusts()) {
        let name = new.name;
        if old.trust != new.trust {
            changes.push(format!("{name}: trust was {}, is {}", old.trust, new.trust));
        }
        if old.reverse_path != new.reverse_path {
            let (old, new) = (old.reverse_path, new.reverse_path);
            changes.push(format!("{name}: reverse_path was {old}, is {new}"));
        }
        changes.extend(police(name, old.police, new.police));
    }
    let (old, new) = (&old.kernel, &new.kernel);
    if old.trust != new.trust {
        changes.push(format!("kernel: trust was {}, is {}", old.trust, new.trust));
    }
    if old.routing != new.routing {
        let list = |of: &KernelConfig| of.names().collect::<Vec<_>>().join(", ");
        changes.push(format!(
            "kernel: routing was {}, is {}",
            list(old),
            list(new)
        ));
    }
    changes
}

fn rules(old: &[RuleConfig], new: &[RuleConfig]) -> Vec<String> {
    fn by_name(rules: &[RuleConfig]) -> HashMap<&str, &RuleConfig> {
        rules
            .iter()
            .map(|rule| (rule.rule.name.as_str(), rule))
            .collect()
    }
    let (olds, news) = (by_name(old), by_name(new));
    let mut changes = Vec::new();
    for rule in new {
        let name = rule.rule.name.as_str();
        match olds.get(name) {
            None => changes.push(format!("rule {name} is new")),
            Some(&old) if old != rule => changes.push(format!("rule {name} has changed")),
            Some(_) => {}
        }
    }
    let gone = old.iter().map(|rule| rule.rule.name.as_str());
    let gone = gone.filter(|&name| !news.contains_key(name));
    changes.extend(gone.map(|name| format!("rule {name} is gone")));
    let common = |rules: &[RuleConfig], others: &HashMap<&str, &RuleConfig>| -> Vec<String> {
        let names = rules.iter().map(|rule| &rule.rule.name);
        names
            .filter(|name| others.contains_key(name.as_str()))
            .cloned()
            .collect()
    };
    if common(old, &news) != common(new, &olds) {
        changes.push("the rules have another order".to_owned());
    }
    changes
}

fn police(interface: &str, old: &[PoliceConfig], new: &[PoliceConfig]) -> Vec<String> {
    let find = |all: &[PoliceConfig], one: &PoliceConfig| {
        all.iter().find(|other| other.phb == one.phb).cloned()
    };
    let mut changes = Vec::new();
    for one in new {
        let what = match find(old, one) {
            None => "is new",
            Some(other) if other != *one => "has changed",
            Some(_) => continue,
        };
        changes.push(format!("{interface}: police of {} {what}", one.phb.name()));
    }
    for one in old.iter().filter(|one| find(new, one).is_none()) {
        changes.push(format!("{interface}: police of {} is gone", one.phb.name()));
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EXAMPLE;

    fn changes_to(change: impl Fn(&str) -> String) -> Vec<String> {
        let parse = |text: &str| Config::parse(Path::new("x"), text, &[0]).unwrap();
        changes(&parse(EXAMPLE), &parse(&change(EXAMPLE)))
    }

    #[test]
    fn changes_are_named() {
        assert_eq!(changes_to(str::to_owned), Vec::<String>::new());
        let trust = changes_to(|text| text.replacen("trust = \"bleach\"", "trust = \"keep\"", 1));
        assert_eq!(trust, ["lan: trust was bleach, is keep"]);
        let strict = "reverse_path = \"strict\"";
        let loose = changes_to(|text| text.replacen(strict, "reverse_path = \"loose\"", 1));
        assert_eq!(loose, ["lan: reverse_path was strict, is loose"]);
        let rule = "[[rule]]\nname = \"first\"\ndrop = true\n";
        let first = changes_to(|text| text.replacen("[[rule]]", &format!("{rule}[[rule]]"), 1));
        assert_eq!(first, ["rule first is new"]);
        let mark = changes_to(|text| text.replacen("mark = \"CS5\"", "mark = \"CS3\"", 1));
        assert_eq!(mark, ["rule sip has changed"]);
        let gone = changes_to(|text| text.replace("police = {", "# police = {"));
        assert_eq!(gone, ["core: police of telephony is gone"]);
        let rename = changes_to(|text| text.replace("name = \"sip\"", "name = \"sips\""));
        assert_eq!(rename, ["rule sips is new", "rule sip is gone"]);
        // The meter is the rule's and the aggregate's.
        let meter = changes_to(|text| text.replace("cir = \"2Mbit/s\"", "cir = \"3Mbit/s\""));
        assert_eq!(meter, ["core: police of telephony has changed"]);
    }

    #[test]
    fn another_order_is_a_change() {
        let a = "[[rule]]\nname = \"a\"\ndrop = true\n";
        let b = "[[rule]]\nname = \"b\"\nmark = \"keep\"\n";
        let parse = |rules: &[&str]| {
            let text = format!("{EXAMPLE}\n{}", rules.concat());
            Config::parse(Path::new("x"), &text, &[0]).unwrap()
        };
        let found = changes(&parse(&[a, b]), &parse(&[b, a]));
        assert_eq!(found, ["the rules have another order"]);
    }
}
