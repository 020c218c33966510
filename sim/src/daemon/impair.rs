//! Impairments of ports: set, remembered, and given to a node process that is started again.

use std::time::Instant;

use router_core::PortId;

use super::lab::{Lab, LabError};
use super::nodes::{ANSWER_TIMEOUT, NodeRuntime};
use crate::control::node::NodeRequest;
use crate::control::proto::ErrorKind;
use crate::impair::{Impair, LinkImpair};
use crate::node::handle::{NodeError, Ticket};

impl Lab {
    /// Does this to the frames of a port until told otherwise.
    ///
    /// # Errors
    /// When there is no such port, or when it makes no sense.
    pub(super) fn impair(
        &mut self,
        node: &str,
        port: PortId,
        wanted: LinkImpair,
    ) -> Result<(), LabError> {
        let invalid = |message| LabError::new(ErrorKind::Invalid, message);
        wanted
            .rx
            .check()
            .and_then(|()| wanted.tx.check())
            .map_err(invalid)?;
        self.cluster.node(node)?;
        let missing = || LabError::internal(format!("node {node} has no process"));
        let runtime = self.nodes.get_mut(node).ok_or_else(missing)?;
        if !runtime.has_port(port) {
            let text = format!("node {node} has no device at port {}", port.0);
            return Err(LabError::new(ErrorKind::NotFound, text));
        }
        if let Some(ticket) = runtime.impair(port, wanted) {
            runtime.wait(ticket?, Instant::now() + ANSWER_TIMEOUT)?;
        }
        Ok(())
    }

    pub(super) fn impairments_of(&self, node: Option<&str>) -> Vec<(PortId, LinkImpair)> {
        let runtime = node.and_then(|node| self.nodes.get(node));
        let all = runtime.map(|runtime| runtime.impairments.iter());
        all.into_iter()
            .flatten()
            .map(|(id, wanted)| (*id, *wanted))
            .collect()
    }
}

impl NodeRuntime {
    /// From now on, and after every restart. None while there is no process.
    pub(super) fn impair(
        &mut self,
        port: PortId,
        wanted: LinkImpair,
    ) -> Option<Result<Ticket, NodeError>> {
        if wanted == LinkImpair::default() {
            self.impairments.remove(&port);
        } else {
            self.impairments.insert(port, wanted);
        }
        self.pid()?;
        let impair = wanted;
        Some(self.post(NodeRequest::Impair { port, impair }, &[]))
    }

    /// What every frame between nodes is to suffer, at the node that sends it.
    pub(super) fn impair_segment(&mut self, tx: Impair) -> Result<Option<Ticket>, NodeError> {
        let wanted = LinkImpair {
            tx,
            ..LinkImpair::default()
        };
        self.impair_new(self.underlay_port(), wanted)
    }

    /// Of a new port; none where nothing is wanted.
    pub(super) fn impair_new(
        &mut self,
        port: PortId,
        wanted: LinkImpair,
    ) -> Result<Option<Ticket>, NodeError> {
        if wanted == LinkImpair::default() {
            return Ok(None);
        }
        self.impair(port, wanted).transpose()
    }

    /// Gives a new process what the one before it had.
    pub(super) fn resume_impairments(&mut self) -> Result<Vec<Ticket>, NodeError> {
        let all = self.impairments.clone();
        all.into_iter()
            .map(|(port, impair)| self.post(NodeRequest::Impair { port, impair }, &[]))
            .collect()
    }
}
