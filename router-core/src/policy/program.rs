//! One pod's rules of one direction, compiled for look-up.
//!
//! Rules that are for any peer go into one table of ports. The addresses of all others are cut at every border into
//! intervals; intervals within the same rules share a table. A look-up is one search by ports, one by address, and
//! one by ports again: O(log intervals + log ranges), whatever the number of rules.
//!
//! Cost of compiling: O(A log A) for A address ranges plus the number of rules that hold in each interval. Memory: an
//! interval is 8 bytes, a range of ports 12; a rule that allows all ports hides the others of its interval.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::config::{AddressRange, PolicyPeers, PolicyProgram, PolicyRule};

/// Number of a rule in its program.
pub(super) type RuleNumber = u32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Program {
    any_peer: PortTable,
    /// First addresses of the intervals, rising; each reaches up to the next.
    starts: Vec<u32>,
    /// Place in `tables` for each interval.
    classes: Vec<u32>,
    tables: Vec<PortTable>,
}

/// Which protocols and ports are allowed.
#[derive(Debug, Default)]
struct PortTable {
    everything: Option<RuleNumber>,
    /// Disjoint, rising. The key is the protocol in the upper, the port in the lower half.
    ranges: Vec<PortRange>,
}

#[derive(Debug)]
struct PortRange {
    first: u32,
    last: u32,
    rule: RuleNumber,
}

impl Program {
    /// Compiles `program`; sets that do not exist are empty.
    pub(super) fn new(program: &PolicyProgram, sets: &[Vec<AddressRange>]) -> Self {
        let rules = || (0..).zip(&program.rules);
        let any_peer =
            PortTable::new(rules().filter(|(_, rule)| matches!(rule.peers, PolicyPeers::Any)));

        // (address, rule) where a rule begins and, as (address, rule), where it has ended.
        let mut borders: BTreeMap<u64, (Vec<RuleNumber>, Vec<RuleNumber>)> = BTreeMap::new();
        for (number, rule) in rules() {
            let PolicyPeers::Set(set) = rule.peers else {
                continue;
            };
            let set = usize::try_from(set).ok().and_then(|set| sets.get(set));
            for range in merged(set.map_or(&[], Vec::as_slice)) {
                let (first, end) = (u64::from(range.0), u64::from(range.1) + 1);
                borders.entry(first).or_default().0.push(number);
                borders.entry(end).or_default().1.push(number);
            }
        }
        let mut compiled = Self {
            any_peer,
            ..Self::default()
        };
        if compiled.any_peer.everything.is_some() {
            return compiled;
        }
        let rule = |number: RuleNumber| {
            usize::try_from(number)
                .ok()
                .and_then(|n| program.rules.get(n))
        };
        let mut active: BTreeSet<RuleNumber> = BTreeSet::new();
        let mut known: BTreeMap<Vec<RuleNumber>, u32> = BTreeMap::new();
        for (address, (begin, end)) in borders {
            for number in end {
                active.remove(&number);
            }
            active.extend(begin);
            // An end behind 255.255.255.255 is the end of the table.
            let Ok(start) = u32::try_from(address) else {
                break;
            };
            let hides = |number: &&RuleNumber| rule(**number).is_some_and(|r| r.ports.is_empty());
            let key: Vec<RuleNumber> = match active.iter().find(hides) {
                Some(&number) => alloc::vec![number],
                None => active.iter().copied().collect(),
            };
            let tables = &mut compiled.tables;
            let class = *known.entry(key).or_insert_with_key(|key| {
                let in_force = key.iter().filter_map(|&n| Some((n, rule(n)?)));
                tables.push(PortTable::new(in_force));
                u32::try_from(tables.len() - 1).unwrap_or(u32::MAX)
            });
            compiled.starts.push(start);
            compiled.classes.push(class);
        }
        compiled
    }

    /// The rule that allows this, if one does. `port` is none where the protocol has no ports.
    #[inline]
    pub(super) fn find(
        &self,
        peer: Ipv4Addr,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<RuleNumber> {
        self.any_peer.find(protocol, port).or_else(|| {
            let interval = self
                .starts
                .partition_point(|&start| start <= peer.to_bits());
            let class = *self.classes.get(interval.checked_sub(1)?)?;
            let table = self.tables.get(usize::try_from(class).ok()?)?;
            table.find(protocol, port)
        })
    }
}

/// The ranges of a set, sorted, overlaps and neighbours joined.
fn merged(set: &[AddressRange]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = set
        .iter()
        .map(|range| (range.first.to_bits(), range.last.to_bits()))
        .filter(|(first, last)| first <= last)
        .collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1.saturating_add(1);
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
    ranges
}

impl PortTable {
    fn new<'r>(rules: impl Iterator<Item = (RuleNumber, &'r PolicyRule)>) -> Self {
        let mut table = Self::default();
        let mut ranges = Vec::new();
        for (number, rule) in rules {
            if rule.ports.is_empty() {
                table.everything = Some(number);
                return table;
            }
            ranges.extend(rule.ports.iter().map(|ports| PortRange {
                first: key(ports.protocol, ports.first),
                last: key(ports.protocol, ports.last),
                rule: number,
            }));
        }
        ranges.retain(|range| range.first <= range.last);
        ranges.sort_unstable_by_key(|range| (range.first, range.rule));
        for mut range in ranges {
            if let Some(before) = table.ranges.last() {
                // The part that an earlier range covers is its already.
                range.first = range.first.max(before.last.saturating_add(1));
            }
            if range.first <= range.last {
                table.ranges.push(range);
            }
        }
        table
    }

    #[inline]
    fn find(&self, protocol: u8, port: Option<u16>) -> Option<RuleNumber> {
        if self.everything.is_some() {
            return self.everything;
        }
        let key = key(protocol, port?);
        let place = self.ranges.partition_point(|range| range.first <= key);
        self.ranges
            .get(place.checked_sub(1)?)
            .filter(|range| key <= range.last)
            .map(|range| range.rule)
    }
}

fn key(protocol: u8, port: u16) -> u32 {
    (u32::from(protocol) << 16) | u32::from(port)
}
#[cfg(test)]
impl Program {
    /// Most comparisons of one look-up.
    pub(super) fn steps(&self) -> u32 {
        let search = |len: usize| len.checked_ilog2().map_or(0, |log| log + 1);
        let table = self.tables.iter().map(|table| search(table.ranges.len()));
        search(self.any_peer.ranges.len()) + search(self.starts.len()) + table.max().unwrap_or(0)
    }
}
