//! Padded single-writer counters and their registry.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

type Padded = CachePadded<AtomicU64>;

/// The writing end of one counter. It moves between threads but is never shared (`Send`, not `Sync`, not `Clone`),
/// so load and store, both relaxed, lose no update.
pub struct Counter {
    cell: Arc<Padded>,
    one_writer: PhantomData<Cell<()>>,
}

impl Counter {
    /// A counter that stands in no registry: for tests and for parts built without metrics.
    #[must_use]
    pub fn detached() -> Self {
        Self::over(Arc::default())
    }

    fn over(cell: Arc<Padded>) -> Self {
        Self { cell, one_writer: PhantomData }
    }

    /// Adds `count`; wraps at 2^64.
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Replaces the value: for gauges such as 'entries in flight'.
    pub fn set(&self, value: u64) {
        self.cell.store(value, Ordering::Relaxed);
    }

    /// Raises the value to `value` where that is higher: for maxima.
    pub fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// What the writer last wrote.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.get())
    }
}

/// One row of the registry.
struct Row {
    name: &'static str,
    instance: Option<u16>,
    cell: Arc<Padded>,
}

/// All counters of a process by name. Clones share the registry; the lock is taken for registration and snapshots
/// alone, never by a writer.
#[derive(Clone, Default)]
pub struct Counters {
    rows: Arc<Mutex<Vec<Row>>>,
}

impl Counters {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the counter `name`, at zero.
    ///
    /// # Panics
    /// When the name is taken: it would give one counter two writers, which is a mistake in the assembly.
    #[must_use]
    pub fn register(&self, name: &'static str) -> Counter {
        self.insert(name, None)
    }

    /// Makes the counter `name` of one instance (a peer's number, a connection's slot); it is read as
    /// `name.instance`.
    ///
    /// # Panics
    /// When name and instance together are taken.
    #[must_use]
    pub fn register_instance(&self, name: &'static str, instance: u16) -> Counter {
        self.insert(name, Some(instance))
    }

    fn insert(&self, name: &'static str, instance: Option<u16>) -> Counter {
        let mut rows = self.rows.lock();
        assert!(
            !rows.iter().any(|row| row.name == name && row.instance == instance),
            "counter '{name}' ({instance:?}) has a writer already"
        );
        let cell = Arc::<Padded>::default();
        rows.push(Row { name, instance, cell: Arc::clone(&cell) });
        Counter::over(cell)
    }

    /// Every counter's name and value, sorted by name and instance. Values are read one after the other: each is
    /// whole, but they do not belong to one instant.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, u64)> {
        let rows = self.rows.lock();
        let mut taken: Vec<_> =
            rows.iter().map(|row| ((row.name, row.instance), row.cell.load(Ordering::Relaxed))).collect();
        taken.sort_unstable();
        let shown = |(name, instance): (&str, Option<u16>)| match instance {
            Some(instance) => format!("{name}.{instance}"),
            None => name.to_owned(),
        };
        taken.into_iter().map(|(key, value)| (shown(key), value)).collect()
    }

    /// The value of one counter; `None` when nobody registered it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<u64> {
        let rows = self.rows.lock();
        let row = rows.iter().find(|row| row.name == name && row.instance.is_none())?;
        Some(row.cell.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.snapshot()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Counters, Padded};

    #[test]
    fn a_snapshot_is_sorted_and_holds_what_the_writers_wrote() {
        let counters = Counters::new();
        let (stalls, peak) = (counters.register("ring_stalls"), counters.register("peak"));
        let peers: Vec<Counter> = [10, 2].map(|peer| counters.register_instance("sent", peer)).into();
        stalls.add(4);
        stalls.increment();
        peak.raise_to(9);
        peak.raise_to(3);
        peers[0].set(7);
        let expected = [("peak", 9), ("ring_stalls", 5), ("sent.2", 0), ("sent.10", 7)];
        assert_eq!(counters.snapshot(), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(counters.value("ring_stalls"), Some(5));
        assert_eq!(counters.value("sent"), None);
    }

    #[test]
    fn readers_on_other_threads_see_a_writer_that_loses_nothing() {
        let counters = Counters::new();
        let counter = counters.register("events");
        std::thread::scope(|scope| {
            scope.spawn(move || (0..100_000).for_each(|_| counter.increment()));
            scope.spawn(|| {
                let mut last = 0;
                while last < 100_000 {
                    let seen = counters.value("events").unwrap();
                    assert!(seen >= last, "a counter never goes back");
                    last = seen;
                }
            });
        });
        assert_eq!(counters.value("events"), Some(100_000));
    }

    #[test]
    #[should_panic(expected = "has a writer already")]
    fn one_name_has_one_writer() {
        let counters = Counters::new();
        let _first = counters.register("twice");
        let _second = counters.register("twice");
    }

    #[test]
    fn two_counters_never_share_a_cache_line() {
        assert!(std::mem::align_of::<Padded>() >= 64);
    }
}
