//! The router beside the kernel: the same node, the same frames, and what comes out compared byte by byte.
//!
//! A [`side::Row`] says in one sentence what happens, hands frames to a node, and names what may differ and why; the
//! tables are in `rows/`. The kernel's node is made from the same [`Snapshot`](router_core::Snapshot) as the router, in a
//! network namespace of its own for every row ([`kernel`]): ports are TAP devices whose other ends the test holds, so
//! MACs, addresses and routes are the same on both sides, and limits and neighbours start fresh.
//!
//! Normalised is one thing: the identification of packets that the node itself made. Everything else that differs is in
//! the table, with its reason, and a reason that no longer applies makes the row fail.
//!
//! Needs root (CAP_NET_ADMIN in a new namespace), `/dev/net/tun`, `ip` and, for rows with NAT, `iptables-restore`; says
//! SKIPPED with the reason where they are missing, and fails instead with `PODWIRE_REQUIRE_ALL=1`.

mod iptables;
mod kernel;
mod nodes;
mod rows;
mod side;

use std::io::Write as _;

/// True when the kernel can be used; says SKIPPED where not.
fn runs_here() -> bool {
    let Err(reason) = kernel::probe() else {
        return true;
    };
    assert!(
        std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "PODWIRE_REQUIRE_ALL=1 and this test cannot run: {reason}"
    );
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test");
    // Around the test runner's capture, so that it is always seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
    false
}

/// Declares a test for each table.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident => $rows:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                if runs_here() {
                    side::compare(&$rows);
                }
            }
        )+

        /// Enough rows, each with a sentence of its own.
        #[test]
        fn the_tables_are_long_and_every_sentence_is_new() {
            let mut sentences: Vec<&str> = [$($rows),+].concat().iter().map(|row| row.says).collect();
            let rows = sentences.len();
            sentences.sort_unstable();
            sentences.dedup();
            assert_eq!(sentences.len(), rows, "a sentence stands twice");
            assert!(rows >= 80, "only {rows} rows");
        }
    };
}

tables! {
    headers_are_judged_as_by_linux => rows::header::rows();
    sources_and_destinations_are_judged_as_by_linux => rows::martian::rows();
    options_are_treated_as_by_linux => rows::options::rows();
    routes_are_found_as_by_linux => rows::route::rows();
    the_node_answers_as_linux_does => rows::local::rows();
    ttl_and_mtu_are_treated_as_by_linux => rows::ttl_mtu::rows();
    errors_are_worded_as_by_linux => rows::icmp_error::rows();
    arp_is_answered_as_by_linux => rows::arp::rows();
    frames_are_bridged_as_by_linux => rows::bridge::rows();
    connections_are_translated_as_by_iptables => rows::nat::rows();
    neighbours_are_resolved_as_by_linux => rows::neigh::rows();
}
