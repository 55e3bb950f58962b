//! Exit codes, and the one line that goes with each.

use std::fmt::Display;
use std::process::ExitCode;

/// Something failed.
pub const FAILED: u8 = 1;
/// Bad arguments, configuration or environment.
pub const USAGE: u8 = 2;
/// No node reachable, no leader, or no progress in time.
pub const UNAVAILABLE: u8 = 3;
/// A check found lost, reordered or corrupt data.
pub const CORRUPT: u8 = 4;
/// Interrupted.
pub const INTERRUPTED: u8 = 5;

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// One line that says what happened and what to do.
    pub line: String,
}

/// Help and version go to stdout as they are; a mistake is told in one line.
pub fn refuse_arguments(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help {
        // Nobody is left to tell when stdout is gone.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
    }
    crate::output::note(format_args!("tercet: {}; see --help", one_line(&error.render().to_string())));
    ExitCode::from(USAGE)
}

/// What is wrong, without the usage that follows it.
fn one_line(rendered: &str) -> String {
    let told = rendered.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// What a command returns.
pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    /// A failure with its code.
    pub fn new(code: u8, line: impl Display) -> Self {
        // One line, whatever a library's message looks like.
        Self { code, line: line.to_string().replace('\n', " ") }
    }

    /// Bad arguments, configuration or environment.
    pub fn usage(line: impl Display) -> Self {
        Self::new(USAGE, line)
    }
}

impl From<tercet::node::NodeError> for Failure {
    fn from(error: tercet::node::NodeError) -> Self {
        Self::new(error.exit_code() as u8, error)
    }
}

impl From<tercet::config::ConfigError> for Failure {
    fn from(error: tercet::config::ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<tercet::client::ClientError> for Failure {
    fn from(error: tercet::client::ClientError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FAILED, error)
    }
}
