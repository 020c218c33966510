//! The lab file: from what the user wrote to a [`LabSpec`], or to errors with their places.
//!
//! Two steps. What is written (YAML documents of `kind: Lab` and Kubernetes manifests in one stream, presets, flags) is read into
//! types that know every key; then it is resolved: defaults filled in, names and addresses given, everything checked, so
//! that the engine has nothing left to guess. All mistakes are found at once. No text makes it panic. Reads no files but
//! the conflist that a lab names.

mod cni;
mod conflist;
mod conntrack;
mod diagnostics;
mod impairments;
mod manual;
mod names;
mod network;
mod nodes;
mod ports;
mod preset;
mod read;
mod resolve;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod uplink;
mod workers;
mod written;

pub(crate) use conflist::parse as conflist;
pub(crate) use diagnostics::{At, Pos, Sink, hint};
pub use diagnostics::{Diagnostic, Diagnostics};
pub use names::{check_label, check_subdomain};
pub(crate) use names::{label, node_name, subdomain};
pub(crate) use read::{Fields, boolean, list, number, one_of, parse as parse_as, text, texts};
pub(crate) use resolve::spec as spec_of;
pub use source::{BUILT_IN, Source};
pub(crate) use tree::{Kind, Value, parse};
pub use workers::{NoWorkers, Workers, undivided};
pub(crate) use written::{CidrChoice, NodeFile, PodFile, address, net, restart_policy};

use crate::manifest::{self, Object};
use crate::spec::{LabSpec, PolicyMode};

/// What flags say over files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--preset`
    pub preset: Option<String>,
    /// `--nodes`
    pub nodes: Option<usize>,
    /// `--name`
    pub name: Option<String>,
    /// `--network-policy`
    pub network_policy: Option<PolicyMode>,
    /// False by `--no-offload`
    pub offload: Option<bool>,
    /// `--workers`
    pub workers: Option<Workers>,
}

/// The lab that `sources` describe together. Without any source it is the preset as it stands.
///
/// Nodes that neither a lab file nor a manifest names are the preset's. A pod without a node goes to the one with the
/// fewest pods, the first of equals.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(sources: &[Source], overrides: &Overrides) -> Result<LabSpec, Diagnostics> {
    // A conflist that a lab names is one more source, so that mistakes in it have their place as well.
    let mut all = sources.to_vec();
    let mut missing = Diagnostics::default();
    for source in sources {
        match referenced_conflist(source) {
            None => {}
            Some(Ok(found)) => all.push(found),
            Some(Err(error)) => missing.extend(error),
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let mut sink = Sink::new(&all);
    let mut labs: Vec<written::LabFile> = Vec::new();
    let mut objects = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        for document in parse(number, &source.text, &mut sink) {
            let Some(kind) = written::kind_of(&document, &mut sink) else {
                continue;
            };
            if kind.value != "Lab" {
                manifest::read(&document, &kind, &mut objects, &mut sink);
                continue;
            }
            let Some(lab) = written::lab(&document, &mut sink) else {
                continue;
            };
            match labs.first() {
                Some(first) => {
                    let (here, there) = (lab.pos, first.pos);
                    sink.conflict(
                        Some(here),
                        "a second lab; one start makes one lab",
                        Some(there),
                        "the first is here",
                    );
                }
                None => labs.push(lab),
            }
        }
    }
    let conflist = all
        .get(sources.len())
        .and_then(|source| {
            let documents = parse(sources.len(), &source.text, &mut sink);
            let mut found = conflist::read(documents.first()?, &mut sink)?;
            if found.bridge.is_some() {
                let name = std::path::Path::new(&source.name).file_name();
                let name = name.map(|name| name.to_string_lossy().into_owned());
                found.file = name.map(|name| (name, source.text.clone()));
            }
            Some(found)
        })
        .unwrap_or_default();
    let spec = resolve::resolve(labs.pop(), objects, &conflist, overrides, &mut sink);
    sink.finish(spec)
}

/// The conflist that a lab in `source` names, read.
fn referenced_conflist(source: &Source) -> Option<Result<Source, Diagnostics>> {
    if !source.text.contains("conflist") {
        return None;
    }
    let sources = std::slice::from_ref(source);
    // Mistakes are reported when the documents are read in earnest.
    let mut sink = Sink::new(sources);
    for document in parse(0, &source.text, &mut sink) {
        let Some(path) = Fields::open_lenient(&document, "", &mut sink)
            .and_then(|lab| lab.get("network"))
            .and_then(|value| Fields::open_lenient(value, "", &mut sink))
            .and_then(|network| network.get("conflist"))
            .and_then(|value| text(value, "", &mut sink))
        else {
            continue;
        };
        let found = match &source.dir {
            Some(dir) => Source::file(&dir.join(&path.value)),
            None => Err(Diagnostics::single(
                "only a lab in a file of its own can name a conflist",
            )),
        };
        return Some(found.map_err(|error| {
            let mut sink = Sink::new(sources);
            sink.error(path.pos, error.to_string());
            sink.finish(None::<()>).err().unwrap_or_default()
        }));
    }
    None
}

/// The manifests in `sources`, for commands that take nothing else.
pub(crate) fn objects(sources: &[Source]) -> Result<Vec<(Object, String)>, Diagnostics> {
    let mut sink = Sink::new(sources);
    let mut objects = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        for document in parse(number, &source.text, &mut sink) {
            let Some(kind) = written::kind_of(&document, &mut sink) else {
                continue;
            };
            if kind.value == "Lab" {
                sink.error(
                    kind.pos,
                    "a lab is brought up and changed by `podwire up -f`, only manifests can stand here",
                );
                continue;
            }
            manifest::read(&document, &kind, &mut objects, &mut sink);
        }
    }
    let named = objects
        .into_iter()
        .map(|object| {
            let place = sink.describe(object.pos());
            (object, place)
        })
        .collect();
    sink.finish(Some(named))
}
