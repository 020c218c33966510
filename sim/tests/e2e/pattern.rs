//! Compares whole outputs with text in which a few words are patterns.
//!
//! An expectation is the text as a document shows it, with `{name}` where every machine prints something else. Every
//! line has to match; trailing blanks don't count (iproute2 prints some, documents lose them). `{veth#a}` has to be the
//! same text wherever the same label stands in one expectation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex::Regex;

/// What the labels of one expectation stood for.
pub(crate) type Captures = BTreeMap<String, String>;

/// The pattern for `{name}`.
fn pattern_for(name: &str) -> &'static str {
    match name {
        "mac" => "[0-9a-f]{2}(?::[0-9a-f]{2}){5}",
        "veth" => "veth[0-9a-f]{8}",
        "lft" => "[0-9]+sec",
        "ms" => r"[0-9]+(?:\.[0-9]+)?",
        "n" => "[0-9]+",
        "age" => "(?:[0-9]+[dhms])+",
        "id5" => "[a-z0-9]{5}",
        "suffix" => "[a-z0-9]+(?:-[a-z0-9]+)?",
        "fe80" => "fe80::[0-9a-f:]+",
        "any" => ".*",
        other => panic!("{{{other}}} is no pattern that this file knows"),
    }
}

/// One line of an expectation as a regular expression, with the labels in the order of their groups.
fn compile(line: &str) -> (Regex, Vec<Option<String>>) {
    let mut regex = String::from("^");
    let mut labels = Vec::new();
    let mut rest = line.trim_end();
    // A brace that is no pattern (JSON) stands for itself.
    while let Some(open) = rest.find('{') {
        let body = &rest[open + 1..];
        let word = body
            .find('}')
            .map(|close| &body[..close])
            .filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#'));
        regex.push_str(&regex::escape(&rest[..open]));
        if let Some(word) = word {
            let (name, label) = word
                .split_once('#')
                .map_or((word, None), |(n, l)| (n, Some(l)));
            let _ = write!(regex, "({})", pattern_for(name));
            labels.push(label.map(|l| format!("{name}#{l}")));
            rest = &body[word.len() + 1..];
        } else {
            regex.push_str(r"\{");
            rest = body;
        }
    }
    regex.push_str(&regex::escape(rest));
    regex.push('$');
    (
        Regex::new(&regex).expect("an escaped line is a valid expression"),
        labels,
    )
}

/// Matches `actual` against `expected`, or says where they part.
pub(crate) fn matches(expected: &str, actual: &str) -> Result<Captures, String> {
    let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
    let actual: Vec<&str> = actual.trim_end_matches('\n').lines().collect();
    let mut captures = Captures::new();
    let mut report = String::new();
    let mut wrong = expected.len() != actual.len();
    for i in 0..expected.len().max(actual.len()) {
        let want = expected.get(i).copied();
        let have = actual.get(i).copied();
        let good = match (want, have) {
            (Some(want), Some(have)) => line_matches(want, have, &mut captures),
            _ => false,
        };
        wrong |= !good;
        if good {
            let _ = writeln!(report, "    {}", have.unwrap_or_default());
        } else {
            if let Some(want) = want {
                let _ = writeln!(report, "  - {want}");
            }
            if let Some(have) = have {
                let _ = writeln!(report, "  + {have}");
            }
        }
    }
    if wrong { Err(report) } else { Ok(captures) }
}

fn line_matches(want: &str, have: &str, captures: &mut Captures) -> bool {
    let (regex, labels) = compile(want);
    let Some(groups) = regex.captures(have.trim_end()) else {
        return false;
    };
    let mut fresh = Captures::new();
    for (i, label) in labels.iter().enumerate() {
        let (Some(label), Some(text)) = (label, groups.get(i + 1)) else {
            continue;
        };
        let known = captures.get(label).or_else(|| fresh.get(label));
        if known.is_some_and(|known| known != text.as_str()) {
            return false;
        }
        fresh.insert(label.clone(), text.as_str().to_owned());
    }
    captures.append(&mut fresh);
    true
}

#[test]
fn every_line_has_to_match() {
    assert!(matches("a {n}\nb", "a 12\nb\n").is_ok());
    assert!(matches("a {n}\nb", "a x\nb\n").is_err());
    assert!(matches("a {n}", "a 12\nb\n").is_err());
    assert!(matches("a\nb", "a\n").is_err());
}

#[test]
fn the_same_label_is_the_same_text() {
    let text = "{veth#a} x\n{veth#a} y";
    assert!(matches(text, "veth00000001 x\nveth00000001 y").is_ok());
    assert!(matches(text, "veth00000001 x\nveth00000002 y").is_err());
    assert_eq!(
        matches("{veth#a}", "veth0badcafe").unwrap()["veth#a"],
        "veth0badcafe"
    );
}

#[test]
fn other_braces_and_special_characters_stand_for_themselves() {
    assert!(matches("[ { \"a\": {} } ] (x)", "[ { \"a\": {} } ] (x)").is_ok());
    assert!(matches("a.c", "abc").is_err());
}
