//! Shared memory between processes that don't trust each other's code to be right.
//!
//! Decides nothing about the content. Promises: a mapping is always as long as it says (the memory is sealed against
//! shrinking and growing, and both are checked before mapping, so that no access raises SIGBUS); it is made of atomic
//! 64-bit cells, so that a peer that writes at any moment is a race of values and never undefined behaviour; a
//! [`ReadMapping`] has no way to write.
//!
//! Source: memfd_create(2), fcntl(2) "File sealing", mmap(2). Cost: a handful of system calls per mapping, none later.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Makes `words` cells of zeroed shared memory that can neither shrink nor grow. `name` shows in /proc/PID/maps.
///
/// # Errors
/// Out of descriptors or memory.
pub fn create(name: &str, words: usize) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 don't know NOEXEC_SEAL; newer ones may be set up to insist on it (vm.memfd_noexec).
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    rustix::fs::ftruncate(&fd, length(words)?)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Sets one cell before anybody maps the memory.
///
/// # Errors
/// When the cell lies beyond the end, or the descriptor is read-only.
pub fn set(fd: BorrowedFd<'_>, word: usize, value: u64) -> io::Result<()> {
    let written = rustix::io::pwrite(fd, &value.to_ne_bytes(), length(word)?)?;
    if written == size_of::<u64>() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// A second descriptor of the same memory that can only read and be mapped to read.
///
/// # Errors
/// When /proc is not mounted, or out of descriptors.
pub fn read_only(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn length(words: usize) -> io::Result<u64> {
    words
        .checked_mul(size_of::<u64>())
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A mapped stretch of cells; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to this value alone wherever it goes, and mmap'ed memory is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: shared, it gives out atomic cells and stretches that nobody can look into, whichever thread asks.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, words: usize, protection: ProtFlags) -> io::Result<Self> {
        let bytes = length(words)?;
        let stat = rustix::fs::fstat(fd)?;
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        if words == 0
            || u64::try_from(stat.st_size).ok() != Some(bytes)
            || !rustix::fs::fcntl_get_seals(fd)?.contains(fixed)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let bytes = words * size_of::<u64>();
        // SAFETY: with a null hint and without MAP_FIXED the kernel picks a free range, so nothing that Rust knows of is
        // replaced.
        let start = unsafe { mmap(null_mut(), bytes, protection, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words })
    }
}

impl Mapping {
    /// Bytes `at .. at + len`; none when they aren't all there.
    fn stretch(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        let end = at.checked_add(len)?;
        if end > self.words * size_of::<u64>() {
            return None;
        }
        // SAFETY: `at` is at most `end`, which lies in the mapping or one byte behind it (checked above), and a mapping is
        // no longer than isize::MAX.
        Some(unsafe { self.start.cast::<u8>().add(at) })
    }
}

/// Bytes of shared memory, to hand to a system call that reads them. They can't be looked at here: somebody else may be
/// writing them.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    pub(super) start: NonNull<u8>,
    pub(super) len: usize,
    of: PhantomData<&'a Mapping>,
}

/// Bytes of shared memory, to hand to a system call that writes them.
#[derive(Debug)]
pub struct StretchMut<'a> {
    pub(super) start: NonNull<u8>,
    pub(super) len: usize,
    of: PhantomData<&'a Mapping>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<u64>();
        // SAFETY: exactly this range was mapped in `new`, this value is its only owner, and every reference into it
        // borrows this value, so none is left.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), bytes) };
        debug_assert!(unmapped.is_ok(), "a mapped range can be unmapped");
    }
}

/// Memory that this process writes. Nobody else should.
#[derive(Debug)]
pub struct WriteMapping(Mapping);

impl WriteMapping {
    /// Maps all `words` cells of `fd` to read and write. The descriptor may be closed afterwards.
    ///
    /// # Errors
    /// `InvalidData` when the memory has another length or may change it; EACCES for a read-only descriptor.
    pub fn new(fd: impl AsFd, words: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        Ok(Self(Mapping::new(fd.as_fd(), words, protection)?))
    }

    /// Bytes `at .. at + len`, for a system call to read; none when they aren't all there.
    #[must_use]
    pub fn stretch(&self, at: usize, len: usize) -> Option<Stretch<'_>> {
        Some(Stretch {
            start: self.0.stretch(at, len)?,
            len,
            of: PhantomData,
        })
    }

    /// Bytes `at .. at + len`, for a system call to write; none when they aren't all there.
    #[must_use]
    pub fn stretch_mut(&self, at: usize, len: usize) -> Option<StretchMut<'_>> {
        Some(StretchMut {
            start: self.0.stretch(at, len)?,
            len,
            of: PhantomData,
        })
    }

    /// All cells.
    #[must_use]
    pub fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the range was mapped readable and writable with this length, page-aligned, and stays mapped as long as
        // self is borrowed; it can't shrink (sealed). Cells are atomic, so concurrent writers are no data race, and any
        // bit pattern is valid.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.words) }
    }
}

/// A store that is not atomic, for the thread sanitizer to judge: see [`cells`](crate::cells).
#[cfg(tsan)]
pub(crate) fn store_plainly(cell: &AtomicU64, value: u64) {
    // SAFETY: the pointer is that of a value that lives. If anybody looks at it meanwhile that is undefined, and what the
    // sanitizer is there to report.
    unsafe { cell.as_ptr().write(value) }
}

/// A cell that can only be read: a store would fault, the page being read-only.
#[derive(Debug)]
#[repr(transparent)]
pub struct ReadCell(AtomicU64);

impl ReadCell {
    /// What stands there now. Relaxed, the one ordering that is promised to work on read-only pages; a fence does the
    /// rest.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Memory that another process writes, at any moment, and anything.
#[derive(Debug)]
pub struct ReadMapping(Mapping);

impl ReadMapping {
    /// Maps all `words` cells of `fd` to read. The descriptor may be closed afterwards.
    ///
    /// # Errors
    /// `InvalidData` when the memory has another length or may change it.
    pub fn new(fd: impl AsFd, words: usize) -> io::Result<Self> {
        Ok(Self(Mapping::new(fd.as_fd(), words, ProtFlags::READ)?))
    }

    /// Bytes `at .. at + len`, for a system call to read; none when they aren't all there.
    #[must_use]
    pub fn stretch(&self, at: usize, len: usize) -> Option<Stretch<'_>> {
        Some(Stretch {
            start: self.0.stretch(at, len)?,
            len,
            of: PhantomData,
        })
    }

    /// All cells.
    #[must_use]
    pub fn cells(&self) -> &[ReadCell] {
        let start = self.0.start.as_ptr().cast::<ReadCell>();
        // SAFETY: as in WriteMapping::cells, but readable only. ReadCell has the layout of AtomicU64 (transparent) and no
        // operation that stores, and a relaxed 8-byte load is defined on read-only memory (std::sync::atomic, "Atomic
        // accesses to read-only memory").
        unsafe { std::slice::from_raw_parts(start, self.0.words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let fd = create("podwire-test", 512).unwrap();
        set(fd.as_fd(), 511, 7).unwrap();
        let reader = ReadMapping::new(read_only(fd.as_fd()).unwrap(), 512).unwrap();
        let writer = WriteMapping::new(fd, 512).unwrap();
        writer.cells()[0].store(42, Ordering::Relaxed);
        assert_eq!(
            (reader.cells()[0].load(), reader.cells()[511].load()),
            (42, 7)
        );
        assert_eq!((reader.cells().len(), writer.cells().len()), (512, 512));
    }

    #[test]
    fn a_stretch_lies_in_its_mapping_or_is_none() {
        let fd = create("podwire-test", 512).unwrap();
        let memory = WriteMapping::new(fd, 512).unwrap();
        assert_eq!(memory.stretch(4000, 96).unwrap().len, 96);
        assert!(memory.stretch_mut(4096, 0).is_some());
        for (at, len) in [(4000, 97), (4097, 0), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(memory.stretch(at, len).is_none(), "{at} {len}");
            assert!(memory.stretch_mut(at, len).is_none(), "{at} {len}");
        }
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_to_write() {
        let fd = create("podwire-test", 512).unwrap();
        let error = WriteMapping::new(read_only(fd.as_fd()).unwrap(), 512).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn memory_of_another_length_or_that_may_shrink_is_refused() {
        let fd = create("podwire-test", 512).unwrap();
        for words in [0, 511, 513, usize::MAX] {
            assert!(ReadMapping::new(&fd, words).is_err(), "{words}");
        }
        assert!(rustix::fs::ftruncate(&fd, 8).is_err());
        let loose = rustix::fs::memfd_create("podwire-test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&loose, 4096).unwrap();
        let error = ReadMapping::new(&loose, 512).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
