//! Segments of one flow put together again, so that a device that takes superframes gets one: what Linux calls GRO.
//!
//! ```text
//!   [headers 1|payload] [headers 2|payload] [headers 3|payl]   ->   [headers of all] payload payload payl
//! ```
//!
//! Decides which frames may go together: those that [`segment`](super::segment()) would make of what they are put together
//! to, byte for byte, but for IPv4 identifications that mean nothing (see [`Cant::Ident`]). Doesn't copy: the payload stays
//! in its frames, and the headers in front of it are the [`Train`]'s.
//!
//! Source: Linux `net/ipv4/af_inet.c` (`inet_gro_receive`), `net/ipv6/ip6_offload.c`, `net/ipv4/tcp_offload.c`
//! (`tcp_gro_receive`) and `net/ipv4/udp_offload.c` (`udp_gro_receive_segment`).
//!
//! Cost: headers are compared; a checksum that is complete is verified, one pass over the frame.

#[cfg(test)]
mod tests;

use core::ops::Range;

use super::Layout;
use super::layout::IPV6_LEN;
use crate::frame::{Frame, Gso, GsoKind, Offload};
use crate::wire::checksum::Sum;
use crate::wire::ipv4;
use crate::wire::tcp::{self, ACK, CWR, FIN, PSH, RST, SYN, URG};

/// More than all headers of a [`Layout`] have, without IPv4 options: Ethernet, two tags, two IPv4, TCP with all options.
const MAX_HEADERS: usize = 128;

/// Most datagrams in one (Linux `UDP_GRO_CNT_MAX`).
const MAX_DATAGRAMS: usize = 64;

/// Why a frame can't begin a train, or can't go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cant {
    /// It is no whole TCP or UDP packet whose headers are all there, or has IPv4 options.
    Headers,
    /// It is a superframe, which is as large as it was wanted.
    Superframe,
    /// A length does not say what there is: padding, or bytes missing.
    Length,
    /// A checksum does not verify, or there is none: it would be right afterwards.
    Checksum,
    /// It carries nothing but what its header says (a bare acknowledgement).
    Empty,
    /// TCP with SYN, RST or URG, without ACK, with CWR behind the first, or with other flags than the first.
    Flags,
    /// It is for another station, from another one, in another VLAN, or has another kind of headers than the first.
    Link,
    /// Addresses, TTL, type of service, DF or flow label are not the first one's.
    Network,
    /// Its IPv4 identification is not the next one. That of packets with DF may stay what it is (RFC 6864 4.1), and comes
    /// out rising when they are cut again.
    Ident,
    /// Other ports.
    Flow,
    /// It acknowledges something else, or offers another window, or its urgent pointer is another.
    Acknowledgement,
    /// Its TCP options, timestamps too, are not the first one's.
    Options,
    /// It is not what follows.
    Sequence,
    /// It carries more than the first, and only the last may be of another size.
    Longer,
    /// The last one carried less than the first, or said that there is no hurry to wait for more (PSH, FIN).
    Closed,
    /// A packet has no room for it.
    Full,
}

/// How identifications of one IPv4 header go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idents {
    Any,
    Rising,
    Fixed,
}

/// Frames that go together.
#[derive(Clone, Debug)]
pub struct Train {
    headers: [u8; MAX_HEADERS],
    layout: Layout,
    /// Of the outer IPv4 header and of the inner, or of the only one twice.
    idents: [Idents; 2],
    /// Bytes of payload of each but the last.
    size: usize,
    payload_len: usize,
    count: usize,
    closed: bool,
}

/// A frame that could be part of a train.
struct Piece<'a> {
    layout: Layout,
    headers: &'a [u8],
    payload: &'a [u8],
    flags: u8,
}

impl Train {
    /// A train of one frame.
    ///
    /// # Errors
    /// When such a frame can't be part of one.
    pub fn begin(frame: &Frame) -> Result<Self, Cant> {
        let piece = Piece::of(frame)?;
        let mut headers = [0; MAX_HEADERS];
        let place = headers
            .get_mut(..piece.headers.len())
            .ok_or(Cant::Headers)?;
        place.copy_from_slice(piece.headers);
        Ok(Self {
            headers,
            layout: piece.layout,
            idents: [Idents::Any; 2],
            size: piece.payload.len(),
            payload_len: piece.payload.len(),
            count: 1,
            closed: piece.flags & (PSH | FIN) != 0,
        })
    }

    /// Puts a frame at the end.
    ///
    /// # Errors
    /// When it doesn't belong there; nothing has changed then.
    pub fn push(&mut self, frame: &Frame) -> Result<(), Cant> {
        let piece = Piece::of(frame)?;
        if self.closed {
            return Err(Cant::Closed);
        }
        let idents = self.continued_by(&piece)?;
        self.idents = idents;
        self.count += 1;
        self.payload_len += piece.payload.len();
        // `tcp_gro_receive`: a short one, or one that says so, is the last.
        self.closed = piece.payload.len() < self.size || piece.flags & (PSH | FIN) != 0;
        if self.layout.is_tcp()
            && let Some(flags) = self
                .headers
                .get_mut(usize::from(self.layout.transport) + 13)
        {
            *flags |= piece.flags & (PSH | FIN);
        }
        Ok(())
    }

    /// Whether a piece goes on where this ends, and how its identifications do.
    fn continued_by(&self, piece: &Piece<'_>) -> Result<[Idents; 2], Cant> {
        let at = self.layout;
        let first = &self.headers;
        let (network, transport) = (usize::from(at.network), usize::from(at.transport));
        let same = |range: Range<usize>| {
            let of_piece = piece.headers.get(range.clone());
            first.get(range) == of_piece
        };
        if !at.is_alike(&piece.layout) || !same(0..at.outer.into()) {
            return Err(Cant::Link);
        }
        let mut idents = self.idents;
        for (header, idents) in [usize::from(at.outer), network]
            .into_iter()
            .zip(&mut idents)
        {
            if at.is_v6() {
                // `ipv6_gro_receive`: all but the length.
                if !same(header..header + 4) || !same(header + 6..header + IPV6_LEN) {
                    return Err(Cant::Network);
                }
                continue;
            }
            // `inet_gro_receive`: all but length, identification and checksum.
            if !same(header..header + 2)
                || !same(header + 6..header + 10)
                || !same(header + 12..header + ipv4::HEADER_LEN)
            {
                return Err(Cant::Network);
            }
            *idents = self.ident(*idents, piece, header).ok_or(Cant::Ident)?;
        }
        if !same(transport..transport + 4) {
            return Err(Cant::Flow);
        }
        if at.is_tcp() {
            if !same(transport + 8..transport + 12)
                || !same(transport + 14..transport + 16)
                || !same(transport + 18..transport + 20)
            {
                return Err(Cant::Acknowledgement);
            }
            let of_first = first.get(transport + 13).copied().unwrap_or_default();
            let may_differ = FIN | PSH | CWR;
            if (of_first ^ piece.flags) & !may_differ != 0
                || piece.flags & CWR != 0
                || !same(transport + 12..transport + 13)
            {
                return Err(Cant::Flags);
            }
            if !same(transport + tcp::HEADER_LEN..at.headers_len()) {
                return Err(Cant::Options);
            }
            let sent = u32::try_from(self.payload_len).map_err(|_| Cant::Full)?;
            let expected = long(first, transport + 4).wrapping_add(sent);
            if long(piece.headers, transport + 4) != expected {
                return Err(Cant::Sequence);
            }
        } else if self.count == MAX_DATAGRAMS {
            return Err(Cant::Full);
        }
        if piece.payload.len() > self.size {
            return Err(Cant::Longer);
        }
        let packet = at.headers_len() - usize::from(at.outer);
        if packet + self.payload_len + piece.payload.len() > usize::from(u16::MAX) {
            return Err(Cant::Full);
        }
        Ok(idents)
    }

    /// How the identification of the header at `header` goes on in a piece.
    fn ident(&self, so_far: Idents, piece: &Piece<'_>, header: usize) -> Option<Idents> {
        let (first, now) = (
            word(&self.headers, header + 4),
            word(piece.headers, header + 4),
        );
        let dont_fragment = word(piece.headers, header + 6) & 0x4000 != 0;
        let rises = usize::from(now.wrapping_sub(first)) == self.count;
        let stays = now == first && dont_fragment;
        match so_far {
            Idents::Any | Idents::Rising if rises => Some(Idents::Rising),
            Idents::Any | Idents::Fixed if stays => Some(Idents::Fixed),
            _ => None,
        }
    }

    /// Frames in it.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What is sent in front of the payloads, and what is then left to do: nothing but the checksum for a single frame.
    #[must_use]
    pub fn finish(&mut self) -> (&[u8], Offload) {
        let at = self.layout;
        let written = self.write_headers();
        let kind = match (at.is_tcp(), at.is_v6()) {
            (true, false) => GsoKind::TcpV4,
            (true, true) => GsoKind::TcpV6,
            (false, _) => GsoKind::Udp,
        };
        let flags = self.headers.get(usize::from(at.transport) + 13);
        let gso = u16::try_from(self.size).ok().map(|size| Gso {
            kind,
            size,
            ecn: at.is_tcp() && flags.is_some_and(|flags| flags & CWR != 0),
        });
        let offload = Offload {
            partial: Some(at.partial()),
            gso: gso.filter(|_| self.count > 1),
        };
        debug_assert!(written.is_some(), "headers are within their layout");
        let headers = self.headers.get(..at.headers_len());
        (headers.unwrap_or_default(), offload)
    }

    fn write_headers(&mut self) -> Option<()> {
        let at = self.layout;
        let len = at.headers_len() + self.payload_len;
        let after = |header: u16| u16::try_from(len - usize::from(header)).ok();
        let transport_len = after(at.transport)?;
        for header in [at.outer, at.network] {
            let total_len = after(header)?.to_be_bytes();
            let place = usize::from(header);
            if at.is_v6() {
                self.headers
                    .get_mut(place + 4..place + 6)?
                    .copy_from_slice(&transport_len.to_be_bytes());
            } else {
                let ip = self.headers.get_mut(place..place + ipv4::HEADER_LEN)?;
                ip.get_mut(2..4)?.copy_from_slice(&total_len);
                ipv4::rewrite_checksum(ip);
            }
        }
        let transport = usize::from(at.transport);
        if !at.is_tcp() {
            self.headers
                .get_mut(transport + 4..transport + 6)?
                .copy_from_slice(&transport_len.to_be_bytes());
        }
        let sum = at.pseudo_sum(&self.headers, transport_len)?.fold();
        let field = transport + usize::from(at.partial().offset);
        self.headers
            .get_mut(field..field + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        Some(())
    }

    /// The payload of a frame that was put into it.
    #[must_use]
    pub fn payload<'f>(&self, frame: &'f Frame) -> &'f [u8] {
        frame
            .bytes()
            .get(self.layout.headers_len()..)
            .unwrap_or_default()
    }
}

impl<'a> Piece<'a> {
    fn of(frame: &'a Frame) -> Result<Self, Cant> {
        if frame.is_superframe() || frame.tail().is_some() {
            return Err(Cant::Superframe);
        }
        let bytes = frame.bytes();
        let layout = Layout::of(bytes).ok_or(Cant::Headers)?;
        let (headers, payload) = bytes
            .split_at_checked(layout.headers_len())
            .ok_or(Cant::Headers)?;
        for header in [layout.outer, layout.network] {
            let ip = headers.get(header.into()..).ok_or(Cant::Headers)?;
            let len = bytes.len() - usize::from(header);
            if layout.is_v6() {
                if usize::from(word(ip, 4)) + IPV6_LEN != len {
                    return Err(Cant::Length);
                }
                continue;
            }
            // `inet_gro_receive`: "if (*(u8 *)iph != 0x45)".
            let fixed = ip.first_chunk::<{ ipv4::HEADER_LEN }>();
            let fixed = fixed.filter(|h| h[0] == 0x45).ok_or(Cant::Headers)?;
            if usize::from(word(fixed, 2)) != len {
                return Err(Cant::Length);
            }
            if !Sum::new().add_bytes(fixed).verifies() {
                return Err(Cant::Checksum);
            }
        }
        let transport = usize::from(layout.transport);
        let transport_len = bytes.len() - transport;
        let mut flags = 0;
        if layout.is_tcp() {
            flags = headers.get(transport + 13).copied().unwrap_or_default();
            if flags & (SYN | RST | URG | ACK) != ACK {
                return Err(Cant::Flags);
            }
        } else if usize::from(word(headers, transport + 4)) != transport_len {
            return Err(Cant::Length);
        }
        let piece = Self {
            layout,
            headers,
            payload,
            flags,
        };
        if payload.is_empty() {
            return Err(Cant::Empty);
        }
        piece.verify(frame.offload(), bytes.get(transport..).unwrap_or_default())?;
        Ok(piece)
    }

    /// Looks at the transport checksum; an open one must hold the sum of the pseudo header, so that what is wrong stays so.
    fn verify(&self, offload: Offload, covered: &[u8]) -> Result<(), Cant> {
        let at = self.layout;
        let len = u16::try_from(covered.len()).map_err(|_| Cant::Length)?;
        let pseudo = at.pseudo_sum(self.headers, len).ok_or(Cant::Headers)?;
        let field = word(covered, at.partial().offset.into());
        let right = match offload.partial {
            Some(partial) => partial == at.partial() && field == pseudo.fold(),
            // UDP's zero says that there is none.
            None => (at.is_tcp() || field != 0) && pseudo.add_bytes(covered).verifies(),
        };
        if right { Ok(()) } else { Err(Cant::Checksum) }
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u16::from_be_bytes(*word.unwrap_or(&[0; 2]))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    let long = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_be_bytes(*long.unwrap_or(&[0; 4]))
}
