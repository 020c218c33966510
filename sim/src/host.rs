//! What this host allows, which back end follows from it, and what would enable a better one: `podwire doctor`.
//!
//! Decides what each finding means for a lab. Tries namespaces and the tun device in throw-away processes, and reads limits
//! from `/proc/sys`; changes nothing (decision 11). Cost: two short processes.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tap_bridge::sys::limits::raise_open_files;
use tap_bridge::sys::spawn::{Spawn, spawn};

use crate::client::launch::TUN_VARIABLE;
use crate::control::codec::{CodecError, Connection};
use crate::control::launch::{Ability, Event};
use crate::daemon::COMMAND;
use crate::spec::{Backend, LabSpec};

/// How long the throw-away processes may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Descriptors that a daemon has for a pod: three namespaces and a TAP device, or a veth's socket.
const DESCRIPTORS_PER_POD: u64 = 4;

/// And for a node: those of its host side, sockets, a pipe.
const DESCRIPTORS_PER_NODE: u64 = 10;

/// And for clients, logs and what is open for a moment.
const DESCRIPTORS: u64 = 200;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Labs work, with a restriction.
    Warn,
    /// Neither the `tap` back end can work, nor what depends on it.
    No,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::No => "no",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means for a lab.
    pub meaning: String,
    /// What would make it better; none when it is fine.
    pub remedy: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// In the order in which a lab needs them.
    pub checks: Vec<Check>,
    /// What `--backend auto` picks.
    pub backend: Backend,
    /// Why.
    pub reason: String,
}

/// Looks at this host.
///
/// # Errors
/// When not even a process can be started.
pub fn probe() -> Result<HostReport, CodecError> {
    let findings = try_out()?;
    let device = std::env::var(TUN_VARIABLE).unwrap_or_else(|_| tap_bridge::tap::DEVICE.to_owned());
    let mut checks: Vec<Check> = findings
        .iter()
        .map(|finding| judge(finding, &device))
        .collect();
    let (backend, reason) = choose(&findings);
    checks.extend(limits(Path::new("/proc/sys")));
    Ok(HostReport {
        checks,
        backend,
        reason,
    })
}

/// The best rung that works, and why.
fn choose(findings: &[(Ability, Option<String>)]) -> (Backend, String) {
    let missing = |needs: &[Ability]| {
        let mut failed = findings.iter().filter(|(it, _)| needs.contains(it));
        failed.find_map(|(_, why)| why.clone())
    };
    let namespaces = missing(&[Ability::Namespaces, Ability::UserNamespaces]);
    if let Some(why) = namespaces {
        return (Backend::Inproc, why);
    }
    let Some(why) = missing(&[Ability::TunDevice, Ability::Tap]) else {
        let rootless = |(it, _): &(Ability, _)| *it == Ability::UserNamespaces;
        let why = if findings.iter().any(rootless) {
            "this user may make user namespaces and open the tun device"
        } else {
            "this user may make namespaces and TAP devices"
        };
        return (Backend::Tap, why.to_owned());
    };
    match missing(&[Ability::Veth, Ability::PacketSocket]) {
        None => (Backend::Packet, why),
        Some(other) => (Backend::Inproc, format!("{why}; {other}")),
    }
}

/// Lets throw-away processes try what a daemon does.
fn try_out() -> Result<Vec<(Ability, Option<String>)>, CodecError> {
    let (mut ours, theirs) = Connection::pair()?;
    let stderr = std::io::stderr();
    let mut child = spawn(&Spawn {
        program: None,
        title: "podwire: probe",
        args: vec![
            COMMAND.into(),
            "--stage".into(),
            "probe".into(),
            "--lab".into(),
            "probe".into(),
            "--launch-fd".into(),
            theirs.as_fd().as_raw_fd().to_string().into(),
        ],
        env: &[],
        own_group: false,
        fds: &[theirs.as_fd()],
        log: stderr.as_fd(),
        die_with_thread: false,
    })?;
    drop(theirs);
    ours.set_deadline(Some(Instant::now() + PROBE_TIMEOUT));
    let answer = ours.recv::<Event>();
    child.wait()?;
    match answer?.0 {
        Event::Probed { findings } => Ok(findings),
        _ => Err(CodecError::Closed),
    }
}

fn judge((ability, failure): &(Ability, Option<String>), device: &str) -> Check {
    let (name, good, bad, remedy, without) = match ability {
        Ability::Namespaces => (
            "namespaces",
            "pods get network namespaces of their own",
            "pods can't have namespaces of their own",
            "run as root with CAP_SYS_ADMIN, or allow user namespaces",
            State::No,
        ),
        Ability::UserNamespaces => (
            "user namespaces",
            "pods get network namespaces of their own, without root",
            "pods can't have namespaces of their own without root",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) or raise \
             user.max_user_namespaces; in a container: allow unshare(2); or run podwire as root",
            State::No,
        ),
        Ability::Proc => (
            "fresh /proc",
            "the lab has process ids of its own, and dies with its daemon",
            "the lab shares the host's process ids; what `exec` started outlives a killed daemon",
            "in a container: unmask /proc (docker: --security-opt systempaths=unconfined)",
            State::Warn,
        ),
        Ability::Sys => (
            "fresh /sys",
            "programs in pods see their own interfaces below /sys/class/net",
            "programs in pods see the host's interfaces below /sys/class/net",
            "in a container: unmask /sys",
            State::Warn,
        ),
        Ability::TunDevice => (
            "tun device",
            "pods get TAP devices",
            "pods can't have TAP devices",
            "as root: modprobe tun, chmod 0666 the device, or name another device node in PODWIRE_TUN; in a container: \
             --device /dev/net/tun",
            State::No,
        ),
        Ability::Tap => (
            "TAP interface",
            "pods get a TAP interface as eth0",
            "pods can't have a TAP interface",
            "allow CAP_NET_ADMIN in user namespaces",
            State::No,
        ),
        Ability::Veth => (
            "veth",
            "pods get a veth as eth0 where there is no TAP",
            "pods can't have a veth where there is no TAP",
            "as root: modprobe veth; allow CAP_NET_ADMIN in user namespaces",
            State::Warn,
        ),
        Ability::PacketSocket => (
            "packet socket",
            "routers reach pods by packet sockets where there is no TAP",
            "routers can't reach pods where there is no TAP",
            "as root: modprobe af_packet; allow CAP_NET_RAW in user namespaces",
            State::Warn,
        ),
    };
    match failure {
        None => Check {
            name,
            state: State::Ok,
            found: if *ability == Ability::TunDevice {
                format!("{device} can be opened")
            } else {
                "allowed".to_owned()
            },
            meaning: good.to_owned(),
            remedy: None,
        },
        Some(why) => Check {
            name,
            state: without,
            found: why.clone(),
            meaning: bad.to_owned(),
            remedy: Some(remedy.to_owned()),
        },
    }
}

/// How to have more descriptors.
const MORE_FILES: &str = "ulimit -Hn as root, or systemd's LimitNOFILE";

/// Whether the daemon, which this is called in, may have the descriptors that a lab wants. An error is a sentence for the user.
///
/// # Errors
/// When they don't suffice.
pub fn check_descriptors(lab: &LabSpec, may_have: u64) -> Result<(), String> {
    let queues = lab.workers.saturating_sub(1) as u64;
    let pods = lab.pods.iter().filter(|pod| !pod.host_network).count() as u64;
    let nodes = lab.nodes.len() as u64;
    let wanted = DESCRIPTORS
        + pods * (DESCRIPTORS_PER_POD + queues)
        + nodes * (DESCRIPTORS_PER_NODE + queues);
    if wanted <= may_have {
        return Ok(());
    }
    Err(format!(
        "{nodes} nodes and {pods} pods want {wanted} file descriptors, and this user may have {may_have}: {MORE_FILES}"
    ))
}

/// Limits that decide how large a lab can be. `sys` is `/proc/sys`.
fn limits(sys: &Path) -> Vec<Check> {
    let number = |path: &str| -> Option<u64> {
        fs::read_to_string(sys.join(path)).ok()?.trim().parse().ok()
    };
    let mut checks = Vec::new();
    if let Some(on) = number("kernel/apparmor_restrict_unprivileged_userns") {
        checks.push(Check {
            name: "AppArmor",
            state: if on == 0 { State::Ok } else { State::Warn },
            found: format!("kernel.apparmor_restrict_unprivileged_userns = {on}"),
            meaning: if on == 0 {
                "user namespaces have their rights".to_owned()
            } else {
                "user namespaces of ordinary programs have no rights".to_owned()
            },
            remedy: (on != 0).then(|| {
                "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned()
            }),
        });
    }
    let files = raise_open_files();
    // With a node for ten pods.
    let pods =
        files.saturating_sub(DESCRIPTORS) / (DESCRIPTORS_PER_POD + DESCRIPTORS_PER_NODE / 10);
    checks.push(limit(
        "open files",
        "hard limit",
        files,
        pods,
        600,
        MORE_FILES,
    ));
    for (name, path, per_pod, remedy) in [
        (
            "neighbour entries",
            "net/ipv4/neigh/default/gc_thresh3",
            1,
            "as root: sysctl -w net.ipv4.neigh.default.gc_thresh3=8192",
        ),
        (
            "memory maps",
            "vm/max_map_count",
            1,
            "as root: sysctl -w vm.max_map_count=262144",
        ),
        (
            "process ids",
            "kernel/pid_max",
            1,
            "as root: sysctl -w kernel.pid_max=4194304",
        ),
        (
            "network namespaces",
            "user/max_net_namespaces",
            1,
            "as root: sysctl -w user.max_net_namespaces=65536",
        ),
        (
            "user namespaces",
            "user/max_user_namespaces",
            1,
            "as root: sysctl -w user.max_user_namespaces=65536",
        ),
    ] {
        let Some(value) = number(path) else {
            continue;
        };
        let setting = path.replace('/', ".");
        let check = if path == "user/max_user_namespaces" {
            // One for each lab.
            limit("user namespaces", &setting, value, value, 1, remedy)
        } else {
            limit(name, &setting, value, value / per_pod, 600, remedy)
        };
        checks.push(check);
    }
    checks
}

/// A limit of `value` that is enough for `room` pods, where `enough` would do for any lab that is tested.
fn limit(
    name: &'static str,
    setting: &str,
    value: u64,
    room: u64,
    enough: u64,
    remedy: &str,
) -> Check {
    let fine = room >= enough;
    Check {
        name,
        state: if fine { State::Ok } else { State::Warn },
        found: format!("{setting} = {value}"),
        meaning: if fine {
            "enough for 50 nodes with 500 pods".to_owned()
        } else {
            format!("enough for about {room} pods")
        },
        remedy: (!fine).then(|| remedy.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A missing right without which pods can't be namespaces is a "no" with its remedy; the others only warn.
    #[test]
    fn only_what_is_needed_decides() {
        let states: Vec<State> = [
            Ability::Namespaces,
            Ability::UserNamespaces,
            Ability::Proc,
            Ability::Sys,
            Ability::TunDevice,
            Ability::Tap,
            Ability::Veth,
            Ability::PacketSocket,
        ]
        .map(|ability| {
            let good = judge(&(ability, None), "/dev/net/tun");
            assert_eq!((good.state, good.remedy), (State::Ok, None));
            let bad = judge(&(ability, Some("why".into())), "/dev/net/tun");
            assert_eq!(bad.found, "why");
            assert!(bad.remedy.is_some());
            bad.state
        })
        .to_vec();
        assert_eq!(
            states,
            [
                State::No,
                State::No,
                State::Warn,
                State::Warn,
                State::No,
                State::No,
                State::Warn,
                State::Warn
            ]
        );
    }

    /// Decision 8: each rung is taken only when the one above can't be, and says why that is.
    #[test]
    fn the_best_rung_that_works_is_chosen() {
        use Ability::*;
        let found = |broken: &[Ability]| {
            let all = [
                UserNamespaces,
                Proc,
                Sys,
                TunDevice,
                Tap,
                Veth,
                PacketSocket,
            ];
            let findings = all.map(|it| (it, broken.contains(&it).then(|| format!("{it:?}"))));
            choose(&findings)
        };
        let tap = "this user may make user namespaces and open the tun device";
        let rows: [(&[Ability], Backend, &str); 7] = [
            (&[], Backend::Tap, tap),
            (&[Proc, Sys, Veth, PacketSocket], Backend::Tap, tap),
            (&[TunDevice], Backend::Packet, "TunDevice"),
            (&[Tap], Backend::Packet, "Tap"),
            (&[TunDevice, Veth], Backend::Inproc, "TunDevice; Veth"),
            (&[Tap, PacketSocket], Backend::Inproc, "Tap; PacketSocket"),
            (&[UserNamespaces], Backend::Inproc, "UserNamespaces"),
        ];
        for (broken, backend, why) in rows {
            assert_eq!(found(broken), (backend, why.to_owned()), "{broken:?}");
        }
    }

    /// Four for a pod with an interface, ten for a node, and one more of each for every further worker.
    #[test]
    fn a_lab_wants_descriptors_for_pods_nodes_and_workers() {
        let mut lab = crate::lab::load(&[], &crate::lab::Overrides::default()).unwrap();
        let pods = lab.pods.iter().filter(|pod| !pod.host_network).count() as u64;
        let wanted = DESCRIPTORS + 4 * pods + 10 * 3;
        assert_eq!(check_descriptors(&lab, wanted), Ok(()));
        let refusal = check_descriptors(&lab, wanted - 1).unwrap_err();
        assert!(
            refusal.contains(&format!("want {wanted} file descriptors")),
            "{refusal}"
        );
        lab.workers = 3;
        let wanted = wanted + 2 * (pods + 3);
        assert_eq!(check_descriptors(&lab, wanted), Ok(()));
        assert!(check_descriptors(&lab, wanted - 1).is_err());
    }

    /// Limits are read where there are any, and judged by the largest lab that is tested.
    #[test]
    fn small_limits_are_a_warning() {
        let sys = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("net/ipv4/neigh/default/gc_thresh3", "128\n"),
            ("kernel/pid_max", "4194304\n"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            ("user/max_user_namespaces", "0\n"),
        ] {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let checks = limits(sys.path());
        let state = |found: &str| {
            checks
                .iter()
                .find(|check| check.found == found)
                .map(|check| check.state)
        };
        assert_eq!(
            state("net.ipv4.neigh.default.gc_thresh3 = 128"),
            Some(State::Warn)
        );
        assert_eq!(state("kernel.pid_max = 4194304"), Some(State::Ok));
        assert_eq!(
            state("kernel.apparmor_restrict_unprivileged_userns = 1"),
            Some(State::Warn)
        );
        assert_eq!(state("user.max_user_namespaces = 0"), Some(State::Warn));
        assert!(checks.iter().all(|check| check.name != "memory maps"));
    }
}
