//! What goes to stdout and stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Lines that may wait for a stderr that is not read; further ones are dropped.
const LINES_WAITING: usize = 1024;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

enum Message {
    Bytes(Vec<u8>),
    Flush(SyncSender<()>),
}

static STDERR: OnceLock<SyncSender<Message>> = OnceLock::new();

/// The thread that alone writes to stderr. A terminal that is stopped, a pipe that nobody reads or one that is closed
/// must neither hold up an agent nor end the process, so errors are of no interest and waiting is this thread's only.
fn stderr_thread() -> SyncSender<Message> {
    let (sender, receiver) = sync_channel(LINES_WAITING);
    std::thread::spawn(move || {
        while let Ok(message) = receiver.recv() {
            match message {
                Message::Bytes(bytes) => {
                    let _ = io::stderr().write_all(&bytes);
                }
                Message::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    });
    sender
}

/// One log event's bytes, handed on as a whole.
struct LogLine(Vec<u8>);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let _ = STDERR.get_or_init(stderr_thread).try_send(Message::Bytes(std::mem::take(&mut self.0)));
    }
}

/// Logs on stderr; `TERCET_LOG` filters them (default: info). A filter that cannot be read is an error.
pub fn init_logging() -> Result<(), String> {
    let filter = match std::env::var("TERCET_LOG") {
        Ok(text) => EnvFilter::try_new(&text)
            .map_err(|error| format!("TERCET_LOG: '{text}' is no filter: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogLine(Vec::new()))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
    Ok(())
}

/// One line on stderr, in order with the logs; never waits for a reader.
pub fn note(line: impl Display) {
    let _ = STDERR.get_or_init(stderr_thread).try_send(Message::Bytes(format!("{line}\n").into_bytes()));
}

/// Gives what was noted a moment to leave, before the process ends.
pub fn last_words() {
    let (done, left) = sync_channel(1);
    if let Some(stderr) = STDERR.get()
        && stderr.try_send(Message::Flush(done)).is_ok()
    {
        let _ = left.recv_timeout(LAST_WORDS);
    }
}

/// Text on stdout. A reader that has gone away is no failure: what it asked for has been done all the same.
pub fn say(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    written.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })
}

/// One JSON object on a line of its own.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    say(format_args!("{value}\n"))
}

/// Rows of cells with aligned columns; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// True when the reader of our stdout has gone away, which is how `| head` ends a command and no failure.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
