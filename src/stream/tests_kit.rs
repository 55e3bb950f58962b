//! A log on a desk: entries that follow each other, made by hand.

use crate::base::ids::{ClusterId, Epoch, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term};
use crate::entry::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EventParts, Member, ProducerRef,
    SealContext, encode_configuration, encode_event, encode_noop, encode_open_producer,
};

use super::Producers;

pub(super) const SECOND: u64 = 1_000_000_000;

/// An event as the tests write it down: producer, epoch, name, sequence.
pub(super) type Written<'a> = (ProducerId, u32, &'a str, u64);

/// A log; its newest entries may be taken back.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) entries: Vec<Entry>,
    pub(super) log_time_ns: u64,
    /// The leader's wall clock, which must matter nowhere.
    pub(super) unix_ns: u64,
}

impl Desk {
    /// A log that begins with its configuration.
    pub(super) fn new(window_ns: u64, producers_max: u32) -> Self {
        let mut desk = Self { entries: Vec::new(), log_time_ns: 0, unix_ns: 0 };
        desk.configure(window_ns, producers_max);
        desk
    }

    pub(super) fn last_index(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.entries.last().map_or(Offset(1), |entry| entry.header().next_offset())
    }

    fn context(&self) -> SealContext {
        SealContext {
            term: Term(1),
            index: self.last_index().next(),
            prev_chain: self.entries.last().map_or(0, Entry::chain),
            base_offset: self.next_offset(),
            log_time_ns: self.log_time_ns,
            timestamp_unix_ns: self.unix_ns,
        }
    }

    fn add(&mut self, entry: Entry) -> Entry {
        self.entries.push(entry.clone());
        entry
    }

    pub(super) fn configure(&mut self, window_ns: u64, producers_max: u32) -> Entry {
        let configuration = Configuration {
            cluster_id: ClusterId(7),
            cluster_version: 1,
            cluster_name: "desk".to_owned(),
            durability: Durability::Disk,
            producers_window_ns: window_ns,
            producers_max,
            voters: vec![Member { node_id: NodeId(1), incarnation: Incarnation::default() }],
            learners: Vec::new(),
        };
        let entry = encode_configuration(&self.context(), &configuration).unwrap();
        self.add(entry)
    }

    pub(super) fn noop(&mut self) -> Entry {
        let entry = encode_noop(&self.context());
        self.add(entry)
    }

    pub(super) fn open(&mut self, name: &str) -> Entry {
        let entry = encode_open_producer(&self.context(), name).unwrap();
        self.add(entry)
    }

    pub(super) fn batch(&mut self, events: &[Written<'_>]) -> Entry {
        self.batch_on(events, |_| "topic")
    }

    /// A batch whose events have the topics that `topic_of` gives by their place.
    pub(super) fn batch_on<'t>(
        &mut self,
        events: &[Written<'_>],
        topic_of: impl Fn(usize) -> &'t str,
    ) -> Entry {
        let mut batch = BatchAccumulator::new(BatchLimits::default());
        for (at, (id, epoch, name, sequence)) in events.iter().enumerate() {
            let parts = EventParts {
                sequence: Sequence(*sequence),
                timestamp_unix_ns: 0,
                priority: 0,
                topic: topic_of(at),
                attributes: &[],
                body: b"body",
            };
            let mut encoded = Vec::new();
            encode_event(&mut encoded, &parts).unwrap();
            batch.push(0, ProducerRef { id: *id, epoch: Epoch(*epoch), name }, &encoded).unwrap();
        }
        let entry = batch.seal(&self.context());
        self.add(entry)
    }

    /// Takes everything behind `index` back.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        self.entries.truncate(index.0 as usize);
        self.log_time_ns =
            self.log_time_ns.max(self.entries.last().map_or(0, |entry| entry.header().log_time_ns));
    }

    /// What a node has that applied everything up to `index`.
    pub(super) fn applied_to(&self, index: LogIndex) -> Producers {
        let mut producers = Producers::new();
        for entry in &self.entries[..index.0 as usize] {
            producers.apply(&entry.view()).unwrap();
        }
        producers
    }

    /// A leader's view: committed up to `index`, the rest noted.
    pub(super) fn led_from(&self, index: LogIndex) -> Producers {
        let mut producers = self.applied_to(index);
        for entry in &self.entries[index.0 as usize..] {
            producers.note_appended(&entry.view()).unwrap();
        }
        producers
    }
}

/// `classify` with plain numbers.
pub(super) fn ask(producers: &Producers, id: ProducerId, epoch: u32, sequence: u64) -> super::Admit {
    producers.classify(id, Epoch(epoch), Sequence(sequence))
}
