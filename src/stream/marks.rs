//! How far a view of the log has come, in every unit, and the rules that hold there.

use crate::base::ids::{LogIndex, Offset};
use crate::entry::{Configuration, EntryHeader};

/// State behind one entry. The table has one for the last applied entry, the overlay one for the last appended.
///
/// Invariants: nothing here ever falls, but for `window_ns` and `producers_max`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Marks {
    /// The last entry.
    pub(super) index: LogIndex,
    /// Offset of the next event.
    pub(super) next_offset: Offset,
    /// The log's time.
    pub(super) log_time_ns: u64,
    /// A producer last active before this is expired. It never falls, so what is expired stays so even when a
    /// configuration widens the window.
    pub(super) expiry_floor_ns: u64,
    pub(super) window_ns: u64,
    /// Most producers at a time.
    pub(super) producers_max: u32,
}

impl Marks {
    /// Before the first entry, which is a configuration and sets the rules: until then nothing expires and nothing
    /// can be opened.
    pub(super) const START: Self = Self {
        index: LogIndex::ZERO,
        next_offset: Offset(1),
        log_time_ns: 0,
        expiry_floor_ns: 0,
        window_ns: u64::MAX,
        producers_max: 0,
    };

    /// The log's time at the entry of `header`, which comes next. A time that falls counts as standing still.
    pub(super) fn time_of(&self, header: &EntryHeader) -> u64 {
        self.log_time_ns.max(header.log_time_ns)
    }

    /// Goes on by one entry, in log order and without a gap.
    pub(super) fn advance(&mut self, header: &EntryHeader, configuration: Option<&Configuration>) {
        assert_eq!(header.index, self.index.next(), "entries come in log order, each once");
        assert_eq!(header.base_offset, self.next_offset, "offsets are dense");
        self.log_time_ns = self.time_of(header);
        self.index = header.index;
        self.next_offset = header.next_offset();
        if let Some(configuration) = configuration {
            self.window_ns = configuration.producers_window_ns;
            self.producers_max = configuration.producers_max;
        }
        self.expiry_floor_ns = self.expiry_floor_ns.max(self.log_time_ns.saturating_sub(self.window_ns));
    }

    /// Whether a producer last active then has not expired.
    pub(super) fn is_live(&self, last_active_ns: u64) -> bool {
        last_active_ns >= self.expiry_floor_ns
    }
}
