//! Programs that run to their end or in the background, and what they left.

use super::*;

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

pub(super) fn run_unchecked(mut command: Command, limit: Duration) -> Result<Output, String> {
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

pub(super) fn join<S: AsRef<str>>(args: &[S]) -> String {
    args.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

// ---------------------------------------------------------------------------------------------------------------
// The host, from outside.
