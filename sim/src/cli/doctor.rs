//! `podwire doctor`

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Failure;
use super::failure::BUG;
use super::ui::{BOLD, DIM, GREEN, RED, Ui, YELLOW};
use crate::host::{HostReport, State, probe};
use crate::spec::Backend;
use crate::view;
use crate::view::kube;

/// Looks at this host.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

impl Doctor {
    pub(super) fn run(&self, ui: &Ui) -> Result<u8, Failure> {
        let report = probe()
            .map_err(|error| Failure::new(BUG, format!("this host can't be probed: {error}")))?;
        let text = match self.output {
            Format::Table => table(&report),
            Format::Json => kube::to_json(&object(&report)),
            Format::Yaml => kube::to_yaml(&object(&report)),
        };
        ui.data(&text);
        Ok(0)
    }
}

fn object(report: &HostReport) -> serde_json::Value {
    json!({
        "apiVersion": "podwire/v1",
        "kind": "HostReport",
        "backend": view::ps::backend(report.backend),
        "reason": report.reason,
        "checks": report.checks,
    })
}

fn table(report: &HostReport) -> String {
    let width =
        |cell: fn(&crate::host::Check) -> usize| report.checks.iter().map(cell).max().unwrap_or(0);
    let name = width(|check| check.name.len());
    let found = width(|check| check.found.chars().count()).min(48);
    let mut text = String::new();
    for check in &report.checks {
        let style = match check.state {
            State::Ok => GREEN,
            State::Warn => YELLOW,
            State::No => RED,
        };
        text += &format!(
            "{style}{:<4}{style:#}  {:<name$}  {:<found$}  {DIM}{}{DIM:#}\n",
            check.state.to_string(),
            check.name,
            check.found,
            check.meaning
        );
        if let Some(remedy) = &check.remedy {
            text += &format!("      {:<name$}  -> {remedy}\n", "");
        }
    }
    text += &format!(
        "\n--backend auto picks {BOLD}{}{BOLD:#}: {}\n",
        view::ps::backend(report.backend),
        report.reason
    );
    text += match report.backend {
        Backend::Tap | Backend::Packet => {
            "Any program runs in pods and on nodes: `podwire exec POD -- CMD`.\n"
        }
        Backend::Inproc => {
            "Pods are network stacks inside the node processes: ping, ip and get work, exec and shell can't.\n\
             Whatever stands above behind -> lets real programs run in pods.\n"
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Check;

    fn report(state: State, backend: Backend) -> HostReport {
        HostReport {
            checks: vec![Check {
                name: "tun device",
                state,
                found: "/dev/net/tun can't be opened".to_owned(),
                meaning: "pods can't have TAP devices".to_owned(),
                remedy: (state == State::No).then(|| "chmod it".to_owned()),
            }],
            backend,
            reason: "because".to_owned(),
        }
    }

    #[test]
    fn what_is_closed_comes_with_its_remedy_and_the_choice_with_its_reason() {
        let text =
            anstream::adapter::strip_str(&table(&report(State::No, Backend::Inproc))).to_string();
        assert!(
            text.starts_with("no    tun device  /dev/net/tun can't be opened"),
            "{text}"
        );
        assert!(text.contains("-> chmod it\n"), "{text}");
        assert!(
            text.contains("--backend auto picks inproc: because\n"),
            "{text}"
        );
    }

    #[test]
    fn the_object_names_the_back_end_as_the_flag_does() {
        let object = object(&report(State::Ok, Backend::Tap));
        assert_eq!(object["backend"], "tap");
        assert_eq!(object["checks"][0]["state"], "ok");
    }
}
