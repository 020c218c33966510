//! Blocks and addresses, and a slow oracle that walks lists.

use indexmap::IndexMap;
use proptest::prelude::*;

use super::*;
use crate::testing::TempDir;

fn pool(cidr: &str, block_size: u8) -> Pool {
    Pool {
        cidr: cidr.parse().unwrap(),
        block_size,
        strict_affinity: false,
        max_blocks_per_host: 20,
    }
}

fn minikube(dir: &TempDir) -> CalicoIpam {
    CalicoIpam::open(pool("10.244.0.0/16", 26), dir.path()).unwrap()
}

fn handle(name: &str) -> Allocation {
    Allocation {
        handle: name.to_owned(),
        attributes: IndexMap::new(),
    }
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// CAL-2, CAL-4: the blocks of seed 001 and of kind's names, and the base address as the first one.
#[test]
fn the_first_block_follows_from_the_hosts_name() {
    for (host, first) in [
        ("minikube", "10.244.120.64"),
        ("minikube-m02", "10.244.205.192"),
        ("minikube-m03", "10.244.151.0"),
        ("kind-control-plane", "10.244.82.0"),
        ("kind-worker", "10.244.162.128"),
        ("kind-worker2", "10.244.110.128"),
    ] {
        let dir = TempDir::new();
        let got = minikube(&dir).assign(host, &handle("tunnel"), 0).unwrap();
        assert_eq!(got, ip(first), "{host}");
    }
}

/// CAL-1, CAL-3, CAL-5, CAL-6: 64 addresses of a block, the base and the last too, then the next block that the walk finds.
#[test]
fn a_block_gives_64_addresses_and_then_another_is_claimed() {
    let dir = TempDir::new();
    let mut ipam = minikube(&dir);
    for n in 0..64_u8 {
        let got = ipam
            .assign("minikube-m02", &handle(&format!("h{n}")), 0)
            .unwrap();
        assert_eq!(got, Ipv4Addr::new(10, 244, 205, 192 + n));
    }
    let next = ipam.assign("minikube-m02", &handle("h64"), 0).unwrap();
    assert_eq!(next, ip("10.244.206.0"));
    assert_eq!(ipam.blocks().len(), 2);
    assert!(ipam.affinities().all(|it| it.host == "minikube-m02"));
}

/// CAL-2: a candidate that another host has is passed over, upwards and round the end of the pool.
#[test]
fn the_walk_passes_over_taken_blocks_and_goes_round() {
    let dir = TempDir::new();
    let mut ipam = CalicoIpam::open(pool("10.0.0.0/24", 26), dir.path()).unwrap();
    let hosts: Vec<String> = (0..4).map(|n| format!("host-{n}")).collect();
    for host in &hosts {
        let wanted: Vec<Ipv4Net> = ipam.pool.walk(host).collect();
        let taken: Vec<Ipv4Net> = ipam.blocks().map(|block| block.cidr).collect();
        let got = ipam.assign(host, &handle(host), 0).unwrap();
        let free = wanted.iter().find(|cidr| !taken.contains(cidr)).unwrap();
        assert_eq!(got, free.network());
    }
    assert_eq!(ipam.blocks().len(), 4);
}

/// CAL-3, CAL-8: a released address comes back last of all; releasing again is fine, and the tunnel's is never given to a pod.
#[test]
fn released_addresses_come_back_last_and_the_tunnels_never() {
    let dir = TempDir::new();
    let mut ipam = minikube(&dir);
    let tunnel = ipam
        .assign("minikube", &handle("ipip-tunnel-addr-minikube"), 0)
        .unwrap();
    for n in 0..200 {
        let name = format!("pod-{n}");
        let got = ipam.assign("minikube", &handle(&name), 0).unwrap();
        assert_ne!(got, tunnel);
        let turn = u8::try_from(n % 63).unwrap();
        assert_eq!(got, Ipv4Addr::new(10, 244, 120, 65 + turn));
        assert_eq!(ipam.release(&name).unwrap(), [got]);
        assert_eq!(ipam.release(&name).unwrap(), Vec::<Ipv4Addr>::new());
    }
}

/// CAL-8: the same handle has one address, however often it asks.
#[test]
fn a_handle_that_has_an_address_keeps_it() {
    let dir = TempDir::new();
    let mut ipam = minikube(&dir);
    let first = ipam.assign("minikube", &handle("a"), 0).unwrap();
    assert_eq!(ipam.assign("minikube", &handle("a"), 0).unwrap(), first);
    assert_eq!(ipam.address_of("a"), Some(first));
    assert_eq!(ipam.address_of("b"), None);
}

/// CAL-7: with no block left an address of another host's is borrowed, with strictAffinity it isn't.
#[test]
fn without_a_free_block_addresses_are_borrowed() {
    for strict in [false, true] {
        let dir = TempDir::new();
        let mut rules = pool("10.0.0.0/29", 30);
        rules.strict_affinity = strict;
        let mut ipam = CalicoIpam::open(rules, dir.path()).unwrap();
        ipam.assign("a", &handle("a1"), 0).unwrap();
        ipam.assign("b", &handle("b1"), 0).unwrap();
        let borrowed = ipam.assign("c", &handle("c1"), 0);
        if strict {
            let text = borrowed.unwrap_err().to_string();
            assert!(text.contains("strictAffinity"), "{text}");
        } else {
            let got = borrowed.unwrap();
            let block = ipam.pool.block_of(got);
            assert_ne!(ipam.blocks[&block].affinity.as_deref(), Some("c"));
            assert!(ipam.affinities().all(|it| it.host != "c"));
        }
    }
}

/// CAL-7: when every address is taken the pool is named.
#[test]
fn an_exhausted_pool_is_named() {
    let dir = TempDir::new();
    let mut ipam = CalicoIpam::open(pool("10.0.0.0/30", 31), dir.path()).unwrap();
    for n in 0..4 {
        ipam.assign("a", &handle(&n.to_string()), 0).unwrap();
    }
    let text = ipam.assign("a", &handle("4"), 0).unwrap_err().to_string();
    assert_eq!(text, "no address is free in pool 10.0.0.0/30 for host a");
}

/// CAL-6: a host has at most so many blocks.
#[test]
fn the_number_of_blocks_per_host_is_limited() {
    let dir = TempDir::new();
    let mut rules = pool("10.0.0.0/24", 30);
    rules.max_blocks_per_host = 2;
    let mut ipam = CalicoIpam::open(rules, dir.path()).unwrap();
    for n in 0..8 {
        ipam.assign("a", &handle(&n.to_string()), 0).unwrap();
    }
    let error = ipam.assign("a", &handle("8"), 0).unwrap_err();
    assert!(
        matches!(error, CalicoIpamError::BlockLimit { limit: 2, .. }),
        "{error}"
    );
    ipam.assign("b", &handle("b"), 0).unwrap();
}

/// IPAM-7 for Calico: a wanted address is given if it is free, in the pool, and allowed.
#[test]
fn a_wanted_address_is_checked() {
    let dir = TempDir::new();
    let mut ipam = minikube(&dir);
    let mut want = |host: &str, name: &str, addr: &str| {
        ipam.assign_this(host, ip(addr), &handle(name), 0)
            .map_err(|error| error.to_string())
    };
    want("minikube", "a", "10.244.9.9").unwrap();
    assert_eq!(
        want("minikube", "b", "10.244.9.9").unwrap_err(),
        "address 10.244.9.9 is assigned already, to a"
    );
    assert_eq!(
        want("minikube", "b", "10.245.0.1").unwrap_err(),
        "address 10.245.0.1 is not in pool 10.244.0.0/16"
    );
    want("minikube-m02", "c", "10.244.9.10").unwrap();
    assert_eq!(ipam.affinities().len(), 1);
    ipam.pool.strict_affinity = true;
    let error = ipam.assign_this("minikube-m02", ip("10.244.9.11"), &handle("d"), 0);
    assert!(matches!(error, Err(CalicoIpamError::Foreign { .. })));
}

/// The files are the truth: a new allocator goes on where the old one stopped.
#[test]
fn a_new_allocator_goes_on_where_the_old_one_stopped() {
    let dir = TempDir::new();
    let mut old = minikube(&dir);
    for n in 0..70 {
        old.assign("minikube", &handle(&format!("h{n}")), 7)
            .unwrap();
    }
    old.release("h3").unwrap();
    assert_eq!(minikube(&dir), old);
    // Put back to an older state, the files follow.
    let saved = old.clone();
    old.release_host("minikube").unwrap();
    old.assign("other", &handle("x"), 7).unwrap();
    saved.rewrite().unwrap();
    assert_eq!(minikube(&dir), saved);
}

/// CAL-26: a claim that ended half way is completed where the block is there, and given up where it isn't.
#[test]
fn a_claim_that_was_interrupted_is_completed_or_given_up() {
    let dir = TempDir::new();
    let mut ipam = minikube(&dir);
    let (made, wished) = (net("10.244.1.0/26"), net("10.244.2.0/26"));
    ipam.begin_claim(made, "a").unwrap();
    ipam.blocks.insert(made, Block::new(made, "a", 0));
    ipam.store(made).unwrap();
    ipam.begin_claim(wished, "a").unwrap();
    assert!(
        ipam.affinities()
            .all(|it| it.state == AffinityState::Pending)
    );
    assert_eq!(ipam.blocks_of("a"), [wished; 0]);
    let again = minikube(&dir);
    assert_eq!(again.blocks_of("a"), [made]);
    assert_eq!(again.affinities().len(), 1);
}

/// A host that leaves gives its blocks back; one that others borrowed from stays until they are through with it.
#[test]
fn blocks_of_a_host_that_leaves_are_free_when_nobody_uses_them() {
    let dir = TempDir::new();
    let mut ipam = CalicoIpam::open(pool("10.0.0.0/30", 30), dir.path()).unwrap();
    ipam.assign("a", &handle("a1"), 0).unwrap();
    ipam.assign("b", &handle("b1"), 0).unwrap();
    ipam.release("a1").unwrap();
    ipam.release_host("a").unwrap();
    assert_eq!(ipam.affinities().len(), 0);
    assert_eq!(ipam.blocks().next().unwrap().affinity, None);
    ipam.release("b1").unwrap();
    assert_eq!(ipam.blocks().len(), 0);
    assert_eq!(minikube(&dir).blocks().len(), 0);
}

/// What somebody does to the allocator.
#[derive(Clone, Debug)]
enum Op {
    Assign { host: u8, handle: u8 },
    Want { host: u8, handle: u8, offset: u8 },
    Release { handle: u8 },
    Leave { host: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4_u8, 0..40_u8).prop_map(|(host, handle)| Op::Assign { host, handle }),
        1 => (0..4_u8, 0..40_u8, 0..20_u8)
            .prop_map(|(host, handle, offset)| Op::Want { host, handle, offset }),
        3 => (0..40_u8).prop_map(|handle| Op::Release { handle }),
        1 => (0..4_u8).prop_map(|host| Op::Leave { host }),
    ]
}

/// The oracle: one list of addresses with their owners, one of blocks with theirs, searched from end to end each time.
struct Slow {
    rules: Pool,
    /// Block, host, free addresses in order.
    blocks: Vec<(Ipv4Net, Option<String>, Vec<Ipv4Addr>)>,
    owned: Vec<(Ipv4Addr, String)>,
}

impl Slow {
    fn take(&mut self, at: usize, ip: Ipv4Addr, handle: &str) -> Ipv4Addr {
        self.blocks[at].2.retain(|free| *free != ip);
        self.owned.push((ip, handle.to_owned()));
        ip
    }

    fn own(&self, host: &str) -> Vec<usize> {
        let mut own: Vec<usize> = (0..self.blocks.len())
            .filter(|at| self.blocks[*at].1.as_deref() == Some(host))
            .collect();
        own.sort_by_key(|at| self.blocks[*at].0.to_string().replace(['.', '/'], "-"));
        own
    }

    fn new_block(&mut self, cidr: Ipv4Net, host: &str) -> usize {
        let size = 1_u32 << (32 - cidr.prefix_len());
        let all = (0..size)
            .map(|n| Ipv4Addr::from(u32::from(cidr.network()) + n))
            .collect();
        self.blocks.push((cidr, Some(host.to_owned()), all));
        self.blocks.len() - 1
    }

    fn has(&self, cidr: Ipv4Net) -> Option<usize> {
        self.blocks.iter().position(|(known, ..)| *known == cidr)
    }

    fn assign(&mut self, host: &str, handle: &str) -> Option<Ipv4Addr> {
        let has = self.owned.iter().filter(|(_, owner)| owner == handle);
        if let Some((ip, _)) = has.min() {
            return Some(*ip);
        }
        for at in self.own(host) {
            if let Some(ip) = self.blocks[at].2.first().copied() {
                return Some(self.take(at, ip, handle));
            }
        }
        if self.own(host).len() >= usize::try_from(self.rules.max_blocks_per_host).unwrap() {
            return None;
        }
        let walk: Vec<Ipv4Net> = self.rules.walk(host).collect();
        if let Some(cidr) = walk.iter().find(|cidr| self.has(**cidr).is_none()) {
            let at = self.new_block(*cidr, host);
            return Some(self.take(at, cidr.network(), handle));
        }
        if self.rules.strict_affinity {
            return None;
        }
        let (at, ip) = walk.iter().find_map(|cidr| {
            let at = self.has(*cidr)?;
            Some((at, *self.blocks[at].2.first()?))
        })?;
        Some(self.take(at, ip, handle))
    }

    fn want(&mut self, host: &str, handle: &str, ip: Ipv4Addr) -> bool {
        if !self.rules.cidr.contains(&ip) {
            return false;
        }
        let cidr = Ipv4Net::new_assert(ip, self.rules.block_size).trunc();
        let at = match self.has(cidr) {
            Some(at)
                if self.rules.strict_affinity && self.blocks[at].1.as_deref() != Some(host) =>
            {
                return false;
            }
            Some(at) => at,
            None if self.own(host).len()
                >= usize::try_from(self.rules.max_blocks_per_host).unwrap() =>
            {
                return false;
            }
            None => self.new_block(cidr, host),
        };
        if !self.blocks[at].2.contains(&ip) {
            return false;
        }
        self.take(at, ip, handle);
        true
    }

    fn release(&mut self, handle: &str) {
        let mut freed: Vec<Ipv4Addr> = self
            .owned
            .iter()
            .filter(|(_, owner)| owner == handle)
            .map(|(ip, _)| *ip)
            .collect();
        freed.sort_unstable();
        self.owned.retain(|(_, owner)| owner != handle);
        for ip in freed {
            let block = self
                .blocks
                .iter_mut()
                .find(|(cidr, ..)| cidr.contains(&ip))
                .unwrap();
            block.2.push(ip);
        }
        self.forget();
    }

    fn leave(&mut self, host: &str) {
        for block in &mut self.blocks {
            if block.1.as_deref() == Some(host) {
                block.1 = None;
            }
        }
        self.forget();
    }

    /// Blocks of nobody that nobody uses.
    fn forget(&mut self) {
        let owned = &self.owned;
        self.blocks.retain(|(cidr, host, _)| {
            host.is_some() || owned.iter().any(|(ip, _)| cidr.contains(ip))
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// CAL-3, CAL-6, CAL-7, CAL-8: whatever is asked in whatever order, the answers are the oracle's, and no address has two
    /// owners.
    #[test]
    fn the_allocator_does_what_the_oracle_does(
        ops in proptest::collection::vec(op(), 1..80),
        strict_affinity in any::<bool>(),
        max_blocks_per_host in 1..4_u32,
    ) {
        let dir = TempDir::new();
        let rules = Pool {
            strict_affinity,
            max_blocks_per_host,
            ..pool("10.0.0.0/28", 30)
        };
        let mut ipam = CalicoIpam::open(rules.clone(), dir.path()).unwrap();
        let mut slow = Slow { rules, blocks: Vec::new(), owned: Vec::new() };
        for op in ops {
            match op {
                Op::Assign { host, handle: name } => {
                    let (host, name) = (format!("h{host}"), format!("c{name}"));
                    let got = ipam.assign(&host, &handle(&name), 0).ok();
                    prop_assert_eq!(got, slow.assign(&host, &name));
                }
                Op::Want { host, handle: name, offset } => {
                    let (host, name) = (format!("h{host}"), format!("c{name}"));
                    let wanted = Ipv4Addr::new(10, 0, 0, offset);
                    let got = ipam.assign_this(&host, wanted, &handle(&name), 0).is_ok();
                    prop_assert_eq!(got, slow.want(&host, &name, wanted));
                }
                Op::Release { handle: name } => {
                    let name = format!("c{name}");
                    ipam.release(&name).unwrap();
                    slow.release(&name);
                }
                Op::Leave { host } => {
                    let host = format!("h{host}");
                    ipam.release_host(&host).unwrap();
                    slow.leave(&host);
                }
            }
            let mut owned: Vec<(Ipv4Addr, String)> = ipam
                .blocks()
                .flat_map(Block::allocated)
                .map(|(ip, found)| (ip, found.handle.clone()))
                .collect();
            owned.sort();
            let mut wanted = slow.owned.clone();
            wanted.sort();
            prop_assert_eq!(owned, wanted);
        }
        prop_assert_eq!(CalicoIpam::open(ipam.pool().clone(), dir.path()).unwrap(), ipam);
    }
}
