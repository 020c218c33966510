//! `podwire port-forward`

use std::io;
use std::sync::Arc;

use clap::Args;

use super::failure::FAILED;
use super::target::{DEFAULT_NAMESPACE, find_pod, parse, pods};
use super::ui::Ui;
use super::{Failure, Global};
use crate::client::Client;
use crate::client::enter::EnterError;
use crate::client::forward::{self, End, Listening, Pair, Stop};
use crate::control::proto::Target;
use crate::model::Phase;

/// Forwards ports of this machine to a pod.
#[derive(Args, Debug)]
pub(super) struct PortForward {
    /// POD, NS/POD or pod/POD
    pod: String,
    /// Port here and port of the pod; one number is both, :PORT takes any free one here
    #[arg(required = true, value_name = "[LOCAL]:PORT", value_parser = pair)]
    ports: Vec<Pair>,
    /// Kubernetes namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, env = "PODWIRE_NAMESPACE")]
    namespace: String,
}

fn pair(word: &str) -> Result<Pair, String> {
    let (local, remote) = match word.split_once(':') {
        None => (word, word),
        Some((local, remote)) => (if local.is_empty() { "0" } else { local }, remote),
    };
    let number = |word: &str, which: &str| {
        let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        word.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| format!("{which} port \"{word}\" is no number up to 65535"))
    };
    let pair = Pair {
        local: number(local, "local")?,
        remote: number(remote, "remote")?,
    };
    if pair.remote == 0 {
        return Err("remote port must be > 0".to_owned());
    }
    Ok(pair)
}

/// kubectl's words.
struct Words;

impl forward::Talk for Words {
    fn connected(&self, pair: Pair) {
        say(&format!("Handling connection for {}\n", pair.local));
    }

    fn failed(&self, pair: Pair, error: &io::Error) {
        let Pair { local, remote } = pair;
        let _ = io::Write::write_all(
            &mut anstream::stderr(),
            format!("error: an error occurred forwarding {local} -> {remote}: {error}\n")
                .as_bytes(),
        );
    }
}

/// Forwarding goes on where nobody reads what it says.
fn say(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = io::Write::write_all(&mut out, text.as_bytes());
    let _ = io::Write::flush(&mut out);
}

impl PortForward {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let mut client = Client::find(global.lab.as_deref())?;
        let target = parse(&self.pod, &self.namespace);
        let Target::Pod { namespace, name } = &target else {
            let text = format!("ports are forwarded to pods, and {} is none", self.pod);
            return Err(Failure::new(FAILED, text));
        };
        let all = pods(&mut client)?;
        let pod = find_pod(&all, namespace, name)?;
        let status = match pod.phase {
            Phase::Running | Phase::CrashLoopBackOff => None,
            Phase::Completed => Some("Succeeded"),
            Phase::Error { .. } => Some("Failed"),
        };
        if let Some(status) = status {
            let text = format!(
                "unable to forward port because pod is not running. Current status={status}"
            );
            return Err(Failure::new(FAILED, text));
        }
        let listening = self.listen(ui)?;
        let stop = Stop::on_signals().map_err(EnterError::from)?;
        forward::move_into(&mut client, target.clone())?;
        for it in &listening {
            for at in it.addresses() {
                say(&format!("Forwarding from {at} -> {}\n", it.pair.remote));
            }
        }
        let id = &pod.container_id;
        let is_there = |client: &mut Client| {
            pods(client).is_ok_and(|pods| pods.iter().any(|pod| pod.container_id == *id))
        };
        let end = forward::run(&listening, &mut client, &stop, &Arc::new(Words), is_there)
            .map_err(EnterError::from)?;
        match end {
            End::Interrupted => Ok(0),
            End::Lost => Err(Failure::new(FAILED, "lost connection to pod")),
        }
    }

    /// As kubectl: a port that can't be had keeps none of the others, and nothing at all is an error.
    fn listen(&self, ui: &Ui) -> Result<Vec<Listening>, Failure> {
        let mut listening = Vec::new();
        for &pair in &self.ports {
            match Listening::open(pair) {
                Ok(opened) => listening.push(opened),
                Err(errors) => {
                    let errors: Vec<String> = errors
                        .iter()
                        .map(|(at, error)| format!("{at}: {error}"))
                        .collect();
                    ui.talk(format!(
                        "Unable to listen on port {}: {}",
                        pair.local,
                        errors.join("; ")
                    ));
                }
            }
        }
        if listening.is_empty() {
            let ports: Vec<String> = self
                .ports
                .iter()
                .map(|pair| format!("{{{} {}}}", pair.local, pair.remote))
                .collect();
            let text = format!(
                "unable to listen on any of the requested ports: [{}]",
                ports.join(" ")
            );
            return Err(Failure::new(FAILED, text));
        }
        Ok(listening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubectl's ways to write it, and slips of the pen.
    #[test]
    fn pairs_are_written_as_for_kubectl() {
        for (word, local, remote) in [
            ("80", 80, 80),
            ("8080:80", 8080, 80),
            (":80", 0, 80),
            ("0:80", 0, 80),
        ] {
            assert_eq!(pair(word), Ok(Pair { local, remote }));
        }
        for (word, wanted) in [
            ("", "local port \"\" is no number"),
            ("80:", "remote port \"\" is no number"),
            ("80:0", "remote port must be > 0"),
            (":", "remote port \"\""),
            ("65536:80", "local port \"65536\" is no number up to 65535"),
            ("80:http", "remote port \"http\""),
            ("+80:80", "local port \"+80\""),
            ("1:2:3", "remote port \"2:3\""),
        ] {
            let error = pair(word).unwrap_err();
            assert!(error.contains(wanted), "{word}: {error}");
        }
    }
}
