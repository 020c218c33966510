//! Routing tables and the destinations that are looked up in them.

use core::net::Ipv4Addr;
use std::io::Read as _;
use std::path::Path;

use ipnet::Ipv4Net;
use router_core::table::lpm4::Lpm4;
use router_core::table::{NO_ROUTE, NextHop};

use crate::{Random, cluster_prefixes};

/// Next hops of every table.
const HOPS: u64 = 255;

/// A table for measurements and comparisons.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// A node of a 5,000-node cluster.
    Cluster,
    /// 901,899 prefixes of the Internet, from a file that lies beside the project and not in it.
    Internet,
}

impl Table {
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

fn internet() -> Result<Vec<Ipv4Net>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/bgp-ipv4.txt.zst");
    let file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut text = String::new();
    ruzstd::decoding::StreamingDecoder::new(file)
        .expect("a zstd header")
        .read_to_string(&mut text)
        .expect("valid zstd");
    Ok(text
        .lines()
        .map(|line| line.parse().expect("a prefix a line"))
        .collect())
}

/// The file has no next hops: a hash of the prefix stands for one.
fn hop(net: Ipv4Net) -> NextHop {
    let prefix = u64::from(net.network().to_bits()) << 8 | u64::from(net.prefix_len());
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
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Rand,
        Self::Cov,
        Self::Pfx,
        Self::Zipf,
        Self::Seq,
        Self::Hot,
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
        }
    }

    /// So many destinations, the same every time.
    ///
    /// # Panics
    /// Without routes.
    #[must_use]
    pub fn destinations(self, routes: &[(Ipv4Net, NextHop)], count: usize) -> Vec<u32> {
        let mut random = Random(0x1234_5678_9abc_def1);
        let host = |random: &mut Random| {
            let pick = usize::try_from(random.next_u32()).expect("32 bits fit") % routes.len();
            let net = routes[pick].0;
            net.network().to_bits() | random.next_u32() & net.hostmask().to_bits()
        };
        let first = routes
            .first()
            .expect("a table has routes")
            .0
            .network()
            .to_bits();
        match self {
            Self::Rand => (0..count).map(|_| random.next_u32()).collect(),
            Self::Cov => {
                let lpm = Lpm4::from_routes(routes.iter().copied()).expect("they fit");
                let last = routes
                    .iter()
                    .map(|(net, _)| net.broadcast().to_bits())
                    .max();
                let span = last.expect("a table has routes") - first;
                core::iter::repeat_with(|| first + random.next_u32() % span.max(1))
                    .filter(|&a| lpm.lookup(Ipv4Addr::from_bits(a)) != NO_ROUTE)
                    .take(count)
                    .collect()
            }
            Self::Pfx => (0..count).map(|_| host(&mut random)).collect(),
            Self::Zipf => {
                let hosts: Vec<u32> = (0..1_000_000).map(|_| host(&mut random)).collect();
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
            Self::Seq => (0..).take(count).map(|n| first.wrapping_add(n)).collect(),
            Self::Hot => vec![host(&mut random); count],
        }
    }
}
