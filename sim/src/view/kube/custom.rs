//! `describe` of an object that kubectl has no special words for: its fields by name, nested as they are.
//!
//! Source: kubectl's generic describer (`printUnstructuredContent`); columns as Go's tabwriter sets them, block by block.

use serde_json::Value;

use super::NONE;

/// Least blanks between a label and its value.
const PADDING: usize = 2;

/// An object as `kubectl describe` prints what it doesn't know.
#[must_use]
pub fn describe(object: &Value) -> String {
    let mut lines = Lines::default();
    let metadata = &object["metadata"];
    let or_none = |value: &Value| value.as_str().unwrap_or(NONE).to_owned();
    lines.pair(0, "Name", &or_none(&metadata["name"]));
    lines.pair(0, "Namespace", metadata["namespace"].as_str().unwrap_or(""));
    lines.pair(0, "Labels", NONE);
    lines.pair(0, "Annotations", NONE);
    lines.pair(0, "API Version", &or_none(&object["apiVersion"]));
    lines.pair(0, "Kind", &or_none(&object["kind"]));
    lines.title(0, "Metadata");
    lines.pair(
        1,
        "Creation Timestamp",
        &or_none(&metadata["creationTimestamp"]),
    );
    lines.title(0, "Spec");
    lines.value(1, &object["spec"]);
    lines.pair(0, "Events", NONE);
    lines.render()
}

/// Lines, of which those with two cells are aligned with their neighbours.
#[derive(Default)]
struct Lines {
    lines: Vec<(String, Option<String>)>,
}

impl Lines {
    fn title(&mut self, level: usize, label: &str) {
        self.lines
            .push((format!("{}{label}:", "  ".repeat(level)), None));
    }

    fn pair(&mut self, level: usize, label: &str, value: &str) {
        let label = format!("{}{label}:", "  ".repeat(level));
        self.lines.push((label, Some(value.to_owned())));
    }

    fn value(&mut self, level: usize, value: &Value) {
        let Value::Object(fields) = value else { return };
        let mut names: Vec<&String> = fields.keys().collect();
        names.sort();
        for name in names {
            let label = label(name);
            match &fields[name] {
                nested @ Value::Object(_) => {
                    self.title(level, &label);
                    self.value(level + 1, nested);
                }
                Value::Array(items) => {
                    self.title(level, &label);
                    for item in items {
                        match item {
                            Value::Object(_) => self.value(level + 1, item),
                            _ => {
                                let text = format!("{}{}", "  ".repeat(level + 1), plain(item));
                                self.lines.push((text, None));
                            }
                        }
                    }
                }
                other => self.pair(level, &label, &plain(other)),
            }
        }
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for block in self.lines.chunk_by(|a, b| a.1.is_some() == b.1.is_some()) {
            let width = block
                .iter()
                .map(|(label, _)| label.len())
                .max()
                .unwrap_or(0)
                + PADDING;
            for (label, value) in block {
                let line = match value {
                    Some(value) => format!("{label:<width$}{value}"),
                    None => label.clone(),
                };
                text += line.trim_end();
                text.push('\n');
            }
        }
        text
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// `blockSize` as kubectl shows it: `Block Size`.
fn label(name: &str) -> String {
    let mut text = String::new();
    for (n, c) in name.chars().enumerate() {
        if n == 0 {
            text.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() {
                text.push(' ');
            }
            text.push(c);
        }
    }
    text
}
