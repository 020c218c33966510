//! Ports on devices of the kernel whose descriptors the daemon hands over.

use std::io;
use std::os::fd::OwnedFd;

use tap_bridge::device::{Device, DevicePort};
use tap_bridge::event_loop::AnyPort;
use tap_bridge::packet::{self, PacketPort};
use tap_bridge::tap::{self, TapPort};

use super::worker::Worker;

impl Worker {
    /// A TAP device.
    pub(super) fn tap_port(&mut self, fd: OwnedFd, name: &str, mtu: u16) -> io::Result<AnyPort> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // What the device was asked for is a property of its descriptor.
        let offload = tap::has_offloads(&fd);
        let port = self.with_tails(TapPort::new(fd, name, mtu), offload)?;
        Ok(port.into())
    }

    /// A packet socket. Whatever the lab says, it may hand superframes in, as a pod may switch its offloads on again;
    /// `offload` says whether it is given any.
    pub(super) fn packet_port(
        &mut self,
        fd: OwnedFd,
        name: &str,
        mtu: u16,
        offload: bool,
    ) -> io::Result<AnyPort> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let header = packet::has_offloads(&fd);
        let port = self.with_tails(PacketPort::new(fd, name, mtu), header)?;
        Ok(if offload {
            port.into()
        } else {
            port.sending_on_the_wire().into()
        })
    }

    fn with_tails<D: Device>(
        &mut self,
        port: DevicePort<D>,
        offload: bool,
    ) -> io::Result<DevicePort<D>> {
        if !offload {
            return Ok(port);
        }
        let tails = self.tails()?;
        Ok(port.with_offload(tails))
    }
}
