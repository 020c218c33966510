//! Interfaces with several queues, and the driver's choice of them.

use std::net::Ipv4Addr;

use router_core::Mac;

use super::*;
use crate::sys::netlink::{Changes, RouteSocket};

/// Flows that the test has: enough that a hash doesn't put all of them into one queue.
const FLOWS: u16 = 32;

/// The ports of an interface with two queues, up and with an address, whose peer 192.0.2.2 is known.
fn two_queues(offload: bool) -> Vec<TapPort> {
    let config = TapConfig {
        ifindex: Some(77),
        offload,
        ..TapConfig::named("pod0")
    };
    let queues = create_queues(&config, 2).unwrap();
    assert!(queues.iter().all(|fd| has_offloads(fd) == offload));
    set_address("pod0", [192, 0, 2, 1]).unwrap();
    set_up("pod0", true).unwrap();
    let mut changes = Changes::new();
    changes.neighbour_permanent(77, Ipv4Addr::new(192, 0, 2, 2), Mac([2, 0, 0, 0, 0, 2]));
    RouteSocket::open().unwrap().apply(changes).unwrap();
    let port = |fd| TapPort::new(fd, "pod0", 1500);
    queues.into_iter().map(port).collect()
}

/// The source ports of the UDP datagrams that wait at a queue, in order.
fn waiting(port: &mut TapPort) -> Vec<u16> {
    let mut pool = FramePool::new(256);
    let mut batch = Batch::new();
    assert_eq!(port.rx(&mut pool, &mut batch, 256).unwrap(), Rx::Drained);
    let udp = batch.as_slice().iter().map(Frame::bytes);
    let udp = udp.filter(|f| f[12..14] == [8, 0] && f[23] == 17 && f[30..34] == [192, 0, 2, 2]);
    let ports = udp.map(|f| u16::from_be_bytes([f[34], f[35]])).collect();
    batch.free_all(&mut pool);
    ports
}

#[test]
fn a_flow_stays_with_a_queue_and_follows_the_one_that_answers_it() {
    in_netns(|| {
        let mut queues = two_queues(false);
        let sockets: Vec<_> = (0..FLOWS)
            .map(|_| UdpSocket::bind("192.0.2.1:0").unwrap())
            .collect();
        let say = || {
            for socket in &sockets {
                socket.send_to(b"x", "192.0.2.2:9").unwrap();
            }
        };
        say();
        let chosen = [waiting(&mut queues[0]), waiting(&mut queues[1])];
        let all: usize = chosen.iter().map(Vec::len).sum();
        assert_eq!(all, usize::from(FLOWS));
        assert!(chosen.iter().all(|flows| !flows.is_empty()), "{chosen:?}");
        say();
        assert_eq!([waiting(&mut queues[0]), waiting(&mut queues[1])], chosen);

        let mut pool = FramePool::new(1);
        for &flow in &chosen[0] {
            let f = frame(&mut pool, &udp_frame(flow, b"y"));
            queues[1].tx(&mut pool, f).unwrap();
        }
        say();
        assert_eq!(waiting(&mut queues[0]), []);
        assert_eq!(waiting(&mut queues[1]).len(), usize::from(FLOWS));
    });
}

#[test]
fn queues_have_the_offloads_of_their_interface_and_the_last_one_takes_it_along() {
    in_netns(|| {
        let mut queues = two_queues(true);
        assert_eq!(ifindex("pod0"), Some(77));
        let single = create(&TapConfig::named("pod0")).unwrap_err();
        assert!(matches!(single, TapError::Attach { .. }), "{single}");
        queues.remove(0);
        assert!(ifindex("pod0").is_some());
        queues.clear();
        assert!(ifindex("pod0").is_none());
    });
}
