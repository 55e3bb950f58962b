//! An allocator that counts, so that a target can say how much memory a decoder took.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has taken and not given back (negative: it gave back another's).
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most that ever were.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted for each thread.
pub struct Counting;

fn note(change: isize) {
    // At the end of a thread its cells may be gone already; nobody measures there.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the promises of `GlobalAlloc`.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps the promises of `GlobalAlloc`.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: the caller keeps the promises of `GlobalAlloc`.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    // SAFETY: the caller keeps the promises of `GlobalAlloc`.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Runs `work` and gives its value.
///
/// # Panics
/// When it held more than `bytes_max` at any moment.
pub fn within<T>(what: &str, bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let value = work();
    let taken = PEAK.get() - before;
    assert!(
        taken <= bytes_max as isize,
        "{what} took {taken} bytes of memory, at most {bytes_max} are allowed"
    );
    value
}

#[test]
fn what_is_taken_is_counted_and_too_much_is_a_finding() {
    within("a vector", 4096, || drop(vec![1u8; 4096]));
    let over = std::panic::catch_unwind(|| within("a vector", 4095, || drop(vec![1u8; 4096])));
    assert!(over.is_err());
    let zeroed = std::panic::catch_unwind(|| within("zeros", 1 << 20, || drop(vec![0u8; 1 << 30])));
    assert!(zeroed.is_err(), "also what the system gives lazily");
}
