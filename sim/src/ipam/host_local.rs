//! host-local: the address allocator of the CNI reference plugins, on files.
//!
//! Decides which address a pod gets (IPAM-1..9): round robin from the one after the last reserved, a file per address,
//! `last_reserved_ip.0` beside them, and a lock on the directory while it is changed. Doesn't decide the gateway's use.
//! The files are the truth, so that a new allocator on the same directory goes on where the old one stopped.
//! Source: CNI plugins, `host-local` (range, allocator, disk backend). Cost: an allocation reads the files of the
//! directory once, so it grows with the number of pods on the node.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";
const LAST_RESERVED: &str = "last_reserved_ip.0";

/// An address could not be given. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// The subnet has host bits set (IPAM-11).
    #[error("{subnet}: host bits are set; the network is {network}")]
    HostBits {
        /// As given.
        subnet: Ipv4Net,
        /// With host bits cleared.
        network: Ipv4Net,
    },
    /// A /31 or /32 (IPAM-1).
    #[error("{0}: too small, a range needs a network, a gateway, a pod and a broadcast address")]
    TooSmall(Ipv4Net),
    /// Every address is taken (IPAM-3).
    #[error("no IP addresses available in range set: {first}-{last}")]
    Exhausted {
        /// First address of the range.
        first: Ipv4Addr,
        /// Last address of the range.
        last: Ipv4Addr,
    },
    /// The container has an address on that interface already (IPAM-6).
    #[error("{container_id}: {ifname} has {ip} already; duplicate allocation is not allowed")]
    Duplicate {
        /// Container.
        container_id: String,
        /// Interface.
        ifname: String,
        /// The address it has.
        ip: Ipv4Addr,
    },
    /// A requested address outside the range (IPAM-7).
    #[error("requested IP address {ip} is not available in range set {first}-{last}")]
    OutOfRange {
        /// The wish.
        ip: Ipv4Addr,
        /// First address of the range.
        first: Ipv4Addr,
        /// Last address of the range.
        last: Ipv4Addr,
    },
    /// The gateway's address was requested (IPAM-7).
    #[error("requested IP address {0} is the gateway's")]
    Gateway(Ipv4Addr),
    /// A requested address that somebody has (IPAM-7).
    #[error("requested IP address {0} is taken")]
    Taken(Ipv4Addr),
    /// The files.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The allocator of one node's range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLocal {
    dir: PathBuf,
    first: u32,
    last: u32,
    gateway: Ipv4Addr,
}

impl HostLocal {
    /// An allocator for `subnet` with its files in `<data_dir>/<network>`; the directory is made at the first use.
    ///
    /// # Errors
    /// [`IpamError::HostBits`], [`IpamError::TooSmall`].
    pub fn new(data_dir: &Path, network: &str, subnet: Ipv4Net) -> Result<Self, IpamError> {
        if subnet.trunc() != subnet {
            return Err(IpamError::HostBits {
                subnet,
                network: subnet.trunc(),
            });
        }
        if subnet.prefix_len() > 30 {
            return Err(IpamError::TooSmall(subnet));
        }
        let first = u32::from(subnet.network()) + 1;
        Ok(Self {
            dir: data_dir.join(network),
            first,
            last: u32::from(subnet.broadcast()) - 1,
            gateway: first.into(),
        })
    }

    /// With the bounds and the gateway that a range states (`rangeStart`, `rangeEnd`, `gateway`). They lie in the subnet.
    #[must_use]
    pub fn with_range(
        mut self,
        first: Option<Ipv4Addr>,
        last: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
    ) -> Self {
        self.first = first.map_or(self.first, u32::from);
        self.last = last.map_or(self.last, u32::from);
        self.gateway = gateway.unwrap_or(self.gateway);
        self
    }

    /// The gateway, by default the first address of the range. Nobody else gets it.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Gives the next free address, or `wanted`, to a container's interface.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`], [`IpamError::Duplicate`], for a wish [`IpamError::OutOfRange`], [`IpamError::Gateway`],
    /// [`IpamError::Taken`], and [`IpamError::Io`].
    pub fn allocate(
        &self,
        container_id: &str,
        ifname: &str,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, IpamError> {
        let _lock = self.lock()?;
        self.recover_empty()?;
        if let Some(ip) = self.find(container_id, ifname)? {
            return Err(IpamError::Duplicate {
                container_id: container_id.into(),
                ifname: ifname.into(),
                ip,
            });
        }
        let (first, last) = (self.first, self.last);
        let content = format!("{container_id}\r\n{ifname}");
        if let Some(ip) = wanted {
            if !(first..=last).contains(&u32::from(ip)) {
                return Err(IpamError::OutOfRange {
                    ip,
                    first: first.into(),
                    last: last.into(),
                });
            }
            if ip == self.gateway() {
                return Err(IpamError::Gateway(ip));
            }
            return if self.reserve(ip, &content)? {
                Ok(ip)
            } else {
                Err(IpamError::Taken(ip))
            };
        }
        let start = self.last_reserved().map_or(first, |ip| {
            let next = u32::from(ip).saturating_add(1);
            if (first..=last).contains(&next) {
                next
            } else {
                first
            }
        });
        for candidate in (start..=last).chain(first..start) {
            let ip = Ipv4Addr::from(candidate);
            if ip != self.gateway() && self.reserve(ip, &content)? {
                return Ok(ip);
            }
        }
        Err(IpamError::Exhausted {
            first: first.into(),
            last: last.into(),
        })
    }

    /// Takes back what a container's interface has; nothing is fine too (IPAM-6).
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn release(&self, container_id: &str, ifname: &str) -> Result<(), IpamError> {
        let _lock = self.lock()?;
        while let Some(ip) = self.find(container_id, ifname)? {
            let path = self.dir.join(ip.to_string());
            fs::remove_file(&path).map_err(|source| IpamError::Io { path, source })?;
        }
        Ok(())
    }

    /// All files of the directory but the lock, to put the state back with [`HostLocal::restore`].
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn save(&self) -> Result<Saved, IpamError> {
        let _lock = self.lock()?;
        let mut files = Vec::new();
        for name in self.names()? {
            let path = self.dir.join(&name);
            let content = fs::read(&path).map_err(|source| IpamError::Io { path, source })?;
            files.push((name, content));
        }
        Ok(Saved { files })
    }

    /// Puts back what [`HostLocal::save`] found.
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn restore(&self, saved: &Saved) -> Result<(), IpamError> {
        let _lock = self.lock()?;
        for name in self.names()? {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(|source| IpamError::Io { path, source })?;
        }
        for (name, content) in &saved.files {
            let path = self.dir.join(name);
            fs::write(&path, content).map_err(|source| IpamError::Io { path, source })?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<File, IpamError> {
        let wrap = |path: &Path| {
            let path = path.to_path_buf();
            move |source| IpamError::Io { path, source }
        };
        fs::create_dir_all(&self.dir).map_err(wrap(&self.dir))?;
        let path = self.dir.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(wrap(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| wrap(&path)(errno.into()))?;
        Ok(file)
    }

    fn names(&self) -> Result<Vec<String>, IpamError> {
        let wrap = |source| IpamError::Io {
            path: self.dir.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(wrap)? {
            let name = entry.map_err(wrap)?.file_name();
            if let Some(name) = name.to_str().filter(|name| *name != LOCK) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// A crash between the creation of a file and its writing leaves it empty: that address is free (IPAM-8).
    fn recover_empty(&self) -> Result<(), IpamError> {
        for name in self.names()? {
            let path = self.dir.join(&name);
            let is_empty = fs::metadata(&path).is_ok_and(|meta| meta.len() == 0);
            if is_empty && name.parse::<Ipv4Addr>().is_ok() {
                fs::remove_file(&path).map_err(|source| IpamError::Io { path, source })?;
            }
        }
        Ok(())
    }

    fn find(&self, container_id: &str, ifname: &str) -> Result<Option<Ipv4Addr>, IpamError> {
        let wanted = format!("{container_id}\r\n{ifname}");
        for name in self.names()? {
            let Ok(ip) = name.parse::<Ipv4Addr>() else {
                continue;
            };
            let path = self.dir.join(&name);
            let content =
                fs::read_to_string(&path).map_err(|source| IpamError::Io { path, source })?;
            if content.trim_end() == wanted {
                return Ok(Some(ip));
            }
        }
        Ok(None)
    }

    fn last_reserved(&self) -> Option<Ipv4Addr> {
        let text = fs::read_to_string(self.dir.join(LAST_RESERVED)).ok()?;
        text.trim().parse().ok()
    }

    /// True when the address was free and is now taken.
    fn reserve(&self, ip: Ipv4Addr, content: &str) -> Result<bool, IpamError> {
        let path = self.dir.join(ip.to_string());
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(IpamError::Io { path, source }),
        };
        let last = self.dir.join(LAST_RESERVED);
        let written = file
            .write_all(content.as_bytes())
            .and_then(|()| fs::write(&last, ip.to_string()));
        if let Err(source) = written {
            // The address must not stay taken by nobody; the first error is the one to tell.
            let _removed = fs::remove_file(&path);
            return Err(IpamError::Io { path, source });
        }
        Ok(true)
    }
}

/// The state of an allocator at one time.
#[derive(Clone, Debug)]
pub struct Saved {
    files: Vec<(String, Vec<u8>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn allocator(dir: &TempDir, subnet: &str) -> HostLocal {
        HostLocal::new(dir.path(), "kindnet", subnet.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    /// IPAM-1: a /24 gives .2 to .254, 253 addresses; IPAM-3: then the range is named as exhausted.
    #[test]
    fn a_slash_24_gives_253_addresses_and_then_names_the_range() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/24");
        for n in 2..=254u8 {
            let got = ipam.allocate(&format!("c{n}"), "eth0", None).unwrap();
            assert_eq!(got, Ipv4Addr::new(10, 244, 0, n));
        }
        let error = ipam.allocate("one-more", "eth0", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no IP addresses available in range set: 10.244.0.1-10.244.0.254"
        );
    }

    /// IPAM-1: a /30 gives one address, a /31 and a /32 are too small.
    #[test]
    fn a_slash_30_gives_one_address_and_smaller_ranges_are_refused() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.0.0.4/30");
        assert_eq!(ipam.allocate("a", "eth0", None).unwrap(), ip("10.0.0.6"));
        assert!(matches!(
            ipam.allocate("b", "eth0", None),
            Err(IpamError::Exhausted { .. })
        ));
        for small in ["10.0.0.4/31", "10.0.0.4/32"] {
            let error = HostLocal::new(dir.path(), "n", small.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("too small"), "{error}");
        }
    }

    /// IPAM-2: a freed address is not given again until the cursor has come round (seed 000: .2, then .3).
    #[test]
    fn a_freed_address_waits_for_its_turn() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.2.0/29");
        assert_eq!(ipam.allocate("a", "eth0", None).unwrap(), ip("10.244.2.2"));
        ipam.release("a", "eth0").unwrap();
        for (id, want) in [
            ("b", "10.244.2.3"),
            ("c", "10.244.2.4"),
            ("d", "10.244.2.5"),
            ("e", "10.244.2.6"),
            ("f", "10.244.2.2"),
        ] {
            assert_eq!(ipam.allocate(id, "eth0", None).unwrap(), ip(want));
        }
    }

    /// IPAM-4: a new allocator on the same files goes on with the next address; the files are as the plugin writes them.
    #[test]
    fn the_files_are_the_truth() {
        let dir = TempDir::new();
        allocator(&dir, "10.244.0.0/24")
            .allocate("0123abcd", "eth0", None)
            .unwrap();
        let files = dir.path().join("kindnet");
        assert_eq!(
            fs::read(files.join("10.244.0.2")).unwrap(),
            b"0123abcd\r\neth0"
        );
        assert_eq!(
            fs::read_to_string(files.join("last_reserved_ip.0")).unwrap(),
            "10.244.0.2"
        );
        assert!(files.join("lock").exists());
        let again = allocator(&dir, "10.244.0.0/24");
        assert_eq!(again.allocate("b", "eth0", None).unwrap(), ip("10.244.0.3"));
    }

    /// IPAM-6: a second ADD of the same container and interface is refused, a DEL of an unknown one succeeds.
    #[test]
    fn a_second_add_is_refused_and_an_unknown_del_succeeds() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/24");
        ipam.allocate("a", "eth0", None).unwrap();
        let error = ipam.allocate("a", "eth0", None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("duplicate allocation is not allowed"),
            "{error}"
        );
        ipam.release("nobody", "eth0").unwrap();
        ipam.allocate("a", "eth1", None).unwrap();
    }

    /// IPAM-7: a requested address must be in the range, free, and not the gateway's.
    #[test]
    fn a_requested_address_is_checked() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/24");
        let wish = |id: &str, text: &str| ipam.allocate(id, "eth0", Some(ip(text)));
        assert_eq!(wish("a", "10.244.0.77").unwrap(), ip("10.244.0.77"));
        assert!(matches!(wish("b", "10.244.0.77"), Err(IpamError::Taken(_))));
        assert!(matches!(
            wish("b", "10.244.0.1"),
            Err(IpamError::Gateway(_))
        ));
        assert!(matches!(
            wish("b", "10.244.1.2"),
            Err(IpamError::OutOfRange { .. })
        ));
        assert!(matches!(
            wish("b", "10.244.0.255"),
            Err(IpamError::OutOfRange { .. })
        ));
        assert_eq!(ipam.allocate("c", "eth0", None).unwrap(), ip("10.244.0.78"));
    }

    /// IPAM-8: an empty file is what a crash leaves; the address is free.
    #[test]
    fn an_empty_file_does_not_leak_its_address() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/30");
        fs::create_dir_all(dir.path().join("kindnet")).unwrap();
        fs::write(dir.path().join("kindnet/10.244.0.2"), "").unwrap();
        assert_eq!(ipam.allocate("a", "eth0", None).unwrap(), ip("10.244.0.2"));
    }

    /// IPAM-11: host bits in a subnet are an error that names the right network.
    #[test]
    fn host_bits_are_an_error_that_names_the_network() {
        let dir = TempDir::new();
        let error = HostLocal::new(dir.path(), "n", "10.244.0.5/24".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "10.244.0.5/24: host bits are set; the network is 10.244.0.0/24"
        );
    }

    /// A cursor that points outside the range (the subnet changed) starts at the range's beginning.
    #[test]
    fn a_foreign_cursor_starts_over() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/24");
        fs::create_dir_all(dir.path().join("kindnet")).unwrap();
        for text in ["10.9.9.9", "not an address", "255.255.255.255"] {
            fs::write(dir.path().join("kindnet/last_reserved_ip.0"), text).unwrap();
            assert_eq!(
                ipam.allocate(text, "eth0", None).unwrap().octets()[..3],
                [10, 244, 0]
            );
        }
    }

    /// Saved and restored, everything is as before, cursor included.
    #[test]
    fn a_saved_state_can_be_put_back() {
        let dir = TempDir::new();
        let ipam = allocator(&dir, "10.244.0.0/24");
        ipam.allocate("a", "eth0", None).unwrap();
        let saved = ipam.save().unwrap();
        ipam.allocate("b", "eth0", None).unwrap();
        ipam.release("a", "eth0").unwrap();
        ipam.restore(&saved).unwrap();
        assert_eq!(ipam.allocate("c", "eth0", None).unwrap(), ip("10.244.0.3"));
        assert!(matches!(
            ipam.allocate("a", "eth0", None),
            Err(IpamError::Duplicate { .. })
        ));
    }
}
