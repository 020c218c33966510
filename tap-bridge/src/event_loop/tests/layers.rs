//! A loop whose ports have impairments: what waits there is the loop's affair too.

use super::*;
use crate::layer::Impaired;
use crate::layer::impair::Impairment;
use crate::tails::Tails;

/// More turns than any way of a frame takes, each of which sleeps until there is something to do.
const TURNS: usize = 1000;

fn delayed() -> Impairment {
    Impairment {
        delay: Duration::from_millis(2),
        ..Impairment::default()
    }
}

fn impair(l: &mut EventLoop<Patch>, rx: Impairment, tx: Impairment) {
    assert!(l.change_layers(A, |layers| {
        layers.impaired = Some(Box::new(Impaired::new(rx, tx)));
    }));
}

/// A device that is one of a pair of sockets, as port A; and the other one.
fn device(l: &mut EventLoop<Patch>) -> UnixDatagram {
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let port = TapPort::new(near.into(), "pod", 1500).with_offload(Tails::new().unwrap());
    l.add_port(A, port).unwrap();
    far
}

/// A frame of a device behind its virtio-net header, which says that nothing is left to do.
fn on_device(tag: u8) -> Vec<u8> {
    let mut bytes = vec![0; crate::device::vnet::HEADER];
    bytes.extend([tag; 60]);
    bytes
}

/// The device says nothing any more when the time has come: its port is ready by itself.
#[test]
fn a_frame_that_was_delayed_on_its_way_in_is_received_when_it_is_due() {
    let mut l = patch(&[(A, B)], 8);
    let far = device(&mut l);
    let mut b = Station::attach(&mut l, B);
    impair(&mut l, delayed(), Impairment::default());
    let before = clock::monotonic();
    far.send(&on_device(7)).unwrap();
    let turns = (0..TURNS).find(|_| {
        l.turn(None).unwrap();
        b.port.pending() > 0
    });
    assert!(turns.is_some(), "it came");
    assert!(clock::monotonic().since(before) >= delayed().delay);
    assert_eq!(b.receive(), [7]);
    assert_eq!(l.pool().missing(), 0);
}

/// It is flushed in the breath in which it is due: the device has it, and it does not wait for others of its flow.
#[test]
fn a_frame_that_was_delayed_on_its_way_out_is_with_the_device_when_it_is_due() {
    let mut l = patch(&[(B, A)], 8);
    let far = device(&mut l);
    let mut b = Station::attach(&mut l, B);
    impair(&mut l, Impairment::default(), delayed());
    b.send(9);
    let turns = (0..TURNS).find(|_| {
        l.turn(None).unwrap();
        let layers = l.layers(A).unwrap();
        layers.impaired.as_ref().unwrap().tx.counters().sent == 1
    });
    assert!(turns.is_some(), "it was sent");
    let mut buffer = [0; 200];
    let len = far.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..len], on_device(9));
    assert_eq!(l.pool().missing(), 0);
}

#[test]
fn a_port_is_wrapped_for_as_long_as_it_has_a_layer() {
    let mut l = patch(&[(A, B), (B, A)], 8);
    let (mut a, mut b) = (Station::attach(&mut l, A), Station::attach(&mut l, B));
    assert!(!l.change_layers(PortId(9), |_| {}), "there is no such port");
    assert!(l.layers(A).is_none());
    impair(&mut l, delayed(), Impairment::default());
    assert!(l.layers(A).is_some());
    a.send(1);
    // It waits while the layer is changed, and goes when nothing is to be done any more.
    l.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(b.receive(), []);
    l.change_layers(A, |layers| {
        let both = layers.impaired.as_mut().unwrap();
        both.rx.set(Impairment::default());
    });
    l.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(b.receive(), [1]);
    l.change_layers(A, |layers| layers.impaired = None);
    assert!(l.layers(A).is_none());
    a.send(2);
    l.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(b.receive(), [2]);
    assert_eq!(l.pool().missing(), 0);
}
