//! What every object beside pods and nodes begins with: apiVersion, kind, metadata.

use super::keys;
use super::words::{annotations, labels};
use crate::kube::{Meta, Namespace};
use crate::lab::{self, Fields, Pos, Sink, Value};

/// An object whose beginning has been read.
pub(super) struct Opened<'v> {
    pub(super) fields: Fields<'v>,
    /// None when something is wrong with it, which has been reported.
    pub(super) meta: Option<Meta>,
    /// Where its name stands, or where it begins.
    pub(super) pos: Pos,
}

/// What names of a kind look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// RFC 1123 label.
    Label,
    /// RFC 1123 subdomain.
    Subdomain,
}

/// Opens an object; `what` is it in words: `a service`.
pub(super) fn open<'v>(
    document: &'v Value,
    (what, api_version): (&str, &str),
    known: &[&str],
    naming: Naming,
    sink: &mut Sink<'_>,
) -> Option<Opened<'v>> {
    let fields = Fields::open(document, what, known, sink)?;
    if let Some(version) = fields
        .want("apiVersion", what, sink)
        .and_then(|value| lab::text(value, "apiVersion", sink))
        && version.value != api_version
    {
        sink.error(
            version.pos,
            format!(
                "apiVersion of {what} must be \"{api_version}\", not \"{}\"",
                super::words::short(&version.value)
            ),
        );
    }
    let mut opened = Opened {
        fields,
        meta: None,
        pos: fields.pos,
    };
    let Some(metadata) = fields
        .want("metadata", what, sink)
        .and_then(|value| Fields::open(value, "metadata", keys::METADATA, sink))
    else {
        return Some(opened);
    };
    let title = format!("the name of {what}");
    let name = metadata
        .want("name", "metadata", sink)
        .and_then(|value| match naming {
            Naming::Label => lab::label(value, &title, sink),
            Naming::Subdomain => lab::subdomain(value, &title, sink),
        });
    let namespace = metadata
        .get("namespace")
        .and_then(|value| lab::label(value, "a namespace", sink));
    let labels = metadata
        .get("labels")
        .map_or_else(Default::default, |value| labels(value, "labels", sink));
    let annotations = metadata
        .get("annotations")
        .map_or_else(Default::default, |value| annotations(value, sink));
    if let Some(name) = name {
        opened.pos = name.pos;
        opened.meta = Some(Meta {
            namespace: namespace.map_or_else(|| "default".to_owned(), |at| at.value),
            name: name.value,
            labels,
            annotations,
            declared_at: None,
        });
    }
    Some(opened)
}

pub(super) fn namespace(document: &Value, sink: &mut Sink<'_>) -> Option<(Namespace, Pos)> {
    let kind = ("a namespace", "v1");
    let opened = open(document, kind, keys::TOP, Naming::Label, sink)?;
    let meta = opened.meta?;
    let mut namespace = Namespace::labelled(&meta.name, meta.labels);
    namespace.meta.annotations = meta.annotations;
    Some((namespace, opened.pos))
}
