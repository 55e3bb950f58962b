//! A bystander's file beside the cluster's: how long a small write and its sync take there. What the device itself does to
//! everybody can so be told from what a node does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::LabResult;

const BLOCK: [u8; 4096] = [0x5a; 4096];
const BLOCKS: u64 = 256;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes and syncs in the background until it is dropped.
pub struct DiskProbe {
    stop: Arc<AtomicBool>,
    /// In nanoseconds, in order of time.
    syncs: Arc<Mutex<Vec<u64>>>,
}

impl DiskProbe {
    /// Begins with a file in this directory, all of whose blocks have been written before.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(dir: &Path) -> LabResult<Self> {
        let file =
            File::options().create(true).truncate(true).read(true).write(true).open(dir.join("probe"))?;
        for block in 0..BLOCKS {
            file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
        }
        file.sync_all()?;
        let probe = Self { stop: Arc::default(), syncs: Arc::default() };
        let (stop, syncs) = (Arc::clone(&probe.stop), Arc::clone(&probe.syncs));
        let work = move || {
            let places = (0..BLOCKS).cycle();
            for place in places.take_while(|_| !stop.load(Ordering::Relaxed)) {
                let begun = Instant::now();
                let done =
                    file.write_all_at(&BLOCK, place * BLOCK.len() as u64).and_then(|()| file.sync_data());
                if done.is_err() {
                    return;
                }
                syncs.lock().push(begun.elapsed().as_nanos() as u64);
                std::thread::sleep(PAUSE);
            }
        };
        std::thread::Builder::new().name("disk-probe".to_owned()).spawn(work)?;
        Ok(probe)
    }

    /// What was measured so far, in nanoseconds.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.syncs.lock())
    }
}

impl Drop for DiskProbe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
