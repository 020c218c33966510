//! podwire against the kernel's own forwarding: the same topology twice, traffic of real sockets, runs in turn.
//!
//! ```text
//!   one node                 two nodes                                    masquerade: the receiver is the second node itself
//!   pod a ─┐                 pod a ── node 1 ─────── node 2 ── pod b      ipip: podwire alone, as this kernel may lack the module
//!          node 1            kernel: veth ─ namespace ─ veth ─ namespace ─ veth, static routes, iptables where it says so
//!   pod b ─┘                 podwire: TAP ─ process ─ shared memory ─ process ─ TAP
//! ```
//!
//! Decides what is measured and in which order; a round measures every scenario on both sides, first one, then the other
//! first. Absolute figures are the machine's at that moment, so the table prints medians of the rounds' ratios beside the
//! medians of the figures. Doesn't decide whether a figure is good: it always ends with 0 when it could measure.
//!
//! ```text
//! cargo build --release -p sim && cargo run --release -p benches --bin system -- --rounds 5 --svg system.svg
//! ```
//!
//! | column      | unit     | what                                                                                     |
//! |-------------|----------|------------------------------------------------------------------------------------------|
//! | tcp 1, 4    | Gbit/s   | payload through 1 and 4 streams, writes of 128 kB                                        |
//! | cpu         | s/Gbit   | time of all processors while the 1 stream ran, kernel and programs included              |
//! | udp         | kpps     | 18-byte datagrams received per second while they are sent as fast as possible            |
//! | loss-free   | kpps     | highest rate at which at most one in 1,000 is lost (bisection)                           |
//! | rtt p50, p99 | us      | one 64-byte datagram there and back at a time                                            |
//!
//! Needs root (network namespaces of its own), iproute2 and, for two scenarios, iptables. All of it happens in namespaces
//! that end with the process. Five rounds take about five minutes on two processors.

mod kernel;
mod ours;
mod report;
mod roles;
mod run;
mod soak;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "system", about = "podwire against the kernel's own forwarding")]
struct Args {
    /// Rounds: every scenario on both sides, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds per measurement
    #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    millis: u64,
    /// Scenarios, all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<run::Scenario>,
    /// The program to measure [default: podwire beside this one]
    #[arg(long)]
    podwire: Option<PathBuf>,
    /// Draw the ratios into this file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Write every figure of every round as JSON into this file
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A long transfer through podwire while it traces, captures and has its routes replaced
    Soak(soak::Soak),
    /// What the measured programs do; started by this program itself
    #[command(hide = true, subcommand)]
    Role(roles::Role),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Role(role)) => roles::act(role),
        Some(Command::Soak(soak)) => {
            run::prepare(&args).and_then(|podwire| soak::run(soak, &podwire))
        }
        None => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("system: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), run::Failure> {
    let figures = run::all(args)?;
    report::print(&figures);
    if let Some(path) = &args.svg {
        report::draw(&figures, path)?;
    }
    if let Some(path) = &args.json {
        std::fs::write(path, report::json(&figures))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
