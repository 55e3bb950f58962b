//! What clients and nodes say to each other on the client port.
//!
//! A connection begins with [`ClientHello`] and its reply, has one [`Purpose`], and then carries:
//!
//! ```text
//! publisher   OpenProducer ─▶ ProducerOpened;  Publish … ─▶ PublishAck … | PublishError;  Redirect, LeaderNews ◀─
//! subscriber  Subscribe ─▶ Subscribed, Entries …, Progress …;  SubscribeCredit ─▶;  SubscriptionError ◀─
//! control     TransferLeadership ─▶ TransferReply;  ListMembers ─▶ Members;  ChangeMember ─▶ ChangeMemberReply
//! any         Ping ─▶ Pong;  StatusQuery ─▶ StatusReply;  CommitQuery ─▶ CommitReply;  Goodbye ◀─
//! ```
//!
//! Decoding borrows from the receive buffer and allocates only for rare messages (hello, status); encoding appends
//! to a buffer of the caller. Nothing here knows Raft.

mod hello;
mod list;
mod members;
mod publish;
mod status;
mod subscribe;
mod transfer;

pub use hello::{
    CLIENT_MAGIC, CLIENT_NAME_BYTES_MAX, ClientHello, ClientHelloAccept, ClientHelloReply, MemberAddress,
    Purpose,
};
pub use list::{List, WireItem};
pub use members::{
    ChangeCode, ChangeKind, ChangeOutcome, LeaderMembers, MemberChange, MemberRow, MembersAnswer,
};
pub use publish::{
    AckKind, AckRun, EventsError, ProducerOpened, Publish, PublishAck, PublishError, PublishErrorCode,
};
pub use status::{CommitAnswer, Counter, NodeRole, PeerState, PeerStatus, StatusReply};
pub use subscribe::{
    Entries, EntriesError, Subscribe, SubscribeFrom, SubscriptionError, SubscriptionErrorCode,
};
pub use transfer::{TransferCode, TransferOutcome};

use crate::base::bytes::ByteWriter;
use crate::base::ids::{GroupId, LogIndex, NodeId, Offset, Term};
use crate::base::limits::PRODUCER_NAME_BYTES_MAX;

use super::frame::{
    Fields, Frame, FrameWriter, ProtocolError, TEXT_BYTES_MAX, kind, put_bool, put_text, put_text_clipped,
    wire_enum,
};

/// Longest address in text form: a host name, a colon, a port.
pub const ADDRESS_BYTES_MAX: usize = 262;
/// While nothing matches, a subscription hears of the committed position at least this often.
pub const PROGRESS_INTERVAL_NS: u64 = crate::base::clock::NS_PER_S;
/// Most events in one publish frame. The server cuts them into batches of its own.
pub const PUBLISH_EVENTS_MAX: usize = 1024;
/// Most runs in one acknowledgement.
pub const ACK_RUNS_MAX: usize = 1024;
/// Most counters in one status reply.
pub const COUNTERS_MAX: usize = 512;
/// Longest name of a counter, and longest version string.
pub const COUNTER_NAME_BYTES_MAX: usize = 64;
/// Longest topic filter: a topic and a `*`.
pub const FILTER_BYTES_MAX: usize = crate::base::limits::TOPIC_BYTES_MAX + 1;

wire_enum! {
    /// Why a request by id failed.
    RequestErrorCode {
        /// The producer's name is empty, too long, or has control characters.
        BadProducerName = 1,
        /// The cluster remembers as many producers as it may; none idle enough to expire.
        TooManyProducers = 2,
        /// The node cannot answer now (recovering, overloaded); try again.
        NotReady = 3,
        /// The node's storage failed: it takes nothing in any more.
        StorageFailed = 4,
        /// The disk is full: the node stays readable and recovers by itself when space returns.
        StorageFull = 5,
        /// The connection's purpose does not go with this request.
        WrongPurpose = 6,
    }
}

wire_enum! {
    /// Why a node closes a connection.
    GoodbyeReason {
        /// The node drains and will stop: go elsewhere; what was in flight is unknown.
        Draining = 1,
        /// The client broke the protocol; the text says how.
        ProtocolViolation = 2,
        /// The client did not take its answers for too long, or kept silent in a handshake.
        TooSlow = 3,
        /// Too many connections or subscriptions.
        Overloaded = 4,
        /// The node's storage failed.
        StorageFailed = 5,
    }
}

/// From a client to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage<'a> {
    /// First frame of the connection, within 2 s.
    Hello(ClientHello<'a>),
    /// Asks for a [`ServerMessage::Pong`] with the same number; also keeps the connection alive.
    Ping {
        /// Comes back.
        request_id: u64,
    },
    /// Asks for a [`ServerMessage::Status`].
    StatusQuery {
        /// Comes back.
        request_id: u64,
    },
    /// Asks how far the log is committed.
    CommitQuery {
        /// Comes back.
        request_id: u64,
        /// True: a linearizable answer by the leader; false: whatever this node knows.
        leader_required: bool,
    },
    /// Makes the producer `name`, or takes it over: a new epoch fences the older one. Leader only.
    OpenProducer {
        /// Comes back.
        request_id: u64,
        /// 1 to 255 bytes, as `entry::validate_producer_name` allows.
        name: &'a str,
    },
    /// Events of one producer, in sequence order. Leader only.
    Publish(Publish<'a>),
    /// Starts a subscription on this connection.
    Subscribe(Subscribe<'a>),
    /// Adds to a subscription's credit.
    SubscribeCredit {
        /// As chosen in [`Subscribe`].
        subscription: u32,
        /// Entry bytes that the client has taken out of its buffers.
        bytes: u32,
    },
    /// Asks the leader to hand leadership over to that node. Leader only.
    TransferLeadership {
        /// Comes back.
        request_id: u64,
        /// The voter that is to lead.
        to: NodeId,
    },
    /// Asks the leader for the cluster's members. Leader only.
    ListMembers {
        /// Comes back.
        request_id: u64,
    },
    /// Asks the leader to change what a member is. Leader only.
    ChangeMember {
        /// Comes back.
        request_id: u64,
        /// What is to be done.
        change: MemberChange,
    },
}

/// From a node to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage<'a> {
    /// The answer to the hello; after a refusal the node closes.
    HelloReply(ClientHelloReply<'a>),
    /// The answer to a ping.
    Pong {
        /// Of the ping.
        request_id: u64,
    },
    /// The answer to a status query.
    Status(Box<StatusReply<'a>>),
    /// The answer to a commit query.
    CommitReply {
        /// Of the query.
        request_id: u64,
        /// What is known.
        answer: CommitAnswer<'a>,
    },
    /// This node does not lead (any more). Everything that was sent on this connection and is not acknowledged is
    /// *unknown*: it may or may not be in the log; send it again, under the same sequences, to the leader.
    Redirect {
        /// The leader, where known.
        leader_id: Option<NodeId>,
        /// Its client address; empty where not known.
        address: &'a str,
        /// The term in which that holds.
        term: Term,
    },
    /// News on any connection: who leads now. Nothing in flight is affected by it.
    LeaderNews {
        /// The term in which that holds; a smaller one than already heard is old news.
        term: Term,
        /// The leader, or none (an election is under way).
        leader_id: Option<NodeId>,
        /// Its client address; empty where not known.
        address: &'a str,
    },
    /// The node closes the connection after this frame.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
        /// For people.
        text: &'a str,
    },
    /// A request by id failed; the connection goes on.
    RequestError {
        /// Of the request.
        request_id: u64,
        /// Why.
        code: RequestErrorCode,
        /// For people.
        text: &'a str,
    },
    /// The producer is open (its entry is committed).
    ProducerOpened(ProducerOpened),
    /// Events are committed, or were already.
    PublishAck(PublishAck<'a>),
    /// Events were refused and are not in the log.
    PublishError(PublishError<'a>),
    /// The subscription stands.
    Subscribed {
        /// As chosen by the client.
        subscription: u32,
        /// The first offset that will be delivered: what was asked for, resolved.
        start_offset: Offset,
        /// This node's commit index.
        commit_index: LogIndex,
        /// Offset of the last committed event; zero when there is none.
        last_offset: Offset,
    },
    /// Committed entries.
    Entries(Entries<'a>),
    /// Everything up to here is committed, and what matched was sent; sent at least once a second while nothing
    /// matches.
    Progress {
        /// As chosen by the client.
        subscription: u32,
        /// Committed and looked through up to this entry.
        commit_index: LogIndex,
        /// The same as an offset.
        last_offset: Offset,
    },
    /// The subscription ended or never began.
    SubscriptionError(SubscriptionError<'a>),
    /// The answer to a transfer request, once it is decided.
    TransferReply {
        /// Of the request.
        request_id: u64,
        /// What became of it.
        outcome: TransferOutcome<'a>,
    },
    /// The answer to the question for the members.
    Members {
        /// Of the request.
        request_id: u64,
        /// The leader's answer, or where to ask.
        answer: Box<MembersAnswer<'a>>,
    },
    /// The answer to a change of a member, once it is committed or refused.
    ChangeMemberReply {
        /// Of the request.
        request_id: u64,
        /// What became of it.
        outcome: ChangeOutcome<'a>,
    },
}

impl<'a> ClientMessage<'a> {
    /// The frame kind.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::CLIENT_HELLO,
            Self::Ping { .. } => kind::PING,
            Self::StatusQuery { .. } => kind::STATUS_QUERY,
            Self::CommitQuery { .. } => kind::COMMIT_QUERY,
            Self::OpenProducer { .. } => kind::OPEN_PRODUCER,
            Self::Publish(_) => kind::PUBLISH,
            Self::Subscribe(_) => kind::SUBSCRIBE,
            Self::SubscribeCredit { .. } => kind::SUBSCRIBE_CREDIT,
            Self::TransferLeadership { .. } => kind::TRANSFER_LEADERSHIP,
            Self::ListMembers { .. } => kind::LIST_MEMBERS,
            Self::ChangeMember { .. } => kind::CHANGE_MEMBER,
        }
    }

    /// Whether a connection of this purpose may send it (hello: only as the first frame, of course).
    #[must_use]
    pub const fn allowed_on(&self, purpose: Purpose) -> bool {
        match self {
            Self::Hello(_) => false,
            Self::Ping { .. } | Self::StatusQuery { .. } | Self::CommitQuery { .. } => true,
            Self::OpenProducer { .. } | Self::Publish(_) => matches!(purpose, Purpose::Publisher),
            Self::Subscribe(_) | Self::SubscribeCredit { .. } => matches!(purpose, Purpose::Subscriber),
            Self::TransferLeadership { .. } | Self::ListMembers { .. } | Self::ChangeMember { .. } => {
                matches!(purpose, Purpose::Control)
            }
        }
    }

    /// Appends the message to `out` as one frame.
    ///
    /// # Panics
    /// When a name or list is over its documented limit; callers validate before.
    pub fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        let mut frame = FrameWriter::begin(out, self.kind(), group);
        match self {
            Self::Hello(hello) => hello.put(&mut frame),
            Self::Ping { request_id }
            | Self::StatusQuery { request_id }
            | Self::ListMembers { request_id } => frame.put_u64(*request_id),
            Self::ChangeMember { request_id, change } => {
                frame.put_u64(*request_id);
                change.put(&mut frame);
            }
            Self::CommitQuery { request_id, leader_required } => {
                frame.put_u64(*request_id);
                put_bool(&mut frame, *leader_required);
            }
            Self::OpenProducer { request_id, name } => {
                frame.put_u64(*request_id);
                put_text(&mut frame, name, PRODUCER_NAME_BYTES_MAX);
            }
            Self::Publish(publish) => publish.put(&mut frame),
            Self::Subscribe(subscribe) => subscribe.put(&mut frame),
            Self::SubscribeCredit { subscription, bytes } => {
                frame.put_u32(*subscription);
                frame.put_u32(*bytes);
            }
            Self::TransferLeadership { request_id, to } => {
                frame.put_u64(*request_id);
                frame.put_u16(to.0);
            }
        }
        frame.finish();
    }

    /// Reads a client's message. Events in a publish frame are counted in and checked by
    /// [`Publish::events`], not here.
    ///
    /// # Errors
    /// Any [`ProtocolError`]: the client is broken; close its connection.
    pub fn decode(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let mut fields = Fields::of(&frame)?;
        let f = &mut fields;
        let message = match f.kind() {
            kind::CLIENT_HELLO => Self::Hello(ClientHello::read(f)?),
            kind::PING => Self::Ping { request_id: f.u64("request_id")? },
            kind::STATUS_QUERY => Self::StatusQuery { request_id: f.u64("request_id")? },
            kind::COMMIT_QUERY => Self::CommitQuery {
                request_id: f.u64("request_id")?,
                leader_required: f.bool("leader_required")?,
            },
            kind::OPEN_PRODUCER => Self::OpenProducer {
                request_id: f.u64("request_id")?,
                name: f.text("name", PRODUCER_NAME_BYTES_MAX)?,
            },
            kind::PUBLISH => Self::Publish(Publish::read(f)?),
            kind::SUBSCRIBE => Self::Subscribe(Subscribe::read(f)?),
            kind::SUBSCRIBE_CREDIT => {
                Self::SubscribeCredit { subscription: f.u32("subscription")?, bytes: f.u32("bytes")? }
            }
            kind::TRANSFER_LEADERSHIP => {
                Self::TransferLeadership { request_id: f.u64("request_id")?, to: f.node("to")? }
            }
            kind::LIST_MEMBERS => Self::ListMembers { request_id: f.u64("request_id")? },
            kind::CHANGE_MEMBER => {
                Self::ChangeMember { request_id: f.u64("request_id")?, change: MemberChange::read(f)? }
            }
            kind => return Err(ProtocolError::UnexpectedKind { what: "a node's client port", kind }),
        };
        fields.finish()?;
        Ok(message)
    }
}

impl<'a> ServerMessage<'a> {
    /// The frame kind.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::HelloReply(_) => kind::CLIENT_HELLO_REPLY,
            Self::Pong { .. } => kind::PONG,
            Self::Status(_) => kind::STATUS_REPLY,
            Self::CommitReply { .. } => kind::COMMIT_REPLY,
            Self::Redirect { .. } => kind::REDIRECT,
            Self::LeaderNews { .. } => kind::LEADER_NEWS,
            Self::Goodbye { .. } => kind::GOODBYE,
            Self::RequestError { .. } => kind::REQUEST_ERROR,
            Self::ProducerOpened(_) => kind::PRODUCER_OPENED,
            Self::PublishAck(_) => kind::PUBLISH_ACK,
            Self::PublishError(_) => kind::PUBLISH_ERROR,
            Self::Subscribed { .. } => kind::SUBSCRIBED,
            Self::Entries(_) => kind::ENTRIES,
            Self::Progress { .. } => kind::PROGRESS,
            Self::SubscriptionError(_) => kind::SUBSCRIPTION_ERROR,
            Self::TransferReply { .. } => kind::TRANSFER_REPLY,
            Self::Members { .. } => kind::MEMBERS,
            Self::ChangeMemberReply { .. } => kind::CHANGE_MEMBER_REPLY,
        }
    }

    /// Appends the message to `out` as one frame. For entries that already lie in shared buffers there is
    /// [`Entries::encode_header`], which copies none of them.
    ///
    /// # Panics
    /// When a name or list is over its documented limit. Texts for people are shortened instead.
    pub fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        if let Self::Entries(entries) = self {
            entries.encode_header(group, out);
            out.put(entries.bytes);
            return;
        }
        let mut frame = FrameWriter::begin(out, self.kind(), group);
        self.put(&mut frame);
        frame.finish();
    }

    fn put(&self, out: &mut FrameWriter<'_>) {
        match self {
            Self::HelloReply(reply) => reply.put(out),
            Self::Pong { request_id } => out.put_u64(*request_id),
            Self::Status(status) => status.put(out),
            Self::CommitReply { request_id, answer } => {
                out.put_u64(*request_id);
                answer.put(out);
            }
            Self::Redirect { leader_id, address, term } | Self::LeaderNews { term, leader_id, address } => {
                out.put_u64(term.0);
                out.put_u16(NodeId::to_wire(*leader_id));
                put_text(out, address, ADDRESS_BYTES_MAX);
            }
            Self::Goodbye { reason, text } => {
                out.put_u8(reason.code());
                put_text_clipped(out, text, TEXT_BYTES_MAX);
            }
            Self::RequestError { request_id, code, text } => {
                out.put_u64(*request_id);
                out.put_u8(code.code());
                put_text_clipped(out, text, TEXT_BYTES_MAX);
            }
            Self::ProducerOpened(opened) => opened.put(out),
            Self::PublishAck(ack) => ack.put(out),
            Self::PublishError(error) => error.put(out),
            Self::Subscribed { subscription, start_offset, commit_index, last_offset } => {
                out.put_u32(*subscription);
                out.put_u64(start_offset.0);
                out.put_u64(commit_index.0);
                out.put_u64(last_offset.0);
            }
            Self::Progress { subscription, commit_index, last_offset } => {
                out.put_u32(*subscription);
                out.put_u64(commit_index.0);
                out.put_u64(last_offset.0);
            }
            Self::SubscriptionError(error) => error.put(out),
            Self::TransferReply { request_id, outcome } => {
                out.put_u64(*request_id);
                outcome.put(out);
            }
            Self::Members { request_id, answer } => {
                out.put_u64(*request_id);
                answer.put(out);
            }
            Self::ChangeMemberReply { request_id, outcome } => {
                out.put_u64(*request_id);
                outcome.put(out);
            }
            Self::Entries(entries) => entries.put_fixed(out),
        }
    }

    /// Reads a node's message. Entries are borrowed, and checked by [`Entries::iter`], not here.
    ///
    /// # Errors
    /// Any [`ProtocolError`]: the node is broken or no node; close the connection.
    pub fn decode(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        if frame.header.kind == kind::ENTRIES {
            return Entries::read(&frame).map(Self::Entries);
        }
        let mut fields = Fields::of(&frame)?;
        let message = Self::read(&mut fields)?;
        fields.finish()?;
        Ok(message)
    }

    fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(match f.kind() {
            kind::CLIENT_HELLO_REPLY => Self::HelloReply(ClientHelloReply::read(f)?),
            kind::PONG => Self::Pong { request_id: f.u64("request_id")? },
            kind::STATUS_REPLY => Self::Status(Box::new(StatusReply::read(f)?)),
            kind::COMMIT_REPLY => {
                Self::CommitReply { request_id: f.u64("request_id")?, answer: CommitAnswer::read(f)? }
            }
            kind::REDIRECT => {
                let (term, leader_id, address) = read_leader(f)?;
                Self::Redirect { leader_id, address, term }
            }
            kind::LEADER_NEWS => {
                let (term, leader_id, address) = read_leader(f)?;
                Self::LeaderNews { term, leader_id, address }
            }
            kind::GOODBYE => Self::Goodbye {
                reason: f.code("reason", GoodbyeReason::from_code)?,
                text: f.text("text", TEXT_BYTES_MAX)?,
            },
            kind::REQUEST_ERROR => Self::RequestError {
                request_id: f.u64("request_id")?,
                code: f.code("code", RequestErrorCode::from_code)?,
                text: f.text("text", TEXT_BYTES_MAX)?,
            },
            kind::PRODUCER_OPENED => Self::ProducerOpened(ProducerOpened::read(f)?),
            kind::PUBLISH_ACK => Self::PublishAck(PublishAck::read(f)?),
            kind::PUBLISH_ERROR => Self::PublishError(PublishError::read(f)?),
            kind::SUBSCRIBED => Self::Subscribed {
                subscription: f.u32("subscription")?,
                start_offset: f.offset("start_offset")?,
                commit_index: f.index("commit_index")?,
                last_offset: f.offset("last_offset")?,
            },
            kind::PROGRESS => Self::Progress {
                subscription: f.u32("subscription")?,
                commit_index: f.index("commit_index")?,
                last_offset: f.offset("last_offset")?,
            },
            kind::SUBSCRIPTION_ERROR => Self::SubscriptionError(SubscriptionError::read(f)?),
            kind::TRANSFER_REPLY => {
                Self::TransferReply { request_id: f.u64("request_id")?, outcome: TransferOutcome::read(f)? }
            }
            kind::MEMBERS => {
                let request_id = f.u64("request_id")?;
                Self::Members { request_id, answer: Box::new(MembersAnswer::read(f)?) }
            }
            kind::CHANGE_MEMBER_REPLY => {
                Self::ChangeMemberReply { request_id: f.u64("request_id")?, outcome: ChangeOutcome::read(f)? }
            }
            kind => return Err(ProtocolError::UnexpectedKind { what: "a client", kind }),
        })
    }
}

fn read_leader<'a>(f: &mut Fields<'a>) -> Result<(Term, Option<NodeId>, &'a str), ProtocolError> {
    Ok((f.term("term")?, f.node_or_none("leader_id")?, f.text("address", ADDRESS_BYTES_MAX)?))
}

#[cfg(test)]
mod tests;
