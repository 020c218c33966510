//! Layers around the ports of a running loop: put on, changed and taken off between two breaths.
//!
//! Decides that a port is wrapped exactly while it has a layer. Its number, its place on the ready list and its descriptors
//! stay as they are, so no event is lost.

use router_core::PortId;

use super::EventLoop;
use crate::any_port::AnyPort;
use crate::layer::{Layered, Layers};

impl<E> EventLoop<E> {
    /// Changes the layers around a port. False when there is none of this number.
    pub fn change_layers(&mut self, id: PortId, change: impl FnOnce(&mut Layers)) -> bool {
        let Some(place) = self.ports.get_mut(usize::from(id.0)) else {
            return false;
        };
        let Some(mut entry) = place.take() else {
            return false;
        };
        let (port, mut layers) = match entry.port {
            AnyPort::Layered(layered) => layered.into_parts(),
            port => (port, Layers::default()),
        };
        change(&mut layers);
        entry.port = if layers.is_empty() {
            port
        } else {
            AnyPort::Layered(Box::new(Layered::new(port, layers)))
        };
        *place = Some(entry);
        true
    }

    /// Numbers of all ports.
    pub fn port_ids(&self) -> impl Iterator<Item = PortId> + '_ {
        let numbered = (0..=u16::MAX).zip(&self.ports);
        numbered.filter_map(|(id, entry)| entry.as_ref().map(|_| PortId(id)))
    }
}
