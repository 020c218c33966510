//! Layers around the ports of a running loop: put on, changed and taken off between two breaths.
//!
//! Decides that a port is wrapped exactly while it has a layer. Its number, its place on the ready list and its descriptors
//! stay as they are, so no event is lost.

use router_core::{Instant, PortId};

use super::{Engine, EventLoop};
use crate::any_port::AnyPort;
use crate::layer::{Layered, Layers};

impl<E: Engine> EventLoop<E> {
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
        self.layered.retain(|&layered| layered != id);
        entry.port = if layers.is_empty() {
            port
        } else {
            if layers.impaired.is_some() {
                self.layered.push(id);
            }
            AnyPort::Layered(Box::new(Layered::new(port, layers)))
        };
        *place = Some(entry);
        true
    }

    /// What is around a port; none where nothing is.
    #[must_use]
    pub fn layers(&self, id: PortId) -> Option<&Layers> {
        match self.port(id)? {
            AnyPort::Layered(layered) => Some(layered.layers()),
            _ => None,
        }
    }

    /// Says the time to ports with a stock of frames that are on their way: what is due is sent, or can be received.
    pub(super) fn begin_layers(&mut self, now: Instant) {
        for n in 0..self.layered.len() {
            let id = self.layered[n];
            let Some(Some(entry)) = self.ports.get_mut(usize::from(id.0)) else {
                continue;
            };
            let AnyPort::Layered(port) = &mut entry.port else {
                continue;
            };
            if entry.failed {
                continue;
            }
            let begun = port.begin(now, &mut self.pool);
            let due = port.has_due();
            match begun {
                Ok(false) => {}
                Ok(true) if entry.touched => {}
                Ok(true) => {
                    entry.touched = true;
                    self.touched.push(id);
                }
                Err(error) => self.fail(id, error),
            }
            if due {
                self.mark_ready(id);
            }
        }
    }

    /// When the first frame is due in any of them.
    pub(super) fn layers_deadline(&self) -> Option<Instant> {
        let ports = self.layered.iter().filter_map(|id| self.port(*id));
        let due = ports.filter_map(|port| match port {
            AnyPort::Layered(port) => port.next_deadline(),
            _ => None,
        });
        due.min()
    }

    /// Numbers of all ports.
    pub fn port_ids(&self) -> impl Iterator<Item = PortId> + '_ {
        let numbered = (0..=u16::MAX).zip(&self.ports);
        numbered.filter_map(|(id, entry)| entry.as_ref().map(|_| PortId(id)))
    }
}
