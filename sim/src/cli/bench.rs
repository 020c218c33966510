//! `podwire bench`

use std::fs;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Failure;
use super::failure::BUG;
use super::get::now_ms;
use super::ui::{DIM, Ui};
use crate::bench::{self, Figure};
use crate::view::{age, kube};

/// Measures the data plane on this machine: one thread, less than a minute, no privileges.
#[derive(Args, Debug)]
pub(super) struct Bench {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

impl Bench {
    pub(super) fn run(&self, ui: &Ui) -> Result<u8, Failure> {
        if cfg!(debug_assertions) {
            ui.talk("This is a debug build: its figures say nothing about a release build.");
        }
        let failed = |error: bench::BenchError| Failure::new(BUG, error.to_string());
        let jobs = bench::jobs().map_err(failed)?;
        // On a terminal only; the library looks for itself.
        let bar = if ui.quiet() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(jobs.len() as u64)
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        let mut figures = Vec::with_capacity(jobs.len());
        for job in jobs {
            bar.tick();
            let figure = job().map_err(failed)?;
            bar.set_message(format!("{}, {}", figure.name, figure.of));
            bar.inc(1);
            figures.push(figure);
        }
        bar.finish_and_clear();
        let host = Host::look();
        let text = match self.output {
            Format::Table => table(&host, &figures),
            Format::Json => kube::to_json(&object(&host, &figures)),
            Format::Yaml => kube::to_yaml(&object(&host, &figures)),
        };
        ui.data(&text);
        Ok(0)
    }
}

/// The machine, as far as figures depend on it.
struct Host {
    processor: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    date: String,
}

impl Host {
    fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: kilobytes.unwrap_or(0) / 1024,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            date: age::rfc3339(now_ms()),
        }
    }
}

fn table(host: &Host, figures: &[Figure]) -> String {
    let mut text = format!(
        "podwire {} on {}, {} cores, {} MB, Linux {}, {}\n\n",
        env!("CARGO_PKG_VERSION"),
        host.processor,
        host.cores,
        host.memory_mb,
        host.kernel,
        host.date
    );
    text += &format!(
        "{:<20}{:<38}{:>9}{:>11}{:>9}\n",
        "", "", "ns", "M/s", "spread"
    );
    for figure in figures {
        text += &format!(
            "{:<20}{:<38}{:>9.1}{:>11.2}{:>8.0}%\n",
            figure.name,
            figure.of,
            figure.nanoseconds,
            figure.millions_per_second(),
            figure.spread
        );
    }
    text += &format!(
        "\n{DIM}One thread; medians of {} samples; spread: between the quartiles. Above 10 % the machine was busy.{DIM:#}\n",
        bench::SAMPLES
    );
    text
}

fn object(host: &Host, figures: &[Figure]) -> serde_json::Value {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name,
                "of": figure.of,
                "nanoseconds": figure.nanoseconds,
                "millionsPerSecond": figure.millions_per_second(),
                "spreadPercent": figure.spread,
            })
        })
        .collect();
    json!({
        "apiVersion": "podwire/v1",
        "kind": "BenchReport",
        "version": env!("CARGO_PKG_VERSION"),
        "debug": cfg!(debug_assertions),
        "host": {
            "processor": host.processor,
            "cores": host.cores,
            "memoryMB": host.memory_mb,
            "kernel": host.kernel,
        },
        "date": host.date,
        "samples": bench::SAMPLES,
        "figures": figures,
    })
}
