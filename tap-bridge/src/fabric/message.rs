//! Messages between a member and the hub, one per datagram.
//!
//! Decides nothing. Layout: version, kind, then the fields of the kind, integers little-endian, no padding. A datagram of
//! another version, kind or length is [`Malformed`]; nothing of it is used.
//!
//! Cost: none worth naming; links carry the traffic, these messages set them up and carry broadcasts.

use router_core::frame::MAX_FRAME;
use router_core::{Mac, Mark};

use super::MemberId;
use crate::port::ETHERNET_HEADER;

const VERSION: u8 = 3;
const HEADER: usize = 2;
/// Bytes of the mark in front of a flooded frame.
const MARK: usize = 2;

/// Longest message, bytes.
pub(super) const MESSAGE_MAX: usize = HEADER + MARK + MAX_FRAME;

const CONNECT: u8 = 1;
const BROKEN: u8 = 2;
const WELCOME: u8 = 16;
const UP: u8 = 17;
const DOWN: u8 = 18;
const LINK: u8 = 19;
const UNLINK: u8 = 20;
const FLOOD: u8 = 32;

/// A datagram that is no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// From a member to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToHub<'a> {
    /// A link to this member is wanted.
    Connect {
        /// The other end.
        peer: MemberId,
    },
    /// The link is of no use: its other end broke the ring's rules.
    Broken {
        /// The other end.
        peer: MemberId,
        /// Number of the link.
        link: u64,
    },
    /// A frame for all other members.
    Flood(Flooded<'a>),
}

/// From the hub to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToMember<'a> {
    /// First message. With two descriptors: the doorbell that the member waits on, and memory for its tails.
    Welcome {
        /// The member's own number.
        member: MemberId,
        /// Its own generation.
        generation: u64,
    },
    /// A member is there.
    Up {
        /// Which.
        peer: MemberId,
        /// Tells it from one of the same number before.
        generation: u64,
        /// Where unicast frames go that shall reach it.
        mac: Mac,
    },
    /// A member is gone, and every link to it.
    Down {
        /// Which.
        peer: MemberId,
        /// As in the `Up` that it ends.
        generation: u64,
    },
    /// A new link. With four descriptors: region to write, region to read, doorbell of the peer, tails of the peer to read.
    /// Replaces an older one.
    Link {
        /// The other end.
        peer: MemberId,
        /// Number of the link, never used before.
        link: u64,
    },
    /// The link is no more.
    Unlink {
        /// The other end.
        peer: MemberId,
        /// Number of the link.
        link: u64,
    },
    /// A frame that another member flooded.
    Flood(Flooded<'a>),
}

/// A flooded frame: its mark (0 unless it is traced), then its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flooded<'a> {
    /// Its mark.
    pub(super) mark: Mark,
    /// The frame.
    pub(super) frame: &'a [u8],
}

impl<'a> ToHub<'a> {
    /// Appends the message to `out`, which is emptied before.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Connect { peer } => {
                start(out, CONNECT);
                out.extend(peer.0.to_le_bytes());
            }
            Self::Broken { peer, link } => numbered(out, BROKEN, peer, link),
            Self::Flood(frame) => flood(out, frame),
        }
    }

    /// Reads one datagram.
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, body) = open(datagram)?;
        Ok(match kind {
            CONNECT => Self::Connect {
                peer: MemberId(u32::from_le_bytes(body.try_into().map_err(|_| Malformed)?)),
            },
            BROKEN => {
                let (peer, link) = parse_numbered(body)?;
                Self::Broken { peer, link }
            }
            FLOOD => Self::Flood(parse_frame(body)?),
            _ => return Err(Malformed),
        })
    }
}

impl<'a> ToMember<'a> {
    /// Appends the message to `out`, which is emptied before.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Welcome { member, generation } => numbered(out, WELCOME, member, generation),
            Self::Up {
                peer,
                generation,
                mac,
            } => {
                numbered(out, UP, peer, generation);
                out.extend(mac.0);
            }
            Self::Down { peer, generation } => numbered(out, DOWN, peer, generation),
            Self::Link { peer, link } => numbered(out, LINK, peer, link),
            Self::Unlink { peer, link } => numbered(out, UNLINK, peer, link),
            Self::Flood(frame) => flood(out, frame),
        }
    }

    /// Reads one datagram.
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, body) = open(datagram)?;
        Ok(match kind {
            WELCOME => {
                let (member, generation) = parse_numbered(body)?;
                Self::Welcome { member, generation }
            }
            UP => {
                let (numbers, mac) = body.split_last_chunk().ok_or(Malformed)?;
                let (peer, generation) = parse_numbered(numbers)?;
                Self::Up {
                    peer,
                    generation,
                    mac: Mac(*mac),
                }
            }
            DOWN => {
                let (peer, generation) = parse_numbered(body)?;
                Self::Down { peer, generation }
            }
            LINK => {
                let (peer, link) = parse_numbered(body)?;
                Self::Link { peer, link }
            }
            UNLINK => {
                let (peer, link) = parse_numbered(body)?;
                Self::Unlink { peer, link }
            }
            FLOOD => Self::Flood(parse_frame(body)?),
            _ => return Err(Malformed),
        })
    }
}

fn start(out: &mut Vec<u8>, kind: u8) {
    out.clear();
    out.extend([VERSION, kind]);
}

fn numbered(out: &mut Vec<u8>, kind: u8, peer: MemberId, number: u64) {
    start(out, kind);
    out.extend(peer.0.to_le_bytes());
    out.extend(number.to_le_bytes());
}

fn flood(out: &mut Vec<u8>, flooded: Flooded<'_>) {
    start(out, FLOOD);
    out.extend(flooded.mark.to_bits().to_le_bytes());
    out.extend_from_slice(flooded.frame);
}

fn open(datagram: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match datagram {
        [VERSION, kind, body @ ..] => Ok((*kind, body)),
        _ => Err(Malformed),
    }
}

fn parse_numbered(body: &[u8]) -> Result<(MemberId, u64), Malformed> {
    let (peer, number) = body.split_first_chunk().ok_or(Malformed)?;
    let number = number.try_into().map_err(|_| Malformed)?;
    Ok((
        MemberId(u32::from_le_bytes(*peer)),
        u64::from_le_bytes(number),
    ))
}

fn parse_frame(body: &[u8]) -> Result<Flooded<'_>, Malformed> {
    let (mark, frame) = body.split_first_chunk::<MARK>().ok_or(Malformed)?;
    let mark = Mark::from_bits(u16::from_le_bytes(*mark)).ok_or(Malformed)?;
    if (ETHERNET_HEADER..=MAX_FRAME).contains(&frame.len()) {
        Ok(Flooded { mark, frame })
    } else {
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const P: MemberId = MemberId(0x0102_0304);

    #[test]
    fn the_bytes_of_each_message() {
        let mut out = Vec::new();
        ToHub::Broken { peer: P, link: 9 }.write(&mut out);
        assert_eq!(out, [3, 2, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0]);
        let up = ToMember::Up {
            peer: P,
            generation: 5,
            mac: Mac([2, 0, 0, 0, 0, 7]),
        };
        up.write(&mut out);
        assert_eq!(
            out,
            [3, 17, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 7]
        );
    }

    #[test]
    fn every_message_comes_back_and_no_shorter_or_longer_one() {
        let frame = [7; 60];
        let to_hub = [
            ToHub::Connect { peer: P },
            ToHub::Broken { peer: P, link: 1 },
        ];
        let mut out = Vec::new();
        for message in to_hub {
            message.write(&mut out);
            assert_eq!(ToHub::parse(&out), Ok(message));
            for len in 0..out.len() {
                assert_eq!(ToHub::parse(&out[..len]), Err(Malformed), "{message:?}");
            }
            out.push(0);
            assert_eq!(ToHub::parse(&out), Err(Malformed), "{message:?}");
        }
        let to_member = [
            ToMember::Welcome {
                member: P,
                generation: 1,
            },
            ToMember::Up {
                peer: P,
                generation: 1,
                mac: Mac([2; 6]),
            },
            ToMember::Down {
                peer: P,
                generation: 1,
            },
            ToMember::Link { peer: P, link: 1 },
            ToMember::Unlink { peer: P, link: 1 },
        ];
        for message in to_member {
            message.write(&mut out);
            assert_eq!(ToMember::parse(&out), Ok(message));
            for len in 0..out.len() {
                assert_eq!(ToMember::parse(&out[..len]), Err(Malformed), "{message:?}");
            }
            out.push(0);
            assert_eq!(ToMember::parse(&out), Err(Malformed), "{message:?}");
        }
        let flooded = Flooded {
            mark: Mark::new(3).error(),
            frame: &frame,
        };
        ToHub::Flood(flooded).write(&mut out);
        assert_eq!(ToHub::parse(&out), Ok(ToHub::Flood(flooded)));
        assert_eq!(ToMember::parse(&out), Ok(ToMember::Flood(flooded)));
        assert_eq!(ToHub::parse(&out[..HEADER + MARK + 13]), Err(Malformed));
        out[HEADER + 1] = 0xff;
        assert_eq!(ToHub::parse(&out), Err(Malformed), "no such mark");
        out[HEADER + 1] = 0;
        out.resize(MESSAGE_MAX + 1, 0);
        assert_eq!(ToHub::parse(&out), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_malformed(bytes in proptest::collection::vec(0_u8..40, 0..64)) {
            let mut out = Vec::new();
            if let Ok(message) = ToHub::parse(&bytes) {
                message.write(&mut out);
                prop_assert_eq!(&out, &bytes);
            }
            if let Ok(message) = ToMember::parse(&bytes) {
                message.write(&mut out);
                prop_assert_eq!(&out, &bytes);
            }
        }
    }
}
