//! Datagrams of one flow that leave in one breath.

use router_core::testing::{eth, ipv4, udp};

use super::*;

const COUNT: u16 = 10;

/// Sends so many in one breath.
fn send_flow(from: &mut Node, to: Mac) {
    let own = mac(from.id());
    for number in 0..COUNT {
        let link = eth(to, own) / ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()).id(number);
        let bytes = (link / udp(7, 53) / vec![9; 18]).bytes();
        let mut frame = from.pool.alloc().unwrap();
        assert!(frame.fill(&bytes));
        from.port.tx(&mut from.pool, frame).unwrap();
    }
    from.port.flush(&mut from.pool).unwrap();
}

#[test]
fn they_arrive_as_one_and_each_is_counted() {
    let (_hub, mut nodes) = segment(&[1, 2]);
    let (mut b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    pass(&mut a, &mut b, 0);
    let before = a.port.counters().tx_frames;
    send_flow(&mut a, mac(2));
    let got = b.receive_count(1);
    assert_eq!(got.len(), 1);
    assert_eq!(b.port.counters().rx_frames, 2);
    let counters = a.port.counters();
    assert_eq!((counters.tx_frames - before, counters.tx_dropped), (10, 0));
    assert_eq!(a.pool.missing(), 0);
}

/// A receiver that takes nothing: what goes as one is lost as one, and each is counted.
#[test]
fn they_are_lost_as_one_and_each_is_counted() {
    let (_hub, mut nodes) = segment(&[1, 2]);
    let (mut b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    pass(&mut a, &mut b, 0);
    while a.port.counters().tx_dropped == 0 {
        a.send(mac(2), 1);
    }
    send_flow(&mut a, mac(2));
    assert_eq!(a.port.counters().tx_dropped, 1 + u64::from(COUNT));
    assert_eq!(a.pool.missing(), 0);
}
