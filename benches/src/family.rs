//! IPv4 and IPv6 as measurements and comparisons of routing tables see them: the same twice.

use core::fmt::{Debug, Display};
use core::hash::Hash;
use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use router_core::arch::Kernel;
use router_core::table::NextHop;
use router_core::table::lpm4::{Lpm4, Lpm4Reader};
use router_core::table::lpm6::{Lpm6, Lpm6Reader};

use crate::routes::{Mix, Table, Table6};

/// A routing table of ours, and what it is about.
pub trait Lpm: Debug + Sized {
    /// Its name in bench ids.
    const NAME: &'static str;
    /// The family's name.
    const FAMILY: &'static str;
    /// Prefixes of its table of the Internet.
    const INTERNET: usize;
    /// A prefix.
    type Net: Copy + Debug + Display + Eq;
    /// An address as a number.
    type Bits: Copy + Debug + Eq + Hash + Send + Sync;
    /// An address as the standard library has it.
    type Addr: Copy + Display;
    /// What looks up in another thread.
    type Reader: Send;

    /// Name and routes of a node's table and of the Internet's; the reason if they are not to be had here.
    fn tables() -> [Named<Self>; 2];

    /// So many destinations.
    fn destinations(mix: Mix, routes: &[(Self::Net, NextHop)], count: usize) -> Vec<Self::Bits>;

    /// The address of these bits.
    fn addr(bits: Self::Bits) -> Self::Addr;

    /// Big-endian octets of addresses.
    fn octets(addresses: &[Self::Bits]) -> Vec<u8>;

    /// Addresses of big-endian octets.
    fn from_octets(octets: &[u8]) -> Vec<Self::Bits>;

    /// First bits and length of a prefix.
    fn bits(net: Self::Net) -> (Self::Bits, u8);

    /// The first `len` bits of an address.
    fn first(bits: Self::Bits, len: u8) -> Self::Bits;

    /// First and last address of a prefix, and their neighbours.
    fn borders(net: Self::Net) -> [Self::Bits; 6];

    /// A table of these routes.
    fn of(routes: &[(Self::Net, NextHop)]) -> Self;

    /// Adds a prefix; gives its former next hop.
    fn insert(&mut self, net: Self::Net, hop: NextHop) -> Option<NextHop>;

    /// Removes a prefix; gives its next hop.
    fn remove(&mut self, net: Self::Net) -> Option<NextHop>;

    /// Number of prefixes.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All prefixes.
    fn routes(&self) -> Vec<(Self::Net, NextHop)>;

    /// Bytes that look-ups read, and that only updates read.
    fn memory(&self) -> (usize, usize);

    /// One look-up.
    fn lookup(&self, address: Self::Bits) -> NextHop;

    /// Look-ups side by side.
    fn lookup_batch(&self, addresses: &[Self::Bits], hops: &mut [NextHop]);

    /// The same by a kernel that need not be the best one.
    fn lookup_batch_by(&self, kernel: Kernel, addresses: &[Self::Bits], hops: &mut [NextHop]);

    /// A reader for another thread.
    fn reader(&mut self) -> Self::Reader;

    /// Its look-ups.
    fn read(reader: &mut Self::Reader, addresses: &[Self::Bits], hops: &mut [NextHop]);
}

/// The routes of a table, or why there are none here.
pub type Routes<T> = Result<Vec<(<T as Lpm>::Net, NextHop)>, String>;

/// A table's name and how to come to its routes.
pub type Named<T> = (&'static str, fn() -> Routes<T>);

macro_rules! impl_lpm {
    ($lpm:ty, $name:literal, $family:literal, $internet:literal, $table:ty, $net:ty, $bits:ty, $addr:ty, $reader:ty, $destinations:ident) => {
        impl Lpm for $lpm {
            const NAME: &'static str = $name;
            const FAMILY: &'static str = $family;
            const INTERNET: usize = $internet;
            type Net = $net;
            type Bits = $bits;
            type Addr = $addr;
            type Reader = $reader;

            fn tables() -> [Named<Self>; 2] {
                [
                    (<$table>::Cluster.name(), || <$table>::Cluster.routes()),
                    (<$table>::Internet.name(), || <$table>::Internet.routes()),
                ]
            }

            fn destinations(mix: Mix, routes: &[($net, NextHop)], count: usize) -> Vec<$bits> {
                mix.$destinations(routes, count)
            }

            fn addr(bits: $bits) -> $addr {
                <$addr>::from_bits(bits)
            }

            fn octets(addresses: &[$bits]) -> Vec<u8> {
                let octets = addresses.iter().map(|bits| bits.to_be_bytes());
                octets.flatten().collect()
            }

            fn from_octets(octets: &[u8]) -> Vec<$bits> {
                let (addresses, _) = octets.as_chunks();
                addresses
                    .iter()
                    .map(|&a| <$bits>::from_be_bytes(a))
                    .collect()
            }

            fn bits(net: $net) -> ($bits, u8) {
                (net.network().to_bits(), net.prefix_len())
            }

            fn first(bits: $bits, len: u8) -> $bits {
                bits & !<$bits>::MAX.checked_shr(len.into()).unwrap_or(0)
            }

            fn borders(net: $net) -> [$bits; 6] {
                let ends = [net.network(), net.broadcast()].map(<$addr>::to_bits);
                let [first, last] = ends;
                let before = |a: $bits| a.wrapping_sub(1);
                let behind = |a: $bits| a.wrapping_add(1);
                [
                    before(first),
                    first,
                    behind(first),
                    before(last),
                    last,
                    behind(last),
                ]
            }

            fn of(routes: &[($net, NextHop)]) -> Self {
                Self::from_routes(routes.iter().copied()).expect("they fit")
            }

            fn insert(&mut self, net: $net, hop: NextHop) -> Option<NextHop> {
                self.insert(net, hop).expect("it fits")
            }

            fn remove(&mut self, net: $net) -> Option<NextHop> {
                self.remove(net)
            }

            fn len(&self) -> usize {
                self.len()
            }

            fn routes(&self) -> Vec<($net, NextHop)> {
                self.iter().collect()
            }

            fn memory(&self) -> (usize, usize) {
                self.memory()
            }

            #[inline]
            fn lookup(&self, address: $bits) -> NextHop {
                self.lookup(<$addr>::from_bits(address))
            }

            #[inline]
            fn lookup_batch(&self, addresses: &[$bits], hops: &mut [NextHop]) {
                self.lookup_batch(addresses, hops);
            }

            #[inline]
            fn lookup_batch_by(&self, kernel: Kernel, addresses: &[$bits], hops: &mut [NextHop]) {
                self.lookup_batch_by(kernel, addresses, hops);
            }

            fn reader(&mut self) -> $reader {
                self.reader()
            }

            #[inline]
            fn read(reader: &mut $reader, addresses: &[$bits], hops: &mut [NextHop]) {
                reader.lookup_batch(addresses, hops);
            }
        }
    };
}
impl_lpm!(
    Lpm4,
    "lpm",
    "ipv4",
    901_899,
    Table,
    Ipv4Net,
    u32,
    Ipv4Addr,
    Lpm4Reader,
    destinations
);
impl_lpm!(
    Lpm6,
    "lpm6",
    "ipv6",
    160_147,
    Table6,
    Ipv6Net,
    u128,
    Ipv6Addr,
    Lpm6Reader,
    destinations6
);
