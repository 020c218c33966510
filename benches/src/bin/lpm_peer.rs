//! Our side of `benches/peers/run.sh`: writes tables and destinations to files, and looks them up as the peers do.
//!
//! `lpm_peer dump DIR` writes `<family>-<table>.routes` (addresses, one length byte, two bytes of next hop) and
//! `<family>-<table>-<mix>.queries`, all big-endian. `lpm_peer run DIR FAMILY TABLE MIX` prints million look-ups a second
//! and the sum of the answers, which must be the peers' too.

use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use benches::cpu_time;
use benches::routes::{Mix, Table, Table6};
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

const DESTINATIONS: usize = 1 << 20;
const BATCH: usize = 64;
const TIME: Duration = Duration::from_millis(300);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["dump", dir] => dump(Path::new(dir)),
        ["run", dir, family, table, mix] => run(Path::new(dir), family, table, mix),
        _ => Err("usage: lpm_peer dump DIR | run DIR FAMILY TABLE MIX".into()),
    }
}

fn dump(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for table in [Table::Cluster, Table::Internet] {
        let Ok(routes) = table.routes() else { continue };
        let name = format!("ipv4-{}", table.name());
        let mut file = fs::File::create(dir.join(format!("{name}.routes")))?;
        let mut bytes = Vec::new();
        for (net, hop) in &routes {
            bytes.extend(net.network().octets());
            bytes.push(net.prefix_len());
            bytes.extend(hop.to_be_bytes());
        }
        file.write_all(&bytes)?;
        for mix in Mix::ALL {
            let destinations = mix.destinations(&routes, DESTINATIONS);
            let bytes: Vec<u8> = destinations.iter().flat_map(|d| d.to_be_bytes()).collect();
            fs::write(dir.join(format!("{name}-{}.queries", mix.name())), bytes)?;
        }
    }
    for table in [Table6::Cluster, Table6::Internet] {
        let Ok(routes) = table.routes() else { continue };
        let name = format!("ipv6-{}", table.name());
        let mut bytes = Vec::new();
        for (net, hop) in &routes {
            bytes.extend(net.network().octets());
            bytes.push(net.prefix_len());
            bytes.extend(hop.to_be_bytes());
        }
        fs::write(dir.join(format!("{name}.routes")), bytes)?;
        for mix in Mix::ALL {
            let destinations = mix.destinations6(&routes, DESTINATIONS);
            let bytes: Vec<u8> = destinations.iter().flat_map(|d| d.to_be_bytes()).collect();
            fs::write(dir.join(format!("{name}-{}.queries", mix.name())), bytes)?;
        }
    }
    Ok(())
}

fn run(dir: &Path, family: &str, table: &str, mix: &str) -> Result<(), Box<dyn std::error::Error>> {
    let queries = fs::read(dir.join(format!("{family}-{table}-{mix}.queries")))?;
    match (family, table) {
        ("ipv4", "cluster" | "internet") => {
            let table = if table == "cluster" {
                Table::Cluster
            } else {
                Table::Internet
            };
            let lpm = Lpm4::from_routes(table.routes()?)?;
            let queries: Vec<u32> = queries
                .as_chunks()
                .0
                .iter()
                .map(|&q| u32::from_be_bytes(q))
                .collect();
            measure(&queries, |queries, hops| lpm.lookup_batch(queries, hops));
        }
        ("ipv6", "cluster" | "internet") => {
            let table = if table == "cluster" {
                Table6::Cluster
            } else {
                Table6::Internet
            };
            let lpm = Lpm6::from_routes(table.routes()?)?;
            let queries: Vec<u128> = queries
                .as_chunks()
                .0
                .iter()
                .map(|&q| u128::from_be_bytes(q))
                .collect();
            measure(&queries, |queries, hops| lpm.lookup_batch(queries, hops));
        }
        _ => return Err(format!("no table {family} {table}").into()),
    }
    Ok(())
}

fn measure<T>(queries: &[T], lookup: impl Fn(&[T], &mut [NextHop])) {
    let mut hops = [0; BATCH];
    let mut sum = 0;
    for queries in queries.chunks(BATCH) {
        lookup(queries, &mut hops);
        let found = hops[..queries.len()].iter().filter(|&&hop| hop != NO_ROUTE);
        sum += found.map(|&hop| u64::from(hop)).sum::<u64>();
    }
    let (began, mut rounds) = (cpu_time(), 0);
    while cpu_time().saturating_sub(began) < TIME {
        for queries in queries.chunks(BATCH) {
            lookup(queries, &mut hops);
            black_box(&mut hops);
        }
        rounds += 1;
    }
    let looked_up = (rounds * queries.len() as u64) as f64;
    let spent = cpu_time().saturating_sub(began);
    println!("ours {:.1} {sum}", looked_up / spent.as_secs_f64() / 1e6);
}
