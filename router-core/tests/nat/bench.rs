//! What a model drives: one router, or the workers of a node.

use router_core::Instant;

use super::*;

pub(crate) trait Bench {
    fn rx(&mut self, port: PortId, frame: &Packet);
    fn take_all(&mut self) -> Vec<(PortId, Vec<u8>)>;
    fn now(&self) -> Instant;
    fn advance(&mut self, by: Duration);
    fn sessions(&self) -> Vec<Session>;
    fn is_shared(&self) -> bool;
}

impl Bench for Harness {
    fn rx(&mut self, port: PortId, frame: &Packet) {
        self.rx(port, frame);
    }

    fn take_all(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.take_all()
    }

    fn now(&self) -> Instant {
        self.now()
    }

    fn advance(&mut self, by: Duration) {
        self.advance(by);
    }

    fn sessions(&self) -> Vec<Session> {
        sessions(self)
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl Bench for Crew {
    fn rx(&mut self, port: PortId, frame: &Packet) {
        self.rx(port, frame);
    }

    fn take_all(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.take_all()
    }

    fn now(&self) -> Instant {
        self.now()
    }

    fn advance(&mut self, by: Duration) {
        self.advance(by);
    }

    fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.sessions().collect();
        sessions.sort_by_key(|s| (s.original, s.reply));
        sessions
    }

    fn is_shared(&self) -> bool {
        true
    }
}
