//! The values of a file that are wrong: all of them, each with its line and its key's path.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};

use toml::de::{DeArray, DeTable, DeValue};

use super::{ConfigError, Problem};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, key: impl Into<String>, reason: impl Display) {
        self.0.push(Problem {
            key: key.into(),
            line: None,
            reason: reason.to_string(),
        });
    }

    /// The keys that begin with a path.
    pub(super) fn section(&mut self, path: impl Into<String>) -> Section<'_> {
        Section {
            path: path.into(),
            problems: self,
        }
    }

    /// All of them, with the lines where a file's text has their keys.
    pub(super) fn into_error(mut self, file: PathBuf, text: &str) -> ConfigError {
        if let Ok(table) = DeTable::parse(text) {
            for problem in &mut self.0 {
                let place = place(table.get_ref(), &problem.key);
                problem.line = place.map(|place| text[..place].matches('\n').count() + 1);
            }
        }
        ConfigError::Invalid {
            file,
            problems: self.0,
        }
    }
}

/// A section of a file, such as `port.lan`.
pub(super) struct Section<'a> {
    pub(super) path: String,
    pub(super) problems: &'a mut Problems,
}

impl Section<'_> {
    /// Notes what is wrong with a key, and goes on without a value.
    pub(super) fn wrong<T>(&mut self, key: &str, reason: impl Display) -> Option<T> {
        self.problems.add(format!("{}.{key}", self.path), reason);
        None
    }

    /// A key's value, or what is wrong with it noted.
    pub(super) fn keep<T, E: Display>(&mut self, key: &str, value: Result<T, E>) -> Option<T> {
        value.map_or_else(|error| self.wrong(key, error), Some)
    }

    /// Of a key that need not be there: `Some(None)` when it is not.
    #[allow(clippy::option_option, reason = "wrong is not absent")]
    pub(super) fn keep_if<T, E: Display>(
        &mut self,
        key: &str,
        value: Option<Result<T, E>>,
    ) -> Option<Option<T>> {
        self.keep(key, value.transpose())
    }

    /// A text that says what it means.
    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        self.keep(key, text.parse())
    }

    /// A number within bounds.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: i64,
        bounds: RangeInclusive<i64>,
    ) -> Option<T> {
        let number = Some(value).filter(|value| bounds.contains(value));
        let number = number.and_then(|value| T::try_from(value).ok());
        let (min, max) = bounds.into_inner();
        number.or_else(|| self.wrong(key, format!("{value} is not between {min} and {max}")))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &str,
        text: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let known = words.iter().find(|(word, _)| *word == text);
        known.map(|&(_, value)| value).or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let reason = format!("{text:?} is not known here: write {}", words.join(" or "));
            self.wrong(key, reason)
        })
    }
}

/// Where the text has a key's path, in bytes, or as much of it as is there.
fn place(table: &DeTable<'_>, path: &str) -> Option<usize> {
    // A name may hold dots: of the keys that fit, the longest is meant.
    let fitting = table.iter().filter_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some((key, value, rest))
    });
    let (key, value, rest) = fitting.min_by_key(|(_, _, rest)| rest.len())?;
    let deeper = match value.get_ref() {
        DeValue::Table(table) => rest.strip_prefix('.').and_then(|rest| place(table, rest)),
        DeValue::Array(elements) => place_in(elements, rest),
        _ => None,
    };
    deeper.or_else(|| Some(key.span().start))
}

/// The same in an array of tables, from the name of one on.
fn place_in(elements: &DeArray<'_>, path: &str) -> Option<usize> {
    let fitting = elements.iter().enumerate().filter_map(|(index, element)| {
        let table = element.get_ref().as_table()?;
        let rests = labels(index, table).into_iter().filter_map(|label| {
            let rest = path.strip_prefix(&label)?;
            (rest.is_empty() || rest.starts_with('.')).then_some(rest)
        });
        Some((element, table, rests.min_by_key(|rest| rest.len())?))
    });
    let (element, table, rest) = fitting.min_by_key(|(_, _, rest)| rest.len())?;
    let deeper = rest.strip_prefix('.').and_then(|rest| place(table, rest));
    deeper.or_else(|| Some(element.span().start))
}

/// How problems name an element of an array of tables: `[2]`, or by its name or id.
fn labels(index: usize, table: &DeTable<'_>) -> Vec<String> {
    let names = ["name", "id"].iter().filter_map(|key| table.get(*key));
    let names = names.filter_map(|name| match name.get_ref() {
        DeValue::String(name) => Some(format!(".{name}")),
        DeValue::Integer(id) => Some(format!(".{}", id.as_str())),
        _ => None,
    });
    let mut labels: Vec<_> = names.collect();
    labels.push(format!("[{index}]"));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that a problem with a key has.
    fn line(key: &str, text: &str) -> Option<usize> {
        let mut problems = Problems::default();
        problems.add(key, "is wrong");
        match problems.into_error("x".into(), text) {
            ConfigError::Invalid { problems, .. } => problems[0].line,
            other => panic!("{key}: {other}"),
        }
    }

    #[test]
    fn a_problem_has_the_line_of_its_key() {
        let text = "[router]\nid = 'a'\ncores = [\n  0,\n]\n\
                    [[port]]\nname = 'a.1'\nmtu = 9\n\
                    [[port]]\nname = 'a'\npolice = { voice = 'm' }\n\
                    [[port.vlan]]\nid = 7\nmtu = 1\n\
                    [port.queue.oam]\nlimit_ms = 3\n\
                    [meter.'a b']\ncbs = 1\n";
        for (key, expected) in [
            ("router.id", Some(2)),
            ("router.cores", Some(3)),
            ("port.a.1.mtu", Some(8)),
            ("port[0].mtu", Some(8)),
            ("port.a.police", Some(11)),
            ("port.a.vlan.7.mtu", Some(14)),
            ("port.a.vlan[0].id", Some(13)),
            ("port.a.queue.oam.limit_ms", Some(16)),
            ("meter.a b.cbs", Some(18)),
            // What is missing is missing in its section.
            ("router.memory_mb", Some(1)),
            ("port.a.rate", Some(9)),
            ("port.a.vlan.7.name", Some(12)),
            ("rule", None),
        ] {
            assert_eq!(line(key, text), expected, "{key}");
        }
    }

    #[test]
    fn a_name_that_begins_with_another_has_its_own_line() {
        let text = "[[port]]\nname = 'a'\nmtu = 9\n\
                    [[port]]\nname = 'a.1'\nmtu = 9\n\
                    [[rule]]\nname = 'sip'\ndscp = 'x'\n\
                    [[rule]]\nname = 'sip.trunk'\ndscp = 'x'\n\
                    [meter.a]\ncbs = 1\n\
                    [meter.'a.1']\ncbs = 1\n\
                    [meter.ab]\n";
        for (key, expected) in [
            ("port.a.mtu", Some(3)),
            ("port.a.1.mtu", Some(6)),
            ("port.a.1.rate", Some(4)),
            ("rule.sip.dscp", Some(9)),
            ("rule.sip.trunk.dscp", Some(12)),
            ("meter.a.cbs", Some(14)),
            ("meter.a.1.cbs", Some(16)),
            ("meter.a.1.cir", Some(15)),
            ("meter.ab.cir", Some(17)),
        ] {
            assert_eq!(line(key, text), expected, "{key}");
        }
    }
}
