//! Which keys of two files differ, beside those that can change while the router runs.

use toml::{Table, Value};

/// Keys of the file that can change.
const OF_FILE: [&str; 3] = ["rule", "meter", "kernel"];
/// Keys of a port or VLAN that can change.
const OF_INTERFACE: [&str; 4] = ["trust", "remark", "reverse_path", "police"];

/// Each key that differs, such as `port.lan.mtu: was 1500, is 9000`.
pub(super) fn differences(old: &Table, new: &Table) -> Vec<String> {
    let mut found = Vec::new();
    tables("", old, new, &OF_FILE, &mut found);
    found
}

fn tables(path: &str, old: &Table, new: &Table, free: &[&str], found: &mut Vec<String>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        if free.contains(&key.as_str()) {
            continue;
        }
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => values(&path, old, new, found),
            (Some(old), None) => found.push(format!("{path}: was {old}, is not there")),
            (None, Some(new)) => found.push(format!("{path}: was not there, is {new}")),
            (None, None) => {}
        }
    }
}

fn values(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Table(old), Value::Table(new)) => tables(path, old, new, &OF_INTERFACE, found),
        (Value::Array(olds), Value::Array(news)) if of_tables(olds) && of_tables(news) => {
            if olds.len() != news.len() {
                let (olds, news) = (olds.len(), news.len());
                found.push(format!("{path}: there were {olds}, there are {news}"));
                return;
            }
            for (index, (old, new)) in olds.iter().zip(news).enumerate() {
                values(&entry(path, index, old), old, new, found);
            }
        }
        _ if old != new => found.push(format!("{path}: was {old}, is {new}")),
        _ => {}
    }
}

fn of_tables(values: &[Value]) -> bool {
    values.iter().all(Value::is_table) && !values.is_empty()
}

/// `port.lan`, `port.lan.vlan.100`, or `port[2]`.
fn entry(path: &str, index: usize, value: &Value) -> String {
    let named = |key: &str| match value.get(key) {
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Integer(number)) => Some(number.to_string()),
        _ => None,
    };
    match named("id").or_else(|| named("name")) {
        Some(name) => format!("{path}.{name}"),
        None => format!("{path}[{index}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EXAMPLE;

    fn example_with(from: &str, to: &str) -> Vec<String> {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE, "{from}");
        differences(&EXAMPLE.parse().unwrap(), &text.parse().unwrap())
    }

    #[test]
    fn what_cannot_change_is_named() {
        for (from, to, key) in [
            ("id = \"a\"", "id = \"b\"", "router.id: was \"a\", is \"b\""),
            (
                "cores = [0]",
                "cores = [1]",
                "router.cores: was [0], is [1]",
            ),
            (
                "idle = \"adaptive\"",
                "",
                "router.idle: was \"adaptive\", is not there",
            ),
            (
                "mtu = 1500",
                "mtu = 9000",
                "port.lan.mtu: was 1500, is 9000",
            ),
            ("mtu = 1500", "", "port.lan.mtu: was 1500, is not there"),
            (
                "name = \"core\"",
                "name = \"wan\"",
                "port.core.name: was \"core\", is \"wan\"",
            ),
            (
                "\"10.1.0.1/24\"",
                "\"10.1.0.2/24\"",
                "port.lan.addresses: was [",
            ),
            (
                "[[port]]",
                "[[port]]\n[[port]]",
                "port: there were 2, there are 3",
            ),
            ("local = 1000", "local = 10", "punt.local: was 1000, is 10"),
            (
                "edge_routing = 200",
                "",
                "punt.edge_routing: was 200, is not there",
            ),
            (
                "routing = false",
                "routing = true",
                "port.lan.routing: was false, is true",
            ),
            (
                "via = \"10.9.0.2\"",
                "via = \"10.9.0.3\"",
                "route[0].via: was \"10.9.0.2\", is \"10.9.0.3\"",
            ),
            (
                "[[route]]",
                "[[route]]\nto = \"10.7.0.0/16\"\nblackhole = true\n[[route]]",
                "route: there were 1, there are 2",
            ),
        ] {
            let found = example_with(from, to);
            assert!(
                found.len() == 1 && found[0].starts_with(key),
                "{key}: {found:?}"
            );
        }
        let vlan = example_with("mtu = 1500                              # without", "#");
        assert_eq!(vlan, ["port.lan.vlan.100.mtu: was 1500, is not there"]);
        let nothing = example_with("router]", "router]\nnew = 1");
        assert_eq!(nothing, ["router.new: was not there, is 1"]);
    }

    #[test]
    fn what_can_change_is_not_a_difference() {
        for (from, to) in [
            ("trust = \"bleach\"", "trust = \"keep\""),
            ("trust = \"bleach\"", ""),
            ("reverse_path = \"strict\"", "reverse_path = \"off\""),
            ("remark = {", "remark = { AF41 = \"AF42\","),
            (
                "[[rule]]",
                "[[rule]]\nname = \"new\"\ndrop = true\n[[rule]]",
            ),
            ("cir = ", "cir = \"1Gbit/s\" # "),
        ] {
            assert_eq!(example_with(from, to), Vec::<String>::new(), "{to}");
        }
    }
}
