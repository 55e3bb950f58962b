//! What a disk has acknowledged is still there after a start, or its node knows that it may be missing and answers for it
//! (rule 11, PITFALLS 60, 61); and whoever gets its vote has it (Raft paper, section 5.4.1). Committed entries are lost
//! where this fails, but only when the others that have them are out of reach just then.

use std::collections::BTreeMap;

use super::{Answer, Invariant, View, agreed};
use crate::base::ids::{EntryId, Incarnation, LogIndex, NodeId, Term};
use crate::raft::{AppendOutcome, LogView, Message, Role, TermRuns};

/// What a disk answers for.
struct Promise {
    life: u64,
    /// The last entry that it acknowledged, or counted as leader, and that no leader has taken back since.
    id: EntryId,
    /// The node's log when it was last known to have that entry; where it claims it, when it was started.
    log: TermRuns,
    /// The node's log and term now.
    now: (TermRuns, Term),
    /// The node's newest vote, and what the disk had acknowledged when it was cast. The word of it may leave much later,
    /// behind a slow disk or a full outbox; what was acknowledged since is no matter.
    vote: Option<(Term, NodeId, EntryId)>,
}

#[derive(Default)]
pub(super) struct Promises {
    of: BTreeMap<(NodeId, Incarnation), Promise>,
    /// Where a candidate's log ends.
    candidates: BTreeMap<(NodeId, Term), EntryId>,
}

impl Promise {
    fn is_kept(&self, view: &View<'_>) -> bool {
        let log = view.raft.log();
        self.id.index <= log.base().index || log.contains(self.id)
    }

    fn is_claimed(&self, view: &View<'_>) -> bool {
        view.raft.claimed_tail().is_some_and(|claimed| claimed >= self.id)
    }

    /// A leader had it cut off, or a claim is settled: what is left of it.
    fn lower(&mut self, log: &TermRuns) {
        let index = agreed(&self.log, log).min(self.id.index);
        self.id = log.term_at(index).map_or(EntryId::ZERO, |term| EntryId::new(term, index));
        self.log = log.clone();
    }
}

impl Invariant for Promises {
    fn name(&self) -> &'static str {
        "what a disk acknowledged it answers for"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let (log, term) = (view.raft.log(), view.raft.term());
        if view.raft.role() == Role::Candidate {
            self.candidates.insert((view.node, term), view.raft.last_id());
        }
        let disk = (view.node, view.incarnation);
        let promise = self.of.entry(disk).or_insert_with(|| Promise {
            life: view.life,
            id: EntryId::ZERO,
            log: log.clone(),
            now: (log.clone(), term),
            vote: None,
        });
        let is_new_life = promise.life != view.life;
        promise.life = view.life;
        if promise.now.0 != *log || is_new_life {
            if promise.is_kept(view) {
                promise.log = log.clone();
            } else if is_new_life && !view.has_mended {
                if promise.is_claimed(view) {
                    promise.log = log.clone();
                } else if view.raft.last_id() < promise.id {
                    return Err(format!(
                        "node {} had acknowledged {}, and started with {} and the claim {:?}",
                        view.node,
                        promise.id,
                        view.raft.last_id(),
                        view.raft.claimed_tail()
                    ));
                }
                // Else a last entry of a later term took it back: every log that has that entry has another one, or none,
                // in its place. A claim that says less than the log itself is dropped by the start.
            }
            promise.now.0 = log.clone();
        }
        promise.now.1 = term;
        if !promise.is_kept(view) && !promise.is_claimed(view) {
            promise.lower(log);
        }
        if let Some(candidate) = view.raft.hard_state().voted_for
            && promise.vote.is_none_or(|(of, to, _)| (of, to) != (term, candidate))
        {
            promise.vote = Some((term, candidate, promise.id));
        }
        // A candidate has voted for itself.
        if view.raft.role() == Role::Candidate && view.raft.last_id() < promise.id {
            return Err(format!(
                "node {} has acknowledged {}, and stands in term {term} with a log that ends with {}",
                view.node,
                promise.id,
                view.raft.last_id()
            ));
        }
        let stable = view.raft.stable_index();
        if view.raft.role() == Role::Leader && stable > promise.id.index {
            promise.raise(stable);
        }
        Ok(())
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let Some(promise) = self.of.get_mut(&(answer.from, answer.incarnation)) else { return Ok(()) };
        match answer.message {
            Message::AppendReply { term, outcome: AppendOutcome::Accepted { stable, .. } }
            | Message::HeartbeatReply { term, stable, .. }
                // What it said in an older term may be cut off since.
                if *term == promise.now.1 =>
            {
                promise.raise(*stable);
            }
            Message::VoteReply { term, granted: true, .. } => {
                let Some(last) = self.candidates.get(&(answer.to, *term)) else { return Ok(()) };
                let acknowledged = match promise.vote {
                    Some((of, to, acknowledged)) if (of, to) == (*term, answer.to) => acknowledged,
                    // A vote that it does not remember.
                    _ if *term == promise.now.1 => promise.id,
                    _ => return Ok(()),
                };
                if *last < acknowledged {
                    return Err(format!(
                        "node {} had acknowledged {acknowledged}, and votes in term {term} for node {}, whose log ends with \
                         {last}",
                        answer.from, answer.to
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Promise {
    fn raise(&mut self, index: LogIndex) {
        if let Some(term) = self.now.0.term_at(index).filter(|_| index > self.id.index) {
            self.id = EntryId::new(term, index);
            self.log = self.now.0.clone();
        }
    }
}
