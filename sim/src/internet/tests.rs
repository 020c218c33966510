//! A client's stack talks to the internet's stack, frame by frame.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::VecDeque;

use router_core::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::*;
use crate::pod::inproc::Sink;

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 3);
const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

#[derive(Default)]
struct Wire(VecDeque<Vec<u8>>);

impl Sink for Wire {
    fn frame(&mut self, frame: &[u8]) {
        self.0.push_back(frame.to_vec());
    }
    fn icmp(&mut self, _: &[u8]) {}
}

/// The client's link: packets in both directions.
#[derive(Default)]
struct Link {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1500;
        caps
    }
}

/// A host next to the internet.
struct Client {
    link: Link,
    iface: Interface,
    sockets: SocketSet<'static>,
}

impl Client {
    fn new() -> Self {
        let mut link = Link::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut iface = Interface::new(config, &mut link, smoltcp::time::Instant::ZERO);
        iface.update_ip_addrs(|addrs| {
            addrs
                .push(IpCidr::new(IpAddress::Ipv4(CLIENT), 24))
                .unwrap();
        });
        iface
            .routes_mut()
            .add_default_ipv4_route(Ipv4Addr::new(172, 16, 30, 1))
            .unwrap();
        Self {
            link,
            iface,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// Carries packets between both until nobody has any. Returns those of the server.
    fn talk(&mut self, now: Instant, server: &mut Stack) -> Vec<Vec<u8>> {
        let micros = i64::try_from(now.as_nanos() / 1000).unwrap();
        let smol_now = smoltcp::time::Instant::from_micros(micros);
        let mut seen = Vec::new();
        let mut wire = Wire::default();
        loop {
            self.iface.poll(smol_now, &mut self.link, &mut self.sockets);
            if self.link.tx.is_empty() {
                return seen;
            }
            for packet in self.link.tx.drain(..) {
                let frame = [&FAR_MAC.0[..], &NEAR_MAC.0, &[8, 0], &packet].concat();
                server.receive(now, &frame, &mut wire);
            }
            for frame in wire.0.drain(..) {
                self.link.rx.push_back(frame[14..].to_vec());
                seen.push(frame);
            }
        }
    }
}

fn internet_stack() -> Stack {
    let config = StackConfig {
        mac: FAR_MAC,
        gateway_mac: NEAR_MAC,
        mtu: 1500,
        addresses: vec![SERVER, Ipv4Addr::new(1, 1, 1, 1)],
        sources: Vec::new(),
        ttl: 117,
        on_link: None,
    };
    stack(config, 1)
}

/// Sends a request over a new connection and returns the answer.
fn http(server: &mut Stack, port: u16, request: &str, now: Instant) -> String {
    let mut client = Client::new();
    let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    let remote = IpEndpoint::new(IpAddress::Ipv4(SERVER), 80);
    socket
        .connect(client.iface.context(), remote, port)
        .unwrap();
    let handle: SocketHandle = client.sockets.add(socket);
    let mut frames = client.talk(now, server);
    let socket = client.sockets.get_mut::<tcp::Socket<'_>>(handle);
    assert!(socket.may_send(), "the connection stands");
    socket.send_slice(request.as_bytes()).unwrap();
    frames.extend(client.talk(now, server));
    let socket = client.sockets.get_mut::<tcp::Socket<'_>>(handle);
    let answer = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
    assert_eq!(socket.state(), tcp::State::CloseWait, "the server closes");
    socket.close();
    frames.extend(client.talk(now, server));
    for frame in frames {
        assert_eq!(frame[14 + 8], 117, "TTL of every packet");
    }
    String::from_utf8(answer).unwrap()
}

/// The page says who was asked and who asks; more connections than sockets work one after the other.
#[test]
fn the_web_server_answers_again_and_again() {
    let mut server = internet_stack();
    let mut now = Instant::from_nanos(1_000_000_000);
    for n in 0..40 {
        let port = 40_000 + n;
        let text = http(&mut server, port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", now);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert_eq!(
            body,
            format!(
                "This is 8.8.8.8 in the simulated internet of podwire.\nYou are 172.16.30.3:{port}.\n"
            )
        );
        now = now + Duration::from_millis(10);
    }
}

/// HEAD has no body, and what is not HTTP is told so.
#[test]
fn the_web_server_knows_head_and_refuses_nonsense() {
    let mut server = internet_stack();
    let now = Instant::from_nanos(1_000_000_000);
    let text = http(&mut server, 40_000, "HEAD / HTTP/1.1\r\n\r\n", now);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"));
    let text = http(&mut server, 40_001, "hello\r\n\r\n", now);
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
}

/// A name server answers from the address that was asked.
#[test]
fn the_name_server_answers_from_the_address_that_was_asked() {
    let mut server = internet_stack();
    let mut client = Client::new();
    let question =
        b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06google\x03com\x00\x00\x01\x00\x01";
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 2048]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(5353).unwrap();
    let remote = IpEndpoint::new(IpAddress::v4(1, 1, 1, 1), 53);
    socket.send_slice(question, remote).unwrap();
    client.sockets.add(socket);
    let frames = client.talk(Instant::ZERO, &mut server);
    let [answer] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(answer[14 + 8], 117);
    assert_eq!(answer[26..30], [1, 1, 1, 1], "source");
    assert_eq!(answer[42..44], [0xbe, 0xef]);
    assert_eq!(answer[42 + 7], 1, "one answer");
}

/// The gateway's configuration is accepted by a router and leads to both sides.
#[test]
fn the_gateway_is_a_valid_router() {
    let spec = InternetSpec {
        addresses: vec![SERVER],
        ttl_at_node: 255,
    };
    let gateway = Gateway {
        addr: "172.16.30.1/24".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 9, 9]),
        mtu: 1500,
    };
    let snapshot = snapshot(&gateway, &spec);
    assert_eq!(snapshot.routes.len(), 2);
    let mut pool = router_core::FramePool::new(1);
    let mut router = router_core::Router::new(router_core::Limits::default(), 1);
    router.apply(Instant::ZERO, snapshot, &mut pool).unwrap();
    let Attachment::Internet { ttl, .. } = attachment(&spec) else {
        panic!()
    };
    assert_eq!(ttl, 255, "there is no TTL above");
}
