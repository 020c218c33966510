//! The captures of one node, and the places where they look.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use router_core::segment::{Cutter, linearize};
use router_core::{DropReason, Frame, Instant, PortId};

use super::filter::{Filter, FilterError};
use super::pcapng::Direction;
use super::record::{MAX_BYTES, Place, Record};
use super::ring::Writer;
use crate::port::ETHERNET_HEADER;
use crate::sys::eventfd::Doorbell;

/// Captures that a node takes part in at a time.
pub const MAX_CAPTURES: usize = 16;

/// What the place of dropped frames is called.
const DROP_NAME: &str = "drop";

/// Ports that a capture looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are and will be.
    All,
    /// These.
    Ports(Vec<PortId>),
}

/// What a capture is to do.
#[derive(Debug)]
pub struct Begin {
    /// Memory of its ring.
    pub ring: OwnedFd,
    /// Words of that.
    pub words: usize,
    /// Its reader's bell.
    pub bell: OwnedFd,
    /// Where it looks.
    pub ports: Wanted,
    /// Whether it wants frames that the router drops, of those that have come by these ports.
    pub drops: bool,
    /// What it wants of these, as pcap-filter writes it.
    pub filter: String,
    /// Bytes that it wants of each; 0 is all.
    pub snaplen: u32,
}

/// Why a capture could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Too many are under way.
    #[error("{MAX_CAPTURES} captures are under way already")]
    TooMany,
    /// The filter makes no sense.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The memory can't be used.
    #[error("the capture's memory: {0}")]
    Ring(#[from] io::Error),
}

/// What became of the packets of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That passed.
    pub received: u64,
    /// That the filter let through.
    pub accepted: u64,
    /// Of these, lost for want of room in the ring.
    pub lost: u64,
}

/// One capture.
#[derive(Debug)]
struct Sink {
    writer: Writer,
    bell: Doorbell,
    filter: Filter,
    snaplen: usize,
    ports: Wanted,
    drops: bool,
    /// Places whose name was said, with what was counted there.
    places: BTreeMap<Place, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    named: bool,
}

#[derive(Debug, Default)]
struct State {
    sinks: BTreeMap<u32, Sink>,
    names: BTreeMap<PortId, String>,
    /// Time of the newest record: of one node's records none is older than the one before.
    last: u64,
    /// Where packets are put together that are not whole in a frame's head.
    room: Vec<u8>,
}

/// The captures of one node. Clones are the same captures.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    state: Arc<Mutex<State>>,
}

/// A place where captures look at a port's packets.
#[derive(Clone, Debug)]
pub struct Probe {
    port: PortId,
    captures: Captures,
}

impl Captures {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked had begun is at worst a record less.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the capture of this number; one that there is already ends.
    ///
    /// # Errors
    /// [`BeginError`]; nothing has changed then.
    pub fn begin(&self, number: u32, begin: Begin) -> Result<(), BeginError> {
        let mut state = self.state();
        let there = state.sinks.contains_key(&number);
        if state.sinks.len() >= MAX_CAPTURES && !there {
            return Err(BeginError::TooMany);
        }
        let sink = Sink {
            filter: Filter::parse(&begin.filter)?,
            writer: Writer::new(begin.ring, begin.words)?,
            bell: Doorbell::from_fd(begin.bell),
            snaplen: match begin.snaplen {
                0 => MAX_BYTES,
                len => usize::try_from(len).map_or(MAX_BYTES, |len| len.min(MAX_BYTES)),
            },
            ports: begin.ports,
            drops: begin.drops,
            places: BTreeMap::new(),
        };
        state.sinks.insert(number, sink);
        Ok(())
    }

    /// Ends a capture, and says what it has seen where. None when there is none of this number.
    pub fn end(&self, number: u32) -> Option<Vec<(Place, Counts)>> {
        let mut sink = self.state().sinks.remove(&number)?;
        sink.flush();
        let places = sink.places.into_iter();
        Some(places.map(|(place, seen)| (place, seen.counts)).collect())
    }

    /// True while there is any.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.state().sinks.is_empty()
    }

    /// Says what the ports are called from now on.
    pub fn set_names<'a>(&self, names: impl Iterator<Item = (PortId, &'a str)>) {
        let mut state = self.state();
        let names: BTreeMap<PortId, String> = names.map(|(id, n)| (id, n.to_owned())).collect();
        let State {
            sinks, names: old, ..
        } = &mut *state;
        for sink in sinks.values_mut() {
            for (place, seen) in &mut sink.places {
                if let Place::Port(id) = place {
                    seen.named &= names.get(id) == old.get(id);
                }
            }
        }
        state.names = names;
    }

    /// A probe for a port that some capture looks at; none for all others.
    #[must_use]
    pub fn probe(&self, port: PortId) -> Option<Probe> {
        let wanted = self.state().sinks.values().any(|sink| sink.wants(port));
        wanted.then(|| Probe {
            port,
            captures: self.clone(),
        })
    }

    /// True when some capture wants dropped frames.
    #[must_use]
    pub fn wants_drops(&self) -> bool {
        self.state().sinks.values().any(|sink| sink.drops)
    }

    /// A frame that the router has dropped.
    pub fn dropped(&self, now: Instant, frame: &Frame, reason: DropReason) {
        let mut state = self.state();
        state.record(now, Place::Drop, None, Some(reason), frame);
    }

    /// Dropped frames that there was no room to keep until they could be shown.
    pub fn lose_dropped(&self, count: u64) {
        if count == 0 {
            return;
        }
        for sink in self.state().sinks.values_mut().filter(|sink| sink.drops) {
            let counts = &mut sink.places.entry(Place::Drop).or_default().counts;
            counts.received += count;
            counts.lost += count;
        }
    }

    /// Makes visible what was captured, and wakes readers: at the end of a breath.
    pub fn flush(&self) {
        for sink in self.state().sinks.values_mut() {
            sink.flush();
        }
    }
}

impl Probe {
    /// Frames that the device has given.
    pub fn rx(&self, now: Instant, frames: &[Frame]) {
        let mut state = self.captures.state();
        for frame in frames {
            state.record(
                now,
                Place::Port(self.port),
                Some(Direction::Rx),
                None,
                frame,
            );
        }
    }

    /// A frame that the device is about to be given.
    pub fn tx(&self, now: Instant, frame: &Frame) {
        let mut state = self.captures.state();
        state.record(
            now,
            Place::Port(self.port),
            Some(Direction::Tx),
            None,
            frame,
        );
    }
}

impl State {
    fn record(
        &mut self,
        now: Instant,
        place: Place,
        direction: Option<Direction>,
        reason: Option<DropReason>,
        frame: &Frame,
    ) {
        self.last = self.last.max(now.as_nanos());
        let (at, names) = (self.last, &self.names);
        let name = match place {
            Place::Port(port) => names.get(&port).map_or("?", String::as_str),
            Place::Drop => DROP_NAME,
        };
        for sink in self.sinks.values_mut() {
            let wanted = match place {
                Place::Port(port) => sink.wants(port),
                Place::Drop => {
                    sink.drops && (sink.ports == Wanted::All || sink.wants(frame.port()))
                }
            };
            if !wanted {
                continue;
            }
            on_the_wire(frame, &mut self.room, |bytes, len| {
                let packet = Record::Packet {
                    place,
                    at,
                    direction,
                    reason,
                    len: u32::try_from(len).unwrap_or(u32::MAX),
                    bytes: bytes.get(..sink.snaplen).unwrap_or(bytes),
                };
                let accepted = sink.filter.matches(bytes, len);
                sink.take(place, name, accepted, &packet);
            });
        }
    }
}

/// Calls `each` with every packet that the frame is on a wire, and its length: a superframe is cut, in `room`, and a
/// checksum that was left open is completed.
fn on_the_wire(frame: &Frame, room: &mut Vec<u8>, mut each: impl FnMut(&[u8], usize)) {
    if !frame.is_offloaded() {
        return each(frame.bytes(), frame.len());
    }
    if let Ok(cutter) = Cutter::new(frame) {
        for n in 0..cutter.count() {
            room.resize(cutter.segment_len(n), 0);
            if let Some(len) = cutter.write(n, room) {
                each(&room[..len], len);
            }
        }
        return;
    }
    let len = frame.len();
    room.resize(len, 0);
    frame.read(0, room);
    // What can't be completed is shown as it is.
    if let Some(packet) = room.get_mut(ETHERNET_HEADER..) {
        let _ = linearize(frame, packet);
    }
    each(room, len);
}

impl Sink {
    fn wants(&self, port: PortId) -> bool {
        match &self.ports {
            Wanted::All => true,
            Wanted::Ports(ports) => ports.contains(&port),
        }
    }

    fn take(&mut self, place: Place, name: &str, accepted: bool, packet: &Record<'_>) {
        let Self { writer, places, .. } = self;
        let seen = places.entry(place).or_default();
        seen.counts.received += 1;
        if !accepted {
            return;
        }
        seen.counts.accepted += 1;
        // Without its place's name a packet is of no use.
        seen.named = seen.named
            || push(
                writer,
                &Record::Interface {
                    place,
                    name: name.as_bytes(),
                },
            );
        if !seen.named || !push(writer, packet) {
            seen.counts.lost += 1;
        }
    }

    fn flush(&mut self) {
        if self.writer.flush() {
            // Only what is no eventfd can't be rung, and then there is nobody to wake.
            let _ = self.bell.ring();
        }
    }
}

fn push(writer: &mut Writer, record: &Record<'_>) -> bool {
    writer.push(record.words(), record.encode())
}
