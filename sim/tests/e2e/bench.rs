//! `podwire bench`: figures of this machine, without a lab.

use crate::harness::{World, find_key};

#[test]
fn bench_measures_without_a_lab_and_tells_machines_the_same_as_people() {
    let world = World::ordinary_user(false).unwrap_or_else(World::new);
    let told = world.podwire(&["bench", "-o", "json"]).ok().json();
    assert_eq!(told["kind"], "BenchReport");
    assert!(find_key(&told, "processor").is_some());
    let figures = told["figures"].as_array().unwrap();
    assert!(figures.len() >= 10, "{told}");
    for figure in figures {
        let nanoseconds = figure["nanoseconds"].as_f64().unwrap();
        let rate = figure["millionsPerSecond"].as_f64().unwrap();
        assert!(nanoseconds > 0.0, "{figure}");
        assert!((nanoseconds * rate - 1e3).abs() < 1e-3, "{figure}");
    }
    world
        .podwire(&["bench", "-o", "jsn"])
        .fails(2, &["jsn", "json"]);
}
