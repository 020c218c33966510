//! A long transfer while everything else happens: traces, captures, routes that are replaced.
//!
//! Decides what is disturbed and what must not change: every byte arrives as it was sent, memory does not grow, TCP
//! retransmits little. The stream is a pseudo-random sequence that the receiver makes as well and compares.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::ours::Ours;
use crate::roles::say;
use crate::run::{Failure, Place, Scenario, Side, Sink, checked, source};

/// The node that is disturbed.
const NODE: &str = "minikube";
/// Commands that replace routes at a time.
const REPLACERS: usize = 4;
/// By then everything that is allocated once has been.
const WARM_UP: Duration = Duration::from_secs(10);
/// Bytes per write and read; a whole number of words of the sequence.
const BLOCK: usize = 128 << 10;

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// Seconds at least
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Gigabytes at least
    #[arg(long, default_value_t = 10)]
    gigabytes: u64,
    /// What is between the two pods
    #[arg(long, value_enum, default_value_t = Scenario::Two)]
    scenario: Scenario,
    /// Routes replaced per second
    #[arg(long, default_value_t = 100)]
    routes: u64,
}

/// xorshift64*, a word at a time.
struct Sequence(u64);

impl Sequence {
    const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            word.copy_from_slice(&self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
    }
}

/// Prints its port; of the first connection the bytes, and the place of the first wrong one, or 0 0.
pub(crate) fn verify() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    say(&listener.local_addr()?.port().to_string())?;
    let (mut stream, _) = listener.accept()?;
    let mut sequence = Sequence::new();
    let (mut got, mut want) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut bytes, mut wrong) = (0_u64, None);
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match stream.read(&mut got[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        sequence.fill(&mut want);
        if wrong.is_none() && got[..filled] != want[..filled] {
            let at = got.iter().zip(&want).position(|(a, b)| a != b);
            wrong = Some(bytes + at.unwrap_or(0) as u64);
        }
        bytes += filled as u64;
        if filled < BLOCK {
            break;
        }
    }
    say(&format!(
        "{bytes} {} {}",
        u8::from(wrong.is_some()),
        wrong.unwrap_or(0)
    ))?;
    // It is read before the program ends with its standard input.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Sends the sequence for so long and so far, whichever is later.
pub(crate) fn send(to: SocketAddrV4, seconds: u64, gigabytes: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(to)?;
    let mut sequence = Sequence::new();
    let mut block = vec![0; BLOCK];
    let began = Instant::now();
    let mut sent = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) || sent < gigabytes * 1_000_000_000 {
        sequence.fill(&mut block);
        stream.write_all(&block)?;
        sent += BLOCK as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    say(&format!("{sent} {}", began.elapsed().as_millis()))?;
    Ok(())
}

/// Segments sent and sent again by the sender's kernel.
fn segments(side: &dyn Side) -> Result<(u64, u64), Failure> {
    let told = checked(side.command(Place::Sender).args(["cat", "/proc/net/snmp"]))?;
    let mut tcp = told.lines().filter(|l| l.starts_with("Tcp:"));
    let (names, values) = (tcp.next().unwrap_or(""), tcp.next().unwrap_or(""));
    let of = |name| {
        let at = names.split(' ').position(|n| n == name)?;
        values.split(' ').nth(at)?.parse().ok()
    };
    let missing = || Failure::from("no Tcp line in /proc/net/snmp");
    Ok((
        of("OutSegs").ok_or_else(missing)?,
        of("RetransSegs").ok_or_else(missing)?,
    ))
}

/// Resident memory of the disturbed node's process and of the whole lab, kB.
fn memory(ours: &Ours) -> Result<u64, Failure> {
    let told = checked(Command::new(&ours.podwire).args(["get", "nodes", "-o", "json"]))?;
    let told: Value = serde_json::from_str(&told)?;
    let mut sum = 0;
    for node in told["items"].as_array().ok_or("get nodes: no items")? {
        let pid = node["pid"].as_u64().ok_or("get nodes: no pid")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        sum += kilobytes.ok_or("no VmRSS")?;
    }
    Ok(sum)
}

/// What goes on beside the transfer.
struct Disturbance<'a> {
    ours: &'a Ours,
    done: AtomicBool,
    routes: AtomicU64,
    traces: AtomicU64,
    failed: AtomicU64,
}

impl Disturbance<'_> {
    /// Every [`REPLACERS`]th replacement, from this one on: each is a command of its own, and beside a transfer that takes all
    /// processors one after the other would not be fast enough.
    fn replace_routes(&self, first: u64, per_second: u64) {
        let began = Instant::now();
        for n in (first..).step_by(REPLACERS) {
            let due = began + Duration::from_nanos(n * 1_000_000_000 / per_second.max(1));
            while !self.done.load(Ordering::Relaxed) && Instant::now() < due {
                thread::sleep(Duration::from_millis(1));
            }
            if self.done.load(Ordering::Relaxed) || per_second == 0 {
                return;
            }
            let dst = format!("192.0.2.{}/32", n % 256);
            let mut command = Command::new(&self.ours.podwire);
            command.args([
                "ip",
                "-n",
                NODE,
                "route",
                "replace",
                &dst,
                "via",
                "172.16.30.4",
            ]);
            self.count(checked(&mut command), &self.routes);
        }
    }

    fn trace(&self) {
        while !self.done.load(Ordering::Relaxed) {
            let mut command = Command::new(&self.ours.podwire);
            command.args([
                "trace",
                "a",
                &self.ours.receiver(),
                "--proto",
                "tcp",
                "--dport",
                "9",
            ]);
            self.count(checked(&mut command), &self.traces);
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn count(&self, done: Result<String, Failure>, of: &AtomicU64) {
        match done {
            Ok(_) => of.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("{error}");
                }
                0
            }
        };
    }
}

/// A capture of the disturbed node. Killed when dropped before its end.
struct Capture(Child);

impl Capture {
    fn start(ours: &Ours) -> Result<Self, Failure> {
        let mut command = Command::new(&ours.podwire);
        command.args(["capture", NODE, "-w", "/dev/null", "-s", "128"]);
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    /// Ends it as Ctrl-C does; it says itself what it saw and lost.
    fn end(mut self) -> Result<(), Failure> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let status = self.0.wait()?;
        if !status.success() {
            return Err(format!("the capture ended with {status}").into());
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it.
///
/// # Errors
/// When a byte is wrong or missing, or a disturbance failed.
pub(crate) fn run(soak: &Soak, podwire: &std::path::Path) -> Result<(), Failure> {
    let ours = Ours::new(podwire, soak.scenario)?;
    let mut sink = Sink::start(&ours, "verify")?;
    let disturbance = Disturbance {
        ours: &ours,
        done: AtomicBool::new(false),
        routes: AtomicU64::new(0),
        traces: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let (out_before, again_before) = segments(&ours)?;
    let (sent, before, after) = thread::scope(|scope| {
        for first in 0..REPLACERS as u64 {
            let disturbance = &disturbance;
            scope.spawn(move || disturbance.replace_routes(first, soak.routes));
        }
        scope.spawn(|| disturbance.trace());
        let end = |result| {
            disturbance.done.store(true, Ordering::Relaxed);
            result
        };
        let transfer = || {
            let capture = Capture::start(&ours)?;
            let ours = &ours;
            let warm = scope.spawn(|| {
                thread::sleep(WARM_UP.min(Duration::from_secs(soak.seconds / 2)));
                memory(ours)
            });
            let orders = [soak.seconds.to_string(), soak.gigabytes.to_string()];
            let sent = source(ours, "send", &sink, &orders)?;
            let after = memory(ours)?;
            let before = warm.join().map_err(|_| "nobody looked at the memory")??;
            capture.end()?;
            Ok((sent, before, after))
        };
        end(transfer())
    })
    .map_err(|e: Failure| e)?;
    let received = sink.line()?;
    let (out, again) = segments(&ours)?;
    let (bytes, millis) = (sent[0], sent[1].max(1));
    println!(
        "{bytes} bytes in {millis} ms, {}.{:02} Gbit/s; received {}, {}",
        bytes * 8 / millis / 1_000_000,
        bytes * 8 / millis / 10_000 % 100,
        received[0],
        if received[1] == 0 {
            "every byte right".into()
        } else {
            format!("wrong from byte {} on", received[2])
        }
    );
    println!(
        "segments sent {}, sent again {}; nodes' memory {before} kB when warm, {after} kB at the end",
        out - out_before,
        again - again_before
    );
    let load = Ordering::Relaxed;
    println!(
        "beside it: {} routes replaced, {} packets traced, {} commands failed, one capture",
        disturbance.routes.load(load),
        disturbance.traces.load(load),
        disturbance.failed.load(load)
    );
    if received[0] != bytes || received[1] != 0 {
        return Err("bytes are missing or wrong".into());
    }
    if disturbance.failed.load(load) > 0 {
        return Err("what should have gone on beside it failed".into());
    }
    Ok(())
}
