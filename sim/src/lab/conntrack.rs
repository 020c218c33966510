//! `network.conntrack` of a lab file: options of connection tracking, by the names of Linux's sysctls in the lab file's
//! spelling (`nf_conntrack_tcp_be_liberal` is `tcpBeLiberal`).
//!
//! Two options are RFC 7857's, and off: `inboundRefresh: false`, `randomPorts: true`. Decides keys and values; what is not written is left to the node (`spec::conntrack`).

use std::time::Duration;

use indexmap::IndexMap;

use super::diagnostics::Sink;
use super::read::{self, Fields};
use super::tree::Value;
use crate::spec::ConntrackSpec;

pub(super) const KEYS: &[&str] = &[
    "max",
    "checksum",
    "tcpLoose",
    "tcpBeLiberal",
    "tcpMaxRetrans",
    "inboundRefresh",
    "randomPorts",
    "timeouts",
];

/// Each timeout with the name of its timer.
const TIMEOUTS: [(&str, &str); 18] = [
    ("tcpSynSent", "tcp_syn_sent"),
    ("tcpSynRecv", "tcp_syn_recv"),
    ("tcpEstablished", "tcp_established"),
    ("tcpFinWait", "tcp_fin_wait"),
    ("tcpCloseWait", "tcp_close_wait"),
    ("tcpLastAck", "tcp_last_ack"),
    ("tcpTimeWait", "tcp_time_wait"),
    ("tcpClose", "tcp_close"),
    ("tcpMaxRetrans", "tcp_max_retrans"),
    ("tcpUnacknowledged", "tcp_unacknowledged"),
    ("udp", "udp"),
    ("udpStream", "udp_stream"),
    ("icmp", "icmp"),
    ("gre", "gre"),
    ("greStream", "gre_stream"),
    ("sctp", "sctp"),
    ("sctpEstablished", "sctp_established"),
    ("generic", "generic"),
];

pub(super) const TIMEOUT_KEYS: &[&str] = &{
    let mut keys = [""; TIMEOUTS.len()];
    let mut n = 0;
    while n < keys.len() {
        keys[n] = TIMEOUTS[n].0;
        n += 1;
    }
    keys
};

/// Most connections of a node. Their memory is reserved with the first, some 350 bytes each.
const MOST: u32 = 4_194_304;

/// Longest timeout.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn read(value: &Value, sink: &mut Sink<'_>) -> Option<ConntrackSpec> {
    let fields = Fields::open(value, "conntrack", KEYS, sink)?;
    let flag = |key: &str, sink: &mut Sink<'_>| {
        let value = fields.get(key)?;
        read::boolean(value, sink).map(|flag| flag.value)
    };
    Some(ConntrackSpec {
        max: fields
            .get("max")
            .and_then(|value| read::number(value, "max", 1..=MOST, sink))
            .map(|max| max.value),
        checksum: flag("checksum", sink),
        tcp_loose: flag("tcpLoose", sink),
        tcp_be_liberal: flag("tcpBeLiberal", sink),
        tcp_max_retrans: fields
            .get("tcpMaxRetrans")
            .and_then(|value| read::number(value, "tcpMaxRetrans", 1..=u8::MAX, sink))
            .map(|number| number.value),
        inbound_refresh: flag("inboundRefresh", sink),
        random_ports: flag("randomPorts", sink).unwrap_or(false),
        timeouts: fields
            .get("timeouts")
            .map_or_else(IndexMap::new, |value| timeouts(value, sink)),
    })
}

fn timeouts(value: &Value, sink: &mut Sink<'_>) -> IndexMap<String, Duration> {
    let Some(fields) = Fields::open(value, "timeouts", TIMEOUT_KEYS, sink) else {
        return IndexMap::new();
    };
    let range = Duration::from_millis(1)..=LONGEST;
    TIMEOUTS
        .iter()
        .filter_map(|(key, name)| {
            let timeout = read::duration(fields.get(key)?, key, range.clone(), sink)?;
            Some(((*name).to_owned(), timeout.value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use router_core::config::nat::Timers;

    use super::*;

    /// NAT-30, NAT-31, NAT-32: every timer of the router has its key.
    #[test]
    fn every_timer_has_a_key() {
        let names: Vec<&str> = TIMEOUTS.iter().map(|(_, name)| *name).collect();
        let timers = Timers::default().named().map(|(name, _)| name);
        assert_eq!(names, timers);
    }
}
