//! The dispatcher: clients that publish or ask. It checks what they send, hands it to the batcher, and writes the
//! answers.
//!
//! Back pressure (rule 4): publish bytes on their way to the batcher have a budget; when it is used up, or the
//! batcher's ring is full, frames stay in their connection's buffer, the socket is no longer read, and TCP holds the
//! client. Client answers are bounded by the credits; a client that does not take them is closed.

use super::Agent;
use super::commands::{BatcherReply, BatcherRequest, ConnectionId, NewClient, PublishChunk};
use super::connection::Connection;
use super::reception::{Credits, Reception, Welcome};
use super::rings::DispatcherRings;
use crate::base::ids::{GroupId, NodeId, Offset, Sequence, Term};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::net::{Net, NetStream, Readiness, Token};
use crate::entry::{Durability, parse_event, validate_producer_name};
use crate::metrics::{Counter, Counters};
use crate::protocol::client::{
    AckRun, COUNTERS_MAX, ChangeCode, ChangeOutcome, ClientMessage, CommitAnswer, Counter as CounterValue,
    GoodbyeReason, LeaderMembers, List, MemberRow, MembersAnswer, ProducerOpened, Publish, PublishAck,
    PublishError, PublishErrorCode, Purpose, RequestErrorCode, ServerMessage, StatusReply, TransferCode,
    TransferOutcome,
};
use crate::protocol::frame::split_frame;

/// Bounds of the dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct DispatcherLimits {
    /// What one client may have in flight.
    pub credits: Credits,
    /// Publish bytes on their way to the batcher, over all clients.
    pub publish_bytes_limit: usize,
    /// Answer bytes that may wait for one client.
    pub outbox_bytes_limit: usize,
    /// Bytes read from one client in one turn.
    pub read_budget: usize,
    /// Frames handled for one client in one turn.
    pub frames_limit: usize,
    /// Replies of the batcher handled in one turn.
    pub replies_limit: usize,
}

impl Default for DispatcherLimits {
    fn default() -> Self {
        Self {
            credits: Credits::default(),
            publish_bytes_limit: 16 << 20,
            outbox_bytes_limit: 4 << 20,
            read_budget: 256 << 10,
            frames_limit: 64,
            replies_limit: 4096,
        }
    }
}

/// Counters that only the dispatcher writes.
#[derive(Debug)]
struct DispatcherCounters {
    // Clients taken over from the conductor.
    clients_accepted: Counter,
    // Clients closed for what they sent.
    clients_refused: Counter,
    // Clients closed for not taking their answers.
    clients_too_slow: Counter,
    // Publish frames taken in.
    publish_frames: Counter,
}

impl DispatcherCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            clients_accepted: counters.register("dispatcher_clients_accepted"),
            clients_refused: counters.register("dispatcher_clients_refused"),
            clients_too_slow: counters.register("dispatcher_clients_too_slow"),
            publish_frames: counters.register("dispatcher_publish_frames"),
        }
    }
}

struct Client<S> {
    connection: Connection<S>,
    generation: u32,
    /// Runs to acknowledge with the next frame to this client.
    runs: Vec<AckRun>,
    /// Closes once what is queued has left.
    closing: bool,
    /// Announced in its hello: may publish.
    publisher: bool,
    /// Events taken in and not yet answered; bounded by its credits.
    in_flight_events: u64,
}

impl<S> Client<S> {
    /// Counts events in, or says that the client does not keep to its credits.
    fn take_credit(&mut self, event_count: u16, credits: Credits) -> Result<(), String> {
        self.in_flight_events += u64::from(event_count);
        if self.in_flight_events > u64::from(credits.events) {
            return Err(format!("more than {} unacknowledged events in flight", credits.events));
        }
        Ok(())
    }

    fn answered(&mut self, events: u32) {
        self.in_flight_events = self.in_flight_events.saturating_sub(u64::from(events));
    }
}

/// The agent.
pub struct Dispatcher<N: Net> {
    net: N,
    reception: Reception,
    limits: DispatcherLimits,
    rings: DispatcherRings<N::Stream>,
    clients: Vec<Option<Client<N::Stream>>>,
    free: Vec<u32>,
    next_generation: u32,
    /// Clients with answers to write or bytes left to look at.
    active: Vec<u32>,
    /// Publish bytes handed to the batcher and not yet given back.
    publish_bytes: usize,
    /// A request that found the batcher's ring full.
    held: Option<BatcherRequest>,
    buffers: Vec<Vec<u8>>,
    counters: DispatcherCounters,
    registry: Counters,
}

impl<N: Net> Agent for Dispatcher<N> {
    fn name(&self) -> &'static str {
        "dispatcher"
    }

    fn do_work(&mut self, _now_ns: u64, readiness: &[Readiness]) -> usize {
        let mut work = self.take_clients();
        work += self.take_replies();
        for event in readiness {
            if let Some(client) = self.clients.get_mut(event.token.0 as usize).and_then(Option::as_mut) {
                client.connection.note(event);
                self.active.push(event.token.0);
            }
        }
        work += self.offer_held();
        work + self.serve_active()
    }

    fn is_stalled(&self) -> bool {
        self.held.is_some() || !self.active.is_empty()
    }
}

impl<N: Net> Dispatcher<N> {
    /// An agent without clients.
    pub fn new(
        net: N,
        welcome: Welcome,
        limits: DispatcherLimits,
        rings: DispatcherRings<N::Stream>,
        registry: Counters,
    ) -> Self {
        Self {
            net,
            reception: Reception::new(welcome, limits.credits),
            limits,
            rings,
            clients: Vec::new(),
            free: Vec::new(),
            next_generation: 1,
            active: Vec::new(),
            publish_bytes: 0,
            held: None,
            buffers: Vec::new(),
            counters: DispatcherCounters::new(&registry),
            registry,
        }
    }

    fn take_clients(&mut self) -> usize {
        let mut work = 0;
        while let Some(new) = self.rings.from_conductor.pop() {
            work += 1;
            self.accept(new);
        }
        work
    }

    fn accept(&mut self, new: NewClient<N::Stream>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            (self.clients.len() - 1) as u32
        });
        let publisher = new.purpose == Purpose::Publisher;
        let Some(connection) = self.reception.admit(&mut self.net, Token(slot), new) else {
            self.free.push(slot);
            self.rings.gauge.leave();
            return;
        };
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        self.clients[slot as usize] = Some(Client {
            connection,
            generation,
            runs: Vec::new(),
            closing: false,
            publisher,
            in_flight_events: 0,
        });
        self.counters.clients_accepted.increment();
        self.active.push(slot);
    }

    fn take_replies(&mut self) -> usize {
        let mut work = 0;
        while work < self.limits.replies_limit {
            let Some(reply) = self.rings.from_batcher.pop() else { break };
            work += 1;
            self.take_reply(reply);
        }
        work
    }

    fn take_reply(&mut self, reply: BatcherReply) {
        match reply {
            BatcherReply::Ack { connection, run } => {
                if let Some(client) = self.client(connection) {
                    client.answered(run.count);
                    push_run(&mut client.runs, run);
                }
            }
            BatcherReply::PublishError { connection, producer_id, sequence, count, code } => {
                if let Some(client) = self.client(connection) {
                    client.answered(u32::from(count));
                }
                let text = describe(code);
                let error = PublishError { producer_id, sequence, count, code, text: &text };
                self.send(connection, &ServerMessage::PublishError(error));
            }
            BatcherReply::ProducerOpened { connection, request_id, producer_id, epoch, next_sequence } => {
                let opened = ProducerOpened { request_id, producer_id, epoch, next_sequence };
                self.send(connection, &ServerMessage::ProducerOpened(opened));
            }
            BatcherReply::OpenRefused { connection, request_id, code } => {
                let text = describe_refusal(code);
                self.send(connection, &ServerMessage::RequestError { request_id, code, text });
            }
            BatcherReply::Commit { connection, request_id, committed, from_leader } => {
                let leader = self.reception.other_leader();
                let address = self.reception.address_of(leader).to_owned();
                let answer = match (committed, leader) {
                    (Some((commit_index, last_offset)), _) => {
                        CommitAnswer::Committed { commit_index, last_offset, from_leader }
                    }
                    (None, Some(leader_id)) => CommitAnswer::NotLeader { leader_id, address: &address },
                    (None, None) => CommitAnswer::NoLeader,
                };
                self.send(connection, &ServerMessage::CommitReply { request_id, answer });
            }
            BatcherReply::Status { connection, status } => {
                // The registry is everybody's; only here is it put beside what the batcher knows.
                let snapshot = self.registry.snapshot();
                let counters = snapshot
                    .iter()
                    .take(COUNTERS_MAX)
                    .map(|(name, value)| CounterValue { name, value: *value });
                let status = StatusReply { counters: counters.collect(), ..*status };
                self.send(connection, &ServerMessage::Status(Box::new(status)));
            }
            BatcherReply::Transferred { connection, request_id, outcome } => {
                self.send_transferred(connection, request_id, outcome);
            }
            BatcherReply::Members { connection, request_id, members } => {
                self.send_members(connection, request_id, members);
            }
            BatcherReply::MemberChanged { connection, request_id, outcome } => {
                self.send_member_changed(connection, request_id, outcome);
            }
            BatcherReply::NotLeader { connection } => {
                if let Some(client) = self.client(connection) {
                    // Nothing of what it sent will be answered from here any more.
                    client.in_flight_events = 0;
                }
                let leader_id = self.reception.other_leader();
                let address = self.reception.address_of(leader_id).to_owned();
                let term = self.reception.term();
                self.send(connection, &ServerMessage::Redirect { leader_id, address: &address, term });
            }
            BatcherReply::Leadership { term, leader } => self.spread_news(term, leader),
            BatcherReply::Recycle { buffer, bytes } => {
                self.publish_bytes = self.publish_bytes.saturating_sub(bytes);
                if self.buffers.len() < 64 && buffer.capacity() <= 256 << 10 {
                    self.buffers.push(buffer);
                }
            }
        }
    }

    fn send_transferred(&mut self, connection: ConnectionId, request_id: u64, outcome: TransferCode) {
        let (term, leader_id) = (self.reception.term(), self.reception.other_leader());
        let address = self.reception.address_of(leader_id).to_owned();
        let outcome = match outcome {
            TransferCode::Done => TransferOutcome::Done,
            TransferCode::NotLeader => TransferOutcome::NotLeader { term, leader_id, address: &address },
            TransferCode::NotAVoter => TransferOutcome::NotAVoter,
            TransferCode::TimedOut => TransferOutcome::TimedOut,
            TransferCode::InProgress => TransferOutcome::InProgress,
        };
        self.send(connection, &ServerMessage::TransferReply { request_id, outcome });
    }

    fn send_member_changed(&mut self, connection: ConnectionId, request_id: u64, outcome: ChangeCode) {
        let (term, leader_id) = (self.reception.term(), self.reception.other_leader());
        let address = self.reception.address_of(leader_id).to_owned();
        let elsewhere = ChangeOutcome::NotLeader { term, leader_id, address: &address };
        let outcome = ChangeOutcome::of(outcome, elsewhere);
        self.send(connection, &ServerMessage::ChangeMemberReply { request_id, outcome });
    }

    /// Adds the addresses, which only the settings file knows.
    fn send_members(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        members: Option<Box<LeaderMembers<'static>>>,
    ) {
        let (term, leader_id) = (self.reception.term(), self.reception.other_leader());
        let address_of = |node| self.reception.address_of(node).to_owned();
        let rows = members.iter().flat_map(|members| &members.rows);
        let addresses: Vec<String> = rows.map(|row| address_of(Some(row.node_id))).collect();
        let address = address_of(leader_id);
        let answer = match members {
            None => MembersAnswer::NotLeader { term, leader_id, address: &address },
            Some(members) => {
                let rows = members.rows.iter().zip(&addresses);
                let rows = rows.map(|(row, address)| MemberRow { address, ..*row }).collect();
                MembersAnswer::Members(LeaderMembers { rows, ..*members })
            }
        };
        self.send(connection, &ServerMessage::Members { request_id, answer: Box::new(answer) });
    }

    fn spread_news(&mut self, term: Term, leader: Option<NodeId>) {
        let Some(news) = self.reception.learn(term, leader) else { return };
        for slot in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[slot] {
                client.connection.outbox.push_bytes(&news);
                self.active.push(slot as u32);
            }
        }
    }

    fn client(&mut self, id: ConnectionId) -> Option<&mut Client<N::Stream>> {
        let client = self.clients.get_mut(id.slot as usize)?.as_mut()?;
        if client.generation != id.generation {
            return None;
        }
        self.active.push(id.slot);
        Some(client)
    }

    /// Queues one message; acknowledgements gathered before it leave first.
    fn send(&mut self, id: ConnectionId, message: &ServerMessage<'_>) {
        let (group, durability) = (self.reception.group(), self.reception.durability());
        if let Some(client) = self.client(id) {
            flush_runs(client, group, durability);
            client.connection.outbox.push_with(|out| message.encode(group, out));
        }
    }

    fn offer_held(&mut self) -> usize {
        let Some(request) = self.held.take() else { return 0 };
        match self.rings.to_batcher.push(request) {
            Ok(()) => 1,
            Err(back) => {
                self.held = Some(back);
                0
            }
        }
    }

    fn serve_active(&mut self) -> usize {
        let mut slots = std::mem::take(&mut self.active);
        slots.sort_unstable();
        slots.dedup();
        let mut work = 0;
        for slot in slots.drain(..) {
            let (done, again) = self.serve(slot);
            work += done;
            if again {
                self.active.push(slot);
            }
        }
        // Keeps the vector's memory when nothing is left to do.
        if self.active.is_empty() {
            self.active = slots;
        }
        work
    }

    /// One client's turn: read, handle frames, write. Says whether it wants another turn without a new event.
    fn serve(&mut self, slot: u32) -> (usize, bool) {
        let Some(mut client) = self.clients[slot as usize].take() else { return (0, false) };
        let id = ConnectionId { slot, generation: client.generation };
        let mut work = 0;
        let mut over = false;
        if !client.closing && self.may_read() {
            match client.connection.read(self.limits.read_budget) {
                Ok(result) => {
                    work += result.bytes;
                    over = result.closed;
                }
                Err(_) => over = true,
            }
        }
        let frames = if client.closing { Ok(0) } else { self.handle_frames(&mut client, id) };
        match frames {
            Ok(count) => work += count,
            Err(reason) => self.refuse_client(&mut client, &reason),
        }
        flush_runs(&mut client, self.reception.group(), self.reception.durability());
        match client.connection.write() {
            Ok(bytes) => work += bytes,
            Err(_) => over = true,
        }
        if client.connection.outbox.len_bytes() > self.limits.outbox_bytes_limit {
            self.counters.clients_too_slow.increment();
            over = true;
        }
        // A refused client gets its goodbye if its socket takes it now, and no more of this node's time.
        if over || client.closing {
            self.close(slot, client);
            return (work + 1, false);
        }
        let again = client.connection.readable
            || (client.connection.writable && !client.connection.outbox.is_empty())
            || self.has_whole_frame(&mut client);
        self.clients[slot as usize] = Some(client);
        (usize::from(work > 0), again)
    }

    fn has_whole_frame(&self, client: &mut Client<N::Stream>) -> bool {
        matches!(client.connection.whole_frame_bytes(FRAME_BYTES_MAX), Ok(Some(_)))
    }

    fn may_read(&self) -> bool {
        self.held.is_none() && self.publish_bytes < self.limits.publish_bytes_limit
    }

    fn close(&mut self, slot: u32, mut client: Client<N::Stream>) {
        let _ = self.net.deregister(&mut client.connection.stream);
        client.connection.stream.shutdown();
        self.free.push(slot);
        self.rings.gauge.leave();
    }

    fn refuse_client(&mut self, client: &mut Client<N::Stream>, reason: &str) {
        self.counters.clients_refused.increment();
        tracing::warn!("closing client {}: {reason}", client.connection.stream.peer_label());
        let goodbye = ServerMessage::Goodbye { reason: GoodbyeReason::ProtocolViolation, text: reason };
        let group = self.reception.group();
        client.connection.outbox.push_with(|out| goodbye.encode(group, out));
        client.closing = true;
    }

    fn handle_frames(&mut self, client: &mut Client<N::Stream>, id: ConnectionId) -> Result<usize, String> {
        let mut frames = 0;
        while frames < self.limits.frames_limit && self.may_read() {
            let whole =
                client.connection.whole_frame_bytes(FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
            if whole.is_none() {
                break;
            }
            let split = split_frame(client.connection.inbox.unread()).map_err(|error| error.to_string())?;
            let Some((frame, consumed)) = split else { break };
            let message = ClientMessage::decode(frame).map_err(|error| error.to_string())?;
            let events = if let ClientMessage::Publish(publish) = &message { publish.event_count } else { 0 };
            let handled = self.handle(client.publisher, id, &message)?;
            client.take_credit(events, self.limits.credits)?;
            client.connection.inbox.consume(consumed);
            frames += 1;
            let group = self.reception.group();
            match handled {
                Handled::Request(request) => {
                    if let Err(back) = self.rings.to_batcher.push(request) {
                        self.held = Some(back);
                    }
                }
                Handled::Pong(request_id) => client
                    .connection
                    .outbox
                    .push_with(|out| ServerMessage::Pong { request_id }.encode(group, out)),
                Handled::BadName(request_id) => {
                    let code = RequestErrorCode::BadProducerName;
                    let text = "a producer's name has 1 to 255 bytes and no control characters";
                    let error = ServerMessage::RequestError { request_id, code, text };
                    client.connection.outbox.push_with(|out| error.encode(group, out));
                }
            }
        }
        Ok(frames)
    }

    /// What a client's message asks for, or why the client must go.
    fn handle(
        &mut self,
        publisher: bool,
        connection: ConnectionId,
        message: &ClientMessage<'_>,
    ) -> Result<Handled, String> {
        Ok(match message {
            ClientMessage::Ping { request_id } => Handled::Pong(*request_id),
            ClientMessage::StatusQuery { request_id } => {
                Handled::Request(BatcherRequest::Status { connection, request_id: *request_id })
            }
            ClientMessage::CommitQuery { request_id, leader_required } => {
                Handled::Request(BatcherRequest::CommitQuery {
                    connection,
                    request_id: *request_id,
                    leader_required: *leader_required,
                })
            }
            ClientMessage::TransferLeadership { request_id, to } if !publisher => {
                Handled::Request(BatcherRequest::Transfer { connection, request_id: *request_id, to: *to })
            }
            ClientMessage::ListMembers { request_id } if !publisher => {
                Handled::Request(BatcherRequest::Members { connection, request_id: *request_id })
            }
            ClientMessage::ChangeMember { request_id, change } if !publisher => {
                let (request_id, change) = (*request_id, *change);
                Handled::Request(BatcherRequest::ChangeMember { connection, request_id, change })
            }
            ClientMessage::OpenProducer { request_id, name } if publisher => {
                if validate_producer_name(name).is_err() {
                    return Ok(Handled::BadName(*request_id));
                }
                let (request_id, name) = (*request_id, (*name).to_owned());
                Handled::Request(BatcherRequest::OpenProducer { connection, request_id, name })
            }
            ClientMessage::Publish(publish) if publisher => {
                Handled::Request(self.chunk_of(connection, publish)?)
            }
            _ => return Err("a message that does not go with the purpose of this connection".to_owned()),
        })
    }

    fn chunk_of(
        &mut self,
        connection: ConnectionId,
        publish: &Publish<'_>,
    ) -> Result<BatcherRequest, String> {
        let mut at = 0;
        let mut previous: Option<Sequence> = None;
        for _ in 0..publish.event_count {
            let (event, used) = parse_event(&publish.bytes[at..])
                .map_err(|error| format!("a publish frame's event: {error}"))?;
            if event.sequence == Sequence::ZERO || previous.is_some_and(|p| event.sequence != p.next()) {
                return Err("sequences in a publish frame count up from at least 1".to_owned());
            }
            previous = Some(event.sequence);
            at += used;
        }
        if at != publish.bytes.len() {
            return Err("a publish frame holds more bytes than its events".to_owned());
        }
        self.counters.publish_frames.increment();
        self.publish_bytes += publish.bytes.len();
        let mut events = self.buffers.pop().unwrap_or_default();
        events.extend_from_slice(publish.bytes);
        Ok(BatcherRequest::Publish(PublishChunk {
            connection,
            producer_id: publish.producer_id,
            epoch: publish.epoch,
            last_sequence: previous.unwrap_or(Sequence::ZERO),
            events,
        }))
    }
}

/// What one frame of a client comes to.
enum Handled {
    /// For the batcher.
    Request(BatcherRequest),
    /// Answered here.
    Pong(u64),
    /// Refused here; the connection goes on.
    BadName(u64),
}

/// Appends a run, or lengthens the last one where it continues both ways.
fn push_run(runs: &mut Vec<AckRun>, run: AckRun) {
    if let Some(last) = runs.last_mut() {
        let count = u64::from(last.count);
        let offsets_continue = if last.first_offset == Offset::ZERO {
            run.first_offset == Offset::ZERO
        } else {
            run.first_offset == last.first_offset.plus(count)
        };
        if last.producer_id == run.producer_id
            && last.kind == run.kind
            && last.first_sequence.plus(count) == run.first_sequence
            && offsets_continue
        {
            last.count += run.count;
            return;
        }
    }
    runs.push(run);
}

fn flush_runs<S: NetStream>(client: &mut Client<S>, group: GroupId, durability: Durability) {
    for runs in client.runs.chunks(crate::protocol::client::ACK_RUNS_MAX) {
        let ack = PublishAck { durability, runs: List::from_slice(runs) };
        client.connection.outbox.push_with(|out| ServerMessage::PublishAck(ack).encode(group, out));
    }
    client.runs.clear();
}

fn describe_refusal(code: RequestErrorCode) -> &'static str {
    match code {
        RequestErrorCode::BadProducerName => "a producer's name has 1 to 255 bytes and no control characters",
        RequestErrorCode::TooManyProducers => {
            "the cluster remembers as many producers as `producers.max` allows; let idle ones expire"
        }
        RequestErrorCode::NotReady => "the node cannot answer now; try again",
        RequestErrorCode::StorageFailed | RequestErrorCode::StorageFull => {
            "the node's storage takes nothing now"
        }
        RequestErrorCode::WrongPurpose => "this connection was opened for another purpose",
    }
}

fn describe(code: PublishErrorCode) -> String {
    match code {
        PublishErrorCode::SequenceGap { expected } => {
            format!("sequence gap: the next sequence of this producer is {expected}; send it first")
        }
        PublishErrorCode::Fenced { epoch } => {
            format!(
                "this producer was opened again elsewhere (epoch {}); only the newest opening may publish",
                epoch.0
            )
        }
        PublishErrorCode::UnknownProducer => {
            "identity expired: the cluster no longer remembers this producer; open it again".to_owned()
        }
        PublishErrorCode::EventTooLarge { limit_bytes } => {
            format!("the event is larger than {limit_bytes} bytes; split it")
        }
        PublishErrorCode::Malformed => "the event's bytes break the layout; update the client".to_owned(),
        PublishErrorCode::NotDurable => {
            "the node's storage cannot take events now; try another node".to_owned()
        }
        PublishErrorCode::CreditExceeded => "more in flight than the credits allow".to_owned(),
        PublishErrorCode::TooManyProducers => "the cluster remembers as many producers as it may".to_owned(),
    }
}
