//! Running a model through all its executions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::sync_model::{self, Line, Plant};

/// A small program of a few threads, which fails by a panic: an assertion, a deadlock, a race on plain memory, a loop
/// without an end.
#[derive(Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    /// Switches away from a thread that could have gone on; `None`: as many as there may be.
    pub preemptions: Option<usize>,
    pub run: fn(),
}

/// What came of it.
pub struct Outcome {
    /// How many executions were looked at.
    pub executions: u64,
    /// What the last of them said, if it failed.
    pub failure: Option<String>,
    /// Whether the planted step was ever taken.
    pub hit: bool,
}

/// The model's own bound, or that of `THREADS_PREEMPTIONS` (a number, or `all`).
fn bound_of(model: Model) -> Option<usize> {
    match std::env::var("THREADS_PREEMPTIONS") {
        Ok(bound) if bound == "all" => None,
        Ok(bound) => Some(bound.parse().expect("THREADS_PREEMPTIONS is a number or 'all'")),
        Err(_) => model.preemptions,
    }
}

/// Runs a model on a thread of its own, with a bug planted or without.
pub fn explore(model: Model, bug: Option<(Plant, Line)>) -> Outcome {
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    let bound = bound_of(model);
    let whole = move || {
        sync_model::plant(bug);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = bound;
        let checked = AssertUnwindSafe(move || {
            builder.check(move || {
                count.fetch_add(1, Ordering::Relaxed);
                sync_model::begin();
                (model.run)();
            });
        });
        let failure = catch_unwind(checked).err().map(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        });
        (failure, sync_model::was_hit())
    };
    let (failure, hit) = std::thread::spawn(whole).join().expect("the checker's own thread");
    Outcome { executions: executions.load(Ordering::Relaxed), failure, hit }
}

/// No execution fails.
pub fn check(model: Model) {
    let begun = Instant::now();
    let Outcome { executions, failure, .. } = explore(model, None);
    let bound = bound_of(model).map_or("all orders".to_owned(), |bound| format!("{bound} preemptions"));
    println!("{}: {executions} executions ({bound}), {:.2?}", model.name, begun.elapsed());
    assert_eq!(failure, None, "{}", model.name);
    assert!(executions > 1, "{}: there is more than one order of its steps", model.name);
}
