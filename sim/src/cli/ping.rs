//! `podwire ping`

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::{FAILED, USAGE};
use super::matrix::{Matrix, channel, members};
use super::target::{DEFAULT_NAMESPACE, Place, nodes, place, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::ping::packet::MAX_PAYLOAD;
use crate::ping::{self, MatrixOptions, Options, PathMtu};
use crate::view::kube;

/// Pings.
#[derive(Args, Debug)]
pub(super) struct Ping {
    /// Who pings: POD, NS/POD or node/NODE
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    from: Option<String>,
    /// Whom: POD, NS/POD, node/NODE or an IPv4 address
    #[arg(required_unless_present = "all")]
    to: Option<String>,
    /// Every pair of pods and nodes once, as a matrix of TTLs
    #[arg(long)]
    all: bool,
    /// Kubernetes namespace of bare pod names
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
    /// So many requests; 0 goes on until Ctrl-C
    #[arg(short, long, default_value_t = 3, conflicts_with = "all")]
    count: u32,
    /// Time between two requests: seconds, or with a unit (200ms)
    #[arg(short, long, default_value = "1", value_parser = interval, conflicts_with = "all")]
    interval: Duration,
    /// Bytes of payload
    #[arg(short, long, default_value_t = 56, value_parser = size)]
    size: usize,
    /// Longer requests than the path allows: never cut (do), cut here (want), cut anywhere (dont)
    #[arg(
        short = 'M',
        value_enum,
        default_value_t,
        value_name = "HINT",
        conflicts_with = "all"
    )]
    mtu: Hint,
    /// TTL of the requests
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    ttl: u8,
    /// Patience for an answer: seconds, or with a unit
    #[arg(short = 'W', long, default_value = "2", value_parser = duration)]
    timeout: Duration,
    /// Output format of --all
    #[arg(short, long, value_enum, default_value_t, requires = "all")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Hint {
    Do,
    #[default]
    Want,
    Dont,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

/// Seconds with a fraction, as iputils takes them, or a number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_millis(1) => Err("1 ms is the least".to_owned()),
        time => Ok(time),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(size) if size <= MAX_PAYLOAD => Ok(size),
        Ok(_) => Err(format!("{MAX_PAYLOAD} is the most")),
        Err(error) => Err(error.to_string()),
    }
}

impl Ping {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let nodes = nodes(&mut client)?;
        let pods = pods(&mut client)?;
        if self.all {
            let options = MatrixOptions {
                size: self.size,
                ttl: self.ttl,
                timeout: self.timeout,
                ..MatrixOptions::default()
            };
            let matrix = Matrix::measure(&mut client, members(&nodes, &pods), &options)?;
            match self.output {
                Format::Json => ui.data(&kube::to_json(&matrix.object())),
                Format::Table => {
                    ui.data(&format!("{}\n{}\n", matrix.table(), matrix.summary()));
                    for line in matrix.failures() {
                        ui.talk(line);
                    }
                }
            }
            return Ok(if matrix.answered() == matrix.sent() {
                0
            } else {
                FAILED
            });
        }
        let (Some(from), Some(to)) = (&self.from, &self.to) else {
            return Err(Failure::new(USAGE, "who pings whom?"));
        };
        let Place::Member { target, .. } = place(from, &self.namespace, &nodes, &pods)? else {
            let text = format!("{from} is an address; a pod or a node can ping");
            return Err(Failure::new(USAGE, text));
        };
        let to = place(to, &self.namespace, &nodes, &pods)?;
        let channel = channel(&mut client, &target)?;
        // The ping outlasts any answer of the daemon, and doesn't need it any more.
        drop(client);
        let name = match &to {
            Place::Member { name, .. } => name.clone(),
            Place::Address(ip) => ip.to_string(),
        };
        let options = Options {
            count: (self.count != 0).then_some(self.count),
            interval: self.interval,
            size: self.size,
            ttl: self.ttl,
            path_mtu: match self.mtu {
                Hint::Do => PathMtu::Do,
                Hint::Want => PathMtu::Want,
                Hint::Dont => PathMtu::Dont,
            },
            timeout: self.timeout,
            deadline: None,
            quiet: ui.quiet(),
        };
        let mut interrupt = Interrupt::new()?;
        let stop = Some(interrupt.reader.as_fd());
        let (mut out, mut err) = (ui.stdout(), ui.stderr());
        let statistics = ping::ping(&channel, &name, to.ip(), &options, stop, &mut out, &mut err)
            .map_err(|error| {
            ui.check_reader(&error);
            Failure::new(FAILED, format!("the ping ended: {error}"))
        })?;
        // What was still on its way at Ctrl-C was not lost.
        let missing = statistics.transmitted.saturating_sub(statistics.received);
        let open = u64::from(interrupt.happened());
        Ok(if missing > open { FAILED } else { 0 })
    }
}

/// Ctrl-C as something that can be waited for.
struct Interrupt {
    reader: UnixStream,
}

impl Interrupt {
    fn new() -> Result<Self, Failure> {
        let set_up = || {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, writer)?;
            Ok(Self { reader })
        };
        set_up().map_err(|error: std::io::Error| {
            Failure::new(super::failure::BUG, format!("no signal handler: {error}"))
        })
    }

    fn happened(&mut self) -> bool {
        self.reader.read(&mut [0]).is_ok_and(|n| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_carry_a_unit() {
        assert_eq!(duration("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("-1").is_err());
        assert!(duration("soon").is_err());
        assert!(interval("0.0001").is_err());
    }
}
