//! Changes of a running lab.
//!
//! Each asks the cluster first, which decides all or nothing, and then carries out what it decided.

use std::net::Ipv4Addr;

use super::{Lab, LabError, now_ms};
use crate::cluster::{Effect, IpError, Outcome};
use crate::control::proto::ErrorKind;
use crate::kube::{Object, ObjectKind};
use crate::spec::{LabSpec, NodeSpec, PodSpec};

impl Lab {
    /// Becomes `spec`.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn converge(&mut self, spec: &LabSpec) -> Result<Vec<String>, LabError> {
        self.check_devices(spec)?;
        let outcome = self.cluster.converge(spec, now_ms())?;
        self.finish(outcome)
    }

    /// What converging would do.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn plan(&self, spec: &LabSpec) -> Result<Vec<String>, LabError> {
        self.check_devices(spec)?;
        Ok(self.cluster.plan(spec)?)
    }

    fn check_devices(&self, spec: &LabSpec) -> Result<(), LabError> {
        self.check_uplinks(spec)?;
        let runs = if spec.offload != self.offload {
            format!("{} offload", if self.offload { "with" } else { "without" })
        } else if spec.workers != self.wanted_workers {
            let workers = self.wanted_workers;
            format!(
                "with {workers} worker{} per node",
                if workers == 1 { "" } else { "s" }
            )
        } else {
            return Ok(());
        };
        let name = &spec.name;
        Err(LabError::Failed {
            kind: ErrorKind::Invalid,
            message: format!(
                "lab {name} runs {runs}, which can't be changed while it runs; `podwire down {name}` first"
            ),
        })
    }

    /// Creates a pod.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn add_pod(&mut self, spec: &PodSpec) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.add_pod(spec, now_ms())?;
        self.finish(outcome)
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_pod(&mut self, namespace: &str, name: &str) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_pod(namespace, name)?;
        self.finish(outcome)
    }

    /// Creates an object or changes it.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn apply_object(&mut self, object: Object, create: bool) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.apply_object(object, create, now_ms())?;
        self.finish(outcome)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_object(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_object(kind, namespace, name)?;
        self.finish(outcome)
    }

    /// Lets a node join.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn add_node(
        &mut self,
        name: &str,
        internal_ip: Option<Ipv4Addr>,
        spec: Option<NodeSpec>,
    ) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.add_node(name, internal_ip, spec, now_ms())?;
        self.finish(outcome)
    }

    /// Removes a node and its pods.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn delete_node(&mut self, name: &str) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.delete_node(name)?;
        self.finish(outcome)
    }

    /// A command in iproute2's syntax. The inner error is iproute2's own.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn ip_change(
        &mut self,
        node: &str,
        args: &[String],
    ) -> Result<Result<(), IpError>, LabError> {
        self.cluster.node(node)?;
        match self.cluster.ip_change(node, args) {
            Ok(outcome) => self.finish(outcome).map(|_| Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The tick of the nodes' controllers.
    pub fn reconcile(&mut self) {
        let outcome = self.cluster.reconcile(now_ms());
        for line in &outcome.lines {
            tracing::info!("controllers: {line}");
        }
        if let Err(error) = self.carry_out(outcome.effects) {
            tracing::error!("controllers: {error}");
        }
    }

    /// Carries out what the cluster decided; undoes the creation of pods and nodes when that fails.
    pub(in crate::daemon) fn finish(&mut self, outcome: Outcome) -> Result<Vec<String>, LabError> {
        let created: Vec<Effect> = outcome
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::CreatePod { .. } | Effect::CreateNode { .. }))
            .cloned()
            .collect();
        match self.carry_out(outcome.effects) {
            Ok(()) => Ok(outcome.lines),
            Err(error) => {
                self.undo(&created);
                Err(error)
            }
        }
    }

    fn undo(&mut self, created: &[Effect]) {
        let mut effects = Vec::new();
        for effect in created.iter().rev() {
            match effect {
                Effect::CreatePod { namespace, name } => {
                    effects.extend(self.cluster.rollback_pod(namespace, name));
                }
                Effect::CreateNode { node } => match self.cluster.delete_node(node) {
                    Ok(outcome) => effects.extend(outcome.effects),
                    Err(error) => tracing::error!("node {node} can't be undone: {error}"),
                },
                _ => {}
            }
        }
        if let Err(error) = self.carry_out(effects) {
            tracing::error!("a failed change can't be undone: {error}");
        }
    }
}
