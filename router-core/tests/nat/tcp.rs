//! TCP through connection tracking (section 4.3): states, windows, resets.

use super::*;
use router_core::config::nat::{ConntrackConfig, Timers};
use router_core::{DropReason, TcpState};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;
const RST_ACK: u8 = 0x14;

/// Initial numbers of client and server.
const C: u32 = 1000;
const S: u32 = 90_000;

/// A node with these timers, and a connection of a1 to X:80 through it.
struct Link {
    h: Harness,
    client_port: u16,
}

impl Link {
    fn new(config: ConntrackConfig) -> Self {
        let mut snapshot = node();
        snapshot.nat.conntrack = config;
        Self {
            h: Harness::new(snapshot),
            client_port: 4000,
        }
    }

    fn segment(src: Ipv4Addr, dst: Ipv4Addr, tcp: Packet) -> Packet {
        ipv4(src, dst) / tcp
    }

    /// From the pod: true when it came out translated, false when nothing did.
    fn client(&mut self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> bool {
        let header = || tcp(self.client_port, 80, flags).seq(seq).ack(ack) / data.to_vec();
        self.h.rx(POD1, &(a1() / Self::segment(A1, X, header())));
        let sent = self.h.take_all();
        if let [(port, frame)] = sent.as_slice() {
            assert_eq!(*port, UPLINK);
            let expected = to_r() / (ipv4(NODE_A, X).ttl(63) / header());
            assert_eq!(*frame, expected.bytes());
        }
        assert!(sent.len() <= 1);
        sent.len() == 1
    }

    /// From the server.
    fn server(&mut self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> bool {
        let header = || tcp(80, self.client_port, flags).seq(seq).ack(ack) / data.to_vec();
        self.h
            .rx(UPLINK, &(r() / Self::segment(X, NODE_A, header())));
        let sent = self.h.take_all();
        if let [(port, frame)] = sent.as_slice() {
            assert_eq!(*port, POD1, "to the pod and nobody else");
            let expected = to_a1() / (ipv4(X, A1).ttl(63) / header());
            assert_eq!(*frame, expected.bytes());
        }
        assert!(sent.len() <= 1);
        sent.len() == 1
    }

    fn open() -> Self {
        let mut link = Self::new(ConntrackConfig::default());
        link.handshake();
        link
    }

    fn handshake(&mut self) {
        assert!(self.client(SYN, C, 0, b""));
        assert_eq!(self.state(), Some(TcpState::SynSent));
        assert!(self.server(SYN | ACK, S, C + 1, b""));
        assert_eq!(self.state(), Some(TcpState::SynRecv));
        assert!(self.client(ACK, C + 1, S + 1, b""));
        assert_eq!(self.state(), Some(TcpState::Established));
    }

    fn state(&self) -> Option<TcpState> {
        sessions(&self.h).first().and_then(|s| s.tcp)
    }

    fn expires_in(&self) -> Duration {
        sessions(&self.h)[0].expires_in
    }
}

/// A TCP header with this window, which the builder leaves at zero.
pub(crate) fn with_window(mut frame: Vec<u8>, window: u16, options: &[u8]) -> Vec<u8> {
    let tcp = 34;
    frame[tcp + 14..tcp + 16].copy_from_slice(&window.to_be_bytes());
    assert!(options.len().is_multiple_of(4));
    let words = u8::try_from(5 + options.len() / 4).expect("a frame of a test is short");
    frame[tcp + 12] = words << 4;
    frame.splice(tcp + 20..tcp + 20, options.iter().copied());
    let total = u16::try_from(frame.len() - 14).expect("a frame of a test is short");
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[24..26].fill(0);
    let sum = sum16(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[tcp + 16..tcp + 18].fill(0);
    let mut pseudo = frame[26..34].to_vec();
    let len = u16::try_from(frame.len() - tcp).expect("a frame of a test is short");
    pseudo.extend([0, 6]);
    pseudo.extend(len.to_be_bytes());
    pseudo.extend(&frame[tcp..]);
    let sum = sum16(&pseudo);
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// RFC 1071, word by word.
pub(crate) fn sum16(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u32::from(b)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("a folded sum has 16 bits")
}

/// NAT-30: each state has its timer. The instant before it ends the connection is there, at its end it is not.
#[test]
fn every_state_has_its_timer() {
    let t = Timers::default();
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(SYN, C, 0, b""));
    assert_eq!(link.expires_in(), t.tcp_syn_sent);
    assert!(link.server(SYN | ACK, S, C + 1, b""));
    assert_eq!(link.expires_in(), t.tcp_syn_recv);
    assert!(link.client(ACK, C + 1, S + 1, b""));
    // The builder's windows are zero, which counts as a peer that does not read.
    assert_eq!(link.expires_in(), t.tcp_max_retrans);
    assert!(link.client(FIN_ACK, C + 1, S + 1, b""));
    assert_eq!(
        (link.state(), link.expires_in()),
        (Some(TcpState::FinWait), t.tcp_fin_wait)
    );
    assert!(link.server(ACK, S + 1, C + 2, b""));
    assert_eq!(
        (link.state(), link.expires_in()),
        (Some(TcpState::CloseWait), t.tcp_close_wait)
    );
    assert!(link.server(FIN_ACK, S + 1, C + 2, b""));
    assert_eq!(
        (link.state(), link.expires_in()),
        (Some(TcpState::LastAck), t.tcp_last_ack)
    );
    assert!(link.client(ACK, C + 2, S + 2, b""));
    assert_eq!(
        (link.state(), link.expires_in()),
        (Some(TcpState::TimeWait), t.tcp_time_wait)
    );
    link.h.advance(t.tcp_time_wait - Duration::from_nanos(1));
    assert_eq!(link.state(), Some(TcpState::TimeWait));
    link.h.advance(Duration::from_nanos(1));
    assert_eq!(link.state(), None);
}

/// NAT-30: open connections live for five days, those with unacknowledged data five minutes; kube-proxy's and shorter
/// timers can be configured.
#[test]
fn an_open_connection_lives_long_and_timers_are_configurable() {
    let mut config = ConntrackConfig::default();
    config.timers.tcp_established = secs(86_400);
    config.timers.tcp_close_wait = secs(3600);
    for (config, established) in [(ConntrackConfig::default(), 432_000), (config, 86_400)] {
        let mut h = {
            let mut snapshot = node();
            snapshot.nat.conntrack = config;
            Harness::new(snapshot)
        };
        let client = |flags, seq: u32, ack: u32, data: &[u8]| {
            with_window(
                (a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack) / data.to_vec())
                    .bytes(),
                30_000,
                &[],
            )
        };
        let server = |flags, seq: u32, ack: u32| {
            with_window(
                (r() / ipv4(X, NODE_A) / tcp(80, 4000, flags).seq(seq).ack(ack)).bytes(),
                30_000,
                &[],
            )
        };
        h.rx_bytes(&[(POD1, client(SYN, C, 0, b""))]);
        h.rx_bytes(&[(UPLINK, server(SYN | ACK, S, C + 1))]);
        h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, b""))]);
        assert_eq!(h.take_all().len(), 3);
        assert_eq!(sessions(&h)[0].expires_in, secs(established));
        h.rx_bytes(&[(POD1, client(PSH_ACK, C + 1, S + 1, b"data"))]);
        assert_eq!(sessions(&h)[0].expires_in, secs(300));
        h.rx_bytes(&[(UPLINK, server(ACK, S + 1, C + 5))]);
        assert_eq!(sessions(&h)[0].expires_in, secs(established));
        assert!(sessions(&h)[0].assured);
        h.advance(secs(established - 1));
        assert_eq!(sessions(&h).len(), 1);
        h.advance(secs(1));
        assert_eq!(sessions(&h).len(), 0);
        assert_eq!(
            h.router().tracking().unwrap().connections,
            1,
            "until the wheel's tick"
        );
        h.advance(secs(1));
        assert_eq!(h.router().tracking().unwrap().connections, 0);
    }
}

/// NAT-30: more than three retransmissions without an answer.
#[test]
fn retransmissions_without_an_answer_shorten_the_life() {
    let mut h = harness();
    let client = |flags, seq: u32, ack: u32, data: &[u8]| {
        with_window(
            (a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack) / data.to_vec()).bytes(),
            30_000,
            &[],
        )
    };
    h.rx_bytes(&[(POD1, client(SYN, C, 0, b""))]);
    h.rx_bytes(&[(
        UPLINK,
        with_window(
            (r() / ipv4(X, NODE_A) / tcp(80, 4000, SYN | ACK).seq(S).ack(C + 1)).bytes(),
            30_000,
            &[],
        ),
    )]);
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, b""))]);
    assert_eq!(sessions(&h)[0].expires_in, secs(432_000));
    for _ in 0..3 {
        h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, b""))]);
    }
    assert_eq!(sessions(&h)[0].expires_in, secs(300));
    h.take_all();
}

/// NAT-33: an ACK in the middle is picked up and translated, so that a restart kills no connection; also the other end's
/// answers pass. What begins with another segment does not.
#[test]
fn an_acknowledgement_without_a_connection_picks_it_up() {
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(PSH_ACK, C, S, b"data"));
    assert_eq!(link.state(), Some(TcpState::Established));
    assert!(link.expires_in() <= secs(300), "until there is an answer");
    assert!(link.server(PSH_ACK, S, C + 4, b"more"));
    assert!(link.client(ACK, C + 4, S + 4, b""));
    for flags in [SYN | ACK, FIN_ACK, RST, RST_ACK, 0] {
        let mut link = Link::new(ConntrackConfig::default());
        assert!(!link.client(flags, C, S, b""), "{flags:#x}");
    }
    let strict = ConntrackConfig {
        tcp_loose: false,
        ..ConntrackConfig::default()
    };
    let mut link = Link::new(strict);
    assert!(!link.client(ACK, C, S, b""));
}

/// NAT-34: what is far out of the window reaches neither the pod nor the node, which would reset the connection.
#[test]
fn what_is_out_of_the_window_reaches_nobody() {
    let mut link = Link::open();
    assert!(!link.server(PSH_ACK, S + 2_000_000, C + 1, b"data"));
    assert!(!link.server(PSH_ACK, S + 1, C + 2_000_000, b"data"));
    link.h
        .expect_counters(&[(DropReason::ConntrackInvalid.into(), 2)]);
    assert!(!link.client(PSH_ACK, C + 2_000_000, S + 1, b"data"));
    assert!(!link.server(RST, S.wrapping_sub(5_000_000), 0, b""));
    assert_eq!(link.state(), Some(TcpState::Established));
    assert!(
        link.server(ACK, S + 1, C + 1, b""),
        "and what is in it does"
    );
}

/// NAT-34: data that was acknowledged long ago is harmless and passes, so that its sender gets its acknowledgement.
#[test]
fn old_data_passes_and_changes_nothing() {
    let mut link = Link::open();
    let before = link.expires_in();
    assert!(link.server(PSH_ACK, S.wrapping_sub(200_000), C + 1, b"old"));
    assert_eq!(link.expires_in(), before);
}

/// NAT-35: a reset that is exactly what is expected closes; one in the window that is not leaves the connection open for
/// ten seconds, until an acknowledgement confirms it.
#[test]
fn a_reset_closes_only_when_it_is_exact() {
    let mut link = Link::open();
    assert!(link.server(ACK, S + 1, C + 1, b""));
    assert!(link.server(RST, S + 1, 0, b""));
    assert_eq!(
        (link.state(), link.expires_in()),
        (Some(TcpState::Close), secs(10))
    );

    let mut h = harness();
    let client = |flags, seq: u32, ack: u32| {
        with_window(
            (a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack)).bytes(),
            30_000,
            &[],
        )
    };
    let server = |flags, seq: u32, ack: u32| {
        with_window(
            (r() / ipv4(X, NODE_A) / tcp(80, 4000, flags).seq(seq).ack(ack)).bytes(),
            30_000,
            &[],
        )
    };
    h.rx_bytes(&[(POD1, client(SYN, C, 0))]);
    h.rx_bytes(&[(UPLINK, server(SYN | ACK, S, C + 1))]);
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1))]);
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1))]);
    h.take_all();
    h.rx_bytes(&[(UPLINK, server(RST, S + 100, 0))]);
    assert_eq!(h.take_all().len(), 1, "forwarded");
    let session = &sessions(&h)[0];
    assert_eq!(
        (session.tcp, session.expires_in),
        (Some(TcpState::Established), secs(10))
    );
    // The pod's challenge ACK says that the connection lives.
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1))]);
    assert_eq!(
        sessions(&h)[0].expires_in,
        secs(300),
        "the reset's number counts as sent, as in Linux"
    );
}

/// NAT-36: a SYN of a connection that is over begins it anew under the same translation.
#[test]
fn a_syn_opens_again_what_is_over() {
    // a2 first has the port, so that a1's is moved.
    let mut h = harness();
    h.rx(POD2, &(a2() / ipv4(A2, X) / tcp(4000, 80, SYN)));
    h.take(UPLINK);
    let send = |h: &mut Harness, flags, seq, ack| {
        h.rx(
            POD1,
            &(a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack)),
        );
        source_of(&h.take(UPLINK)).1
    };
    let moved = send(&mut h, SYN, C, 0);
    assert_ne!(moved, 4000);
    let answer = |h: &mut Harness, flags, seq, ack| {
        h.rx(
            UPLINK,
            &(r() / ipv4(X, NODE_A) / tcp(80, moved, flags).seq(seq).ack(ack)),
        );
        h.take(POD1);
    };
    answer(&mut h, SYN | ACK, S, C + 1);
    send(&mut h, ACK, C + 1, S + 1);
    send(&mut h, FIN_ACK, C + 1, S + 1);
    answer(&mut h, FIN_ACK, S + 1, C + 2);
    send(&mut h, ACK, C + 2, S + 2);
    let state = |h: &Harness| {
        let all = sessions(h);
        let of_a1 = all.iter().find(|s| s.original.src == A1).unwrap();
        (of_a1.tcp.unwrap(), of_a1.replied)
    };
    assert_eq!(state(&h), (TcpState::TimeWait, true));
    assert_eq!(send(&mut h, SYN, C + 50_000, 0), moved);
    assert_eq!(state(&h), (TcpState::SynSent, false));
    // Aborted, and begun again.
    answer(&mut h, SYN | ACK, S + 50_000, C + 50_001);
    send(&mut h, ACK, C + 50_001, S + 50_001);
    assert_eq!(send(&mut h, RST, C + 50_001, 0), moved);
    assert_eq!(state(&h).0, TcpState::Close);
    assert_eq!(send(&mut h, SYN, C + 90_000, 0), moved);
    assert_eq!(state(&h), (TcpState::SynSent, false));
}

/// NAT-36: a SYN that was never answered is repeated, also with another number.
#[test]
fn a_syn_is_repeated_on_its_stale_connection() {
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(SYN, C, 0, b""));
    link.h.advance(secs(60));
    assert!(link.client(SYN, C, 0, b""));
    assert_eq!(
        link.expires_in(),
        secs(60),
        "a SYN repeated keeps nothing alive"
    );
    assert!(link.client(SYN, C + 9000, 0, b""));
    assert!(link.server(SYN | ACK, S, C + 9001, b""));
    assert!(link.client(ACK, C + 9001, S + 1, b""));
    assert_eq!(link.state(), Some(TcpState::Established));
}

/// NAT-37: both sides send a SYN.
#[test]
fn a_simultaneous_open_is_a_connection() {
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(SYN, C, 0, b""));
    assert!(link.server(SYN, S, 0, b""));
    assert_eq!(link.state(), Some(TcpState::SynSent2));
    assert!(link.client(SYN | ACK, C, S + 1, b""));
    assert_eq!(link.state(), Some(TcpState::SynRecv));
    assert!(link.server(SYN | ACK, S, C + 1, b""));
    assert!(link.client(ACK, C + 1, S + 1, b""));
    assert_eq!(link.state(), Some(TcpState::Established));
}

/// NAT-38: a SYN to a mapped port from elsewhere is for the node, which refuses it.
#[test]
fn a_strangers_syn_to_a_mapped_port_is_refused_by_the_node() {
    let mut link = Link::open();
    link.h
        .rx(UPLINK, &(r() / ipv4(Y, NODE_A) / tcp(80, 4000, SYN).seq(7)));
    link.h.expect_tx(
        UPLINK,
        &(to_r() / ipv4(NODE_A, Y).df().any_id() / tcp(4000, 80, RST_ACK).ack(8)),
    );
    link.h.expect_silence();
}

/// NAT-39: without the scale, which both sides agreed on, the data would be far beyond the window.
#[test]
fn windows_are_scaled_as_both_sides_agreed() {
    const SCALE_7: &[u8] = &[3, 3, 7, 1];
    for (offer, passes) in [(SCALE_7, true), (&[][..], false)] {
        let mut h = harness();
        let client = |flags, seq: u32, ack: u32, options: &[u8]| {
            with_window(
                (a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack)).bytes(),
                1000,
                options,
            )
        };
        let server = |flags, seq: u32, data: usize, options: &[u8]| {
            with_window(
                (r() / ipv4(X, NODE_A) / tcp(80, 4000, flags).seq(seq).ack(C + 1) / vec![0; data])
                    .bytes(),
                1000,
                options,
            )
        };
        h.rx_bytes(&[(POD1, client(SYN, C, 0, SCALE_7))]);
        h.rx_bytes(&[(UPLINK, server(SYN | ACK, S, 0, offer))]);
        h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, &[]))]);
        assert_eq!(h.take_all().len(), 3);
        h.rx_bytes(&[(UPLINK, server(PSH_ACK, S + 1 + 100_000, 100, &[]))]);
        assert_eq!(h.take_all().len() == 1, passes, "offer {offer:?}");
    }
}

/// NAT-39: with SACK, an acknowledgement counts by its highest block.
#[test]
fn a_selective_acknowledgement_counts_by_its_highest_block() {
    const SACK_OK: &[u8] = &[4, 2, 1, 1];
    let mut h = harness();
    let client = |flags, seq: u32, ack: u32, options: &[u8]| {
        with_window(
            (a1() / ipv4(A1, X) / tcp(4000, 80, flags).seq(seq).ack(ack)).bytes(),
            30_000,
            options,
        )
    };
    let server = |flags, seq: u32, data: usize, options: &[u8]| {
        with_window(
            (r() / ipv4(X, NODE_A) / tcp(80, 4000, flags).seq(seq).ack(C + 1) / vec![0; data])
                .bytes(),
            30_000,
            options,
        )
    };
    h.rx_bytes(&[(POD1, client(SYN, C, 0, SACK_OK))]);
    h.rx_bytes(&[(UPLINK, server(SYN | ACK, S, 0, SACK_OK))]);
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, &[]))]);
    h.rx_bytes(&[(UPLINK, server(PSH_ACK, S + 1, 1000, &[]))]);
    assert_eq!(h.take_all().len(), 4);
    let block = |left: u32, right: u32| {
        [
            &[1, 1, 5, 10][..],
            &left.to_be_bytes(),
            &right.to_be_bytes(),
        ]
        .concat()
    };
    // A block beyond what the server has sent is the lie that it looks like.
    h.rx_bytes(&[(
        POD1,
        client(ACK, C + 1, S + 1, &block(S + 500_000, S + 500_100)),
    )]);
    h.expect_silence();
    h.rx_bytes(&[(POD1, client(ACK, C + 1, S + 1, &block(S + 501, S + 1001)))]);
    assert_eq!(h.take_all().len(), 1);
}

/// NAT-39: be_liberal lets everything pass but resets.
#[test]
fn a_liberal_node_refuses_only_resets() {
    let mut link = Link::new(ConntrackConfig {
        tcp_be_liberal: true,
        ..ConntrackConfig::default()
    });
    link.handshake();
    assert!(link.server(ACK, S + 1, C + 1, b""));
    assert!(link.client(ACK, C + 1, S + 1, b""));
    assert!(link.server(PSH_ACK, S + 2_000_000, C + 1, b"data"));
    assert!(!link.server(RST, S.wrapping_sub(5_000_000), 0, b""));
}

/// NAT-40: while one side may still send, the mapping stays.
#[test]
fn a_half_closed_connection_keeps_its_mapping() {
    let mut link = Link::open();
    assert!(link.client(FIN_ACK, C + 1, S + 1, b""));
    assert!(link.server(ACK, S + 1, C + 2, b""));
    for n in 0..20 {
        link.h.advance(secs(50));
        assert!(link.server(PSH_ACK, S + 1 + n, C + 2, b"x"));
        assert!(link.client(ACK, C + 2, S + 2 + n, b""));
    }
    assert!(link.server(FIN_ACK, S + 21, C + 2, b""));
    assert!(link.client(ACK, C + 2, S + 22, b""));
    assert_eq!(link.state(), Some(TcpState::TimeWait));
}

/// A SYN that is answered with a reset leaves nothing behind.
#[test]
fn a_refused_connection_is_gone() {
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(SYN, C, 0, b""));
    assert!(link.server(RST_ACK, 0, C + 1, b""));
    assert_eq!(link.state(), None);
    let mut link = Link::new(ConntrackConfig::default());
    assert!(link.client(SYN, C, 0, b""));
    assert!(link.client(RST, C + 1, 0, b""));
    assert_eq!(link.state(), None);
}
