//! Ports of podwire.
#![deny(unsafe_code)]

mod any_port;
mod cells;
pub mod device;
pub mod event_loop;
pub mod fabric;
pub mod gather;
pub mod layer;
pub mod memory;
pub mod offload;
pub mod packet;
pub mod port;
pub mod sys;
pub mod tails;
pub mod tap;

pub use event_loop::{AnyPort, Engine, EventLoop};
pub use fabric::{FabricPort, Hub, HubHandle, MemberId};
pub use memory::MemoryPort;
pub use packet::PacketPort;
pub use port::{Caps, Port, PortCounters, PortError, Rx};
pub use tails::Tails;
pub use tap::{TapConfig, TapError, TapPort};
