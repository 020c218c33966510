//! `podwire delete`

use clap::Args;

use super::failure::USAGE;
use super::get::{Kind, kind_and_names};
use super::node::change;
use super::target::{DEFAULT_NAMESPACE, find_node, find_pod};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::control::proto::Request;

/// Deletes objects.
#[derive(Args, Debug)]
pub(super) struct Delete {
    /// pod, node, netpol, service, endpointslice or namespace, optionally KIND/NAME
    #[arg(required_unless_present = "file")]
    kind: Option<String>,
    /// Which
    names: Vec<String>,
    /// Delete what these manifests declare (a file, a directory, or - for standard input)
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "kind")]
    file: Vec<String>,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
}

impl Delete {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let Some(kind) = &self.kind else {
            return super::apply::delete(&self.file, global, ui);
        };
        let (kind, names) = kind_and_names(kind, &self.names)?;
        if names.is_empty() {
            return Err(Failure::new(USAGE, "delete what? A name is wanted"));
        }
        let mut client = Client::find(global.lab.as_deref())?;
        match kind {
            Kind::Objects(kind) => {
                for name in names {
                    let request = Request::DeleteObject {
                        kind,
                        namespace: self.namespace.clone(),
                        name,
                    };
                    change(&mut client, &request, ui)?;
                }
            }
            Kind::Nodes => nodes(&mut client, &names, ui)?,
            Kind::Pods => {
                let all = super::target::pods(&mut client)?;
                for name in &names {
                    // All names are checked before the first goes.
                    find_pod(&all, &self.namespace, name)?;
                }
                for name in names {
                    let request = Request::DeletePod {
                        namespace: self.namespace.clone(),
                        name,
                    };
                    change(&mut client, &request, ui)?;
                }
            }
        }
        Ok(0)
    }
}

/// Removes nodes with their pods.
pub(super) fn nodes(client: &mut Client, names: &[String], ui: &Ui) -> Result<(), Failure> {
    let all = super::target::nodes(client)?;
    for name in names {
        find_node(&all, name)?;
    }
    for name in names {
        change(client, &Request::DeleteNode { name: name.clone() }, ui)?;
    }
    Ok(())
}
