//! Failures and their exit codes.

use std::fmt;

use crate::client::ClientError;
use crate::client::enter::EnterError;
use crate::client::launch::LaunchError;
use crate::lab::Diagnostics;

/// A check failed, or a name is unknown.
pub(super) const FAILED: u8 = 1;
/// Wrong words.
pub(super) const USAGE: u8 = 2;
/// Invalid configuration.
pub(super) const INVALID: u8 = 3;
/// This host can't do it.
pub(super) const UNSUPPORTED: u8 = 4;
/// A bug of ours.
pub(super) const BUG: u8 = 70;

/// Nobody reads our output any more: what a shell reports for a program that SIGPIPE ended. Not worth a message.
pub(super) const BROKEN_PIPE: u8 = 141;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// For the user; whole sentences without a final stop, several lines where that helps.
    pub message: String,
    /// Printed as it is, without `error:` in front: texts that imitate another program, or carry their own.
    pub verbatim: bool,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            verbatim: false,
        }
    }

    /// As [`Failure::new`], printed as it is.
    pub fn verbatim(code: u8, message: impl Into<String>) -> Self {
        Self {
            verbatim: true,
            ..Self::new(code, message)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<EnterError> for Failure {
    fn from(error: EnterError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::verbatim(INVALID, diagnostics.to_string())
    }
}
