//! One thing that a node has to say about a capture, as the words of a ring.
//!
//! ```text
//!   word 0   length in words, this one included (32) | kind (8) | direction (8) | reason (16)
//!   word 1   place (32) | bytes that follow (32)
//!   word 2   when, nanoseconds of CLOCK_MONOTONIC        (packets alone)
//!   word 3   bytes on the wire (32)                      (packets alone)
//!   then     the bytes, 8 to a word in memory order, the last word padded with zeros
//! ```
//!
//! Decides nothing. What comes out of a ring is checked here: what makes no sense is none.

use router_core::{DropReason, PortId};

use super::pcapng::Direction;
use super::ring::MAX_RECORD;

const INTERFACE: u64 = 1;
const PACKET: u64 = 2;
const PACKET_WORDS: usize = 4;
const INTERFACE_WORDS: usize = 2;
const LOW: u64 = u32::MAX as u64;

/// Most bytes that a record carries.
pub const MAX_BYTES: usize = (MAX_RECORD - PACKET_WORDS) * size_of::<u64>();

/// Where in a node something was captured: a port, or the place where dropped frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A port.
    Port(PortId),
    /// Where frames end that the router drops.
    Drop,
}

impl Place {
    const DROP: u64 = 1 << 16;

    fn to_bits(self) -> u64 {
        match self {
            Self::Port(id) => u64::from(id.0),
            Self::Drop => Self::DROP,
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        match u16::try_from(bits) {
            Ok(id) => Some(Self::Port(PortId(id))),
            Err(_) => (bits == Self::DROP).then_some(Self::Drop),
        }
    }
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The name of a place, before its first packet and when it has changed.
    Interface {
        /// Where.
        place: Place,
        /// As the node calls it.
        name: &'a [u8],
    },
    /// A packet.
    Packet {
        /// Where.
        place: Place,
        /// When, nanoseconds of CLOCK_MONOTONIC.
        at: u64,
        /// Which way; none for one that was dropped.
        direction: Option<Direction>,
        /// Why it was dropped, if it was.
        reason: Option<DropReason>,
        /// Bytes on the wire.
        len: u32,
        /// The first of them.
        bytes: &'a [u8],
    },
}

impl Record<'_> {
    /// Its length in words.
    #[must_use]
    pub fn words(&self) -> usize {
        let (head, bytes) = match self {
            Self::Interface { name, .. } => (INTERFACE_WORDS, name),
            Self::Packet { bytes, .. } => (PACKET_WORDS, bytes),
        };
        head + bytes.len().div_ceil(size_of::<u64>())
    }

    /// The words. Of more than [`MAX_BYTES`] bytes a reader makes nothing.
    pub fn encode(&self) -> impl Iterator<Item = u64> + '_ {
        let words = self.words() as u64;
        let (head, bytes) = match *self {
            Self::Interface { place, name } => {
                let first = words | INTERFACE << 32;
                let second = place.to_bits() | (name.len() as u64) << 32;
                (
                    [first, second, 0, 0].into_iter().take(INTERFACE_WORDS),
                    name,
                )
            }
            Self::Packet {
                place,
                at,
                direction,
                reason,
                len,
                bytes,
            } => {
                let direction = match direction {
                    None => 0,
                    Some(Direction::Rx) => 1,
                    Some(Direction::Tx) => 2,
                };
                let reason = reason.map_or(0, |reason| reason as u64 + 1);
                let first = words | PACKET << 32 | direction << 40 | reason << 48;
                let second = place.to_bits() | (bytes.len() as u64) << 32;
                let head = [first, second, at, u64::from(len)];
                (head.into_iter().take(PACKET_WORDS), bytes)
            }
        };
        head.chain(bytes.chunks(size_of::<u64>()).map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }))
    }
}

/// When the packet in these words was captured; none for anything else.
#[must_use]
pub fn time_of(words: &[u64]) -> Option<u64> {
    let is_packet = words.first()? >> 32 & 0xff == PACKET;
    is_packet.then_some(*words.get(2)?)
}

/// The record in these words; its bytes are copied to `bytes` first. None when it makes no sense.
pub fn decode<'a>(words: &[u64], bytes: &'a mut Vec<u8>) -> Option<Record<'a>> {
    let (&first, &second) = (words.first()?, words.get(1)?);
    let head = match first >> 32 & 0xff {
        INTERFACE => INTERFACE_WORDS,
        PACKET => PACKET_WORDS,
        _ => return None,
    };
    let len = usize::try_from(second >> 32).ok()?;
    let body = words.get(head..)?;
    if body.len() != len.div_ceil(size_of::<u64>()) {
        return None;
    }
    bytes.clear();
    bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.truncate(len);
    let place = Place::from_bits(second & LOW)?;
    if head == INTERFACE_WORDS {
        return Some(Record::Interface { place, name: bytes });
    }
    let direction = match first >> 40 & 0xff {
        0 => None,
        1 => Some(Direction::Rx),
        2 => Some(Direction::Tx),
        _ => return None,
    };
    let reason = match usize::try_from(first >> 48).ok()?.checked_sub(1) {
        None => None,
        Some(number) => Some(*DropReason::ALL.get(number)?),
    };
    Some(Record::Packet {
        place,
        at: *words.get(2)?,
        direction,
        reason,
        len: u32::try_from(*words.get(3)?).ok()?,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(record: &Record<'_>) {
        let words: Vec<u64> = record.encode().collect();
        assert_eq!(words.len(), record.words());
        assert_eq!(words[0] & LOW, words.len() as u64);
        let mut bytes = vec![9; 40];
        let at = matches!(record, Record::Packet { .. }).then_some(u64::MAX);
        assert_eq!(time_of(&words), at);
        assert_eq!(decode(&words, &mut bytes).as_ref(), Some(record));
    }

    #[test]
    fn what_is_said_is_heard() {
        for name in [&b""[..], b"eth0", b"veth1234567890ab"] {
            let place = Place::Port(PortId(7));
            round(&Record::Interface { place, name });
        }
        let longest = vec![3; MAX_BYTES];
        let sides = [None, Some(Direction::Rx), Some(Direction::Tx)];
        let reasons = [
            None,
            Some(DropReason::ALL[0]),
            DropReason::ALL.last().copied(),
        ];
        for (direction, reason) in sides.into_iter().zip(reasons) {
            for len in [0, 1, 8, 60, 1514, MAX_BYTES] {
                round(&Record::Packet {
                    place: Place::Drop,
                    at: u64::MAX,
                    direction,
                    reason,
                    len: u32::MAX,
                    bytes: &longest[..len],
                });
            }
        }
    }

    proptest! {
        /// Words of any kind are a record or none, never a panic.
        #[test]
        fn rubbish_is_none(words in prop::collection::vec(prop_oneof![any::<u64>(), 0..9_u64 << 32], 0..8)) {
            let mut bytes = Vec::new();
            let _ = time_of(&words);
            if let Some(record) = decode(&words, &mut bytes) {
                prop_assert_eq!(record.words(), words.len());
            }
        }
    }
}
