//! Frames on the control sockets: how a message becomes bytes and descriptors, and back.
//!
//! A frame is a header of 4 bytes and a body of JSON. The header is little-endian: the low 26 bits are the length of the
//! body (at most [`MAX_FRAME`]), the high 6 bits the number of descriptors that belong to the frame (at most 32). The
//! descriptors ride on the header's first byte, so that they are there before the frame is complete; the count says
//! which frame they belong to when one read brings parts of two.
//!
//! [`Decoder`] is a pure function of the bytes pushed into it and serves nonblocking sockets; [`Connection`] is a
//! blocking peer with a deadline. Neither trusts the other side: lengths are bounded before anything is allocated for
//! them, surplus descriptors are an error, and everything that was received is closed with its owner.
//! Cost: one copy of the bytes on each side; memory at most one frame and one read buffer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tap_bridge::sys::scm;

use super::proto::{Hello, MAX_FRAME, VERSION};

pub use tap_bridge::sys::scm::{MAX_FDS, PeerCredentials, peer_credentials};

const HEADER: usize = 4;
const LENGTH_BITS: u32 = 26;
const LENGTH_MASK: u32 = (1 << LENGTH_BITS) - 1;
const _: () = assert!(MAX_FRAME <= LENGTH_MASK && MAX_FDS < 1 << (32 - LENGTH_BITS));

/// Bytes that one read asks for.
const READ_CHUNK: usize = 64 << 10;

/// Descriptors that may wait for their frame: those of one frame and of one read behind it.
const MAX_WAITING_FDS: usize = 2 * MAX_FDS;

/// Why a message could not be sent or received. The connection is of no use afterwards, except after
/// [`CodecError::TimedOut`] of a receive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer closed between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The peer closed inside a frame.
    #[error("the connection was closed in the middle of a message")]
    Truncated,
    /// A frame was announced, or was to be sent, that is longer than [`MAX_FRAME`].
    #[error("a message of {length} bytes is longer than the limit of {MAX_FRAME}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// More descriptors than [`MAX_FDS`] on a frame, or descriptors that no frame announced, or fewer than announced.
    #[error("the number of descriptors does not fit the message")]
    Descriptors,
    /// The body is not the JSON of the expected type.
    #[error("a message could not be understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// The peer speaks another version of the protocol.
    #[error(
        "this is podwire {} (protocol {VERSION}), the other side is podwire {program} (protocol {version}): \
         use the same program, or take the lab down with the one that started it",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// The peer's [`VERSION`].
        version: u32,
        /// The peer's program version.
        program: String,
    },
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for CodecError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Body and descriptors of one frame.
#[derive(Debug)]
pub struct RawFrame {
    /// JSON, not yet looked at.
    pub body: Bytes,
    /// The descriptors that came with it, in order.
    pub fds: Vec<OwnedFd>,
}

impl RawFrame {
    /// Reads the body as a `T`.
    ///
    /// # Errors
    /// [`CodecError::Json`]; the descriptors are closed then.
    pub fn parse<T: DeserializeOwned>(self) -> Result<(T, Vec<OwnedFd>), CodecError> {
        Ok((serde_json::from_slice(&self.body)?, self.fds))
    }
}

/// Header and body of a frame that carries `fds` descriptors.
///
/// # Errors
/// [`CodecError::TooLong`], [`CodecError::Descriptors`], [`CodecError::Json`].
pub fn encode<T: Serialize + ?Sized>(message: &T, fds: usize) -> Result<Vec<u8>, CodecError> {
    let count = u32::try_from(fds)
        .ok()
        .filter(|_| fds <= MAX_FDS)
        .ok_or(CodecError::Descriptors)?;
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    let header = u32::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_FRAME)
        .ok_or(CodecError::TooLong { length })?
        | count << LENGTH_BITS;
    bytes[..HEADER].copy_from_slice(&header.to_le_bytes());
    Ok(bytes)
}

/// Takes bytes and descriptors as they come and gives frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends descriptors that came with what was pushed.
    ///
    /// # Errors
    /// [`CodecError::Descriptors`] when more wait than any sequence of frames explains; all are closed then.
    pub fn push_fds(&mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Result<(), CodecError> {
        self.fds.extend(fds);
        if self.fds.len() > MAX_WAITING_FDS {
            self.fds.clear();
            return Err(CodecError::Descriptors);
        }
        Ok(())
    }

    /// The next whole frame; none when more bytes are needed.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] and [`CodecError::Descriptors`]: the stream can't be followed any further.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>, CodecError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = u32::from_le_bytes(*header);
        let length = header & LENGTH_MASK;
        let count = (header >> LENGTH_BITS) as usize;
        if length > MAX_FRAME {
            let length = length as usize;
            return Err(CodecError::TooLong { length });
        }
        // They came with the header's first byte.
        if count > MAX_FDS || count > self.fds.len() {
            return Err(CodecError::Descriptors);
        }
        if self.bytes.len() < HEADER + length as usize {
            return Ok(None);
        }
        self.bytes.advance(HEADER);
        let body = self.bytes.split_to(length as usize).freeze();
        let fds = self.fds.drain(..count).collect();
        if self.bytes.is_empty() && !self.fds.is_empty() {
            // Nothing is left that could claim them.
            return Err(CodecError::Descriptors);
        }
        Ok(Some(RawFrame { body, fds }))
    }

    /// True between two frames: an end of file is then no truncation.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once from a socket, without blocking.
    ///
    /// # Errors
    /// [`CodecError::Closed`] or [`CodecError::Truncated`] at the end of file; [`CodecError::Io`] with `WouldBlock` when
    /// nothing is there.
    pub fn read_from(&mut self, socket: BorrowedFd<'_>) -> Result<(), CodecError> {
        let start = self.bytes.len();
        self.bytes.resize(start + READ_CHUNK, 0);
        let mut fds = Vec::new();
        let got = scm::recv(socket, &mut self.bytes[start..], &mut fds);
        self.bytes.truncate(start + *got.as_ref().unwrap_or(&0));
        let got = got?;
        self.push_fds(fds)?;
        match got {
            0 if self.is_idle() => Err(CodecError::Closed),
            0 => Err(CodecError::Truncated),
            _ => Ok(()),
        }
    }
}

/// One end of a control socket, used by one thread that may wait.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    deadline: Option<Instant>,
}

impl Connection {
    /// Speaks over a connected stream socket. Without a deadline until [`Connection::set_deadline`].
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            decoder: Decoder::new(),
            deadline: None,
        }
    }

    /// Two connections that are each other's peer.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Self::new(a.into()), Self::new(b.into())))
    }

    /// From when on [`Connection::send`] and [`Connection::recv`] fail with [`CodecError::TimedOut`]; none waits for ever.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Sends one message with descriptors.
    ///
    /// # Errors
    /// [`CodecError`]; after a part was sent the connection is of no use.
    pub fn send<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), CodecError> {
        let bytes = encode(message, fds.len())?;
        let (mut rest, mut fds) = (&bytes[..], fds);
        while !rest.is_empty() {
            match scm::send(self.socket.as_fd(), rest, fds) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or_default();
                    // They went with the first byte.
                    fds = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(CodecError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives one message with its descriptors.
    ///
    /// # Errors
    /// [`CodecError`]; after [`CodecError::TimedOut`] nothing is lost and it can be tried again.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), CodecError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return frame.parse();
            }
            match self.decoder.read_from(self.socket.as_fd()) {
                Err(CodecError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN)?;
                }
                Err(CodecError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(CodecError::Closed);
                }
                other => other?,
            }
        }
    }

    /// The client's side of the greeting: says who we are, then hears who the peer is.
    ///
    /// # Errors
    /// [`CodecError::Version`] when the peer speaks another version; else as [`Connection::recv`].
    pub fn greet(&mut self) -> Result<Hello, CodecError> {
        self.send(&Hello::ours(), &[])?;
        self.hear_hello()
    }

    /// The server's side of the greeting: hears the client, and answers in any case so that the client can tell the
    /// versions.
    ///
    /// # Errors
    /// As [`Connection::greet`].
    pub fn welcome(&mut self) -> Result<Hello, CodecError> {
        let theirs = self.hear_hello();
        if matches!(theirs, Ok(_) | Err(CodecError::Version { .. })) {
            self.send(&Hello::ours(), &[])?;
        }
        theirs
    }

    fn hear_hello(&mut self) -> Result<Hello, CodecError> {
        let (hello, _): (Hello, _) = self.recv()?;
        if hello.version == VERSION {
            Ok(hello)
        } else {
            let Hello { version, program } = hello;
            Err(CodecError::Version { version, program })
        }
    }

    /// Who opened the other end.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.socket.as_fd())
    }

    /// Waits until the socket is ready for `what` (or broken, which the next call will tell).
    fn wait(&self, what: PollFlags) -> Result<(), CodecError> {
        loop {
            let timeout = match self.deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(CodecError::TimedOut);
                    }
                    Some(Timespec::try_from(left).map_err(|_| CodecError::TimedOut)?)
                }
            };
            let mut fds = [PollFd::new(&self.socket, what)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.socket
    }
}

impl Hello {
    /// What this program says.
    #[must_use]
    pub fn ours() -> Self {
        Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn connection() -> (Connection, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        (Connection::new(a.into()), b)
    }

    /// Messages come out as they went in, however long, one after the other.
    #[test]
    fn messages_round_trip_in_order() {
        let (mut a, mut b) = Connection::pair().unwrap();
        let long = "x".repeat(3 << 20);
        let expected = long.clone();
        let sender = std::thread::spawn(move || {
            a.send("first", &[]).unwrap();
            a.send(&long, &[]).unwrap();
            a.send("last", &[]).unwrap();
        });
        assert_eq!(b.recv::<String>().unwrap().0, "first");
        assert_eq!(b.recv::<String>().unwrap().0, expected);
        assert_eq!(b.recv::<String>().unwrap().0, "last");
        sender.join().unwrap();
        assert!(matches!(b.recv::<String>(), Err(CodecError::Closed)));
    }

    /// Descriptors stay with their message even when one read brings several messages.
    #[test]
    fn descriptors_stay_with_their_message() {
        let (mut a, mut b) = Connection::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let (other, _keep) = UnixStream::pair().unwrap();
        a.send("none", &[]).unwrap();
        a.send("two", &[other.as_fd(), far.as_fd()]).unwrap();
        a.send("none", &[]).unwrap();
        a.send("one", &[far.as_fd()]).unwrap();
        drop(far);
        let counts: Vec<_> = (0..4)
            .map(|_| b.recv::<String>().unwrap())
            .map(|(text, fds)| (text, fds.len(), fds))
            .collect();
        let seen: Vec<_> = counts.iter().map(|(t, n, _)| (t.as_str(), *n)).collect();
        assert_eq!(seen, [("none", 0), ("two", 2), ("none", 0), ("one", 1)]);
        let (_, _, mut fds) = counts.into_iter().nth(1).unwrap();
        UnixStream::from(fds.pop().unwrap())
            .write_all(b"hi")
            .unwrap();
        let mut text = [0; 2];
        near.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hi");
    }

    /// A message that was received and not taken closes its descriptors: the peer sees the end of file.
    #[test]
    fn descriptors_nobody_takes_are_closed() {
        let (mut a, mut b) = Connection::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        a.send(&1, &[far.as_fd()]).unwrap();
        a.send(&2, &[far.as_fd()]).unwrap();
        drop(far);
        // The wrong type: the message is lost, and its descriptor with it.
        assert!(matches!(b.recv::<String>(), Err(CodecError::Json(_))));
        drop(b);
        near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(near.read(&mut [0; 1]).unwrap(), 0);
    }

    /// A length above the limit is refused before a byte of it arrives.
    #[test]
    fn an_announced_giant_is_refused() {
        let (mut a, mut raw) = connection();
        raw.write_all(&(MAX_FRAME + 1).to_le_bytes()).unwrap();
        let error = a.recv::<String>().unwrap_err();
        assert!(matches!(error, CodecError::TooLong { .. }), "{error}");
    }

    /// A message that would be too long is not sent at all.
    #[test]
    fn a_giant_is_not_sent() {
        let (mut a, raw) = connection();
        let error = a.send(&"x".repeat(MAX_FRAME as usize), &[]).unwrap_err();
        assert!(matches!(error, CodecError::TooLong { .. }), "{error}");
        raw.set_nonblocking(true).unwrap();
        let error = (&raw).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// An end of file inside a message is told from one between messages.
    #[test]
    fn an_end_inside_a_message_is_truncation() {
        let (mut a, mut raw) = connection();
        raw.write_all(&encode("hello", 0).unwrap()[..7]).unwrap();
        drop(raw);
        assert!(matches!(a.recv::<String>(), Err(CodecError::Truncated)));
    }

    /// Announced descriptors that did not come, and descriptors that were not announced, are errors.
    #[test]
    fn descriptor_counts_must_fit() {
        let (mut a, mut raw) = connection();
        raw.write_all(&encode("x", 1).unwrap()).unwrap();
        assert!(matches!(a.recv::<String>(), Err(CodecError::Descriptors)));
        let (mut a, raw) = connection();
        let (_near, far) = UnixStream::pair().unwrap();
        scm::send(raw.as_fd(), &encode("x", 0).unwrap(), &[far.as_fd()]).unwrap();
        assert!(matches!(a.recv::<String>(), Err(CodecError::Descriptors)));
    }

    /// A receive gives up at its deadline, loses nothing, and can be repeated.
    #[test]
    fn a_deadline_ends_the_wait() {
        let (mut a, mut raw) = connection();
        let bytes = encode("late", 0).unwrap();
        raw.write_all(&bytes[..5]).unwrap();
        a.set_deadline(Some(Instant::now() + Duration::from_millis(5)));
        assert!(matches!(a.recv::<String>(), Err(CodecError::TimedOut)));
        raw.write_all(&bytes[5..]).unwrap();
        a.set_deadline(None);
        assert_eq!(a.recv::<String>().unwrap().0, "late");
    }

    /// A send to a peer that does not read gives up at its deadline.
    #[test]
    fn a_full_socket_ends_at_the_deadline() {
        let (mut a, _raw) = connection();
        a.set_deadline(Some(Instant::now() + Duration::from_millis(5)));
        let error = a.send(&"x".repeat(8 << 20), &[]).unwrap_err();
        assert!(matches!(error, CodecError::TimedOut), "{error}");
    }

    /// Both sides learn the other's version when they differ, and the message names both.
    #[test]
    fn a_version_mismatch_is_told_to_both() {
        let (mut client, mut server) = Connection::pair().unwrap();
        let old = Hello {
            version: VERSION + 1,
            program: "9.9.9".into(),
        };
        client.send(&old, &[]).unwrap();
        let error = server.welcome().unwrap_err();
        let text = error.to_string();
        let told = format!("podwire 9.9.9 (protocol {})", VERSION + 1);
        assert!(text.contains(&told), "{text}");
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
        assert_eq!(client.hear_hello().unwrap(), Hello::ours());
    }

    /// Equal versions greet each other.
    #[test]
    fn equal_versions_greet() {
        let (mut client, mut server) = Connection::pair().unwrap();
        let server = std::thread::spawn(move || server.welcome().map(drop));
        assert_eq!(client.greet().unwrap(), Hello::ours());
        server.join().unwrap().unwrap();
    }

    fn decode_all(chunks: &[&[u8]]) -> Result<Vec<Bytes>, CodecError> {
        let mut decoder = Decoder::new();
        let mut bodies = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame()? {
                bodies.push(frame.body);
            }
        }
        Ok(bodies)
    }

    proptest! {
        /// Where the stream is cut makes no difference.
        #[test]
        fn cuts_make_no_difference(texts in prop::collection::vec(".{0,40}", 0..6), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let stream: Vec<u8> = texts.iter().flat_map(|t| encode(t, 0).unwrap()).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let bodies = decode_all(&chunks).unwrap();
            let decoded: Vec<String> = bodies.iter().map(|b| serde_json::from_slice(b).unwrap()).collect();
            prop_assert_eq!(decoded, texts);
        }

        /// Garbage is an error or not enough, never a panic, and what comes out is not longer than what went in.
        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(bodies) = decode_all(&[&bytes]) {
                prop_assert!(bodies.iter().map(|b| b.len() + HEADER).sum::<usize>() <= bytes.len());
            }
        }
    }
}
