//! Disks that lose power: an ext4 file system of its own for a node, in a file, behind a loop device.
//!
//! A cut is ext4's own shutdown call without a flush of the journal: from that moment nothing reaches the device any
//! more, and what was written but not synced is gone, as when power fails. (kill -9 proves nothing about syncs: the page
//! cache survives the process.) The device is a file of the host, whose page cache stands for a disk that keeps its
//! word about flushes; what a disk does that lies about them is not shown here.
//!
//! Needs root, loop devices and `mkfs.ext4`. Mounts are made in a mount namespace of the calling thread, so that
//! nothing is left behind whatever ends the tool; see [`enter_private_mounts`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::error::{LabError, LabResult};

/// `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: without a flush of the journal.
const NO_LOG_FLUSH: u32 = 2;
/// How long a dead process may keep a file system busy.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// From here on mounts of this thread, and of all processes and threads that it starts, are its own and end with the
/// last of them.
///
/// # Errors
/// [`LabError::Environment`] where this is not allowed.
pub fn enter_private_mounts() -> LabResult<()> {
    // SAFETY: no other thread shares memory that depends on the mount namespace, and no file descriptor is touched.
    let entered = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    entered.map_err(|error| {
        LabError::Environment(format!(
            "power cuts need root and mounts of their own, which this machine refuses: {error}"
        ))
    })?;
    run("mount", ["--make-rprivate", "/"])
}

/// Runs a system tool; its complaint becomes one line.
fn run<S: AsRef<OsStr>>(tool: &str, arguments: impl IntoIterator<Item = S>) -> LabResult<()> {
    let output = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    Err(LabError::Environment(format!(
        "power cuts need root, loop devices and mkfs.ext4, but {tool}: {said}"
    )))
}

/// A file system in a file. Dropping it unmounts it; files of the image go with the directory they lie in.
#[derive(Debug)]
pub struct LossyDisk {
    image: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
}

impl LossyDisk {
    /// Makes and mounts an empty file system of so many bytes; the image lies beside the mount point.
    ///
    /// # Errors
    /// [`LabError::Environment`] where the machine cannot do that.
    pub fn create(mount_point: &Path, bytes: u64) -> LabResult<Self> {
        fs::create_dir_all(mount_point)?;
        let image = mount_point.with_extension("image");
        File::create(&image)?.set_len(bytes)?;
        // Everything is laid out now, so that nothing writes in the background later.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run("mkfs.ext4", [OsStr::new("-q"), "-F".as_ref(), "-E".as_ref(), lazy.as_ref(), image.as_os_str()])?;
        let mut disk = Self { image, mount_point: mount_point.to_owned(), is_mounted: false };
        disk.mount()?;
        // A data directory is empty before it is formatted.
        fs::remove_dir(mount_point.join("lost+found"))?;
        run("sync", ["-f".as_ref(), mount_point.as_os_str()])?;
        Ok(disk)
    }

    fn mount(&mut self) -> LabResult<()> {
        run(
            "mount",
            [
                OsStr::new("-o"),
                "loop,errors=remount-ro".as_ref(),
                self.image.as_os_str(),
                self.mount_point.as_os_str(),
            ],
        )?;
        self.is_mounted = true;
        Ok(())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// What the cut goes through; open it before, so that the cut itself is one system call.
    ///
    /// # Errors
    /// As the system says.
    pub fn switch(&self) -> LabResult<Switch> {
        Ok(Switch(File::open(&self.mount_point)?))
    }

    /// What ext4 does when it finds its own structures broken: from here on the file system is read-only, whatever is
    /// open on it. (`mount -o remount,ro` is refused while files are open for writing.) False where this kernel has no
    /// means to bring that about.
    ///
    /// # Errors
    /// As the system says.
    pub fn break_to_read_only(&self) -> LabResult<bool> {
        let table = fs::read_to_string("/proc/thread-self/mounts")?;
        let point = self.mount_point.display().to_string();
        let device = table.lines().find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (words.next()? == point).then(|| device.rsplit('/').next().unwrap_or(device).to_owned())
        });
        let device = device.ok_or_else(|| LabError::Failed(format!("{point} is not mounted")))?;
        let trigger = PathBuf::from(format!("/sys/fs/ext4/{device}/trigger_fs_error"));
        if !trigger.exists() {
            return Ok(false);
        }
        fs::write(trigger, "a test breaks this file system")?;
        Ok(true)
    }

    /// Power is back: unmounts and mounts again, which replays the journal. All processes on it must have ended.
    ///
    /// # Errors
    /// When it stays busy, or cannot be mounted.
    pub fn restore(&mut self) -> LabResult<()> {
        let deadline = Instant::now() + BUSY_LIMIT;
        while let Err(error) = run("umount", [&self.mount_point]) {
            if Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(LOOK);
        }
        self.is_mounted = false;
        self.mount()
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = run("umount", [OsStr::new("-l"), self.mount_point.as_os_str()]);
        }
    }
}

/// Cuts one file system's power.
#[derive(Debug)]
pub struct Switch(File);

impl Switch {
    /// Nothing reaches the device any more.
    ///
    /// # Errors
    /// [`LabError::Environment`] where the file system cannot do that.
    pub fn cut(&self) -> LabResult<()> {
        // SAFETY: the opcode takes a pointer to a u32, which `Setter` passes; nothing is written through it.
        let done = unsafe { ioctl(&self.0, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
        done.map_err(|error| {
            LabError::Environment(format!("this file system cannot be shut down (needs root): {error}"))
        })
    }
}

/// Cuts all of them at the same moment, as nearly as threads can.
///
/// # Errors
/// Of the first that fails.
pub fn cut_all(switches: &[Switch]) -> LabResult<()> {
    let start = std::sync::Barrier::new(switches.len());
    let cut = |switch: &Switch| {
        start.wait();
        switch.cut()
    };
    std::thread::scope(|scope| {
        let cuts: Vec<_> = switches.iter().map(|switch| scope.spawn(move || cut(switch))).collect();
        for thread in cuts {
            thread.join().map_err(|_| LabError::Failed("a cut broke down".to_owned()))??;
        }
        Ok(())
    })
}
