//! One writer and many readers of a table that is changed in place.
//!
//! A table consists of atomic cells; each change becomes visible by one store. That leaves two questions, and this module
//! answers both without a reader ever waiting or writing where another thread writes:
//!
//! - When may the writer use a part again that it took out? A reader may still be on its way through it. The writer asks
//!   for an *epoch*; a reader says, between two batches, which epoch it has seen. What was taken out before an epoch began
//!   is out of everybody's reach once every reader has seen that epoch (quiescent-state based reclamation, McKenney and
//!   Slingwine 1998).
//! - How does a reader come to a table that was built anew? It compares a *version* between two batches, and fetches its
//!   own handle to the table when that has risen: the one time that it takes a lock, once per rebuilding.
//!
//! Why a part is out of reach: the writer unlinks it, then stores epoch e (release). A reader that loads e (acquire) and
//! then a cell sees the unlinking. What it loaded before is done when it stores "seen e" (release) and the writer reads
//! that (acquire), so that nothing the writer puts into the part afterwards can show up there. A reader that rests has
//! seen everything; when it wakes, its "seen e" and the writer's unlinking are ordered by two sequentially consistent
//! fences: either the writer finds the reader awake, or the reader finds the part unlinked.
//!
//! A reader that neither works nor rests keeps parts from being used again. It does not stop the writer, who builds the
//! table anew when room runs out; the old one goes with its last reader. So memory is bounded by one table per reader.
//!
//! Cost: per batch two loads of words that change rarely; per epoch one store of each reader to a cache line of its own.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::sync::{AtomicU64, Mutex, Ordering, fence};

/// What a reader has seen that rests: every epoch there will be.
const RESTING: u64 = u64::MAX;

/// The writer's half. `T` is a handle to a table, cheap to clone.
pub(crate) struct Shared<T> {
    epoch: AtomicU64,
    version: AtomicU64,
    current: Mutex<T>,
    readers: Mutex<Vec<Arc<Seen>>>,
}

/// Alone on its cache line, and on the one that the processor fetches along with it.
#[repr(align(128))]
struct Seen(AtomicU64);

impl<T: Clone> Shared<T> {
    pub(crate) fn new(table: T) -> Arc<Self> {
        Arc::new(Self {
            epoch: AtomicU64::new(0),
            version: AtomicU64::new(0),
            current: Mutex::new(table),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Lets the readers come to another table, whole before this call.
    pub(crate) fn publish(&self, table: T) {
        *lock(&self.current) = table;
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
    }

    /// Begins an epoch and gives it: what was unlinked so far is free once the epoch [has passed](Self::has_passed).
    pub(crate) fn begin(&self) -> u64 {
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        self.epoch.store(epoch, Ordering::Release);
        epoch
    }

    /// Whether every reader has seen this epoch.
    pub(crate) fn has_passed(&self, epoch: u64) -> bool {
        let readers = lock(&self.readers);
        fence(Ordering::SeqCst);
        let mut seen = readers.iter().map(|seen| seen.0.load(Ordering::Acquire));
        seen.all(|seen| seen >= epoch)
    }

    /// A new reader.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader<T> {
        // Whoever takes the lock of the readers after the writer did sees all that the writer unlinked.
        let mut readers = lock(&self.readers);
        let epoch = self.epoch.load(Ordering::Acquire);
        let seen = Arc::new(Seen(AtomicU64::new(epoch)));
        readers.push(Arc::clone(&seen));
        drop(readers);
        let version = self.version.load(Ordering::Acquire);
        Reader {
            table: lock(&self.current).clone(),
            shared: Arc::clone(self),
            seen,
            epoch,
            version,
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A reader's half: for one thread at a time.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    seen: Arc<Seen>,
    epoch: u64,
    version: u64,
    table: T,
}

impl<T: Clone> Reader<T> {
    /// The table as it is now, for one batch: nothing from a former call is used any more.
    #[inline]
    pub(crate) fn table(&mut self) -> &T {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.see(epoch);
        }
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.fetch(version);
        }
        &self.table
    }

    /// Says that this reader looks nothing up until [`table`](Self::table) is called again: it holds up nothing then.
    pub(crate) fn rest(&mut self) {
        self.epoch = RESTING;
        self.seen.0.store(RESTING, Ordering::Release);
    }

    #[cold]
    fn see(&mut self, epoch: u64) {
        let is_woken = self.epoch == RESTING;
        self.epoch = epoch;
        self.seen.0.store(epoch, Ordering::Release);
        if is_woken {
            fence(Ordering::SeqCst);
        }
    }

    #[cold]
    fn fetch(&mut self, version: u64) {
        // It may be a newer one already: then it is fetched twice.
        self.version = version;
        self.table = lock(&self.shared.current).clone();
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        lock(&self.shared.readers).retain(|seen| !Arc::ptr_eq(seen, &self.seen));
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// What a lock guards here is whole at any time: a thread that panicked with it left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> impl core::ops::DerefMut<Target = T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(all(test, loom))]
mod loom_tests;
