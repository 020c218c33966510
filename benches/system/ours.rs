//! podwire's version of the topology: a lab of two nodes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{Failure, Place, Scenario, Side, checked};

/// A lab. Goes down when dropped.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) podwire: PathBuf,
    scenario: Scenario,
    address: String,
}

fn lab(scenario: Scenario) -> String {
    let mut lab = String::from(
        "apiVersion: podwire/v1\nkind: Lab\nname: system\nnodes: 2\nsystemPods: false\npods:\n\
         - {name: a, node: minikube, labels: {app: a}}\n- {name: b, node: minikube}\n\
         - {name: c, node: minikube-m02, labels: {app: c}}\n",
    );
    lab += match scenario {
        // No rules: nothing is tracked, as in the kernel's version.
        Scenario::One | Scenario::Two => {
            "preset: kindnet\nnetworkPolicy: ignore\nnetwork: {kindMasqAgent: false}\n"
        }
        Scenario::Masquerade => "preset: kindnet\nnetworkPolicy: ignore\n",
        Scenario::Policy => {
            "preset: kindnet\nnetworkPolicy: enforce\nnetwork: {kindMasqAgent: false}\n"
        }
        Scenario::Ipip => "preset: calico\nnetworkPolicy: ignore\n",
    };
    if scenario == Scenario::Policy {
        for (name, kind, peer) in [("c", "ingress", "from"), ("a", "egress", "to")] {
            let other = if name == "a" { "c" } else { "a" };
            let _ = write!(
                lab,
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
                 podSelector: {{matchLabels: {{app: {name}}}}}\n  {kind}:\n  - {peer}:\n    - podSelector: \
                 {{matchLabels: {{app: {other}}}}}\n",
            );
        }
    }
    lab
}

impl Ours {
    /// Brings the lab up.
    ///
    /// # Errors
    /// When podwire refuses.
    pub(crate) fn new(podwire: &Path, scenario: Scenario) -> Result<Self, Failure> {
        let file = tempfile(&lab(scenario))?;
        checked(
            Command::new(podwire)
                .args(["up", "-q", "--backend", "tap", "-f"])
                .arg(file.path()),
        )?;
        let mut ours = Self {
            podwire: podwire.into(),
            scenario,
            address: String::new(),
        };
        let (kind, name) = match scenario {
            Scenario::One => ("pods", "b"),
            Scenario::Masquerade => ("nodes", "minikube-m02"),
            _ => ("pods", "c"),
        };
        let told = checked(Command::new(podwire).args(["get", kind, "-o", "json"]))?;
        let told: Value = serde_json::from_str(&told)?;
        let items = told["items"].as_array().ok_or("get: no items")?;
        let item = items
            .iter()
            .find(|item| item["metadata"]["name"] == name)
            .ok_or_else(|| format!("get {kind}: no {name}"))?;
        let address = match kind {
            "pods" => &item["status"]["podIP"],
            _ => &item["status"]["addresses"][0]["address"],
        };
        ours.address = address.as_str().ok_or("get: no address")?.into();
        Ok(ours)
    }
}

fn tempfile(text: &str) -> Result<tempfile::NamedTempFile, Failure> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), text)?;
    Ok(file)
}

impl Side for Ours {
    fn command(&self, place: Place) -> Command {
        let mut command = Command::new(&self.podwire);
        let name = match place {
            Place::Sender => "a",
            Place::Receiver => match self.scenario {
                Scenario::One => "b",
                Scenario::Masquerade => "node/minikube-m02",
                _ => "c",
            },
        };
        command.args(["exec", name, "--"]);
        command
    }

    fn receiver(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = checked(Command::new(&self.podwire).args(["down", "-q"]));
    }
}
