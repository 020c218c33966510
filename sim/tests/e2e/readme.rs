//! The README's tour is true: its commands are run in order and its outputs compared.
//!
//! A block ```` ```console ```` under the heading "A minute's tour" holds lines `$ COMMAND` and what they print, with the
//! harness's patterns for what every machine prints differently. `podwire` there is the binary under test.

use std::fs;

use crate::harness::{Need, World, run, runs_here};
use crate::pattern;

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    fs::read_to_string(path).expect("the README lies at the workspace's root")
}

/// The console blocks below a heading, up to the next heading of the same level.
fn console_blocks(text: &str, heading: &str) -> String {
    let section = text
        .split("\n## ")
        .find(|s| s.starts_with(heading))
        .unwrap_or_else(|| panic!("README has a section {heading}"));
    section
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A command and what it prints.
fn steps(blocks: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in blocks.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = steps.last_mut() {
            output.push_str(line);
            output.push('\n');
        }
    }
    steps
}

#[test]
fn the_tour_of_the_readme_is_true() {
    if !runs_here(&[Need::Tap, Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let steps = steps(&console_blocks(&readme(), "A minute's tour"));
    assert!(steps.len() >= 8, "the tour shows the main verbs");
    let world = World::new();
    for (command, expected) in steps {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "podwire", "{command}");
        let output = run(world.command(&words[1..]), crate::harness::DEADLINE).ok();
        // As a terminal shows it; each of these commands prints to one of the two.
        let printed = format!("{}{}", output.stdout, output.stderr);
        pattern::matches(&readable(&expected), printed.trim_matches('\n'))
            .unwrap_or_else(|diff| panic!("$ {command}\n{diff}"));
    }
}

/// The README shows real values where they differ from run to run: turns those into patterns.
fn readable(expected: &str) -> String {
    let mut text = String::new();
    for line in expected.trim_matches('\n').lines() {
        let mut line = line.trim_end().to_owned();
        for (regex, pattern) in [
            (r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", "{mac}"),
            (r"\bveth[0-9a-f]{8}\b", "{veth}"),
            (r"time=[0-9.]+ ms", "time={ms} ms"),
            (r"time [0-9]+ms", "time {n}ms"),
            (
                r"= [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms",
                "= {ms}/{ms}/{ms}/{ms} ms",
            ),
            (r"\b[0-9.]+ (?:ms|s)\b", "{any}"),
        ] {
            // Fixed values such as MACs of lo stay as they are.
            if line.contains("00:00:00:00:00:00") && pattern == "{mac}" {
                continue;
            }
            line = regex::Regex::new(regex)
                .expect("a valid expression")
                .replace_all(&line, pattern)
                .into_owned();
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The two commands that `.ci/run` extracts stand where it looks for them.
#[test]
fn the_readme_has_its_two_commands() {
    let text = readme();
    let block = text
        .split("<!-- commands -->\n```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("README has the block of the two commands");
    let commands: Vec<&str> = block
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(
        commands,
        ["cargo run --release -- demo", "cargo test --workspace"]
    );
}
