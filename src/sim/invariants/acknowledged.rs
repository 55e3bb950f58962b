//! What a client is told to be written is committed by then, and stands in the committed log at the end, at exactly that offset, once.

use std::collections::BTreeMap;

use super::{End, Invariant, View};
use crate::base::ids::Offset;
use crate::sim::workload::{Ack, producer_name};

#[derive(Default)]
pub(super) struct Acknowledged {
    /// Offset (zero: unknown) by producer and sequence.
    told: BTreeMap<(u16, u64), Offset>,
    /// Some node has applied everything before it.
    next_offset: Offset,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged is durable"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        self.next_offset = self.next_offset.max(view.applied_next_offset);
        Ok(())
    }

    fn acknowledged(&mut self, ack: &Ack) -> Result<(), String> {
        if ack.offset >= self.next_offset {
            return Err(format!(
                "p{} sequence {} was acknowledged at offset {}, and nobody has applied {} ({:?})",
                ack.producer, ack.sequence, ack.offset, self.next_offset, ack.kind
            ));
        }
        let told = self.told.entry((ack.producer, ack.sequence.0)).or_insert(ack.offset);
        if *told == Offset::ZERO {
            *told = ack.offset;
        }
        if ack.offset != Offset::ZERO && *told != ack.offset {
            return Err(format!(
                "p{} sequence {} was acknowledged at offset {told}, and is now at {} ({:?})",
                ack.producer, ack.sequence, ack.offset, ack.kind
            ));
        }
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let mut places: BTreeMap<(String, u64), Offset> = BTreeMap::new();
        for entry in end.log() {
            let Ok(events) = entry.events() else { continue };
            for (offset, event) in &events {
                let producer =
                    events.producers().get(event.producer_slot).ok_or("an event without producer")?;
                places.insert((producer.name.to_owned(), event.sequence.0), offset);
            }
        }
        for ((producer, sequence), told) in &self.told {
            match places.get(&(producer_name(*producer), *sequence)) {
                Some(offset) if *told == Offset::ZERO || offset == told => {}
                found => {
                    return Err(format!(
                        "p{producer} sequence {sequence} was acknowledged at offset {told}; at the end it is {}",
                        found.map_or("nowhere".to_owned(), |offset| format!("at {offset}"))
                    ));
                }
            }
        }
        Ok(())
    }
}
