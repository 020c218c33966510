//! Answers of the routing tables on whole tables, every mix of destinations, against one hash map per prefix length.
//!
//! Compared are one look-up after the other, a batch by each kernel that this processor has, and a reader's batch; what was
//! compared is printed. The tables of the Internet lie beside the project and not in it: where they are, they are compared.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Instant;

use benches::family::Lpm;
use benches::routes::{Mix, Table, has_data};
use router_core::arch::Kernel;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

/// Destinations of each mix.
const DESTINATIONS: usize = 50_000;

/// Longest prefix first, each length that there is by a look-up of the masked address.
struct Oracle<T: Lpm>(Vec<(u8, HashMap<T::Bits, NextHop>)>);

impl<T: Lpm> Oracle<T> {
    fn new(routes: &[(T::Net, NextHop)]) -> Self {
        let mut lengths = vec![HashMap::new(); 129];
        for &(net, hop) in routes {
            let (address, len) = T::bits(net);
            lengths[usize::from(len)].insert(address, hop);
        }
        let lengths = (0..=128).rev().zip(lengths.into_iter().rev());
        Self(lengths.filter(|(_, hops)| !hops.is_empty()).collect())
    }

    fn lookup(&self, dst: T::Bits) -> NextHop {
        let mut hops = self.0.iter();
        let found = hops.find_map(|(len, hops)| hops.get(&T::first(dst, *len)).copied());
        found.unwrap_or(NO_ROUTE)
    }
}

/// A table, and how many answers of it were compared.
struct Compared<T: Lpm> {
    name: String,
    lpm: T,
    reader: T::Reader,
    kernels: Vec<Kernel>,
    answers: usize,
    began: Instant,
}

impl<T: Lpm> Compared<T> {
    fn new(table: &str, routes: &[(T::Net, NextHop)]) -> Self {
        let mut lpm = T::of(routes);
        Self {
            name: format!("{} {table}, {} prefixes", T::FAMILY, routes.len()),
            reader: lpm.reader(),
            lpm,
            kernels: Kernel::all().collect(),
            answers: 0,
            began: Instant::now(),
        }
    }

    #[track_caller]
    fn assert_same(&mut self, what: &str, oracle: &Oracle<T>, destinations: &[T::Bits]) {
        let Self { name, lpm, .. } = self;
        let expected: Vec<NextHop> = destinations.iter().map(|&dst| oracle.lookup(dst)).collect();
        let check = |by: &str, hops: &[NextHop]| {
            for ((&dst, &hop), &expected) in destinations.iter().zip(hops).zip(&expected) {
                assert_eq!(hop, expected, "{name}, {what}: {} by {by}", T::addr(dst));
            }
        };
        let one_by_one: Vec<NextHop> = destinations.iter().map(|&dst| lpm.lookup(dst)).collect();
        check("one look-up", &one_by_one);
        let mut hops = vec![NO_ROUTE - 1; destinations.len()];
        for &kernel in &self.kernels {
            hops.fill(NO_ROUTE - 1);
            lpm.lookup_batch_by(kernel, destinations, &mut hops);
            check(kernel.name(), &hops);
        }
        hops.fill(NO_ROUTE - 1);
        T::read(&mut self.reader, destinations, &mut hops);
        check("a reader", &hops);
        self.answers += destinations.len() * (2 + self.kernels.len());
    }
}

impl<T: Lpm> Drop for Compared<T> {
    fn drop(&mut self) {
        let kernels: Vec<_> = self.kernels.iter().map(|kernel| kernel.name()).collect();
        let missing: Vec<_> = ["avx2", "avx512"]
            .into_iter()
            .filter(|name| !kernels.contains(name))
            .collect();
        // Past what the test harness keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "COMPARED {}: {} answers in {:.1} s; one by one, batches by {}, a reader's; this processor has no {}",
            self.name,
            self.answers,
            self.began.elapsed().as_secs_f64(),
            kernels.join(" and "),
            if missing.is_empty() {
                "other kernel".into()
            } else {
                missing.join(" and no ")
            },
        );
    }
}

fn check<T: Lpm>(nth: usize) {
    let (table, routes) = T::tables()[nth];
    let routes = match routes() {
        Ok(routes) => routes,
        Err(reason) => {
            // The data is not the project's: its absence is no failure of this machine. A part of it is.
            assert!(
                !has_data() || std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
                "PODWIRE_REQUIRE_ALL=1 and this test cannot run: {reason}"
            );
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {} {table}, NOTHING COMPARED: {reason}",
                T::FAMILY
            );
            return;
        }
    };
    let count = [5_110, T::INTERNET][nth];
    assert_eq!(routes.len(), count, "a table that is not cut short");
    let oracle = Oracle::<T>::new(&routes);
    let mut compared = Compared::<T>::new(table, &routes);
    for mix in Mix::ALL {
        let destinations = T::destinations(mix, &routes, DESTINATIONS);
        assert_eq!(destinations.len(), DESTINATIONS);
        compared.assert_same(mix.name(), &oracle, &destinations);
    }
    let step = routes.len() / 5_000 + 1;
    let some: Vec<_> = routes.iter().copied().step_by(step).collect();
    let borders: Vec<_> = some.iter().flat_map(|&(net, _)| T::borders(net)).collect();
    compared.assert_same("borders", &oracle, &borders);

    // What is taken out is gone; put back, it is as if nothing had been.
    let rest: Vec<_> = (0_usize..)
        .zip(routes.iter().copied())
        .filter_map(|(n, route)| (n % step != 0).then_some(route))
        .collect();
    for &(net, hop) in &some {
        assert_eq!(compared.lpm.remove(net), Some(hop));
    }
    assert_eq!(compared.lpm.len(), rest.len());
    compared.assert_same("some removed", &Oracle::new(&rest), &borders);
    for &(net, hop) in some.iter().rev() {
        assert_eq!(compared.lpm.insert(net, hop), None);
    }
    compared.assert_same("and put back", &oracle, &borders);
    assert!(compared.lpm.routes() == T::of(&routes).routes());
}

#[test]
fn the_ipv6_table_of_a_cluster_node_answers_as_the_oracle_does() {
    check::<Lpm6>(0);
}

#[test]
fn the_ipv6_table_of_the_internet_answers_as_the_oracle_does() {
    check::<Lpm6>(1);
}

#[test]
fn the_table_of_a_cluster_node_answers_as_the_oracle_does() {
    check::<Lpm4>(0);
}

#[test]
fn the_table_of_the_internet_answers_as_the_oracle_does() {
    check::<Lpm4>(1);
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
