//! Which backend a connection gets: by weight, or the one that its client had before (session affinity).
//!
//! Cost: for a new connection a random number and a walk over the backends; with affinity a look-up, too. The clients
//! remembered are bounded ([`CLIENTS`]); the one seen longest ago by the clock hand makes room.

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::config::nat::{Backend, NatConfig, Target};
use crate::random::{self, Rng};
use crate::table::flow::{FlowKey, FlowTable};
use crate::time::Instant;

/// Clients remembered at once.
const CLIENTS: usize = 16_384;

#[derive(Clone, Copy, Debug)]
struct Client {
    key: FlowKey,
    addr: Ipv4Addr,
    port: Option<u16>,
    seen: Instant,
}

/// Which backend each client of each service had last. Takes no memory before a rule asks for it.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    table: Option<FlowTable>,
    clients: Vec<Client>,
    hand: usize,
}

impl Affinity {
    /// Makes room for clients, for the first configuration that remembers any: nothing allocates after that.
    pub(super) fn prepare(&mut self, config: &NatConfig, rng: &mut Rng) {
        let wanted = config.chains.iter().flat_map(|c| &c.rules).any(|rule| {
            matches!(
                rule.target,
                Target::Dnat {
                    affinity: Some(_),
                    ..
                }
            )
        });
        if wanted && self.table.is_none() {
            self.table = Some(FlowTable::new(CLIENTS, rng.next()));
            self.clients.reserve_exact(CLIENTS);
        }
    }

    fn get(&mut self, key: FlowKey) -> Option<&mut Client> {
        let at = self.table.as_ref()?.get(key)?;
        self.clients.get_mut(at as usize)
    }

    fn remember(&mut self, client: Client) {
        if let Some(known) = self.get(client.key) {
            *known = client;
            return;
        }
        let Some(table) = &mut self.table else { return };
        let at = if self.clients.len() < CLIENTS {
            self.clients.push(client);
            self.clients.len() - 1
        } else {
            self.hand = (self.hand + 1) % CLIENTS;
            self.hand
        };
        if let Some(place) = self.clients.get_mut(at) {
            table.remove(place.key);
            *place = client;
        }
        if let Ok(at) = u32::try_from(at) {
            // No place within reach: this client's next connection is a stranger's.
            let _ = table.insert(client.key, at);
        }
    }
}

/// The backend for a connection of `client`. `service` names the rule, so that clients of different services don't meet.
/// None when there is no backend.
pub(super) fn choose(
    affinity: &mut Affinity,
    rng: &mut Rng,
    now: Instant,
    (service, client): (u64, Ipv4Addr),
    backends: &[Backend],
    stays_for: Option<Duration>,
) -> Option<Backend> {
    let Some(stays_for) = stays_for else {
        return by_weight(rng, backends);
    };
    let key = FlowKey([service, u64::from(client.to_bits())]);
    let known = affinity.get(key).and_then(|c| {
        let fresh = now.since(c.seen) <= stays_for;
        let backend = backends
            .iter()
            .find(|b| (b.addr, b.port) == (c.addr, c.port))
            .filter(|_| fresh)?;
        c.seen = now;
        Some(*backend)
    });
    if known.is_some() {
        return known;
    }
    let backend = by_weight(rng, backends)?;
    affinity.remember(Client {
        key,
        addr: backend.addr,
        port: backend.port,
        seen: now,
    });
    Some(backend)
}

fn by_weight(rng: &mut Rng, backends: &[Backend]) -> Option<Backend> {
    if let [only] = backends {
        return Some(*only);
    }
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut at = rng.next().checked_rem(total)?;
    for backend in backends {
        match at.checked_sub(u64::from(backend.weight)) {
            Some(rest) => at = rest,
            None => return Some(*backend),
        }
    }
    None
}

/// A number for a rule that stays the same while its name and conditions do, whatever its backends.
pub(super) fn service(chain: &str, conditions: &impl core::hash::Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    core::hash::Hash::hash(chain, &mut hasher);
    conditions.hash(&mut hasher);
    random::mix(hasher.0)
}

/// FNV-1a. Rules are the control plane's: nobody else chooses them.
struct Fnv(u64);

impl core::hash::Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
