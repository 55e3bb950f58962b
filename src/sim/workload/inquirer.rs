//! An inquirer of one node: asks for a linearizable answer how far the log is committed, whoever leads, so that leaders
//! that are deposed and do not know it are asked, too.

use super::Fact;
use super::link::Link;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::NodeId;
use crate::base::prng::Prng;
use crate::protocol::client::{ClientHelloReply, ClientMessage, CommitAnswer, Purpose, ServerMessage};
use crate::sim::net::SimNet;
use crate::sim::node::client_address;
use crate::sim::report::Violation;

/// So many questions on one connection: a stream that will never speak again is left at last.
const QUESTIONS_MAX: u64 = 40;

enum Step {
    On,
    Ask,
    Leave,
}

/// The client.
pub struct Inquirer {
    node: NodeId,
    net: SimNet,
    prng: Prng,
    link: Option<Link>,
    /// Between two questions at most; zero: it never asks.
    pause_ns: u64,
    /// It said hello, and was welcome.
    is_welcome: bool,
    asked: u64,
    asked_here: u64,
    deadline_ns: u64,
}

impl Inquirer {
    /// One that asks `node` once in `pause_ns` at least; never if that is zero.
    #[must_use]
    pub fn new(node: NodeId, net: SimNet, prng: Prng, pause_ns: u64) -> Self {
        Self {
            node,
            net,
            prng,
            link: None,
            pause_ns,
            is_welcome: false,
            asked: 0,
            asked_here: 0,
            deadline_ns: if pause_ns == 0 { u64::MAX } else { 300 * NS_PER_MS },
        }
    }

    /// When it wants a turn by itself.
    #[must_use]
    pub const fn next_due_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// One turn.
    ///
    /// # Errors
    /// The node sent what is no message.
    pub fn turn(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        let is_due = now_ns >= self.deadline_ns;
        if is_due {
            self.deadline_ns = now_ns + self.prng.between(NS_PER_MS, self.pause_ns.max(2 * NS_PER_MS));
        }
        if self.link.is_none() {
            if is_due {
                (self.is_welcome, self.asked_here) = (false, 0);
                self.link = Link::dial(&mut self.net, client_address(self.node), Purpose::Control);
            }
            return Ok(());
        }
        let mut leave = !self.link.as_mut().is_some_and(Link::pump);
        let mut ask = is_due;
        while let Some(mut link) = self.link.take() {
            let said = link.next(|message| Self::take(&message, facts));
            self.link = Some(link);
            match said.map_err(|what| Violation::new("nodes speak the protocol", what))? {
                Some(Step::On) => {}
                Some(Step::Ask) => (self.is_welcome, ask) = (true, true),
                Some(Step::Leave) => leave = true,
                None => break,
            }
        }
        // A node that never answers the hello counts as one that never answers.
        self.asked_here += u64::from(is_due);
        if leave || self.asked_here > QUESTIONS_MAX {
            self.link = None;
        } else if ask && self.is_welcome {
            self.ask(facts);
        }
        Ok(())
    }

    fn ask(&mut self, facts: &mut Vec<Fact>) {
        let Some(link) = &mut self.link else { return };
        self.asked += 1;
        let question = (u64::from(self.node.0) << 40) | self.asked;
        facts.push(Fact::Asked { question });
        link.send(&ClientMessage::CommitQuery { request_id: question, leader_required: true });
        link.pump();
    }

    fn take(message: &ServerMessage<'_>, facts: &mut Vec<Fact>) -> Step {
        match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(_)) => Step::Ask,
            ServerMessage::HelloReply(ClientHelloReply::Refuse { .. }) | ServerMessage::Goodbye { .. } => {
                Step::Leave
            }
            ServerMessage::CommitReply {
                request_id,
                answer: CommitAnswer::Committed { last_offset, from_leader: true, .. },
            } => {
                facts.push(Fact::Answered { question: *request_id, last_offset: *last_offset });
                Step::On
            }
            _ => Step::On,
        }
    }
}
