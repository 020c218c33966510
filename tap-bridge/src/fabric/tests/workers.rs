//! Nodes with several workers, each a member.

use super::*;

/// A worker of the node whose first member is `first`.
fn worker(hub: &HubHandle, id: u32, first: u32) -> Node {
    let socket = if id == first {
        hub.add_member(MemberId(id), mac(first))
    } else {
        hub.add_worker(MemberId(id), MemberId(first))
    };
    let port = FabricPort::new(socket.unwrap(), MemberId(id), mac(first)).unwrap();
    Node {
        port: port.with_worker(usize::try_from(id - first).unwrap()),
        pool: FramePool::new(64),
    }
}

/// A member, its node's first; the same of the receiver; who gets it.
const WAYS: [(u32, u32, u32); 7] = [
    (1, 3, 3),
    (2, 3, 4),
    (6, 3, 3),
    (2, 6, 6),
    (3, 1, 1),
    (4, 1, 2),
    (5, 1, 1),
];

#[test]
fn a_worker_sends_to_the_worker_of_its_number_counted_round() {
    let (hub, _thread) = Hub::spawn().unwrap();
    // Two workers, three, one.
    let members = [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 6)];
    let mut nodes: BTreeMap<u32, Node> = members
        .into_iter()
        .map(|(id, first)| (id, worker(&hub, id, first)))
        .collect();
    for node in nodes.values_mut() {
        node.knows(members.len() - 1);
    }
    for (number, (from, to, gets)) in (0..).zip(WAYS) {
        let sender = nodes.get_mut(&from).unwrap();
        sender.send(mac(to), number);
        assert_eq!(sender.until(|port, _| port.is_linked(MemberId(gets))), []);
        let from = u8::try_from(from).unwrap();
        let receiver = nodes.get_mut(&gets).unwrap();
        assert_eq!(receiver.receive_count(1), [(from, number)], "to {to}");
    }
    assert!(nodes.values_mut().all(|node| node.receive().is_empty()));
}

/// A node's own address is nobody else's: what is sent there is unknown, and no sibling gets it as its own.
#[test]
fn workers_of_one_node_are_not_linked() {
    let (hub, _thread) = Hub::spawn().unwrap();
    let mut first = worker(&hub, 1, 1);
    let mut second = worker(&hub, 2, 1);
    first.knows(1);
    second.send(mac(1), 7);
    assert_eq!(second.port.pending(), 0);
    assert_eq!(first.receive(), []);
}
