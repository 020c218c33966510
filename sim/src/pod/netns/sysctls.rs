//! Switches of a new network namespace.
//!
//! Decides by which `/proc` they are written. The kernel keeps what was looked up there once: below one `/proc`, each network
//! namespace leaves an entry of the same name in the same chain, so that the ten-thousandth pod's look-up goes by those of ten
//! thousand others (`proc_sys_compare`; a quarter of the time that 300 nodes with 3,000 pods took). A maker has a `/proc` of its
//! own, and a new one after some sandboxes. Where the kernel refuses that, the one that everybody has.
//!
//! Cost: 20 us per write; a `/proc` about as much.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use tap_bridge::sys::mount;

/// So many sandboxes have one `/proc`.
const SHARE: usize = 32;

/// A maker's way to the switches of the namespace that it is in.
#[derive(Debug, Default)]
pub(super) struct Sysctls {
    proc: Option<OwnedFd>,
    /// Sandboxes that `proc` has been for.
    used: usize,
    refused: bool,
}

impl Sysctls {
    /// Another sandbox begins.
    pub(super) fn begin(&mut self) {
        self.used += 1;
        if self.used < SHARE && self.proc.is_some() || self.refused {
            return;
        }
        self.used = 0;
        self.proc = mount::detached_proc()
            .inspect_err(|error| tracing::debug!("no /proc of a maker's own: {error}"))
            .ok();
        self.refused = self.proc.is_none();
    }

    /// Sets a switch of the calling thread's network namespace, named as below `/proc/sys`.
    ///
    /// # Errors
    /// What open(2) and write(2) say: it is read-only, or the kernel has none of that name.
    pub(super) fn set(&self, name: &str, value: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = match &self.proc {
            Some(proc) => openat(proc.as_fd(), format!("sys/{name}"), flags, Mode::empty()),
            None => rustix::fs::open(format!("/proc/sys/{name}"), flags, Mode::empty()),
        };
        File::from(opened?).write_all(value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use tap_bridge::sys::netns::{self, Namespace};

    use super::*;

    const TTL: &str = "net/ipv4/ip_default_ttl";

    fn ttl() -> String {
        std::fs::read_to_string(format!("/proc/sys/{TTL}")).unwrap()
    }

    /// Runs `work` on a thread that may make network namespaces, or says why there is none.
    fn as_maker(work: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| match netns::isolate(&[Namespace::Net]) {
                Ok(()) => work(),
                Err(reason) => {
                    assert!(
                        std::env::var_os("PODWIRE_REQUIRE_ALL").is_none(),
                        "not permitted: {reason}"
                    );
                    eprintln!("SKIPPED: no network namespaces: {reason}");
                }
            });
            maker.join().unwrap();
        });
    }

    /// Which `/proc` it is.
    fn device(sysctls: &Sysctls) -> Option<u64> {
        let proc = sysctls.proc.as_ref()?;
        Some(rustix::fs::fstat(proc).unwrap().st_dev)
    }

    #[test]
    fn a_switch_is_set_where_its_maker_is_and_a_proc_is_for_its_share_of_sandboxes() {
        as_maker(|| {
            let mut sysctls = Sysctls::default();
            let mut procs: Vec<(Option<u64>, usize)> = Vec::new();
            for _ in 0..2 * SHARE + 1 {
                netns::isolate(&[Namespace::Net]).unwrap();
                sysctls.begin();
                assert_ne!(ttl(), "77\n", "another namespace");
                sysctls.set(TTL, "77").unwrap();
                assert_eq!(ttl(), "77\n");
                let now = device(&sysctls);
                match procs.last_mut() {
                    Some((before, sandboxes)) if *before == now => *sandboxes += 1,
                    _ => procs.push((now, 1)),
                }
            }
            let missing = sysctls.set("net/ipv4/no_such_switch", "1").unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            if sysctls.refused {
                // Everything has gone by the one that everybody has.
                assert_eq!(procs, [(None, 2 * SHARE + 1)]);
                return;
            }
            let sandboxes: Vec<usize> = procs.iter().map(|(_, n)| *n).collect();
            assert_eq!(sandboxes, [SHARE, SHARE, 1]);
        });
    }

    #[test]
    fn without_a_proc_of_its_own_a_maker_takes_the_one_that_everybody_has() {
        as_maker(|| {
            let mut sysctls = Sysctls {
                refused: true,
                ..Sysctls::default()
            };
            for _ in 0..2 {
                sysctls.begin();
                assert!(device(&sysctls).is_none(), "it is not asked for again");
            }
            sysctls.set(TTL, "78").unwrap();
            assert_eq!(ttl(), "78\n");
        });
    }
}
