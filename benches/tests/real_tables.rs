//! Answers of the routing table on whole tables, every mix of destinations, against one hash map per prefix length.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use benches::routes::{Mix, Table, Table6};
use ipnet::{Ipv4Net, Ipv6Net};
use router_core::arch::Kernel;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

/// Longest prefix first, each length by a look-up of the masked address.
struct Oracle(Vec<HashMap<Ipv4Net, NextHop>>);

impl Oracle {
    fn new(routes: &[(Ipv4Net, NextHop)]) -> Self {
        let mut lengths = vec![HashMap::new(); 33];
        for &(net, hop) in routes {
            lengths[usize::from(32 - net.prefix_len())].insert(net, hop);
        }
        Self(lengths)
    }

    fn lookup(&self, dst: u32) -> NextHop {
        let hop = (0..=32).rev().zip(&self.0).find_map(|(len, hops)| {
            let net = Ipv4Net::new(Ipv4Addr::from(dst), len).expect("a length up to 32");
            if hops.is_empty() {
                None
            } else {
                hops.get(&net.trunc())
            }
        });
        hop.copied().unwrap_or(NO_ROUTE)
    }
}

#[track_caller]
fn assert_same(lpm: &Lpm4, oracle: &Oracle, destinations: &[u32]) {
    let expected: Vec<NextHop> = destinations.iter().map(|&dst| oracle.lookup(dst)).collect();
    for (&dst, &expected) in destinations.iter().zip(&expected) {
        let dst = Ipv4Addr::from(dst);
        assert_eq!(lpm.lookup(dst), expected, "{dst}");
    }
    for kernel in Kernel::all() {
        let mut hops = vec![0; destinations.len()];
        lpm.lookup_batch_by(kernel, destinations, &mut hops);
        for ((&dst, hop), &expected) in destinations.iter().zip(hops).zip(&expected) {
            assert_eq!(
                hop,
                expected,
                "{} by {}",
                Ipv4Addr::from(dst),
                kernel.name()
            );
        }
    }
}

/// First and last address of every prefix, and their neighbours.
fn borders(routes: &[(Ipv4Net, NextHop)]) -> Vec<u32> {
    let ends = routes
        .iter()
        .flat_map(|(net, _)| [net.network(), net.broadcast()]);
    ends.map(u32::from)
        .flat_map(|a| [a.wrapping_sub(1), a, a.wrapping_add(1)])
        .collect()
}

fn check(table: Table) {
    let routes = match table.routes() {
        Ok(routes) => routes,
        Err(reason) => {
            // The data is not the project's: its absence is no failure of this machine.
            let _ = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", table.name());
            return;
        }
    };
    let mut lpm = Lpm4::from_routes(routes.iter().copied()).expect("they fit");
    let oracle = Oracle::new(&routes);
    for mix in Mix::ALL {
        assert_same(&lpm, &oracle, &mix.destinations(&routes, 50_000));
    }
    let step = routes.len() / 5_000 + 1;
    let some: Vec<_> = routes.iter().copied().step_by(step).collect();
    assert_same(&lpm, &oracle, &borders(&some));

    // What is taken out is gone; put back, it is as if nothing had been.
    let rest: Vec<_> = (0_usize..)
        .zip(routes.iter().copied())
        .filter_map(|(n, route)| (n % step != 0).then_some(route))
        .collect();
    for &(net, hop) in &some {
        assert_eq!(lpm.remove(net), Some(hop));
    }
    assert_eq!(lpm.len(), rest.len());
    assert_same(&lpm, &Oracle::new(&rest), &borders(&some));
    for &(net, hop) in some.iter().rev() {
        assert_eq!(lpm.insert(net, hop), Ok(None));
    }
    assert_same(&lpm, &oracle, &borders(&some));
    assert!(
        lpm.iter()
            .eq(Lpm4::from_routes(routes).expect("they fit").iter())
    );
}

/// Longest prefix first, each length by a look-up of the masked address.
struct Oracle6(Vec<HashMap<u128, NextHop>>);

impl Oracle6 {
    fn new(routes: &[(Ipv6Net, NextHop)]) -> Self {
        let mut lengths = vec![HashMap::new(); 129];
        for &(net, hop) in routes {
            lengths[usize::from(net.prefix_len())].insert(net.network().to_bits(), hop);
        }
        Self(lengths)
    }

    fn lookup(&self, dst: u128) -> NextHop {
        let longest_first = self.0.iter().enumerate().rev();
        let mut hops = longest_first.filter_map(|(len, hops)| {
            let host_bits = u128::MAX.checked_shr(u32::try_from(len).ok()?).unwrap_or(0);
            hops.get(&(dst & !host_bits)).copied()
        });
        hops.next().unwrap_or(NO_ROUTE)
    }
}

#[track_caller]
fn assert_same6(lpm: &Lpm6, oracle: &Oracle6, destinations: &[u128]) {
    let expected: Vec<NextHop> = destinations.iter().map(|&dst| oracle.lookup(dst)).collect();
    for (&dst, &expected) in destinations.iter().zip(&expected) {
        let dst = Ipv6Addr::from(dst);
        assert_eq!(lpm.lookup(dst), expected, "{dst}");
    }
    for kernel in Kernel::all() {
        let mut hops = vec![0; destinations.len()];
        lpm.lookup_batch_by(kernel, destinations, &mut hops);
        for ((&dst, hop), &expected) in destinations.iter().zip(hops).zip(&expected) {
            assert_eq!(
                hop,
                expected,
                "{} by {}",
                Ipv6Addr::from(dst),
                kernel.name()
            );
        }
    }
}

/// First and last address of every prefix, and their neighbours.
fn borders6(routes: &[(Ipv6Net, NextHop)]) -> Vec<u128> {
    let ends = routes
        .iter()
        .flat_map(|(net, _)| [net.network(), net.broadcast()]);
    ends.map(u128::from)
        .flat_map(|a| [a.wrapping_sub(1), a, a.wrapping_add(1)])
        .collect()
}

fn check6(table: Table6) {
    let routes = match table.routes() {
        Ok(routes) => routes,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", table.name());
            return;
        }
    };
    let mut lpm = Lpm6::from_routes(routes.iter().copied()).expect("they fit");
    let oracle = Oracle6::new(&routes);
    for mix in Mix::ALL {
        assert_same6(&lpm, &oracle, &mix.destinations6(&routes, 50_000));
    }
    let step = routes.len() / 5_000 + 1;
    let some: Vec<_> = routes.iter().copied().step_by(step).collect();
    assert_same6(&lpm, &oracle, &borders6(&some));

    let rest: Vec<_> = (0_usize..)
        .zip(routes.iter().copied())
        .filter_map(|(n, route)| (n % step != 0).then_some(route))
        .collect();
    for &(net, hop) in &some {
        assert_eq!(lpm.remove(net), Some(hop));
    }
    assert_eq!(lpm.len(), rest.len());
    assert_same6(&lpm, &Oracle6::new(&rest), &borders6(&some));
    for &(net, hop) in some.iter().rev() {
        assert_eq!(lpm.insert(net, hop), Ok(None));
    }
    assert_same6(&lpm, &oracle, &borders6(&some));
    assert!(
        lpm.iter()
            .eq(Lpm6::from_routes(routes).expect("they fit").iter())
    );
}

#[test]
fn the_ipv6_table_of_a_cluster_node_answers_as_the_oracle_does() {
    check6(Table6::Cluster);
}

#[test]
fn the_ipv6_table_of_the_internet_answers_as_the_oracle_does() {
    check6(Table6::Internet);
}

#[test]
fn the_table_of_a_cluster_node_answers_as_the_oracle_does() {
    check(Table::Cluster);
}

#[test]
fn the_table_of_the_internet_answers_as_the_oracle_does() {
    check(Table::Internet);
}

/// A thousand nodes on one machine, each with the table of its own.
#[test]
fn the_tables_of_a_thousand_nodes_take_less_than_300_megabytes() {
    let routes = Table::Cluster.routes().expect("it is made, not read");
    let tables: Vec<Lpm4> = (0..1_000)
        .map(|_| Lpm4::from_routes(routes.iter().copied()).expect("they fit"))
        .collect();
    let bytes: usize = tables
        .iter()
        .map(|table| {
            let (cells, trie) = table.memory();
            size_of::<Lpm4>() + cells + trie
        })
        .sum();
    assert_eq!(tables.iter().map(Lpm4::len).sum::<usize>(), 5_110_000);
    assert!(bytes < 300_000_000, "{bytes} bytes");
}

/// Targets of memory: a node's 5,110 routes well within 100 kB (34 kB here), the Internet's within 40 MB for look-ups.
#[test]
fn tables_take_the_memory_they_may() {
    let memory = |table: Table| {
        let routes = table.routes().ok()?;
        Some(Lpm4::from_routes(routes).expect("they fit").memory())
    };
    let (cells, trie) = memory(Table::Cluster).expect("it is made, not read");
    assert!(cells + trie <= 36_000, "{cells} + {trie} bytes");
    if let Some((cells, trie)) = memory(Table::Internet) {
        assert!(cells <= 40_000_000, "{cells} + {trie} bytes");
    }
}
