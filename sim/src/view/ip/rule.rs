//! `ip rule`: the three rules that every node has; podwire routes by the main table alone.

use serde::Serialize;

use super::{Family, Options, json};

#[derive(Serialize)]
struct Rule {
    priority: u32,
    src: &'static str,
    table: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        priority: 0,
        src: "all",
        table: "local",
    },
    Rule {
        priority: 32766,
        src: "all",
        table: "main",
    },
    Rule {
        priority: 32767,
        src: "all",
        table: "default",
    },
];

pub(super) fn print(options: &Options) -> String {
    // IPv6 has no default table.
    let rules = match options.family {
        Family::Inet6 => &RULES[..2],
        Family::Any | Family::Inet | Family::Link => &RULES[..],
    };
    if options.json {
        return json::print(options, &rules);
    }
    rules
        .iter()
        .map(|rule| {
            format!(
                "{}:\tfrom {} lookup {}\n",
                rule.priority, rule.src, rule.table
            )
        })
        .collect()
}
