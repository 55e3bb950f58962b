//! The operator: hands leadership over now and then, and tells the cluster of disks that were replaced, as `tercet
//! transfer` and `tercet member replace` do, until the new disk votes.

use super::link::Link;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::prng::Prng;
use crate::protocol::client::{
    ChangeKind, ChangeOutcome, ClientHelloReply, ClientMessage, MemberChange, Purpose, ServerMessage,
    TransferOutcome,
};
use crate::sim::net::SimNet;
use crate::sim::node::client_address;
use crate::sim::report::Violation;

/// No answer for so long: ask somebody else. Longer than a transfer takes at most.
const PATIENCE_NS: u64 = 1_500 * NS_PER_MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    Transfer(NodeId),
    Change(MemberChange),
}

enum Step {
    On,
    Ask,
    Leave,
}

/// What the operator has seen come true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OperatorCounts {
    /// Transfers asked for.
    pub asked: u64,
    /// Transfers that were done.
    pub transferred: u64,
    /// Transfers that came to nothing in time.
    pub timed_out: u64,
    /// Members replaced by learners.
    pub replaced: u64,
    /// Learners promoted.
    pub promoted: u64,
    /// Changes that the leader did not take.
    pub refused: u64,
}

/// The client.
pub struct Operator {
    net: SimNet,
    prng: Prng,
    nodes: u16,
    server: NodeId,
    link: Option<Link>,
    job: Option<Job>,
    request_id: u64,
    /// When it does something by itself, while it has no connection; when it gives up waiting, while it has one.
    deadline_ns: u64,
    /// Whether it hands leadership over.
    restless: bool,
    /// What came of it all.
    pub counts: OperatorCounts,
}

impl Operator {
    /// One that has done nothing; `restless` if it hands leadership over.
    #[must_use]
    pub fn new(nodes: u16, net: SimNet, prng: Prng, restless: bool) -> Self {
        Self {
            net,
            prng,
            nodes,
            server: NodeId(1),
            link: None,
            job: None,
            request_id: 0,
            deadline_ns: 400 * NS_PER_MS,
            restless,
            counts: OperatorCounts::default(),
        }
    }

    /// When it wants a turn by itself.
    #[must_use]
    pub const fn next_due_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// From now on it only does what must be done.
    pub fn settle_down(&mut self) {
        self.restless = false;
    }

    /// One turn; `to_replace` are the new disks that do not vote yet.
    ///
    /// # Errors
    /// A node said what it must never say.
    pub fn turn(&mut self, now_ns: u64, to_replace: &[(NodeId, Incarnation)]) -> Result<(), Violation> {
        if self.link.is_none() {
            if now_ns >= self.deadline_ns {
                self.begin(now_ns, to_replace);
            }
            return Ok(());
        }
        let mut open = self.link.as_mut().is_some_and(Link::pump);
        while let Some(mut link) = self.link.take() {
            let said = link.next(|message| self.take(&message));
            self.link = Some(link);
            match said.map_err(|what| Violation::new("nodes speak the protocol", what))? {
                Some(Step::On) => {}
                Some(Step::Ask) => self.ask(),
                Some(Step::Leave) => open = false,
                None => break,
            }
        }
        if !open || now_ns >= self.deadline_ns {
            self.link = None;
            self.job = None;
            let most_ns = if to_replace.is_empty() { 800 } else { 60 } * NS_PER_MS;
            self.deadline_ns = now_ns + self.prng.between(NS_PER_MS, most_ns);
        } else if let Some(link) = &mut self.link {
            link.pump();
        }
        Ok(())
    }

    fn anyone(&mut self) -> NodeId {
        NodeId(1 + self.prng.below(u64::from(self.nodes)) as u16)
    }

    fn begin(&mut self, now_ns: u64, to_replace: &[(NodeId, Incarnation)]) {
        self.job = match to_replace {
            [] if self.restless => Some(Job::Transfer(self.anyone())),
            [] => None,
            some => {
                let (node, incarnation) = some[self.prng.below(some.len() as u64) as usize];
                let named = self.prng.chance(500_000);
                let incarnation = if named { incarnation } else { Incarnation(0) };
                // What is so already is done at once, so both are simply asked for in turns.
                let kind = if self.prng.chance(500_000) { ChangeKind::Replace } else { ChangeKind::Promote };
                Some(Job::Change(MemberChange { kind, node, incarnation }))
            }
        };
        self.deadline_ns = now_ns + PATIENCE_NS;
        if self.job.is_none() {
            return;
        }
        self.request_id = self.prng.next_u64() | 1;
        self.link = Link::dial(&mut self.net, client_address(self.server), Purpose::Control);
    }

    fn elsewhere(&mut self, leader: Option<NodeId>) -> Step {
        let anyone = self.anyone();
        self.server = leader.unwrap_or(anyone);
        Step::Leave
    }

    fn take(&mut self, message: &ServerMessage<'_>) -> Step {
        match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(_)) => Step::Ask,
            ServerMessage::HelloReply(ClientHelloReply::Refuse { .. })
            | ServerMessage::Goodbye { .. }
            | ServerMessage::RequestError { .. } => self.elsewhere(None),
            ServerMessage::TransferReply { request_id, outcome } if *request_id == self.request_id => {
                self.transferred(outcome)
            }
            ServerMessage::ChangeMemberReply { request_id, outcome } if *request_id == self.request_id => {
                self.changed(outcome)
            }
            _ => Step::On,
        }
    }

    fn ask(&mut self) {
        let request_id = self.request_id;
        let (Some(link), Some(job)) = (&mut self.link, self.job) else { return };
        match job {
            Job::Transfer(to) => {
                self.counts.asked += 1;
                link.send(&ClientMessage::TransferLeadership { request_id, to });
            }
            Job::Change(change) => link.send(&ClientMessage::ChangeMember { request_id, change }),
        }
    }

    fn transferred(&mut self, outcome: &TransferOutcome<'_>) -> Step {
        match outcome {
            TransferOutcome::Done => {
                self.counts.transferred += 1;
                Step::Leave
            }
            TransferOutcome::NotLeader { leader_id, .. } => self.elsewhere(*leader_id),
            TransferOutcome::TimedOut => {
                self.counts.timed_out += 1;
                Step::Leave
            }
            TransferOutcome::NotAVoter | TransferOutcome::InProgress => Step::Leave,
        }
    }

    fn changed(&mut self, outcome: &ChangeOutcome<'_>) -> Step {
        match outcome {
            ChangeOutcome::Done => {
                match self.job {
                    Some(Job::Change(change)) if change.kind == ChangeKind::Promote => {
                        self.counts.promoted += 1;
                    }
                    _ => self.counts.replaced += 1,
                }
                Step::Leave
            }
            ChangeOutcome::NotLeader { leader_id, .. } => self.elsewhere(*leader_id),
            _ => {
                self.counts.refused += 1;
                Step::Leave
            }
        }
    }
}
