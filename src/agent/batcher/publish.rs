//! From clients' requests to sealed batches: admission by producer state, natural batching, back pressure.

use super::Batcher;
use super::pending::{AckPart, Waiter};
use crate::agent::commands::{BatcherReply, BatcherRequest, ConnectionId, PublishChunk};
use crate::agent::control::Fatal;
use crate::base::clock::Clock;
use crate::base::ids::{Offset, ProducerId, Sequence};
use crate::base::limits::EVENT_BYTES_MAX;
use crate::entry::{Entry, EventView, ProducerRef, encode_open_producer, parse_event};
use crate::protocol::client::{AckKind, AckRun, ChangeCode, PublishErrorCode, RequestErrorCode};
use crate::stream::Admit;

/// What belongs to the batch that is gathering but does not stand in its bytes.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// Ack parts with `first_offset` counted from zero within the batch.
    parts: Vec<AckPart>,
    events: u64,
}

impl Staging {
    fn note(&mut self, connection: ConnectionId, producer_id: ProducerId, sequence: Sequence) {
        match self.parts.last_mut() {
            Some(part)
                if part.connection == connection
                    && part.producer_id == producer_id
                    && part.first_sequence.plus(u64::from(part.count)) == sequence =>
            {
                part.count += 1;
            }
            _ => self.parts.push(AckPart {
                connection,
                producer_id,
                first_sequence: sequence,
                count: 1,
                first_offset: Offset(self.events),
                duplicate: false,
            }),
        }
        self.events += 1;
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.events = 0;
    }
}

/// What became of one event.
enum Taken {
    /// Handled; go on with the next.
    Yes,
    /// Refused: the rest of the frame is dropped.
    Refused,
}

impl<C: Clock> Batcher<C> {
    /// Takes requests while there is room; leaves the rest in the ring, where back pressure builds.
    pub(super) fn drain_requests(&mut self) -> usize {
        let mut work = 0;
        while work < self.settings.limits.requests_limit && self.may_take_in() {
            if let Some((chunk, at)) = self.open_chunk.take() {
                self.take_in(chunk, at);
                work += 1;
                continue;
            }
            let Some(request) = self.rings.from_dispatcher.pop() else { break };
            work += 1;
            match request {
                BatcherRequest::Publish(chunk) => self.take_in(chunk, 0),
                BatcherRequest::OpenProducer { connection, request_id, name } => {
                    self.open_producer(connection, request_id, &name);
                }
                BatcherRequest::CommitQuery { connection, request_id, leader_required } => {
                    self.commit_query(connection, request_id, leader_required);
                }
                BatcherRequest::Status { connection, request_id } => {
                    self.answer_status(connection, request_id)
                }
                BatcherRequest::Transfer { connection, request_id, to } => {
                    self.transfer(connection, request_id, to);
                }
                BatcherRequest::Members { connection, request_id } => {
                    let members = self.is_leader().then(|| Box::new(self.list_members()));
                    self.reply(BatcherReply::Members { connection, request_id, members });
                }
                BatcherRequest::ChangeMember { connection, request_id, change } => {
                    self.change_member(connection, request_id, change);
                }
            }
        }
        work
    }

    fn accepts_events(&self) -> bool {
        self.is_leader() && !self.control.is_draining()
    }

    fn take_in(&mut self, chunk: PublishChunk, mut at: usize) {
        if !self.accepts_events() {
            self.reply(BatcherReply::NotLeader { connection: chunk.connection });
            self.recycle(chunk.events);
            return;
        }
        while at < chunk.events.len() {
            if !self.may_take_in() {
                self.open_chunk = Some((chunk, at));
                return;
            }
            let Ok((event, used)) = parse_event(&chunk.events[at..]) else {
                // The dispatcher has checked every event; a mismatch is refused all the same.
                self.refuse(&chunk, Sequence::ZERO, PublishErrorCode::Malformed);
                break;
            };
            if matches!(self.take_event(&chunk, &event), Taken::Refused) {
                break;
            }
            at += used;
        }
        self.recycle(chunk.events);
    }

    fn take_event(&mut self, chunk: &PublishChunk, event: &EventView<'_>) -> Taken {
        let sequence = event.sequence;
        match self.producers.classify(chunk.producer_id, chunk.epoch, sequence) {
            Admit::Append => return self.stage(chunk, event),
            Admit::Duplicate { offset } => {
                self.acknowledge_duplicate(chunk, sequence, AckKind::Duplicate, offset);
            }
            Admit::DuplicateOffsetUnknown => {
                self.acknowledge_duplicate(chunk, sequence, AckKind::DuplicateOffsetUnknown, Offset::ZERO);
            }
            Admit::DuplicatePending { offset, index } => {
                // The original may still be gathering; then its index is the one that the batch will get.
                self.counters.duplicates.increment();
                if index > self.tail.index {
                    self.counters.duplicates_of_gathering.increment();
                } else {
                    self.counters.duplicates_of_appended.increment();
                }
                let part = AckPart {
                    connection: chunk.connection,
                    producer_id: chunk.producer_id,
                    first_sequence: sequence,
                    count: 1,
                    first_offset: offset,
                    duplicate: true,
                };
                self.pending.add(index, Waiter::Ack(part));
            }
            Admit::Gap { expected } => {
                self.refuse(chunk, sequence, PublishErrorCode::SequenceGap { expected });
                return Taken::Refused;
            }
            Admit::Fenced { current } => {
                self.refuse(chunk, sequence, PublishErrorCode::Fenced { epoch: current });
                return Taken::Refused;
            }
            Admit::UnknownProducer => {
                self.refuse(chunk, sequence, PublishErrorCode::UnknownProducer);
                return Taken::Refused;
            }
        }
        Taken::Yes
    }

    fn stage(&mut self, chunk: &PublishChunk, event: &EventView<'_>) -> Taken {
        let Some(name) = self.producers.name_of(chunk.producer_id) else {
            self.refuse(chunk, event.sequence, PublishErrorCode::UnknownProducer);
            return Taken::Refused;
        };
        let producer = ProducerRef { id: chunk.producer_id, epoch: chunk.epoch, name };
        if !self.accumulator.fits_from(&producer, event.encoded.len()) {
            self.seal_now();
        }
        let Some(name) = self.producers.name_of(chunk.producer_id) else { return Taken::Refused };
        let producer = ProducerRef { id: chunk.producer_id, epoch: chunk.epoch, name };
        if self.accumulator.push(self.now_ns, producer, event.encoded).is_err() {
            let limit_bytes = EVENT_BYTES_MAX as u32;
            self.refuse(chunk, event.sequence, PublishErrorCode::EventTooLarge { limit_bytes });
            return Taken::Refused;
        }
        self.producers.stage(chunk.producer_id, event.sequence);
        self.staging.note(chunk.connection, chunk.producer_id, event.sequence);
        if self.accumulator.is_full() {
            self.seal_now();
        }
        Taken::Yes
    }

    fn acknowledge_duplicate(
        &mut self,
        chunk: &PublishChunk,
        sequence: Sequence,
        kind: AckKind,
        offset: Offset,
    ) {
        self.counters.duplicates.increment();
        let run = AckRun {
            producer_id: chunk.producer_id,
            first_sequence: sequence,
            count: 1,
            first_offset: offset,
            kind,
        };
        self.reply(BatcherReply::Ack { connection: chunk.connection, run });
    }

    fn refuse(&mut self, chunk: &PublishChunk, sequence: Sequence, code: PublishErrorCode) {
        self.reply(BatcherReply::PublishError {
            connection: chunk.connection,
            producer_id: chunk.producer_id,
            sequence,
            count: chunk.last_sequence.next().since(sequence).min(u64::from(u16::MAX)) as u16,
            code,
        });
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.len();
        buffer.clear();
        self.reply(BatcherReply::Recycle { buffer, bytes });
    }

    /// Natural batching (rule 8): a batch leaves when it is full, or at once while nothing is in flight, or after the
    /// configured delay.
    pub(super) fn seal_if_due(&mut self) -> usize {
        let in_flight = self.applied.index < self.tail.index;
        if self.is_leader() && self.accumulator.is_due(self.now_ns, in_flight) {
            self.seal_now();
            return 1;
        }
        0
    }

    /// Makes the gathered events an entry of the log.
    pub(super) fn seal_now(&mut self) {
        if self.accumulator.is_empty() {
            return;
        }
        let Ok(id) = self.raft.propose() else {
            // Only reached when leadership is lost within a turn: `settle` abandons the staging.
            return;
        };
        let context = self.seal_context(id);
        let entry = self.accumulator.seal(&context);
        self.counters.batches_sealed.increment();
        self.counters.events_sealed.add(u64::from(entry.header().event_count));
        self.note_appended(&entry);
        let base = context.base_offset;
        for part in self.staging.parts.drain(..) {
            let part = AckPart { first_offset: base.plus(part.first_offset.0), ..part };
            self.pending.add(id.index, Waiter::Ack(part));
        }
        self.staging.clear();
        self.append(entry);
    }

    /// The overlay learns of an entry that this leader appends (or found uncommitted in its log).
    pub(super) fn note_appended(&mut self, entry: &Entry) {
        if let Err(error) = self.producers.note_appended(&entry.view()) {
            self.control.fail(Fatal::Unknown(format!("cannot use the entry at {}: {error}", entry.id())));
        }
    }

    fn open_producer(&mut self, connection: ConnectionId, request_id: u64, name: &str) {
        if !self.accepts_events() {
            self.reply(BatcherReply::NotLeader { connection });
            return;
        }
        if self.producers.would_open(name).is_err() {
            let code = RequestErrorCode::TooManyProducers;
            self.reply(BatcherReply::OpenRefused { connection, request_id, code });
            return;
        }
        // Events of the older epoch that are gathering stand before the fence.
        self.seal_now();
        let Ok(id) = self.raft.propose() else {
            self.reply(BatcherReply::NotLeader { connection });
            return;
        };
        let entry =
            encode_open_producer(&self.seal_context(id), name).expect("the dispatcher has checked the name");
        self.note_appended(&entry);
        self.pending.add(id.index, Waiter::Open { connection, request_id });
        self.append(entry);
    }

    /// Leadership is gone: nobody will be answered from here, so everybody is told to ask the next leader.
    pub(super) fn abandon_clients(&mut self) {
        self.accumulator.clear();
        let mut connections: Vec<ConnectionId> =
            self.staging.parts.iter().map(|part| part.connection).collect();
        self.staging.clear();
        let mut changes = Vec::new();
        self.pending.abandon(|waiter| match waiter {
            Waiter::Change { connection, request_id } => changes.push((connection, request_id)),
            Waiter::Ack(_) | Waiter::Open { .. } => connections.push(waiter.connection()),
        });
        if let Some((chunk, _)) = self.open_chunk.take() {
            connections.push(chunk.connection);
            self.recycle(chunk.events);
        }
        connections.sort_unstable();
        connections.dedup();
        for connection in connections {
            self.reply(BatcherReply::NotLeader { connection });
        }
        for (connection, request_id) in changes {
            let outcome = ChangeCode::NotLeader;
            self.reply(BatcherReply::MemberChanged { connection, request_id, outcome });
        }
    }
}
