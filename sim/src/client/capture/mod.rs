//! The reader of a capture: takes records out of the nodes' rings, puts them in order, and hands them to an output.
//!
//! Decides when it sleeps (when all rings are empty and nothing is due), when it ends (when it was told to, has enough, the
//! output is gone or the daemon is), and that then everything that was captured before still goes out. Doesn't know files
//! or terminals: those are [`Output`]s.
//!
//! Nodes are trusted no more than their rings deserve: one whose ring makes no sense is given up, with a message.

pub mod file;
pub mod merge;
pub mod text;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use router_core::{DropReason, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tap_bridge::layer::capture::Place;
use tap_bridge::layer::capture::pcapng::Direction;
use tap_bridge::layer::capture::record::{Record, decode, time_of};
use tap_bridge::layer::capture::ring::Reader;
use tap_bridge::sys::clock;
use tap_bridge::sys::eventfd::Doorbell;

use super::{Client, ClientError};
use crate::control::capture::{CaptureCounts, CapturePlace, CapturedAt};
use crate::control::proto::{Request, Response};
use merge::{Merge, Timed};

/// What each node counted, the gateway's without a name.
type CountsByNode = Vec<(Option<String>, Vec<CaptureCounts>)>;

/// Records taken from one ring before the next one has its turn.
const TURN: usize = 256;

/// One packet, for an output.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
    /// Which way; none for one that was dropped.
    pub direction: Option<Direction>,
    /// Why it was dropped.
    pub reason: Option<DropReason>,
    /// Bytes on the wire.
    pub len: u32,
    /// The first of them.
    pub bytes: &'a [u8],
}

/// Number of a place of the capture, in the order in which their names were told.
pub type PlaceId = usize;

/// Where packets go.
pub trait Output {
    /// A place has a name, which no other has had: `node`, and what the node calls it.
    ///
    /// # Errors
    /// When it can't be written.
    fn place(&mut self, id: PlaceId, node: &str, name: &str) -> io::Result<()>;

    /// A packet at the place told last under this number.
    ///
    /// # Errors
    /// When it can't be written.
    fn packet(&mut self, place: PlaceId, packet: &Packet<'_>) -> io::Result<()>;

    /// Nothing more comes for a while.
    ///
    /// # Errors
    /// When it can't be written.
    fn flush(&mut self) -> io::Result<()>;

    /// The end, with what was counted at each place.
    ///
    /// # Errors
    /// When it can't be written.
    fn finish(&mut self, ended: u64, counts: &[(PlaceId, CaptureCounts)]) -> io::Result<()>;
}

/// What is read until when.
#[derive(Debug)]
pub struct Limits<'a> {
    /// Ends the capture when it becomes readable.
    pub stop: BorrowedFd<'a>,
    /// Ends the capture when its reader goes away.
    pub reader: Option<BorrowedFd<'a>>,
    /// Ends the capture after so many packets.
    pub count: Option<u64>,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets that went to the output.
    pub captured: u64,
    /// Packets that passed the places of the capture.
    pub received: u64,
    /// Those of them that the filter let through.
    pub accepted: u64,
    /// Those of these that were lost because they were not read in time.
    pub lost: u64,
    /// Messages for the user.
    pub troubles: Vec<String>,
}

/// Why it ended before it should.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The lab said no, or is gone.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The output said no.
    #[error("the capture can't be written: {0}")]
    Output(#[source] io::Error),
    /// This system said no.
    #[error("the capture can't be read: {0}")]
    Input(#[from] io::Error),
}

/// What a record of a ring says, for later.
#[derive(Debug)]
struct Held {
    at: u64,
    words: Vec<u64>,
}

impl Timed for Held {
    fn at(&self) -> u64 {
        self.at
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.words.len() * size_of::<u64>()
    }
}

#[derive(Debug)]
struct Source {
    node: String,
    name: Option<String>,
    reader: Reader,
    broken: bool,
    /// Places that have told their names.
    places: Vec<(Place, PlaceId, String)>,
    /// Time of the record before; names have none of their own.
    last: u64,
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    client: Client,
    bell: Doorbell,
    sources: Vec<Source>,
    merge: Merge<Held>,
    places: usize,
    /// What has to be added to CLOCK_MONOTONIC to have the time since the epoch.
    epoch: u64,
    summary: Summary,
}

impl Capture {
    /// Begins to capture. From here on nothing is missed.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn begin(
        mut client: Client,
        places: Vec<CapturePlace>,
        filter: &str,
        snaplen: u32,
    ) -> Result<Self, CaptureError> {
        let request = Request::Capture {
            places,
            filter: filter.to_owned(),
            snaplen,
        };
        let (response, mut fds) = client.request_with_fds(&request)?;
        let (Response::CaptureBegun { rings }, Some(bell)) = (response, fds.pop()) else {
            return Err(client.unexpected("capture").into());
        };
        let mut sources = Vec::new();
        for _ in 0..rings {
            let (response, mut fds) = client.next_response()?;
            let (Response::CaptureRing { node, words }, Some(ring)) = (response, fds.pop()) else {
                return Err(client.unexpected("capture").into());
            };
            sources.push(source(node, words, &ring)?);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            client,
            bell: Doorbell::from_fd(bell),
            merge: Merge::new(sources.len()),
            sources,
            places: 0,
            epoch: now.saturating_sub(clock::monotonic().as_nanos()),
            summary: Summary::default(),
        })
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.epoch.saturating_add(clock::monotonic().as_nanos())
    }

    /// Reads until one of the limits is reached, and ends the capture.
    ///
    /// # Errors
    /// [`CaptureError`]. Unless it is the output's, the output is whole: it has its end.
    pub fn run(
        mut self,
        output: &mut dyn Output,
        limits: &Limits<'_>,
    ) -> Result<Summary, CaptureError> {
        let read = self.read(output, limits);
        if let Err(CaptureError::Output(_)) = read {
            return read.map(|()| self.summary);
        }
        let counts = match &read {
            Ok(()) => self.end_capture(),
            Err(_) => Ok(Vec::new()),
        };
        // What came before the end, up to the count.
        self.take_all();
        self.put(output, None, limits.count)
            .map_err(CaptureError::Output)?;
        let lost: u64 = self.sources.iter().map(|source| source.reader.lost()).sum();
        let mut by_place = Vec::new();
        for (node, counts) in counts.as_deref().unwrap_or_default() {
            let source = self.sources.iter().find(|source| source.name == *node);
            for count in counts {
                self.summary.received += count.received;
                self.summary.accepted += count.accepted;
                self.summary.lost += count.lost;
                let places = source.map_or(&[][..], |source| &source.places);
                let place = places
                    .iter()
                    .find(|(p, ..)| CapturedAt::from(*p) == count.place);
                by_place.extend(place.map(|(_, id, _)| (*id, *count)));
            }
        }
        let broken = self.sources.iter().filter(|source| source.broken);
        let trouble =
            |source: &Source| format!("{}: what it has captured can't be read", source.node);
        self.summary.troubles.extend(broken.map(trouble));
        // A node that was started again has counted only what came since.
        self.summary.lost = self.summary.lost.max(lost);
        by_place.sort_by_key(|(id, _)| *id);
        let now = self.now();
        output
            .finish(now, &by_place)
            .and_then(|()| output.flush())
            .map_err(CaptureError::Output)?;
        read?;
        counts?;
        Ok(self.summary)
    }

    fn end_capture(&mut self) -> Result<CountsByNode, CaptureError> {
        match self.client.request(&Request::CaptureEnd)? {
            Response::Captured { nodes } => Ok(nodes),
            _ => Err(self.client.unexpected("capture").into()),
        }
    }

    fn read(&mut self, output: &mut dyn Output, limits: &Limits<'_>) -> Result<(), CaptureError> {
        loop {
            let more = self.take();
            self.put(output, Some(clock::monotonic()), limits.count)
                .map_err(CaptureError::Output)?;
            let enough = limits.count.is_some_and(|n| self.summary.captured >= n);
            if enough {
                return Ok(());
            }
            let wait = if more {
                Some(Duration::ZERO)
            } else {
                output.flush().map_err(CaptureError::Output)?;
                let now = clock::monotonic();
                self.merge.deadline().map(|due| due.since(now))
            };
            if self.sleep(wait, limits)? {
                return Ok(());
            }
        }
    }

    /// Takes a turn's worth out of every ring. True when there may be more.
    fn take(&mut self) -> bool {
        let mut more = false;
        for (n, source) in self.sources.iter_mut().enumerate() {
            for _ in 0..TURN {
                if self.merge.is_full() {
                    return true;
                }
                match source.take() {
                    Some(held) => self.merge.push(n, held),
                    None => break,
                }
            }
            more |= !source.broken && source.reader.has_records();
        }
        more
    }

    /// Everything that is there now, however much the merge should hold: rings are bounded.
    fn take_all(&mut self) {
        for (n, source) in self.sources.iter_mut().enumerate() {
            while let Some(held) = source.take() {
                self.merge.push(n, held);
            }
        }
    }

    /// Hands on what may go; with no time, everything.
    fn put(
        &mut self,
        output: &mut dyn Output,
        now: Option<Instant>,
        count: Option<u64>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        while count.is_none_or(|count| self.summary.captured < count)
            && let Some((n, held)) = self.merge.pop(now)
        {
            let source = &mut self.sources[n];
            match decode(&held.words, &mut bytes) {
                Some(Record::Interface { place, name }) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    let known = known_place(&self.sources, n, place, &name);
                    let id = known.unwrap_or(self.places);
                    let source = &mut self.sources[n];
                    source.places.retain(|(p, ..)| *p != place);
                    if known.is_none() {
                        self.places += 1;
                        output.place(id, &source.node, &name)?;
                    }
                    source.places.push((place, id, name));
                }
                Some(Record::Packet {
                    place,
                    at,
                    direction,
                    reason,
                    len,
                    bytes,
                }) => {
                    let found = source.places.iter().find(|(p, ..)| *p == place);
                    let Some((_, id, _)) = found else {
                        continue;
                    };
                    self.summary.captured += 1;
                    let packet = Packet {
                        at: self.epoch.saturating_add(at),
                        direction,
                        reason,
                        len,
                        bytes,
                    };
                    output.packet(*id, &packet)?;
                }
                None => source.broken = true,
            }
        }
        Ok(())
    }

    /// Sleeps until there is something to read or `wait` is over. True when the capture is to end.
    fn sleep(&mut self, wait: Option<Duration>, limits: &Limits<'_>) -> Result<bool, CaptureError> {
        let busy = wait == Some(Duration::ZERO);
        let mut asleep = !busy;
        for source in self.sources.iter_mut().filter(|source| !source.broken) {
            asleep &= busy || source.reader.prepare_sleep();
        }
        let wait = if asleep { wait } else { Some(Duration::ZERO) };
        let limit = wait.map(|wait| Timespec::try_from(wait).unwrap_or_default());
        let mut fds = vec![
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::from_borrowed_fd(limits.stop, PollFlags::IN),
            PollFd::from_borrowed_fd(self.client.connection.as_fd(), PollFlags::IN),
        ];
        // A pipe without a reader is in error, whatever is asked for.
        fds.extend(
            limits
                .reader
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty())),
        );
        let polled = poll(&mut fds, limit.as_ref());
        let over = fds[1..].iter().any(|fd| !fd.revents().is_empty());
        let rang = !fds[0].revents().is_empty();
        if !busy {
            self.sources.iter_mut().for_each(|s| s.reader.end_sleep());
        }
        if rang {
            self.bell.silence();
        }
        match polled {
            Ok(_) => Ok(over),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(CaptureError::Input(errno.into())),
        }
    }
}

/// The number of a place that another worker of the same node has told of by the same name.
fn known_place(sources: &[Source], n: usize, place: Place, name: &str) -> Option<PlaceId> {
    let own = &sources[n].name;
    let others = sources.iter().enumerate().filter(|(m, _)| *m != n);
    let workers = others.filter(|(_, source)| source.name == *own);
    let mut places = workers.flat_map(|(_, source)| &source.places);
    let found = places.find(|(p, _, called)| *p == place && called == name);
    found.map(|(_, id, _)| *id)
}

fn source(node: Option<String>, words: usize, ring: &OwnedFd) -> io::Result<Source> {
    Ok(Source {
        node: node.clone().unwrap_or_else(|| "gateway".to_owned()),
        name: node,
        reader: Reader::new(ring.as_fd(), words)?,
        broken: false,
        places: Vec::new(),
        last: 0,
    })
}

impl Source {
    fn take(&mut self) -> Option<Held> {
        if self.broken {
            return None;
        }
        let mut words = Vec::new();
        match self.reader.pop(&mut words) {
            Ok(false) => None,
            Ok(true) => {
                // A name goes where the packet before it went.
                self.last = self.last.max(time_of(&words).unwrap_or(0));
                Some(Held {
                    at: self.last,
                    words,
                })
            }
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }
}
