//! A place of its own for each test, the real binary in it, and a look at the host before and after.
//!
//! A [`World`] is a temporary directory with a runtime directory (`PODWIRE_RUNTIME_DIR`), a user to run as, and lab
//! names that no other test has. When it goes out of scope every lab in it is taken down and the host is compared with
//! what it was: no process, network namespace, socket, file, mount or interface of the labs may be left.

mod host;
mod need;
mod program;

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::pattern::{self, Captures};

use host::{Host, files_below, holders_of, processes_of};
pub(crate) use host::{command_line, namespaces_of, parent_of};
pub(crate) use need::{Need, find_tool, runs_here, skipped};
pub(crate) use program::{Background, Output, ended_by, kill, run};
use program::{join, run_unchecked};

/// How long any one command may take, generous for a debug build on a machine that does other things as well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An ordinary uid, and gid, without a name, a home or any privilege.
const ORDINARY_UID: u32 = 54_321;

/// Polls until `condition` gives something, at most `limit`. The interval only bounds the load of the polling itself:
/// no test depends on its length.
pub(crate) fn eventually<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Where a test's labs live.
#[derive(Debug)]
pub(crate) struct World {
    dir: tempfile::TempDir,
    token: String,
    uid: Option<u32>,
    env: Vec<(String, OsString)>,
    bin: PathBuf,
    before: Host,
    /// The root directory of a user who gets no namespaces.
    confined: Option<PathBuf>,
}

impl World {
    /// As the user who runs the tests.
    pub(crate) fn new() -> Self {
        Self::build(None)
    }

    /// As an ordinary uid. With `tun` it gets a tun device node of its own with mode 0666 (decision 7); without, the
    /// device is closed to it. None, said as a skip, where that cannot be arranged.
    pub(crate) fn ordinary_user(tun: bool) -> Option<Self> {
        if !runs_here(&[Need::Root]) {
            return None;
        }
        let mut world = Self::build(Some(ORDINARY_UID));
        let node = world.path("tun");
        if tun {
            let made = rustix::fs::mknodat(
                rustix::fs::CWD,
                &node,
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::from_raw_mode(0o666),
                rustix::fs::makedev(10, 200),
            );
            if let Err(error) = made {
                skipped(&format!("no device node can be made: {error}"));
                return None;
            }
            fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
            if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(&node) {
                skipped(&format!(
                    "a tun device node under {} cannot be opened: {error}",
                    node.display()
                ));
                return None;
            }
        } else {
            fs::write(&node, "").unwrap();
            fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
        }
        world.env.push(("PODWIRE_TUN".into(), node.into()));
        Some(world)
    }

    /// As an ordinary uid that may make no namespaces either: in a root directory of its own, where Linux gives none to
    /// anybody without privilege (user_namespaces(7)).
    pub(crate) fn confined_user() -> Option<Self> {
        if !runs_here(&[Need::Tool("chroot"), Need::Tool("unshare")]) {
            return None;
        }
        let mut world = Self::ordinary_user(false)?;
        let root = world.path("root");
        fs::create_dir(&root).unwrap();
        world.confined = Some(root);
        Some(world)
    }

    fn build(uid: Option<u32>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let token = format!(
            "e2e-{}-{:03}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::Builder::new()
            .prefix(&format!("{token}-"))
            .tempdir()
            .expect("a temporary directory can be made");
        // The ordinary user has to reach it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for sub in ["run", "home"] {
            let path = dir.path().join(sub);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            if let Some(uid) = uid {
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
            }
        }
        let env = vec![
            ("PODWIRE_RUNTIME_DIR".into(), dir.path().join("run").into()),
            ("HOME".into(), dir.path().join("home").into()),
            ("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("LC_ALL".into(), "C".into()),
        ];
        let mut bin = PathBuf::from(env!("CARGO_BIN_EXE_podwire"));
        if uid.is_some() {
            // The target directory may lie in a home that the ordinary user may not enter.
            let copy = dir.path().join("podwire");
            // By a process of its own: a child that another test forks meanwhile would hold our descriptor for writing,
            // and a file that is open for writing can't be executed.
            let copied = Command::new("cp").arg(&bin).arg(&copy).status();
            assert!(
                copied.is_ok_and(|status| status.success()),
                "the binary can be copied"
            );
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
            bin = copy;
        }
        Self {
            dir,
            token,
            uid,
            env,
            bin,
            before: Host::look(),
            confined: None,
        }
    }

    /// A path in this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that the world's user can read.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().expect("a temporary path is UTF-8").to_owned()
    }

    /// The binary with these arguments, not started yet.
    pub(crate) fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = match &self.confined {
            None => Command::new(&self.bin),
            Some(root) => {
                let mut command = Command::new("unshare");
                let script =
                    "mount --rbind / \"$0\" && exec chroot --userspec=\"$1:$1\" \"$0\" \"${@:2}\"";
                let uid = self.uid.unwrap_or(ORDINARY_UID).to_string();
                command.args(["--mount", "bash", "-c", script]);
                command.arg(root).arg(uid).arg(&self.bin);
                command
            }
        };
        command.args(args.iter().map(AsRef::as_ref));
        self.dress(&mut command);
        command
    }

    /// Environment, directory and user of this world.
    fn dress(&self, command: &mut Command) {
        command.env_clear().stdin(Stdio::null());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command.current_dir(self.dir.path());
        if let Some(uid) = self.uid.filter(|_| self.confined.is_none()) {
            command.uid(uid).gid(uid);
        }
    }

    /// Runs podwire after these words of a shell.
    pub(crate) fn podwire_after<S: AsRef<str>>(&self, words: &str, args: &[S]) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{words} && exec \"$@\""), "sh"]);
        command.arg(&self.bin).args(args.iter().map(AsRef::as_ref));
        self.dress(&mut command);
        run(command, DEADLINE)
    }

    /// Runs podwire.
    pub(crate) fn podwire<S: AsRef<str>>(&self, args: &[S]) -> Output {
        run(self.command(args), DEADLINE)
    }

    /// Brings up a lab of the kindnet preset, or of what `args` say.
    pub(crate) fn up<S: AsRef<str>>(&self, args: &[S]) -> Lab<'_> {
        let lab = self.lab("");
        let mut words = vec!["up", "--name", lab.name.as_str()];
        words.extend(args.iter().map(AsRef::as_ref));
        self.podwire(&words).ok();
        lab
    }

    /// A lab by name, not started.
    pub(crate) fn lab(&self, suffix: &str) -> Lab<'_> {
        Lab {
            world: self,
            name: format!("{}{suffix}", self.token),
        }
    }

    /// Processes that belong to this world's labs.
    pub(crate) fn processes(&self) -> Vec<u32> {
        processes_of(&self.token)
    }

    /// Waits until nothing of this world is left, and says what is.
    pub(crate) fn assert_nothing_left(&self, namespaces: &HashSet<u64>) {
        let mut left = String::new();
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            left.clear();
            self.describe_leftovers(namespaces, &mut left);
            if left.is_empty() || Instant::now() > end {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(left.is_empty(), "still there:\n{left}");
    }

    fn describe_leftovers(&self, namespaces: &HashSet<u64>, left: &mut String) {
        use std::fmt::Write as _;
        for pid in self.processes() {
            let _ = writeln!(left, "process {pid}: {}", command_line(pid));
        }
        for (pid, ns) in holders_of(namespaces) {
            let _ = writeln!(
                left,
                "namespace net:[{ns}] held by process {pid}: {}",
                command_line(pid)
            );
        }
        for path in files_below(&self.path("run")) {
            let _ = writeln!(left, "file {}", path.display());
        }
        let now = Host::look();
        for iface in now.ifaces.difference(&self.before.ifaces) {
            let _ = writeln!(left, "interface {iface}");
        }
        for mount in now.mounts.difference(&self.before.mounts) {
            if mount.contains(&self.token) || mount.contains("podwire") {
                let _ = writeln!(left, "mount {mount}");
            }
        }
        for socket in now.sockets.difference(&self.before.sockets) {
            if socket.contains(&self.token) {
                let _ = writeln!(left, "socket {socket}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let namespaces = namespaces_of(&self.processes());
        let down = run_unchecked(self.command(&["down", "--all"]), DEADLINE);
        let failed = std::thread::panicking();
        if failed {
            // The test has failed already: leave nothing behind, whatever the state.
            for pid in self.processes() {
                kill(pid, Signal::KILL);
            }
            return;
        }
        let down = down.expect("down --all returns in time");
        assert!(down.status.success(), "down --all in the end: {down}");
        self.assert_nothing_left(&namespaces);
    }
}

/// A lab of a [`World`].
#[derive(Debug)]
pub(crate) struct Lab<'w> {
    pub(crate) world: &'w World,
    pub(crate) name: String,
}

impl Lab<'_> {
    /// The arguments with the lab's name in front.
    pub(crate) fn words<S: AsRef<str>>(&self, args: &[S]) -> Vec<String> {
        let mut words = vec!["--lab".to_owned(), self.name.clone()];
        words.extend(args.iter().map(|a| a.as_ref().to_owned()));
        words
    }

    /// Runs podwire for this lab.
    pub(crate) fn cmd<S: AsRef<str>>(&self, args: &[S]) -> Output {
        self.world.podwire(&self.words(args))
    }

    /// Runs podwire for this lab; it must succeed. Its standard output.
    pub(crate) fn out<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.cmd(args).ok().stdout
    }

    /// The standard output must match this text.
    #[track_caller]
    pub(crate) fn shows<S: AsRef<str>>(&self, args: &[S], expected: &str) -> Captures {
        let actual = self.out(args);
        pattern::matches(expected, &actual).unwrap_or_else(|diff| {
            panic!("podwire {}: not as expected:\n{diff}", join(args));
        })
    }

    /// Starts podwire for this lab and leaves it running.
    pub(crate) fn spawn<S: AsRef<str>>(&self, args: &[S]) -> Background {
        Background::start(self.world.command(&self.words(args)))
    }

    /// Creates a pod.
    pub(crate) fn run_pod(&self, pod: &str, node: &str) {
        self.cmd(&["run", pod, "--node", node]).ok();
    }

    /// The pod's address.
    pub(crate) fn ip_of(&self, pod: &str) -> String {
        let json = self.cmd(&["get", "pods", pod, "-o", "json"]).ok().json();
        string_at(&json, "podIP")
    }

    /// Process id of a node's process, as the host sees it.
    pub(crate) fn node_pid(&self, node: &str) -> u32 {
        let json = self.cmd(&["get", "nodes", node, "-o", "json"]).ok().json();
        find_key(&json, "pid")
            .and_then(Value::as_u64)
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_else(|| panic!("a node shows its pid: {json:#}"))
    }

    /// Process id of the daemon: the node processes are its children.
    pub(crate) fn daemon_pid(&self, node: &str) -> u32 {
        parent_of(self.node_pid(node)).expect("a running process has a parent")
    }

    /// Takes the lab down.
    pub(crate) fn down(&self) -> Output {
        self.world.podwire(&["down", &self.name])
    }
}

/// Searches objects and lists, depth first, for a key.
pub(crate) fn find_key<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map
            .get(key)
            .or_else(|| map.values().find_map(|v| find_key(v, key))),
        Value::Array(list) => list.iter().find_map(|v| find_key(v, key)),
        _ => None,
    }
}

/// The text under a key.
#[track_caller]
pub(crate) fn string_at(value: &Value, key: &str) -> String {
    find_key(value, key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text under {key} in {value:#}"))
        .to_owned()
}
