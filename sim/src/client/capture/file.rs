//! A capture as a pcapng file: one interface block per place, statistics at the end.
//!
//! Decides the words: an interface is called `node/eth0`, a dropped packet carries `dropped: reason: what that means`.
//! Written block by block, so that the file is well-formed wherever it ends, and a pipe shows packets as they come.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use tap_bridge::layer::capture::pcapng;

use super::{Output, Packet, PlaceId};
use crate::control::capture::CaptureCounts;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 16;

/// What a file tells besides packets.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Names of addresses.
    pub names: Vec<(Ipv4Addr, String)>,
    /// What is at the other end of interfaces, by their names in the file.
    pub descriptions: BTreeMap<String, String>,
    /// The filter, as it was written.
    pub filter: String,
    /// Bytes kept of each packet; 0 is all.
    pub snaplen: u32,
    /// When the capture began, nanoseconds since the Unix epoch.
    pub started: u64,
}

/// The file, or the pipe.
#[derive(Debug)]
pub struct PcapngFile<W> {
    to: W,
    buffer: Vec<u8>,
    about: About,
}

impl<W: Write> PcapngFile<W> {
    /// Begins a file. Nothing is written yet.
    pub fn new(to: W, about: About) -> Self {
        let mut buffer = Vec::with_capacity(2 * CHUNK);
        pcapng::section(&mut buffer, concat!("podwire ", env!("CARGO_PKG_VERSION")));
        if !about.names.is_empty() {
            let names = about.names.iter();
            pcapng::names(
                &mut buffer,
                names.map(|(addr, name)| (*addr, name.as_str())),
            );
        }
        Self { to, buffer, about }
    }

    fn write_chunk(&mut self, least: usize) -> io::Result<()> {
        if self.buffer.len() > least {
            self.to.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn number(place: PlaceId) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<W: Write> Output for PcapngFile<W> {
    fn place(&mut self, _: PlaceId, node: &str, name: &str) -> io::Result<()> {
        let name = format!("{node}/{name}");
        let description = self.about.descriptions.get(&name);
        let block = pcapng::Interface {
            name: &name,
            description: description.map_or("", String::as_str),
            snaplen: self.about.snaplen,
            filter: &self.about.filter,
        };
        pcapng::interface(&mut self.buffer, &block);
        Ok(())
    }

    fn packet(&mut self, place: PlaceId, packet: &Packet<'_>) -> io::Result<()> {
        let comment = packet.reason.map_or_else(String::new, |reason| {
            format!("dropped: {reason}: {}", reason.help())
        });
        let block = pcapng::Packet {
            interface: number(place),
            at: packet.at,
            len: packet.len,
            bytes: packet.bytes,
            direction: packet.direction,
            comment: &comment,
        };
        pcapng::packet(&mut self.buffer, &block);
        self.write_chunk(CHUNK)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_chunk(0)?;
        self.to.flush()
    }

    fn finish(&mut self, ended: u64, counts: &[(PlaceId, CaptureCounts)]) -> io::Result<()> {
        for (place, counts) in counts {
            let block = pcapng::Statistics {
                start: self.about.started,
                end: ended,
                received: counts.received,
                accepted: counts.accepted,
                lost: counts.lost,
            };
            pcapng::statistics(&mut self.buffer, number(*place), &block);
        }
        self.write_chunk(0)
    }
}
