//! Starting this program again in another role, or another program.
//!
//! Decides what a child inherits: the named descriptors and nothing else, /dev/null as stdin, a given descriptor as
//! stdout and stderr; another program as many descriptors as podwire was given. Doesn't decide what the child does nor who waits for it. Source: execve(2), close_range(2), prctl(2).
//! Cost: one fork and one exec.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};

use super::limits;

/// What to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program; none is this program itself (`/proc/self/exe`, so that it works when the file was replaced).
    pub program: Option<PathBuf>,
    /// `argv[0]`, which is what `ps` shows.
    pub title: &'a str,
    /// The arguments after it. They name the numbers of [`Spawn::fds`], which stay what they are.
    pub args: Vec<OsString>,
    /// Added to this process's environment.
    pub env: &'a [(String, String)],
    /// In a process group of its own, so that it can be ended with everything that it starts.
    pub own_group: bool,
    /// Descriptors that the child inherits under their present numbers, and adopts with [`adopt`].
    pub fds: &'a [BorrowedFd<'a>],
    /// The child's stdout and stderr.
    pub log: BorrowedFd<'a>,
    /// SIGKILL when the *thread* that calls [`spawn`] ends: for callers whose thread lives as long as the process, and
    /// where no PID namespace does it better.
    pub die_with_thread: bool,
}

/// Starts it. The caller owns the [`Child`] and must wait for it.
///
/// # Errors
/// What fork, or exec in the child, says; nothing runs then.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Child> {
    let program = what
        .program
        .as_deref()
        .map_or_else(|| OsStr::new("/proc/self/exe"), |path| path.as_os_str());
    let mut command = Command::new(program);
    command
        .arg0(what.title)
        .args(&what.args)
        .envs(what.env.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(what.log.try_clone_to_owned()?)
        .stderr(what.log.try_clone_to_owned()?);
    if what.own_group {
        command.process_group(0);
    }
    let keep: Vec<RawFd> = what.fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let die_with_thread = what.die_with_thread;
    let parent = rustix::process::getpid();
    let files = what.program.as_ref().and_then(|_| limits::given());
    let prepare = move || prepare_child(&keep, files, die_with_thread, parent);
    // SAFETY: between fork and exec of a process with threads only async-signal-safe calls are allowed: `prepare_child`
    // makes system calls (close_range, fcntl, prctl, getppid, prlimit) and neither allocates nor takes a lock. The descriptors
    // are open in the child because the parent's borrow lasts until `spawn` below has returned.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Runs in the child between fork and exec.
fn prepare_child(
    keep: &[RawFd],
    files: Option<Rlimit>,
    die_with_thread: bool,
    parent: Pid,
) -> io::Result<()> {
    if let Some(files) = files {
        // Less than it has, which is never refused.
        let _ = setrlimit(Resource::Nofile, files);
    }
    // Everything is opened close-on-exec in this program; this is for what a library or the caller's parent left open.
    // An old kernel without the flag (before 5.11) refuses, which costs nothing but the second line of defence.
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing now; it only marks descriptors, whoever owns them.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    for &fd in keep {
        // SAFETY: the descriptor is open: the parent borrowed it across the fork.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    if die_with_thread {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // It died before the signal was asked for.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

/// In the child: takes over a descriptor whose number came on the command line, and makes it close-on-exec.
///
/// # Errors
/// `InvalidInput` for 0 to 2; `EBADF` when the number is not open; `AlreadyExists` when it is close-on-exec, which means that
/// this process opened it itself or has adopted it before.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: used for fcntl only, which answers EBADF when the number is not open; -1 was excluded above.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: the number is open and nobody owns it: everything that this program opens is close-on-exec, this one was
    // not, so it came through exec; and as it is close-on-exec from now on, it can't be adopted twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets what `ps -o comm` and `top` show for the calling thread; the kernel keeps 15 bytes.
pub fn set_command_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|&b| b != 0).take(15).collect();
    let name = CString::new(bytes).expect("zero bytes were filtered out");
    // Only cosmetic: a kernel that refuses changes nothing.
    let _ = rustix::thread::set_name(&name);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn run(script: &str, fds: &[BorrowedFd<'_>]) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut child = spawn(&Spawn {
            program: Some("/bin/sh".into()),
            title: "podwire: test",
            args: vec!["-c".into(), script.into()],
            env: &[],
            own_group: false,
            fds,
            log: theirs.as_fd(),
            die_with_thread: true,
        })
        .unwrap();
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        text
    }

    /// The child has exactly the named descriptors under their numbers, even when others lack close-on-exec.
    #[test]
    fn only_named_descriptors_are_inherited() {
        let (named, _far) = UnixStream::pair().unwrap();
        let (stray, _far2) = UnixStream::pair().unwrap();
        rustix::io::fcntl_setfd(&stray, FdFlags::empty()).unwrap();
        let (named_nr, stray_nr) = (named.as_raw_fd(), stray.as_raw_fd());
        let text = run(
            &format!(
                "for n in 0 1 2 {named_nr} {stray_nr}; do test -e /proc/self/fd/$n && echo $n; done; readlink /proc/self/fd/0"
            ),
            &[named.as_fd()],
        );
        assert_eq!(text, format!("0\n1\n2\n{named_nr}\n/dev/null\n"));
        // The parent's own descriptor is untouched.
        let flags = rustix::io::fcntl_getfd(&named).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
    }

    /// A program gets what is added to its environment, and a process group of its own when it wants one.
    #[test]
    fn environment_and_group_are_set() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut child = spawn(&Spawn {
            program: Some("sh".into()),
            title: "sh",
            args: vec![
                "-c".into(),
                "echo $NAME; cut -d' ' -f5 /proc/$$/stat".into(),
            ],
            env: &[("NAME".to_owned(), "value".to_owned())],
            own_group: true,
            fds: &[],
            log: theirs.as_fd(),
            die_with_thread: true,
        })
        .unwrap();
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(text, format!("value\n{}\n", child.id()));
    }

    /// Programs get the limit of descriptors that podwire was given, not the one that it takes for itself.
    #[test]
    fn a_program_has_the_limit_that_was_given() {
        let given = rustix::process::getrlimit(Resource::Nofile);
        let raised = limits::raise_open_files();
        let text = run("ulimit -Sn; ulimit -Hn", &[]);
        let word =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        assert_eq!(
            text,
            format!("{}\n{}\n", word(given.current), word(given.maximum))
        );
        assert!(raised >= given.maximum.unwrap_or(0), "{raised}");
    }

    /// `ps` shows the title.
    #[test]
    fn the_title_is_argv_0() {
        let text = run("tr '\\0' '\\n' < /proc/$$/cmdline | head -1", &[]);
        assert_eq!(text, "podwire: test\n");
    }

    /// A program that does not exist is an error of `spawn`, not a child that dies.
    #[test]
    fn a_missing_program_is_an_error() {
        let (a, _b) = UnixStream::pair().unwrap();
        let result = spawn(&Spawn {
            program: Some("/nonexistent/program".into()),
            title: "x",
            args: Vec::new(),
            env: &[],
            own_group: false,
            fds: &[],
            log: a.as_fd(),
            die_with_thread: false,
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Adopting what is not there, what is standard, or what this process opened itself is refused.
    #[test]
    fn adopting_is_only_for_inherited_descriptors() {
        assert_eq!(adopt(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(adopt(-1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            adopt(1_000_000).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        let (a, _b) = UnixStream::pair().unwrap();
        let error = adopt(a.as_raw_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
