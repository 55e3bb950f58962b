//! Every model can fail: one step of a shipped file at a time is weakened, put off, taken apart or taken out, and one of
//! the models has to fail. The steps are found by their text in the file as it stands, so that a row that fits nothing
//! any more fails too.

use crate::lab::{Model, explore};
use crate::sync_model::{Line, Plant};
use crate::{logs, small, wakes};

/// A file that is checked.
struct Checked {
    file: &'static str,
    text: &'static str,
    models: &'static [&'static [Model]],
    /// Steps whose order nothing here rests on, and why it is there all the same.
    unneeded: &'static [(&'static str, &'static str)],
}

const SWITCH: &str = "a switch that carries nothing with it";
const ALONE: &str = "a value that stands alone; nobody reads anything else on the strength of it";
const BOUND: &str = "the order of the index, stored after it and loaded before it, makes it new enough";

const WAKE: Checked = Checked {
    file: "src/agent/wake.rs",
    text: include_str!("../../src/agent/wake.rs"),
    models: &[wakes::ALL],
    unneeded: &[("compare_exchange(true, false", "the fences order; the flag only says who pays")],
};

const PUBLISHED: Checked = Checked {
    file: "src/log/published.rs",
    text: include_str!("../../src/log/published.rs"),
    models: &[logs::ALL],
    unneeded: &[],
};

const CONTROL: Checked = Checked {
    file: "src/agent/control.rs",
    text: include_str!("../../src/agent/control.rs"),
    models: &[logs::ALL],
    unneeded: &[
        ("draining.store", SWITCH),
        ("draining.load", SWITCH),
        ("drained.store", SWITCH),
        ("drained.load", SWITCH),
        ("stopped.store", "a switch; what goes with it, the reason, is behind a lock"),
        ("stopped.load", "a switch; what goes with it, the reason, is behind a lock"),
        ("ready.store", SWITCH),
        ("ready.load", SWITCH),
        ("last_offset.store", BOUND),
        ("last_offset.load", BOUND),
        ("readable_offset.store", BOUND),
        ("readable_offset.load", BOUND),
        ("commit_hint.store", ALONE),
        ("commit_hint.load", ALONE),
        ("floor_offset.store", ALONE),
        ("floor_offset.load", ALONE),
    ],
};

const GAUGE: Checked = Checked {
    file: "src/agent/gauge.rs",
    text: include_str!("../../src/agent/gauge.rs"),
    models: &[small::ALL],
    unneeded: &[
        ("fetch_update", "a count; that it is taken in one step is what matters"),
        ("fetch_sub", "a count; that it is taken in one step is what matters"),
        ("load(", ALONE),
    ],
};

/// The model in the place of `rtrb`: what it assumes of the real one is needed.
const RING: Checked = Checked {
    file: "tests/threads/ring_model.rs",
    text: include_str!("ring_model.rs"),
    models: &[&[wakes::ONE_ITEM, wakes::RING_GOES_ROUND]],
    unneeded: &[],
};

impl Checked {
    /// The lines before the unit tests that match, comments and imports left out.
    fn lines(&self, matches: impl Fn(&str) -> bool) -> Vec<(Line, &'static str)> {
        let code = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        let numbered = code.lines().map(str::trim).zip(1..);
        let steps = numbered.filter(|(text, _)| {
            !text.starts_with("//") && !text.starts_with("use ") && !text.starts_with("pub use ")
        });
        let found = steps.filter(|(text, _)| matches(text));
        found.map(|(text, number)| (Line { file: self.file, number }, text)).collect()
    }

    fn line(&self, step: &str) -> Line {
        let found = self.lines(|text| text.contains(step));
        assert_eq!(found.len(), 1, "'{step}' is one line of {}: {found:?}", self.file);
        found[0].0
    }

    fn fails(&self, bug: (Plant, Line)) -> Option<(&'static str, String, u64)> {
        let mut hit = false;
        for model in self.models.iter().copied().flatten() {
            let outcome = explore(*model, Some(bug));
            hit |= outcome.hit;
            if let Some(failure) = outcome.failure {
                return Some((model.name, failure, outcome.executions));
            }
        }
        assert!(hit, "no model takes the step {bug:?}");
        None
    }

    fn must_fail(&self, plant: Plant, step: &str) {
        let line = self.line(step);
        let Some((model, failure, executions)) = self.fails((plant, line)) else {
            panic!("{plant:?} at {}:{} ('{step}') is not noticed", self.file, line.number);
        };
        let failure = failure.lines().next().unwrap_or_default();
        println!("{plant:?} {step}: '{model}' fails in execution {executions}: {failure:.100}");
    }

    /// Each order stronger than relaxed, made weaker.
    fn every_order_is_needed(&self) {
        const STRONG: [&str; 4] =
            ["Ordering::SeqCst", "Ordering::AcqRel", "Ordering::Acquire", "Ordering::Release"];
        let strong = self.lines(|text| STRONG.iter().any(|order| text.contains(order)));
        assert!(!strong.is_empty(), "{} has such steps", self.file);
        for (step, _) in self.unneeded {
            assert!(strong.iter().any(|(_, text)| text.contains(step)), "'{step}' stands in {}", self.file);
        }
        for (line, text) in strong {
            if self.unneeded.iter().any(|(step, _)| text.contains(step)) {
                continue;
            }
            let Some((model, _, executions)) = self.fails((Plant::Weaker, line)) else {
                panic!("a weaker order at {}:{} ('{text}') is not noticed", self.file, line.number);
            };
            println!("weaker {}:{} {text} '{model}' fails in execution {executions}", self.file, line.number);
        }
    }
}

#[test]
fn every_order_of_the_wake_up_is_needed() {
    WAKE.every_order_is_needed();
}

#[test]
fn every_order_of_the_published_tail_is_needed() {
    PUBLISHED.every_order_is_needed();
}

#[test]
fn every_order_of_the_commit_tail_is_needed() {
    CONTROL.every_order_is_needed();
}

#[test]
fn every_order_of_the_ring_is_needed() {
    RING.every_order_is_needed();
}

#[test]
fn a_new_order_of_the_gauge_would_be_looked_at() {
    GAUGE.every_order_is_needed();
}

#[test]
fn a_wake_up_that_lacks_a_step_is_noticed() {
    for (number, fence) in WAKE.lines(|text| text.starts_with("fence(")).into_iter().enumerate() {
        let (model, failure, _) = WAKE.fails((Plant::Gone, fence.0)).expect("both fences are needed");
        assert!(failure.contains("deadlock"), "{failure}");
        println!("without fence {number}: '{model}' fails: {failure:.60}");
    }
    WAKE.must_fail(Plant::Late, "sleeping.store(true");
    WAKE.must_fail(Plant::Gone, "sleeping.store(true");
}

#[test]
fn a_tail_published_in_another_order_is_noticed() {
    PUBLISHED.must_fail(Plant::Late, "self.end_position.store(");
    PUBLISHED.must_fail(Plant::Late, "self.next_offset.store(");
    for field in ["index", "base_offset", "position", "prev_chain"] {
        PUBLISHED.must_fail(Plant::Gone, &format!("cell.{field}.store("));
    }
    PUBLISHED.must_fail(Plant::Late, "cell.prev_chain.store(");
}

#[test]
fn pairs_published_in_another_order_are_noticed() {
    CONTROL.must_fail(Plant::Late, "last_offset.store(");
    CONTROL.must_fail(Plant::Late, "readable_offset.store(");
}

#[test]
fn a_count_taken_in_two_steps_is_noticed() {
    GAUGE.must_fail(Plant::Split, ".fetch_update(");
    GAUGE.must_fail(Plant::Split, ".fetch_sub(");
}

#[test]
fn a_look_or_a_count_in_the_wrong_place_is_noticed() {
    for model in [wakes::LOOKS_FIRST, wakes::NOTIFIES_FIRST, logs::NEWS_ONCE, logs::COUNTED] {
        let outcome = explore(model, None);
        let failure = outcome.failure.unwrap_or_else(|| panic!("'{}' is not noticed", model.name));
        println!("'{}' fails in execution {}: {failure:.80}", model.name, outcome.executions);
    }
}
