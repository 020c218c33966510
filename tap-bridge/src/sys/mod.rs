//! Every system call that needs care, safe upwards.
//!
//! With the fabric's shared ring the only place of this crate where unsafe code may stand.
#![allow(unsafe_code)]

pub mod child;
pub mod clock;
pub mod epoll;
pub mod ethtool;
pub mod eventfd;
pub mod limits;
pub mod links;
pub mod mount;
pub mod netdevice;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod rules;
pub mod scm;
pub mod shm;
pub mod spawn;
pub mod tun;
pub mod userns;
pub mod vectored;
