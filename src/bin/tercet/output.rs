//! What goes to stdout and stderr.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

/// Logs on stderr; `TERCET_LOG` filters them (default: info).
pub fn init_logging() {
    let filter = EnvFilter::try_from_env("TERCET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .try_init();
}

/// One JSON object on a line of its own.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// True when the reader of our stdout has gone away, which is how `| head` ends a command and no failure.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
