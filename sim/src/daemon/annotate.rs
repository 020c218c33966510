//! Annotations of a pod that runs.

use indexmap::IndexMap;

use super::lab::{Lab, LabError};

impl Lab {
    /// Gives a pod other annotations.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) fn annotate_pod(
        &mut self,
        namespace: &str,
        name: &str,
        annotations: IndexMap<String, String>,
    ) -> Result<Vec<String>, LabError> {
        let outcome = self.cluster.annotate_pod(namespace, name, annotations)?;
        self.finish(outcome)
    }
}
