//! Our side of `benches/peers/run.sh`: writes tables and destinations to files, and looks them up as the peers do.
//!
//! `lpm_peer dump DIR` writes `<family>-<table>.routes` (addresses, one length byte, two bytes of next hop) and
//! `<family>-<table>-<mix>.queries`, all big-endian. `lpm_peer run DIR FAMILY TABLE MIX` prints million look-ups a second
//! and the sum of the answers, which must be the peers' too.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use benches::cpu_time;
use benches::family::Lpm;
use benches::routes::Mix;
use router_core::table::lpm4::Lpm4;
use router_core::table::lpm6::Lpm6;
use router_core::table::{NO_ROUTE, NextHop};

const DESTINATIONS: usize = 1 << 20;
const BATCH: usize = 64;
const TIME: Duration = Duration::from_millis(300);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["dump", dir] => {
            dump::<Lpm4>(Path::new(dir))?;
            dump::<Lpm6>(Path::new(dir))
        }
        ["run", dir, Lpm4::FAMILY, table, mix] => run::<Lpm4>(Path::new(dir), table, mix),
        ["run", dir, Lpm6::FAMILY, table, mix] => run::<Lpm6>(Path::new(dir), table, mix),
        _ => Err("usage: lpm_peer dump DIR | run DIR ipv4|ipv6 TABLE MIX".into()),
    }
}

fn dump<T: Lpm>(dir: &Path) -> Result<(), Box<dyn Error>> {
    for (table, routes) in T::tables() {
        let Ok(routes) = routes() else { continue };
        let name = format!("{}-{table}", T::FAMILY);
        let mut bytes = Vec::new();
        for &(net, hop) in &routes {
            let (address, len) = T::bits(net);
            bytes.extend(T::octets(&[address]));
            bytes.push(len);
            bytes.extend(hop.to_be_bytes());
        }
        fs::write(dir.join(format!("{name}.routes")), bytes)?;
        for mix in Mix::ALL {
            let destinations = T::destinations(mix, &routes, DESTINATIONS);
            let path = dir.join(format!("{name}-{}.queries", mix.name()));
            fs::write(path, T::octets(&destinations))?;
        }
    }
    Ok(())
}

fn run<T: Lpm>(dir: &Path, table: &str, mix: &str) -> Result<(), Box<dyn Error>> {
    let file = format!("{}-{table}-{mix}.queries", T::FAMILY);
    let queries = T::from_octets(&fs::read(dir.join(file))?);
    let mut tables = T::tables().into_iter();
    let (_, routes) = tables
        .find(|&(name, _)| name == table)
        .ok_or_else(|| format!("no table {table}"))?;
    measure(&T::of(&routes()?), &queries);
    Ok(())
}

fn measure<T: Lpm>(lpm: &T, queries: &[T::Bits]) {
    let mut hops = [0; BATCH];
    let mut sum = 0;
    for queries in queries.chunks(BATCH) {
        lpm.lookup_batch(queries, &mut hops);
        let found = hops[..queries.len()].iter().filter(|&&hop| hop != NO_ROUTE);
        sum += found.map(|&hop: &NextHop| u64::from(hop)).sum::<u64>();
    }
    let (began, mut rounds) = (cpu_time(), 0);
    while cpu_time().saturating_sub(began) < TIME {
        for queries in queries.chunks(BATCH) {
            lpm.lookup_batch(queries, &mut hops);
            black_box(&mut hops);
        }
        rounds += 1;
    }
    let looked_up = (rounds * queries.len() as u64) as f64;
    let spent = cpu_time().saturating_sub(began);
    println!("ours {:.1} {sum}", looked_up / spent.as_secs_f64() / 1e6);
}
