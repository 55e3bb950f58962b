//! Faults on demand, only with the feature `faults`: for tools that break real clusters on purpose.
//!
//! A tool gives a node a control directory of its own by `LAB_FAULTS_DIR` and steers it with files there, each looked
//! at whenever it matters:
//!
//! | file | effect |
//! |---|---|
//! | `flush_stall_ms` | each sync first sleeps for so many milliseconds (a number as text) |
//! | `power_cut` | at its next start the node loses every write that was not synced, then removes this file |
//! | `ack_before_flush` | planted bug: entries are reported as flushed once they are written |
//! | `vote_not_persisted` | planted bug: hard state is reported as flushed and never written |
//!
//! A killed process leaves its writes in the page cache, so kill -9 alone proves nothing about syncs. Here every write
//! is preceded by a note of what it overwrites (`undo-<inode>`), a sync forgets the notes, and a start after a power
//! cut undoes what was noted, newest first. Renames and removals are not undone.
//!
//! One file is written by one thread (the log writer), so its notes need no lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Planted bug: an acknowledgement before the flush.
pub const ACK_BEFORE_FLUSH: &str = "ack_before_flush";
/// Planted bug: a vote that does not survive a restart.
pub const VOTE_NOT_PERSISTED: &str = "vote_not_persisted";
const FLUSH_STALL: &str = "flush_stall_ms";
const POWER_CUT: &str = "power_cut";
/// Longest stall, so that a slip of the pen hangs no machine.
const STALL_MS_MAX: u64 = 60_000;

/// The control directory, if this process has one.
fn directory() -> Option<&'static Path> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIRECTORY.get_or_init(|| std::env::var_os("LAB_FAULTS_DIR").map(PathBuf::from)).as_deref()
}

/// Whether a planted bug is active.
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    directory().is_some_and(|directory| directory.join(bug).exists())
}

/// Stalls for as long as the tool says.
pub(super) fn before_sync() {
    let Some(directory) = directory() else { return };
    let Ok(text) = fs::read_to_string(directory.join(FLUSH_STALL)) else { return };
    let stall_ms: u64 = text.trim().parse().unwrap_or(0);
    std::thread::sleep(Duration::from_millis(stall_ms.min(STALL_MS_MAX)));
}

fn undo_path(directory: &Path, inode: u64) -> PathBuf {
    directory.join(format!("undo-{inode}"))
}

/// Notes what a write is about to overwrite: position, length, bytes.
pub(super) fn before_write(file: &File, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
    let Some(directory) = directory() else { return Ok(()) };
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut note = vec![0; 16 + len];
    note[..8].copy_from_slice(&position.to_le_bytes());
    note[8..16].copy_from_slice(&(len as u64).to_le_bytes());
    let mut at = 0;
    while at < len {
        // Past the end there is nothing to keep: files are allocated before they are written.
        match file.read_at(&mut note[16 + at..], position + at as u64)? {
            0 => break,
            read => at += read,
        }
    }
    let path = undo_path(directory, file.metadata()?.ino());
    OpenOptions::new().create(true).append(true).open(path)?.write_all(&note)
}

/// A file is new: notes under its inode belong to a file that was removed.
pub(super) fn created(file: &File) -> io::Result<()> {
    after_sync(file)
}

/// What was noted is durable now.
pub(super) fn after_sync(file: &File) -> io::Result<()> {
    let Some(directory) = directory() else { return Ok(()) };
    match OpenOptions::new().write(true).open(undo_path(directory, file.metadata()?.ino())) {
        Ok(undo) => undo.set_len(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Before recovery: after a power cut, undoes every write that was not synced. Notes of a process that merely died
/// are forgotten.
///
/// # Errors
/// The control directory or the data directory cannot be read or written.
pub fn roll_back(data_dir: &Path) -> io::Result<()> {
    let Some(directory) = directory() else { return Ok(()) };
    roll_back_in(directory, data_dir)
}

fn roll_back_in(directory: &Path, data_dir: &Path) -> io::Result<()> {
    let power_cut = directory.join(POWER_CUT);
    let is_cut = power_cut.exists();
    let mut files = Vec::new();
    collect(data_dir, &mut files)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(inode) = name.strip_prefix("undo-").and_then(|inode| inode.parse::<u64>().ok()) else {
            continue;
        };
        if is_cut && let Some((_, file)) = files.iter().find(|(found, _)| *found == inode) {
            undo(&path, file)?;
        }
        fs::remove_file(&path)?;
    }
    if is_cut { fs::remove_file(power_cut) } else { Ok(()) }
}

/// All files below `dir`, by inode.
fn collect(dir: &Path, files: &mut Vec<(u64, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((metadata.ino(), entry.path()));
        }
    }
    Ok(())
}

/// Puts back what the noted writes overwrote, newest first. A note that is torn belongs to a write that never began.
fn undo(notes: &Path, file: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(notes)?.read_to_end(&mut bytes)?;
    let word =
        |at: usize| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
    let (mut at, mut found) = (0, Vec::new());
    while let (Some(position), Some(len)) = (word(at), word(at + 8)) {
        let Some(end) = usize::try_from(len).ok().and_then(|len| (at + 16).checked_add(len)) else { break };
        let Some(old) = bytes.get(at + 16..end) else { break };
        found.push((position, old));
        at = end;
    }
    let file = OpenOptions::new().write(true).open(file)?;
    for (position, old) in found.into_iter().rev() {
        file.write_all_at(old, position)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::{roll_back_in, undo_path};

    fn note(path: &std::path::Path, position: u64, old: &[u8]) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(&position.to_le_bytes()).unwrap();
        file.write_all(&(old.len() as u64).to_le_bytes()).unwrap();
        file.write_all(old).unwrap();
    }

    #[test]
    fn a_power_cut_undoes_noted_writes_newest_first_and_a_death_undoes_nothing() {
        let (control, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = data.path().join("group-0/seg");
        fs::create_dir(data.path().join("group-0")).unwrap();
        fs::write(&path, b"aaaaaaaa").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let undo = undo_path(control.path(), file.metadata().unwrap().ino());
        let write_twice = || {
            note(&undo, 0, b"aaaa");
            file.write_all_at(b"bbbb", 0).unwrap();
            note(&undo, 2, b"bbaa");
            file.write_all_at(b"cccc", 2).unwrap();
            // A torn note: its write never began.
            OpenOptions::new().append(true).open(&undo).unwrap().write_all(&[7; 11]).unwrap();
        };
        write_twice();
        roll_back_in(control.path(), data.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"bbccccaa", "the page cache outlives a process");
        assert!(!undo.exists());
        file.write_all_at(b"aaaaaaaa", 0).unwrap();
        write_twice();
        fs::write(control.path().join("power_cut"), b"").unwrap();
        roll_back_in(control.path(), data.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"aaaaaaaa");
        assert_eq!(fs::read_dir(control.path()).unwrap().count(), 0, "the notes and the cut are used up");
    }
}
