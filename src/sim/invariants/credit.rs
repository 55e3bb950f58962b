//! What a leader holds to be on a peer's disk was acknowledged to it in its own term, by the disk that counts (PITFALLS 16,
//! 48). Committed entries are lost where this fails, but only when that peer has other entries there by then.

use std::collections::BTreeMap;

use super::{Answer, Invariant, View};
use crate::base::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::raft::{AppendOutcome, Message, Role};

/// What one disk said to one leader of one term: appended and stable at most.
type Said = BTreeMap<(NodeId, Incarnation), (LogIndex, LogIndex)>;

#[derive(Default)]
pub(super) struct Credit {
    said: BTreeMap<(NodeId, Term), Said>,
}

impl Invariant for Credit {
    fn name(&self) -> &'static str {
        "acknowledgements count in their own term"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        if view.raft.role() != Role::Leader {
            return Ok(());
        }
        let said = self.said.entry((view.node, view.raft.term())).or_default();
        for member in view.configurations.newest().members() {
            let Some(progress) = view.raft.progress(member.node_id) else { continue };
            let of_member = said.iter().filter(|((peer, disk), _)| {
                *peer == member.node_id
                    && (member.incarnation == Incarnation(0) || member.incarnation == *disk)
            });
            let most = |one: (LogIndex, LogIndex), (_, other): (_, &(LogIndex, LogIndex))| {
                (one.0.max(other.0), one.1.max(other.1))
            };
            let (appended, stable) = of_member.fold((LogIndex::ZERO, LogIndex::ZERO), most);
            if progress.appended() > appended || progress.stable() > stable {
                return Err(format!(
                    "leader {} of term {} counts node {} up to {} appended, {} stable; acknowledged in this term were \
                     {appended} and {stable}",
                    view.node,
                    view.raft.term(),
                    member.node_id,
                    progress.appended(),
                    progress.stable()
                ));
            }
        }
        Ok(())
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let (term, appended, stable) = match answer.message {
            Message::AppendReply { term, outcome: AppendOutcome::Accepted { appended, stable } }
            | Message::HeartbeatReply { term, appended, stable, .. } => (*term, *appended, *stable),
            _ => return Ok(()),
        };
        let said = self.said.entry((answer.to, term)).or_default();
        let most = said.entry((answer.from, answer.incarnation)).or_default();
        *most = (most.0.max(appended), most.1.max(stable));
        Ok(())
    }
}
