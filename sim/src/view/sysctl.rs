//! Options of connection tracking as `sysctl -a -r nf_conntrack` prints them.
//!
//! Source: Linux's Documentation/networking/nf_conntrack-sysctl.rst. `nf_conntrack_sctp_timeout` alone is no sysctl of
//! Linux, which has one for each state.

use std::collections::BTreeMap;
use std::time::Duration;

use router_core::config::nat::ConntrackConfig;

/// Names with their values, in the order of the names; `count` is the number of connections.
#[must_use]
pub fn conntrack(config: &ConntrackConfig, count: usize) -> BTreeMap<String, String> {
    let flag = |flag: bool| u8::from(flag).to_string();
    let plain = [
        ("checksum", flag(config.checksum)),
        ("count", count.to_string()),
        ("max", config.limit.to_string()),
        ("tcp_be_liberal", flag(config.tcp_be_liberal)),
        ("tcp_loose", flag(config.tcp_loose)),
        ("tcp_max_retrans", config.tcp_max_retrans.to_string()),
    ];
    let timers = config.timers.named();
    let timers = timers.map(|(name, timeout)| (timeout_name(name), seconds(timeout)));
    plain
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .chain(timers)
        .map(|(name, value)| (format!("net.netfilter.nf_conntrack_{name}"), value))
        .collect()
}

/// One line each.
#[must_use]
pub fn text(values: &BTreeMap<String, String>) -> String {
    let line = |(name, value): (&String, &String)| format!("{name} = {value}\n");
    values.iter().map(line).collect()
}

/// `tcp_syn_sent` is `tcp_timeout_syn_sent`.
fn timeout_name(timer: &str) -> String {
    match timer.split_once('_') {
        Some((protocol, state)) => format!("{protocol}_timeout_{state}"),
        None => format!("{timer}_timeout"),
    }
}

/// Linux has whole seconds; labs may have less.
fn seconds(timeout: Duration) -> String {
    timeout.as_secs_f64().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NAT-30, NAT-31, NAT-32: the names and defaults of Linux 6.x, as its sysctl prints them.
    #[test]
    fn the_names_are_those_of_linux() {
        let mut config = ConntrackConfig::default();
        config.timers.icmp = Duration::from_millis(1500);
        let text = text(&conntrack(&config, 7));
        let linux = "\
net.netfilter.nf_conntrack_checksum = 1
net.netfilter.nf_conntrack_count = 7
net.netfilter.nf_conntrack_generic_timeout = 600
net.netfilter.nf_conntrack_gre_timeout = 30
net.netfilter.nf_conntrack_gre_timeout_stream = 180
net.netfilter.nf_conntrack_icmp_timeout = 1.5
net.netfilter.nf_conntrack_max = 65536
net.netfilter.nf_conntrack_sctp_timeout = 30
net.netfilter.nf_conntrack_sctp_timeout_established = 210
net.netfilter.nf_conntrack_tcp_be_liberal = 0
net.netfilter.nf_conntrack_tcp_loose = 1
net.netfilter.nf_conntrack_tcp_max_retrans = 3
net.netfilter.nf_conntrack_tcp_timeout_close = 10
net.netfilter.nf_conntrack_tcp_timeout_close_wait = 60
net.netfilter.nf_conntrack_tcp_timeout_established = 432000
net.netfilter.nf_conntrack_tcp_timeout_fin_wait = 120
net.netfilter.nf_conntrack_tcp_timeout_last_ack = 30
net.netfilter.nf_conntrack_tcp_timeout_max_retrans = 300
net.netfilter.nf_conntrack_tcp_timeout_syn_recv = 60
net.netfilter.nf_conntrack_tcp_timeout_syn_sent = 120
net.netfilter.nf_conntrack_tcp_timeout_time_wait = 120
net.netfilter.nf_conntrack_tcp_timeout_unacknowledged = 300
net.netfilter.nf_conntrack_udp_timeout = 30
net.netfilter.nf_conntrack_udp_timeout_stream = 120
";
        assert_eq!(text, linux);
    }
}
