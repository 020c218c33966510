//! `podwire completion`

use clap::{Args, CommandFactory as _, ValueEnum};

use super::ui::Ui;
use super::{Cli, Failure};

/// Which shell.
#[derive(Args, Debug)]
pub(super) struct Completion {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(&self, ui: &Ui) -> Result<u8, Failure> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "podwire", &mut script);
        ui.data(&String::from_utf8_lossy(&script));
        Ok(0)
    }
}
