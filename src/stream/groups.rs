//! The events of a batch, gathered by producer before any table is touched.

use crate::base::ids::{ProducerId, Sequence};
use crate::entry::{EventsView, ProducerRef};

use super::runs::Run;

/// Consecutive events of one producer.
#[derive(Clone, Copy, Debug)]
struct Group {
    slot: u16,
    run: Run,
}

/// A batch as runs, those of one producer side by side and in the log's order.
pub(super) struct Groups<'a> {
    events: &'a EventsView<'a>,
    groups: Vec<Group>,
}

impl<'a> Groups<'a> {
    /// One pass over the events, one allocation a batch.
    pub(super) fn of(events: &'a EventsView<'a>) -> Self {
        let mut groups: Vec<Group> = Vec::with_capacity(events.producers().len());
        for (offset, event) in events.iter() {
            match groups.last_mut() {
                Some(last)
                    if last.slot == event.producer_slot && last.run.end_sequence() == event.sequence =>
                {
                    last.run.count += 1;
                }
                _ => {
                    let run = Run { first_sequence: event.sequence, first_offset: offset, count: 1 };
                    groups.push(Group { slot: event.producer_slot, run });
                }
            }
        }
        // Stable: within one slot the order of the log stays.
        groups.sort_by_key(|group| group.slot);
        Self { events, groups }
    }

    /// Each producer of the batch with its runs.
    pub(super) fn by_producer(
        &self,
    ) -> impl Iterator<Item = (ProducerRef<'a>, impl Iterator<Item = Run> + Clone)> {
        self.groups.chunk_by(|a, b| a.slot == b.slot).map(|chunk| {
            let slot = chunk[0].slot;
            let producer = self.events.producers().get(slot).expect("a decoded batch has every slot in use");
            (producer, chunk.iter().map(|group| group.run))
        })
    }
}

/// Producer and sequence of each event of a batch, in the log's order.
pub(super) fn each_event<'a>(
    events: &'a EventsView<'a>,
) -> impl Iterator<Item = (ProducerId, Sequence)> + 'a {
    events.iter().filter_map(|(_, event)| {
        let producer = events.producers().get(event.producer_slot)?;
        Some((producer.id, event.sequence))
    })
}
