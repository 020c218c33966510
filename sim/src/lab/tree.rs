//! YAML as a tree that knows where each value was written.
//!
//! Decides nothing about meaning. Serde stops at the first error; a user wants all of them with their places, so the
//! events of the parser are kept as a tree that `read` walks. Bounded: nesting by the parser (255), the number of values by
//! [`MAX_VALUES`] (aliases multiply). Source: YAML 1.2, and the merge key `<<` of 1.1, as Kubernetes takes it.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::diagnostics::{At, Pos, Sink};

/// Most values of one source, aliases counted as what they stand for.
const MAX_VALUES: usize = 1_000_000;

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) pos: Pos,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        /// Written without quotes: may be a number, a boolean or null.
        plain: bool,
    },
    List(Vec<Value>),
    Map(Vec<(At<String>, Value)>),
}

impl Value {
    /// `~`, `null` or nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, in words.
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            _ if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// A collection that is still open.
enum Open {
    List {
        pos: Pos,
        anchor: usize,
        items: Vec<Value>,
    },
    Map {
        pos: Pos,
        anchor: usize,
        entries: Vec<(At<String>, Value)>,
        /// Set when a key was read and its value is next; `None` inside: the key was not usable.
        key: Option<Option<At<String>>>,
    },
}

struct Builder<'a, 's> {
    sink: &'a mut Sink<'s>,
    stack: Vec<Open>,
    done: Option<Value>,
    documents: Vec<Value>,
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
}

/// The documents of source number `source`; empty ones are left out.
pub(crate) fn parse(source: usize, text: &str, sink: &mut Sink<'_>) -> Vec<Value> {
    let mut builder = Builder {
        sink,
        stack: Vec::new(),
        done: None,
        documents: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
    };
    let mut options = Options::default();
    options.emit_comments = false;
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                let pos = position(source, &span);
                if builder.event(event, pos).is_err() {
                    break;
                }
            }
            Err(error) => {
                let mark = error.marker();
                let pos = Pos {
                    source,
                    line: mark.line().max(1),
                    column: mark.col() + 1,
                    len: 1,
                };
                builder
                    .sink
                    .error(pos, format!("not YAML: {}", error.info()));
                break;
            }
        }
    }
    builder.documents
}

fn position(source: usize, span: &Span) -> Pos {
    let (start, end) = (&span.start, &span.end);
    let len = if start.line() == end.line() {
        end.col().saturating_sub(start.col())
    } else {
        1
    };
    Pos {
        source,
        line: start.line().max(1),
        column: start.col() + 1,
        len: len.max(1),
    }
}

/// Reading can't go on; the reason has been reported.
struct Stop;

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, pos: Pos) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, _tag) => {
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                self.add(Value { pos, kind }, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, _) => self.stack.push(Open::List {
                pos,
                anchor,
                items: Vec::new(),
            }),
            Event::MappingStart(_, anchor, _) => self.stack.push(Open::Map {
                pos,
                anchor,
                entries: Vec::new(),
                key: None,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { pos, anchor, items }) => {
                    let kind = Kind::List(items);
                    self.add(Value { pos, kind }, anchor, 1)?;
                }
                Some(Open::Map {
                    pos,
                    anchor,
                    entries,
                    ..
                }) => {
                    let kind = Kind::Map(self.merge(entries));
                    self.add(Value { pos, kind }, anchor, 1)?;
                }
                None => {}
            },
            Event::Alias(id) => {
                let Some((value, size)) = self.anchors.get(&id) else {
                    self.sink
                        .error(pos, "an alias may not stand inside what it names");
                    return Err(Stop);
                };
                let size = *size;
                if self.values.saturating_add(size) > MAX_VALUES {
                    self.sink.error(pos, "too many values");
                    return Err(Stop);
                }
                let kind = value.kind.clone();
                self.add(Value { pos, kind }, 0, size)?;
            }
            Event::DocumentEnd => {
                if let Some(value) = self.done.take().filter(|value| !value.is_null()) {
                    self.documents.push(value);
                }
                self.anchors.clear();
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts a finished value where it belongs. `size` is the number of values that it newly consists of.
    fn add(&mut self, value: Value, anchor: usize, size: usize) -> Result<(), Stop> {
        self.values += size;
        if self.values > MAX_VALUES {
            self.sink.error(value.pos, "too many values");
            return Err(Stop);
        }
        if anchor != 0 {
            let size = count(&value);
            self.anchors.insert(anchor, (value.clone(), size));
            self.values += size;
        }
        match self.stack.last_mut() {
            None => self.done = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => {
                    let name = match value.kind {
                        Kind::Scalar { text, .. } => Some(At {
                            value: text,
                            pos: value.pos,
                        }),
                        Kind::List(_) | Kind::Map(_) => {
                            self.sink.error(value.pos, "a key must be a word");
                            None
                        }
                    };
                    *key = Some(name);
                }
                Some(Some(name)) => entries.push((name, value)),
                Some(None) => {}
            },
        }
        Ok(())
    }

    /// Reports keys that stand twice, and fills in what `<<` names.
    fn merge(&mut self, entries: Vec<(At<String>, Value)>) -> Vec<(At<String>, Value)> {
        let mut result: Vec<(At<String>, Value)> = Vec::with_capacity(entries.len());
        let mut at: HashMap<String, Pos> = HashMap::with_capacity(entries.len());
        let mut merged = Vec::new();
        for (key, value) in entries {
            if key.value == "<<" {
                match value.kind {
                    Kind::Map(entries) => merged.extend(entries),
                    Kind::List(list) => {
                        for value in list {
                            if let Kind::Map(entries) = value.kind {
                                merged.extend(entries);
                            }
                        }
                    }
                    Kind::Scalar { .. } => self
                        .sink
                        .error(value.pos, "\"<<\" wants a mapping to merge"),
                }
                continue;
            }
            if let Some(first) = at.get(&key.value) {
                self.sink.conflict(
                    Some(key.pos),
                    format!("key \"{}\" stands twice", key.value),
                    Some(*first),
                    "first here",
                );
                continue;
            }
            at.insert(key.value.clone(), key.pos);
            result.push((key, value));
        }
        for (key, value) in merged {
            if !at.contains_key(&key.value) {
                at.insert(key.value.clone(), key.pos);
                result.push((key, value));
            }
        }
        result
    }
}

/// Number of values in `value`, itself included.
fn count(value: &Value) -> usize {
    let mut total = 0;
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        total += 1;
        match &value.kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => waiting.extend(items),
            Kind::Map(entries) => waiting.extend(entries.iter().map(|(_, value)| value)),
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Source;

    fn errors(text: &str) -> String {
        let sources = [Source::new("t.yaml", text)];
        let mut sink = Sink::new(&sources);
        let _documents = parse(0, text, &mut sink);
        match sink.finish(Some(())) {
            Ok(()) => String::new(),
            Err(found) => found.to_string(),
        }
    }

    /// Broken YAML is reported where it breaks, with a reason.
    #[test]
    fn broken_yaml_has_a_place_and_a_reason() {
        let text = errors("name: [unclosed\n");
        assert!(text.starts_with("t.yaml:"), "{text}");
        assert!(
            text.contains("not YAML: ") && !text.contains("not YAML: \n"),
            "{text}"
        );
    }

    /// Both places of a key that stands twice are named.
    #[test]
    fn a_key_that_stands_twice_names_both_places() {
        let text = errors("a: 1\nb: 2\na: 3\n");
        assert!(
            text.contains("t.yaml:3:1: key \"a\" stands twice"),
            "{text}"
        );
        assert!(text.contains("t.yaml:1:1: first here"), "{text}");
    }

    /// Aliases that multiply are refused, not expanded.
    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let before = n - 1;
            let list = vec![format!("*a{before}"); 10].join(",");
            text.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(errors(&text).contains("too many values"));
    }

    /// Deep nesting is refused by the parser, without using up the stack.
    #[test]
    fn deep_nesting_is_refused() {
        assert!(errors(&"[".repeat(100_000)).contains("t.yaml:1:"));
        assert!(errors(&"- ".repeat(100_000)).contains("t.yaml:1:"));
    }

    /// A merge key fills in, and what is written out wins.
    #[test]
    fn a_merge_key_fills_in() {
        let sources = [Source::new("t.yaml", "")];
        let mut sink = Sink::new(&sources);
        let documents = parse(0, "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n", &mut sink);
        let Kind::Map(top) = &documents[0].kind else {
            panic!("a mapping")
        };
        let Kind::Map(y) = &top[1].1.kind else {
            panic!("a mapping")
        };
        let keys: Vec<&str> = y.iter().map(|(key, _)| key.value.as_str()).collect();
        assert_eq!(keys, ["b", "a"]);
        assert!(sink.is_clean());
    }
}
