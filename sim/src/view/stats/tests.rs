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

/// A node whose terms all differ, and add up: 117 on both sides.
fn busy() -> NodeCounters {
    let mut node = node();
    let stats = &mut node.stats.router;
    (stats.rx, stats.generated, stats.cloned) = (100, 7, 5);
    (stats.split, stats.taken) = (3, 2);
    (stats.tx, stats.consumed, stats.merged, stats.handed) = (80, 10, 19, 1);
    node.stats.held = 6;
    node
}

#[test]
fn every_term_is_in_the_data_and_the_lab_is_the_sum_of_its_nodes() {
    let mut other = busy();
    other.node = Some("node-2".into());
    other.ports[0].1 = "cali2".into();
    (other.stats.router.rx, other.stats.router.tx) = (200, 180);
    other.stats.lost_between_workers = 4;
    let nodes = [busy(), other];
    let json = Report::new(&nodes, None, false).json();
    let terms = json!({
        "rx": 100, "generated": 7, "cloned": 5, "split": 3, "taken": 2,
        "tx": 80, "consumed": 10, "dropped": 1, "held": 6, "merged": 19, "handed": 1, "holds": true,
    });
    assert_eq!(json["nodes"][0]["conservation"], terms);
    let lab = json!({
        "rx": 300, "generated": 14, "cloned": 10, "split": 6, "taken": 4,
        "tx": 260, "consumed": 20, "dropped": 2, "held": 12, "merged": 38, "handed": 2,
    });
    assert_eq!(json["lab"], lab);
    let workers = json!({"handed": 1, "taken": 2, "lost": 4});
    assert_eq!(json["nodes"][1]["workers"], workers);
    for (n, port) in ["cali1", "cali2"].into_iter().enumerate() {
        let ports = json["nodes"][n]["ports"].as_array().unwrap();
        let names: Vec<_> = ports.iter().map(|port| &port["name"]).collect();
        assert_eq!(names, [port]);
    }
}

#[test]
fn the_last_block_adds_up_every_term_and_says_when_a_frame_is_missing() {
    let mut plain = busy();
    let stats = &mut plain.stats.router;
    (stats.taken, stats.handed, stats.merged) = (0, 0, 18);
    let text = Report::new(&[plain], None, false).table(false, false);
    let header = "RX+MADE+COPIED+SPLIT TX+TAKEN+DROPPED+HELD+MERGED";
    assert_eq!(last_block(&text)[0], format!("NODE {header}"), "{text}");
    assert_eq!(
        last_block(&text)[1],
        "node-1 100+7+5+3 = 115 80+10+1+6+18 = 115 every frame accounted for"
    );
    // Only workers hand frames over, and one of the two is enough to tell.
    let header = "RX+MADE+COPIED+SPLIT+TAKEN-OVER TX+TAKEN+DROPPED+HELD+MERGED+HANDED-OVER";
    for (taken, handed) in [(2, 1), (0, 1), (2, 0)] {
        let mut node = busy();
        let stats = &mut node.stats.router;
        (stats.taken, stats.handed) = (taken, handed);
        let (sources, sinks) = (115 + taken, 116 + handed);
        let verdict = if sources == sinks {
            "every frame accounted for"
        } else {
            "FRAMES LOST OR INVENTED: a bug of podwire"
        };
        let text = Report::new(&[node], None, false).table(false, false);
        assert_eq!(last_block(&text)[0], format!("NODE {header}"), "{text}");
        let sums = format!(
            "node-1 100+7+5+3+{taken} = {sources} 80+10+1+6+19+{handed} = {sinks} {verdict}"
        );
        assert_eq!(last_block(&text)[1], sums);
    }
}

/// Rows of zeros are there when they are asked for; the sum of several rows always.
#[test]
fn rows_of_zeros_are_left_out_and_several_rows_are_added_up() {
    let mut two = node();
    let idle = PortId(4);
    let mut stats = serde_json::to_value(&two.stats.router).unwrap();
    let mut ports = stats["ports"].as_array().unwrap().clone();
    let zeros = serde_json::to_value(router_core::stats::PortStats::default()).unwrap();
    ports.push(json!([idle, zeros]));
    stats["ports"] = ports.into();
    two.stats.router = serde_json::from_value(stats).unwrap();
    two.ports.push((idle, "cali9".into()));
    let mut other = node();
    other.node = Some("node-2".into());
    let nodes = [two, other];
    for wide in [false, true] {
        let text = Report::new(&nodes, None, false).table(false, wide);
        assert!(!text.contains("cali9"), "{text}");
        let one = line(&text, &["node-1", "cali1"]);
        let sum = line(&text, &["(all)"]);
        let twice = one[2..].iter().map(|n| 2 * n.parse::<u64>().unwrap());
        let sums = sum[1..].iter().map(|n| n.parse::<u64>().unwrap());
        assert!(sums.eq(twice), "{text}");
        let text = Report::new(&nodes, None, false).table(true, wide);
        let zeros = line(&text, &["node-1", "cali9"]);
        assert!(zeros[2..].iter().all(|&n| n == "0"), "{text}");
    }
}

/// The lines of the last block, with single spaces.
fn last_block(text: &str) -> Vec<String> {
    let block = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let lines = block.lines();
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}
