//! A node's own programs and its host ports: what the host namespace leaves to the router.
//!
//! The kernel of the host namespace takes packets to the node's addresses and to 127.0.0.1 for itself, so that no rule of the
//! router's nat table would see them. For the ports that rules wait for (host ports, node ports) routing rules come before the
//! kernel's own: of these ports the addresses are no longer local, but behind the router, which does what Linux's OUTPUT chain does
//! and sends the answers back. Nothing else changes; without such ports nothing at all. Pure, but for [`open_loopback`].

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use ipnet::Ipv4Net;
use router_core::Mac;
use tap_bridge::sys::netlink::{Changes, Route};
use tap_bridge::sys::netns::{Namespace, with_namespaces};
use tap_bridge::sys::rules::{Rule, TABLE_LOCAL};

use super::netns::Sandbox;

/// Packets of the node's own programs to this port of the node's addresses are the router's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirected {
    /// IP protocol.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// At this address only; none is all.
    pub to: Option<Ipv4Addr>,
}

/// Number of the table that leads to the router.
const TABLE: u8 = 127;

/// Where its routes lead: a link-local address that nobody has, with the router as its permanent neighbour. 127.0.0.1 could not be
/// one (PARP-6).
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 127, 1);

/// `pref` of the rules for [`TABLE`], which was the kernel's own rule's, and where that one stands instead.
const FIRST: u32 = 0;
const AFTER: u32 = 1;

const LOCAL_FIRST: Rule = local(FIRST);
const LOCAL_AFTER: Rule = local(AFTER);

const fn local(priority: u32) -> Rule {
    Rule {
        priority,
        table: TABLE_LOCAL,
        own_to: None,
    }
}

/// What a host namespace leaves to the router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    /// Sorted, without repetitions.
    pub ports: Vec<Redirected>,
    /// Addresses of the node, but 127.0.0.1.
    pub addresses: Vec<Ipv4Addr>,
    /// The router's MAC.
    pub router: Mac,
}

impl Redirects {
    /// What turns `self` into `wanted`, on the interface `index`.
    pub fn changes_to(&self, wanted: &Self, index: u32, changes: &mut Changes) {
        let (was, is) = (!self.ports.is_empty(), !wanted.ports.is_empty());
        if is && !was {
            // Never without the kernel's rule.
            changes.rule_add(&LOCAL_AFTER).rule_delete(&LOCAL_FIRST);
        }
        if is && (!was || self.router != wanted.router) {
            changes.neighbour_permanent(index, ROUTER, wanted.router);
        }
        let gone = self.ports.iter().filter(|it| !wanted.ports.contains(it));
        for port in gone {
            changes.rule_delete(&rule(*port));
        }
        let (old, new) = (self.routes(index), wanted.routes(index));
        for route in old.iter().filter(|it| !new.contains(it)) {
            changes.route_delete(route);
        }
        // All of them: those of an address that came back have gone with it.
        for route in &new {
            if *self != *wanted {
                changes.route_replace(route);
            }
        }
        for port in wanted.ports.iter().filter(|it| !self.ports.contains(it)) {
            changes.rule_add(&rule(*port));
        }
        if was && !is {
            changes
                .rule_add(&LOCAL_FIRST)
                .rule_delete(&LOCAL_AFTER)
                .neighbour_delete(index, ROUTER);
        }
    }

    /// As the kernel's own table has them: each address is its own source, and 127.0.0.1 that of all of 127/8.
    fn routes(&self, index: u32) -> Vec<Route> {
        if self.ports.is_empty() {
            return Vec::new();
        }
        let loopback = (
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
            Ipv4Addr::LOCALHOST,
        );
        let own = self.addresses.iter().map(|ip| (Ipv4Net::from(*ip), *ip));
        std::iter::once(loopback)
            .chain(own)
            .map(|(dst, src)| Route {
                via: Some(ROUTER),
                src: Some(src),
                onlink: true,
                table: TABLE,
                ..Route::new(dst, index)
            })
            .collect()
    }
}

fn rule(port: Redirected) -> Rule {
    Rule {
        priority: FIRST,
        table: TABLE,
        own_to: Some((port.protocol, port.port, port.to)),
    }
}

/// Lets 127.0.0.1 be sent to and taken from the `eth0` of a sandbox, or not any more, and doubts no source there: the node's own
/// come back from the router. The router lets in nobody else's (PM-4).
///
/// # Errors
/// What setns(2) and write(2) say: where `/proc/sys` is read-only the node's own programs don't reach its host ports.
pub fn open_loopback(sandbox: &Sandbox, open: bool) -> io::Result<()> {
    let set = |interface: &str, key: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/{key}");
        fs::write(path, value)
    };
    with_namespaces(&[(sandbox.net().as_fd(), Namespace::Net)], || {
        set("eth0", "route_localnet", if open { "1" } else { "0" })?;
        if open {
            set("all", "rp_filter", "0")?;
            set("eth0", "rp_filter", "0")?;
        }
        Ok(())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirects(ports: &[u16]) -> Redirects {
        Redirects {
            ports: ports
                .iter()
                .map(|&port| Redirected {
                    protocol: 6,
                    port,
                    to: None,
                })
                .collect(),
            addresses: vec![Ipv4Addr::new(172, 16, 30, 3)],
            router: Mac([2, 0, 0, 0, 0, 9]),
        }
    }

    fn steps(from: &[u16], to: &[u16]) -> Vec<String> {
        let mut changes = Changes::new();
        redirects(from).changes_to(&redirects(to), 2, &mut changes);
        let steps = changes.describe().into_iter().map(str::to_owned);
        steps.collect()
    }

    /// The kernel's own rule is there all the time, and is where it was when the last port has gone (INV-7).
    #[test]
    fn the_kernels_rule_makes_way_and_comes_back() {
        let come = steps(&[], &[8080]);
        assert_eq!(
            come,
            [
                "add rule 1: lookup 255",
                "remove rule 0: lookup 255",
                "set neighbour 169.254.127.1 on interface 2",
                "set route 127.0.0.0/8",
                "set route 172.16.30.3/32",
                "add rule 0: ipproto 6 dport 8080 lookup 127",
            ]
        );
        let go = steps(&[8080], &[]);
        assert_eq!(
            go,
            [
                "remove rule 0: ipproto 6 dport 8080 lookup 127",
                "remove route 127.0.0.0/8",
                "remove route 172.16.30.3/32",
                "add rule 0: lookup 255",
                "remove rule 1: lookup 255",
                "remove neighbour 169.254.127.1 of interface 2",
            ]
        );
        assert!(steps(&[8080], &[8080]).is_empty());
        assert!(steps(&[], &[]).is_empty());
    }

    /// Another port leaves the first one's rule alone.
    #[test]
    fn only_the_rules_that_differ_change() {
        let steps = steps(&[80, 81], &[81, 82]);
        let rules: Vec<&String> = steps.iter().filter(|step| step.contains("rule")).collect();
        assert_eq!(
            rules,
            [
                "remove rule 0: ipproto 6 dport 80 lookup 127",
                "add rule 0: ipproto 6 dport 82 lookup 127",
            ]
        );
    }
}
