//! What a publish has achieved so far.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tercet::base::ids::{Offset, Sequence};
use tercet::client::{Ack, AckKind};

/// Counts of one run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Sequences below this one were in the log when the producer was opened.
    expected: Sequence,
    /// Lines sent.
    pub published: u64,
    /// Lines acknowledged, duplicates included.
    pub acknowledged: u64,
    /// Lines that an earlier run had written.
    pub duplicates: u64,
    /// Lowest and highest offset acknowledged; zero when none is known.
    pub first_offset: Offset,
    /// See [`Tally::first_offset`].
    pub last_offset: Offset,
    first_send: Option<Instant>,
    last_ack: Option<Instant>,
}

impl Tally {
    /// Nothing sent yet. `expected` is the sequence that the cluster expected when the producer was opened.
    pub fn new(expected: Sequence) -> Self {
        Self {
            expected,
            published: 0,
            acknowledged: 0,
            duplicates: 0,
            first_offset: Offset::ZERO,
            last_offset: Offset::ZERO,
            first_send: None,
            last_ack: None,
        }
    }

    /// A line was handed to the publisher.
    pub fn sent(&mut self, now: Instant) {
        self.published += 1;
        self.first_send.get_or_insert(now);
    }

    /// Events were acknowledged.
    pub fn take(&mut self, ack: &Ack, now: Instant) {
        self.acknowledged += u64::from(ack.count);
        self.last_ack = Some(now);
        if ack.kind != AckKind::Written {
            // What this run wrote and sent again after a failover comes back as a duplicate too. Opening a producer
            // fences its earlier publishers, so nobody but this run can have written `expected` and later ones.
            let before = self.expected.since(ack.first_sequence).min(u64::from(ack.count));
            self.duplicates += before;
        }
        if ack.first_offset > Offset::ZERO {
            let last = ack.first_offset.plus(u64::from(ack.count) - 1);
            self.last_offset = self.last_offset.max(last);
            if self.first_offset == Offset::ZERO || ack.first_offset < self.first_offset {
                self.first_offset = ack.first_offset;
            }
        }
    }

    /// From the first send to the last acknowledgement.
    pub fn elapsed(&self) -> Duration {
        match (self.first_send, self.last_ack) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }

    /// Acknowledged lines a second.
    pub fn per_second(&self) -> f64 {
        let seconds = self.elapsed().as_secs_f64();
        if seconds > 0.0 { self.acknowledged as f64 / seconds } else { 0.0 }
    }

    /// As `publish --json` prints it.
    pub fn to_json(&self) -> Value {
        json!({
            "published": self.published,
            "acknowledged": self.acknowledged,
            "duplicates": self.duplicates,
            "first_offset": self.first_offset.0,
            "last_offset": self.last_offset.0,
            "elapsed_ms": (self.elapsed().as_secs_f64() * 1e6).round() / 1e3,
        })
    }

    /// As `publish` prints it.
    pub fn to_line(&self) -> String {
        let offsets = match self.last_offset {
            Offset::ZERO => String::new(),
            last => format!(" at offsets {} to {last}", self.first_offset),
        };
        format!(
            "{} of {} events acknowledged{offsets}, {} of them duplicates, in {:.3} s ({:.0}/s)",
            self.acknowledged,
            self.published,
            self.duplicates,
            self.elapsed().as_secs_f64(),
            self.per_second(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tercet::base::ids::{Offset, Sequence};
    use tercet::client::{Ack, AckKind};
    use tercet::entry::Durability;

    use super::Tally;

    fn ack(first: u64, count: u32, offset: u64, kind: AckKind, resent: bool) -> Ack {
        Ack {
            first_sequence: Sequence(first),
            count,
            first_offset: Offset(offset),
            kind,
            durability: Durability::Disk,
            resent,
        }
    }

    #[test]
    fn what_this_run_sent_twice_is_no_duplicate_and_what_another_wrote_is() {
        let (mut tally, now) = (Tally::new(Sequence(11)), Instant::now());
        tally.take(&ack(1, 4, 0, AckKind::DuplicateOffsetUnknown, false), now);
        tally.take(&ack(5, 8, 105, AckKind::Duplicate, true), now);
        tally.take(&ack(13, 2, 113, AckKind::Duplicate, true), now);
        tally.take(&ack(15, 2, 115, AckKind::Written, false), now);
        assert_eq!((tally.acknowledged, tally.duplicates), (16, 10));
        assert_eq!((tally.first_offset, tally.last_offset), (Offset(105), Offset(116)));
    }

    #[test]
    fn nothing_acknowledged_shows_zeros() {
        let json = Tally::new(Sequence(1)).to_json();
        for field in ["published", "acknowledged", "duplicates", "first_offset", "last_offset"] {
            assert_eq!(json[field], 0, "{field}");
        }
        assert_eq!(json["elapsed_ms"], 0.0);
    }
}
