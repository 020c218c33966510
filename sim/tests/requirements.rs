//! The list of requirements can be read: `scripts/requirements` puts it beside the tests.

use std::collections::BTreeSet;

/// Every row has four cells, a name of its own and a level, and leans on rows that exist.
#[test]
fn the_list_of_requirements_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/requirements.md");
    let text = std::fs::read_to_string(path).expect("the list is there");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ID |"))
        .map(|line| {
            let inner = line.trim_matches('|');
            inner.split('|').map(str::trim).collect()
        })
        .collect();
    assert!(rows.len() > 500, "only {} rows", rows.len());

    let mut names = BTreeSet::new();
    for row in &rows {
        let [name, level, rule, _] = row[..] else {
            panic!("{} cells: {row:?}", row.len());
        };
        assert!(
            ["MUST", "SHOULD", "OPT"].contains(&level),
            "{name}: {level}"
        );
        assert!(!rule.is_empty(), "{name} says nothing");
        assert!(names.insert(name), "{name} stands twice");
    }
    for row in &rows {
        if let Some(others) = row[3].strip_prefix('=') {
            for other in others.split(',').map(str::trim) {
                assert!(names.contains(other), "{} leans on {other}", row[0]);
            }
        }
    }
}
