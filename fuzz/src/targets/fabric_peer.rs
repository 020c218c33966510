//! The fabric with a member, or a hub, that says and writes what it likes.
//!
//! Holds: nothing panics or reads out of bounds; every frame that is handed in has the length of a frame; all frames are
//! back in their pool; and in the end two honest members still reach each other: a hostile one costs only itself.
//!
//! The hostile member speaks through the same descriptors as an honest one: it writes its shared region through the
//! memfd that the hub gave it, so it needs no unsafe code and no knowledge but the documented layout.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use router_core::frame::{Gso, GsoKind, MAX_FRAME, Offload, Partial};
use router_core::{Batch, FramePool, Mac};
use tap_bridge::fabric::{FabricPort, Hub, MemberId};
use tap_bridge::offload::is_sound;
use tap_bridge::port::{Port as _, Rx};
use tap_bridge::sys::eventfd::Doorbell;
use tap_bridge::sys::{scm, shm};

use crate::input::Input;

const HONEST: u32 = 1;
const HOSTILE: u32 = 2;
const WITNESS: u32 = 3;

/// Cells of a region that mean something, from the layout in `tap_bridge::fabric`'s ring: produced, consumed, sleep, returned,
/// closed, the first descriptors, and what is left to do to the first frames; then cells just behind the ends of things.
const CELLS: [u64; 16] = [
    0,
    8,
    16,
    24,
    32,
    40,
    DESCRIPTORS,
    DESCRIPTORS + 1,
    DESCRIPTORS + 255,
    SLOT_0,
    SLOT_0 + 1,
    SLOT_0 + 2,
    SLOT_0 + 256,
    SLOT_0 + 257,
    SLOT_0 + 255 * 256,
    REGION - 1,
];

const DESCRIPTORS: u64 = 48;
const SLOT_0: u64 = 48 + 256;
const REGION: u64 = SLOT_0 + 256 * 256;

/// Bytes of all tails of a member.
const TAILS: u64 = 64 << 16;

/// Version of the messages.
const VERSION: u8 = 3;

fn mac(id: u32) -> Mac {
    let [a, b, c, d] = id.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

const SUPERFRAME: Offload = Offload {
    partial: Some(Partial {
        start: 34,
        offset: 16,
    }),
    gso: Some(Gso {
        kind: GsoKind::TcpV4,
        size: 1448,
        ecn: false,
    }),
};

/// A member with its pool.
struct Member {
    port: FabricPort,
    pool: FramePool,
    batch: Batch,
}

impl Member {
    fn new(socket: OwnedFd, id: u32) -> std::io::Result<Self> {
        Ok(Self {
            port: FabricPort::new(socket, MemberId(id), mac(id))?,
            pool: FramePool::new(64),
            batch: Batch::new(),
        })
    }

    fn send(&mut self, to: Mac, payload: &[u8]) {
        let mut bytes = to.0.to_vec();
        bytes.extend(self.port.mac().0);
        bytes.extend([8, 0]);
        bytes.extend(payload);
        bytes.resize(bytes.len().max(60), 0);
        let mut frame = self.pool.alloc().expect("every frame came back");
        assert!(frame.fill(&bytes), "a short frame fits");
        // An error means that the hub is gone: the frame is back in the pool then too.
        let _ = self.port.tx(&mut self.pool, frame);
        let _ = self.port.flush(&mut self.pool);
        assert_eq!(
            self.pool.missing(),
            0,
            "tx takes the frame or gives it back"
        );
    }

    /// Takes what is there. True when `wanted` was among it.
    fn receive(&mut self, wanted: &[u8]) -> bool {
        self.port.take_back();
        let mut found = false;
        // A hostile peer may always have more: the budget bounds what it costs.
        for _ in 0..16 {
            let more = self.port.rx(&mut self.pool, &mut self.batch, 32);
            assert!(self.batch.len() <= 32, "the budget is kept");
            for frame in self.batch.as_slice() {
                assert!(
                    (14..=MAX_FRAME).contains(&frame.head_len()),
                    "a frame of {} bytes",
                    frame.len()
                );
                // What it says of itself can be true, and all of it can be read, whatever becomes of it meanwhile.
                assert!(is_sound(frame.offload(), frame.bytes()));
                let mut bytes = vec![0; frame.len() + 1];
                frame.read(0, &mut bytes);
                assert!(frame.len() <= MAX_FRAME + (1 << 16));
                found |=
                    !wanted.is_empty() && frame.bytes().get(14..14 + wanted.len()) == Some(wanted);
            }
            self.batch.free_all(&mut self.pool);
            assert_eq!(self.pool.missing(), 0, "rx keeps no frame");
            if !matches!(more, Ok(Rx::More)) {
                break;
            }
        }
        found
    }

    /// A superframe with a tail in this member's own memory, if one is free.
    fn send_superframe(&mut self, to: Mac, len: usize) {
        let Some(spare) = self.port.tails().take() else {
            return;
        };
        let mut frame = self.pool.alloc().expect("every frame came back");
        let mut bytes = to.0.to_vec();
        bytes.extend(self.port.mac().0);
        bytes.extend([8, 0]);
        bytes.resize(60, 0);
        assert!(frame.fill(&bytes), "a short frame fits");
        frame.set_offload(SUPERFRAME);
        frame.set_tail(spare.filled(len));
        let _ = self.port.tx(&mut self.pool, frame);
        let _ = self.port.flush(&mut self.pool);
        assert_eq!(
            self.pool.missing(),
            0,
            "tx takes the frame or gives it back"
        );
    }

    fn sleep_and_wake(&mut self) {
        let _ = self.port.prepare_sleep();
        self.port.end_sleep();
    }
}

/// A member whose process went mad: its socket and what it was given.
struct Hostile {
    socket: OwnedFd,
    regions: Vec<File>,
    bells: Vec<Doorbell>,
    /// The memory that the hub made for its tails.
    tails: Option<File>,
    buffer: Vec<u8>,
    produced: u64,
}

impl Hostile {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            regions: Vec::new(),
            bells: Vec::new(),
            tails: None,
            buffer: vec![0; 4096],
            produced: 0,
        }
    }

    /// Reads the hub's messages and keeps every descriptor that looks useful.
    fn listen(&mut self) {
        loop {
            let mut fds = Vec::new();
            match scm::recv(self.socket.as_fd(), &mut self.buffer, &mut fds) {
                Ok(1..) => {}
                _ => return,
            }
            let mut fds = fds.into_iter();
            match fds.len() {
                // Bell and tails of its own.
                2 => {
                    let _ = fds.next();
                    self.tails = fds.next().map(File::from);
                }
                // Region to write, region to read, bell of the peer, tails of the peer.
                4 => {
                    self.regions.extend(fds.next().map(File::from));
                    let _ = fds.next();
                    self.produced = 0;
                    self.bells.extend(fds.next().map(Doorbell::from_fd));
                }
                _ => {}
            }
        }
    }

    fn say(&self, datagram: &[u8], with_descriptors: usize) {
        let fd = self.socket.as_fd();
        let fds: Vec<_> = std::iter::repeat_n(fd, with_descriptors).collect();
        let _ = scm::send(fd, datagram, &fds);
    }

    fn write(&self, cell: u64, value: &[u8]) {
        if let Some(region) = self.regions.last() {
            let _ = region.write_at(value, cell * 8);
        }
    }

    /// What is left to do to the frame in a slot, and its tail.
    fn offload(&self, slot: u64, offload: u64, tail: u64) {
        self.write(SLOT_0 + slot * 256, &offload.to_ne_bytes());
        self.write(SLOT_0 + slot * 256 + 1, &tail.to_ne_bytes());
    }

    /// A frame as an honest member would send it, but for the length, slot and mark that its descriptor states.
    fn push(&mut self, frame: &[u8], descriptor: u64) {
        let place = self.produced % 256;
        let slot = SLOT_0 + (descriptor >> 16 & 0xff) * 256;
        self.write(DESCRIPTORS + place, &descriptor.to_ne_bytes());
        self.write(slot + 2, frame);
        self.produced += 1;
        self.write(8, &self.produced.to_ne_bytes());
    }
}

fn hostile_member(input: &mut Input<'_>) {
    let mut hub = Hub::new().expect("the system has an epoll descriptor left");
    let mut join = |id| {
        hub.add_member(MemberId(id), mac(id))
            .expect("a new member with a MAC of its own")
    };
    let mut honest = Member::new(join(HONEST), HONEST).expect("the hub's socket");
    let mut hostile = Hostile::new(join(HOSTILE));
    let mut witness = Member::new(join(WITNESS), WITNESS).expect("the hub's socket");
    let turn = |hub: &mut Hub| {
        hub.turn(Some(Duration::ZERO))
            .expect("no member can break the hub's epoll");
    };
    turn(&mut hub);
    honest.receive(&[]);
    // Most inputs begin with a link between the two.
    honest.send(mac(HOSTILE), b"first");
    turn(&mut hub);
    hostile.listen();
    honest.receive(&[]);

    while !input.is_empty() {
        match input.byte() % 20 {
            0 => {
                let (count, length) = (usize::from(input.byte() % 5), usize::from(input.byte()));
                hostile.say(input.bytes(length), count);
            }
            1 => {
                let peer = u32::from(input.byte() % 5);
                let mut message = vec![VERSION, 1];
                message.extend(peer.to_le_bytes());
                hostile.say(&message, 0);
            }
            2 => {
                let mut message = vec![VERSION, 2];
                message.extend(u32::from(input.byte() % 5).to_le_bytes());
                message.extend(u64::from(input.byte()).to_le_bytes());
                hostile.say(&message, 0);
            }
            3 => {
                let mark = input.byte();
                let frame = input.counted();
                let mut message = vec![VERSION, 32, mark, mark & 3];
                message.extend(frame);
                hostile.say(&message, 0);
            }
            4 | 5 => {
                let cell = CELLS[usize::from(input.byte()) % CELLS.len()];
                let value = match input.byte() % 6 {
                    0 => u64::MAX,
                    1 => 1 << 63,
                    2 => 257,
                    3 => u64::from(input.word()),
                    4 => hostile.produced.wrapping_sub(1),
                    _ => u64::from(input.byte()),
                };
                hostile.write(cell, &value.to_ne_bytes());
            }
            6 => {
                let cell = u64::from(input.word());
                let length = usize::from(input.byte());
                hostile.write(cell, input.bytes(length));
            }
            7 | 8 => {
                let stated = u64::from(input.word());
                let frame = input.counted();
                let length = if stated & 1 == 0 {
                    // The mark, or what is none.
                    frame.len() as u64 | (stated >> 4 & 0x3ff) << 32
                } else {
                    stated
                };
                hostile.push(frame, length);
            }
            9 => hostile.bells.iter().for_each(|bell| drop(bell.ring())),
            10 => honest.send(mac(HOSTILE), b"to the hostile"),
            11 => witness.send(mac(HOSTILE), b"to the hostile"),
            12 => honest.sleep_and_wake(),
            13 => hostile.listen(),
            14 => turn(&mut hub),
            16 => {
                // A superframe whose words are nearly right.
                let (slot, index) = (u64::from(input.byte()), u64::from(input.byte()));
                let len = u64::from(input.word()) + 1;
                let flaw = 1_u64.checked_shl(input.byte().into()).unwrap_or(0);
                let offload = 34 | 16 << 16 | 1448 << 32 | 1 << 48 | 1 << 51;
                hostile.offload(slot, offload ^ flaw, len | index << 32);
                let mut head = [0; 60];
                head[12] = 8;
                hostile.push(&head, 60 | slot << 16 | 1 << 48);
            }
            17 => {
                // Its payload changes while others read it.
                let at = u64::from(input.word()) << 6;
                if let Some(tails) = &hostile.tails {
                    let _ = tails.write_at(input.counted(), at.min(TAILS - 256));
                }
            }
            18 => honest.send_superframe(mac(HOSTILE), 1 + usize::from(input.word())),
            19 => honest.send_superframe(mac(WITNESS), 1 + usize::from(input.word())),
            _ => {
                honest.receive(&[]);
                witness.receive(&[]);
            }
        }
    }
    // To whom it has not read of it sends at a bounded rate only, which its own frames may have used up.
    turn(&mut hub);
    witness.receive(&[]);
    let marker = b"the honest reach each other";
    witness.send(mac(HONEST), marker);
    let arrived = (0..64).any(|_| {
        turn(&mut hub);
        witness.receive(&[]);
        honest.receive(marker)
    });
    assert!(
        arrived,
        "a hostile member cut two honest ones off from each other"
    );
}

/// A member whose hub is not what it was: messages of any shape with descriptors of any kind.
fn hostile_hub(input: &mut Input<'_>) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("two descriptors left");
    let bell = shm::create("fuzz", 1).expect("a descriptor left");
    let mut welcome = vec![VERSION, 16];
    welcome.extend(HONEST.to_le_bytes());
    welcome.extend(1_u64.to_le_bytes());
    // A doorbell that is a file: ringing and silencing it must not matter.
    let tails = shm::create("fuzz", 64 << 13).expect("a descriptor left");
    let _ = scm::send(ours.as_fd(), &welcome, &[bell.as_fd(), tails.as_fd()]);
    let Ok(mut member) = Member::new(theirs, HONEST) else {
        return;
    };
    let (other, _) = UnixStream::pair().expect("two descriptors left");
    // A region of the right size with the right first cell, and one of neither.
    let cells = usize::try_from(REGION).expect("a small number");
    let good = shm::create("fuzz", cells).expect("a descriptor left");
    shm::set(good.as_fd(), 0, u64::from_be_bytes(*b"podwire\x03"))
        .expect("the first cell is there");
    let small = shm::create("fuzz", 4).expect("a descriptor left");
    while !input.is_empty() {
        match input.byte() % 8 {
            op @ 0..=4 => {
                let kind = [17, 18, 19, 20, 32][usize::from(op)];
                let mut message = vec![VERSION, kind];
                if kind == 32 {
                    let mark = input.byte();
                    message.extend([mark, mark & 3]);
                    message.extend(input.counted());
                } else {
                    message.extend(u32::from(input.byte() % 4).to_le_bytes());
                    message.extend(u64::from(input.byte() % 4).to_le_bytes());
                    if kind == 17 {
                        message.extend(mac(u32::from(input.byte() % 4)).0);
                    }
                }
                let given = input.byte();
                let fds: Vec<_> = (0..usize::from(given >> 6))
                    .map(|i| match (given >> (2 * i)) & 3 {
                        0 | 1 => good.as_fd(),
                        2 => small.as_fd(),
                        _ => other.as_fd(),
                    })
                    .collect();
                let fds = if kind == 19 && given & 0x20 != 0 {
                    vec![good.as_fd(), good.as_fd(), good.as_fd(), tails.as_fd()]
                } else {
                    fds
                };
                let _ = scm::send(ours.as_fd(), &message, &fds);
            }
            5 => {
                let length = usize::from(input.byte());
                let _ = scm::send(ours.as_fd(), input.bytes(length), &[]);
            }
            6 => {
                let cell = CELLS[usize::from(input.byte()) % CELLS.len()];
                let _ = rustix::io::pwrite(&good, &u64::from(input.word()).to_ne_bytes(), cell * 8);
            }
            _ => {
                member.send(mac(u32::from(input.byte() % 4)), b"x");
                member.sleep_and_wake();
            }
        }
        member.receive(&[]);
        // What the member says is read, so that its socket never fills for good.
        let mut buffer = [0; 4096];
        let mut fds = Vec::new();
        while matches!(scm::recv(ours.as_fd(), &mut buffer, &mut fds), Ok(1..)) {}
    }
    drop(ours);
    for _ in 0..4 {
        member.receive(&[]);
        member.send(mac(WITNESS), b"x");
    }
}

/// The first byte says who is hostile.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte() & 1 == 0 {
        hostile_member(&mut input);
    } else {
        hostile_hub(&mut input);
    }
}

/// Each attack once, and some of them together.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let attacks: [&[u8]; 16] = [
        &[
            7, 0, 0, 20, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 1, 2, 3, 4, 5, 6, 15,
        ],
        // Lengths, produced and consumed that cannot be.
        &[7, 0xff, 0xff, 3, 1, 2, 3, 15],
        &[4, 1, 0, 15, 14, 15],
        &[4, 1, 2, 15, 14, 13, 10, 15],
        &[4, 2, 0, 10, 15, 14],
        &[4, 3, 0, 10, 9, 12, 15],
        &[6, 0, 32, 8, 1, 2, 3, 4, 5, 6, 7, 8, 15],
        // Messages.
        &[0, 2, 6, 1, 1, 9, 9, 9, 9, 14, 15],
        &[1, 1, 14, 13, 1, 3, 14, 13, 15],
        &[2, 1, 1, 14, 15, 10, 14, 13, 15],
        &[
            3, 0, 20, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 0, 0, 0, 0, 0, 0, 14,
            15,
        ],
        &[0, 4, 0, 14, 10, 14, 11, 14, 13, 15],
        // Superframes: right ones, tails lent twice, no such tail, tails returned that it never had.
        &[16, 0, 5, 0, 80, 99, 15, 17, 0, 20, 3, 1, 2, 3, 15],
        &[16, 0, 5, 0, 80, 99, 16, 1, 5, 0, 80, 99, 15],
        &[16, 0, 64, 0, 80, 99, 15, 14],
        &[
            18, 0, 9, 18, 0, 9, 4, 4, 0, 15, 19, 1, 0, 14, 15, 4, 5, 3, 0, 1, 18, 0, 9, 15,
        ],
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut all = vec![0];
    for attack in attacks {
        let mut one = vec![0];
        one.extend(attack);
        seeds.push(one);
        all.extend(attack);
    }
    seeds.push(all);
    seeds.push(vec![
        1, 0, 2, 1, 2, 0, 7, 2, 2, 2, 1, 0xff, 7, 2, 6, 1, 0, 5, 7, 2, 6, 4, 0, 64, 7, 2,
    ]);
    seeds.push(vec![
        1, 0, 2, 1, 2, 0, 2, 2, 1, 0x6a, 3, 2, 1, 0, 1, 2, 1, 0, 4, 0, 16, 0, 0, 0, 0,
    ]);
    seeds
}
