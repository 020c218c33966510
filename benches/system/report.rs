//! What was measured, for people, for a picture and for programs.

use std::path::Path;

use plotters::prelude::*;

use crate::run::{Failure, Figures, Measured};

/// A column: name, unit, where it stands, whether more is better.
type Column = (&'static str, &'static str, fn(&Figures) -> f64, bool);

const COLUMNS: [Column; 7] = [
    ("tcp 1", "Gbit/s", |f| f.tcp1, true),
    ("tcp 4", "Gbit/s", |f| f.tcp4, true),
    ("cpu", "s/Gbit", |f| f.cpu, false),
    ("udp", "kpps", |f| f.udp, true),
    ("loss-free", "kpps", |f| f.lossless, true),
    ("rtt p50", "us", |f| f.rtt50, false),
    ("rtt p99", "us", |f| f.rtt99, false),
];

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Median of the rounds' ratios, podwire to the kernel.
fn ratio(m: &Measured, column: &Column) -> Option<f64> {
    let pairs = m.ours.iter().zip(&m.kernel);
    median(
        pairs
            .map(|(a, b)| column.2(a) / column.2(b))
            .filter(|r| r.is_finite())
            .collect(),
    )
}

/// The table.
pub(crate) fn print(measured: &[Measured]) {
    println!(
        "podwire and the kernel's own forwarding: medians of {} rounds; ratio: median of the rounds' ratios",
        measured.first().map_or(0, |m| m.ours.len())
    );
    print!("{:<12}{:<9}", "scenario", "side");
    for (name, unit, ..) in &COLUMNS {
        print!("{:>17}", format!("{name} {unit}"));
    }
    println!();
    for m in measured {
        for (who, rounds) in [("podwire", &m.ours), ("kernel", &m.kernel)] {
            if rounds.is_empty() {
                continue;
            }
            print!("{:<12}{who:<9}", m.scenario.name());
            for column in &COLUMNS {
                let figure = median(rounds.iter().map(column.2).collect()).unwrap_or_default();
                print!("{figure:>17.3}");
            }
            println!();
        }
        if !m.kernel.is_empty() {
            print!("{:<12}{:<9}", m.scenario.name(), "ratio");
            for column in &COLUMNS {
                let ratio = ratio(m, column).map_or_else(|| "-".into(), |r| format!("{r:.2}"));
                print!("{ratio:>17}");
            }
            println!();
        }
    }
}

/// Every figure of every round.
pub(crate) fn json(measured: &[Measured]) -> String {
    serde_json::to_string_pretty(measured).unwrap_or_default()
}

/// The ratios as bars, so that longer is better for all: of what should be small, the inverse.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn draw(measured: &[Measured], path: &Path) -> Result<(), Failure> {
    let against: Vec<_> = measured.iter().filter(|m| !m.kernel.is_empty()).collect();
    let bars: Vec<(usize, usize, f64)> = against
        .iter()
        .enumerate()
        .flat_map(|(s, m)| {
            COLUMNS.iter().enumerate().filter_map(move |(c, column)| {
                let ratio = ratio(m, column)?;
                Some((s, c, if column.3 { ratio } else { 1.0 / ratio }))
            })
        })
        .collect();
    let highest = bars.iter().map(|b| b.2).fold(1.2, f64::max);
    let across = against.len() * (COLUMNS.len() + 1);
    let root = SVGBackend::new(path, (960, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "podwire / kernel (longer is better; 1 = the kernel)",
            ("sans-serif", 18),
        )
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..f(across), 0.0..highest * 1.1)?;
    let label = |x: &f64| {
        against
            .iter()
            .enumerate()
            .find(|(s, _)| (f(s * (COLUMNS.len() + 1)) + 3.5 - x).abs() < 0.51)
            .map_or_else(String::new, |(_, m)| m.scenario.name().into())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(across * 2 + 1)
        .x_label_formatter(&label)
        .draw()?;
    for (c, column) in COLUMNS.iter().enumerate() {
        let colour = Palette99::pick(c).to_rgba();
        let of_column = bars.iter().filter(|b| b.1 == c).map(|&(s, c, height)| {
            let left = f(s * (COLUMNS.len() + 1) + c);
            Rectangle::new([(left + 0.05, 0.0), (left + 0.95, height)], colour.filled())
        });
        let name = if column.3 {
            column.0.into()
        } else {
            format!("1 / {}", column.0)
        };
        chart
            .draw_series(of_column)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart.draw_series(LineSeries::new([(0.0, 1.0), (f(across), 1.0)], BLACK))?;
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn f(n: usize) -> f64 {
    n as f64
}
