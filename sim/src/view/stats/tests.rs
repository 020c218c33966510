use router_core::PortId;

use super::*;
use crate::control::node::NodeStats;
use crate::impair::ImpairCounts;

const SWITCHED: PortId = PortId(3);

/// A node that was handed two superframes of 42 segments, sent on one of them, and dropped the other.
fn node() -> NodeCounters {
    let mut router = serde_json::to_value(Stats::default()).unwrap();
    router["rx"] = 2.into();
    router["tx"] = 1.into();
    router["drops"]["ttl-expired"] = 1.into();
    let mut port = serde_json::to_value(router_core::stats::PortStats::default()).unwrap();
    for (name, n) in [
        ("rx_frames", 2),
        ("rx_segments", 84),
        ("rx_bytes", 120_000),
        ("tx_frames", 1),
        ("tx_segments", 42),
        ("tx_bytes", 60_000),
    ] {
        port[name] = n.into();
    }
    port["drops"]["ttl-expired"] = 1.into();
    router["ports"] = json!([[SWITCHED, port]]);
    let router: Stats = serde_json::from_value(router).unwrap();
    NodeCounters {
        node: Some("node-1".into()),
        ports: vec![(SWITCHED, "cali1".into())],
        impaired: Vec::new(),
        stats: Box::new(NodeStats {
            router,
            ports: vec![Device {
                port: SWITCHED,
                rx_frames: 2,
                rx_bytes: 120_000,
                tx_frames: 1,
                tx_bytes: 60_000,
                tx_dropped: 5,
                rx_errors: 6,
                rx_missed: 7,
            }],
            impaired: vec![ImpairedPort {
                port: SWITCHED,
                rx: ImpairCounts {
                    received: 2,
                    ..ImpairCounts::default()
                },
                tx: ImpairCounts::default(),
            }],
            ..NodeStats::default()
        }),
    }
}

/// The words of the line that begins with these.
fn line<'a>(text: &'a str, begin: &[&str]) -> Vec<&'a str> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect());
    let found = lines.find(|words: &Vec<&str>| words.starts_with(begin));
    found.unwrap_or_else(|| panic!("no line {begin:?} in\n{text}"))
}

#[test]
fn a_superframe_is_one_frame_and_what_its_device_lost_is_one_number() {
    let nodes = [node()];
    let text = Report::new(&nodes, None, false).table(false, false);
    let expected = ["node-1", "cali1", "2", "120000", "1", "60000", "1", "18"];
    assert_eq!(line(&text, &["node-1", "cali1"]), expected, "{text}");
}

#[test]
fn the_wide_table_has_segments_and_says_where_the_device_lost_frames() {
    let nodes = [node()];
    let text = Report::new(&nodes, None, false).table(false, true);
    let header = [
        "NODE",
        "PORT",
        "RX-FRAMES",
        "RX-SEGMENTS",
        "RX-BYTES",
        "TX-FRAMES",
        "TX-SEGMENTS",
        "TX-BYTES",
        "DROPPED",
        "NOT-TAKEN",
        "BROKEN",
        "MISSED",
    ];
    assert_eq!(line(&text, &["NODE"]), header, "{text}");
    let expected = [
        "node-1", "cali1", "2", "84", "120000", "1", "42", "60000", "1", "5", "6", "7",
    ];
    assert_eq!(line(&text, &["node-1", "cali1"]), expected, "{text}");
}

#[test]
fn data_has_segments_and_what_device_and_link_did() {
    let nodes = [node()];
    let json = Report::new(&nodes, None, false).json();
    let port = &json["nodes"][0]["ports"][0];
    assert_eq!(
        (&port["rx_segments"], &port["tx_segments"]),
        (&json!(84), &json!(42))
    );
    assert_eq!(port["device_lost"], 18);
    let device = json!({"tx_dropped": 5, "rx_errors": 6, "rx_missed": 7});
    assert_eq!(port["device"], device);
    assert_eq!(port["impaired"]["in"]["received"], 2);
    assert_eq!(port["impaired"]["out"]["received"], 0);
}

#[test]
fn the_terms_of_the_data_add_up_as_the_verdict_says() {
    let mut cut = node();
    // One that came from another worker was cut in three, and two of the pieces went to another one again.
    let stats = &mut cut.stats.router;
    (stats.taken, stats.split, stats.handed) = (1, 2, 2);
    stats.tx += 1;
    let mut lossy = node();
    lossy.stats.router.rx += 1;
    for (node, holds) in [(node(), true), (cut, true), (lossy, false)] {
        let nodes = [node];
        let json = Report::new(&nodes, None, false).json();
        let terms = &json["nodes"][0]["conservation"];
        let sum = |names: &[&str]| -> u64 {
            let terms = names.iter().map(|name| terms[*name].as_u64().unwrap());
            terms.sum()
        };
        let sources = sum(&["rx", "generated", "cloned", "split", "taken"]);
        let sinks = sum(&["tx", "consumed", "dropped", "held", "merged", "handed"]);
        assert_eq!(sources == sinks, holds, "{terms}");
        assert_eq!(terms["holds"], holds, "{terms}");
        assert_eq!(json["lab"]["split"], terms["split"]);
    }
}
