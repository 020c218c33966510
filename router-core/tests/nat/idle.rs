//! TCP that says nothing for ten minutes, in virtual time.

use super::*;
use crate::tcp::with_window;

const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;

/// A connection of a1 to X:80 that has been idle for ten minutes.
struct Idle(Harness);

impl Idle {
    fn new(snapshot: Snapshot) -> Self {
        let mut idle = Self(Harness::new(snapshot));
        idle.client(0x02, 9, 0, b"");
        idle.server(0x12, 69, 10, b"");
        idle.client(ACK, 10, 70, b"");
        idle.0.advance(secs(600));
        // The neighbours may have been asked meanwhile.
        idle.0.take_all();
        idle
    }

    /// A segment of the pod; it must come out as from the node, its port kept.
    fn client(&mut self, flags: u8, seq: u32, ack: u32, data: &[u8]) {
        let segment = |link: Packet, ip: Packet| {
            let tcp = tcp(4000, 80, flags).seq(seq).ack(ack);
            with_window((link / (ip / tcp / data.to_vec())).bytes(), 30_000, &[])
        };
        self.0.rx_bytes(&[(POD1, segment(a1(), ipv4(A1, X)))]);
        let expected = segment(to_r(), ipv4(NODE_A, X).ttl(63));
        assert_eq!(self.0.take_all(), [(UPLINK, expected)]);
    }

    /// A segment of the server; gives what came of it.
    fn try_server(&mut self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        let tcp = tcp(80, 4000, flags).seq(seq).ack(ack) / data.to_vec();
        let frame = with_window((r() / (ipv4(X, NODE_A) / tcp)).bytes(), 30_000, &[]);
        self.0.rx_bytes(&[(UPLINK, frame)]);
        self.0.take_all()
    }

    fn server(&mut self, flags: u8, seq: u32, ack: u32, data: &[u8]) {
        let came = self.try_server(flags, seq, ack, data);
        let tcp = tcp(80, 4000, flags).seq(seq).ack(ack) / data.to_vec();
        let expected = (to_a1() / (ipv4(X, A1).ttl(63) / tcp)).bytes();
        assert_eq!(came, [(POD1, with_window(expected, 30_000, &[]))]);
    }
}

/// NAT-30: ten idle minutes do not matter to a TCP connection, whoever speaks first afterwards.
#[test]
fn a_tcp_connection_outlives_ten_idle_minutes() {
    let mut idle = Idle::new(node());
    let all = sessions(&idle.0);
    assert_eq!(all[0].expires_in, secs(432_000 - 600));
    idle.server(PSH_ACK, 70, 10, b"data");
    idle.client(PSH_ACK, 10, 74, b"more");
    assert_eq!(sessions(&idle.0).len(), 1);
}

/// NAT-33: where its timer is shorter than that it is forgotten. What the inside says picks it up under the port that it
/// had; if the outside speaks first that is for the node itself, as Linux has it, and reaches nobody in the pod (NAT-14).
#[test]
fn a_forgotten_tcp_connection_is_picked_up_by_the_inside() {
    let mut snapshot = node();
    snapshot.nat.conntrack.timers.tcp_established = secs(600);
    let mut idle = Idle::new(snapshot.clone());
    assert!(sessions(&idle.0).is_empty());
    idle.client(PSH_ACK, 10, 70, b"more");
    idle.server(PSH_ACK, 70, 14, b"data");
    let left = sessions(&idle.0)[0].expires_in;
    assert_eq!(left, secs(300), "data was not acknowledged yet");

    let mut idle = Idle::new(snapshot.clone());
    let came = idle.try_server(PSH_ACK, 70, 10, b"data");
    assert!(came.iter().all(|(port, _)| *port != POD1), "{came:?}");

    // A second more, and it is there still.
    snapshot.nat.conntrack.timers.tcp_established = secs(601);
    let mut idle = Idle::new(snapshot);
    idle.server(PSH_ACK, 70, 10, b"data");
}
