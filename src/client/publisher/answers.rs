//! What the nodes say to a publisher.

use super::core::{Core, Identity};
use crate::base::ids::{NodeId, Sequence, Term};
use crate::client::error::ClientError;
use crate::client::links::{Flow, Handler, LinkRef, Links};
use crate::protocol::client::{
    ClientHelloAccept, ProducerOpened, PublishAck, PublishError, PublishErrorCode, RequestErrorCode,
    ServerMessage,
};

/// Gaps in a row below what was acknowledged that may be the words of a deposed leader.
const GAPS_MAX: u32 = 3;

impl Handler for Core {
    fn greeted(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError> {
        self.event_bytes_max = self.event_bytes_max.min(links.credit_of(link).event_bytes_max);
        self.hear(links, Some(welcome.node_id), welcome.term, welcome.leader_id);
        Ok(())
    }

    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError> {
        let on_line = self.line.is_some_and(|line| line.link == link);
        match message {
            ServerMessage::LeaderNews { term, leader_id, address } => {
                if let Some(leader) = leader_id {
                    links.learn(link, *leader, address);
                }
                self.hear(links, links.node_of(link), *term, *leader_id);
            }
            ServerMessage::Redirect { leader_id, address, term } if on_line => {
                if let Some(leader) = leader_id {
                    links.learn(link, *leader, address);
                }
                self.turned_away(links, link, *term, *leader_id, "it does not lead");
            }
            ServerMessage::ProducerOpened(opened) if on_line => self.opened(links, link, opened),
            ServerMessage::RequestError { request_id, code, text } if on_line => {
                if self.asked == Some((*request_id, link)) {
                    self.open_refused(links, link, *code, text)?;
                }
            }
            ServerMessage::PublishAck(ack) if on_line => self.acknowledged(links, link, ack),
            ServerMessage::PublishError(error) if on_line => self.refused(links, link, error)?,
            _ => links.leave(link, "it says what no publisher was to hear"),
        }
        Ok(Flow::Next)
    }
}

impl Core {
    fn hear(&mut self, links: &mut Links, from: Option<NodeId>, term: Term, leader: Option<NodeId>) {
        if term > self.leadership.term() {
            let teller = from.map_or(0, |node| node.0);
            tracing::debug!("node {teller} says that in term {term} the leader is {leader:?}");
        }
        if self.leadership.hear(from, term, leader)
            && let Some(leader) = self.leadership.leader()
        {
            links.hurry(leader);
        }
    }

    /// The node on the line takes nothing in: what is in flight there is unknown.
    fn turned_away(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        term: Term,
        leader: Option<NodeId>,
        why: &str,
    ) {
        if let Some(node) = links.node_of(link)
            && self.leadership.declined(node, term, leader)
            && let Some(leader) = self.leadership.leader()
        {
            links.hurry(leader);
        }
        links.leave(link, why);
    }

    fn opened(&mut self, links: &mut Links, link: LinkRef, opened: &ProducerOpened) {
        if self.identity.is_some() || self.asked != Some((opened.request_id, link)) {
            return;
        }
        self.asked = None;
        self.identity = Some(Identity { producer_id: opened.producer_id, epoch: opened.epoch });
        self.expected = opened.next_sequence.max(Sequence(1));
        self.outbox.start_at(self.expected);
        self.began_at = self.expected;
        self.progressed(links, link);
    }

    fn open_refused(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        code: RequestErrorCode,
        text: &str,
    ) -> Result<(), ClientError> {
        let error = match code {
            RequestErrorCode::BadProducerName => ClientError::BadProducerName(text.to_owned()),
            RequestErrorCode::TooManyProducers => ClientError::TooManyProducers,
            RequestErrorCode::WrongPurpose => {
                ClientError::Protocol { server: links.address_of(link), text: text.to_owned() }
            }
            RequestErrorCode::NotReady | RequestErrorCode::StorageFailed | RequestErrorCode::StorageFull => {
                let term = self.leadership.term();
                self.turned_away(links, link, term, None, text);
                return Ok(());
            }
        };
        Err(self.end(error))
    }

    fn acknowledged(&mut self, links: &mut Links, link: LinkRef, ack: &PublishAck<'_>) {
        let Some(Identity { producer_id, .. }) = self.identity else { return };
        for run in ack.runs.iter().filter(|run| run.producer_id == producer_id) {
            if self.outbox.note(&run, ack.durability).is_err() {
                links.leave(link, "it acknowledges what was never sent");
                break;
            }
        }
        let first = self.outbox.first();
        self.outbox.release(&mut self.acks);
        if self.outbox.first() > first {
            self.progressed(links, link);
        }
    }

    fn refused(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        refusal: &PublishError<'_>,
    ) -> Result<(), ClientError> {
        if self.identity.is_none_or(|identity| identity.producer_id != refusal.producer_id) {
            return Ok(());
        }
        let error = match refusal.code {
            PublishErrorCode::SequenceGap { expected } => {
                return self.gap(links, link, expected, refusal.sequence);
            }
            PublishErrorCode::NotDurable => {
                let term = self.leadership.term();
                self.turned_away(links, link, term, None, refusal.text);
                return Ok(());
            }
            PublishErrorCode::CreditExceeded => {
                links.leave(link, refusal.text);
                return Ok(());
            }
            PublishErrorCode::Fenced { epoch } => ClientError::Fenced { epoch: epoch.0 },
            PublishErrorCode::UnknownProducer => ClientError::IdentityExpired { waiting: self.outbox.len() },
            PublishErrorCode::EventTooLarge { limit_bytes } => {
                let limit = limit_bytes as usize;
                ClientError::EventTooLarge { bytes: self.outbox.bytes_of(refusal.sequence), limit }
            }
            PublishErrorCode::Malformed => {
                ClientError::Protocol { server: links.address_of(link), text: refusal.text.to_owned() }
            }
            PublishErrorCode::TooManyProducers => ClientError::TooManyProducers,
        };
        Err(self.end(error))
    }

    /// The leader lacks an earlier event. Where that one still waits here, its sending was lost with a change of
    /// leadership: begin again. Where it was acknowledged, the speaker is behind (deposed, and has not heard of it):
    /// ask again a few times before believing it. Otherwise the caller began beyond what the cluster has.
    fn gap(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        expected: Sequence,
        sent: Sequence,
    ) -> Result<(), ClientError> {
        let waits_here = expected >= self.outbox.first();
        let was_acknowledged = expected >= self.began_at && !waits_here;
        if was_acknowledged {
            self.gaps += 1;
        }
        if !waits_here && (!was_acknowledged || self.gaps > GAPS_MAX) {
            return Err(self.end(ClientError::SequenceGap { expected, sent }));
        }
        links.leave(link, "it lacks an earlier event");
        Ok(())
    }
}
