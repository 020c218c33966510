//! Many pings at once: one request per pair, so many on their way at a time, one poll for all.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::channel::{Channel, MAX_PACKET, Sent};
use super::packet::{EchoId, Heard, IcmpError, echo_request, parse};
use super::{PathMtu, poll_fds, random_id};

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Index of the channel that pings.
    pub from: usize,
    /// Whom.
    pub to: Ipv4Addr,
}

/// How a matrix is pinged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixOptions {
    /// Bytes of payload.
    pub size: usize,
    /// TTL of the requests.
    pub ttl: u8,
    /// Requests that may be on their way at a time, 1 at least.
    pub in_flight: usize,
    /// Patience for one answer. There are no retries.
    pub timeout: Duration,
    /// Patience for all; what is open then counts as lost, what was not sent as not sent.
    pub deadline: Duration,
}

impl Default for MatrixOptions {
    fn default() -> Self {
        Self {
            size: 56,
            ttl: 64,
            in_flight: 64,
            timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
        }
    }
}

/// What became of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Reply {
        /// TTL that was left in the reply.
        ttl: u8,
        /// Time from request to reply.
        rtt: Duration,
    },
    /// Somebody reported an error.
    Error {
        /// Who.
        from: Ipv4Addr,
        /// What.
        error: IcmpError,
    },
    /// No answer in time.
    Lost,
    /// The request could not be sent, and why.
    NotSent(String),
}

impl Outcome {
    /// True when it was answered.
    #[must_use]
    pub fn is_reply(&self) -> bool {
        matches!(self, Self::Reply { .. })
    }
}

/// Pings every target from every channel: row by channel, column by target, in the order given.
///
/// # Errors
/// As [`probe_all`].
pub fn matrix(
    channels: &[Channel],
    targets: &[Ipv4Addr],
    options: &MatrixOptions,
) -> io::Result<Vec<Vec<Outcome>>> {
    // Column by column, so that the load spreads over the channels.
    let probes: Vec<_> = targets
        .iter()
        .flat_map(|&to| (0..channels.len()).map(move |from| Probe { from, to }))
        .collect();
    let mut rows = vec![Vec::with_capacity(targets.len()); channels.len()];
    for (probe, outcome) in probes.iter().zip(probe_all(channels, &probes, options)?) {
        rows[probe.from].push(outcome);
    }
    Ok(rows)
}

struct Pending {
    index: usize,
    at: Instant,
}

/// Pings every pair once. The outcomes are in the order of `probes`.
///
/// # Errors
/// When poll fails or a channel can't be configured. A channel that breaks on the way loses its own pairs only.
///
/// # Panics
/// When a probe names a channel that does not exist.
pub fn probe_all(
    channels: &[Channel],
    probes: &[Probe],
    options: &MatrixOptions,
) -> io::Result<Vec<Outcome>> {
    Run::new(channels, probes, options)?.run()
}

struct Run<'a> {
    channels: &'a [Channel],
    probes: &'a [Probe],
    options: &'a MatrixOptions,
    /// Identifier of each channel.
    ids: Vec<u16>,
    /// Why a channel is of no use any more.
    broken: Vec<Option<String>>,
    /// Sequence number of the next request of each channel.
    seqs: Vec<u16>,
    /// By channel and sequence number.
    pending: HashMap<(usize, u16), Pending>,
    outcomes: Vec<Option<Outcome>>,
    buf: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(
        channels: &'a [Channel],
        probes: &'a [Probe],
        options: &'a MatrixOptions,
    ) -> io::Result<Self> {
        let mut ids = Vec::with_capacity(channels.len());
        for channel in channels {
            channel.configure(options.ttl, PathMtu::Want)?;
            ids.push(random_id()?);
        }
        Ok(Self {
            channels,
            probes,
            options,
            ids,
            broken: vec![None; channels.len()],
            seqs: vec![1; channels.len()],
            pending: HashMap::new(),
            outcomes: vec![None; probes.len()],
            buf: vec![0; MAX_PACKET],
        })
    }

    fn run(mut self) -> io::Result<Vec<Outcome>> {
        let end = Instant::now() + self.options.deadline;
        let mut next = 0;
        loop {
            let mut full = None;
            while next < self.probes.len() && self.pending.len() < self.options.in_flight.max(1) {
                if !self.send(next) {
                    full = Some(self.probes[next].from);
                    break;
                }
                next += 1;
            }
            let now = Instant::now();
            self.expire(now);
            let done = next == self.probes.len() && self.pending.is_empty();
            if done || now >= end {
                break;
            }
            self.listen(full, end)?;
        }
        let rest = self.outcomes.into_iter().enumerate();
        Ok(rest
            .map(|(index, outcome)| match outcome {
                Some(outcome) => outcome,
                None if index < next => Outcome::Lost,
                None => Outcome::NotSent("no time was left".to_owned()),
            })
            .collect())
    }

    /// Sends one request. False when its channel is full.
    fn send(&mut self, index: usize) -> bool {
        let Probe { from, to } = self.probes[index];
        if let Some(why) = &self.broken[from] {
            self.outcomes[index] = Some(Outcome::NotSent(why.clone()));
            return true;
        }
        let seq = self.seqs[from];
        let echo = EchoId {
            id: self.ids[from],
            seq,
        };
        let message = echo_request(echo, self.options.size);
        let at = Instant::now();
        let sent = self.channels[from].send(to, self.options.ttl, PathMtu::Want, &message);
        let failed = match sent {
            Sent::Full => return false,
            Sent::Yes => {
                self.seqs[from] = seq.wrapping_add(1);
                self.pending.insert((from, seq), Pending { index, at });
                return true;
            }
            Sent::TooLong(_) => "message too long".to_owned(),
            Sent::Refused(error) => error.to_string(),
        };
        self.outcomes[index] = Some(Outcome::NotSent(failed));
        true
    }

    /// Gives up on what has been on its way for too long.
    fn expire(&mut self, now: Instant) {
        let timeout = self.options.timeout;
        let outcomes = &mut self.outcomes;
        self.pending.retain(|_, pending| {
            let open = pending.at + timeout > now;
            if !open {
                outcomes[pending.index] = Some(Outcome::Lost);
            }
            open
        });
    }

    /// Waits until something arrives, a request expires, or a full channel has room; then reads everything.
    fn listen(&mut self, full: Option<usize>, end: Instant) -> io::Result<()> {
        let expiry = self.pending.values().map(|p| p.at).min();
        let until = expiry.map_or(end, |at| end.min(at + self.options.timeout));
        let left = until.saturating_duration_since(Instant::now());
        let mut polled = Vec::with_capacity(self.channels.len());
        let mut fds = Vec::with_capacity(self.channels.len());
        for (from, channel) in self.channels.iter().enumerate() {
            if self.broken[from].is_none() {
                let out = if full == Some(from) {
                    PollFlags::OUT
                } else {
                    PollFlags::empty()
                };
                polled.push(from);
                fds.push(PollFd::new(channel, PollFlags::IN | out));
            }
        }
        poll_fds(&mut fds, left)?;
        let ready: Vec<_> = polled
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(from, _)| from)
            .collect();
        for from in ready {
            self.read(from);
        }
        Ok(())
    }

    fn read(&mut self, from: usize) {
        loop {
            match self.channels[from].recv(&mut self.buf) {
                Ok(Some(packet)) => {
                    let now = Instant::now();
                    if let Some(heard) = parse(packet) {
                        self.heard(from, now, &heard);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.broken[from] = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn heard(&mut self, from: usize, now: Instant, heard: &Heard) {
        let (echo, peer, outcome) = match *heard {
            Heard::Reply {
                echo,
                from: peer,
                ttl,
                ..
            } => {
                let rtt = Duration::ZERO;
                (echo, peer, Outcome::Reply { ttl, rtt })
            }
            Heard::Error {
                echo,
                dst,
                from: reporter,
                error,
            } => {
                let from = reporter;
                (echo, dst, Outcome::Error { from, error })
            }
        };
        let key = (from, echo.seq);
        let Some(pending) = self.pending.get(&key) else {
            return;
        };
        if echo.id != self.ids[from] || self.probes[pending.index].to != peer {
            return;
        }
        let outcome = match outcome {
            Outcome::Reply { ttl, .. } => Outcome::Reply {
                ttl,
                rtt: now.duration_since(pending.at),
            },
            other => other,
        };
        self.outcomes[pending.index] = Some(outcome);
        self.pending.remove(&key);
    }
}
