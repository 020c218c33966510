//! `podwire ps`

use clap::{Args, ValueEnum};

use super::Failure;
use super::ui::Ui;
use crate::client;
use crate::view::{self, kube};

/// Lists the labs.
#[derive(Args, Debug)]
pub(super) struct Ps {
    /// Output format
    #[arg(short, long, value_enum, default_value_t, env = "PODWIRE_OUTPUT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

impl Ps {
    pub(super) fn run(&self, ui: &Ui) -> Result<u8, Failure> {
        let mut labs = Vec::new();
        let mut broken = None;
        for listed in client::labs()? {
            match listed.status {
                Ok(status) => labs.push(status),
                Err(error) => {
                    ui.talk(format_args!("lab {}: {error}", listed.name));
                    broken = Some(error.exit_code());
                }
            }
        }
        let now = super::get::now_ms();
        let text = match self.output {
            Format::Table | Format::Wide if labs.is_empty() => {
                ui.talk("No lab runs.");
                String::new()
            }
            Format::Table => view::ps::table(&labs, now, false),
            Format::Wide => view::ps::table(&labs, now, true),
            Format::Json => kube::to_json(&view::ps::object(&labs)),
            Format::Yaml => kube::to_yaml(&view::ps::object(&labs)),
            Format::Name => {
                let sorted = view::ps::sorted(&labs);
                sorted
                    .iter()
                    .map(|lab| format!("lab/{}\n", lab.name))
                    .collect()
            }
        };
        ui.data(&text);
        Ok(broken.unwrap_or(0))
    }
}
