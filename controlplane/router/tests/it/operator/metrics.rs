//! All families of metrics, by name, type and unit.

use crate::{families::assert_families, support::OneRouter};

#[test]
fn families_have_the_names_types_and_units_that_are_known() {
    let network = OneRouter::new("families");
    let _router = network.start();
    assert_families(&network.metrics(), include_str!("../metrics.txt"));
}
