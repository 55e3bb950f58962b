//! `tercet log verify` and `tercet log dump`: a stopped node's files, read and never changed.

mod dump;
mod report;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use tercet::base::ids::LogIndex;
use tercet::entry::EntryView;
use tercet::log::{DiskErrorKind, IdentityError, LogError, LostRun, RealDisk, VerifyReport};
use tercet::node::{GROUP, NodeError};

use self::dump::Dump;
pub use self::report::to_json;
use crate::args::LogOptions;
use crate::exit::{CORRUPT, FAILED, Failure, Outcome};
use crate::output::{self, is_broken_pipe};

/// Checks every byte and says what there is.
pub fn verify(options: &LogOptions) -> Outcome {
    match check(&options.data_dir, &mut |_, _| {}) {
        Ok(report) => {
            if options.json {
                output::print_json(&to_json(&report))?;
            } else {
                crate::output::say(report::to_text(&options.data_dir, &report))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let lost = lost(&options.data_dir, &error);
            if options.json {
                output::print_json(&report::error_to_json(&error, &lost))?;
            } else {
                crate::output::say(report::lost_to_text(&lost))?;
            }
            Err(error.into_failure(&options.data_dir))
        }
    }
}

/// All that is lost, where the check ended at the first damaged entry.
fn lost(data_dir: &Path, error: &CheckError) -> Vec<LostRun> {
    if !matches!(error, CheckError::Log(LogError::Corrupt(_))) {
        return Vec::new();
    }
    // Where not only entries are damaged, the error itself has to do.
    tercet::log::lost_runs(&RealDisk, data_dir, &read_options()).unwrap_or_default()
}

/// Checks every byte and prints every entry.
pub fn dump(options: &LogOptions) -> Outcome {
    let mut dump = Dump::new(BufWriter::with_capacity(256 << 10, io::stdout().lock()), options.json);
    let checked = check(&options.data_dir, &mut |entry, hint| dump.entry(entry, hint));
    // Entries before a damaged one are printed all the same.
    match dump.finish() {
        Ok(()) => {}
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(Failure::new(FAILED, format!("cannot write to stdout: {error}"))),
    }
    let report = checked.map_err(|error| error.into_failure(&options.data_dir))?;
    if let Some(cut) = &report.recovery.cut {
        // On stderr: stdout holds entries and nothing else.
        crate::output::note(format_args!("tercet: torn tail above the watermark: {cut}"));
    }
    io::stdout().flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What a check found wrong.
#[derive(Debug)]
pub enum CheckError {
    /// Files, checksums, chain.
    Log(LogError),
    /// Checksums hold, but the contents of an entry break the format.
    Contents {
        /// The entry.
        index: LogIndex,
        /// How.
        what: String,
    },
}

/// Verifies a directory and the contents of every entry in it. `visitor` sees each entry, and the lower bound of the
/// commit index that the directory itself knows.
pub fn check(
    data_dir: &Path,
    visitor: &mut dyn FnMut(&EntryView<'_>, LogIndex),
) -> Result<VerifyReport, CheckError> {
    let mut broken = None;
    let mut look = |entry: &EntryView<'_>, hint: LogIndex| {
        if broken.is_none()
            && let Err(error) = entry.check_contents()
        {
            broken = Some((entry.header().index, error.to_string()));
        }
        visitor(entry, hint);
    };
    let report =
        tercet::log::verify(&RealDisk, data_dir, &read_options(), &mut look).map_err(CheckError::Log)?;
    match broken {
        Some((index, what)) => Err(CheckError::Contents { index, what }),
        None => Ok(report),
    }
}

/// The group is all that reading asks for: sizes stand in the files.
fn read_options() -> tercet::log::LogOptions {
    let smallest = tercet::base::limits::SEGMENT_BYTES_MIN;
    tercet::log::LogOptions::new(GROUP, smallest).expect("the smallest segment is a legal one")
}

impl CheckError {
    /// Exit code and line.
    pub fn into_failure(self, data_dir: &Path) -> Failure {
        match self {
            Self::Contents { index, what } => {
                Failure::new(CORRUPT, format!("{}: entry {index}: {what}", data_dir.display()))
            }
            Self::Log(error @ LogError::Identity(IdentityError::Corrupt { .. })) => {
                Failure::new(CORRUPT, error)
            }
            Self::Log(LogError::Identity(IdentityError::Disk(error))) => {
                NodeError::Log(LogError::Disk(error)).into()
            }
            Self::Log(LogError::Disk(error)) if error.kind() == DiskErrorKind::Locked => {
                Failure::usage(format!("{} is in use; stop the node first", data_dir.display()))
            }
            Self::Log(error) => NodeError::Log(error).into(),
        }
    }
}
