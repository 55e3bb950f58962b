//! `TermRuns` against a plain vector.

use super::{i, id, t};
use crate::base::ids::{EntryId, LogIndex, Term};
use crate::base::prng::Prng;
use crate::raft::{LogView, TermRuns, TermRunsError};

fn compare(runs: &TermRuns, model: &[Term], base: usize) {
    assert_eq!(runs.last_index().get() as usize, model.len());
    assert_eq!(runs.first_index().get() as usize, base + 1);
    for index in 0..model.len() + 2 {
        let held = index >= base && index <= model.len();
        let want = held.then(|| if index == 0 { Term::ZERO } else { model[index - 1] });
        assert_eq!(runs.term_at(LogIndex(index as u64)), want, "index {index} in {runs:?}");
    }
    let last_term = model.last().copied().unwrap_or(Term::ZERO);
    assert_eq!(runs.last_id(), EntryId::new(last_term, LogIndex(model.len() as u64)));
    let top = last_term.get() + 1;
    for limit in base..model.len() + 2 {
        for term_max in 0..=top {
            let found = (base + 1..=limit.min(model.len())).rev().find(|&at| model[at - 1].get() <= term_max);
            let want = found.map_or(runs.base(), |at| EntryId::new(model[at - 1], LogIndex(at as u64)));
            assert_eq!(
                runs.last_at_or_below(i(limit as u64), t(term_max)),
                want,
                "{limit} {term_max} {runs:?}"
            );
        }
    }
}

#[test]
fn runs_of_terms_answer_as_a_vector_does() {
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let (mut runs, mut model, mut base) = (TermRuns::new(), Vec::<Term>::new(), 0);
        for _ in 0..40 {
            match prng.below(10) {
                0..=6 => {
                    let term = Term(model.last().map_or(1, |t| t.get()) + u64::from(prng.chance(300_000)));
                    model.push(term);
                    assert_eq!(runs.push(term), EntryId::new(term, LogIndex(model.len() as u64)));
                }
                7 | 8 => {
                    let first = base + 1 + prng.below((model.len() - base) as u64 + 1) as usize;
                    runs.truncate_from(LogIndex(first as u64));
                    model.truncate(first - 1);
                }
                _ => {
                    base += prng.below((model.len() - base) as u64 + 1) as usize;
                    runs.trim_prefix(LogIndex(base as u64));
                }
            }
            compare(&runs, &model, base);
        }
    }
}

#[test]
fn recovery_appends_are_checked() {
    let mut runs = TermRuns::from_terms(&super::terms(&[1, 3]));
    assert_eq!(runs.append(id(3, 4)), Err(TermRunsError::Gap { last: i(2), found: id(3, 4) }));
    assert_eq!(runs.append(id(2, 3)), Err(TermRunsError::TermFalls { last: t(3), found: id(2, 3) }));
    assert_eq!(runs.append(id(3, 3)), Ok(()));
    assert_eq!(runs.last_id(), id(3, 3));
    let mut later = TermRuns::after(id(4, 10));
    assert!(later.contains(id(4, 10)) && !later.contains(id(4, 9)));
    assert_eq!(later.append(id(4, 11)), Ok(()));
    assert_eq!(later.first_index(), i(11));
}
