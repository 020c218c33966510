//! The daemon of a lab: owns namespaces, TAP devices, node processes and programs, and serves the clients.
//!
//! [`isolate`] takes the namespaces and starts the daemon in them, `start` brings the lab up and waits for clients,
//! [`lab`] and `effects` carry out what the cluster decides, `gateway` starts the simulated internet, [`nodes`] keeps node processes alive, [`programs`] the pods' programs,
//! [`server`] answers requests, [`logs`] keeps what all of them say, [`children`] collects processes, [`outer`] knows how the host
//! numbers them.
//!
//! Threads: the main thread accepts clients; one per client, at most [`server::MAX_CLIENTS`]; one each for logs, the fabric's hub,
//! ended children, the reconcile loop and signals; one per program.

mod annotate;
mod capture;
pub mod children;
mod effects;
mod gateway;
mod host_side;
mod impair;
pub mod isolate;
pub mod lab;
pub mod logs;
pub mod nodes;
pub mod outer;
mod phases;
mod probe;
pub mod programs;
pub mod server;
mod start;
mod trace;
pub mod uplink;

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use tap_bridge::sys::spawn::adopt;

use crate::control::codec::Connection;

/// The hidden command whose body is [`main`].
pub const COMMAND: &str = "__daemon";

/// Which of its lives the process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Take namespaces, start the daemon in them.
    Isolate {
        /// A PID namespace too.
        pid_namespace: bool,
    },
    /// Start the daemon in the host's namespaces.
    Plain,
    /// Find out what would be allowed: take namespaces ...
    Probe,
    /// ... and try the rest in them.
    ProbeInside {
        /// In a user namespace.
        rootless: bool,
    },
    /// Be the daemon.
    Run {
        /// In namespaces of its own.
        isolated: bool,
        /// As init of a PID namespace.
        pid_namespace: bool,
        /// In a user namespace.
        rootless: bool,
    },
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Isolate {
                pid_namespace: true,
            } => "isolate",
            Self::Isolate {
                pid_namespace: false,
            } => "isolate-without-pid",
            Self::Plain => "plain",
            Self::Probe => "probe",
            Self::ProbeInside { rootless: false } => "probe-inside",
            Self::ProbeInside { rootless: true } => "probe-inside-rootless",
            Self::Run {
                isolated: false, ..
            } => "run",
            Self::Run {
                pid_namespace: true,
                rootless: false,
                ..
            } => "run-init",
            Self::Run {
                pid_namespace: true,
                rootless: true,
                ..
            } => "run-init-rootless",
            Self::Run {
                pid_namespace: false,
                rootless: false,
                ..
            } => "run-isolated",
            Self::Run {
                pid_namespace: false,
                rootless: true,
                ..
            } => "run-isolated-rootless",
        })
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let run = |isolated, pid_namespace, rootless| Self::Run {
            isolated,
            pid_namespace,
            rootless,
        };
        Ok(match text {
            "isolate" => Self::Isolate {
                pid_namespace: true,
            },
            "isolate-without-pid" => Self::Isolate {
                pid_namespace: false,
            },
            "plain" => Self::Plain,
            "probe" => Self::Probe,
            "probe-inside" => Self::ProbeInside { rootless: false },
            "probe-inside-rootless" => Self::ProbeInside { rootless: true },
            "run" => run(false, false, false),
            "run-init" => run(true, true, false),
            "run-init-rootless" => run(true, true, true),
            "run-isolated" => run(true, false, false),
            "run-isolated-rootless" => run(true, false, true),
            _ => return Err(format!("no stage is called {text}")),
        })
    }
}

/// Body of `podwire __daemon`, which only podwire itself calls. Returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    match parse(args) {
        Ok((launch, lab, stage @ Stage::Run { .. })) => start::run(launch, &lab, stage),
        Ok((launch, _, Stage::Probe)) => probe::run(launch),
        Ok((launch, _, Stage::ProbeInside { rootless })) => probe::run_inside(launch, rootless),
        Ok((launch, lab, stage @ (Stage::Isolate { .. } | Stage::Plain))) => {
            match isolate::start_daemon(launch, &lab, stage) {
                Ok(()) => 0,
                Err(_) => 70,
            }
        }
        Err(message) => {
            eprintln!("podwire {COMMAND}: {message}; `podwire up` starts it");
            2
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Connection, String, Stage), String> {
    let (mut stage, mut lab, mut launch) = (None, None, None);
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let value = args
            .next()
            .and_then(|value| value.into_string().ok())
            .ok_or("an option without value")?;
        match name.to_str() {
            Some("--stage") => stage = Some(value.parse::<Stage>()?),
            Some("--lab") => lab = Some(value),
            Some("--launch-fd") => {
                launch = Some(value.parse().map_err(|_| "--launch-fd wants a number")?);
            }
            _ => return Err(format!("unknown option {}", name.display())),
        }
    }
    let (Some(stage), Some(lab), Some(launch)) = (stage, lab, launch) else {
        return Err("--stage, --lab and --launch-fd are wanted".to_owned());
    };
    let launch = adopt(launch).map_err(|error| format!("--launch-fd: {error}"))?;
    Ok((Connection::new(launch), lab, stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage has a name of its own that leads back to it.
    #[test]
    fn stages_round_trip() {
        let run = |isolated, pid_namespace, rootless| Stage::Run {
            isolated,
            pid_namespace,
            rootless,
        };
        for stage in [
            Stage::Isolate {
                pid_namespace: true,
            },
            Stage::Isolate {
                pid_namespace: false,
            },
            Stage::Plain,
            Stage::Probe,
            Stage::ProbeInside { rootless: false },
            Stage::ProbeInside { rootless: true },
            run(false, false, false),
            run(true, true, false),
            run(true, true, true),
            run(true, false, false),
            run(true, false, true),
        ] {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert!("x".parse::<Stage>().is_err());
    }

    /// Somebody who calls it by hand gets a sentence, not a daemon.
    #[test]
    fn wrong_arguments_are_refused() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(main(args(&[])), 2);
        assert_eq!(main(args(&["--stage", "run"])), 2);
        assert_eq!(
            main(args(&["--stage", "run", "--lab", "x", "--launch-fd", "1"])),
            2
        );
        assert_eq!(main(args(&["--x", "y"])), 2);
    }
}
