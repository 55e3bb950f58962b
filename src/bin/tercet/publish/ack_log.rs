//! `--ack-log`: a line `sequence offset` for each acknowledgement, in the file at latest 5 ms after it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tercet::client::Ack;

use crate::exit::{FAILED, Failure};

/// Lines are written out once the oldest is this old; the rest of the 5 ms is for the wait that comes before.
const FLUSH_AFTER: Duration = Duration::from_millis(1);
/// Written out at this size as well.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// The log, or nothing where none was asked for.
pub struct AckLog {
    file: Option<(File, PathBuf)>,
    /// Whole lines, so that no reader of the file meets half of one.
    pending: Vec<u8>,
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
            Ok::<_, Failure>((file, path.to_owned()))
        };
        let file = path.map(open).transpose()?;
        Ok(Self { file, pending: Vec::new(), unwritten_since: None, failure: None })
    }

    /// Notes acknowledgements. An error is told by the next [`AckLog::flush_due`].
    pub fn take(&mut self, ack: &Ack, now: Instant) {
        if self.file.is_none() {
            return;
        }
        self.unwritten_since.get_or_insert(now);
        for (sequence, offset) in ack.iter() {
            // Writing to a Vec cannot fail.
            let _ = writeln!(self.pending, "{sequence} {offset}");
            if self.pending.len() >= PENDING_BYTES_MAX {
                self.write();
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
        self.unwritten_since = None;
        self.write();
        match (self.failure.take(), &self.file) {
            (Some(error), Some((_, path))) => {
                Err(Failure::new(FAILED, format!("cannot write the ack log {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self) {
        if let Some((file, _)) = &mut self.file
            && self.failure.is_none()
            && let Err(error) = file.write_all(&self.pending)
        {
            self.failure = Some(error);
        }
        self.pending.clear();
    }
}
