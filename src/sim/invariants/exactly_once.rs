//! Each producer's events stand in the log once, in the order of their sequences, without a gap, as they were sent;
//! offsets are dense from 1.

use std::collections::BTreeMap;

use super::{End, Invariant};
use crate::base::ids::Offset;
use crate::sim::workload::body_of;

pub(super) struct ExactlyOnce;

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once, in order"
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        let mut next_offset = Offset(1);
        for entry in end.log() {
            let Ok(events) = entry.events() else { continue };
            for (offset, event) in &events {
                let producer =
                    events.producers().get(event.producer_slot).ok_or("an event without producer")?;
                if offset != next_offset {
                    return Err(format!("offset {offset} where {next_offset} is due"));
                }
                next_offset = next_offset.next();
                let due = next.entry(producer.name.to_owned()).or_insert(1);
                if event.sequence.0 != *due {
                    return Err(format!(
                        "{} has sequence {} at offset {offset}, where {due} is due",
                        producer.name, event.sequence
                    ));
                }
                *due += 1;
                let number: u16 = producer.name[1..].parse().map_err(|_| "an unknown producer")?;
                if event.body != body_of(number, event.sequence) {
                    return Err(format!("{} sequence {} has another body", producer.name, event.sequence));
                }
            }
        }
        Ok(())
    }
}
