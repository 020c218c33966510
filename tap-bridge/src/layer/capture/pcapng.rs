//! The blocks of a pcapng file, each as a function that appends bytes.
//!
//! Decides nothing about what is captured. Files are little-endian, times are nanoseconds since the Unix epoch
//! (if_tsresol 9), the section's length is left open, so that a file may be a pipe and end anywhere between two blocks.
//!
//! ```text
//!   block    type | length | body | options .. end | padding to 4 | length
//!   option   code | length | value | padding to 4
//! ```
//!
//! Source: draft-ietf-opsawg-pcapng, section 3 (block), 3.5 (options), 4.1 to 4.6. Cost: one pass over what is appended;
//! no allocation besides the vector's growth.

use std::net::Ipv4Addr;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Written in the byte order of the file, by which readers know that order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const IF_FILTER: u16 = 11;
const EPB_FLAGS: u16 = 2;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;

const RECORD_IPV4: u16 = 1;

/// Which way a packet went at its port, as the router sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The router received it (pcapng: inbound).
    Rx,
    /// The router sent it (pcapng: outbound).
    Tx,
}

/// What an interface block tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interface<'a> {
    /// `node/eth0`
    pub name: &'a str,
    /// What is at its other end; may be empty.
    pub description: &'a str,
    /// Bytes kept of a packet; 0 is all of them.
    pub snaplen: u32,
    /// The filter as it was written; may be empty.
    pub filter: &'a str,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface block in the file, from 0.
    pub interface: u32,
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
    /// Bytes that it had on the wire.
    pub len: u32,
    /// Those of them that were kept.
    pub bytes: &'a [u8],
    /// Which way it went; none for one that went nowhere.
    pub direction: Option<Direction>,
    /// May be empty.
    pub comment: &'a str,
}

/// What became of the packets of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Beginning of the capture, nanoseconds since the Unix epoch.
    pub start: u64,
    /// Its end.
    pub end: u64,
    /// Packets that passed the place of the capture.
    pub received: u64,
    /// Those of them that the filter let through.
    pub accepted: u64,
    /// Those of these that were lost because nobody took them in time.
    pub lost: u64,
}

/// The beginning of a file.
pub fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION, |out| {
        put32(out, BYTE_ORDER);
        put16(out, 1);
        put16(out, 0);
        // Length of the section: not known.
        put64(out, u64::MAX);
        option(out, SHB_USERAPPL, application.as_bytes());
        end_of_options(out);
    });
}

/// An interface; its number is how many were written before it.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, INTERFACE, |out| {
        put16(out, LINKTYPE_ETHERNET);
        put16(out, 0);
        put32(out, interface.snaplen);
        text(out, IF_NAME, interface.name);
        text(out, IF_DESCRIPTION, interface.description);
        option(out, IF_TSRESOL, &[9]);
        if !interface.filter.is_empty() {
            // The first byte says that the filter is text.
            let value: Vec<u8> = [0].into_iter().chain(interface.filter.bytes()).collect();
            option(out, IF_FILTER, &value);
        }
        end_of_options(out);
    });
}

/// A packet.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, PACKET, |out| {
        put32(out, packet.interface);
        put_time(out, packet.at);
        put32(out, length(packet.bytes.len()));
        put32(out, packet.len);
        padded(out, packet.bytes);
        text(out, OPT_COMMENT, packet.comment);
        if let Some(direction) = packet.direction {
            let flags: u32 = match direction {
                Direction::Rx => 1,
                Direction::Tx => 2,
            };
            option(out, EPB_FLAGS, &flags.to_le_bytes());
        }
        if !packet.comment.is_empty() || packet.direction.is_some() {
            end_of_options(out);
        }
    });
}

/// Names for addresses, which readers show in their place if asked to.
pub fn names<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = (Ipv4Addr, &'a str)>) {
    block(out, NAMES, |out| {
        for (addr, name) in names {
            // The name ends with a zero byte, which it can't contain.
            let name = name.bytes().filter(|&byte| byte != 0);
            let value: Vec<u8> = addr.octets().into_iter().chain(name).chain([0]).collect();
            option(out, RECORD_IPV4, &value);
        }
        end_of_options(out);
    });
}

/// What became of the packets of interface number `of`.
pub fn statistics(out: &mut Vec<u8>, of: u32, counts: &Statistics) {
    block(out, STATISTICS, |out| {
        put32(out, of);
        put_time(out, counts.end);
        time_option(out, ISB_STARTTIME, counts.start);
        time_option(out, ISB_ENDTIME, counts.end);
        option(out, ISB_IFRECV, &counts.received.to_le_bytes());
        option(out, ISB_IFDROP, &counts.lost.to_le_bytes());
        option(out, ISB_FILTERACCEPT, &counts.accepted.to_le_bytes());
        end_of_options(out);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put32(out, kind);
    put32(out, 0);
    body(out);
    // All parts are padded, so the body is a multiple of 4.
    let total = length(out.len() - start + size_of::<u32>());
    out[start + 4..start + 8].copy_from_slice(&total.to_le_bytes());
    put32(out, total);
}

/// An option, unless it is empty.
fn text(out: &mut Vec<u8>, code: u16, value: &str) {
    if !value.is_empty() {
        option(out, code, value.as_bytes());
    }
}

/// A value that is longer than an option can be is cut.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    put16(out, code);
    put16(out, len);
    padded(out, &value[..usize::from(len)]);
}

fn end_of_options(out: &mut Vec<u8>) {
    option(out, OPT_END, &[]);
}

fn time_option(out: &mut Vec<u8>, code: u16, at: u64) {
    put16(out, code);
    put16(out, 8);
    put_time(out, at);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    out.extend_from_slice(&[0; 3][..padding]);
}

/// The high half comes first, whatever the byte order.
fn put_time(out: &mut Vec<u8>, at: u64) {
    let low = u32::MAX;
    put32(out, u32::try_from(at >> 32).unwrap_or(low));
    put32(out, u32::try_from(at & u64::from(low)).unwrap_or(low));
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
