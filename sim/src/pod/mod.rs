//! What a pod is made of: network namespaces, or stacks inside the node process.

pub mod inproc;
pub mod netns;
pub mod network;
pub mod redirect;
