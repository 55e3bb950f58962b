//! Subscribers get every event once, in order and without a gap, the same on every node, and only what is committed
//! (PITFALLS 29).

use std::collections::BTreeMap;

use super::{End, Invariant, View};
use crate::base::ids::{LogIndex, Offset};
use crate::sim::workload::{Delivered, event_hash};

#[derive(Default)]
pub(super) struct Readers {
    committed: LogIndex,
    /// Hash of the event at an offset, as first delivered.
    events: BTreeMap<Offset, u64>,
    /// Somebody was told that what came next is gone.
    overtaken: bool,
}

impl Invariant for Readers {
    fn name(&self) -> &'static str {
        "readers see the committed log"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        self.committed = self.committed.max(view.raft.commit_index());
        Ok(())
    }

    fn delivered(&mut self, event: &Delivered) -> Result<(), String> {
        let Delivered { node, index, offset, expected, hash } = *event;
        if offset != expected {
            return Err(format!("node {node} sent offset {offset} where {expected} was due"));
        }
        if index > self.committed {
            return Err(format!(
                "node {node} sent offset {offset} of entry {index}; committed is {}",
                self.committed
            ));
        }
        let known = *self.events.entry(offset).or_insert(hash);
        if known != hash {
            return Err(format!("node {node} sent another event at offset {offset} than was sent before"));
        }
        Ok(())
    }

    fn overtaken(&mut self, asked: Offset, first: Offset) -> Result<(), String> {
        self.overtaken = true;
        if first > asked { Ok(()) } else { Err(format!("asked for {asked}, told that the first is {first}")) }
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let mut offset = Offset(1);
        for entry in end.log() {
            let Ok(events) = entry.events() else { continue };
            for (_, event) in &events {
                let producer =
                    events.producers().get(event.producer_slot).ok_or("an event without producer")?;
                let hash = event_hash(producer.name, event.sequence, event.body);
                let seen = self.events.get(&offset);
                if seen.is_some_and(|seen| *seen != hash) {
                    return Err(format!(
                        "a subscriber got another event at offset {offset} than the log holds"
                    ));
                }
                offset = offset.next();
            }
        }
        if !self.overtaken && (self.events.len() as u64) < offset.prev().0 {
            return Err(format!("subscribers got {} of {} events", self.events.len(), offset.prev()));
        }
        Ok(())
    }
}
