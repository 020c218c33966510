//! The nat table, ready to be walked: chains resolved to numbers, and a counter for every rule.
//!
//! Decides which rule a connection's first packet ends at; what the rule's target means is `snat`'s and `dnat`'s.
//! Evaluation is iptables': rules in order, a jump returns to the rule behind it, the end of a hook's chain is ACCEPT.
//! A rule counts the packets for which its conditions held (KM-8).
//!
//! Cost: linear in the rules of the chains that are entered, for first packets alone. No allocation.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::config::PortId;
use crate::config::nat::{
    Chain, Mark, Matches, NatConfig, OUTPUT, Origin, POSTROUTING, PREROUTING, PortChoice, Rule,
    Target,
};
use crate::conntrack::{Tuple, has_ports};
use crate::ports::ConfigError;

/// Chains within chains: more is taken for a loop.
const DEPTH: usize = 16;

/// Where in the packet path the table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting,
    Output,
    Postrouting,
}

impl Hook {
    const ALL: [Self; 3] = [Self::Prerouting, Self::Output, Self::Postrouting];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => PREROUTING,
            Self::Output => OUTPUT,
            Self::Postrouting => POSTROUTING,
        }
    }
}

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The packet as it is at the hook.
    pub(crate) tuple: Tuple,
    pub(crate) in_port: Option<PortId>,
    pub(crate) out_port: Option<PortId>,
    pub(crate) mark: u32,
    /// IPv4 total length.
    pub(crate) bytes: usize,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Count {
    /// First packets of connections.
    pub packets: u64,
    /// Their bytes, IPv4 headers included.
    pub bytes: u64,
}

impl Count {
    const fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// A chain with its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChainCounts {
    /// Name.
    pub name: String,
    /// First packets that no rule decided about; of hooks' chains alone.
    pub policy: Count,
    /// Of each rule in order.
    pub rules: Vec<Count>,
}

/// What the table says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Nothing is to be translated.
    Accept,
    Masquerade(PortChoice),
    Snat(Ipv4Addr, PortChoice),
    /// To one of the backends of the rule at this place.
    Dnat(Place),
    Drop,
    Reject,
}

/// A rule: its chain and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chain: usize,
    pub(crate) rule: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    chains: Vec<Chain>,
    counts: Vec<ChainCounts>,
    /// Of each rule, the chain that it jumps to.
    jumps: Vec<Vec<Option<usize>>>,
    hooks: [Option<usize>; 3],
}

impl Rules {
    /// The table of `config`; rules that `old` has too keep their counters.
    pub(crate) fn new(config: &NatConfig, old: &Self) -> Result<Self, ConfigError> {
        let chains = config.chains.clone();
        let find = |name: &str| chains.iter().position(|c| c.name == name);
        let mut jumps = Vec::with_capacity(chains.len());
        for (n, chain) in chains.iter().enumerate() {
            if find(&chain.name) != Some(n) {
                return Err(ConfigError::DuplicateChain(chain.name.clone()));
            }
            let mut of_chain = Vec::with_capacity(chain.rules.len());
            for rule in &chain.rules {
                of_chain.push(match &rule.target {
                    Target::Jump(name) => {
                        Some(find(name).ok_or_else(|| ConfigError::UnknownChain(name.clone()))?)
                    }
                    Target::Dnat { backends, .. }
                        if backends.is_empty() || backends.iter().any(|b| b.weight == 0) =>
                    {
                        return Err(ConfigError::NoBackend(chain.name.clone()));
                    }
                    _ => None,
                });
            }
            jumps.push(of_chain);
        }
        let hooks = Hook::ALL.map(|hook| find(hook.name()));
        let rules = Self {
            counts: chains.iter().map(|chain| old.kept(chain)).collect(),
            chains,
            jumps,
            hooks,
        };
        for hook in Hook::ALL {
            if let Some(chain) = rules.hook(hook) {
                rules.check(hook, chain, 0)?;
            }
        }
        Ok(rules)
    }

    /// Refuses loops, and targets that mean nothing where they can be reached.
    fn check(&self, hook: Hook, chain: usize, depth: usize) -> Result<(), ConfigError> {
        let Some(Chain { name, rules }) = self.chains.get(chain) else {
            return Ok(());
        };
        if depth == DEPTH {
            return Err(ConfigError::ChainLoop(name.clone()));
        }
        for (n, rule) in rules.iter().enumerate() {
            let source = matches!(rule.target, Target::Masquerade(_) | Target::Snat(..));
            let destination = matches!(rule.target, Target::Dnat { .. });
            let post = hook == Hook::Postrouting;
            if (source && !post) || (destination && post) {
                return Err(ConfigError::MisplacedTarget(name.clone(), hook.name()));
            }
            if let Some(next) = self.jump(Place { chain, rule: n }) {
                self.check(hook, next, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The counters of a chain, taken over rule by rule in order where the rules are the same.
    fn kept(&self, chain: &Chain) -> ChainCounts {
        let empty = ChainCounts {
            name: chain.name.clone(),
            ..ChainCounts::default()
        };
        let old = self
            .chains
            .iter()
            .zip(&self.counts)
            .find(|(c, _)| c.name == chain.name);
        let mut taken = old.map_or_else(Vec::new, |(c, _)| alloc::vec![false; c.rules.len()]);
        let rules = chain.rules.iter().map(|rule| {
            let (old_chain, counts) = old?;
            let mut at = old_chain.rules.iter().zip(&taken);
            let n = at.position(|(r, &taken)| !taken && r == rule)?;
            *taken.get_mut(n)? = true;
            counts.rules.get(n).copied()
        });
        ChainCounts {
            rules: rules.map(Option::unwrap_or_default).collect(),
            policy: old.map_or_else(Count::default, |(_, counts)| counts.policy),
            ..empty
        }
    }

    fn hook(&self, hook: Hook) -> Option<usize> {
        self.hooks[hook as usize]
    }

    fn jump(&self, place: Place) -> Option<usize> {
        *self.jumps.get(place.chain)?.get(place.rule)?
    }

    pub(crate) fn rule(&self, place: Place) -> Option<&Rule> {
        self.chains.get(place.chain)?.rules.get(place.rule)
    }

    /// Name of the chain, number of the rule from one, and who asked for it.
    pub(crate) fn describe(&self, place: Place) -> Option<(&str, usize, Option<&Origin>)> {
        let chain = self.chains.get(place.chain)?;
        let rule = chain.rules.get(place.rule)?;
        Some((&chain.name, place.rule + 1, rule.origin.as_ref()))
    }

    /// The counters, in the order of the chains.
    pub(crate) fn counts(&self) -> &[ChainCounts] {
        &self.counts
    }

    /// Sets all counters to zero.
    pub(crate) fn zero(&mut self) {
        for chain in &mut self.counts {
            chain.policy = Count::default();
            chain.rules.fill(Count::default());
        }
    }

    /// Asks the table about a first packet. `is_local` says of an address whether it is one of the node's. With `count`
    /// false the counters are left alone. Gives the rule that decided, too, and sets marks in `facts`.
    pub(crate) fn evaluate(
        &mut self,
        hook: Hook,
        facts: &mut Facts,
        is_local: impl Fn(Ipv4Addr) -> bool,
        count: bool,
    ) -> (Ruling, Option<Place>) {
        let Some(first) = self.hook(hook) else {
            return (Ruling::Accept, None);
        };
        let mut calls = [Place { chain: 0, rule: 0 }; DEPTH];
        let mut depth = 0_usize;
        let mut at = Place {
            chain: first,
            rule: 0,
        };
        loop {
            let Some(rule) = self.rule(at) else {
                // The end of a chain.
                let Some(back) = depth.checked_sub(1).and_then(|d| calls.get(d)) else {
                    break;
                };
                at = *back;
                depth -= 1;
                continue;
            };
            if !holds(&rule.matches, facts, &is_local) {
                at.rule += 1;
                continue;
            }
            let ruling = match &rule.target {
                Target::Accept => Some(Ruling::Accept),
                Target::Masquerade(choice) => Some(Ruling::Masquerade(*choice)),
                Target::Snat(addr, choice) => Some(Ruling::Snat(*addr, *choice)),
                Target::Dnat { .. } => Some(Ruling::Dnat(at)),
                Target::Drop => Some(Ruling::Drop),
                Target::Reject => Some(Ruling::Reject),
                Target::Mark(Mark { value, mask }) => {
                    facts.mark = facts.mark & !mask | value & mask;
                    None
                }
                Target::Return | Target::Jump(_) => None,
            };
            let returns = rule.target == Target::Return;
            if count
                && let Some(count) = self
                    .counts
                    .get_mut(at.chain)
                    .and_then(|c| c.rules.get_mut(at.rule))
            {
                count.add(facts.bytes);
            }
            if let Some(ruling) = ruling {
                return (ruling, Some(at));
            }
            let decided = at;
            at.rule += 1;
            if let Some(chain) = self.jump(decided) {
                if let Some(call) = calls.get_mut(depth) {
                    *call = at;
                    depth += 1;
                    at = Place { chain, rule: 0 };
                }
            } else if returns {
                let Some(back) = depth.checked_sub(1).and_then(|d| calls.get(d)) else {
                    break;
                };
                at = *back;
                depth -= 1;
            }
        }
        if count && let Some(chain) = self.counts.get_mut(first) {
            chain.policy.add(facts.bytes);
        }
        (Ruling::Accept, None)
    }
}

fn holds(m: &Matches, facts: &Facts, is_local: impl Fn(Ipv4Addr) -> bool) -> bool {
    let t = &facts.tuple;
    let local = |addr: Ipv4Addr| addr.is_loopback() || is_local(addr);
    let port = |wanted: Option<crate::config::nat::PortMatch>, port: Option<PortId>| {
        wanted.is_none_or(|w| (port == Some(w.port)) != w.negate)
    };
    let within = |ranges: &[(u16, u16)], port: u16| {
        ranges.is_empty()
            || (has_ports(t.protocol)
                && ranges
                    .iter()
                    .any(|&(first, last)| (first..=last).contains(&port)))
    };
    m.protocol.is_none_or(|p| p == t.protocol)
        && m.src.as_ref().is_none_or(|net| net.holds(t.src))
        && m.dst.as_ref().is_none_or(|net| net.holds(t.dst))
        && within(&m.sports, t.sport)
        && within(&m.dports, t.dport)
        && port(m.in_port, facts.in_port)
        && port(m.out_port, facts.out_port)
        && m.mark
            .is_none_or(|w| facts.mark & w.mask == w.value & w.mask)
        && m.dst_local.is_none_or(|wanted| local(t.dst) == wanted)
        && m.src_local.is_none_or(|wanted| local(t.src) == wanted)
}
