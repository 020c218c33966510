//! A masquerading node and the crowd of clients behind it.

use core::time::Duration;

use router_core::config::nat::NatConfig;
use router_core::testing::crowd::{Datagram, Frame, Session, node};
use router_core::testing::topology::UPLINK;
use router_core::{
    Batch, Filter, FramePool, Instant, Limits, PortId, Router, Snapshot, Tracking, TxBatch,
};

/// A node with the sessions that the crowd has opened so far.
#[derive(Debug)]
pub struct Crowd {
    router: Router,
    pool: FramePool,
    rx: Batch,
    tx: TxBatch,
    now: Instant,
    /// By session, the node's port in its place.
    translated: Vec<u16>,
}

impl Crowd {
    /// A node with room for `limit` sessions and none yet.
    ///
    /// # Panics
    /// Never: the configuration does not contradict itself.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self::of(node(limit))
    }

    /// The same node without NAT and without a table of connections: requests leave as they came.
    ///
    /// # Panics
    /// Never: the configuration does not contradict itself.
    #[must_use]
    pub fn plain() -> Self {
        Self::of(Snapshot {
            nat: NatConfig::default(),
            ..node(1)
        })
    }

    fn of(snapshot: Snapshot) -> Self {
        let capacity = 512;
        let mut pool = FramePool::new(capacity);
        let mut router = Router::new(Limits::default(), 1);
        let now = Instant::from_nanos(1);
        router
            .apply(now, snapshot, &mut pool)
            .expect("the snapshot does not contradict itself");
        Self {
            router,
            pool,
            rx: Batch::new(),
            tx: TxBatch::new(capacity),
            now,
            translated: Vec::new(),
        }
    }

    /// How full its table is.
    ///
    /// # Panics
    /// Never: the node masquerades.
    #[must_use]
    pub fn tracking(&self) -> Tracking {
        self.router.tracking().expect("a node that masquerades")
    }

    /// Opens the next sessions, as many as are missing to `count`, and has each answered once.
    ///
    /// # Panics
    /// When a datagram is lost.
    pub fn grow(&mut self, count: u32) {
        let from = u32::try_from(self.translated.len()).expect("opened one by one");
        let sessions: Vec<Session> = (from..count).map(Session).collect();
        for chunk in sessions.chunks(64) {
            let frames: Vec<_> = chunk.iter().map(|s| (s.port(), s.request())).collect();
            self.load(&frames);
            self.process();
            for (_, frame) in self.tx.iter() {
                let datagram = Datagram::read(frame.bytes()).expect("one of the crowd's");
                self.translated.push(datagram.src.1);
            }
            self.tx.free_all(&mut self.pool);
            let frames: Vec<_> = chunk.iter().map(|&s| self.reply(s)).collect();
            assert_eq!(self.pass(&frames), chunk.len(), "every session is answered");
        }
    }

    /// What a client sends.
    #[must_use]
    pub fn request(&self, session: Session) -> (PortId, Frame) {
        (session.port(), session.request())
    }

    /// What its server answers.
    ///
    /// # Panics
    /// When the session was not opened.
    #[must_use]
    pub fn reply(&self, session: Session) -> (PortId, Frame) {
        let at = usize::try_from(session.0).expect("32 bits fit");
        (UPLINK, session.reply(self.translated[at]))
    }

    /// Takes frames through the router in one batch, copies into and out of the pool included. Number that it sent.
    pub fn pass(&mut self, frames: &[(PortId, Frame)]) -> usize {
        self.load(frames);
        self.process();
        let sent = self.tx.len();
        self.tx.free_all(&mut self.pool);
        sent
    }

    /// Ends all sessions.
    pub fn clear(&mut self) {
        self.router.flush_sessions(&Filter::default());
        self.translated.clear();
    }

    fn load(&mut self, frames: &[(PortId, Frame)]) {
        for (port, bytes) in frames {
            let mut frame = self.pool.alloc().expect("the pool is larger than a batch");
            frame.fill(bytes);
            frame.set_port(*port);
            self.rx.push(frame).expect("at most a batch");
        }
    }

    fn process(&mut self) {
        self.now = self.now + Duration::from_nanos(100);
        self.router
            .process(self.now, &mut self.rx, &mut self.pool, &mut self.tx);
    }
}
