//! Routing tables and the destinations that are looked up in them.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

use crate::{Random, cluster_prefixes};

/// Next hops of every table.
const HOPS: u64 = 255;

/// Whether figures are wanted: `cargo bench` says so, `cargo test` runs each bench once, without optimization, where the
/// peers take many minutes to take in a table of the Internet.
#[must_use]
pub fn measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// A table for measurements and comparisons.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// A node of a 5,000-node cluster.
    Cluster,
    /// 901,899 prefixes of the Internet, from a file that lies beside the project and not in it.
    Internet,
}

impl Table {
    /// The tables of this run: the small one alone where nothing is measured ([`measuring`]).
    pub fn of_this_run() -> impl Iterator<Item = Self> {
        let large = measuring().then_some(Self::Internet);
        core::iter::once(Self::Cluster).chain(large)
    }

    /// Its name in bench ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Internet => "internet",
        }
    }

    /// Its routes; the reason if they are not to be had here.
    ///
    /// # Errors
    /// When the file is missing.
    ///
    /// # Panics
    /// When the file is there and not as expected.
    pub fn routes(self) -> Result<Vec<(Ipv4Net, NextHop)>, String> {
        let prefixes = match self {
            Self::Cluster => cluster_prefixes(),
            Self::Internet => internet()?,
        };
        Ok(prefixes.into_iter().map(|net| (net, hop(net))).collect())
    }
}

/// The same for IPv6.
#[derive(Clone, Copy, Debug)]
pub enum Table6 {
    /// A node of a 5,000-node cluster: a /64 for each node and 110 pods.
    Cluster,
    /// 160,147 prefixes of the Internet, from a file that lies beside the project and not in it.
    Internet,
}

impl Table6 {
    /// The tables of this run: the small one alone where nothing is measured ([`measuring`]).
    pub fn of_this_run() -> impl Iterator<Item = Self> {
        let large = measuring().then_some(Self::Internet);
        core::iter::once(Self::Cluster).chain(large)
    }

    /// Its name in bench ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Internet => "internet",
        }
    }

    /// Its routes; the reason if they are not to be had here.
    ///
    /// # Errors
    /// When the file is missing.
    ///
    /// # Panics
    /// When the file is there and not as expected.
    pub fn routes(self) -> Result<Vec<(Ipv6Net, NextHop)>, String> {
        let prefixes = match self {
            Self::Cluster => cluster_prefixes6(),
            Self::Internet => internet6()?,
        };
        Ok(prefixes.into_iter().map(|net| (net, hop6(net))).collect())
    }
}

fn cluster_prefixes6() -> Vec<Ipv6Net> {
    let base = 0xfd00_0010_0244_0000_u128 << 64;
    let net = |bits, len| Ipv6Net::new(Ipv6Addr::from_bits(bits), len).expect("a length up to 128");
    let peers = (0..5_000_u128).map(|n| net(base + (n << 64), 64));
    let pods = (2..112_u128).map(|n| net(base + (0xffff << 64) + n, 128));
    peers.chain(pods).collect()
}

/// Where the tables of the Internet are, beside the project.
fn data_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

/// Whether there is data beside the project: then all of it has to be there.
#[must_use]
pub fn has_data() -> bool {
    data_directory().exists()
}

fn data(name: &str) -> Result<std::fs::File, String> {
    let path = data_directory().join(name);
    std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))
}

fn internet() -> Result<Vec<Ipv4Net>, String> {
    let mut text = String::new();
    ruzstd::decoding::StreamingDecoder::new(data("bgp-ipv4.txt.zst")?)
        .expect("a zstd header")
        .read_to_string(&mut text)
        .expect("valid zstd");
    Ok(text
        .lines()
        .map(|line| line.parse().expect("a prefix a line"))
        .collect())
}

fn internet6() -> Result<Vec<Ipv6Net>, String> {
    let mut text = String::new();
    lzma_rust2::XzReader::new(data("bgp-ipv6.txt.xz")?, false)
        .read_to_string(&mut text)
        .expect("valid xz");
    Ok(text
        .lines()
        .map(|line| line.parse().expect("a prefix a line"))
        .collect())
}

/// The files have no next hops: a hash of the prefix stands for one.
fn hop(net: Ipv4Net) -> NextHop {
    hop_of(u64::from(net.network().to_bits()) << 8 | u64::from(net.prefix_len()))
}

fn hop6(net: Ipv6Net) -> NextHop {
    let bits = net.network().to_bits() ^ u128::from(net.prefix_len());
    let [upper, lower] = [bits >> 64, bits & u128::from(u64::MAX)];
    let half = |bits| u64::try_from(bits).expect("64 bits are left");
    hop_of(half(upper) ^ half(lower).rotate_left(32))
}

fn hop_of(prefix: u64) -> NextHop {
    let hash = prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    NextHop::try_from(hash % HOPS).expect("below 255")
}

/// Which destinations are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Mix {
    /// The whole address space.
    Rand,
    /// The space that prefixes cover.
    Cov,
    /// A random prefix and a random host in it.
    Pfx,
    /// Zipf's law (s = 1) over a million destinations of `Pfx`.
    Zipf,
    /// One address after the other.
    Seq,
    /// One address.
    Hot,
    /// Sixteen destinations of `Pfx`, in no order.
    Few,
    /// Addresses that no prefix covers. Every other mix but `Rand` and `Seq` has none of them.
    Miss,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rand,
        Self::Cov,
        Self::Pfx,
        Self::Zipf,
        Self::Seq,
        Self::Hot,
        Self::Few,
        Self::Miss,
    ];

    /// Its name in bench ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rand => "rand",
            Self::Cov => "cov",
            Self::Pfx => "pfx",
            Self::Zipf => "zipf",
            Self::Seq => "seq",
            Self::Hot => "hot",
            Self::Few => "few",
            Self::Miss => "miss",
        }
    }

    /// So many destinations, the same every time.
    ///
    /// # Panics
    /// Without routes.
    #[must_use]
    pub fn destinations(self, routes: &[(Ipv4Net, NextHop)], count: usize) -> Vec<u32> {
        let nets = || routes.iter().map(|(net, _)| net);
        let first = nets().map(|net| net.network().to_bits()).min();
        let last = nets().map(|net| net.broadcast().to_bits()).max();
        let (first, last) = first.zip(last).expect("a table has routes");
        let lpm = self
            .wants_answers()
            .then(|| Lpm4::from_routes(routes.iter().copied()).expect("they fit"));
        self.draw(
            count,
            Random::next_u32,
            |random| first + random.next_u32() % (last - first).max(1),
            |random| {
                let net = pick(routes, random);
                net.network().to_bits() | random.next_u32() & net.hostmask().to_bits()
            },
            |address| {
                let address = Ipv4Addr::from_bits(address);
                lpm.as_ref()
                    .is_some_and(|lpm| lpm.lookup(address) != NO_ROUTE)
            },
            |nth| first.wrapping_add(nth),
        )
    }

    /// So many IPv6 destinations, the same every time. One after the other means one /64 after the other here.
    ///
    /// # Panics
    /// Without routes.
    #[must_use]
    pub fn destinations6(self, routes: &[(Ipv6Net, NextHop)], count: usize) -> Vec<u128> {
        let lpm = self
            .wants_answers()
            .then(|| Lpm6::from_routes(routes.iter().copied()).expect("they fit"));
        let mut nets: Vec<Ipv6Net> = routes.iter().map(|&(net, _)| net).collect();
        nets.sort();
        let first = nets
            .first()
            .expect("a table has routes")
            .network()
            .to_bits();
        // So little of the space is covered that a place is drawn from the outermost prefixes, by their sizes in /64.
        nets.dedup_by(|inner, outer| outer.contains(&*inner));
        let ends: Vec<u128> = nets
            .iter()
            .scan(0, |end, net| {
                *end += 1 << (64 - net.prefix_len().min(64));
                Some(*end)
            })
            .collect();
        let space = ends.last().copied().expect("a table has routes");
        self.draw(
            count,
            next_u128,
            |random| {
                let place = next_u128(random) % space;
                let net = nets[ends.partition_point(|&end| end <= place)];
                net.network().to_bits() | next_u128(random) & net.hostmask().to_bits()
            },
            |random| {
                let net = pick(routes, random);
                net.network().to_bits() | next_u128(random) & net.hostmask().to_bits()
            },
            |address| {
                let address = Ipv6Addr::from_bits(address);
                lpm.as_ref()
                    .is_some_and(|lpm| lpm.lookup(address) != NO_ROUTE)
            },
            |nth| first.wrapping_add(u128::from(nth) << 64),
        )
    }

    /// Whether destinations are drawn until one is covered, or is not.
    fn wants_answers(self) -> bool {
        matches!(self, Self::Cov | Self::Miss)
    }

    fn draw<T: Copy>(
        self,
        count: usize,
        mut any: impl FnMut(&mut Random) -> T,
        mut near: impl FnMut(&mut Random) -> T,
        mut host: impl FnMut(&mut Random) -> T,
        is_covered: impl Fn(T) -> bool,
        nth: impl Fn(u32) -> T,
    ) -> Vec<T> {
        let random = &mut Random(0x1234_5678_9abc_def1);
        match self {
            Self::Rand => (0..count).map(|_| any(random)).collect(),
            Self::Cov => core::iter::repeat_with(|| near(random))
                .filter(|&address| is_covered(address))
                .take(count)
                .collect(),
            Self::Pfx => (0..count).map(|_| host(random)).collect(),
            Self::Zipf => {
                let hosts: Vec<T> = (0..1_000_000).map(|_| host(random)).collect();
                // The inverse of the continuous law: rank x has probability 1/x over 1..=n.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a rank up to a million"
                )]
                let rank = |u: u32| {
                    let n = hosts.len() as f64;
                    (f64::from(u) / f64::from(u32::MAX) * n.ln()).exp() as usize - 1
                };
                (0..count)
                    .map(|_| hosts[rank(random.next_u32()).min(hosts.len() - 1)])
                    .collect()
            }
            Self::Seq => (0..).take(count).map(nth).collect(),
            Self::Hot => vec![host(random); count],
            Self::Few => {
                let hosts: [T; 16] = core::array::from_fn(|_| host(random));
                (0..count)
                    .map(|_| hosts[random.next_u32() as usize % hosts.len()])
                    .collect()
            }
            Self::Miss => core::iter::repeat_with(|| any(random))
                .filter(|&address| !is_covered(address))
                .take(count)
                .collect(),
        }
    }
}

fn pick<N: Copy>(routes: &[(N, NextHop)], random: &mut Random) -> N {
    routes[usize::try_from(random.next_u32()).expect("32 bits fit") % routes.len()].0
}

fn next_u128(random: &mut Random) -> u128 {
    (0..4).fold(0, |bits, _| bits << 32 | u128::from(random.next_u32()))
}
