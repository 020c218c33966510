//! A crowd of clients behind a masquerading node, and the UDP sessions that they open with servers outside.
//!
//! Session `n` is a number and nothing else: who opens it, from which port and with whom follows from `n`, and every
//! datagram of it carries `n`, so that one that reaches somebody else is found out. All clients use the same source
//! ports, so that of [`CLIENTS`] sessions with equal ports all but one have to be given another.
//!
//! Frames are written and read by offset, without an allocation: what is measured beside it is the router.

use alloc::format;
use alloc::string::String;
use core::net::Ipv4Addr;

use super::packet::naive_checksum;
use super::topology::{self, NODE_A, R_MAC, UPLINK, UPLINK_MAC};
use crate::addr::Mac;
use crate::config::nat::ConntrackConfig;
use crate::config::{LocalAddress, PermanentNeighbour, PortConfig, PortId, Snapshot};

/// Clients, each on a port of its own.
pub const CLIENTS: u16 = 20;
/// Source ports that each client uses with one server.
pub const SOURCE_PORTS: u16 = 1250;
/// Sessions with one server. The node has 64,512 ports for them.
pub const PER_SERVER: u32 = CLIENTS as u32 * SOURCE_PORTS as u32;
/// Bytes of every frame, Ethernet header included.
pub const FRAME_LEN: usize = 60;

/// Number of the first client's port.
const FIRST_PORT: u16 = 10;
const FIRST_SOURCE_PORT: u16 = 10_000;
const SERVER_PORT: u16 = 3478;
/// Where the number of the session stands.
const NUMBER_AT: usize = 42;

/// One frame.
pub type Frame = [u8; FRAME_LEN];

/// The session with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(pub u32);

impl Session {
    fn client(self) -> u16 {
        narrow(self.0 % u32::from(CLIENTS))
    }

    /// The port by which the client's datagrams come in.
    #[must_use]
    pub fn port(self) -> PortId {
        PortId(FIRST_PORT + self.client())
    }

    /// Address and port of the client.
    #[must_use]
    pub fn inside(self) -> (Ipv4Addr, u16) {
        let nth = narrow(self.0 / u32::from(CLIENTS) % u32::from(SOURCE_PORTS));
        (address_of(self.client()), FIRST_SOURCE_PORT + nth)
    }

    /// Address and port of the server.
    #[must_use]
    pub fn server(self) -> (Ipv4Addr, u16) {
        let nth = self.0 / PER_SERVER;
        (Ipv4Addr::from_bits(0xc633_6401 + nth), SERVER_PORT)
    }

    /// What the client sends.
    #[must_use]
    pub fn request(self) -> Frame {
        let client = self.client();
        self.frame(
            mac_of(client),
            client_mac(client),
            self.inside(),
            self.server(),
        )
    }

    /// What the server answers to the node's port `translated`.
    #[must_use]
    pub fn reply(self, translated: u16) -> Frame {
        self.frame(UPLINK_MAC, R_MAC, self.server(), (NODE_A, translated))
    }

    fn frame(self, to: Mac, from: Mac, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Frame {
        let mut frame = [0; FRAME_LEN];
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&from.0);
        frame[12..14].copy_from_slice(&[8, 0]);
        // 46 bytes in all, don't fragment, TTL 64, UDP.
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
        frame[26..30].copy_from_slice(&src.0.octets());
        frame[30..34].copy_from_slice(&dst.0.octets());
        frame[34..36].copy_from_slice(&src.1.to_be_bytes());
        frame[36..38].copy_from_slice(&dst.1.to_be_bytes());
        frame[38..40].copy_from_slice(&[0, 26]);
        frame[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&self.0.to_be_bytes());
        let header = naive_checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        // Zero would say that there is none (RFC 768).
        let transport = match transport_checksum(&frame) {
            0 => 0xffff,
            sum => sum,
        };
        frame[40..42].copy_from_slice(&transport.to_be_bytes());
        frame
    }
}

/// A datagram of a session, somewhere on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The session that it says it belongs to.
    pub session: Session,
    /// Source address and port.
    pub src: (Ipv4Addr, u16),
    /// Destination address and port.
    pub dst: (Ipv4Addr, u16),
    /// Destination MAC.
    pub to: Mac,
}

impl Datagram {
    /// What a frame that the router sent is.
    ///
    /// # Errors
    /// When one of its checksums is wrong, or it is none of the crowd's.
    pub fn read(frame: &[u8]) -> Result<Self, String> {
        let frame: &Frame = frame
            .try_into()
            .map_err(|_| format!("a frame of {} bytes", frame.len()))?;
        if naive_checksum(&frame[14..34]) != 0 {
            return Err("the header checksum does not verify".into());
        }
        if u16_at(frame, 40) == 0 || transport_checksum(frame) != 0 {
            return Err("the UDP checksum does not verify".into());
        }
        let number = [NUMBER_AT, NUMBER_AT + 2].map(|at| u32::from(u16_at(frame, at)));
        Ok(Self {
            session: Session(number[0] << 16 | number[1]),
            src: (address_at(frame, 26), u16_at(frame, 34)),
            dst: (address_at(frame, 30), u16_at(frame, 36)),
            to: Mac([frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]]),
        })
    }
}

/// Node A with the clients as its pods, and room for `limit` connections.
///
/// # Panics
/// Never: the routes are constants.
#[must_use]
pub fn node(limit: u32) -> Snapshot {
    let mut snapshot = topology::resolved(topology::node_a());
    for client in 0..CLIENTS {
        let id = FIRST_PORT + client;
        let port = PortId(id);
        snapshot.ports.push(PortConfig::ethernet(
            id,
            &format!("veth{client}"),
            mac_of(client),
            1500,
        ));
        snapshot.addresses.push(LocalAddress {
            addr: topology::GW_A,
            prefix_len: 32,
            broadcast: None,
            port,
        });
        let ip = address_of(client);
        snapshot
            .routes
            .push(topology::route(&format!("{ip}/32"), port, None));
        snapshot.neighbours.push(PermanentNeighbour {
            port,
            ip,
            mac: client_mac(client),
        });
    }
    let mut snapshot = topology::masquerading(snapshot);
    snapshot.nat.conntrack = ConntrackConfig {
        limit,
        ..ConntrackConfig::default()
    };
    snapshot
}

/// True for a datagram that left the node as the crowd's have to: to its server by R, under the node's address.
#[must_use]
pub fn left_by_masquerade(port: PortId, datagram: &Datagram) -> bool {
    port == UPLINK
        && datagram.to == R_MAC
        && datagram.src.0 == NODE_A
        && datagram.dst == datagram.session.server()
}

/// True for a datagram that reached the client that opened its session, from its server.
#[must_use]
pub fn came_home(port: PortId, datagram: &Datagram) -> bool {
    let session = datagram.session;
    port == session.port()
        && datagram.to == client_mac(session.client())
        && datagram.dst == session.inside()
        && datagram.src == session.server()
}

fn address_of(client: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0af4_0080 + u32::from(client))
}

fn mac_of(client: u16) -> Mac {
    mac(3, client)
}

fn client_mac(client: u16) -> Mac {
    mac(4, client)
}

fn mac(kind: u8, client: u16) -> Mac {
    let [high, low] = client.to_be_bytes();
    Mac([2, 0, 0, kind, high, low])
}

fn narrow(n: u32) -> u16 {
    u16::try_from(n).expect("below the number of clients, or of their ports")
}

fn u16_at(frame: &Frame, at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn address_at(frame: &Frame, at: usize) -> Ipv4Addr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
}

/// Over the pseudo-header, the UDP header as it is and the payload: zero where the checksum in it is right.
fn transport_checksum(frame: &Frame) -> u16 {
    // The addresses stand right before the UDP header; protocol and length follow at the end.
    let mut all = [0; 8 + 26 + 4];
    all[..34].copy_from_slice(&frame[26..60]);
    all[34..].copy_from_slice(&[0, 17, 0, 26]);
    naive_checksum(&all)
}
