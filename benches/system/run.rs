//! Who is measured when, and how.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::Args;
use crate::kernel::Kernel;
use crate::ours::Ours;

/// Whatever went wrong, in words.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Steps of the search for the loss-free rate: each halves what is not known.
const STEPS: u32 = 6;
/// Says that the namespaces were made.
const INSIDE: &str = "PODWIRE_SYSTEM_BENCH_INSIDE";

/// What is between the sender and the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Two pods of one node
    One,
    /// Pods of two nodes, nothing tracked
    Two,
    /// From a pod to the other node, masqueraded
    Masquerade,
    /// Pods of two nodes, policies on both ends
    Policy,
    /// Pods of two nodes through an IPIP tunnel; podwire alone
    Ipip,
}

impl Scenario {
    /// As the table prints it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::One => "one node",
            Self::Two => "two nodes",
            Self::Masquerade => "masquerade",
            Self::Policy => "policy",
            Self::Ipip => "ipip",
        }
    }
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Pod a.
    Sender,
    /// Pod b or c, or the second node.
    Receiver,
}

/// One of the two topologies.
pub(crate) trait Side {
    /// A command that runs what is appended to it in that place.
    fn command(&self, place: Place) -> Command;

    /// The receiver's address as the sender knows it.
    fn receiver(&self) -> String;
}

/// What one round saw on one side. Zero where nothing arrived.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Gbit/s, one stream.
    pub(crate) tcp1: f64,
    /// Gbit/s, four streams.
    pub(crate) tcp4: f64,
    /// Seconds of all processors per Gbit of the one stream.
    pub(crate) cpu: f64,
    /// Datagrams received under overload, thousands a second.
    pub(crate) udp: f64,
    /// Highest rate with at most one in 1,000 lost, thousands a second.
    pub(crate) lossless: f64,
    /// Microseconds.
    pub(crate) rtt50: f64,
    /// Microseconds.
    pub(crate) rtt99: f64,
}

/// All rounds of a scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// What was between them.
    pub(crate) scenario: Scenario,
    /// podwire, by round.
    pub(crate) ours: Vec<Figures>,
    /// The kernel, by round; empty where it can't.
    pub(crate) kernel: Vec<Figures>,
}

/// Runs a command to its end; its standard output, or why not.
///
/// # Errors
/// When it can't be started or says no.
pub(crate) fn checked(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}", said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A receiver that runs.
pub(crate) struct Sink {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u64,
}

fn numbers(line: &str) -> Result<Vec<u64>, Failure> {
    let numbers = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>();
    numbers.map_err(|e| format!("{line:?}: {e}").into())
}

impl Sink {
    pub(crate) fn start(side: &dyn Side, role: &str) -> Result<Self, Failure> {
        let mut child = program(side, Place::Receiver, role)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut sink = Self {
            child,
            lines,
            port: 0,
        };
        sink.port = sink.line()?[0];
        Ok(sink)
    }

    pub(crate) fn line(&mut self) -> Result<Vec<u64>, Failure> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err("a receiver ended before its time".into());
        }
        numbers(&line)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn program(side: &dyn Side, place: Place, role: &str) -> Result<Command, Failure> {
    let mut command = side.command(place);
    command.arg(std::env::current_exe()?).args(["role", role]);
    Ok(command)
}

/// Runs a sender to its end.
pub(crate) fn source(
    side: &dyn Side,
    role: &str,
    sink: &Sink,
    args: &[String],
) -> Result<Vec<u64>, Failure> {
    let to = format!("{}:{}", side.receiver(), sink.port);
    let said = checked(program(side, Place::Sender, role)?.arg(to).args(args))?;
    numbers(said.trim())
}

/// Time that all processors have been busy, seconds.
fn busy() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else {
        return Err("/proc/stat: no processors".into());
    };
    Ok(as_f64(user + nice + system + irq + softirq) / 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// Gbit/s, and processors' seconds per Gbit.
fn tcp(side: &dyn Side, streams: usize, millis: u64) -> Result<(f64, f64), Failure> {
    let mut sink = Sink::start(side, "tcp-sink")?;
    let before = busy()?;
    source(
        side,
        "tcp-source",
        &sink,
        &[streams.to_string(), millis.to_string()],
    )?;
    let (mut bytes, mut nanos) = (0, 0);
    for _ in 0..streams {
        let line = sink.line()?;
        bytes += line[0];
        nanos = nanos.max(line[1]);
    }
    let spent = busy()? - before;
    let gbit = as_f64(bytes) * 8.0 / 1e9;
    Ok((gbit / (as_f64(nanos) / 1e9), spent / gbit))
}

/// Datagrams sent, received, and received per second.
fn udp(
    side: &dyn Side,
    sink: &mut Sink,
    rate: u64,
    millis: u64,
) -> Result<(u64, u64, f64), Failure> {
    let sent = source(
        side,
        "udp-source",
        sink,
        &[rate.to_string(), millis.to_string()],
    )?[0];
    let line = sink.line()?;
    Ok((
        sent,
        line[0],
        as_f64(line[0]) / (as_f64(line[1].max(1)) / 1e9),
    ))
}

fn side(side: &dyn Side, millis: u64) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    // The first packets find neighbours and open what opens lazily.
    tcp(side, 1, 50)?;
    (figures.tcp1, figures.cpu) = tcp(side, 1, millis)?;
    (figures.tcp4, _) = tcp(side, 4, millis)?;
    let mut sink = Sink::start(side, "udp-sink")?;
    let (_, _, goodput) = udp(side, &mut sink, 0, millis)?;
    figures.udp = goodput / 1e3;
    let (mut low, mut high) = (0.0, goodput * 1.5);
    for _ in 0..STEPS {
        let rate = f64::midpoint(low, high);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate"
        )]
        let (sent, received, _) = udp(side, &mut sink, rate as u64, (millis / 3).max(50))?;
        let lost = sent.saturating_sub(received);
        if lost * 1_000 <= sent {
            low = rate;
        } else {
            high = rate;
        }
    }
    figures.lossless = low / 1e3;
    drop(sink);
    let sink = Sink::start(side, "udp-echo")?;
    let line = source(side, "rtt", &sink, &[millis.to_string()])?;
    figures.rtt50 = as_f64(line[0]) / 1e3;
    figures.rtt99 = as_f64(line[1]) / 1e3;
    Ok(figures)
}

/// Goes where nothing is but what it will make itself: a network, a mount tree and a place for the lab's files.
fn inside() -> Result<PathBuf, Failure> {
    if let Some(dir) = std::env::var_os(INSIDE) {
        checked(Command::new("mount").args(["-t", "tmpfs", "none", "/run/netns"]))?;
        return Ok(dir.into());
    }
    std::fs::create_dir_all("/run/netns")?;
    let dir = tempfile::tempdir()?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, dir.path())
        .env("PODWIRE_RUNTIME_DIR", dir.path())
        .env_remove("PODWIRE_LAB")
        .arg0("unshare")
        .status()?;
    drop(dir);
    std::process::exit(status.code().unwrap_or(1));
}

fn podwire(args: &Args) -> Result<PathBuf, Failure> {
    let path = match &args.podwire {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("podwire"),
    };
    if !path.is_file() {
        return Err(format!(
            "{}: not there; build it with: cargo build --release -p sim",
            path.display()
        )
        .into());
    }
    Ok(path)
}

fn one(scenario: Scenario, ours: bool, podwire: &Path, millis: u64) -> Result<Figures, Failure> {
    let figures = if ours {
        side(&Ours::new(podwire, scenario)?, millis)
    } else {
        side(&Kernel::new(scenario)?, millis)
    };
    let who = if ours { "podwire" } else { "kernel" };
    let figures = figures.map_err(|e| format!("{}, {who}: {e}", scenario.name()))?;
    eprintln!(
        "{:<11} {who:<8} tcp {:6.2} {:6.2} Gbit/s  udp {:6.0} kpps, loss-free {:6.0}  rtt {:6.1} us",
        scenario.name(),
        figures.tcp1,
        figures.tcp4,
        figures.udp,
        figures.lossless,
        figures.rtt50
    );
    // The kernel takes namespaces apart on its own time.
    std::thread::sleep(Duration::from_millis(100));
    Ok(figures)
}

/// Finds the program to measure, and goes where nothing else is.
///
/// # Errors
/// Without root or that program.
pub(crate) fn prepare(args: &Args) -> Result<PathBuf, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("this makes network namespaces: run it as root".into());
    }
    let podwire = podwire(args)?;
    inside()?;
    Ok(podwire)
}

/// Measures everything that was asked for.
///
/// # Errors
/// When a side can't be built or says nothing.
pub(crate) fn all(args: &Args) -> Result<Vec<Measured>, Failure> {
    let podwire = prepare(args)?;
    let scenarios = if args.only.is_empty() {
        Scenario::value_variants()
    } else {
        &args.only
    };
    let mut measured: Vec<_> = scenarios
        .iter()
        .map(|&scenario| Measured {
            scenario,
            ours: Vec::new(),
            kernel: Vec::new(),
        })
        .collect();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for m in &mut measured {
            // Whoever is first has the warmer machine.
            for ours in [round % 2 == 0, round % 2 != 0] {
                if ours {
                    m.ours.push(one(m.scenario, true, &podwire, args.millis)?);
                } else if m.scenario != Scenario::Ipip {
                    m.kernel
                        .push(one(m.scenario, false, &podwire, args.millis)?);
                }
            }
        }
    }
    Ok(measured)
}
