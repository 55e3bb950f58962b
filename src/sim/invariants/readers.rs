//! Subscribers get every event once, in order and without a gap, the same on every node, and only what is committed
//! (PITFALLS 29).

use super::{End, Invariant, View};
use crate::base::ids::{LogIndex, Offset};
use crate::sim::workload::{Delivered, event_hash};

#[derive(Default)]
pub(super) struct Readers {
    committed: LogIndex,
    /// Hash of the event at offset `place + 1`, as first delivered.
    events: Vec<u64>,
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
        let place = offset.0 as usize - 1;
        match self.events.get(place) {
            None if place == self.events.len() => self.events.push(hash),
            Some(known) if *known == hash => {}
            _ => {
                return Err(format!(
                    "node {node} sent another event at offset {offset} than was sent before"
                ));
            }
        }
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let mut offset = Offset(1);
        for entry in end.log() {
            let Ok(events) = entry.events() else { continue };
            for (_, event) in &events {
                let producer =
                    events.producers().get(event.producer_slot).ok_or("an event without producer")?;
                let hash = event_hash(producer.name, event.sequence, event.body);
                let seen = self.events.get(offset.0 as usize - 1);
                if seen.is_some_and(|seen| *seen != hash) {
                    return Err(format!(
                        "a subscriber got another event at offset {offset} than the log holds"
                    ));
                }
                offset = offset.next();
            }
        }
        if (self.events.len() as u64) < offset.prev().0 {
            return Err(format!("subscribers got {} of {} events", self.events.len(), offset.prev()));
        }
        Ok(())
    }
}
