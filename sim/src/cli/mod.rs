//! The command line: words in, exit status out.
//!
//! One file per verb. Data goes to stdout, talk to stderr (`ui`); every failure is a [`Failure`] with its documented exit
//! code. Asking the daemon is the client's business, printing state is `view`'s. The names that begin with `__` are the
//! program in another role (daemon, node process) and are dispatched before clap sees them, as bring-up time counts.

mod apply;
mod bench;
mod calico;
mod capture;
mod completion;
mod delete;
mod demo;
mod describe;
mod doctor;
mod down;
mod exec;
mod failure;
mod get;
mod ip;
mod link;
mod logs;
mod matrix;
mod nat;
mod node;
mod objects;
mod ping;
mod port_forward;
mod ps;
mod run;
mod stats;
mod target;
mod trace;
mod ui;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use failure::Failure;
use ui::Ui;

/// A whole Kubernetes cluster's network on one machine, with one command.
#[derive(Debug, Parser)]
#[command(name = "podwire", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  a check failed (a ping lost), or a name is unknown or taken
  2  usage
  3  invalid configuration
  4  this host cannot do it; `podwire doctor` says why
  5  not ready in time
  70 a bug of podwire

exec and shell pass on the program's own status; 125, 126 and 127 are those of docker exec";

/// Options that every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The lab that is meant [default: the only one that runs]
    #[arg(long, global = true, value_name = "NAME", env = "PODWIRE_LAB")]
    lab: Option<String>,
    /// Say nothing but data and errors
    #[arg(short, long, global = true, env = "PODWIRE_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    quiet: bool,
    /// Say on stderr what is asked and how long it takes
    #[arg(short, long, global = true, env = "PODWIRE_VERBOSE", value_parser = clap::builder::FalseyValueParser::new())]
    verbose: bool,
    /// When to use colour (NO_COLOR is honoured)
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        env = "PODWIRE_COLOR"
    )]
    color: Color,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the main job: a 3-node kindnet cluster, up, inspected, pinged, torn down
    Demo(demo::Demo),
    /// Bring a lab to the declared state; it stays up in the background
    Up(up::Up),
    /// Remove a lab: every process, namespace, socket and file of it
    Down(down::Down),
    /// List the labs that run
    Ps(ps::Ps),
    /// Run a pod, optionally with a program in it
    Run(run::Run),
    /// Create what manifests declare (pods, nodes, network policies, services ..); what is there already is fine
    Apply(apply::Apply),
    /// Create what manifests declare; what is there already is an error
    Create(apply::Apply),
    /// Delete pods, nodes, network policies and so on, by name or by manifest
    Delete(delete::Delete),
    /// Run a program in a pod or in a node's host namespace
    Exec(exec::Exec),
    /// Start a shell in a pod or in a node's host namespace
    Shell(exec::Shell),
    /// Forward ports of this machine to a pod, as kubectl does
    PortForward(port_forward::PortForward),
    /// Print the log of a pod's program, of a node process or of the daemon
    Logs(logs::Logs),
    /// List nodes, pods, network policies and so on, as kubectl does
    Get(get::Get),
    /// Show objects in detail
    Describe(describe::Describe),
    /// Show or change a node's links, addresses, routes and neighbours, in iproute2's words
    Ip(ip::Ip),
    /// Let a node join or leave the running cluster
    Node(node::Node),
    /// Show a node's nat table and connections, or forget connections
    Nat(nat::Nat),
    /// Ping between pods, nodes and addresses; needs no tool installed
    Ping(ping::Ping),
    /// Follow one packet through the lab: every hop, every decision, with its reason
    Trace(trace::Trace),
    /// Impair links (delay, loss, rate ..), cut and mend them
    Link(link::Link),
    /// Capture packets of pods, nodes and ports: a line each, or a pcapng file
    Capture(capture::Capture),
    /// Show counters by node, port and reason for drops
    Stats(stats::Stats),
    /// Say what this host allows, which back end that means, and what would enable more
    Doctor(doctor::Doctor),
    /// Measure the data plane on this machine, in less than a minute
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completion(completion::Completion),
}

/// Runs the program with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = role(&args) {
        return code;
    }
    match std::panic::catch_unwind(|| run(args)) {
        Ok(code) => ExitCode::from(code),
        Err(_) => {
            // The panic hook has printed where and what.
            ui::bug();
            ExitCode::from(failure::BUG)
        }
    }
}

/// The hidden roles; none when the words are a user's.
fn role(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        crate::node::process::NODE_COMMAND => Some(crate::node::process::main(&args[1..])),
        crate::dns::server::COMMAND => Some(ExitCode::from(crate::dns::server::main(&args[2..]))),
        crate::daemon::COMMAND => Some(ExitCode::from(crate::daemon::main(
            args[2..].iter().cloned(),
        ))),
        _ => None,
    }
}

fn run(args: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, usage errors to stderr with 2. A closed pipe is nobody's fault.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(failure::USAGE);
        }
    };
    let ui = Ui::new(&cli.global);
    let done = match &cli.verb {
        Verb::Demo(verb) => verb.run(&cli.global, &ui),
        Verb::Up(verb) => verb.run(&cli.global, &ui),
        Verb::Apply(verb) => verb.run(&cli.global, apply::Existing::Accept, &ui),
        Verb::Create(verb) => verb.run(&cli.global, apply::Existing::Refuse, &ui),
        Verb::Bench(verb) => verb.run(&ui),
        Verb::Doctor(verb) => verb.run(&ui),
        Verb::Down(verb) => verb.run(&cli.global, &ui),
        Verb::Ps(verb) => verb.run(&ui),
        Verb::Run(verb) => verb.run(&cli.global, &ui),
        Verb::Delete(verb) => verb.run(&cli.global, &ui),
        Verb::Exec(verb) => verb.run(&cli.global),
        Verb::Shell(verb) => verb.run(&cli.global),
        Verb::PortForward(verb) => verb.run(&cli.global, &ui),
        Verb::Logs(verb) => verb.run(&cli.global, &ui),
        Verb::Get(verb) => verb.run(&cli.global, &ui),
        Verb::Describe(verb) => verb.run(&cli.global, &ui),
        Verb::Ip(verb) => verb.run(&cli.global, &ui),
        Verb::Node(verb) => verb.run(&cli.global, &ui),
        Verb::Nat(verb) => verb.run(&cli.global, &ui),
        Verb::Ping(verb) => verb.run(&cli.global, &ui),
        Verb::Trace(verb) => verb.run(&cli.global, &ui),
        Verb::Link(verb) => verb.run(&cli.global, &ui),
        Verb::Capture(verb) => verb.run(&cli.global, &ui),
        Verb::Stats(verb) => verb.run(&cli.global, &ui),
        Verb::Completion(verb) => verb.run(&ui),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            ui.error(&failure);
            failure.code
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_of_verbs_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_internal_name_is_shown() {
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("__"), "{help}");
    }

    /// A paragraph that was broken by hand would be broken once more where it is too wide.
    #[test]
    fn help_is_broken_where_the_terminal_ends_and_nowhere_else() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let after = [command.get_after_help(), command.get_after_long_help()];
            for text in after.into_iter().flatten().map(ToString::to_string) {
                for paragraph in text.split("\n\n").filter(|text| text.contains('\n')) {
                    let widest = paragraph.lines().map(|line| line.chars().count()).max();
                    assert!(widest <= Some(80), "{}: {paragraph}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn a_typo_is_answered_with_the_nearest_verb() {
        let error = Cli::try_parse_from(["podwire", "pingg"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("ping"), "{error}");
    }
}
