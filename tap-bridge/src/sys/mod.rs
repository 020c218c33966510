//! Every system call that needs care, safe upwards.
//!
//! With the fabric's shared ring the only place of this crate where unsafe code may stand.
#![allow(unsafe_code)]

pub mod scm;
pub mod spawn;
