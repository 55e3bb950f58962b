//! Damaged heads of segment files, and missing files, rebuilt from their neighbours before anything is asked of peers.
//!
//! | lost | known from |
//! |---|---|
//! | header | the one sealed with this one's number: last index and chain, and from its last entry term and offset |
//! | header of the first segment | it starts the log; of a trimmed log the checkpoint has a copy |
//! | both watermark slots | the next segment vouches for everything before it. Of the last segment: from nothing, corrupt |
//! | a file between two others | as its header; all its entries are lost |
//! | the first or the last file | nothing: missing |
//!
//! A wrong guess does no harm: entries are read and verified from these heads on, chain and all.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::LogOptions;
use super::checkpoint::CheckpointFiles;
use super::disk::{Disk, DiskFile};
use super::error::{Corruption, LogError};
use super::layout::{
    BLOCK_BYTES, ENTRIES_POSITION, MEND_NAME, SegmentHeader, Slot, encode_head, group_dir,
    parse_segment_name, segment_name,
};
use super::scanner::{Scanner, Tail};
use super::table::{HeaderVerdict, decide_header, decide_slots};
use crate::base::ids::{ClusterId, LogIndex};

/// A segment file, as far as its head can be read.
struct Head {
    seq: u64,
    path: PathBuf,
    len_bytes: u64,
    header: Option<SegmentHeader>,
    slot: Option<Slot>,
}

/// A directory whose heads are looked at.
pub(super) struct Heads<'a, D> {
    pub disk: &'a D,
    pub data_dir: &'a Path,
    pub options: &'a LogOptions,
    pub cluster_id: ClusterId,
}

impl<D: Disk> Heads<'_, D> {
    /// Rebuilds what can be rebuilt; gives the files that were written. The caller holds the directory's lock.
    ///
    /// # Errors
    /// The disk fails; or a head that nothing else tells, as what it is: corrupt, or missing.
    pub fn rebuild(&self) -> Result<Vec<PathBuf>, LogError> {
        let group_dir = group_dir(self.data_dir, self.options.group());
        let checkpoints =
            CheckpointFiles::read(self.disk, &group_dir, self.cluster_id, self.options.group())?;
        let mut heads = self.read_all(checkpoints.first_seq())?;
        let mut written = Vec::new();
        for at in 0..heads.len() {
            if heads[at].header.is_none() || heads[at].slot.is_none() {
                // The checkpoint has a copy of the header with which the log begins.
                let copy = checkpoints.newest.as_ref().map(|stored| stored.first_segment);
                let copy = copy.filter(|copy| copy.seq == heads[at].seq && heads[at].header.is_none());
                if let Some(copy) = copy {
                    self.write_header(&heads[at].path, &copy)?;
                    heads[at].header = Some(copy);
                    written.push(heads[at].path.clone());
                    if heads[at].slot.is_some() {
                        continue;
                    }
                }
                written.push(self.rebuild_one(&mut heads, at)?);
            }
        }
        while let Some((at, seq)) = missing(&heads) {
            let head = self.recreate(&heads, at, seq)?;
            written.push(head.path.clone());
            heads.insert(at + 1, head);
        }
        Ok(written)
    }

    fn read_all(&self, first_seq: u64) -> Result<Vec<Head>, LogError> {
        let group_dir = group_dir(self.data_dir, self.options.group());
        let names = self.disk.list(&group_dir)?;
        let mut seqs: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
        seqs.sort_unstable();
        seqs.retain(|seq| *seq >= first_seq);
        seqs.into_iter().map(|seq| self.read(seq, group_dir.join(segment_name(seq)))).collect()
    }

    fn read(&self, seq: u64, path: PathBuf) -> Result<Head, LogError> {
        let file = self.disk.open(&path, false)?;
        let len_bytes = file.len_bytes()?;
        let mut blocks = [[0; 96]; 3];
        for (block, bytes) in blocks.iter_mut().enumerate() {
            // What cannot be read counts as damaged: zeros are no head.
            if file.read_at(bytes, block as u64 * BLOCK_BYTES).is_err() {
                bytes.fill(0);
            }
        }
        let found = SegmentHeader::decode(&blocks[0]);
        let header = match decide_header(found, seq, len_bytes, self.cluster_id, self.options.group()) {
            HeaderVerdict::Use(header) => Some(header),
            HeaderVerdict::Corrupt(_) => None,
            // Not damage: whoever opens the log says what it is, and nothing is touched.
            HeaderVerdict::RefuseVersion(version) => {
                let what = format!("segment format version {version}");
                return Err(LogError::Unknown { file: path, what });
            }
            HeaderVerdict::OtherCluster => return Err(LogError::Foreign { file: path, what: "cluster" }),
            HeaderVerdict::OtherGroup => return Err(LogError::Foreign { file: path, what: "group" }),
        };
        let slot = decide_slots(Slot::decode(&blocks[1]), Slot::decode(&blocks[2]));
        Ok(Head { seq, path, len_bytes, header, slot })
    }

    fn write_header(&self, path: &Path, header: &SegmentHeader) -> Result<(), LogError> {
        let file = self.disk.open(path, true)?;
        let bytes = encode_head(header, &Slot::fresh(header, LogIndex::ZERO));
        file.write_at(&[IoSlice::new(&bytes[..BLOCK_BYTES as usize])], 0)?;
        file.sync_data().map_err(LogError::from)
    }

    fn rebuild_one(&self, heads: &mut [Head], at: usize) -> Result<PathBuf, LogError> {
        let (seq, path) = (heads[at].seq, heads[at].path.clone());
        let corrupt = |position, what: &str| {
            let what = what.to_owned();
            LogError::from(Corruption {
                file: path.clone(),
                position,
                first: LogIndex::ZERO,
                last: None,
                what,
            })
        };
        let was_lost = heads[at].header.is_none();
        let header = match heads[at].header {
            Some(header) => header,
            None => {
                let before = self.end_before(heads, at, seq)?;
                let before = before.ok_or_else(|| corrupt(0, "the header is damaged"))?;
                self.header_after(&before, seq, heads[at].len_bytes, heads[0].seq > 1)
            }
        };
        let goes_on = heads[at + 1..].iter().any(|next| next.header.is_some());
        if heads[at].slot.is_none() && !goes_on {
            return Err(corrupt(
                BLOCK_BYTES,
                "both watermark slots are damaged, and no later segment tells the end",
            ));
        }
        // Slots are only written where there is none.
        let fresh = Slot::fresh(&header, LogIndex::ZERO);
        let slot = heads[at].slot.unwrap_or(fresh);
        let bytes = encode_head(&header, &fresh);
        let (block, slots) = bytes.split_at(BLOCK_BYTES as usize);
        let file = self.disk.open(&path, true)?;
        if was_lost {
            file.write_at(&[IoSlice::new(block)], 0)?;
        }
        if heads[at].slot.is_none() {
            file.write_at(&[IoSlice::new(slots)], BLOCK_BYTES)?;
        }
        file.sync_data()?;
        (heads[at].header, heads[at].slot) = (Some(header), Some(slot));
        Ok(path)
    }

    fn header_after(&self, before: &Tail, seq: u64, segment_bytes: u64, recycled: bool) -> SegmentHeader {
        SegmentHeader {
            cluster_id: self.cluster_id,
            group: self.options.group(),
            seq,
            generation: 0,
            base_index: before.id.index.next(),
            base_offset: before.next_offset,
            base_chain: before.chain,
            base_term: before.id.term,
            segment_bytes,
            // Nobody knows any more. Then what an older segment may have left is not taken for torn.
            recycled,
        }
    }

    /// The end of the log before segment `seq`, which is (or would be) behind `heads[..at]`.
    fn end_before(&self, heads: &[Head], at: usize, seq: u64) -> Result<Option<Tail>, LogError> {
        if at == 0 {
            return Ok((seq == 1).then_some(Tail { end_position: ENTRIES_POSITION, ..Tail::START }));
        }
        let sealed =
            heads[..at].iter().rev().find(|head| head.slot.is_some_and(|slot| slot.next_seq == Some(seq)));
        match sealed {
            Some(Head { header: Some(header), slot: Some(slot), path, .. }) => {
                self.last_of(path, header, slot)
            }
            _ => Ok(None),
        }
    }

    /// The last entry of a sealed segment; `None` where it cannot be reached.
    fn last_of(&self, path: &Path, header: &SegmentHeader, slot: &Slot) -> Result<Option<Tail>, LogError> {
        let file = self.disk.open(path, false)?;
        let mut scanner = Scanner::new(&file, header.segment_bytes);
        let mut tail = Tail::before(header);
        while tail.id.index < slot.flushed_index {
            match scanner.header(tail.end_position) {
                Ok(Ok(entry)) if tail.is_continued_by(&entry) => tail = tail.after(&entry),
                _ => return Ok(None),
            }
        }
        Ok((tail.chain == slot.chain).then_some(tail))
    }

    /// A segment of which nothing is left: an empty one in its place, between its neighbours.
    fn recreate(&self, heads: &[Head], at: usize, seq: u64) -> Result<Head, LogError> {
        let group_dir = group_dir(self.data_dir, self.options.group());
        let path = group_dir.join(segment_name(seq));
        let lost = |reason: &str| LogError::MissingSegment { file: path.clone(), reason: reason.to_owned() };
        let before = self.end_before(heads, at + 1, seq)?.ok_or_else(|| {
            lost("the segment before it is damaged as well, so nothing tells where it began")
        })?;
        let header = self.header_after(&before, seq, self.options.segment_bytes(), false);
        let next = heads[at + 1..].iter().filter_map(|next| next.header);
        if !next.into_iter().any(|next| next.base_index > header.base_index) {
            return Err(lost("no later segment tells what was in it"));
        }
        let slot = Slot::fresh(&header, LogIndex::ZERO);
        let temporary = group_dir.join(MEND_NAME);
        if self.disk.exists(&temporary)? {
            self.disk.remove(&temporary)?;
        }
        let file = self.disk.create(&temporary, header.segment_bytes)?;
        file.write_at(&[IoSlice::new(&encode_head(&header, &slot))], 0)?;
        file.sync_data()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&group_dir)?;
        Ok(Head { seq, path, len_bytes: header.segment_bytes, header: Some(header), slot: Some(slot) })
    }
}

/// The first segment that is sealed with the number of a file that is not there: its place and that number.
fn missing(heads: &[Head]) -> Option<(usize, u64)> {
    heads.iter().enumerate().find_map(|(at, head)| {
        let next = head.slot.and_then(|slot| slot.next_seq)?;
        heads.iter().all(|other| other.seq != next).then_some((at, next))
    })
}
