//! stdout for data, stderr for talk; colour only where wanted; a reader that goes away ends the program quietly.

use std::fmt::Display;
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};

use super::failure::BROKEN_PIPE;
use super::{Color, Failure, Global};

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// The two streams.
#[derive(Debug)]
pub(super) struct Ui {
    quiet: bool,
}

impl Ui {
    /// Applies `-q`, `-v` and `--color` to this process.
    pub(super) fn new(global: &Global) -> Self {
        match global.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        if global.verbose {
            tracing_subscriber::fmt()
                .with_writer(io::stderr)
                .with_max_level(tracing::Level::DEBUG)
                .with_ansi(false)
                .with_target(false)
                .init();
        }
        Self {
            quiet: global.quiet,
        }
    }

    /// Data.
    pub(super) fn data(&self, text: &str) {
        if let Err(error) = self.try_data(text) {
            lost(&error);
        }
    }

    /// Data, for callers that have something to put away when nobody reads it.
    #[expect(
        clippy::unused_self,
        reason = "who prints has a Ui, which has set the colours"
    )]
    pub(super) fn try_data(&self, text: &str) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    /// For data that comes bit by bit. The first failure to write is the caller's; see [`Ui::check_reader`].
    pub(super) fn stdout(&self) -> impl io::Write + use<> {
        anstream::stdout()
    }

    /// For what another's code says on stderr.
    pub(super) fn stderr(&self) -> impl io::Write + use<> {
        anstream::stderr()
    }

    /// Ends the program when `error` says that nobody reads our data any more.
    pub(super) fn check_reader(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            lost(error);
        }
    }

    /// Something the user may want to know.
    pub(super) fn talk(&self, text: impl Display) {
        if !self.quiet {
            // Talk that can't be delivered is no reason to stop.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Why the command failed, and what it was.
    pub(super) fn error(&self, failure: &Failure) {
        let text = &failure.message;
        if failure.code == BROKEN_PIPE {
            return;
        }
        let _ = if failure.verbatim {
            writeln!(anstream::stderr(), "{text}")
        } else {
            writeln!(anstream::stderr(), "{RED}error:{RED:#} {text}")
        };
    }

    /// `-q`
    pub(super) const fn quiet(&self) -> bool {
        self.quiet
    }
}

/// Says that a panic is not the user's fault.
pub(super) fn bug() {
    let _ = writeln!(
        anstream::stderr(),
        "{RED}error:{RED:#} this is a bug of podwire; please report the lines above"
    );
}

/// Standard output is gone: with its reader nothing is wrong, else the reason is said.
fn lost(error: &io::Error) -> ! {
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = writeln!(
            anstream::stderr(),
            "{RED}error:{RED:#} standard output: {error}"
        );
        std::process::exit(1);
    }
    std::process::exit(BROKEN_PIPE.into());
}
