//! A name server that knows every name: the answer to an A question is one of the internet's own addresses, always the
//! same for the same name; other types exist and have no records. Source: RFC 1035 4.

use core::fmt;
use core::net::Ipv4Addr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use super::{Service, SocketSet};

const PORT: u16 = 53;

/// Questions and answers that may wait.
const QUEUE: usize = 16;

/// Longest message that is read or sent (RFC 1035 2.3.4), bytes.
const MAX_MESSAGE: usize = 512;

/// Time to live of the records, seconds.
const RECORD_TTL: u32 = 60;

pub(super) struct Dns {
    socket: SocketHandle,
    addresses: Vec<Ipv4Addr>,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

impl Dns {
    pub(super) fn new(sockets: &mut SocketSet<'static>, addresses: Vec<Ipv4Addr>) -> Self {
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; QUEUE],
                vec![0; QUEUE * MAX_MESSAGE],
            )
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        // Fails only for port 0 or a bound socket.
        let _ = socket.bind(PORT);
        Self {
            socket: sockets.add(socket),
            addresses,
        }
    }
}

impl Service for Dns {
    fn run(&mut self, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        for _ in 0..QUEUE {
            let Ok((question, from)) = socket.recv() else {
                return;
            };
            if let Some(answer) = answer(question, &self.addresses) {
                // From the address that was asked. A full queue loses the answer, as UDP may.
                let _ = socket.send_slice(&answer, from);
            }
        }
    }
}

/// Bytes of a message header.
const HEADER: usize = 12;
const QR: u8 = 0x80;
const AA: u8 = 0x04;
const RA: u8 = 0x80;
const FORMAT_ERROR: u8 = 1;
const NOT_IMPLEMENTED: u8 = 4;
const A: u16 = 1;
const IN: u16 = 1;

/// The answer to a message; none to what is no question or too short to be answered at all.
fn answer(message: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let header = message.first_chunk::<HEADER>()?;
    if header[2] & QR != 0 {
        return None;
    }
    let opcode_and_rd = header[2] & 0x79;
    let mut out = vec![header[0], header[1], QR | AA | opcode_and_rd, RA];
    let counts = |out: &mut Vec<u8>, questions: u8, answers: u8| {
        out.extend([0, questions, 0, answers, 0, 0, 0, 0]);
    };
    if opcode_and_rd & 0x78 != 0 {
        out[3] |= NOT_IMPLEMENTED;
        counts(&mut out, 0, 0);
        return Some(out);
    }
    let question = (header[4..6] == [0, 1])
        .then(|| question(&message[HEADER..]))
        .flatten();
    let Some((name_len, kind, class)) = question else {
        out[3] |= FORMAT_ERROR;
        counts(&mut out, 0, 0);
        return Some(out);
    };
    let asked = &message[HEADER..HEADER + name_len + 4];
    let known = (kind == A && class == IN)
        .then(|| choose(&asked[..name_len], addresses))
        .flatten();
    counts(&mut out, 1, u8::from(known.is_some()));
    out.extend_from_slice(asked);
    if let Some(address) = known {
        // A pointer to the question's name.
        out.extend([0xc0, 12]);
        out.extend(A.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend(RECORD_TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}

/// Length of the name, type and class of the question at the start of `bytes`.
fn question(bytes: &[u8]) -> Option<(usize, u16, u16)> {
    const MAX_LABEL: u8 = 63;
    const MAX_NAME: usize = 255;
    let mut at = 0;
    loop {
        let len = *bytes.get(at)?;
        at += 1;
        match len {
            0 => break,
            // Compression makes no sense in the first name of a message.
            1..=MAX_LABEL => at += usize::from(len),
            _ => return None,
        }
        if at >= MAX_NAME {
            return None;
        }
    }
    let &[t0, t1, c0, c1] = bytes.get(at..)?.first_chunk()?;
    Some((
        at,
        u16::from_be_bytes([t0, t1]),
        u16::from_be_bytes([c0, c1]),
    ))
}

/// Names that differ in case only are one name (RFC 1035 2.3.3).
fn choose(name: &[u8], addresses: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let sum: usize = name
        .iter()
        .map(|b| usize::from(b.to_ascii_lowercase()))
        .sum();
    addresses.get(sum.checked_rem(addresses.len())?).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)];

    fn ask(name: &[u8], kind: u8) -> Vec<u8> {
        let mut m = vec![0xbe, 0xef, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split(|&b| b == b'.') {
            m.push(u8::try_from(label.len()).unwrap());
            m.extend(label);
        }
        m.extend([0, 0, kind, 0, 1]);
        m
    }

    /// RFC 1035: the question is repeated and one address follows.
    #[test]
    fn an_a_question_is_answered_with_one_of_the_addresses() {
        let question = ask(b"www.google.com", 1);
        let answer = answer(&question, &ADDRESSES).unwrap();
        assert_eq!(
            answer[..12],
            [0xbe, 0xef, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]
        );
        assert_eq!(answer[12..question.len()], question[12..]);
        let record = &answer[question.len()..];
        assert_eq!(record[..12], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        let address: [u8; 4] = record[12..].try_into().unwrap();
        assert!(ADDRESSES.contains(&address.into()));
        let other_case = super::answer(&ask(b"WWW.Google.com", 1), &ADDRESSES).unwrap();
        assert_eq!(other_case[question.len()..], *record);
    }

    /// Another type of a name that exists: no error and no record.
    #[test]
    fn other_types_have_no_records() {
        let question = ask(b"www.google.com", 28);
        let answer = answer(&question, &ADDRESSES).unwrap();
        assert_eq!(answer[3..8], [0x80, 0, 1, 0, 0]);
        assert_eq!(answer.len(), question.len());
    }

    /// Broken questions get a format error, other operations "not implemented", answers nothing.
    #[test]
    fn what_is_no_question_is_refused() {
        let good = ask(b"a.b", 1);
        let mut cut = good.clone();
        cut.truncate(good.len() - 1);
        assert_eq!(answer(&cut, &ADDRESSES).unwrap()[3], 0x81);
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(answer(&two, &ADDRESSES).unwrap()[3], 0x81);
        let mut pointer = good.clone();
        pointer[12] = 0xc0;
        assert_eq!(answer(&pointer, &ADDRESSES).unwrap()[3], 0x81);
        let mut update = good.clone();
        update[2] = 5 << 3;
        assert_eq!(answer(&update, &ADDRESSES).unwrap()[3], 0x84);
        let mut reply = good.clone();
        reply[2] |= 0x80;
        assert_eq!(answer(&reply, &ADDRESSES), None);
        assert_eq!(answer(&good[..11], &ADDRESSES), None);
        assert_eq!(answer(&good, &[]).unwrap()[7], 0);
    }

    proptest! {
        /// Nothing that is asked can do harm, and no answer is longer than a message may be.
        #[test]
        fn garbage_is_no_panic(message in prop::collection::vec(any::<u8>(), 0..MAX_MESSAGE)) {
            if let Some(answer) = answer(&message, &ADDRESSES) {
                prop_assert!(answer.len() <= message.len() + 16);
            }
        }
    }
}
