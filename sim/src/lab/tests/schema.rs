//! The JSON schema and the types as written say the same.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::tree::{Kind, Value};
use super::super::{BUILT_IN, Sink, Source, conntrack, impairments, parse, uplink, written};

const SCHEMA: &str = include_str!("../../../schema/lab.schema.json");

fn schema() -> Json {
    serde_json::from_str(SCHEMA).unwrap()
}

fn properties(of: &Json) -> BTreeSet<String> {
    of["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// No key is in one and not in the other.
#[test]
fn the_schema_has_the_keys_of_the_types() {
    let schema = schema();
    let defs = &schema["$defs"];
    for (object, keys) in [
        (&schema, written::LAB_KEYS),
        (&defs["network"], written::NETWORK_KEYS),
        (&defs["dhcp"], written::DHCP_KEYS),
        (&defs["conntrack"], conntrack::KEYS),
        (&defs["timeouts"], conntrack::TIMEOUT_KEYS),
        (&defs["impairments"], impairments::KEYS),
        (&defs["linkImpairments"], impairments::LINK_KEYS),
        (&defs["calico"], written::CALICO_KEYS),
        (&defs["internet"], written::INTERNET_KEYS),
        (&defs["node"], written::NODE_KEYS),
        (&defs["interface"], written::NODE_INTERFACE_KEYS),
        (&defs["link"], written::LINK_KEYS),
        (&defs["uplink"], uplink::KEYS),
        (&defs["pod"], written::POD_KEYS),
    ] {
        let known: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(properties(object), known);
        assert_eq!(object["additionalProperties"], false);
    }
}

/// The part of JSON Schema that ours uses; an unknown keyword is an error, so that none is passed over.
fn check(value: &Value, schema: &Json, root: &Json) -> Result<(), String> {
    let here = format!("{}:{}", value.pos.line, value.pos.column);
    for (keyword, wanted) in schema.as_object().unwrap() {
        let good = match (keyword.as_str(), &value.kind) {
            ("$schema" | "$id" | "$defs" | "title" | "description" | "format" | "pattern", _) => {
                true
            }
            ("$ref", _) => {
                let path = wanted.as_str().unwrap().trim_start_matches('#');
                check(value, root.pointer(path).unwrap(), root).is_ok()
            }
            ("const", Kind::Scalar { text, .. }) => wanted == text.as_str(),
            ("enum", Kind::Scalar { text, .. }) => wanted
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one == text.as_str()),
            ("oneOf", _) => {
                let fitting = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|one| check(value, one, root).is_ok());
                fitting.count() >= 1
            }
            ("type", kind) => {
                let types: Vec<&str> = wanted.as_array().map_or_else(
                    || vec![wanted.as_str().unwrap()],
                    |list| list.iter().map(|one| one.as_str().unwrap()).collect(),
                );
                types.iter().any(|name| match (*name, kind) {
                    ("object", Kind::Map(_)) | ("array", Kind::List(_)) => true,
                    ("string", Kind::Scalar { .. }) => !value.is_null(),
                    ("null", _) => value.is_null(),
                    ("boolean", Kind::Scalar { text, .. }) => text == "true" || text == "false",
                    ("integer" | "number", Kind::Scalar { text, .. }) => {
                        text.parse::<f64>().is_ok()
                    }
                    _ => false,
                })
            }
            ("minimum", Kind::Scalar { text, .. }) => text
                .parse::<u64>()
                .is_ok_and(|n| n >= wanted.as_u64().unwrap()),
            ("maximum", Kind::Scalar { text, .. }) => text
                .parse::<u64>()
                .is_ok_and(|n| n <= wanted.as_u64().unwrap()),
            ("maxLength", Kind::Scalar { text, .. }) => {
                u64::try_from(text.len()).unwrap() <= wanted.as_u64().unwrap()
            }
            ("minItems", Kind::List(items)) => {
                u64::try_from(items.len()).unwrap() >= wanted.as_u64().unwrap()
            }
            ("items", Kind::List(items)) => {
                for item in items {
                    check(item, wanted, root)?;
                }
                true
            }
            ("required", Kind::Map(entries)) => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|key| entries.iter().any(|(name, _)| key == name.value.as_str())),
            ("properties", Kind::Map(entries)) => {
                for (key, value) in entries {
                    if let Some(schema) = wanted.get(&key.value) {
                        check(value, schema, root)?;
                    }
                }
                true
            }
            ("additionalProperties", Kind::Map(entries)) => {
                let stated = schema.get("properties");
                for (key, value) in entries {
                    if stated.is_some_and(|stated| stated.get(&key.value).is_some()) {
                        continue;
                    }
                    match wanted {
                        Json::Bool(false) => return Err(format!("{here}: {}", key.value)),
                        schema => check(value, schema, root)?,
                    }
                }
                true
            }
            _ => false,
        };
        if !good {
            return Err(format!("{here}: {keyword} {wanted}"));
        }
    }
    Ok(())
}

fn verdict(text: &str) -> Result<(), String> {
    let sources = [Source::new("lab.yaml", text)];
    let mut sink = Sink::new(&sources);
    let documents = parse(0, text, &mut sink);
    assert!(sink.is_clean());
    let root = schema();
    // Manifests may stand beside the lab, and have schemas of their own.
    let kind = |document: &Value| {
        let mut quiet = Sink::new(&sources);
        written::kind_of(document, &mut quiet).map(|kind| kind.value)
    };
    documents
        .iter()
        .filter(|document| kind(document).is_none_or(|kind| kind == "Lab"))
        .try_for_each(|document| check(document, &root, &root))
}

/// The labs that the program carries are valid by the schema.
#[test]
fn every_built_in_lab_is_valid_by_the_schema() {
    for (name, text) in BUILT_IN {
        verdict(text).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// The check itself is one: it refuses what the program refuses.
#[test]
fn the_schema_refuses_what_the_program_refuses() {
    for body in [
        "presett: kindnet\n",
        "preset: cilium\n",
        "nodes: 0\n",
        "nodes: [{podCIDR: none}]\n",
        "network: {mtu: 20}\n",
        "preset: calico\nnetwork: {calico: {ipipMode: always}}\n",
        "preset: calico\nnetwork: {calico: {blockSize: 19}}\n",
        "preset: calico\nnetwork: {calico: {blocksize: 26}}\n",
        "network: {dhcp: {lease: 1h, metrics: 1}}\n",
        "network: {conntrack: {max: 0}}\n",
        "network: {impairments: {in: {delay: 1ms}}}\n",
        "pods: [{name: a, impairments: {distribution: round}}]\n",
        "pods: [{name: a, impairments: {delai: 5ms}}]\n",
        "pods: [{name: a, impairments: {limit: 0}}]\n",
        "network: {conntrack: {tcpLoose: often}}\n",
        "network: {conntrack: {timeouts: {established: 1h}}}\n",
        "pods: [{name: a, restartPolicy: Sometimes}]\n",
        "pods: [{name: a, command: []}]\n",
        "systemPods: maybe\n",
    ] {
        let text = format!("apiVersion: podwire/v1\nkind: Lab\n{body}");
        assert!(verdict(&text).is_err(), "{body}");
        assert!(
            super::load(&[Source::new("t", text)], &super::Overrides::default()).is_err(),
            "{body}"
        );
    }
}
