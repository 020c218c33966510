//! Typed reading of a tree, with every mistake collected.
//!
//! Decides how a wrong type, a wrong value or an unknown key is reported; doesn't know any key itself.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use indexmap::IndexMap;

use super::diagnostics::{At, Pos, Sink, hint};
use super::tree::{Kind, Value};

/// A mapping whose keys have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'v> {
    entries: &'v [(At<String>, Value)],
    pub(crate) pos: Pos,
}

impl<'v> Fields<'v> {
    /// `value` as a mapping with no other keys than `known`. `what` is it in words: `a pod`.
    pub(crate) fn open(
        value: &'v Value,
        what: &str,
        known: &[&str],
        sink: &mut Sink<'_>,
    ) -> Option<Self> {
        let fields = Self::open_lenient(value, what, sink)?;
        for (key, _) in fields.entries {
            if !known.contains(&key.value.as_str()) {
                let hint = hint(&key.value, known.iter().copied());
                sink.error(
                    key.pos,
                    format!("unknown key \"{}\" in {what}{hint}", key.value),
                );
            }
        }
        Some(fields)
    }

    /// `value` as a mapping with any keys.
    pub(crate) fn open_lenient(value: &'v Value, what: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let Kind::Map(entries) = &value.kind else {
            sink.error(
                value.pos,
                format!("{what} must be a mapping, not {}", value.describe()),
            );
            return None;
        };
        Some(Self {
            entries,
            pos: value.pos,
        })
    }

    /// The value of `key`; none when it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'v Value> {
        self.entries
            .iter()
            .find(|(name, value)| name.value == key && !value.is_null())
            .map(|(_, value)| value)
    }

    /// The value of `key`; an error when it is absent.
    pub(crate) fn want(&self, key: &str, what: &str, sink: &mut Sink<'_>) -> Option<&'v Value> {
        let value = self.get(key);
        if value.is_none() {
            sink.error(self.pos, format!("{what} needs \"{key}\""));
        }
        value
    }

    pub(crate) fn entries(&self) -> &'v [(At<String>, Value)] {
        self.entries
    }

    /// Where the key stands.
    pub(crate) fn key_pos(&self, key: &str) -> Option<Pos> {
        self.entries
            .iter()
            .find(|(name, _)| name.value == key)
            .map(|(name, _)| name.pos)
    }
}

/// A single value as text.
pub(crate) fn text(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<String>> {
    match &value.kind {
        Kind::Scalar { text, .. } if !value.is_null() => Some(At {
            value: text.clone(),
            pos: value.pos,
        }),
        _ => {
            sink.error(
                value.pos,
                format!("{what} must be a single value, not {}", value.describe()),
            );
            None
        }
    }
}

/// A single value that has a syntax of its own. `what` says what is wanted: `an IPv4 address`.
pub(crate) fn parse<T: FromStr>(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<T>> {
    let word = text(value, what, sink)?;
    match word.value.parse() {
        Ok(parsed) => Some(At {
            value: parsed,
            pos: word.pos,
        }),
        Err(_) => {
            sink.error(word.pos, format!("\"{}\" is not {what}", word.value));
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Value, sink: &mut Sink<'_>) -> Option<At<bool>> {
    let word = text(value, "a boolean", sink)?;
    let parsed = match word.value.as_str() {
        "true" | "True" | "TRUE" => true,
        "false" | "False" | "FALSE" => false,
        other => {
            sink.error(word.pos, format!("\"{other}\" is neither true nor false"));
            return None;
        }
    };
    Some(At {
        value: parsed,
        pos: word.pos,
    })
}

/// A whole number within a range.
pub(crate) fn number<T>(
    value: &Value,
    what: &str,
    range: RangeInclusive<T>,
    sink: &mut Sink<'_>,
) -> Option<At<T>>
where
    T: FromStr + PartialOrd + Display,
{
    let word = text(value, what, sink)?;
    match word.value.parse::<T>() {
        Ok(parsed) if range.contains(&parsed) => Some(At {
            value: parsed,
            pos: word.pos,
        }),
        _ => {
            sink.error(
                word.pos,
                format!(
                    "{what} must be a whole number from {} to {}, not \"{}\"",
                    range.start(),
                    range.end(),
                    word.value
                ),
            );
            None
        }
    }
}

/// One of some words.
pub(crate) fn one_of<T: Copy>(
    value: &Value,
    what: &str,
    choices: &[(&str, T)],
    sink: &mut Sink<'_>,
) -> Option<At<T>> {
    let word = text(value, what, sink)?;
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word.value) {
        return Some(At {
            value: *choice,
            pos: word.pos,
        });
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    sink.error(
        word.pos,
        format!(
            "{what} must be {}, not \"{}\"",
            names.join(" or "),
            word.value
        ),
    );
    None
}

/// A length of time in seconds, with its unit: `90s`, `5m`, `24h`, `7d`.
pub(crate) fn seconds(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<u32>> {
    let word = text(value, what, sink)?;
    let parsed = [("s", 1_u32), ("m", 60), ("h", 3600), ("d", 86_400)]
        .iter()
        .find_map(|(unit, factor)| {
            let number = word.value.strip_suffix(unit)?.trim_end();
            number.parse::<u32>().ok()?.checked_mul(*factor)
        });
    if parsed.is_none() {
        sink.error(
            word.pos,
            format!(
                "{what} must be a whole number with a unit (90s, 5m, 24h, 7d), not \"{}\"",
                word.value
            ),
        );
    }
    Some(At {
        value: parsed?,
        pos: word.pos,
    })
}

/// A length of time with its unit, within a range: `500ms`, `90s`, `5m`, `24h`, `7d`.
pub(crate) fn duration(
    value: &Value,
    what: &str,
    range: RangeInclusive<Duration>,
    sink: &mut Sink<'_>,
) -> Option<At<Duration>> {
    let word = text(value, what, sink)?;
    // "ms" before "s" and "m", which are its ends.
    let units = [
        ("ms", 1_u64),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let parsed = units
        .iter()
        .find_map(|(unit, factor)| Some((word.value.strip_suffix(unit)?, factor)))
        .and_then(|(number, factor)| number.trim_end().parse::<u64>().ok()?.checked_mul(*factor))
        .map(Duration::from_millis);
    match parsed {
        Some(value) if range.contains(&value) => Some(At {
            value,
            pos: word.pos,
        }),
        Some(_) => {
            let (start, end) = (range.start(), range.end().as_secs() / 86_400);
            sink.error(
                word.pos,
                format!(
                    "{what} must be from {start:?} to {end}d, not \"{}\"",
                    word.value
                ),
            );
            None
        }
        None => {
            sink.error(
                word.pos,
                format!(
                    "{what} must be a whole number with a unit (500ms, 90s, 5m, 24h, 7d), not \"{}\"",
                    word.value
                ),
            );
            None
        }
    }
}

/// The items of a list.
pub(crate) fn list<'v>(value: &'v Value, what: &str, sink: &mut Sink<'_>) -> &'v [Value] {
    match &value.kind {
        Kind::List(items) => items,
        _ => {
            sink.error(
                value.pos,
                format!("{what} must be a list, not {}", value.describe()),
            );
            &[]
        }
    }
}

/// A list of words.
pub(crate) fn texts(value: &Value, what: &str, sink: &mut Sink<'_>) -> Vec<At<String>> {
    list(value, what, sink)
        .iter()
        .filter_map(|item| text(item, what, sink))
        .collect()
}

/// A mapping of words to words.
pub(crate) fn text_map(
    value: &Value,
    what: &str,
    sink: &mut Sink<'_>,
) -> IndexMap<String, At<String>> {
    let Some(fields) = Fields::open_lenient(value, what, sink) else {
        return IndexMap::new();
    };
    fields
        .entries()
        .iter()
        .filter_map(|(key, value)| {
            // Kubernetes takes an empty value; YAML writes it as nothing.
            let word = if value.is_null() {
                At {
                    value: String::new(),
                    pos: value.pos,
                }
            } else {
                text(value, what, sink)?
            };
            Some((key.value.clone(), word))
        })
        .collect()
}
