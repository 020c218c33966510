//! What connection tracking and the nat table decided, as sentences.

use core::fmt;

use super::{PortNames, Tracked};
use crate::config::nat::Target;

pub(super) const fn state(state: Tracked) -> &'static str {
    match state {
        Tracked::Untracked => "belongs to no connection that is tracked",
        Tracked::Invalid => "INVALID: belongs to no connection and begins none",
        Tracked::New => "NEW: begins a connection",
        Tracked::Unreplied => "NEW: of a connection that was not answered yet",
        Tracked::Established { reply: false } => "ESTABLISHED",
        Tracked::Established { reply: true } => "ESTABLISHED, reply direction",
        Tracked::Related => "RELATED: an ICMP error about a connection",
    }
}

/// `nat KIND-MASQ-AGENT rule 2: MASQUERADE (kindnetd ip-masq-agent, lab.yaml:3)`
pub(super) fn rule(
    f: &mut fmt::Formatter<'_>,
    chain: u32,
    rule: u32,
    names: &dyn PortNames,
) -> fmt::Result {
    let number = rule.saturating_add(1);
    let Some(chain) = names.nat_chain(chain) else {
        return write!(f, "nat chain {chain} rule {number}");
    };
    write!(f, "nat {} rule {number}", chain.name)?;
    let Some(rule) = usize::try_from(rule).ok().and_then(|n| chain.rules.get(n)) else {
        return Ok(());
    };
    match &rule.target {
        Target::Accept => f.write_str(": ACCEPT")?,
        Target::Return => f.write_str(": RETURN")?,
        Target::Jump(to) => write!(f, ": {to}")?,
        Target::Mark(_) => f.write_str(": MARK")?,
        Target::Masquerade(_) => f.write_str(": MASQUERADE")?,
        Target::Snat(to, _) => write!(f, ": SNAT to {to}")?,
        Target::Dnat { .. } => f.write_str(": DNAT")?,
        Target::Drop => f.write_str(": DROP")?,
        Target::Reject => f.write_str(": REJECT")?,
    }
    match &rule.origin {
        Some(origin) => match &origin.at {
            Some(at) => write!(f, " ({}, {at})", origin.name),
            None => write!(f, " ({})", origin.name),
        },
        None => Ok(()),
    }
}
