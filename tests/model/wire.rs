//! What is on its way between nodes: for each ordered pair the newest messages.
//!
//! Nothing is taken off when it arrives: it may arrive again, later or at once, in any order with others, or never. So
//! a path that loses, doubles or delays needs no step of its own for that, and the wire is a matter of what was sent
//! alone.

use tercet::base::ids::{EntryId, Term};
use tercet::raft::Message;

use super::kept::Kept;

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// A message of the core.
    Raft(Message),
    /// A leader's checkpoint, whole and checked, and that the log begins behind this entry.
    Checkpoint(Term, EntryId),
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    /// Place of the sender.
    pub from: usize,
    /// Place of the receiver.
    pub to: usize,
    /// What is said.
    pub word: Word,
}

impl Flight {
    const fn link(&self) -> (usize, usize) {
        (self.from, self.to)
    }
}

/// By link; on one link in order of sending.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Wire {
    flights: Vec<Kept<Flight>>,
}

impl Wire {
    /// What may arrive.
    pub fn flights(&self) -> &[Kept<Flight>] {
        &self.flights
    }

    /// Puts a message behind the others of its link, of which the newest `capacity` stay.
    pub fn put(&mut self, capacity: usize, flight: Flight) {
        let flight = Kept::new(flight);
        let begin = self.flights.partition_point(|known| known.link() < flight.link());
        let mut end = self.flights.partition_point(|known| known.link() <= flight.link());
        if let Some(same) = self.flights[begin..end].iter().position(|known| *known == flight) {
            self.flights.remove(begin + same);
            end -= 1;
        } else if end - begin >= capacity {
            self.flights.remove(begin);
            end -= 1;
        }
        self.flights.insert(end, flight);
    }

    /// Loses what `is_lost` says.
    pub fn lose(&mut self, is_lost: impl Fn(&Flight) -> bool) {
        self.flights.retain(|flight| !is_lost(flight));
    }
}
