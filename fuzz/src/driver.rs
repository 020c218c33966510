//! Runs a target without libFuzzer: replays files, or mutates what it has for a given time.
//!
//! Not guided by coverage, but needs nothing beside this crate, and the same seed makes the same run. An input that
//! panics, or that takes longer than [`STUCK`], is written to `fuzz/artifacts/TARGET/` and ends the run with status 1.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::targets::{self, Target};

/// How long one input may take.
pub const STUCK: Duration = Duration::from_secs(10);

/// Longest input that mutation makes, bytes.
const MAX_LEN: usize = 1 << 14;

const USAGE: &str = "\
TARGET [--seconds N] [--seed S] [--write DIR] [FILE|DIR]...
  FILE|DIR    replay these inputs
  --seconds   then mutate the seeds, the regressions and these for so long
  --seed      of the mutations (default 1)
  --write     write seeds, corpus and regressions as files, and nothing else: for libFuzzer";

/// `main` of a target's binary.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    let target = targets::by_name(name).expect("a binary names its own target");
    match run(target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(target: Target) -> Result<(), String> {
    let mut seconds = 0;
    let mut seed = 1;
    let mut inputs = Vec::new();
    let mut args = std::env::args().skip(1);
    let number = |value: Option<String>| {
        value
            .and_then(|v| v.parse::<u64>().ok())
            .ok_or_else(|| format!("a number is wanted\n{USAGE}"))
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = number(args.next())?,
            "--seed" => seed = number(args.next())?,
            "--write" => {
                let dir = args
                    .next()
                    .ok_or_else(|| format!("a directory is wanted\n{USAGE}"))?;
                return write(Path::new(&dir), &corpus(target)?);
            }
            "-h" | "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            flag if flag.starts_with('-') => return Err(format!("{flag}?\n{USAGE}")),
            path => read_into(Path::new(path), &mut inputs)?,
        }
    }
    let watch = Watch::start(target.name);
    let given = inputs.len();
    inputs.extend(corpus(target)?);
    for input in &inputs {
        execute(target, input, &watch)?;
    }
    println!(
        "{}: replayed {} inputs, {given} of them given",
        target.name,
        inputs.len()
    );
    if seconds > 0 {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut random = Random(seed | 1);
        let mut runs = 0_u64;
        while Instant::now() < end {
            let input = mutate(&inputs, &mut random);
            execute(target, &input, &watch)?;
            runs += 1;
        }
        println!(
            "{}: {runs} mutated inputs in {seconds} s, seed {seed}",
            target.name
        );
    }
    Ok(())
}

/// The target's seeds, its committed corpus and its committed regressions.
///
/// # Errors
/// When a file cannot be read.
pub fn corpus(target: Target) -> Result<Vec<Vec<u8>>, String> {
    let mut inputs = (target.seeds)();
    for kept in ["corpus", "regressions"] {
        let dir = root().join(kept).join(target.name);
        if dir.is_dir() {
            read_into(&dir, &mut inputs)?;
        }
    }
    Ok(inputs)
}

fn write(dir: &Path, inputs: &[Vec<u8>]) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    fs::create_dir_all(dir).map_err(fail)?;
    for input in inputs {
        fs::write(dir.join(format!("seed-{:016x}", hash(input))), input).map_err(fail)?;
    }
    Ok(())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_into(path: &Path, inputs: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .map_err(fail)?
            .filter_map(|e| Some(e.ok()?.path()))
            .collect();
        entries.sort();
        for entry in entries {
            // The reasons stand beside the inputs.
            if entry.file_name().is_none_or(|n| n != "REASONS") {
                read_into(&entry, inputs)?;
            }
        }
    } else {
        inputs.push(fs::read(path).map_err(fail)?);
    }
    Ok(())
}

fn execute(target: Target, input: &[u8], watch: &Watch) -> Result<(), String> {
    watch.begin(input);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    watch.end();
    result.map_err(|_| format!("panicked on {}", save(target.name, input)))
}

/// FNV-1a: only to name files.
fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes an input where cargo-fuzz writes its own. The path, or why it could not be written.
fn save(name: &str, input: &[u8]) -> String {
    let dir = root().join("artifacts").join(name);
    let path = dir.join(format!("crash-{:016x}", hash(input)));
    match fs::create_dir_all(&dir).and_then(|()| fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(e) => format!("an input that cannot be saved ({e}): {input:?}"),
    }
}

/// Ends the process when an input takes too long, after saving it.
struct Watch(Arc<Running>);

/// The input that runs, and since when.
type Running = Mutex<Option<(Instant, Vec<u8>)>>;

impl Watch {
    fn start(name: &'static str) -> Self {
        let current: Arc<Running> = Arc::default();
        let seen = Arc::clone(&current);
        std::thread::spawn(move || {
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                let guard = seen.lock().expect("nobody panics with it");
                if let Some((began, input)) = guard.as_ref()
                    && began.elapsed() > STUCK
                {
                    eprintln!("{name}: stuck on {}", save(name, input));
                    std::process::exit(1);
                }
            }
        });
        Self(current)
    }

    fn begin(&self, input: &[u8]) {
        *self.0.lock().expect("nobody panics with it") = Some((Instant::now(), input.to_vec()));
    }

    fn end(&self) {
        *self.0.lock().expect("nobody panics with it") = None;
    }
}

/// xorshift64*: small, seeded, good enough to choose mutations.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap_or(1);
        usize::try_from((self.next() >> 11) % n).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// One of `inputs` with one to eight small changes.
fn mutate(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x45, 0x40, b'\n'];
    let mut bytes = inputs
        .get(random.below(inputs.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] = random.byte(),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            4 => bytes.insert(at, random.byte()),
            5 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                // A piece of another input, or of this one.
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                let piece = other[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.truncate(MAX_LEN);
    bytes
}
