//! `base::sync` over loom. Beside counting for the checker, each operation knows the line of the shipped file that it
//! stands in, so that a test can plant a bug in that one step ([`Plant`]) without a copy of the file.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc as StdArc;
pub use std::sync::atomic::Ordering;

use loom::sync::atomic as checked;

/// A line of a source file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// The end of the file's path.
    pub file: &'static str,
    /// From 1.
    pub number: u32,
}

/// What is done to a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// The next weaker order: SeqCst to AcqRel, all others to Relaxed.
    Weaker,
    /// Not done at all.
    Gone,
    /// A store that other threads see only after the next step of its thread.
    Late,
    /// A read-modify-write made of a load and a store.
    Split,
}

/// A store that a thread has put off.
type PutOff = (loom::thread::ThreadId, Box<dyn FnOnce()>);

thread_local! {
    // One model runs on one thread of the system, all of its threads included.
    static PLANTED: Cell<Option<(Plant, Line)>> = const { Cell::new(None) };
    static LATE: RefCell<Vec<PutOff>> = const { RefCell::new(Vec::new()) };
    static HIT: Cell<bool> = const { Cell::new(false) };
    static COUNT_HOLDERS: Cell<bool> = const { Cell::new(false) };
}

/// Plants a bug in what the calling thread models from here on.
pub fn plant(bug: Option<(Plant, Line)>) {
    PLANTED.set(bug);
    HIT.set(false);
}

/// Whether the planted step was ever taken.
pub fn was_hit() -> bool {
    HIT.get()
}

/// Before each execution: nothing is left over from the one before.
pub fn begin() {
    LATE.take();
    COUNT_HOLDERS.set(false);
}

/// From here on in this execution, the count of an [`Arc`] is a part of the model.
pub fn count_holders() {
    COUNT_HOLDERS.set(true);
}

fn planted_at(at: &Location<'_>) -> Option<Plant> {
    let (plant, line) = PLANTED.get()?;
    let here = at.line() == line.number && at.file().ends_with(line.file);
    HIT.set(HIT.get() || here);
    here.then_some(plant)
}

fn order_at(plant: Option<Plant>, order: Ordering) -> Ordering {
    match (plant, order) {
        (Some(Plant::Weaker), Ordering::SeqCst) => Ordering::AcqRel,
        (Some(Plant::Weaker), _) => Ordering::Relaxed,
        _ => order,
    }
}

/// What this thread has put off is done now.
fn catch_up() {
    let me = loom::thread::current().id();
    let mine = LATE.with_borrow_mut(|late| {
        let at = late.iter().position(|(thread, _)| *thread == me)?;
        Some(late.remove(at).1)
    });
    if let Some(step) = mine {
        step();
    }
}

#[track_caller]
pub fn fence(order: Ordering) {
    let plant = planted_at(Location::caller());
    if plant != Some(Plant::Gone) {
        checked::fence(order_at(plant, order));
    }
    catch_up();
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub struct $name(StdArc<checked::$name>);

        #[allow(dead_code)]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self(StdArc::new(checked::$name::new(value)))
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                let plant = planted_at(Location::caller());
                let value = self.0.load(order_at(plant, order));
                catch_up();
                value
            }

            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                let plant = planted_at(Location::caller());
                match plant {
                    Some(Plant::Gone) => catch_up(),
                    Some(Plant::Late) => {
                        let (me, cell) = (loom::thread::current().id(), StdArc::clone(&self.0));
                        let step = move || cell.store(value, order);
                        LATE.with_borrow_mut(|late| late.push((me, Box::new(step))));
                    }
                    _ => {
                        self.0.store(value, order_at(plant, order));
                        catch_up();
                    }
                }
            }

            #[track_caller]
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let plant = planted_at(Location::caller());
                let outcome = if plant == Some(Plant::Split) {
                    let before = self.0.load(fetch);
                    change(before).map(|after| self.0.store(after, set)).map(|()| before).ok_or(before)
                } else {
                    self.0.fetch_update(order_at(plant, set), order_at(plant, fetch), change)
                };
                catch_up();
                outcome
            }

            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.change(Location::caller(), order, |_| value, |cell, order| cell.swap(value, order))
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let plant = planted_at(Location::caller());
                let outcome = if plant == Some(Plant::Split) {
                    let before = self.0.load(Ordering::Acquire);
                    if before == current {
                        self.0.store(new, Ordering::Release);
                    }
                    if before == current { Ok(before) } else { Err(before) }
                } else {
                    self.0.compare_exchange(current, new, order_at(plant, success), failure)
                };
                catch_up();
                outcome
            }

            /// A read-modify-write that always writes: in two steps where that is planted, else in one.
            fn change(
                &self,
                at: &Location<'_>,
                order: Ordering,
                after: impl FnOnce($value) -> $value,
                whole: impl FnOnce(&checked::$name, Ordering) -> $value,
            ) -> $value {
                let plant = planted_at(at);
                let before = if plant == Some(Plant::Split) {
                    let before = self.0.load(Ordering::Acquire);
                    self.0.store(after(before), Ordering::Release);
                    before
                } else {
                    whole(&self.0, order_at(plant, order))
                };
                catch_up();
                before
            }
        }
    };
}

macro_rules! counting {
    ($name:ident, $value:ty) => {
        #[allow(dead_code)]
        impl $name {
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                let after = |before: $value| before.wrapping_add(value);
                self.change(Location::caller(), order, after, |cell, order| cell.fetch_add(value, order))
            }

            #[track_caller]
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                let after = |before: $value| before.wrapping_sub(value);
                self.change(Location::caller(), order, after, |cell, order| cell.fetch_sub(value, order))
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);
counting!(AtomicU64, u64);
counting!(AtomicUsize, usize);

/// `std::sync::Arc`, with the orders that std gives its count: whoever clones or counts takes part in none, whoever lets
/// go releases, and `get_mut` acquires. The count is a part of the model only where [`count_holders`] was called.
#[derive(Debug)]
pub struct Arc<T> {
    value: StdArc<T>,
    holders: Option<StdArc<checked::AtomicUsize>>,
}

impl<T> Arc<T> {
    pub fn new(value: T) -> Self {
        let counted = COUNT_HOLDERS.get().then(|| StdArc::new(checked::AtomicUsize::new(1)));
        Self { value: StdArc::new(value), holders: counted }
    }

    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if this.holders.as_ref().is_some_and(|holders| holders.load(Ordering::Acquire) != 1) {
            return None;
        }
        StdArc::get_mut(&mut this.value)
    }

    pub fn strong_count(this: &Self) -> usize {
        let counted = this.holders.as_ref().map(|holders| holders.load(Ordering::Relaxed));
        counted.unwrap_or_else(|| StdArc::strong_count(&this.value))
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        if let Some(holders) = &self.holders {
            holders.fetch_add(1, Ordering::Relaxed);
        }
        Self { value: StdArc::clone(&self.value), holders: self.holders.clone() }
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        if let Some(holders) = self.holders.as_ref().filter(|_| !std::thread::panicking()) {
            holders.fetch_sub(1, Ordering::Release);
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default> Default for Arc<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
