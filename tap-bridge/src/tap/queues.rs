//! TAP interfaces with several queues, each a descriptor of its own: one for each worker of a node.
//!
//! Decides nothing about what comes by which queue: the driver does. It hashes a frame's addresses and ports so that both
//! directions of a flow fall on the same number, and takes the queue by that; a frame that is written by a queue teaches it
//! that frames of the same hash leave by that one, for some seconds (`tun_automq_select_queue`, `tun_flow_update`).
//!
//! Source: Linux `Documentation/networking/tuntap.rst` 3.3, `drivers/net/tun.c`.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

use super::{TapConfig, TapError, checked_name, create, errno_is, open_and_attach, set_offloads};

/// As [`create`], with so many queues. Their numbers are the places of the descriptors.
///
/// # Errors
/// See [`TapError`]; no interface is left behind.
pub fn create_queues(config: &TapConfig, queues: usize) -> Result<Vec<OwnedFd>, TapError> {
    if queues <= 1 {
        return Ok(vec![create(config)?]);
    }
    let name = checked_name(&config.name)?;
    let (first, vnet) = match open_and_attach(name, config, config.offload, true) {
        Err(TapError::Attach { source, .. })
            if config.offload && errno_is(&source, Errno::INVAL) =>
        {
            (open_and_attach(name, config, false, true)?, false)
        }
        first => (first?, config.offload),
    };
    if vnet {
        set_offloads(first.as_fd()).map_err(|source| TapError::Offload {
            name: name.into(),
            source,
        })?;
    }
    // The interface has its index by now.
    let config = TapConfig {
        ifindex: None,
        ..config.clone()
    };
    let mut all = vec![first];
    while all.len() < queues {
        all.push(open_and_attach(name, &config, vnet, true)?);
    }
    Ok(all)
}
