//! What the program that brings a lab up and the daemon that it starts say to each other, on a socket pair, until the lab is
//! ready.
//!
//! Frames as in [`codec`](super::codec). The starter sends one [`Order`] with descriptors: the held lock of the lab's directory,
//! then a socket for each node with an uplink, in their order; the daemon answers with [`Event`]s, the last of which is anything but [`Event::Progress`]. When the starter's
//! end closes before [`Event::Ready`], the daemon takes everything down again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::proto::ErrorKind;
use crate::spec::{Backend, LabSpec};

/// What to bring up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The lab.
    pub lab: LabSpec,
    /// How its pods are made.
    pub backend: Backend,
    /// Directory of the lab below the runtime directory, absolute.
    pub directory: PathBuf,
    /// The tun device; none is `/dev/net/tun`.
    pub tun: Option<PathBuf>,
}

/// What the daemon tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// What it does now, for a message when the deadline passes.
    Progress {
        /// A sentence without subject: `waiting for 3 node processes`.
        text: String,
    },
    /// The lab works.
    Ready {
        /// It runs in a user namespace of its own.
        rootless: bool,
    },
    /// This host doesn't let the daemon have what the back end needs; nothing was made.
    Unavailable {
        /// What was tried and what the system said.
        reason: String,
    },
    /// No `/proc` for a PID namespace can be mounted here: to be tried again without one.
    NoPidNamespace,
    /// To a probe: what a daemon could do here.
    Probed {
        /// What was tried, in order; with what the system said where it failed.
        findings: Vec<(Ability, Option<String>)>,
    },
    /// The bring-up failed; nothing is left.
    Failed {
        /// Decides the exit code.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
}

/// What the back ends with namespaces need, in the order in which it is tried: `tap` everything but the last two, `packet`
/// everything but the tun device and a TAP interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// Mount, network, UTS and PID namespaces, without root in a user namespace.
    Namespaces,
    /// The same, in a user namespace (reported instead of [`Ability::Namespaces`]).
    UserNamespaces,
    /// A `/proc` for the PID namespace. Without it the lab shares the host's.
    Proc,
    /// A `/sys` for a network namespace. Without it pods see the host's.
    Sys,
    /// Opening the tun device.
    TunDevice,
    /// Making a TAP interface.
    Tap,
    /// Making a veth.
    Veth,
    /// Opening a packet socket.
    PacketSocket,
}
