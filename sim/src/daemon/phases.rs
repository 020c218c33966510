//! Pods whose program has ended are no endpoints of services until it runs again.
//!
//! Decides who tells whom: supervisors of programs raise a flag, one thread takes it down and has the lab compare what the
//! cluster believes with what is. Several changes at once are one; nothing is asked while nothing changes.

use std::sync::{Condvar, Mutex, PoisonError};

use super::lab::{Lab, now_ms};
use super::programs::Program;
use super::server::Server;

/// A flag that supervisors raise.
#[derive(Debug, Default)]
pub struct Phases {
    changed: Mutex<bool>,
    raised: Condvar,
}

impl Phases {
    /// The phase of some program has changed.
    pub fn changed(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_one();
    }

    /// Waits until one has, and takes the flag down.
    pub fn wait(&self) {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = self.raised.wait_while(changed, |changed| !*changed);
        *raised.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Server {
    /// Has the lab look at its programs.
    pub(super) fn note_phases(&self) {
        if let Err(error) = self.with_lab(Lab::note_phases) {
            tracing::error!("endpoints: {error}");
        }
    }
}

impl Lab {
    /// Tells the cluster of the phases of all programs, and carries out what follows for services.
    pub(super) fn note_phases(&mut self) -> Result<(), super::lab::LabError> {
        let programs = self.pods.iter();
        let phases: Vec<_> = programs
            .filter_map(|(key, pod)| {
                let status = pod.program.as_ref().map(Program::status)?;
                Some((key.clone(), status.phase))
            })
            .collect();
        let effects = self.cluster.set_phases(phases, now_ms()).effects;
        self.carry_out(effects)?;
        self.publish_names()
    }
}
