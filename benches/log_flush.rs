//! What the watermark slot costs in a flush: `cargo bench --bench log_flush`. The three ways take turns, so that a
//! machine that drifts drifts for all of them; compare the rows of one run only. `TERCET_MEASURE_DIR` names the disk.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use tercet::log::{Disk, DiskError, DiskFile, RealDisk};

const FILE_BYTES: u64 = 64 << 20;
const BATCH_BYTES: usize = 32 << 10;
const ROUNDS: u64 = 1500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::var_os("TERCET_MEASURE_DIR").unwrap_or_else(|| ".".into());
    let dir = tempfile::tempdir_in(parent)?;
    let mut times = measure(&dir.path().join("raw"))?;
    for (name, times) in
        ["no slot", "slot in the same sync", "slot by a sync of its own"].iter().zip(&mut times)
    {
        times.sort_unstable();
        println!("{name}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    Ok(())
}

fn measure(path: &std::path::Path) -> Result<[Vec<Duration>; 3], DiskError> {
    let file = RealDisk.create(path, FILE_BYTES)?;
    let zeros = vec![0; 1 << 20];
    for at in 0..FILE_BYTES >> 20 {
        file.write_at(&[IoSlice::new(&zeros)], at << 20)?;
    }
    file.sync_data()?;
    let body = vec![7u8; BATCH_BYTES];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let way = (round % 3) as usize;
        let slot_position = 4096 * (1 + round % 2);
        let start = Instant::now();
        file.write_at(&[IoSlice::new(&body)], 12_288 + round * BATCH_BYTES as u64)?;
        if way == 2 {
            file.sync_data()?;
        }
        if way > 0 {
            file.write_at(&[IoSlice::new(&body[..64])], slot_position)?;
        }
        file.sync_data()?;
        times[way].push(start.elapsed());
    }
    Ok(times)
}
