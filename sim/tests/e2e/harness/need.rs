//! What a test needs from the machine, and what it says where that is missing.

use super::*;

/// What a test needs from the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// The tap back end as the user who runs the tests.
    Tap,
    /// The packet back end as the user who runs the tests.
    Packet,
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
            Self::Tap => tun_missing().or_else(namespaces_missing),
            Self::Packet => namespaces_missing(),
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

/// Why the caller cannot have TAP devices, by what the system says rather than by asking podwire.
fn tun_missing() -> Option<String> {
    let tun = std::env::var_os("PODWIRE_TUN").unwrap_or_else(|| "/dev/net/tun".into());
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(&tun) {
        return Some(format!("{}: {error}", Path::new(&tun).display()));
    }
    None
}

/// Why the caller cannot have namespaces.
fn namespaces_missing() -> Option<String> {
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
