//! Values as an API server takes them: labels, selectors, port names, numbers that are not text.
//!
//! Source: k8s.io/apimachinery/pkg/util/validation and apis/meta/v1/validation. A mistake is reported where it stands and reading
//! goes on.

use indexmap::IndexMap;

use crate::bandwidth::Bandwidth;
use crate::kube::{LabelSelector, Operator, PortRef, Protocol, Requirement};
use crate::lab::{self, At, Fields, Kind, Sink, Value};

/// Longest label value, and longest name part of a label key, bytes.
const MAX_LABEL: usize = 63;

/// Longest name of a port (RFC 6335 5.1).
const MAX_PORT_NAME: usize = 15;

/// A value that must be text: YAML takes what is written without quotes for a number or a boolean, and an API server refuses
/// those.
pub(super) fn string(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<String>> {
    let word = lab::text(value, what, sink)?;
    if let Kind::Scalar { plain: true, .. } = &value.kind
        && let Some(is) = no_text(&word.value)
    {
        sink.error(
            word.pos,
            format!(
                "{what} must be text, and {} without quotes is {is}; write \"{}\"",
                word.value, word.value
            ),
        );
        return None;
    }
    Some(word)
}

/// What a word without quotes is, if it is no text (YAML 1.1, as Kubernetes reads it).
fn no_text(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    if ["true", "false", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str()) {
        return Some("a boolean");
    }
    let digits = lower.trim_start_matches(['+', '-']);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (lower.parse::<f64>().is_ok()
            || digits
                .strip_prefix("0x")
                .is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit())));
    number.then_some("a number")
}

/// A whole number, not text, within a range.
pub(super) fn int<T>(
    value: &Value,
    what: &str,
    range: core::ops::RangeInclusive<T>,
    sink: &mut Sink<'_>,
) -> Option<At<T>>
where
    T: core::str::FromStr + PartialOrd + core::fmt::Display,
{
    if let Kind::Scalar { text, plain: false } = &value.kind {
        sink.error(
            value.pos,
            format!("{what} must be a number, not the text \"{text}\""),
        );
        return None;
    }
    lab::number(value, what, range, sink)
}

/// A list that may be null.
pub(super) fn items<'v>(
    fields: &Fields<'v>,
    key: &str,
    sink: &mut Sink<'_>,
) -> Option<&'v [Value]> {
    fields.get(key).map(|value| lab::list(value, key, sink))
}

/// `TCP`, `UDP` or `SCTP`.
pub(super) fn protocol(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Protocol {
    fields
        .get("protocol")
        .and_then(|value| lab::one_of(value, "protocol", Protocol::CHOICES, sink))
        .map(|found| found.value)
        .unwrap_or_default()
}

/// A port number or a port name.
pub(super) fn port_ref(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<At<PortRef>> {
    let word = lab::text(value, what, sink)?;
    let plain = matches!(value.kind, Kind::Scalar { plain: true, .. });
    if plain && no_text(&word.value) == Some("a number") {
        let number = int(value, what, 1..=u16::MAX, sink)?;
        return Some(At {
            value: PortRef::Number(number.value),
            pos: number.pos,
        });
    }
    if let Err(why) = check_port_name(&word.value) {
        sink.error(word.pos, format!("{what} \"{}\" {why}", short(&word.value)));
        return None;
    }
    Some(At {
        value: PortRef::Name(word.value),
        pos: word.pos,
    })
}

/// Whether `name` may name a port (IANA_SVC_NAME, RFC 6335 5.1).
pub(super) fn check_port_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_PORT_NAME {
        return Err("must have 1 to 15 characters to be the name of a port");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("must consist of lower-case letters, digits and '-' to be the name of a port");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(
            "must contain a letter to be the name of a port; a number is written without quotes",
        );
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err("must not begin or end with '-', nor contain \"--\"");
    }
    Ok(())
}

/// A mapping of labels.
pub(super) fn labels(value: &Value, what: &str, sink: &mut Sink<'_>) -> IndexMap<String, String> {
    let Some(fields) = Fields::open_lenient(value, what, sink) else {
        return IndexMap::new();
    };
    let mut labels = IndexMap::new();
    for (key, value) in fields.entries() {
        if let Err(why) = check_label_key(&key.value) {
            sink.error(
                key.pos,
                format!("label key \"{}\" {why}", short(&key.value)),
            );
        }
        let word = if value.is_null() {
            String::new()
        } else {
            match string(value, "the value of a label", sink) {
                Some(word) => word.value,
                None => continue,
            }
        };
        if let Err(why) = check_label_value(&word) {
            sink.error(value.pos, format!("label value \"{}\" {why}", short(&word)));
        }
        labels.insert(key.value.clone(), word);
    }
    labels
}

/// A mapping of annotations: values are any text.
pub(super) fn annotations(value: &Value, sink: &mut Sink<'_>) -> IndexMap<String, String> {
    let Some(fields) = Fields::open_lenient(value, "annotations", sink) else {
        return IndexMap::new();
    };
    let mut annotations = IndexMap::new();
    for (key, value) in fields.entries() {
        if let Err(why) = check_label_key(&key.value.to_ascii_lowercase()) {
            sink.error(
                key.pos,
                format!("annotation key \"{}\" {why}", short(&key.value)),
            );
        }
        let word = if value.is_null() {
            String::new()
        } else {
            match string(value, "the value of an annotation", sink) {
                Some(word) => word.value,
                None => continue,
            }
        };
        annotations.insert(key.value.clone(), word);
    }
    annotations
}

/// Annotations of a pod: what they say about bandwidth must be right.
pub(crate) fn pod_annotations(value: &Value, sink: &mut Sink<'_>) -> IndexMap<String, String> {
    let annotations = annotations(value, sink);
    if let (Err(wrong), Some(fields)) = (
        Bandwidth::of_annotations(&annotations),
        Fields::open_lenient(value, "annotations", sink),
    ) {
        for (key, value) in fields.entries() {
            if let Some(why) = wrong.get(&key.value) {
                sink.error(value.pos, format!("annotation {}: {why}", key.value));
            }
        }
    }
    annotations
}

/// Whether `key` may be the key of a label: `name` or `prefix/name`.
fn check_label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if let Err(why) = lab::check_subdomain(prefix) {
                return Err(format!("has a prefix that {why}"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    if name.contains('/') {
        return Err("may contain '/' once only".to_owned());
    }
    check_label_value(name)
}

/// Whether `value` may be the value of a label.
fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_LABEL {
        return Err(format!("may have {MAX_LABEL} characters at most"));
    }
    let good = |b: u8| b.is_ascii_alphanumeric();
    let ends = value.bytes().next().is_none_or(good) && value.bytes().last().is_none_or(good);
    let inner = value
        .bytes()
        .all(|b| good(b) || matches!(b, b'-' | b'_' | b'.'));
    if ends && inner {
        return Ok(());
    }
    Err("must consist of letters, digits, '-', '_' and '.' and begin and end with a letter or digit".to_owned())
}

/// A label selector.
pub(super) fn selector(value: &Value, what: &str, sink: &mut Sink<'_>) -> Option<LabelSelector> {
    let known = &["matchLabels", "matchExpressions"];
    let fields = Fields::open(value, what, known, sink)?;
    let match_labels = fields.get("matchLabels").map_or_else(Vec::new, |value| {
        labels(value, "matchLabels", sink).into_iter().collect()
    });
    let match_expressions = items(&fields, "matchExpressions", sink)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| requirement(item, sink))
        .collect();
    Some(LabelSelector {
        match_labels,
        match_expressions,
    })
}

fn requirement(value: &Value, sink: &mut Sink<'_>) -> Option<Requirement> {
    let what = "an expression of matchExpressions";
    let fields = Fields::open(value, what, &["key", "operator", "values"], sink)?;
    let key = fields
        .want("key", what, sink)
        .and_then(|value| string(value, "key", sink));
    if let Some(key) = &key
        && let Err(why) = check_label_key(&key.value)
    {
        sink.error(
            key.pos,
            format!("label key \"{}\" {why}", short(&key.value)),
        );
    }
    let choices = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let operator = fields
        .want("operator", what, sink)
        .and_then(|value| lab::one_of(value, "operator", &choices, sink));
    let mut values = Vec::new();
    for item in items(&fields, "values", sink).unwrap_or_default() {
        let Some(word) = string(item, "a value", sink) else {
            continue;
        };
        if let Err(why) = check_label_value(&word.value) {
            let text = short(&word.value);
            sink.error(word.pos, format!("label value \"{text}\" {why}"));
        }
        values.push(word.value);
    }
    let operator = operator?;
    let wants = matches!(operator.value, Operator::In | Operator::NotIn);
    let written = fields
        .get("values")
        .is_some_and(|value| !matches!(&value.kind, Kind::List(items) if items.is_empty()));
    if wants && !written {
        sink.error(
            operator.pos,
            format!("operator {:?} needs \"values\"", operator.value),
        );
    } else if !wants && written {
        let pos = fields.key_pos("values").unwrap_or(operator.pos);
        sink.error(
            pos,
            format!(
                "\"values\" may not stand beside operator {:?}",
                operator.value
            ),
        );
    }
    Some(Requirement {
        key: key?.value,
        operator: operator.value,
        values,
    })
}

/// The beginning of a text, for messages.
pub(super) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
