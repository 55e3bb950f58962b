//! One question to the leader about the cluster's members, put again until it is answered.

use super::{ClusterMembers, MemberState};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::client::error::ClientError;
use crate::client::leader::Leadership;
use crate::client::links::{Flow, Handler, LinkRef, Links};
use crate::protocol::client::{
    ChangeOutcome, ClientHelloAccept, ClientMessage, LeaderMembers, MemberChange, MembersAnswer,
    ServerMessage,
};

/// A question that was answered without settling the matter is put again after this.
pub(super) const ASK_AGAIN_NS: u64 = 50 * NS_PER_MS;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// For the members.
    List,
    /// For a change. Idempotent: it names what is to be, so it may be asked of several leaders.
    Change(MemberChange),
}

/// The answer that settles it.
#[derive(Debug)]
pub(super) enum Reply {
    Members(ClusterMembers),
    Changed,
}

/// Asked of whom; and as which request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    link: LinkRef,
    request_id: u64,
}

/// One question, until it is settled.
pub(super) struct Round<'a> {
    question: Question,
    leadership: &'a mut Leadership,
    asked: Option<Asked>,
    /// Nothing is asked before then.
    not_before_ns: u64,
    /// Why the leader has not done it so far.
    pub(super) waits_for: Option<ClientError>,
    pub(super) outcome: Option<Result<Reply, ClientError>>,
}

impl<'a> Round<'a> {
    pub(super) const fn new(question: Question, leadership: &'a mut Leadership) -> Self {
        Self { question, leadership, asked: None, not_before_ns: 0, waits_for: None, outcome: None }
    }

    /// Puts the question to the leader where that is due.
    pub(super) fn step(&mut self, links: &mut Links) {
        let waits = self.asked.is_some_and(|asked| links.is_live(asked.link));
        if waits || links.now_ns() < self.not_before_ns || self.outcome.is_some() {
            return;
        }
        let leader = self.leadership.leader().and_then(|leader| links.of_node(leader));
        let Some(link) = leader else { return };
        let request_id = links.next_request_id();
        let question = match self.question {
            Question::List => ClientMessage::ListMembers { request_id },
            Question::Change(change) => ClientMessage::ChangeMember { request_id, change },
        };
        links.send(link, &question);
        links.flush(link);
        self.asked = Some(Asked { link, request_id });
    }

    /// Who is asked at present, if that connection lives.
    pub(super) fn asked_link(&self, links: &Links) -> Option<LinkRef> {
        self.asked.map(|asked| asked.link).filter(|link| links.is_live(*link))
    }

    fn again_later(&mut self, links: &Links) {
        self.asked = None;
        self.not_before_ns = links.now_ns().saturating_add(ASK_AGAIN_NS);
    }

    fn heard(&mut self, links: &mut Links, from: Option<NodeId>, term: Term, leader: Option<NodeId>) {
        if self.leadership.hear(from, term, leader)
            && let Some(leader) = self.leadership.leader()
        {
            links.hurry(leader);
            self.asked = None;
            self.not_before_ns = 0;
        }
    }

    /// The node that was asked does not lead.
    fn elsewhere(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        term: Term,
        leader: Option<NodeId>,
        address: &str,
    ) {
        if let Some(leader) = leader {
            links.learn(link, leader, address);
        }
        self.again_later(links);
        if let Some(from) = links.node_of(link)
            && self.leadership.declined(from, term.max(self.leadership.term()), leader)
        {
            self.not_before_ns = 0;
        }
    }

    fn decided(&mut self, links: &mut Links, link: LinkRef, outcome: &ChangeOutcome<'_>) {
        let Question::Change(MemberChange { node, incarnation, .. }) = self.question else { return };
        let wait_for = match *outcome {
            ChangeOutcome::Done => return self.outcome = Some(Ok(Reply::Changed)),
            ChangeOutcome::NotLeader { term, leader_id, address } => {
                return self.elsewhere(links, link, term, leader_id, address);
            }
            ChangeOutcome::UnknownMember => ClientError::UnknownMember { node },
            ChangeOutcome::LeaderItself => ClientError::LeaderItself { node },
            ChangeOutcome::NoNewDisk => match known(incarnation) {
                Some(named) => ClientError::DiskNotSeen { node, incarnation: Box::new(named) },
                None => ClientError::NoNewDisk { node },
            },
            ChangeOutcome::DiskWorks => ClientError::DiskWorks { node },
            ChangeOutcome::NotCaughtUp => ClientError::NotCaughtUp { node },
            ChangeOutcome::NoQuorum => ClientError::NoQuorumWithout { node },
            ChangeOutcome::InProgress => ClientError::ChangeInProgress,
            ChangeOutcome::NotReady => return self.again_later(links),
        };
        match outcome {
            // The leader may just have been elected, and not have heard all of them; another change ends in a moment.
            ChangeOutcome::NoQuorum | ChangeOutcome::InProgress => {
                self.waits_for = Some(wait_for);
                self.again_later(links);
            }
            _ => self.outcome = Some(Err(wait_for)),
        }
    }

    fn listed(&mut self, links: &mut Links, link: LinkRef, answer: &MembersAnswer<'_>) {
        match answer {
            MembersAnswer::Members(members) => {
                self.outcome = Some(Ok(Reply::Members(ClusterMembers::from(members))));
            }
            MembersAnswer::NotLeader { term, leader_id, address } => {
                self.elsewhere(links, link, *term, *leader_id, address);
            }
        }
    }
}

impl Handler for Round<'_> {
    fn greeted(
        &mut self,
        links: &mut Links,
        _link: LinkRef,
        welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError> {
        self.heard(links, Some(welcome.node_id), welcome.term, welcome.leader_id);
        self.step(links);
        Ok(())
    }

    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError> {
        // An answer that comes late is to a question that was put again elsewhere.
        let is_asked = |id: &u64| self.asked.is_some_and(|asked| asked.request_id == *id);
        match message {
            ServerMessage::LeaderNews { term, leader_id, address } => {
                if let Some(leader) = leader_id {
                    links.learn(link, *leader, address);
                }
                let from = links.node_of(link);
                self.heard(links, from, *term, *leader_id);
            }
            ServerMessage::Members { request_id, answer } => {
                if is_asked(request_id) {
                    self.listed(links, link, answer);
                }
            }
            ServerMessage::ChangeMemberReply { request_id, outcome } => {
                if is_asked(request_id) {
                    self.decided(links, link, outcome);
                }
            }
            ServerMessage::RequestError { text, .. } => links.leave(link, text),
            // To a question of an earlier round.
            ServerMessage::Status(_) => {}
            _ => links.leave(link, "it answers something else"),
        }
        self.step(links);
        Ok(Flow::Next)
    }
}

fn known(incarnation: Incarnation) -> Option<Incarnation> {
    (incarnation != Incarnation(0)).then_some(incarnation)
}

impl From<&LeaderMembers<'_>> for ClusterMembers {
    fn from(members: &LeaderMembers<'_>) -> Self {
        let LeaderMembers { leader_id, term, configuration_index, is_committed, last_index, rows } = members;
        let member = |row: &crate::protocol::client::MemberRow<'_>| MemberState {
            node_id: row.node_id,
            is_voter: row.is_voter,
            incarnation: known(row.incarnation),
            is_connected: row.is_connected,
            is_caught_up: row.is_caught_up,
            stable_index: row.stable_index,
            missing: last_index.since(row.stable_index.min(*last_index)),
            newcomer: known(row.newcomer),
            address: (!row.address.is_empty()).then(|| row.address.to_owned()),
        };
        Self {
            leader_id: *leader_id,
            term: *term,
            configuration_index: *configuration_index,
            is_committed: *is_committed,
            last_index: LogIndex(last_index.0),
            members: rows.iter().map(member).collect(),
        }
    }
}
