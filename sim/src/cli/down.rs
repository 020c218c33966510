//! `podwire down`

use clap::Args;

use super::ui::Ui;
use super::{Failure, Global};
use crate::client::{self, Down as Outcome};

/// Removes labs.
#[derive(Args, Debug)]
pub(super) struct Down {
    /// The lab [default: --lab, else the only one that runs]
    #[arg(value_name = "LAB", conflicts_with = "all")]
    name: Option<String>,
    /// Every lab of this user
    #[arg(long)]
    all: bool,
}

impl Down {
    pub(super) fn run(&self, global: &Global, ui: &Ui) -> Result<u8, Failure> {
        let names = self.names(global)?;
        if names.is_empty() {
            ui.talk("No lab runs.");
        }
        // One that can't be removed doesn't keep the others.
        let mut first = None;
        for name in names {
            match client::down(&name) {
                Ok(Outcome::Stopped) => ui.talk(format_args!("lab {name} is down")),
                Ok(Outcome::Cleaned) => {
                    ui.talk(format_args!("lab {name} was dead; its files are removed"));
                }
                Ok(Outcome::Absent) => ui.talk(format_args!("lab {name} does not run")),
                Err(error) => {
                    let failure = Failure::from(error);
                    ui.error(&failure);
                    first.get_or_insert(failure.code);
                }
            }
        }
        Ok(first.unwrap_or(0))
    }

    fn names(&self, global: &Global) -> Result<Vec<String>, Failure> {
        if let Some(name) = self
            .name
            .as_ref()
            .or(global.lab.as_ref())
            .filter(|_| !self.all)
        {
            return Ok(vec![name.clone()]);
        }
        let mut names = client::all_names()?;
        if !self.all && names.len() > 1 {
            let text = format!(
                "several labs run ({}): name one, or say --all",
                names.join(", ")
            );
            return Err(Failure::new(super::failure::USAGE, text));
        }
        names.sort();
        Ok(names)
    }
}
