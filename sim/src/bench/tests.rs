//! The figures themselves are the machine's; what they are of is looked at here.

use super::*;

#[test]
fn every_packet_of_the_benchmark_passes_and_every_figure_is_one() {
    let figures: Vec<Figure> = node::jobs()
        .unwrap()
        .into_iter()
        .map(|job| job().unwrap())
        .collect();
    assert_eq!(figures.len(), 5);
    for figure in figures {
        assert!(
            figure.nanoseconds.is_finite() && figure.nanoseconds > 0.0,
            "{figure:?}"
        );
        assert!(
            figure.spread.is_finite() && figure.spread >= 0.0,
            "{figure:?}"
        );
    }
}

#[test]
fn a_figure_is_per_thing_done_not_per_call() {
    let mut calls = 0;
    let figure = measure("x", "y", 10, || calls += 1);
    assert!(calls > SAMPLES, "warmed up, then sampled");
    assert!((figure.millions_per_second() * figure.nanoseconds - 1e3).abs() < 1e-6);
    assert_eq!((figure.name, figure.of), ("x", "y"));
}
