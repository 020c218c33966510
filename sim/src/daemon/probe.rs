//! Finding out what a daemon would be allowed to do, by doing it and throwing it away.
//!
//! Decides the order of the attempts ([`Ability`]) and stops at the first without which no pod can be a namespace. Two
//! processes, as with the daemon: namespaces are taken by the first, the rest is tried by its child.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use tap_bridge::sys::links::End;
use tap_bridge::sys::mount;
use tap_bridge::sys::netlink::{Changes, RouteSocket};
use tap_bridge::sys::netns::{self, Namespace};
use tap_bridge::tap::{self, TapConfig};

use super::{Stage, isolate};
use crate::client::launch::TUN_VARIABLE;
use crate::control::codec::Connection;
use crate::control::launch::{Ability, Event};

/// First process: takes the namespaces. Returns the exit code.
pub(super) fn run(mut launch: Connection) -> u8 {
    let (failed, why) = match isolate::isolate(true) {
        Ok(rootless) => match isolate::exec(&launch, "probe", Stage::ProbeInside { rootless }) {
            Ok(()) => return 0,
            Err(error) => (namespaces(rootless), error.to_string()),
        },
        Err(why) => (namespaces(!rustix::process::geteuid().is_root()), why),
    };
    report(&mut launch, vec![(failed, Some(why))])
}

fn namespaces(rootless: bool) -> Ability {
    if rootless {
        Ability::UserNamespaces
    } else {
        Ability::Namespaces
    }
}

/// Second process: tries the rest. Returns the exit code.
pub(super) fn run_inside(mut launch: Connection, rootless: bool) -> u8 {
    let said = |result: std::io::Result<()>| result.err().map(|error| isolate::explain(&error));
    let mut findings = vec![
        (namespaces(rootless), None),
        (Ability::Proc, said(mount::fresh_proc())),
        (Ability::Sys, said(mount::fresh_sysfs())),
    ];
    let device = std::env::var_os(TUN_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let path = device.clone().unwrap_or_else(|| tap::DEVICE.into());
    let closed = isolate::check_tun(&path).err();
    let open = closed.is_none();
    findings.push((Ability::TunDevice, closed));
    if open {
        let config = TapConfig {
            name: "eth0".to_owned(),
            ifindex: Some(4),
            device,
            offload: true,
        };
        findings.push((
            Ability::Tap,
            tap::create(&config).err().map(|error| error.to_string()),
        ));
    }
    findings.push((Ability::Veth, make_veth().err()));
    findings.push((Ability::PacketSocket, isolate::check_packet().err()));
    report(&mut launch, findings)
}

/// Makes a veth with both ends in the present namespace, which ends with this process.
fn make_veth() -> Result<(), String> {
    let end = |name| End {
        name,
        index: None,
        mtu: 1500,
    };
    let mut changes = Changes::new();
    let here = netns::current(Namespace::Net).map_err(|error| error.to_string())?;
    changes.veth_add(&end("near"), &end("far"), here.as_fd());
    let mut socket = RouteSocket::open().map_err(|error| error.to_string())?;
    socket
        .apply(changes)
        .map_err(|error| format!("veths can't be made: {}", isolate::explain(&error.source)))
}

fn report(launch: &mut Connection, findings: Vec<(Ability, Option<String>)>) -> u8 {
    u8::from(launch.send(&Event::Probed { findings }, &[]).is_err())
}
