//! A million sessions at once, none of them anybody else's.

use router_core::frame::BATCH_MAX;
use router_core::testing::crowd::{
    Datagram, Frame, PER_SERVER, Session, came_home, left_by_masquerade, node,
};
use router_core::testing::topology::{NODE_A, UPLINK};
use router_core::{Batch, FramePool, Instant, Limits, PortId, Router, TxBatch};

const SESSIONS: u32 = 1_000_000;

/// A router with what it needs, without the harness' memory of every frame.
struct Driver {
    router: Router,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
}

impl Driver {
    fn new() -> Self {
        let frames = BATCH_MAX * 2;
        let mut pool = FramePool::new(frames);
        let mut router = Router::new(Limits::default(), 1);
        router
            .apply(Instant::ZERO, node(SESSIONS), &mut pool)
            .expect("a consistent snapshot");
        Self {
            router,
            pool,
            rx: Batch::new(),
            tx: TxBatch::new(frames),
        }
    }

    /// Takes a frame for each of these sessions through the router; every one of them must come out again.
    fn pass(
        &mut self,
        sessions: &[Session],
        frame_of: impl Fn(Session) -> (PortId, Frame),
        mut came_out: impl FnMut(PortId, Datagram),
    ) {
        for &session in sessions {
            let (port, bytes) = frame_of(session);
            let mut frame = self.pool.alloc().expect("the pool is larger than a batch");
            assert!(frame.fill(&bytes));
            frame.set_port(port);
            assert!(self.rx.push(frame).is_ok());
        }
        self.router
            .process(Instant::ZERO, &mut self.rx, &mut self.pool, &mut self.tx);
        assert_eq!(self.tx.len(), sessions.len(), "nothing is lost");
        for (port, frame) in self.tx.iter() {
            let datagram = Datagram::read(frame.bytes()).expect("a datagram of the crowd");
            came_out(port, datagram);
        }
        self.tx.free_all(&mut self.pool);
    }
}

/// Every session once, in an order in which neighbours are far from each other.
fn scattered() -> Vec<Session> {
    // Coprime to the number of sessions, so that none comes twice.
    let step = 612_347_u64;
    (0..u64::from(SESSIONS))
        .map(|n| n * step % u64::from(SESSIONS))
        .map(|n| Session(u32::try_from(n).expect("below a million")))
        .collect()
}

/// INV-4, NAT-10, NAT-11, NAT-13: a million UDP sessions of 20 clients with 40 servers stand at once. Each has a port of
/// the node's that no other session with its server has, keeps it, and the answer to that port reaches the client and the
/// port that opened the session.
#[test]
fn a_million_sessions_are_told_apart() {
    let mut driver = Driver::new();
    let order = scattered();
    let servers = usize::try_from(SESSIONS / PER_SERVER).expect("few");
    let mut translated = vec![0_u16; order.len()];
    let mut used = vec![false; servers << 16];
    let place = |session: Session| usize::try_from(session.0).expect("below a million");
    let request = |session: Session| (session.port(), session.request());

    for sessions in order.chunks(BATCH_MAX) {
        driver.pass(sessions, request, |port, datagram| {
            assert!(left_by_masquerade(port, &datagram), "{port:?} {datagram:?}");
            let server = place(datagram.session) / usize::try_from(PER_SERVER).expect("few");
            let mine = &mut used[server << 16 | usize::from(datagram.src.1)];
            assert!(!core::mem::replace(mine, true), "taken: {datagram:?}");
            translated[place(datagram.session)] = datagram.src.1;
        });
    }
    let kept = order
        .iter()
        .filter(|s| translated[place(**s)] == s.inside().1)
        .count();
    assert!(kept < order.len() / 10, "most had to give way: {kept}");
    let tracking = driver.router.tracking().expect("a node that masquerades");
    assert_eq!(tracking.connections, order.len());

    // The answers, from the last session to the first.
    for sessions in order.rchunks(BATCH_MAX) {
        driver.pass(
            sessions,
            |session| (UPLINK, session.reply(translated[place(session)])),
            |port, datagram| assert!(came_home(port, &datagram), "{port:?} {datagram:?}"),
        );
    }
    // And on: the same port as before.
    for sessions in order.chunks(BATCH_MAX) {
        driver.pass(sessions, request, |port, datagram| {
            assert!(left_by_masquerade(port, &datagram), "{port:?} {datagram:?}");
            let src = (NODE_A, translated[place(datagram.session)]);
            assert_eq!(datagram.src, src, "{datagram:?}");
        });
    }
    assert!(driver.router.sessions(Instant::ZERO).all(|s| s.replied));
    let stats = driver.router.stats();
    assert_eq!(
        (stats.tx, stats.drops.total()),
        (3 * u64::from(SESSIONS), 0)
    );
    stats.check_conservation(0).expect("nothing is lost");
}
