//! Moving leadership: finds the leader, asks it to hand over, and asks the cluster whether it has.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::error::ClientError;
use super::leader::Leadership;
use super::links::{Flow, Handler, LinkRef, Links};
use super::options::ClientOptions;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{NodeId, Term};
use crate::protocol::client::{
    ClientHelloAccept, ClientMessage, NodeRole, Purpose, ServerMessage, StatusReply, TransferOutcome,
};

const INBOX_BYTES: usize = 32 << 10;
/// A question that was answered without settling the matter is put again after this.
const ASK_AGAIN_NS: u64 = 20 * NS_PER_MS;

/// Leadership is where it was wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transferred {
    /// Who leads.
    pub leader: NodeId,
    /// In which term.
    pub term: Term,
}

/// What was asked last, of whom, and when.
#[derive(Clone, Copy, Debug)]
struct Asked {
    link: LinkRef,
    at_ns: u64,
    /// The request that hands over; none for a status query.
    transfer: Option<u64>,
}

/// One transfer, until somebody confirms it or it is refused.
struct TransferRound {
    to: NodeId,
    leadership: Leadership,
    /// The old leader has said that it is done.
    done: bool,
    asked: Option<Asked>,
    /// Nothing is asked before then.
    not_before_ns: u64,
    outcome: Option<Result<Transferred, ClientError>>,
}

impl TransferRound {
    /// Puts the question that is due: to the leader, that it hand over; once leadership is said to have moved, to the
    /// new leader (or, out of its reach, to anybody) whether that is so.
    fn step(&mut self, links: &mut Links) {
        let now_ns = links.now_ns();
        let confirming = self.done || self.leadership.leader() == Some(self.to);
        let waits = self.asked.is_some_and(|asked| {
            links.is_live(asked.link)
                && match asked.transfer {
                    // Decided by the leader in its own time, unless news come first.
                    Some(_) => !confirming,
                    None => now_ns < asked.at_ns.saturating_add(ASK_AGAIN_NS),
                }
        });
        if waits || now_ns < self.not_before_ns || self.outcome.is_some() {
            return;
        }
        let leader = self.leadership.leader().and_then(|leader| links.of_node(leader));
        let whom = if confirming { links.of_node(self.to).or_else(|| links.ready().next()) } else { leader };
        let Some(link) = whom else { return };
        let request_id = links.next_request_id();
        let question = if confirming {
            ClientMessage::StatusQuery { request_id }
        } else {
            ClientMessage::TransferLeadership { request_id, to: self.to }
        };
        links.send(link, &question);
        links.flush(link);
        self.asked = Some(Asked { link, at_ns: now_ns, transfer: (!confirming).then_some(request_id) });
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

    fn decided(&mut self, links: &mut Links, link: LinkRef, outcome: &TransferOutcome<'_>) {
        let node = self.to;
        match *outcome {
            TransferOutcome::Done => (self.done, self.asked) = (true, None),
            TransferOutcome::NotLeader { term, leader_id, address } => {
                if let Some(leader) = leader_id {
                    links.learn(link, leader, address);
                }
                self.again_later(links);
                if let Some(from) = links.node_of(link)
                    && self.leadership.declined(from, term.max(self.leadership.term()), leader_id)
                {
                    self.not_before_ns = 0;
                }
            }
            TransferOutcome::NotAVoter => self.outcome = Some(Err(ClientError::NotAVoter { node })),
            TransferOutcome::TimedOut => self.outcome = Some(Err(ClientError::TransferTimedOut { node })),
            TransferOutcome::InProgress => self.outcome = Some(Err(ClientError::TransferInProgress)),
        }
    }

    fn confirmed(&mut self, links: &mut Links, status: &StatusReply<'_>) {
        let itself = status.node_id == self.to;
        let leads = if itself {
            status.role == NodeRole::Leader
        } else {
            status.leader_id == Some(self.to) && status.term >= self.leadership.term()
        };
        if leads {
            self.outcome = Some(Ok(Transferred { leader: self.to, term: status.term }));
            return;
        }
        // Not yet, or not any more: whoever leads now is asked (again).
        self.done = false;
        self.again_later(links);
        self.heard(links, Some(status.node_id), status.term, status.leader_id);
    }

    fn stuck(&self, links: &Links, waited: Duration) -> ClientError {
        let last = links.describe_failure();
        let leader = self.leadership.leader().and_then(|leader| links.of_node(leader));
        match self.asked.map(|asked| asked.link).filter(|link| links.is_live(*link)).or(leader) {
            Some(link) => ClientError::NoAnswer { server: links.address_of(link), waited },
            None if links.ready().next().is_some() => ClientError::NoLeader { waited, last },
            None => ClientError::NoNodeReachable { servers: links.describe(), waited, last },
        }
    }
}

impl Handler for TransferRound {
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
        match message {
            ServerMessage::LeaderNews { term, leader_id, address } => {
                if let Some(leader) = leader_id {
                    links.learn(link, *leader, address);
                }
                let from = links.node_of(link);
                self.heard(links, from, *term, *leader_id);
            }
            ServerMessage::TransferReply { request_id, outcome } => {
                // An answer that comes late speaks of a question that news have settled.
                if self.asked.is_some_and(|asked| asked.transfer == Some(*request_id)) {
                    self.decided(links, link, outcome);
                }
            }
            ServerMessage::Status(status) => self.confirmed(links, status),
            ServerMessage::RequestError { text, .. } => links.leave(link, text),
            _ => links.leave(link, "it answers something else"),
        }
        self.step(links);
        Ok(Flow::Next)
    }
}

/// Makes node `to` the leader: finds the leader from any node of the list, asks it to hand over, follows redirects,
/// waits out elections, and returns once the cluster says that `to` leads; at once when it leads already. Waits for at
/// most `timeout`, blocking the calling thread.
///
/// # Errors
/// [`ClientError::NotAVoter`], [`ClientError::TransferTimedOut`] (the old leader goes on) or
/// [`ClientError::TransferInProgress`] as the leader says; at the timeout [`ClientError::NoNodeReachable`],
/// [`ClientError::NoLeader`] or [`ClientError::NoAnswer`], after which the transfer may still come about; a bad list;
/// another cluster.
pub fn transfer_leadership(
    servers: &[SocketAddr],
    to: NodeId,
    timeout: Duration,
) -> Result<Transferred, ClientError> {
    let mut options = ClientOptions::new(servers.to_vec());
    "tercet-transfer".clone_into(&mut options.name);
    options.connect_timeout = timeout.min(options.connect_timeout);
    let mut links = Links::new(&options, Purpose::Control, INBOX_BYTES, true)?;
    let mut round = TransferRound {
        to,
        leadership: Leadership::default(),
        done: false,
        asked: None,
        not_before_ns: 0,
        outcome: None,
    };
    let begun = Instant::now();
    loop {
        if let Some(outcome) = round.outcome {
            return outcome;
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(round.stuck(&links, timeout));
        }
        round.step(&mut links);
        links.turn(&mut round, left.min(Duration::from_nanos(ASK_AGAIN_NS)))?;
    }
}
