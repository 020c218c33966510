//! Offload features of interfaces of the calling thread's network namespace, by name.
//!
//! Decides nothing: which are switched off the caller says. Source: ethtool(8), Linux `include/uapi/linux/ethtool.h`,
//! `net/ethtool/ioctl.c`. Cost: four system calls.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// ETH_SS_FEATURES
const FEATURES: u32 = 4;
/// ETH_GSTRING_LEN
const NAME: usize = 32;
/// Words of a feature block that is read: available, requested, active, never changed.
const BLOCK: usize = 4;
const ACTIVE: usize = 2;

/// More features than any kernel has. It bounds what is allocated on a kernel's word.
const MAX_FEATURES: u32 = 4096;

/// `struct ifreq` as SIOCETHTOOL uses it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    data: *mut u32,
    rest: [u8; 16],
}

const _: () = assert!(size_of::<IfReq>() == 40);

/// A socket to ask with, and whom to ask about.
struct Interface {
    socket: OwnedFd,
    name: [u8; 16],
}

impl Interface {
    fn open(name: &str) -> io::Result<Self> {
        let mut padded = [0; 16];
        if name.len() >= padded.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        padded[..name.len()].copy_from_slice(name.as_bytes());
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self {
            socket,
            name: padded,
        })
    }

    /// One command: the words that begin with its number, large enough for its answer.
    fn command(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = IfReq {
            name: self.name,
            data: words.as_mut_ptr(),
            rest: [0; 16],
        };
        // SAFETY: SIOCETHTOOL reads one struct ifreq (40 bytes: asserted above) and what its pointer leads to: the words, which
        // are exclusively borrowed. Each command of this module has the length of its answer in one of its words, to which
        // the caller has made them long enough, or an answer of fixed length. The socket is open.
        let status =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Names of all features that this kernel knows, by their number.
    fn names(&self) -> io::Result<Vec<String>> {
        // struct ethtool_sset_info: command, reserved, 64 bits of what is asked, one number as the answer.
        let mut info = [GET_SET_INFO, 0, 1 << FEATURES, 0, 0];
        if cfg!(target_endian = "big") {
            info.swap(2, 3);
        }
        self.command(&mut info)?;
        let count = info[4].min(MAX_FEATURES);
        let len = usize::try_from(count).unwrap_or(0);
        let mut strings = vec![0; 3 + len * NAME / size_of::<u32>()];
        strings[..3].copy_from_slice(&[GET_STRINGS, FEATURES, count]);
        self.command(&mut strings)?;
        let bytes: Vec<u8> = strings[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
        Ok(bytes
            .chunks_exact(NAME)
            .map(|name| {
                let end = name.iter().position(|&b| b == 0).unwrap_or(NAME);
                String::from_utf8_lossy(&name[..end]).into_owned()
            })
            .collect())
    }
}

/// Switches features off that are on and that `unwanted` names. Returns their names. What the driver insists on stays.
///
/// # Errors
/// `InvalidInput` for a name longer than 15 bytes, ENODEV when there is no such interface, EPERM without CAP_NET_ADMIN.
pub fn switch_off(interface: &str, unwanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let interface = Interface::open(interface)?;
    let mut names = interface.names()?;
    let blocks = names.len().div_ceil(32);
    let size = u32::try_from(blocks).unwrap_or(u32::MAX);
    let mut present = vec![0; 2 + blocks * BLOCK];
    present[..2].copy_from_slice(&[GET_FEATURES, size]);
    interface.command(&mut present)?;
    // struct ethtool_sfeatures: command, size, and of each block which bits are meant and what they shall be.
    let mut wanted = vec![0; 2 + blocks * 2];
    wanted[..2].copy_from_slice(&[SET_FEATURES, size]);
    let mut off = Vec::new();
    for (n, name) in names.iter_mut().enumerate() {
        let (block, bit) = (n / 32, 1 << (n % 32));
        let active = present[2 + block * BLOCK + ACTIVE] & bit != 0;
        if active && unwanted(name) {
            wanted[2 + block * 2] |= bit;
            off.push(std::mem::take(name));
        }
    }
    if !off.is_empty() {
        interface.command(&mut wanted)?;
    }
    Ok(off)
}
