//! Answers of the routing table on whole tables, every mix of destinations, against one hash map per prefix length.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::Ipv4Addr;

use benches::routes::{Mix, Table};
use ipnet::Ipv4Net;
use router_core::table::lpm4::Lpm4;
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
    let mut hops = vec![0; destinations.len()];
    lpm.lookup_batch(destinations, &mut hops);
    for (&dst, hop) in destinations.iter().zip(hops) {
        let expected = oracle.lookup(dst);
        let dst = Ipv4Addr::from(dst);
        assert_eq!(hop, expected, "{dst} in a batch");
        assert_eq!(lpm.lookup(dst), expected, "{dst}");
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

#[test]
fn the_table_of_a_cluster_node_answers_as_the_oracle_does() {
    check(Table::Cluster);
}

#[test]
fn the_table_of_the_internet_answers_as_the_oracle_does() {
    check(Table::Internet);
}

/// Targets of memory: a node's 5,110 routes within 100 kB, the Internet's within 40 MB for look-ups.
#[test]
fn tables_take_the_memory_they_may() {
    let memory = |table: Table| {
        let routes = table.routes().ok()?;
        Some(Lpm4::from_routes(routes).expect("they fit").memory())
    };
    let (cells, trie) = memory(Table::Cluster).expect("it is made, not read");
    assert!(cells + trie <= 100_000, "{cells} + {trie} bytes");
    if let Some((cells, trie)) = memory(Table::Internet) {
        assert!(cells <= 40_000_000, "{cells} + {trie} bytes");
    }
}
