//! Routing policy rules (ip-rule(8)) of the calling thread's network namespace, as changes for a [`RouteSocket`].
//!
//! Decides how a rule is put into a message. Rules by protocol and port need Linux 4.17.
//!
//! [`RouteSocket`]: super::netlink::RouteSocket

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};

use super::netlink::{Changes, ENOENT};

/// The table of the addresses that the kernel takes for its own.
pub const TABLE_LOCAL: u8 = 255;

/// A rule: packets for which all of this holds look into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `pref`: rules are asked in this order.
    pub priority: u32,
    /// `lookup`
    pub table: u8,
    /// `iif lo`, `ipproto`, `dport`, `to`: of the namespace's own programs to this port, at this address or any. None is every
    /// packet.
    pub own_to: Option<(u8, u16, Option<Ipv4Addr>)>,
}

impl Changes {
    /// Adds a rule; an error when the same is there.
    pub fn rule_add(&mut self, rule: &Rule) -> &mut Self {
        self.push(
            format!("add rule {}", describe(rule)),
            RouteNetlinkMessage::NewRule(message(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
            &[],
        )
    }

    /// Removes a rule; it is no error when it isn't there.
    pub fn rule_delete(&mut self, rule: &Rule) -> &mut Self {
        self.push(
            format!("remove rule {}", describe(rule)),
            RouteNetlinkMessage::DelRule(message(rule)),
            0,
            &[ENOENT],
        )
    }
}

fn describe(rule: &Rule) -> String {
    let Rule {
        priority, table, ..
    } = rule;
    match rule.own_to {
        None => format!("{priority}: lookup {table}"),
        Some((protocol, port, to)) => {
            let to = to.map_or_else(String::new, |to| format!(" to {to}"));
            format!("{priority}:{to} ipproto {protocol} dport {port} lookup {table}")
        }
    }
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.table = rule.table;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![RuleAttribute::Priority(rule.priority)];
    if let Some((protocol, port, to)) = rule.own_to {
        message.attributes.extend([
            RuleAttribute::Iifname("lo".to_owned()),
            RuleAttribute::IpProtocol(IpProtocol::from(i32::from(protocol))),
            RuleAttribute::DestinationPortRange(RulePortRange {
                start: port,
                end: port,
            }),
        ]);
        if let Some(to) = to {
            message.header.dst_len = 32;
            message
                .attributes
                .push(RuleAttribute::Destination(IpAddr::V4(to)));
        }
    }
    message
}
