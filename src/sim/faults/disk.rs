//! What the adversary does to disks: slow, stalled, full, failing ones, and ones that lie about what they hold.

use std::path::{Path, PathBuf};

use super::{Adversary, Damage, fault};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::Incarnation;
use crate::base::prng::Prng;
use crate::entry::{EntryHeader, EntryView};
use crate::log::layout::{BLOCK_BYTES, ENTRIES_POSITION, HARD_STATE_NAME, Slot, parse_segment_name};
use crate::sim::disk::{Fault, SimDisk};
use crate::sim::node::{DATA_DIR, Shape, SimNode};

const PAGE_BYTES: u64 = 4096;

/// A stretch of a file whose bytes are durable and count.
struct Target {
    path: PathBuf,
    begins: u64,
    ends: u64,
    must_go: bool,
}

impl Adversary {
    pub(super) fn strike_disk(&mut self, now_ns: u64, nodes: &mut [SimNode]) {
        let place = self.prng.below(nodes.len() as u64) as usize;
        let node = &mut nodes[place];
        // Near ones strike between a write and its flush while there is traffic.
        let nth = self.prng.between(1, 6) * self.prng.between(1, 6);
        match self.prng.below(8) {
            0 if self.knows(fault::SLOW_DISK) => {
                let most_ns = self.prng.between(5 * NS_PER_MS, 400 * NS_PER_MS);
                if self.prng.chance(500_000) {
                    node.disk_delay_ns = (most_ns / 10, most_ns);
                    self.count(fault::SLOW_DISK);
                } else {
                    node.report_delay_ns = 5 * most_ns;
                    self.count(fault::LATE_REPORTS);
                }
            }
            1 => (node.disk_delay_ns, node.report_delay_ns) = ((20_000, 2 * NS_PER_MS), 0),
            2..=4 if self.temper.power && self.knows(fault::POWER_LOSS_MID_WRITE) => {
                node.disk.plan(nth, Fault::Crash);
            }
            // As with lost power: what a failed flush took out of the cache was promised in a `memory` cluster.
            5 if self.temper.power && self.knows(fault::DISK_ERROR) => node.disk.plan(nth, Fault::Io),
            6 if self.knows(fault::STALLED_DISK) => {
                node.stalled_until_ns = now_ns + self.prng.between(50 * NS_PER_MS, 3000 * NS_PER_MS);
                self.count(fault::STALLED_DISK);
            }
            7 if self.knows(fault::DISK_FULL) => {
                node.disk.set_capacity(node.disk.allocated_bytes());
                node.space_at_ns = Some(now_ns + self.prng.between(100 * NS_PER_MS, 3000 * NS_PER_MS));
                self.count(fault::DISK_FULL);
            }
            _ => {}
        }
    }

    /// What only redundancy helps against: at most where a quorum can mend it.
    pub(super) fn strike_storage(&mut self, now_ns: u64, nodes: &mut [SimNode], shape: &Shape) {
        let place = self.prng.below(nodes.len() as u64) as usize;
        if !self.atlas.may_impair(nodes, place, !self.temper.power) || !is_named(nodes) {
            return;
        }
        if self.prng.chance(350_000) {
            self.lose_disk(now_ns, nodes, place, shape);
        } else if self.prng.chance(250_000) {
            self.rot_tail(now_ns, nodes, place);
        } else if self.atlas.is_whole(place) && !self.misdirect(now_ns, &mut nodes[place]) {
            self.damage(now_ns, nodes, place);
        }
    }

    fn lose_disk(&mut self, now_ns: u64, nodes: &mut [SimNode], place: usize, shape: &Shape) {
        if self.knows(fault::DISK_LOST) {
            self.count(fault::DISK_LOST);
            self.replace_disk(now_ns, nodes, place, shape);
        }
    }

    /// A node gets an empty disk, and starts with it after a while.
    pub fn replace_disk(&mut self, now_ns: u64, nodes: &mut [SimNode], place: usize, shape: &Shape) {
        nodes[place].replace_disk(shape);
        self.atlas.disk_lost(place, nodes[place].incarnation);
        nodes[place].restart_at_ns = Some(now_ns + self.prng.between(NS_PER_MS, 500 * NS_PER_MS));
    }

    /// The disk loses what it said was durable, just behind the watermark, where a start takes it for a torn write: only
    /// the header tells that an entry was there. The node dies of it, before the next flush proves more.
    pub(super) fn rot_tail(&mut self, now_ns: u64, nodes: &mut [SimNode], place: usize) {
        let node = &mut nodes[place];
        if !self.atlas.is_whole(place) || !self.knows(fault::TAIL_ROT) {
            return;
        }
        let Some((path, range)) = node.serving().and_then(|serving| serving.writer.store().unvouched())
        else {
            return;
        };
        let bytes = node.disk.peek(&path, range.start, (range.end - range.start) as usize);
        let (mut bodies, mut at) = (Vec::new(), 0);
        while let Some(header) = bytes.get(at..).and_then(|rest| EntryHeader::decode(rest).ok()) {
            let end = at + header.total_bytes as usize;
            bodies.push(at + EntryHeader::BYTES..end);
            at = end;
        }
        if bodies.is_empty() {
            return;
        }
        let body = bodies.swap_remove(self.prng.below(bodies.len() as u64) as usize);
        let position = range.start + self.prng.between(body.start as u64, body.end as u64 - 1);
        let mut bytes = node.disk.peek(&path, position, 1);
        bytes.iter_mut().for_each(|byte| *byte ^= 1 << self.prng.below(8));
        node.disk.rot(&path, position, &bytes);
        let settles_after = Some(node.life);
        self.atlas.damaged(place, Damage { path, position, bytes, must_go: false, settles_after });
        self.count(fault::TAIL_ROT);
        self.fell(now_ns, &mut nodes[place], super::Death::Killed);
    }

    /// Now and then what was meant for another page ends up where an entry begins, or where the log ends, and the process
    /// goes down with it: a whole entry lies there that does not continue the log. Says whether it did so.
    fn misdirect(&mut self, now_ns: u64, node: &mut SimNode) -> bool {
        if !self.knows(fault::MISDIRECTED_WRITE) || !self.prng.chance(250_000) {
            return false;
        }
        let Some((path, position, bytes)) = misdirected_entry(&mut self.prng, &node.disk) else {
            return false;
        };
        node.disk.rot(&path, position, &bytes);
        let place = usize::from(node.id.0) - 1;
        self.atlas.damaged(place, Damage { path, position, bytes, must_go: false, settles_after: None });
        self.count(fault::MISDIRECTED_WRITE);
        self.fell(now_ns, node, super::Death::Killed);
        self.count(fault::KILL);
        true
    }

    fn damage(&mut self, now_ns: u64, nodes: &mut [SimNode], place: usize) {
        let node = &mut nodes[place];
        let Some(target) = pick_target(&mut self.prng, &node.disk) else { return };
        let first = self.prng.chance(200_000);
        let at = if first { target.begins } else { self.prng.between(target.begins, target.ends - 1) };
        let page = at / PAGE_BYTES * PAGE_BYTES;
        let (begins, ends) = (page.max(target.begins), (page + PAGE_BYTES).min(target.ends));
        let disk = &node.disk;
        let old = disk.peek(&target.path, begins, (ends - begins) as usize);
        let (name, position, bytes) = match self.prng.below(6) {
            0 => (fault::LOST_WRITE, begins, lost_write(disk, &target, begins, ends)),
            1 => {
                let pages = target.ends / PAGE_BYTES + 1;
                let from = self.prng.below(pages) * PAGE_BYTES + begins % PAGE_BYTES;
                (fault::MISDIRECTED_WRITE, begins, disk.peek(&target.path, from, old.len()))
            }
            2 => (fault::READ_ERROR, begins, Vec::new()),
            _ => {
                let len = self.prng.between(1, 8).min(target.ends - at);
                let mut bytes = disk.peek(&target.path, at, len as usize);
                bytes.iter_mut().for_each(|byte| *byte ^= 1 << self.prng.below(8));
                (fault::BIT_ROT, at, bytes)
            }
        };
        if !self.knows(name) {
            return;
        }
        let Target { path, must_go, ends: end, .. } = target;
        if name == fault::READ_ERROR {
            // Sometimes behind the watermark, where what was torn would be.
            let behind = !must_go && self.prng.chance(300_000);
            let bad = if behind { end..end + PAGE_BYTES } else { begins..ends };
            disk.fail_reads(&path, bad);
        } else if bytes.is_empty() || bytes == disk.peek(&path, position, bytes.len()) {
            return;
        } else {
            disk.rot(&path, position, &bytes);
        }
        let must_go = must_go && !bytes.is_empty();
        if let Some(what) = struck(&path) {
            self.count(what);
        }
        self.atlas.damaged(place, Damage { path, position, bytes, must_go, settles_after: None });
        self.count(name);
        // Much of what rots is met at the next start; the rest is met by a reader, sooner or later.
        if self.prng.chance(600_000) {
            self.fell(now_ns, &mut nodes[place], super::Death::Killed);
            self.count(fault::KILL);
        }
    }
}

/// Which file of those that are not segments this is.
fn struck(path: &Path) -> Option<&'static str> {
    match path.file_name()?.to_str()? {
        HARD_STATE_NAME => Some(fault::HARD_STATE_HIT),
        name if name.starts_with("checkpoint-") => Some(fault::CHECKPOINT_HIT),
        _ => None,
    }
}

/// The page without its last write, as far as the target reaches.
fn lost_write(disk: &SimDisk, target: &Target, begins: u64, ends: u64) -> Vec<u8> {
    let page = disk.page_before(&target.path, begins).unwrap_or_default();
    let from = (begins % PAGE_BYTES) as usize;
    page.get(from..from + (ends - begins) as usize).unwrap_or_default().to_vec()
}

/// A quorum's logs name every disk, so that another formatting of one cannot be taken for it.
pub(super) fn is_named(nodes: &[SimNode]) -> bool {
    nodes.iter().filter_map(SimNode::serving).any(|serving| {
        let committed = serving.batcher.configurations().oldest();
        committed.voters.iter().all(|voter| voter.incarnation != Incarnation(0))
    })
}

/// A place in the newest segment, and what some page of this disk would put there that begins with a whole entry: where
/// the log ends, or where an entry begins that is durable. Nothing where entries lie above the watermark: their headers
/// would be gone, and nobody could tell that they were there.
fn misdirected_entry(prng: &mut Prng, disk: &SimDisk) -> Option<(PathBuf, u64, Vec<u8>)> {
    let files = disk.files();
    let is_segment = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| parse_segment_name(&name.to_string_lossy()).is_some())
    };
    let segments: Vec<&PathBuf> = files.iter().filter(is_segment).collect();
    let last = *segments.last()?;
    let end = newest_slot(disk, last)?.end_position;
    let bytes_of = |path: &PathBuf, at: u64, most: u64| {
        let in_page = PAGE_BYTES - at % PAGE_BYTES;
        disk.peek(path, at, in_page.min(most) as usize)
    };
    if disk.is_dirty(last) || EntryHeader::decode(&bytes_of(last, end, PAGE_BYTES)).is_ok() {
        return None;
    }
    let (position, most) = match prng.below(3) {
        0 | 1 => (end, PAGE_BYTES),
        _ => entry_start(prng, &disk.bytes(last), end).map(|start| (start, end - start))?,
    };
    let right = bytes_of(last, position, most);
    let places = segments.iter().flat_map(|path| {
        let pages = disk.bytes(path).len() as u64 / PAGE_BYTES;
        (ENTRIES_POSITION / PAGE_BYTES..pages)
            .map(move |page| (*path, page * PAGE_BYTES + position % PAGE_BYTES))
    });
    let mut pages = places.map(|(path, at)| bytes_of(path, at, most));
    let wrong = pages.find(|bytes| *bytes != right && EntryView::parse(bytes).is_ok())?;
    Some((last.clone(), position, wrong))
}

/// Where some entry before `end` begins.
fn entry_start(prng: &mut Prng, segment: &[u8], end: u64) -> Option<u64> {
    let next = |at: &u64| {
        let header = EntryHeader::decode(segment.get(*at as usize..)?).ok()?;
        Some(at + u64::from(header.total_bytes)).filter(|at| *at < end)
    };
    let starts: Vec<u64> = std::iter::successors(Some(ENTRIES_POSITION), next).collect();
    starts.get(prng.below(starts.len() as u64) as usize).copied().filter(|start| *start < end)
}

fn newest_slot(disk: &SimDisk, path: &Path) -> Option<Slot> {
    let slots = [BLOCK_BYTES, 2 * BLOCK_BYTES].map(|at| Slot::decode(&disk.peek(path, at, 512)));
    slots.into_iter().flatten().max_by_key(|slot| slot.number)
}

/// A stretch of some file of this disk: of a segment most of the time.
fn pick_target(prng: &mut Prng, disk: &SimDisk) -> Option<Target> {
    let kind = prng.below(100);
    if kind < 8 {
        let path = Path::new(DATA_DIR).join(HARD_STATE_NAME);
        let begins = prng.below(2) * BLOCK_BYTES;
        let is_settled = !disk.is_dirty(&path);
        return is_settled.then_some(Target { path, begins, ends: begins + 512, must_go: true });
    }
    let files = disk.files();
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_of = |path: &&PathBuf, checkpoint: bool| {
        name(path).is_some_and(|name| {
            if checkpoint { name.starts_with("checkpoint-") } else { parse_segment_name(&name).is_some() }
        })
    };
    let checkpoint = kind < 20;
    let files: Vec<&PathBuf> = files.iter().filter(|path| is_of(path, checkpoint)).collect();
    if files.is_empty() {
        return None;
    }
    let path = files[prng.below(files.len() as u64) as usize].clone();
    if checkpoint {
        let len = disk.bytes(&path).len() as u64;
        return (len > 0 && !disk.is_dirty(&path)).then_some(Target {
            path,
            begins: 0,
            ends: len,
            must_go: true,
        });
    }
    let last = files.last().is_some_and(|last| **last == path);
    segment_target(prng, disk, path, last)
}

/// Entries up to the watermark, or one of the blocks in front of them.
fn segment_target(prng: &mut Prng, disk: &SimDisk, path: PathBuf, last: bool) -> Option<Target> {
    let newest = newest_slot(disk, &path)?;
    if prng.chance(150_000) {
        let begins = prng.below(3) * BLOCK_BYTES;
        // A write that is under way may be what the block is for.
        let is_settled = !disk.is_dirty(&path);
        return is_settled.then_some(Target { path, begins, ends: begins + 128, must_go: last });
    }
    let target = Target { path, begins: ENTRIES_POSITION, ends: newest.end_position, must_go: false };
    (target.ends > target.begins).then_some(target)
}
