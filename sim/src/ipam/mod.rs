//! Who gets which pod address.

pub mod calico;
pub mod host_local;

pub use calico::{CalicoIpam, CalicoIpamError};
pub use host_local::{HostLocal, IpamError};
