//! What there is to know of an interface of the calling thread's network namespace.
//!
//! Decides nothing and changes nothing. Source: netdevice(7). Cost: four system calls.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const GET_FLAGS: libc::c_ulong = 0x8913;
const GET_MTU: libc::c_ulong = 0x8921;
const GET_ADDRESS: libc::c_ulong = 0x8927;
const GET_INDEX: libc::c_ulong = 0x8933;

/// ARPHRD_ETHER
const ETHERNET: [u8; 2] = 1_u16.to_ne_bytes();

/// `struct ifreq`: the name, then a union of 24 bytes.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    union: [u8; 24],
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Bytes, Ethernet header not counted.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// It carries Ethernet frames, which a loopback interface or a tunnel does not.
    pub ethernet: bool,
}

/// Looks at an interface by name.
///
/// # Errors
/// ENODEV when there is none of this name.
pub fn look(name: &str) -> io::Result<Interface> {
    let mut padded = [0; 16];
    if name.len() >= padded.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    padded[..name.len()].copy_from_slice(name.as_bytes());
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let ask = |request: libc::c_ulong| -> io::Result<[u8; 24]> {
        let mut answer = IfReq {
            name: padded,
            union: [0; 24],
        };
        // SAFETY: each of these requests reads and writes one struct ifreq (40 bytes: 16 and 24), which `answer` is, and of
        // which any bit pattern is valid. The socket is open.
        let status = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut answer) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(answer.union)
    };
    let word = |union: [u8; 24]| u32::from_ne_bytes([union[0], union[1], union[2], union[3]]);
    let flags = ask(GET_FLAGS)?;
    Ok(Interface {
        index: word(ask(GET_INDEX)?),
        mtu: word(ask(GET_MTU)?),
        // IFF_UP is the lowest bit of a short.
        up: u16::from_ne_bytes([flags[0], flags[1]]) & 1 != 0,
        ethernet: ask(GET_ADDRESS)?[..2] == ETHERNET,
    })
}

/// Names of all interfaces, as the kernel lists them.
#[must_use]
pub fn names() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.split_once(':'));
    rows.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every Linux has a loopback interface, which is none of Ethernet.
    #[test]
    fn the_loopback_interface_is_known() {
        let lo = look("lo").unwrap();
        assert_eq!((lo.index, lo.ethernet), (1, false));
        assert!(lo.mtu >= 1280);
        assert!(names().contains(&"lo".to_owned()));
        for absent in ["no-such-iface", "a-name-that-is-far-too-long"] {
            let error = look(absent).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{absent}");
        }
    }
}
