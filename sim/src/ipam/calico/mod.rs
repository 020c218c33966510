//! calico-ipam: blocks of a pool that hosts claim, one address at a time out of them (CAL-1..8).
//!
//! Decides which block a host gets (the one that its name leads to, else the next free one), which address a pod gets, and
//! when a host takes an address out of another's block. Doesn't decide what is routed where: that follows from affinities, and
//! only from confirmed ones (CAL-26). Cluster-wide, as Kubernetes' API is that keeps these for Calico; files stand for the API, one
//! per block and per affinity, so that a new allocator on the same directory goes on where the old one stopped.
//! Source: projectcalico/calico, libcalico-go/lib/ipam. Cost: the first address of a new host may walk the whole pool, any other
//! the host's own blocks; a change writes the file of its block.

mod block;
mod go_rand;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use block::{Allocation, Block, name_of};
use go_rand::GoRand;

/// Calico's IPPool with what of its IPAMConfig matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Prefix length of its blocks, 20 to 32 and not shorter than the pool's.
    pub block_size: u8,
    /// Whether hosts stay within their own blocks.
    pub strict_affinity: bool,
    /// How many blocks a host may have.
    pub max_blocks_per_host: u32,
}

impl Pool {
    /// How many blocks it has.
    fn blocks(&self) -> u32 {
        1 << (self.block_size - self.cidr.prefix_len()).min(31)
    }

    fn block(&self, index: u32) -> Ipv4Net {
        let base = u32::from(self.cidr.network());
        let offset = u64::from(index) << (32 - self.block_size);
        let first = base.wrapping_add(u32::try_from(offset).unwrap_or_default());
        Ipv4Net::new_assert(first.into(), self.block_size)
    }

    fn block_of(&self, ip: Ipv4Addr) -> Ipv4Net {
        Ipv4Net::new_assert(ip, self.block_size).trunc()
    }

    /// The blocks in the order in which `host` tries them: from the one that FNV-1 of its name leads to upwards, and round
    /// (CAL-2).
    fn walk(&self, host: &str) -> impl Iterator<Item = Ipv4Net> + use<'_> {
        let hash = host.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)
        });
        let count = self.blocks();
        let first = GoRand::new(hash).below(u64::from(count));
        let first = u32::try_from(first).unwrap_or_default();
        (0..count).map(move |n| self.block((first + n) % count))
    }
}

/// Whether a claim is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AffinityState {
    /// The host wants the block; whether it gets it is open, so nothing is routed by it (CAL-26).
    Pending,
    /// The block is the host's.
    Confirmed,
}

/// A host's claim of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// The block.
    pub cidr: Ipv4Net,
    /// Who claims it.
    pub host: String,
    /// Whether it has it.
    pub state: AffinityState,
}

/// An address could not be given. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalicoIpamError {
    /// CAL-7: nothing is free.
    #[error("no address is free in pool {pool} for host {host}{}", if *.strict { " (strictAffinity: addresses of other hosts' blocks are not borrowed)" } else { "" })]
    Exhausted {
        /// The pool.
        pool: Ipv4Net,
        /// Who asked.
        host: String,
        /// Others' blocks were not asked.
        strict: bool,
    },
    /// CAL-6: the host's blocks are full and it may have no more.
    #[error(
        "cannot allocate a new block for host {host}: it has {limit} already, which is the limit per host"
    )]
    BlockLimit {
        /// Who asked.
        host: String,
        /// How many it may have.
        limit: u32,
    },
    /// A wanted address outside the pool.
    #[error("address {ip} is not in pool {pool}")]
    OutsidePool {
        /// The wish.
        ip: Ipv4Addr,
        /// The pool.
        pool: Ipv4Net,
    },
    /// A wanted address that somebody has.
    #[error("address {ip} is assigned already, to {handle}")]
    Taken {
        /// The wish.
        ip: Ipv4Addr,
        /// Who has it.
        handle: String,
    },
    /// A wanted address in another host's block, with strictAffinity.
    #[error("address {ip} is in block {block} of host {owner}, and strictAffinity is set")]
    Foreign {
        /// The wish.
        ip: Ipv4Addr,
        /// Its block.
        block: Ipv4Net,
        /// Whose that is.
        owner: String,
    },
    /// The files.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The allocator of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalicoIpam {
    pool: Pool,
    dir: PathBuf,
    blocks: BTreeMap<Ipv4Net, Block>,
    affinities: BTreeMap<Ipv4Net, Affinity>,
}

impl CalicoIpam {
    /// An allocator with its files below `dir`, in the state in which they are. A claim that was interrupted is completed where
    /// the block had been made, else given up.
    ///
    /// # Errors
    /// [`CalicoIpamError::Io`], for files that can't be read as well.
    pub fn open(pool: Pool, dir: &Path) -> Result<Self, CalicoIpamError> {
        let mut ipam = Self {
            pool,
            dir: dir.to_owned(),
            blocks: store::read(&dir.join(store::BLOCKS), |block: &Block| block.cidr)?,
            affinities: store::read(&dir.join(store::AFFINITIES), |it: &Affinity| it.cidr)?,
        };
        let pending: Vec<Affinity> = ipam
            .affinities
            .values()
            .filter(|affinity| affinity.state == AffinityState::Pending)
            .cloned()
            .collect();
        for affinity in pending {
            let owner = ipam.blocks.get(&affinity.cidr).map(|block| &block.affinity);
            if owner == Some(&Some(affinity.host)) {
                ipam.confirm(affinity.cidr)?;
            } else {
                ipam.affinities.remove(&affinity.cidr);
                ipam.store(affinity.cidr)?;
            }
        }
        Ok(ipam)
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// All blocks by address.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.blocks.values()
    }

    /// All claims by block.
    pub fn affinities(&self) -> impl ExactSizeIterator<Item = &Affinity> {
        self.affinities.values()
    }

    /// The address that `handle` has.
    #[must_use]
    pub fn address_of(&self, handle: &str) -> Option<Ipv4Addr> {
        self.blocks.values().find_map(|block| {
            let mut all = block.allocated();
            all.find(|(_, found)| found.handle == handle)
                .map(|(ip, _)| ip)
        })
    }

    /// Gives `host` an address: out of its own blocks, else of a new one, else, without strictAffinity, of another's. A handle that
    /// has one already keeps it.
    ///
    /// # Errors
    /// [`CalicoIpamError::BlockLimit`], [`CalicoIpamError::Exhausted`], [`CalicoIpamError::Io`].
    pub fn assign(
        &mut self,
        host: &str,
        allocation: &Allocation,
        now_ms: u64,
    ) -> Result<Ipv4Addr, CalicoIpamError> {
        if let Some(ip) = self.address_of(&allocation.handle) {
            return Ok(ip);
        }
        let own = self.blocks_of(host);
        for cidr in &own {
            if let Some(ip) = self.assign_from(*cidr, allocation)? {
                return Ok(ip);
            }
        }
        if own.len() >= usize::try_from(self.pool.max_blocks_per_host).unwrap_or(usize::MAX) {
            return Err(CalicoIpamError::BlockLimit {
                host: host.to_owned(),
                limit: self.pool.max_blocks_per_host,
            });
        }
        let unclaimed = self
            .pool
            .walk(host)
            .find(|cidr| !self.blocks.contains_key(cidr));
        if let Some(cidr) = unclaimed {
            self.claim(cidr, host, now_ms)?;
            if let Some(ip) = self.assign_from(cidr, allocation)? {
                return Ok(ip);
            }
        }
        if !self.pool.strict_affinity {
            // No block is unclaimed, so these are all.
            let others: Vec<Ipv4Net> = self.pool.walk(host).collect();
            for cidr in others {
                if let Some(ip) = self.assign_from(cidr, allocation)? {
                    return Ok(ip);
                }
            }
        }
        Err(CalicoIpamError::Exhausted {
            pool: self.pool.cidr,
            host: host.to_owned(),
            strict: self.pool.strict_affinity,
        })
    }

    /// Gives `host` a certain address, claiming its block when nobody has.
    ///
    /// # Errors
    /// [`CalicoIpamError::OutsidePool`], [`CalicoIpamError::Taken`], [`CalicoIpamError::Foreign`],
    /// [`CalicoIpamError::BlockLimit`], [`CalicoIpamError::Io`].
    pub fn assign_this(
        &mut self,
        host: &str,
        ip: Ipv4Addr,
        allocation: &Allocation,
        now_ms: u64,
    ) -> Result<(), CalicoIpamError> {
        if !self.pool.cidr.contains(&ip) {
            return Err(CalicoIpamError::OutsidePool {
                ip,
                pool: self.pool.cidr,
            });
        }
        let cidr = self.pool.block_of(ip);
        match self.blocks.get(&cidr) {
            None => {
                let own = self.blocks_of(host).len();
                if own >= usize::try_from(self.pool.max_blocks_per_host).unwrap_or(usize::MAX) {
                    return Err(CalicoIpamError::BlockLimit {
                        host: host.to_owned(),
                        limit: self.pool.max_blocks_per_host,
                    });
                }
                self.claim(cidr, host, now_ms)?;
            }
            Some(block) if self.pool.strict_affinity && block.affinity.as_deref() != Some(host) => {
                return Err(CalicoIpamError::Foreign {
                    ip,
                    block: cidr,
                    owner: block
                        .affinity
                        .clone()
                        .unwrap_or_else(|| "nobody".to_owned()),
                });
            }
            Some(_) => {}
        }
        if !self
            .change(cidr, |block| block.assign_this(ip, allocation))?
            .unwrap_or(false)
        {
            let mut all = self.blocks.values().flat_map(Block::allocated);
            let owner = all.find(|(taken, _)| *taken == ip);
            return Err(CalicoIpamError::Taken {
                ip,
                handle: owner.map_or_else(String::new, |(_, found)| found.handle.clone()),
            });
        }
        Ok(())
    }

    /// Takes back what `handle` has, and returns it; nothing is fine too (CAL-8). A block that belongs to nobody any more goes
    /// with its last address.
    ///
    /// # Errors
    /// [`CalicoIpamError::Io`].
    pub fn release(&mut self, handle: &str) -> Result<Vec<Ipv4Addr>, CalicoIpamError> {
        let mut freed = Vec::new();
        let holding: Vec<Ipv4Net> = self
            .blocks
            .values()
            .filter(|block| block.allocated().any(|(_, found)| found.handle == handle))
            .map(|block| block.cidr)
            .collect();
        for cidr in holding {
            freed.extend(
                self.change(cidr, |block| block.release(handle))?
                    .unwrap_or_default(),
            );
            if self
                .blocks
                .get(&cidr)
                .is_some_and(|it| it.affinity.is_none() && it.is_empty())
            {
                self.blocks.remove(&cidr);
                self.store(cidr)?;
            }
        }
        Ok(freed)
    }

    /// Gives up all blocks of a host that leaves. Those that others have addresses of stay, and belong to nobody.
    ///
    /// # Errors
    /// [`CalicoIpamError::Io`].
    pub fn release_host(&mut self, host: &str) -> Result<(), CalicoIpamError> {
        let claimed: Vec<Ipv4Net> = self
            .affinities
            .values()
            .filter(|affinity| affinity.host == host)
            .map(|affinity| affinity.cidr)
            .collect();
        for cidr in claimed {
            self.affinities.remove(&cidr);
            match self.blocks.get_mut(&cidr) {
                Some(block) if block.affinity.as_deref() != Some(host) => {}
                Some(block) if block.is_empty() => {
                    self.blocks.remove(&cidr);
                }
                Some(block) => block.affinity = None,
                None => {}
            }
            self.store(cidr)?;
        }
        Ok(())
    }

    /// Writes everything again, after the value was put back to an older one.
    ///
    /// # Errors
    /// [`CalicoIpamError::Io`].
    pub fn rewrite(&self) -> Result<(), CalicoIpamError> {
        store::clear(&self.dir.join(store::BLOCKS))?;
        store::clear(&self.dir.join(store::AFFINITIES))?;
        for cidr in self.blocks.keys().chain(self.affinities.keys()) {
            self.store(*cidr)?;
        }
        Ok(())
    }

    /// A host's own blocks, in the order of their names, as the API lists them.
    fn blocks_of(&self, host: &str) -> Vec<Ipv4Net> {
        let mut own: Vec<Ipv4Net> = self
            .affinities
            .values()
            .filter(|it| it.host == host && it.state == AffinityState::Confirmed)
            .map(|it| it.cidr)
            .collect();
        own.sort_by_cached_key(|cidr| name_of(*cidr));
        own
    }

    /// Claims a block that nobody has, in Calico's three steps: a pending affinity, the block, the affinity confirmed. The first
    /// and the last are visible to others, and [`CalicoIpam::open`] knows what to do when it ends between them.
    fn claim(&mut self, cidr: Ipv4Net, host: &str, now_ms: u64) -> Result<(), CalicoIpamError> {
        self.begin_claim(cidr, host)?;
        self.blocks.insert(cidr, Block::new(cidr, host, now_ms));
        self.store(cidr)?;
        self.confirm(cidr)
    }

    fn begin_claim(&mut self, cidr: Ipv4Net, host: &str) -> Result<(), CalicoIpamError> {
        let affinity = Affinity {
            cidr,
            host: host.to_owned(),
            state: AffinityState::Pending,
        };
        self.affinities.insert(cidr, affinity);
        self.store(cidr)
    }

    fn confirm(&mut self, cidr: Ipv4Net) -> Result<(), CalicoIpamError> {
        if let Some(affinity) = self.affinities.get_mut(&cidr) {
            affinity.state = AffinityState::Confirmed;
        }
        self.store(cidr)
    }

    fn assign_from(
        &mut self,
        cidr: Ipv4Net,
        allocation: &Allocation,
    ) -> Result<Option<Ipv4Addr>, CalicoIpamError> {
        if self
            .blocks
            .get(&cidr)
            .is_none_or(|block| block.unallocated.is_empty())
        {
            return Ok(None);
        }
        Ok(self
            .change(cidr, |block| block.assign(allocation))?
            .flatten())
    }

    /// Changes a block and its file, or neither. None when there is no such block.
    fn change<T>(
        &mut self,
        cidr: Ipv4Net,
        change: impl FnOnce(&mut Block) -> T,
    ) -> Result<Option<T>, CalicoIpamError> {
        let Some(block) = self.blocks.get_mut(&cidr) else {
            return Ok(None);
        };
        let before = block.clone();
        let result = change(block);
        if let Err(error) = self.store(cidr) {
            self.blocks.insert(cidr, before);
            return Err(error);
        }
        Ok(Some(result))
    }

    /// Brings the files of one block and its affinity into line.
    fn store(&self, cidr: Ipv4Net) -> Result<(), CalicoIpamError> {
        store::write(
            &self.dir.join(store::BLOCKS),
            &name_of(cidr),
            self.blocks.get(&cidr),
        )?;
        store::write(
            &self.dir.join(store::AFFINITIES),
            &name_of(cidr),
            self.affinities.get(&cidr),
        )
    }
}
