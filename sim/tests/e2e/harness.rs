//! A place of its own for each test, the real binary in it, and a look at the host before and after.
//!
//! A [`World`] is a temporary directory with a runtime directory (`PODWIRE_RUNTIME_DIR`), a user to run as, and lab
//! names that no other test has. When it goes out of scope every lab in it is taken down and the host is compared with
//! what it was: no process, network namespace, socket, file, mount or interface of the labs may be left.

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

/// How long any one command may take, generous for a debug build on a machine that does other things as well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An ordinary uid, and gid, without a name, a home or any privilege.
const ORDINARY_UID: u32 = 54_321;

/// What a test needs from the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// The tap back end as the user who runs the tests.
    Tap,
    /// uid 0, to become another user and to make device nodes.
    Root,
    /// A program in the search path.
    Tool(&'static str),
}

impl Need {
    /// True when the machine has it; for tests that take what there is.
    pub(crate) fn is_met(self) -> bool {
        self.missing().is_none()
    }

    fn missing(self) -> Option<String> {
        match self {
            Self::Tap => tap_missing(),
            Self::Root => (!rustix::process::geteuid().is_root())
                .then(|| "needs root, to become another user".to_owned()),
            Self::Tool(name) => find_tool(name)
                .is_none()
                .then(|| format!("{name} is not installed")),
        }
    }
}

/// True when the test can run here. Says SKIPPED with the reason where not, or fails when nothing may be skipped
/// (`PODWIRE_REQUIRE_ALL=1`).
pub(crate) fn runs_here(needs: &[Need]) -> bool {
    needs
        .iter()
        .find_map(|need| need.missing())
        .is_none_or(|reason| {
            skipped(&reason);
            false
        })
}

/// Prints that this test is skipped, around the test runner's capture so that it is always seen.
pub(crate) fn skipped(reason: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    assert!(
        std::env::var_os("PODWIRE_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "PODWIRE_REQUIRE_ALL=1 and this test cannot run: {reason}"
    );
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test");
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {name}: {reason} ({count} skipped so far in this binary)"
    );
}

/// Why the tap back end cannot be used by the caller, by what the system says rather than by asking podwire.
fn tap_missing() -> Option<String> {
    let tun = std::env::var_os("PODWIRE_TUN").unwrap_or_else(|| "/dev/net/tun".into());
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(&tun) {
        return Some(format!("{}: {error}", Path::new(&tun).display()));
    }
    let wants = if rustix::process::geteuid().is_root() {
        "-nmp"
    } else {
        "-Urnmp"
    };
    // Where util-linux is missing the lab itself will tell.
    let unshare = find_tool("unshare")?;
    let done = Command::new(unshare)
        .args([wants, "--fork", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    (!done.is_ok_and(|s| s.success())).then(|| format!("unshare {wants} is not permitted"))
}

/// The first program of that name that every user may run.
pub(crate) fn find_tool(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

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
        let mut command = Command::new(&self.bin);
        command
            .args(args.iter().map(AsRef::as_ref))
            .env_clear()
            .stdin(Stdio::null());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command.current_dir(self.dir.path());
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
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

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) what: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n{} after {:?}\n--- stdout\n{}--- stderr\n{}",
            self.what, self.status, self.took, self.stdout, self.stderr
        )
    }
}

impl Output {
    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// It must have failed with this code and said each of these on stderr.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        for text in says {
            assert!(
                self.stderr.contains(text),
                "stderr should say {text:?}: {self}"
            );
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }

    /// Standard output must contain this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "stdout should say {text:?}: {self}"
        );
        self
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it takes longer than `limit`, or when something it left behind keeps its output open.
#[track_caller]
pub(crate) fn run(command: Command, limit: Duration) -> Output {
    run_unchecked(command, limit).unwrap_or_else(|problem| panic!("{problem}"))
}

fn run_unchecked(mut command: Command, limit: Duration) -> Result<Output, String> {
    let what = describe(&command);
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{what}: {e}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let in_time = wait_for(&child, limit);
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| format!("{what}: {e}"))?;
    let took = start.elapsed();
    let grace = Duration::from_secs(5);
    let (stdout, open_out) = stdout.finish(grace);
    let (stderr, open_err) = stderr.finish(grace);
    let output = Output {
        what,
        status,
        stdout,
        stderr,
        took,
    };
    if !in_time {
        return Err(format!("not done within {limit:?}: {output}"));
    }
    if open_out || open_err {
        return Err(format!(
            "a process that it left behind holds its output open: {output}"
        ));
    }
    Ok(output)
}

/// A command that goes on in the background. Killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Background {
    what: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Background {
    pub(crate) fn start(mut command: Command) -> Self {
        let what = describe(&command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let (tx, lines) = mpsc::channel();
        let out = child.stdout.take().expect("piped");
        let err = child.stderr.take().expect("piped");
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let tx = tx.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if tx.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            what,
            child,
            lines,
            seen: String::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads on until a line on stdout or stderr contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("{}: never said {text:?}, but\n{}", self.what, self.seen),
            }
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) -> (ExitStatus, String) {
        assert!(
            wait_for(&self.child, limit),
            "{}: not done within {limit:?}",
            self.what
        );
        let status = self.child.wait().expect("a child can be waited for");
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        (status, std::mem::take(&mut self.seen))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // `exec` forwards a SIGTERM to the program inside, a SIGKILL it can't.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(self.child.id(), Signal::TERM);
            if !wait_for(&self.child, Duration::from_secs(5)) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether the status says "ended by that signal", as the kernel or as a shell's exit code tells it.
pub(crate) fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw()) || status.code() == Some(128 + signal.as_raw())
}

fn wait_for(child: &Child, limit: Duration) -> bool {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    let fd: OwnedFd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .expect("a child that was not waited for has a pidfd");
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).expect("a limit in seconds"),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout))),
        Ok(1)
    )
}

struct Collector {
    done: mpsc::Receiver<()>,
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Collector {
    /// What came so far, and whether the stream is still open after `grace`.
    fn finish(self, grace: Duration) -> (String, bool) {
        let open = matches!(
            self.done.recv_timeout(grace),
            Err(mpsc::RecvTimeoutError::Timeout)
        );
        let bytes = self.bytes.lock().expect("the reader does not panic");
        (String::from_utf8_lossy(&bytes).into_owned(), open)
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Collector {
    let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (tx, done) = mpsc::channel();
    let sink = std::sync::Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut stream = stream.expect("piped");
        let mut buffer = [0; 4096];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 {
                break;
            }
            sink.lock()
                .expect("nobody panics with it")
                .extend_from_slice(&buffer[..n]);
        }
        drop(tx);
    });
    Collector { done, bytes }
}

fn describe(command: &Command) -> String {
    let mut text = String::from("podwire");
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

fn join<S: AsRef<str>>(args: &[S]) -> String {
    args.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

// ---------------------------------------------------------------------------------------------------------------
// The host, from outside.

/// What of the host a lab could leave something in.
#[derive(Debug)]
struct Host {
    ifaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
    sockets: BTreeSet<String>,
}

impl Host {
    fn look() -> Self {
        let lines = |path: &str| -> BTreeSet<String> {
            fs::read_to_string(path)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect()
        };
        Self {
            ifaces: lines("/proc/self/net/dev")
                .iter()
                .filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()))
                .collect(),
            mounts: lines("/proc/self/mountinfo"),
            // The last column is the path, behind numbers that change.
            sockets: lines("/proc/self/net/unix")
                .iter()
                .filter_map(|l| l.split_whitespace().nth(7).map(str::to_owned))
                .collect(),
        }
    }
}

fn all_processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Processes whose command line or environment names `token`, except this one's own clients that it waits for.
fn processes_of(token: &str) -> Vec<u32> {
    let own = std::process::id();
    let names = |path: String| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(token.len()).any(|w| w == token.as_bytes()))
    };
    all_processes()
        .filter(|&pid| pid != own)
        .filter(|pid| {
            names(format!("/proc/{pid}/cmdline")) || names(format!("/proc/{pid}/environ"))
        })
        .collect()
}

pub(crate) fn command_line(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .unwrap_or_default()
}

pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Inode numbers of the network namespaces that these processes are in or hold open, the host's own left out.
pub(crate) fn namespaces_of(pids: &[u32]) -> HashSet<u64> {
    let own = fs::metadata("/proc/self/ns/net")
        .map(|m| m.ino())
        .unwrap_or_default();
    let mut found = HashSet::new();
    for pid in pids {
        found.extend(namespace_links(*pid));
    }
    found.remove(&own);
    found
}

fn namespace_links(pid: u32) -> Vec<u64> {
    let mut found = Vec::new();
    let inode = |link: PathBuf| -> Option<u64> {
        link.to_str()?
            .strip_prefix("net:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    found.extend(
        fs::read_link(format!("/proc/{pid}/ns/net"))
            .ok()
            .and_then(inode),
    );
    if let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) {
        for fd in fds.flatten() {
            found.extend(fs::read_link(fd.path()).ok().and_then(inode));
        }
    }
    found
}

/// Processes that are in, or hold open, one of these network namespaces.
fn holders_of(namespaces: &HashSet<u64>) -> Vec<(u32, u64)> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    all_processes()
        .flat_map(|pid| namespace_links(pid).into_iter().map(move |ns| (pid, ns)))
        .filter(|(_, ns)| namespaces.contains(ns))
        .collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(files_below(&entry.path()));
        }
    }
    found
}
