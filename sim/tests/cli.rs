//! The binary's words, streams and exit codes, without a lab or with the demo's.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

fn podwire(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    command(args, dir.path()).output().expect("the binary runs")
}

fn command(args: &[&str], runtime: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    command
        .args(args)
        .env_clear()
        .env("PODWIRE_RUNTIME_DIR", runtime)
        .stdin(Stdio::null());
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// (words, exit code, what stderr says)
#[test]
fn wrong_words_and_missing_labs_have_their_exit_codes() {
    for (words, code, says) in [
        (&["pods"][..], 2, "unrecognized"),
        (&["get"], 2, "required"),
        (&["get", "podz"], 2, "did you mean \"pods\""),
        (&["get", "netpol"], 1, "no lab runs"),
        (&["get", "pods"], 1, "no lab runs"),
        (&["--lab", "x", "get", "pods"], 1, "lab x does not run"),
        (&["ping", "a"], 2, "required"),
        (&["ping", "a", "b", "--all"], 2, "cannot be used with"),
        (&["ping", "a", "b", "-i", "0"], 2, "1 ms"),
        (&["ping", "a", "b", "-t", "0"], 2, "invalid"),
        (&["run", "a", "--labels", "x"], 2, "KEY=VALUE"),
        (&["get", "pods", "-l", "a in (b)"], 2, "label requirement"),
        (&["exec", "a"], 2, "required"),
        (&["exec", "a", "--", "true"], 125, "no lab runs"),
        (&["shell", "a"], 125, "no lab runs"),
        (&["delete", "pod", "x"], 1, "no lab runs"),
        (&["ip", "-n", "x", "route"], 1, "no lab runs"),
        (
            &["ip", "frob"],
            1,
            "Object \"frob\" is unknown, try \"ip help\".",
        ),
        (
            &["ip", "-n", "x", "route", "get"],
            1,
            "need at least a destination address",
        ),
        (
            &["ip", "-x", "route"],
            255,
            "Option \"-x\" is unknown, try \"ip -help\".",
        ),
        (&["completion", "tcsh"], 2, "possible values"),
    ] {
        let output = podwire(words);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{words:?}: {}",
            err(&output)
        );
        assert!(err(&output).contains(says), "{words:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{words:?}: errors are no data");
    }
}

#[test]
fn nothing_running_is_no_error_where_nothing_is_wanted() {
    for (words, stdout) in [
        (&["ps"][..], ""),
        (&["down"], ""),
        (&["down", "--all"], ""),
        (&["down", "nobody"], ""),
        (&["ps", "-o", "name"], ""),
    ] {
        let output = podwire(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", err(&output));
        assert_eq!(out(&output), stdout, "{words:?}");
    }
    let list = podwire(&["ps", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert_eq!(list["items"], serde_json::json!([]));
}

#[test]
fn quiet_leaves_out_the_talk() {
    assert_eq!(err(&podwire(&["ps"])), "No lab runs.\n");
    assert_eq!(err(&podwire(&["-q", "ps"])), "");
}

#[test]
fn help_and_version_are_data() {
    for (words, says) in [
        (&["--help"][..], "Exit status"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = podwire(words);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains(says), "{}", out(&output));
    }
    assert!(
        !out(&podwire(&["--help"])).contains("__"),
        "internal names are not shown"
    );
}

#[test]
fn every_shell_gets_a_script_that_names_the_verbs_and_nothing_internal() {
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&podwire(&["completion", shell]));
        assert!(script.contains("describe"), "{shell}");
        assert!(!script.contains("__daemon"), "{shell}");
    }
}

/// `podwire completion bash | head -1`: the reader goes away in the middle.
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child = command(&["completion", "bash"], dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    stderr.read_to_string(&mut said).expect("text");
    let status = child.wait().expect("it ends");
    assert_eq!(said, "");
    assert_eq!(status.code(), Some(141));
}

#[test]
fn colour_is_for_terminals_unless_asked_for() {
    let plain = podwire(&["get", "pods"]);
    assert!(!err(&plain).contains('\x1b'), "{}", err(&plain));
    let coloured = podwire(&["--color", "always", "get", "pods"]);
    assert!(err(&coloured).contains('\x1b'), "{}", err(&coloured));
}

/// A demo whose lab runs: its first lines are read, more are to come.
fn running_demo(dir: &std::path::Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = command(&["demo", "--backend", "inproc", "--wait", "30s"], dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut line = String::new();
    while !line.contains("up --preset kindnet") {
        line.clear();
        let read = stdout.read_line(&mut line).expect("text");
        assert_ne!(read, 0, "the demo ended before its lab was up");
    }
    (child, stdout)
}

fn nothing_left(dir: &std::path::Path) {
    let left: Vec<_> = std::fs::read_dir(dir)
        .expect("the runtime directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupted_demo_takes_its_lab_down() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut child, mut stdout) = running_demo(dir.path());
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::INT)
        .expect("it runs");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest}");
    nothing_left(dir.path());
}

/// `podwire demo | head -5`
#[test]
fn a_demo_that_nobody_reads_takes_its_lab_down() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut child, stdout) = running_demo(dir.path());
    drop(stdout);
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(141), "{said}");
    assert_eq!(said, "");
    nothing_left(dir.path());
}
