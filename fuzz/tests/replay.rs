//! Every seed and every committed regression of every target.

use fuzz::{driver, targets};

#[test]
fn seeds_and_regressions_hold() {
    for target in targets::ALL {
        let inputs = driver::corpus(target).expect("the corpus can be read");
        assert!(!inputs.is_empty(), "{} has no seed", target.name);
        for input in inputs {
            (target.run)(&input);
            // Cut short anywhere it still means something.
            (target.run)(&input[..input.len() / 2]);
        }
    }
}

/// A regression without a reason is a riddle a year later.
#[test]
fn every_regression_has_a_reason() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for dir in std::fs::read_dir(&root)
        .expect("the directory is there")
        .flatten()
    {
        if !dir.path().is_dir() {
            continue;
        }
        let reasons = std::fs::read_to_string(dir.path().join("REASONS")).unwrap_or_default();
        for file in std::fs::read_dir(dir.path())
            .expect("a directory")
            .flatten()
        {
            let name = file.file_name().into_string().expect("a plain name");
            assert!(
                name == "REASONS" || reasons.lines().any(|l| l.starts_with(&format!("{name}: "))),
                "{} is not explained in its REASONS",
                file.path().display()
            );
        }
    }
}
