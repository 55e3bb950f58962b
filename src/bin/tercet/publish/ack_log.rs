//! `--ack-log`: a line `sequence offset` for each acknowledgement, in the file at latest 5 ms after it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tercet::client::Ack;

use crate::exit::{FAILED, Failure};

/// Lines are written out once the oldest is this old; the rest of the 5 ms is for the wait that comes before.
const FLUSH_AFTER: Duration = Duration::from_millis(1);
const BUFFER_BYTES: usize = 64 << 10;

/// The log, or nothing where none was asked for.
pub struct AckLog {
    file: Option<(BufWriter<File>, PathBuf)>,
    unwritten_since: Option<Instant>,
    failure: Option<io::Error>,
}

impl AckLog {
    /// Makes the file, or empties it.
    pub fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = File::create(path).map_err(|error| {
                Failure::usage(format!("cannot create the ack log {}: {error}", path.display()))
            })?;
            Ok::<_, Failure>((BufWriter::with_capacity(BUFFER_BYTES, file), path.to_owned()))
        };
        Ok(Self { file: path.map(open).transpose()?, unwritten_since: None, failure: None })
    }

    /// Notes acknowledgements. An error is told by the next [`AckLog::flush_due`].
    pub fn take(&mut self, ack: &Ack, now: Instant) {
        let Some((file, _)) = &mut self.file else { return };
        self.unwritten_since.get_or_insert(now);
        for (sequence, offset) in ack.iter() {
            if let Err(error) = writeln!(file, "{sequence} {offset}") {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// How long a wait may be before [`AckLog::flush_due`] must be called.
    pub fn patience(&self) -> Option<Duration> {
        self.unwritten_since.map(|since| FLUSH_AFTER.saturating_sub(since.elapsed()))
    }

    /// Writes out what is old enough.
    pub fn flush_due(&mut self) -> Result<(), Failure> {
        match self.patience() {
            Some(Duration::ZERO) => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes everything out.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        self.unwritten_since = None;
        let flushed = match self.failure.take() {
            Some(error) => Err(error),
            None => file.flush(),
        };
        flushed.map_err(|error| {
            Failure::new(FAILED, format!("cannot write the ack log {}: {error}", path.display()))
        })
    }
}
