//! One answer of a node out of those of its workers.
//!
//! Decides what is added up, what is put behind each other, and of which worker's neighbours one is shown: of entries for the
//! same address the one that is worth most.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use router_core::{ChainCounts, NeighbourState, PortId, Session, Tracking};

use crate::control::capture::CaptureCounts;
use crate::control::node::{ImpairedPort, NodeNeighbour, NodeReply, NodeStats, PortStats};
use crate::impair::ImpairCounts;

/// The answer to a request that all workers have carried out, each of which has answered in the same way.
///
/// # Errors
/// When they have not.
pub(super) fn replies(replies: Vec<NodeReply>) -> Result<NodeReply, String> {
    replies
        .into_iter()
        .map(Ok)
        .reduce(|one, other| two(one?, other?))
        .unwrap_or(Ok(NodeReply::Done))
}

fn two(one: NodeReply, other: NodeReply) -> Result<NodeReply, String> {
    Ok(match (one, other) {
        (NodeReply::Done, NodeReply::Done) => NodeReply::Done,
        (NodeReply::Neighbours { neighbours: a }, NodeReply::Neighbours { neighbours: b }) => {
            NodeReply::Neighbours {
                neighbours: neighbours(a.into_iter().chain(b)),
            }
        }
        (NodeReply::Stats { stats: mut a }, NodeReply::Stats { stats: b }) => {
            stats(&mut a, *b);
            NodeReply::Stats { stats: a }
        }
        (NodeReply::NatCounts { chains: mut a }, NodeReply::NatCounts { chains: b }) => {
            nat_counts(&mut a, &b);
            NodeReply::NatCounts { chains: a }
        }
        (NodeReply::Sessions { sessions: mut a }, NodeReply::Sessions { sessions: b }) => {
            let known = |s: &Session| a.iter().any(|t| t.original == s.original);
            // Outer packets of tunnels belong to every worker's table.
            let (every, own): (Vec<_>, Vec<_>) = b
                .into_iter()
                .partition(|s| s.original.protocol == TUNNELLED && known(s));
            drop(every);
            a.extend(own);
            NodeReply::Sessions { sessions: a }
        }
        (NodeReply::Flushed { count: a }, NodeReply::Flushed { count: b }) => {
            NodeReply::Flushed { count: a + b }
        }
        (
            NodeReply::Restored { restored, lost },
            NodeReply::Restored {
                restored: more,
                lost: more_lost,
            },
        ) => NodeReply::Restored {
            restored: restored + more,
            lost: lost + more_lost,
        },
        (NodeReply::Captured { counts: mut a }, NodeReply::Captured { counts: b }) => {
            captured(&mut a, b);
            NodeReply::Captured { counts: a }
        }
        _ => return Err("the workers do not agree".to_owned()),
    })
}

/// IPIP.
const TUNNELLED: u8 = 4;

/// From most to least.
const WORTH: [NeighbourState; 7] = [
    NeighbourState::Permanent,
    NeighbourState::Reachable,
    NeighbourState::Delay,
    NeighbourState::Probe,
    NeighbourState::Stale,
    NeighbourState::Incomplete,
    NeighbourState::Failed,
];

fn neighbours(all: impl Iterator<Item = NodeNeighbour>) -> Vec<NodeNeighbour> {
    let worth = |n: &NodeNeighbour| WORTH.iter().position(|state| state.as_str() == n.state);
    let mut best: BTreeMap<(PortId, Ipv4Addr), NodeNeighbour> = BTreeMap::new();
    for neighbour in all {
        let key = (neighbour.port, neighbour.ip);
        match best.get(&key) {
            Some(known) if worth(known) <= worth(&neighbour) => {}
            _ => {
                best.insert(key, neighbour);
            }
        }
    }
    best.into_values().collect()
}

fn stats(a: &mut NodeStats, b: NodeStats) {
    let NodeStats {
        router,
        held,
        ports,
        stack_drops,
        tracking,
        impaired,
        journal_behind,
        lost_between_workers,
    } = b;
    a.router.absorb(&router);
    a.held += held;
    a.stack_drops += stack_drops;
    a.journal_behind |= journal_behind;
    a.lost_between_workers += lost_between_workers;
    a.tracking = match (a.tracking, tracking) {
        (Some(a), Some(b)) => Some(Tracking {
            connections: a.connections + b.connections,
            bytes: a.bytes + b.bytes,
        }),
        (a, b) => a.or(b),
    };
    for theirs in ports {
        match a.ports.iter_mut().find(|mine| mine.port == theirs.port) {
            Some(mine) => port(mine, &theirs),
            None => a.ports.push(theirs),
        }
    }
    for theirs in impaired {
        match a.impaired.iter_mut().find(|mine| mine.port == theirs.port) {
            Some(mine) => impaired_port(mine, &theirs),
            None => a.impaired.push(theirs),
        }
    }
}

fn port(a: &mut PortStats, b: &PortStats) {
    a.rx_frames += b.rx_frames;
    a.rx_bytes += b.rx_bytes;
    a.tx_frames += b.tx_frames;
    a.tx_bytes += b.tx_bytes;
    a.tx_dropped += b.tx_dropped;
    a.rx_errors += b.rx_errors;
    a.rx_missed += b.rx_missed;
}

fn impaired_port(a: &mut ImpairedPort, b: &ImpairedPort) {
    impair_counts(&mut a.rx, b.rx);
    impair_counts(&mut a.tx, b.tx);
}

fn impair_counts(a: &mut ImpairCounts, b: ImpairCounts) {
    let ImpairCounts {
        received,
        made,
        sent,
        lost,
        dropped,
        corrupted,
        reordered,
        duplicated,
        held,
    } = b;
    a.received += received;
    a.made += made;
    a.sent += sent;
    a.lost += lost;
    a.dropped += dropped;
    a.corrupted += corrupted;
    a.reordered += reordered;
    a.duplicated += duplicated;
    a.held += held;
}

/// The rules are the same, as they are the snapshot's.
fn nat_counts(a: &mut [ChainCounts], b: &[ChainCounts]) {
    for (a, b) in a.iter_mut().zip(b) {
        let rules = a.rules.iter_mut().zip(&b.rules);
        for (a, b) in rules.chain([(&mut a.policy, &b.policy)]) {
            a.packets += b.packets;
            a.bytes += b.bytes;
        }
    }
}

fn captured(a: &mut Vec<CaptureCounts>, b: Vec<CaptureCounts>) {
    for theirs in b {
        match a.iter_mut().find(|mine| mine.place == theirs.place) {
            Some(mine) => {
                mine.received += theirs.received;
                mine.accepted += theirs.accepted;
                mine.lost += theirs.lost;
            }
            None => a.push(theirs),
        }
    }
}

#[cfg(test)]
mod tests {
    use router_core::{Mac, Stats};

    use super::*;

    fn neighbour(ip: u8, state: &str, mac: u8) -> NodeNeighbour {
        NodeNeighbour {
            port: PortId(1),
            ip: Ipv4Addr::new(10, 0, 0, ip),
            mac: Some(Mac([mac; 6])),
            state: state.to_owned(),
        }
    }

    #[test]
    fn of_a_neighbour_the_best_state_is_shown() {
        let one = vec![neighbour(1, "STALE", 1), neighbour(2, "PERMANENT", 1)];
        let other = vec![neighbour(1, "REACHABLE", 2), neighbour(2, "PERMANENT", 2)];
        let third = vec![neighbour(1, "FAILED", 3), neighbour(3, "INCOMPLETE", 3)];
        let merged = replies(
            [one, other, third]
                .into_iter()
                .map(|neighbours| NodeReply::Neighbours { neighbours })
                .collect(),
        );
        let expected = vec![
            neighbour(1, "REACHABLE", 2),
            neighbour(2, "PERMANENT", 1),
            neighbour(3, "INCOMPLETE", 3),
        ];
        assert_eq!(
            merged,
            Ok(NodeReply::Neighbours {
                neighbours: expected
            })
        );
    }

    #[test]
    fn counters_of_ports_are_added_and_what_waits_anywhere_waits() {
        let port = |port, n| PortStats {
            port: PortId(port),
            rx_frames: n,
            rx_bytes: n + 1,
            tx_frames: n + 2,
            tx_bytes: n + 3,
            tx_dropped: n + 4,
            rx_errors: n + 5,
            rx_missed: n + 6,
        };
        let stats = |ports: Vec<PortStats>, behind| NodeReply::Stats {
            stats: Box::new(NodeStats {
                router: Stats::default(),
                held: 2,
                ports,
                stack_drops: 0,
                tracking: Some(Tracking {
                    connections: 3,
                    bytes: 10,
                }),
                impaired: Vec::new(),
                journal_behind: behind,
                lost_between_workers: 4,
            }),
        };
        let merged = replies(vec![
            stats(vec![port(1, 10)], false),
            stats(vec![port(1, 100), port(2, 7)], true),
        ]);
        let Ok(NodeReply::Stats { stats }) = merged else {
            panic!("{merged:?}")
        };
        let sum = PortStats {
            port: PortId(1),
            rx_frames: 110,
            rx_bytes: 112,
            tx_frames: 114,
            tx_bytes: 116,
            tx_dropped: 118,
            rx_errors: 120,
            rx_missed: 122,
        };
        assert_eq!(stats.ports, [sum, port(2, 7)]);
        assert_eq!((stats.held, stats.lost_between_workers), (4, 8));
        assert!(stats.journal_behind);
        assert_eq!(
            stats.tracking.map(|t| (t.connections, t.bytes)),
            Some((6, 20))
        );
    }

    #[test]
    fn workers_that_answer_differently_are_no_node() {
        let answers = vec![NodeReply::Done, NodeReply::Flushed { count: 1 }];
        assert!(replies(answers).is_err());
        assert_eq!(replies(vec![NodeReply::Done; 3]), Ok(NodeReply::Done));
    }
}
