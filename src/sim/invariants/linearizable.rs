//! A leader's answer how far the log is committed is not older than its question: nothing that any client had learnt to
//! be committed before it asked lies beyond the answer, whoever leads by then.

use std::collections::BTreeMap;

use super::Invariant;
use crate::base::ids::Offset;
use crate::sim::workload::{Ack, Delivered};

#[derive(Default)]
pub(super) struct Linearizable {
    /// Some client knows that this is committed.
    known: Offset,
    /// What was known when a question was sent.
    asked: BTreeMap<u64, Offset>,
}

impl Invariant for Linearizable {
    fn name(&self) -> &'static str {
        "reads are linearizable"
    }

    fn acknowledged(&mut self, ack: &Ack) -> Result<(), String> {
        self.known = self.known.max(ack.offset);
        Ok(())
    }

    fn delivered(&mut self, event: &Delivered) -> Result<(), String> {
        self.known = self.known.max(event.offset);
        Ok(())
    }

    fn asked(&mut self, question: u64) -> Result<(), String> {
        self.asked.insert(question, self.known);
        Ok(())
    }

    fn answered_by_leader(&mut self, question: u64, last_offset: Offset) -> Result<(), String> {
        let node = question >> 40;
        let Some(known) = self.asked.remove(&question) else {
            return Err(format!("node {node} answers question {question:x}, which nobody waits for"));
        };
        if last_offset < known {
            return Err(format!(
                "node {node} answers as the leader that {last_offset} is committed; when it was asked, {known} was"
            ));
        }
        self.known = self.known.max(last_offset);
        Ok(())
    }
}
