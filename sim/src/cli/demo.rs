//! `podwire demo`: the main job in one go, as one would show it to a colleague.
//!
//! Every command line that is printed is one that works; what stands below it is what it prints. The lab has a name of
//! its own, so that it meets no other, and is taken down whatever happens on the way.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::failure::{BROKEN_PIPE, BUG, FAILED};
use super::get::{machine, now_ms};
use super::matrix::{Matrix, channel, members};
use super::run::bare_pod;
use super::target::{Place, nodes, place, pods, with_routes};
use super::ui::{BOLD, CYAN, DIM, GREEN, RED, Ui};
use super::up::BackendArg;
use super::{Failure, Global};
use crate::client::launch::start;
use crate::client::{self, Client};
use crate::control::proto::{Request, Response};
use crate::lab::{self, Overrides};
use crate::model::Pod;
use crate::ping::{self, MatrixOptions, Options};
use crate::spec::Backend;
use crate::view::kube::{self, Columns};
use crate::view::{self, ip};

/// Shows the main job.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// How pods are made
    #[arg(long, value_enum, default_value_t, env = "PODWIRE_BACKEND")]
    backend: BackendArg,
    /// How long to wait until everything works
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "PODWIRE_WAIT")]
    wait: Duration,
}

/// 128 + SIGINT
const INTERRUPTED: u8 = 130;

impl Demo {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let name = global
            .lab
            .clone()
            .unwrap_or_else(|| format!("demo-{}", std::process::id()));
        let overrides = Overrides {
            preset: Some("kindnet".to_owned()),
            nodes: None,
            name: Some(name.clone()),
            network_policy: None,
            offload: None,
            workers: None,
        };
        let lab = lab::load(&[], &overrides)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Failure::new(BUG, format!("no signal handler: {error}")))?;
        }
        let mut show = Show { ui, interrupted };

        show.say("podwire: a 3-node Kubernetes cluster's network (kindnet) on this machine\n")?;
        let began = Instant::now();
        let started = start(&lab, self.backend.choice(), self.wait)?;
        let guard = Guard { name: &name };
        let up = began.elapsed();
        show.command("up --preset kindnet", up)?;
        show.say(&format!(
            "back end {BOLD}{}{BOLD:#}: {}{}\n",
            view::ps::backend(started.backend),
            started.reason,
            if started.rootless {
                ", in a user namespace of its own"
            } else {
                ""
            }
        ))?;
        show.say(match started.backend {
            Backend::Tap => "Each node is a process (a userspace router), each pod a network namespace with a TAP device.\n",
            Backend::Packet => "Each node is a process (a userspace router), each pod a network namespace with a veth.\n",
            Backend::Inproc => "Each node is a process (a userspace router), each pod a network stack inside it.\n",
        })?;
        let good = show.lab(&name, started.backend)?;
        let began = Instant::now();
        guard.down()?;
        show.command("down", began.elapsed())?;
        show.say("Every process, namespace, socket and file of it is gone.\n")?;
        show.invite(started.backend)?;
        let (style, verdict) = if good {
            (GREEN, "Every ping was answered.")
        } else {
            (RED, "Not every ping was answered.")
        };
        ui.data(&format!(
            "{style}{verdict}{style:#} Up in {} ms.\n",
            up.as_millis()
        ));
        Ok(if good { 0 } else { FAILED })
    }
}

/// Takes the lab down, whatever happens.
struct Guard<'a> {
    name: &'a str,
}

impl Guard<'_> {
    fn down(self) -> Result<(), Failure> {
        let name = self.name;
        std::mem::forget(self);
        client::down(name)?;
        Ok(())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // The reason why we are here is told already.
        let _ = client::down(self.name);
    }
}

/// Prints the steps and stops between them when the user wants to.
struct Show<'a> {
    ui: &'a Ui,
    interrupted: Arc<AtomicBool>,
}

impl Show<'_> {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::new(
                INTERRUPTED,
                "interrupted; the lab is taken down",
            ));
        }
        // A reader that went away must not keep the lab from being taken down.
        let gone = |error| Failure::verbatim(BROKEN_PIPE, format!("standard output: {error}"));
        self.ui.try_data(text).map_err(gone)
    }

    /// A command line with the time that it took.
    fn command(&mut self, words: &str, took: Duration) -> Result<(), Failure> {
        let line = format!("podwire {words}");
        let ms = took.as_secs_f64() * 1000.0;
        let time = if ms < 10.0 {
            format!("{ms:.1} ms")
        } else {
            format!("{ms:.0} ms")
        };
        self.say(&format!(
            "\n{CYAN}${CYAN:#} {BOLD}{line:<58}{BOLD:#} {DIM}{time:>9}{DIM:#}\n"
        ))
    }

    /// What there is to see in a running lab. True when every ping was answered.
    fn lab(&mut self, name: &str, backend: Backend) -> Result<bool, Failure> {
        let began = Instant::now();
        let mut client = Client::find(Some(name))?;
        let nodes = nodes(&mut client)?;
        let mut began = Some(began);
        for (status, pod) in nodes.iter().zip(["web", "client", "db"]) {
            let node = &status.node.name;
            let from = began.take().unwrap_or_else(Instant::now);
            let request = Request::AddPod {
                pod: Box::new(bare_pod("default", pod, node)),
            };
            let Response::Changes { lines } = client.request(&request)? else {
                return Err(client.unexpected("run").into());
            };
            self.command(&format!("run {pod} --node {node}"), from.elapsed())?;
            self.say(&(lines.join("\n") + "\n"))?;
        }

        let began = Instant::now();
        let nodes = super::target::nodes(&mut client)?;
        let wide = Columns {
            wide: true,
            ..Columns::default()
        };
        let table = kube::nodes(&nodes, Columns::default(), &machine(), now_ms());
        self.command("get nodes", began.elapsed())?;
        self.say(&table)?;

        let began = Instant::now();
        let pods = pods(&mut client)?;
        let own: Vec<&Pod> = pods
            .iter()
            .filter(|pod| pod.namespace == "default")
            .collect();
        let table = kube::pods(&own, wide, now_ms());
        self.command("get pods -o wide", began.elapsed())?;
        self.say(&table)?;

        let middle = &nodes[nodes.len() / 2];
        let words = format!("ip -n {} route", middle.node.name);
        let began = Instant::now();
        let routes = ip::View::Route(ip::RouteFilter::default());
        let middle = with_routes(&mut client, &middle.node)?;
        let text = ip::print(&routes, &ip::Options::default(), &middle, &[])
            .map_err(|error| Failure::new(error.status, error.message))?;
        self.command(&words, began.elapsed())?;
        self.say(&text)?;

        if backend.has_namespaces() {
            self.program(name)?;
        }

        let from = place("client", "default", &nodes, &pods)?;
        let to = place("db", "default", &nodes, &pods)?;
        let Place::Member { target, .. } = &from else {
            return Err(Failure::new(
                BUG,
                "a pod of the demo is no member of its lab",
            ));
        };
        let options = Options {
            count: Some(3),
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            ..Options::default()
        };
        let channel = channel(&mut client, target)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let began = Instant::now();
        let statistics = ping::ping(&channel, "db", to.ip(), &options, None, &mut out, &mut err)
            .map_err(|error| Failure::new(FAILED, format!("the ping ended: {error}")))?;
        self.command("ping client db -i 100ms", began.elapsed())?;
        self.say(&String::from_utf8_lossy(&out))?;
        self.say(&String::from_utf8_lossy(&err))?;

        let began = Instant::now();
        let matrix = Matrix::measure(
            &mut client,
            members(&nodes, &pods),
            &MatrixOptions::default(),
        )?;
        self.command("ping --all", began.elapsed())?;
        self.say(&matrix.table())?;
        self.say(&format!("\n{}\n", matrix.summary()))?;
        for line in matrix.failures() {
            self.say(&format!("{line}\n"))?;
        }
        Ok(statistics.received == statistics.transmitted && matrix.answered() == matrix.sent())
    }

    /// A real program in a pod: `ls`, which every machine has.
    fn program(&mut self, name: &str) -> Result<(), Failure> {
        let began = Instant::now();
        let output = Command::new("/proc/self/exe")
            .args([
                "--lab",
                name,
                "exec",
                "client",
                "--",
                "ls",
                "/sys/class/net",
            ])
            .output()
            .map_err(|error| Failure::new(BUG, format!("podwire can't start itself: {error}")))?;
        self.command("exec client -- ls /sys/class/net", began.elapsed())?;
        self.say(&String::from_utf8_lossy(&output.stdout))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(
            FAILED,
            String::from_utf8_lossy(&output.stderr).trim_end(),
        ))
    }

    fn invite(&mut self, backend: Backend) -> Result<(), Failure> {
        let mut lines = vec![
            ("podwire up", "the same cluster, and it stays"),
            ("podwire run a --node minikube-m02", "one more pod"),
            ("podwire ip -n minikube-m02 addr", "what the node sees"),
            (
                "podwire node add minikube-m04",
                "a node joins, the others learn its route",
            ),
        ];
        if backend.has_namespaces() {
            lines.push(("podwire shell a", "any program runs in a pod"));
        } else {
            lines.push(("podwire doctor", "what would let real programs run in pods"));
        }
        lines.push(("podwire down", "as if nothing had been"));
        let mut text = format!("\n{BOLD}Go on with{BOLD:#}\n");
        for (command, what) in lines {
            text += &format!("  {command:<36} {DIM}# {what}{DIM:#}\n");
        }
        self.say(&(text + "\n"))
    }
}
