//! A block: the addresses that a host claims together, and who has which of them (CAL-3).
//!
//! Free ordinals stand in a queue, at first ascending; a released one goes to its end, so that no address comes back soon.
//! Every ordinal is usable, the first and the last too.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// `k8s-pod-network.CONTAINER`, `ipip-tunnel-addr-NODE`.
    pub handle: String,
    /// What else is known: `node`, `namespace`, `pod`, `type`.
    pub attributes: IndexMap<String, String>,
}

/// An IPAM block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// The host that it belongs to; none when that host is gone and others have addresses of it.
    pub affinity: Option<String>,
    /// By ordinal.
    pub allocations: Vec<Option<Allocation>>,
    /// Free ordinals in the order in which they are given.
    pub unallocated: VecDeque<u16>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Block {
    /// A free block.
    #[must_use]
    pub fn new(cidr: Ipv4Net, affinity: &str, now_ms: u64) -> Self {
        // Pools are checked to have blocks of 4096 addresses at most.
        let size = 1_u16 << (32 - cidr.prefix_len().clamp(20, 32));
        Self {
            cidr,
            affinity: Some(affinity.to_owned()),
            allocations: (0..size).map(|_| None).collect(),
            unallocated: (0..size).collect(),
            created_ms: now_ms,
        }
    }

    /// Kubernetes' name of it: `10-244-120-64-26`.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.cidr)
    }

    /// The address at `ordinal`.
    #[must_use]
    pub fn address(&self, ordinal: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + u32::from(ordinal))
    }

    /// The allocations with their addresses.
    pub fn allocated(&self) -> impl Iterator<Item = (Ipv4Addr, &Allocation)> {
        (0_u16..)
            .zip(&self.allocations)
            .filter_map(|(ordinal, found)| Some((self.address(ordinal), found.as_ref()?)))
    }

    /// True when nobody has an address of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unallocated.len() == self.allocations.len()
    }

    /// Gives the address that has waited longest. None when none is free.
    pub(super) fn assign(&mut self, allocation: &Allocation) -> Option<Ipv4Addr> {
        let ordinal = self.unallocated.pop_front()?;
        *self.allocations.get_mut(usize::from(ordinal))? = Some(allocation.clone());
        Some(self.address(ordinal))
    }

    /// Gives a certain address. False when somebody has it.
    pub(super) fn assign_this(&mut self, ip: Ipv4Addr, allocation: &Allocation) -> bool {
        let base = u32::from(self.cidr.network());
        let wanted = u32::from(ip).checked_sub(base);
        let at = self
            .unallocated
            .iter()
            .position(|ordinal| wanted == Some(u32::from(*ordinal)));
        let Some(ordinal) = at.and_then(|at| self.unallocated.remove(at)) else {
            return false;
        };
        if let Some(slot) = self.allocations.get_mut(usize::from(ordinal)) {
            *slot = Some(allocation.clone());
        }
        true
    }

    /// Takes back what `handle` has, and returns it.
    pub(super) fn release(&mut self, handle: &str) -> Vec<Ipv4Addr> {
        let mut freed = Vec::new();
        for (ordinal, slot) in (0_u16..).zip(&mut self.allocations) {
            if slot.as_ref().is_some_and(|found| found.handle == handle) {
                *slot = None;
                freed.push(ordinal);
            }
        }
        self.unallocated.extend(&freed);
        freed
            .into_iter()
            .map(|ordinal| self.address(ordinal))
            .collect()
    }
}

/// Kubernetes' name of a block.
#[must_use]
pub fn name_of(cidr: Ipv4Net) -> String {
    cidr.to_string().replace(['.', '/'], "-")
}
