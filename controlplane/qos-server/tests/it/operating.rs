//! Every row of the tables in OPERATING.md names tests, and they exist.

use std::{collections::BTreeSet, fs, path::Path};

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_row_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("OPERATING.md")).unwrap();
    let mut source = String::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut source);
    }
    // What follows `#[test]` and the like.
    let is_test = |name: &str| {
        let declared = format!("fn {name}(");
        source.match_indices(&declared).any(|(at, _)| {
            let before: Vec<&str> = source[..at].lines().rev().take(4).collect();
            before
                .iter()
                .any(|line| line.trim().starts_with("#[") && line.contains("test"))
        })
    };
    let mut known = BTreeSet::new();
    let rows = text
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let rows = rows.filter(|row| !row.ends_with("| tests |"));
    let mut count = 0;
    for row in rows {
        count += 1;
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds: {row}");
        for name in names {
            assert!(
                known.contains(name) || is_test(name),
                "no test {name}: {row}"
            );
            known.insert(name);
        }
    }
    assert!(count > 20, "{count} rows");
}

/// The reapers' names are the metrics' and those of the chapter.
#[test]
fn each_reaper_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("OPERATING.md")).unwrap();
    let metrics = voicelane_server::metrics::Metrics::default();
    let figures = metrics.text(&voicelane_server::engine::Snapshot::default());
    let reapers: BTreeSet<&str> = figures
        .lines()
        .filter_map(|line| line.strip_prefix("voicelane_server_reaped_sessions_total{reaper=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(reapers.len(), 6);
    for reaper in reapers {
        assert!(text.contains(&format!("| `{reaper}` |")), "{reaper}");
    }
}
