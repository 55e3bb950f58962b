//! A publisher: one producer name, sequences from 1, retried under the same identity at whichever node leads.

use std::collections::BTreeMap;

use super::link::Link;
use super::{Ack, Fact, body_of, producer_name, topic_of};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{Epoch, NodeId, Offset, ProducerId, Sequence};
use crate::base::prng::Prng;
use crate::entry::{EventParts, encode_event};
use crate::protocol::client::{
    AckKind, AckRun, ClientHelloReply, ClientMessage, GoodbyeReason, Publish, PublishErrorCode, Purpose,
    ServerMessage,
};
use crate::sim::net::SimNet;
use crate::sim::node::client_address;
use crate::sim::report::Violation;

/// No word for so long: try another node.
const PATIENCE_NS: u64 = 700 * NS_PER_MS;

/// How a publisher goes about it.
#[derive(Clone, Copy, Debug)]
pub struct PublisherPlan {
    /// Unacknowledged events at most.
    pub window: u64,
    /// Events in one frame at most.
    pub frame_events: u64,
    /// Between two frames at most.
    pub pause_ns: u64,
    /// How often, of a million frames, one goes out twice in a row.
    pub twice_per_million: u64,
    /// How often, of a million frames, everything unacknowledged is sent again on the same connection first.
    pub again_per_million: u64,
    /// Nodes of the cluster.
    pub nodes: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not connected.
    Away,
    /// Hello is said.
    Greeting,
    /// The producer is being opened.
    Opening,
    /// Events go out.
    Publishing,
}

/// What a message of the node makes the publisher do.
enum Step {
    On,
    /// Leave, and go to this node if one is named.
    Leave(Option<NodeId>),
    /// Open the producer again.
    Reopen,
    Wrong(Violation),
}

/// An event that was sent on this connection, and is not answered there.
#[derive(Clone, Copy, Debug)]
struct Owed {
    sequence: u64,
    /// Since when an answer to a later one is here.
    overdue_since_ns: Option<u64>,
}

/// For so long an answer may follow the one to a later event.
const OVERDUE_NS: u64 = 500 * NS_PER_MS;

/// So many gaps in a row before acknowledged events are believed to be lost.
const GAPS_MAX: u32 = 3;

/// The client.
pub struct Publisher {
    producer: u16,
    plan: PublisherPlan,
    net: SimNet,
    prng: Prng,
    link: Option<Link>,
    stage: Stage,
    server: NodeId,
    identity: Option<(ProducerId, Epoch)>,
    request_id: u64,
    /// Everything before it is acknowledged.
    first_open: u64,
    next_to_send: u64,
    /// Everything ever sent lies before it.
    sent_below: u64,
    /// Acknowledged at `first_open` or later.
    acknowledged: BTreeMap<u64, Offset>,
    /// It sends up to here; grows while the safety phase lasts.
    last_wanted: u64,
    deadline_ns: u64,
    patience_ns: u64,
    /// What this connection owes an answer to, as it was sent.
    owed: Vec<Owed>,
    /// So many events may be owed an answer on this connection.
    credit: usize,
    /// In a row, gaps that begin before what is acknowledged.
    gaps: u32,
}

impl Publisher {
    /// A publisher that has sent nothing.
    #[must_use]
    pub fn new(producer: u16, plan: PublisherPlan, net: SimNet, prng: Prng) -> Self {
        Self {
            producer,
            plan,
            net,
            prng,
            link: None,
            stage: Stage::Away,
            server: NodeId(1),
            identity: None,
            request_id: 0,
            first_open: 1,
            next_to_send: 1,
            sent_below: 1,
            acknowledged: BTreeMap::new(),
            last_wanted: u64::MAX,
            deadline_ns: 0,
            patience_ns: 0,
            owed: Vec::new(),
            credit: 0,
            gaps: 0,
        }
    }

    /// When it wants a turn by itself.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        if self.link.is_some() { self.deadline_ns.min(self.patience_ns) } else { self.deadline_ns }
    }

    /// No new events from now on; what was sent is retried until it is acknowledged.
    pub fn finish_up(&mut self) {
        self.last_wanted = self.sent_below - 1;
    }

    /// So many events more, after all.
    pub fn go_on(&mut self, count: u64) {
        self.last_wanted += count;
    }

    /// Everything wanted is acknowledged.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.first_open > self.last_wanted
    }

    /// Where it stands, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "p{} at node {}: {:?}, acknowledged below {}, sent below {}, wanted up to {}",
            self.producer, self.server, self.stage, self.first_open, self.sent_below, self.last_wanted
        )
    }

    /// One turn.
    ///
    /// # Errors
    /// A node said what must never be said.
    pub fn turn(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        if self.link.is_none() {
            if now_ns >= self.deadline_ns {
                self.dial(now_ns);
            }
            return Ok(());
        }
        let open = self.link.as_mut().is_some_and(Link::pump);
        self.take_messages(now_ns, facts)?;
        self.look_for_overdue(now_ns)?;
        if !open || (self.link.is_some() && now_ns >= self.patience_ns) {
            self.leave(now_ns, None);
        }
        if self.stage == Stage::Publishing && now_ns >= self.deadline_ns {
            self.publish(now_ns);
        }
        if let Some(link) = &mut self.link {
            link.pump();
        }
        Ok(())
    }

    fn dial(&mut self, now_ns: u64) {
        self.patience_ns = now_ns + PATIENCE_NS;
        self.deadline_ns = u64::MAX;
        self.stage = Stage::Greeting;
        self.link = Link::dial(&mut self.net, client_address(self.server), Purpose::Publisher);
        if self.link.is_none() {
            self.leave(now_ns, None);
        }
    }

    fn leave(&mut self, now_ns: u64, towards: Option<NodeId>) {
        self.link = None;
        self.owed.clear();
        self.stage = Stage::Away;
        let anyone = NodeId(1 + self.prng.below(u64::from(self.plan.nodes)) as u16);
        self.server = towards.filter(|_| self.prng.chance(900_000)).unwrap_or(anyone);
        self.deadline_ns = now_ns + self.prng.between(NS_PER_MS, 50 * NS_PER_MS);
    }

    fn take_messages(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        while let Some(mut link) = self.link.take() {
            let step = link.next(|message| self.take(now_ns, &message, facts));
            let step = step.map_err(|what| Violation::new("nodes speak the protocol", what))?;
            let Some(step) = step else {
                self.link = Some(link);
                break;
            };
            match step {
                Step::On => self.link = Some(link),
                Step::Reopen => {
                    self.link = Some(link);
                    self.open();
                }
                Step::Leave(towards) => self.leave(now_ns, towards),
                Step::Wrong(violation) => return Err(violation),
            }
        }
        if self.stage == Stage::Opening && self.request_id == 0 {
            self.open();
        }
        Ok(())
    }

    fn open(&mut self) {
        self.stage = Stage::Opening;
        // Nothing to do but to wait for the answer, within its patience.
        self.deadline_ns = u64::MAX;
        self.request_id = self.prng.next_u64() | 1;
        let name = producer_name(self.producer);
        if let Some(link) = &mut self.link {
            link.send(&ClientMessage::OpenProducer { request_id: self.request_id, name: &name });
        }
    }

    fn take(&mut self, now_ns: u64, message: &ServerMessage<'_>, facts: &mut Vec<Fact>) -> Step {
        match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(accept)) => {
                let leader = accept.leader_id.filter(|leader| *leader != self.server);
                if leader.is_some() && self.prng.chance(800_000) {
                    return Step::Leave(leader);
                }
                self.credit = accept.credit_events as usize;
                self.begin(now_ns);
                Step::On
            }
            ServerMessage::HelloReply(ClientHelloReply::Refuse { .. }) => Step::Leave(None),
            ServerMessage::ProducerOpened(opened) if opened.request_id == self.request_id => {
                self.opened(now_ns, opened.producer_id, opened.epoch, opened.next_sequence)
            }
            ServerMessage::PublishAck(ack) => {
                self.patience_ns = now_ns + PATIENCE_NS;
                self.gaps = 0;
                for run in ack.runs.iter() {
                    if let Err(violation) = self.acknowledged(&run, facts) {
                        return Step::Wrong(violation);
                    }
                    self.settle(now_ns, &run);
                }
                Step::On
            }
            ServerMessage::PublishError(error) => {
                for place in 0..u64::from(error.count) {
                    self.settle_one(error.sequence.0 + place);
                }
                self.refused(error.code)
            }
            ServerMessage::Redirect { leader_id, .. } => Step::Leave(*leader_id),
            ServerMessage::RequestError { .. } => Step::Leave(None),
            ServerMessage::Goodbye { reason: GoodbyeReason::ProtocolViolation, text } => {
                Step::Wrong(Violation::new("nodes speak the protocol", (*text).to_owned()))
            }
            ServerMessage::Goodbye { .. } => Step::Leave(None),
            _ => Step::On,
        }
    }

    /// Connected: go on under the identity that is known, or open one. Now and then both are done needlessly.
    fn begin(&mut self, now_ns: u64) {
        let again = self.first_open.saturating_sub(self.prng.below(6) * u64::from(self.prng.chance(300_000)));
        self.next_to_send = again.max(1);
        if self.identity.is_some() && self.prng.chance(850_000) {
            self.stage = Stage::Publishing;
            self.deadline_ns = now_ns;
        } else {
            self.stage = Stage::Opening;
            self.request_id = 0;
        }
    }

    fn opened(&mut self, now_ns: u64, id: ProducerId, epoch: Epoch, next: Sequence) -> Step {
        if self.identity.is_some_and(|(known, _)| known != id) {
            return Step::Wrong(Violation::new(
                "acknowledged is durable",
                format!("p{} had identity {:?}, and is opened as {id} now", self.producer, self.identity),
            ));
        }
        if next.0 < self.first_open {
            return Step::Wrong(self.forgotten(next));
        }
        self.identity = Some((id, epoch));
        self.stage = Stage::Publishing;
        self.deadline_ns = now_ns;
        self.patience_ns = now_ns + PATIENCE_NS;
        Step::On
    }

    fn forgotten(&self, expected: Sequence) -> Violation {
        Violation::new(
            "acknowledged is durable",
            format!(
                "p{} has acknowledgements up to sequence {}, but the cluster expects {expected} next",
                self.producer,
                self.first_open - 1
            ),
        )
    }

    fn acknowledged(&mut self, run: &AckRun, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        for place in 0..u64::from(run.count) {
            let sequence = run.first_sequence.plus(place);
            let offset =
                if run.first_offset == Offset::ZERO { Offset::ZERO } else { run.first_offset.plus(place) };
            facts.push(Fact::Acknowledged(Ack { producer: self.producer, sequence, offset, kind: run.kind }));
            if sequence.0 >= self.sent_below {
                return Err(Violation::new(
                    "acknowledged is durable",
                    format!(
                        "p{} is acknowledged sequence {sequence}, which it has never sent",
                        self.producer
                    ),
                ));
            }
            if sequence.0 >= self.first_open {
                self.acknowledged.insert(sequence.0, offset);
            }
        }
        while self.acknowledged.remove(&self.first_open).is_some() {
            self.first_open += 1;
        }
        Ok(())
    }

    /// Takes the oldest sending of it off the list of what is owed. Says which that was.
    fn settle_one(&mut self, sequence: u64) -> Option<usize> {
        let place = self.owed.iter().position(|owed| owed.sequence == sequence)?;
        self.owed.remove(place);
        Some(place)
    }

    /// What is written now lies behind whatever was sent before it, so all of that is decided, too.
    fn settle(&mut self, now_ns: u64, run: &AckRun) {
        for place in 0..u64::from(run.count) {
            let settled = self.settle_one(run.first_sequence.0 + place);
            if let (Some(before), AckKind::Written) = (settled, run.kind) {
                for owed in &mut self.owed[..before] {
                    owed.overdue_since_ns.get_or_insert(now_ns);
                }
            }
        }
    }

    fn look_for_overdue(&self, now_ns: u64) -> Result<(), Violation> {
        let is_overdue =
            |owed: &&Owed| owed.overdue_since_ns.is_some_and(|since_ns| since_ns + OVERDUE_NS < now_ns);
        match self.owed.iter().find(is_overdue) {
            None => Ok(()),
            Some(Owed { sequence, .. }) => Err(Violation::new(
                "every event sent is answered",
                format!(
                    "p{} has sent sequence {sequence} to node {} and later ones, which are written; there is no \
                     word of it",
                    self.producer, self.server
                ),
            )),
        }
    }

    fn refused(&mut self, code: PublishErrorCode) -> Step {
        match code {
            // A deposed leader, or one elected in a term that is over, does not know better until it hears of that. The
            // real client asks elsewhere a few times, too.
            PublishErrorCode::SequenceGap { expected } if expected.0 < self.first_open => {
                self.gaps += 1;
                if self.gaps > GAPS_MAX { Step::Wrong(self.forgotten(expected)) } else { Step::Leave(None) }
            }
            // Something before it was lost with an earlier leader: again from there.
            PublishErrorCode::SequenceGap { .. } => {
                self.next_to_send = self.first_open;
                Step::On
            }
            // An opening of ours that was late came through after all.
            PublishErrorCode::Fenced { .. } => Step::Reopen,
            PublishErrorCode::NotDurable
            | PublishErrorCode::CreditExceeded
            | PublishErrorCode::TooManyProducers => Step::Leave(None),
            PublishErrorCode::UnknownProducer
            | PublishErrorCode::Malformed
            | PublishErrorCode::EventTooLarge { .. } => Step::Wrong(Violation::new(
                "acknowledged is durable",
                format!("p{} with identity {:?} is refused with {code:?}", self.producer, self.identity),
            )),
        }
    }

    fn publish(&mut self, now_ns: u64) {
        let Some((producer_id, epoch)) = self.identity else { return };
        let again = self.prng.chance(self.plan.again_per_million) && self.next_to_send > self.first_open;
        if again {
            self.next_to_send = self.first_open;
        }
        // Who has heard nothing of what it sent gains no patience by sending it again.
        let begins = self.next_to_send <= self.first_open && !again;
        let end = (self.first_open + self.plan.window).min(self.last_wanted.saturating_add(1));
        if self.owed.len() + 2 * self.plan.frame_events as usize > self.credit {
            // It has sent the same again and again, and hears nothing.
            self.deadline_ns = now_ns + self.plan.pause_ns.max(NS_PER_MS);
            return;
        }
        if self.next_to_send >= end {
            // Acknowledgements, or patience, bring it back; an idle one says so little that it must not leave.
            self.deadline_ns = now_ns + self.plan.pause_ns.max(NS_PER_MS);
            if begins {
                self.patience_ns = now_ns + PATIENCE_NS;
            }
            return;
        }
        if begins {
            self.patience_ns = now_ns + PATIENCE_NS;
        }
        let count = self.prng.between(1, self.plan.frame_events).min(end - self.next_to_send);
        let mut bytes = Vec::new();
        for sequence in self.next_to_send..self.next_to_send + count {
            let sequence = Sequence(sequence);
            let body = body_of(self.producer, sequence);
            let topic = topic_of(self.producer, sequence);
            let parts = EventParts {
                sequence,
                timestamp_unix_ns: now_ns,
                priority: 0,
                topic,
                attributes: &[],
                body: &body,
            };
            encode_event(&mut bytes, &parts).expect("a sound event");
        }
        self.next_to_send += count;
        self.sent_below = self.sent_below.max(self.next_to_send);
        let publish = Publish { producer_id, epoch, event_count: count as u16, bytes: &bytes };
        let times = if self.prng.chance(self.plan.twice_per_million) { 2 } else { 1 };
        if let Some(link) = &mut self.link {
            for _ in 0..times {
                link.send(&ClientMessage::Publish(publish));
                let sent = self.next_to_send - count..self.next_to_send;
                self.owed.extend(sent.map(|sequence| Owed { sequence, overdue_since_ns: None }));
            }
        }
        self.deadline_ns = now_ns + self.prng.below(self.plan.pause_ns + 1);
    }
}
