//! Who gets which pod address.

pub mod host_local;

pub use host_local::{HostLocal, IpamError};
