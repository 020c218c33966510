//! The tables by themselves: longest prefix match, connections.

use std::cell::OnceCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use ipnet::Ipv4Net;
use router_core::table::flow::{FlowKey, FlowTable};
use router_core::table::lpm4::Lpm4;

use super::{Figure, Job, Random, measure};

/// Look-ups per call.
const BATCH: usize = 64;
/// Addresses looked up before they come again: more than a cache's worth of the large tables.
const ADDRESSES: usize = 1 << 16;
/// Connections in the table.
const CONNECTIONS: u32 = 1_000_000;

/// What a node of a large cluster has: 5,000 podCIDRs and 110 pods.
fn cluster() -> Vec<Ipv4Net> {
    let peers = (0..5_000_u32).map(|n| (0x0a00_0000 + (n << 8), 24));
    let pods = (0..110_u32).map(|n| (0x0aff_0002 + n, 32));
    peers
        .chain(pods)
        .filter_map(|(a, len)| Ipv4Net::new(a.into(), len).ok())
        .collect()
}

/// As many routes, as long, as an Internet table has; spread evenly, which is harder than the real one.
fn internet() -> Vec<Ipv4Net> {
    let mut random = Random(7);
    (0..900_000)
        .filter_map(|n: u32| {
            let len = match n % 10 {
                0..6 => 24,
                6 => 23,
                7 => 22,
                8 => 20,
                _ => 16,
            };
            Some(Ipv4Net::new(random.next_u32().into(), len).ok()?.trunc())
        })
        .collect()
}

fn table(nets: &[Ipv4Net]) -> Lpm4 {
    let hops = (1..=200).cycle();
    Lpm4::from_routes(nets.iter().copied().zip(hops)).unwrap_or_default()
}

fn look_up(name: &'static str, of: &'static str, lpm: &Lpm4, addresses: &[u32]) -> Figure {
    let mut batches = addresses.chunks_exact(BATCH).cycle();
    let mut hops = [0; BATCH];
    measure(name, of, BATCH, || {
        lpm.lookup_batch(batches.next().unwrap_or_default(), &mut hops);
        std::hint::black_box(&hops);
    })
}

/// Addresses that some prefix covers.
fn covered(nets: &[Ipv4Net]) -> Vec<u32> {
    let mut random = Random(11);
    (0..ADDRESSES)
        .map(|_| {
            let net = nets[random.next_u32() as usize % nets.len()];
            net.network().to_bits() | (random.next_u32() & net.hostmask().to_bits())
        })
        .collect()
}

fn lpm(
    name: &'static str,
    of: &'static str,
    nets: fn() -> Vec<Ipv4Net>,
    addresses: fn(&[Ipv4Net]) -> Vec<u32>,
    cell: &Rc<OnceCell<(Vec<Ipv4Net>, Lpm4)>>,
) -> Job {
    let cell = Rc::clone(cell);
    Box::new(move || {
        let (nets, lpm) = cell.get_or_init(|| {
            let nets = nets();
            let lpm = table(&nets);
            (nets, lpm)
        });
        Ok(look_up(name, of, lpm, &addresses(nets)))
    })
}

fn key(n: u32) -> FlowKey {
    let pod = u64::from(Ipv4Addr::new(10, 244, 0, 2).to_bits());
    FlowKey([
        (pod << 32) | u64::from(n),
        (17 << 32) | u64::from(n.reverse_bits()),
    ])
}

fn flows(of: &'static str, absent: u32) -> Job {
    Box::new(move || {
        let mut table = FlowTable::new(CONNECTIONS as usize, 1);
        for n in 0..CONNECTIONS {
            // A few may find no room; they are looked up in vain.
            let _ = table.insert(key(n), n);
        }
        let mut random = Random(13);
        let keys: Vec<FlowKey> = (0..ADDRESSES)
            .map(|_| key(absent + random.next_u32() % CONNECTIONS))
            .collect();
        let mut batches = keys.chunks_exact(BATCH).cycle();
        let mut values = [None; BATCH];
        Ok(measure("connection look-up", of, BATCH, || {
            table.get_batch(batches.next().unwrap_or_default(), &mut values);
            std::hint::black_box(&values);
        }))
    })
}

/// Look-ups in tables.
pub(super) fn jobs() -> Vec<Job> {
    let misses = |_: &[Ipv4Net]| {
        let mut random = Random(17);
        (0..ADDRESSES)
            .map(|_| 0xc000_0000 | random.next_u32() >> 4)
            .collect()
    };
    let (small, large) = (Rc::default(), Rc::default());
    vec![
        lpm(
            "route look-up",
            "5,110 routes of a cluster, hits",
            cluster,
            covered,
            &small,
        ),
        lpm(
            "route look-up",
            "5,110 routes of a cluster, misses",
            cluster,
            misses,
            &small,
        ),
        lpm(
            "route look-up",
            "900,000 routes, hits",
            internet,
            covered,
            &large,
        ),
        flows("1,000,000 connections, hits", 0),
        flows("1,000,000 connections, misses", CONNECTIONS),
    ]
}
