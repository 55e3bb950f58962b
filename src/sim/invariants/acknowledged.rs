//! What a client was told to be written stands in the committed log at the end, at exactly that offset, once.

use std::collections::BTreeMap;

use super::{End, Invariant};
use crate::base::ids::Offset;
use crate::sim::workload::{Ack, producer_name};

#[derive(Default)]
pub(super) struct Acknowledged {
    /// Offset (zero: unknown) by producer and sequence.
    told: BTreeMap<(u16, u64), Offset>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged is durable"
    }

    fn acknowledged(&mut self, ack: &Ack) -> Result<(), String> {
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
