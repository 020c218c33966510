//! The crates that stand beside our tables, for both families.

use core::net::{Ipv4Addr, Ipv6Addr};

use benches::family::Lpm;
use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::{Ipv4Net, Ipv6Net};
use iptrie::map::{LCTrieMap, RTrieMap};
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use router_core::table::NextHop;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;

/// A table of the same routes as ours.
pub(crate) trait Lookup<T: Lpm> {
    /// Its name in bench ids.
    const NAME: &'static str;

    /// A table of these routes.
    fn of(routes: &[(T::Net, NextHop)]) -> Self;

    /// What is found for an address, 0 where no prefix covers it.
    fn lookup(&self, dst: T::Addr) -> NextHop;
}

/// A table that changes.
pub(crate) trait Updates<T: Lpm> {
    /// Takes a prefix that is there out and puts it back.
    fn update(&mut self, net: T::Net, hop: NextHop);
}

/// Who stands beside a table of ours.
pub(crate) trait Peers: Lpm {
    type PrefixTrie: Lookup<Self> + Updates<Self>;
    type Treebitmap: Lookup<Self> + Updates<Self>;
    type Poptrie: Lookup<Self> + Updates<Self>;
    type IpTrie: Lookup<Self>;
    type IpTrieRadix: Lookup<Self> + Updates<Self>;
}

macro_rules! impl_peers {
    ($lpm:ty, $net:ty, $addr:ty) => {
        impl Peers for $lpm {
            type PrefixTrie = PrefixMap<$net, NextHop>;
            type Treebitmap = IpLookupTable<$addr, NextHop>;
            type Poptrie = Poptrie<($addr, u8), NextHop>;
            type IpTrie = LCTrieMap<$net, NextHop>;
            type IpTrieRadix = RTrieMap<$net, NextHop>;
        }

        impl Lookup<$lpm> for PrefixMap<$net, NextHop> {
            const NAME: &'static str = "prefix-trie";

            fn of(routes: &[($net, NextHop)]) -> Self {
                routes.iter().copied().collect()
            }

            #[inline]
            fn lookup(&self, dst: $addr) -> NextHop {
                let found = self.get_lpm(&<$net>::from(dst));
                found.map_or(0, |(_, &hop)| hop)
            }
        }

        impl Updates<$lpm> for PrefixMap<$net, NextHop> {
            fn update(&mut self, net: $net, hop: NextHop) {
                self.remove(&net);
                self.insert(net, hop);
            }
        }

        impl Lookup<$lpm> for IpLookupTable<$addr, NextHop> {
            const NAME: &'static str = "treebitmap";

            fn of(routes: &[($net, NextHop)]) -> Self {
                let mut table = Self::new();
                for &(net, hop) in routes {
                    table.insert(net.network(), net.prefix_len().into(), hop);
                }
                table
            }

            #[inline]
            fn lookup(&self, dst: $addr) -> NextHop {
                self.longest_match(dst).map_or(0, |(_, _, &hop)| hop)
            }
        }

        impl Updates<$lpm> for IpLookupTable<$addr, NextHop> {
            fn update(&mut self, net: $net, hop: NextHop) {
                let len = net.prefix_len().into();
                self.remove(net.network(), len);
                self.insert(net.network(), len, hop);
            }
        }

        impl Lookup<$lpm> for Poptrie<($addr, u8), NextHop> {
            const NAME: &'static str = "poptrie";

            fn of(routes: &[($net, NextHop)]) -> Self {
                let mut table = Self::new();
                for &(net, hop) in routes {
                    table.insert((net.network(), net.prefix_len()), hop);
                }
                table
            }

            #[inline]
            fn lookup(&self, dst: $addr) -> NextHop {
                self.lookup(dst).map_or(0, |&hop| hop)
            }
        }

        impl Updates<$lpm> for Poptrie<($addr, u8), NextHop> {
            fn update(&mut self, net: $net, hop: NextHop) {
                let prefix = (net.network(), net.prefix_len());
                self.remove(prefix);
                self.insert(prefix, hop);
            }
        }

        impl Lookup<$lpm> for LCTrieMap<$net, NextHop> {
            const NAME: &'static str = "iptrie";

            fn of(routes: &[($net, NextHop)]) -> Self {
                routes.iter().copied().collect()
            }

            #[inline]
            fn lookup(&self, dst: $addr) -> NextHop {
                // Without a route it finds 0.0.0.0/0 or ::/0, for which it always has something: 0 here.
                *self.lookup(&dst).1
            }
        }

        impl Lookup<$lpm> for RTrieMap<$net, NextHop> {
            const NAME: &'static str = "iptrie-radix";

            fn of(routes: &[($net, NextHop)]) -> Self {
                routes.iter().copied().collect()
            }

            #[inline]
            fn lookup(&self, dst: $addr) -> NextHop {
                *self.lookup(&dst).1
            }
        }

        impl Updates<$lpm> for RTrieMap<$net, NextHop> {
            fn update(&mut self, net: $net, hop: NextHop) {
                self.remove(&net);
                self.insert(net, hop);
            }
        }
    };
}
impl_peers!(Lpm4, Ipv4Net, Ipv4Addr);
impl_peers!(Lpm6, Ipv6Net, Ipv6Addr);
