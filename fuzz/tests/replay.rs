//! Every seed and every committed regression of every target.

use fuzz::{driver, targets};
use router_core::DropReason;

#[test]
fn seeds_and_regressions_hold() {
    for target in targets::ALL {
        let inputs = driver::corpus(*target).expect("the corpus can be read");
        assert!(!inputs.is_empty(), "{} has no seed", target.name);
        for input in inputs {
            (target.run)(&input);
            // Cut short anywhere it still means something.
            (target.run)(&input[..input.len() / 2]);
        }
    }
}

/// A target that never gets past the first check would find nothing.
#[test]
fn the_router_seeds_reach_every_stage() {
    let (mut forwarded, mut generated, mut consumed) = (0, 0, 0);
    let mut reasons = std::collections::BTreeSet::new();
    for seed in targets::router_bytes::seeds() {
        let stats = targets::router_bytes::play(&seed);
        forwarded += (stats.tx + stats.dropped()).saturating_sub(stats.generated);
        generated += stats.generated;
        consumed += stats.consumed;
        reasons.extend(
            DropReason::ALL
                .iter()
                .filter(|r| stats.drops.get(**r) > 0)
                .map(|r| r.name()),
        );
    }
    assert!(forwarded > 20 && generated > 20 && consumed > 10);
    assert!(reasons.len() >= 15, "only {reasons:?}");
}

/// A model that never sees a datagram completed compares nothing with nothing.
#[test]
fn the_reassembly_seeds_complete_datagrams() {
    let seeds = targets::reassembly::seeds();
    let complete: Vec<usize> = seeds.iter().map(|s| targets::reassembly::play(s)).collect();
    assert_eq!(complete, [1, 1, 1, 0, 0, 1, 0]);
}

/// Inputs that are all refused would cut nothing and put nothing together.
#[test]
fn the_seeds_of_superframes_are_cut_and_put_together() {
    let cut: Vec<_> = targets::segment::seeds()
        .iter()
        .map(|seed| targets::segment::play(seed))
        .collect();
    let most = |n: usize| cut.iter().flatten().filter(|&&made| made >= n).count();
    assert!(
        most(1) > 20 && most(3) > 10 && cut.contains(&None),
        "{cut:?}"
    );
    let trains: Vec<_> = targets::coalesce::seeds()
        .iter()
        .map(|seed| targets::coalesce::play(seed))
        .collect();
    assert!(
        trains.iter().filter(|&&n| n >= 3).count() > 40,
        "{trains:?}"
    );
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
