//! The README's and the code's pictures of the packet's way are the same, and true.

const README: &str = include_str!("../../../README.md");
const PIPELINE: &str = include_str!("../../src/pipeline/mod.rs");
const STAGES: &str = include_str!("../../src/pipeline/stages/mod.rs");
const INGRESS: &str = include_str!("../../src/pipeline/ingress.rs");
const EGRESS: &str = include_str!("../../src/pipeline/egress.rs");

/// The stages in the line that shows them.
fn picture(text: &str) -> Vec<&str> {
    let line = text
        .lines()
        .find(|line| line.contains("rx → parse"))
        .unwrap();
    let line = line.trim_start_matches("//!").trim();
    line.split(['→', '⇢']).map(str::trim).collect()
}

#[test]
fn pictures_tell_the_order_of_the_stages() {
    let stages = picture(README);
    assert_eq!(stages, picture(PIPELINE));
    // Modules stand in the packet's order, then a blank line, then their helpers. The scheduler is a
    // folder of its own.
    let modules: Vec<_> = STAGES
        .lines()
        .skip_while(|line| !line.contains("mod "))
        .map_while(|line| line.split_once("mod "))
        .map(|(_, module)| module.trim_end_matches(';'))
        .collect();
    let in_folder = stages.iter().filter(|stage| **stage != "schedule");
    assert!(in_folder.eq(modules.iter()), "{modules:?}");
    // They are called in this order, by one half of the way after the other.
    let halves = [INGRESS, EGRESS].concat();
    let mut rest = halves.as_str();
    for stage in &stages {
        let call = rest
            .find(&format!("{stage}::"))
            .or_else(|| rest.find(&format!(".{stage}(")));
        rest = &rest[call.unwrap_or_else(|| panic!("{stage} is not called in its turn"))..];
    }
}

#[test]
fn the_table_of_stages_is_complete() {
    let rows: Vec<_> = README
        .lines()
        .skip_while(|line| !line.starts_with("| stage |"))
        .skip(2)
        .take_while(|line| line.starts_with("| "))
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    assert_eq!(rows, picture(README));
}
