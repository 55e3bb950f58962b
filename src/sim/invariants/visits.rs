//! A subscription, wherever it begins and whatever it wants, gets every event that it wants once, in order and without a
//! gap, up to where the node says that it has it all.

use std::collections::BTreeMap;

use super::{End, Invariant};
use crate::base::ids::Offset;
use crate::protocol::client::SubscribeFrom;
use crate::sim::workload::Beginning;
use crate::stream::TopicFilter;

/// What came over one subscription.
struct Reading {
    filter: &'static str,
    start: Offset,
    /// It has what it wants up to here, as the node says.
    through: Offset,
    got: Vec<Offset>,
}

#[derive(Default)]
pub(super) struct Visits {
    readings: BTreeMap<u64, Reading>,
}

impl Visits {
    fn reading(&mut self, reading: u64) -> Result<&mut Reading, String> {
        self.readings.get_mut(&reading).ok_or_else(|| format!("subscription {reading:x} has not begun"))
    }
}

impl Invariant for Visits {
    fn name(&self) -> &'static str {
        "subscriptions miss nothing"
    }

    fn began(&mut self, beginning: &Beginning) -> Result<(), String> {
        let Beginning { reading, from, filter, start, last_offset, heard } = *beginning;
        let is_right = match from {
            SubscribeFrom::Latest => start == last_offset.next() && start > heard,
            SubscribeFrom::Earliest => start >= Offset(1) && start <= last_offset.next(),
            SubscribeFrom::Offset(offset) => start == offset,
        };
        if !is_right {
            return Err(format!(
                "asked to begin with {from:?} behind {heard}, a subscription begins with {start} of {last_offset}"
            ));
        }
        self.readings.insert(reading, Reading { filter, start, through: start.prev(), got: Vec::new() });
        Ok(())
    }

    fn got(&mut self, reading: u64, offset: Offset) -> Result<(), String> {
        let reading = self.reading(reading)?;
        if offset <= reading.through {
            return Err(format!(
                "offset {offset} came behind the word that all is sent to {}",
                reading.through
            ));
        }
        if reading.got.last().is_some_and(|last| *last >= offset) {
            return Err(format!("offset {offset} came again, or late"));
        }
        reading.got.push(offset);
        Ok(())
    }

    fn looked_through(&mut self, reading: u64, offset: Offset) -> Result<(), String> {
        let reading = self.reading(reading)?;
        reading.through = reading.through.max(offset);
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let mut wanted: BTreeMap<&'static str, Vec<Offset>> = BTreeMap::new();
        for reading in self.readings.values() {
            wanted.entry(reading.filter).or_default();
        }
        for (text, offsets) in &mut wanted {
            let filter = if text.is_empty() { "*" } else { text };
            let filter = TopicFilter::parse(filter).map_err(|error| error.to_string())?;
            for entry in end.log() {
                let Ok(events) = entry.events() else { continue };
                offsets.extend(
                    events.iter().filter(|(_, event)| filter.matches(event.topic)).map(|(offset, _)| offset),
                );
            }
        }
        for (number, reading) in &self.readings {
            let offsets = &wanted[reading.filter];
            let first = offsets.partition_point(|offset| *offset < reading.start);
            let end = offsets.partition_point(|offset| *offset <= reading.through).max(first);
            let due = &offsets[first..end];
            if due != reading.got {
                let place = due.iter().zip(&reading.got).take_while(|(due, got)| due == got).count();
                return Err(format!(
                    "subscription {number:x} of '{}' from {} has all up to {}, it is told, but got {:?} where {:?} was due",
                    reading.filter,
                    reading.start,
                    reading.through,
                    reading.got.get(place),
                    due.get(place)
                ));
            }
        }
        Ok(())
    }
}
