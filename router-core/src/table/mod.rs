//! Pure data structures with a cost model in their documentation. They know nothing of packets.

pub(crate) mod index;
pub mod lpm4;
