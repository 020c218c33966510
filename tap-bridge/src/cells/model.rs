//! Cells of loom's, and what else its models take the place of.

use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};

use super::{Cells, Load, Store};

#[derive(Clone)]
pub(crate) struct Model(Arc<Vec<AtomicU64>>);

impl Model {
    /// So many zeros.
    pub(crate) fn new(cells: usize) -> Self {
        Self(Arc::new((0..cells).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Load for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl Store for AtomicU64 {
    fn store(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }

    fn toggle(&self, bits: u64) {
        self.fetch_xor(bits, Ordering::Release);
    }
}

impl Cells for Model {
    type Cell = AtomicU64;

    fn cells(&self) -> &[AtomicU64] {
        &self.0
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// A doorbell: rings stay until they are heard.
#[derive(Clone)]
pub(crate) struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub(crate) fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }

    pub(crate) fn wait(&self) {
        let mut rings = self.0.0.lock().unwrap();
        while !*rings {
            rings = self.0.1.wait(rings).unwrap();
        }
        *rings = false;
    }
}
