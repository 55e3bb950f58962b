//! What crosses the rings. One place, so that the conversation between agents can be read at a glance.

use std::sync::Arc;

use crate::base::ids::{EntryId, Epoch, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term};
use crate::entry::{Entry, LogBase, Member};
use crate::log::{CheckpointOrder, ReadError, SegmentMark, StoredHardState};
use crate::protocol::client::{
    AckRun, ChangeCode, LeaderMembers, MemberChange, PublishErrorCode, Purpose, RequestErrorCode,
    StatusReply, TransferCode,
};
use crate::protocol::peer::{CheckpointChunk, MendMessage};
use crate::raft::Message;

/// A client connection as the dispatcher knows it. The generation tells a reused slot from its earlier tenant, so a
/// late reply never reaches a stranger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    /// Place in the dispatcher's table.
    pub slot: u32,
    /// Tenant of that place.
    pub generation: u32,
}

/// Conductor to dispatcher or delivery: a client that has said hello. The receiver writes the reply.
pub struct NewClient<S> {
    /// The socket, not registered anywhere.
    pub stream: S,
    /// What it wants to do.
    pub purpose: Purpose,
    /// Protocol version chosen from its range.
    pub protocol: u16,
    /// Feature bits that both sides know.
    pub features: u64,
    /// Bytes that came after the hello.
    pub leftover: Vec<u8>,
}

/// Conductor to a peer's sender or ack receiver: a connection whose handshake is done.
pub struct NewPeer<S> {
    /// The socket, not registered anywhere.
    pub stream: S,
    /// Bytes that came after the handshake.
    pub leftover: Vec<u8>,
    /// What the peer said of itself in the handshake.
    pub identity: PeerIdentity,
}

/// What a peer said of itself in the handshake of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The formatting of its disk.
    pub incarnation: Incarnation,
    /// Its configuration entry in force.
    pub configuration_index: LogIndex,
}

/// Sender or ack receiver to conductor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkClosed {
    /// The outbound stream is gone: dial again.
    Outbound(NodeId),
    /// The inbound stream is gone: the peer will dial.
    Inbound(NodeId),
}

/// A peer that shows up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Who.
    pub peer: NodeId,
    /// What it said of itself.
    pub identity: PeerIdentity,
    /// It has let this node in. One that only knocks is not pinned: it may mean another formatting of this node's disk.
    pub has_accepted: bool,
}

/// What becomes of a contact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContactVerdict {
    /// This formatting is the one that counts, by the log or by a durable pin.
    Known,
    /// The stream may stand; as what the peer counts, the log will tell, or its answer to this node.
    LetIn,
    /// Another formatting counts.
    Refused,
}

/// Conductor to batcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConductorRequest {
    /// May this peer be let in?
    Contact(Contact),
    /// A peer was refused, since another formatting of its disk counts.
    Refused {
        /// Who.
        peer: NodeId,
        /// As which formatting of its disk.
        incarnation: Incarnation,
    },
    /// A peer refuses this node, since another formatting of this node's disk counts there. Told at every such dial.
    RefusedBy(NodeId),
    /// The process of a peer is gone: both streams were closed and another dial was refused. Told once for each loss.
    Gone(NodeId),
}

/// Batcher to conductor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConductorNotice {
    /// What was asked about a contact is decided; a pin, where one was needed, is durable.
    Decided(Contact, ContactVerdict),
    /// Who belongs to the cluster from now on, voters and learners, and as which formatting of its disk.
    Members {
        /// The configuration entry that says so.
        index: LogIndex,
        /// All of them.
        members: Vec<Member>,
    },
}

/// One publish frame on its way to the batcher. The buffer goes back by [`BatcherReply::Recycle`].
pub struct PublishChunk {
    /// Whom to answer.
    pub connection: ConnectionId,
    /// Under which identity.
    pub producer_id: ProducerId,
    /// And which opening of it.
    pub epoch: Epoch,
    /// The last event's sequence (they are contiguous).
    pub last_sequence: Sequence,
    /// Encoded events back to back, already checked to be whole.
    pub events: Vec<u8>,
}

/// Dispatcher to batcher.
pub enum BatcherRequest {
    /// Events to append.
    Publish(PublishChunk),
    /// Open a producer by name.
    OpenProducer {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// The producer's name.
        name: String,
    },
    /// How far is it committed?
    CommitQuery {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// Answer only as a leader that a quorum has just confirmed.
        leader_required: bool,
    },
    /// How are you?
    Status {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
    },
    /// Hand leadership over.
    Transfer {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// Who is to lead.
        to: NodeId,
    },
    /// Who belongs to the cluster?
    Members {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
    },
    /// Change what a member is.
    ChangeMember {
        /// Whom to answer.
        connection: ConnectionId,
        /// Echoed in the answer.
        request_id: u64,
        /// What is to be done.
        change: MemberChange,
    },
}

/// Batcher to dispatcher.
pub enum BatcherReply {
    /// Events are committed (or were already).
    Ack {
        /// Whom to tell.
        connection: ConnectionId,
        /// Which sequences stand at which offsets.
        run: AckRun,
    },
    /// An event was refused; nothing of this chunk from here on was appended.
    PublishError {
        /// Whom to tell.
        connection: ConnectionId,
        /// Whose event.
        producer_id: ProducerId,
        /// The first refused sequence.
        sequence: Sequence,
        /// How many events of the frame are refused.
        count: u16,
        /// Why.
        code: PublishErrorCode,
    },
    /// A producer is open: the entry that opened it is committed.
    ProducerOpened {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// Its id.
        producer_id: ProducerId,
        /// Its epoch.
        epoch: Epoch,
        /// The sequence that must come next.
        next_sequence: Sequence,
    },
    /// A producer could not be opened.
    OpenRefused {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// Why.
        code: RequestErrorCode,
    },
    /// Answer to a commit query; `None` where a leader was required and this node is none.
    Commit {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// Commit index and last committed offset.
        committed: Option<(LogIndex, Offset)>,
        /// Confirmed by a quorum just now.
        from_leader: bool,
    },
    /// Answer to a status query.
    Status {
        /// Whom to tell.
        connection: ConnectionId,
        /// The answer, but for what only the dispatcher knows.
        status: Box<StatusReply<'static>>,
    },
    /// What became of a transfer; where this node does not lead, the dispatcher says who does.
    Transferred {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// What became of it.
        outcome: TransferCode,
    },
    /// The members, without addresses; `None`: this node does not lead.
    Members {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// What this leader knows.
        members: Option<Box<LeaderMembers<'static>>>,
    },
    /// What became of a change of a member; where this node does not lead, the dispatcher says who does.
    MemberChanged {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
        /// What became of it.
        outcome: ChangeCode,
    },
    /// This node does not lead (any more); what was in flight on this connection is unknown: send it again.
    NotLeader {
        /// Whom to tell.
        connection: ConnectionId,
    },
    /// Who leads, as far as this node knows.
    Leadership {
        /// In which term.
        term: Term,
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// A publish buffer to use again, with the bytes that it held.
    Recycle {
        /// Empty, with its memory.
        buffer: Vec<u8>,
        /// For the dispatcher's budget.
        bytes: usize,
    },
}

/// Batcher to a peer's sender.
pub enum SenderCommand {
    /// An Append with its entries beside it.
    Append {
        /// Leader's term.
        term: Term,
        /// The entry before the first.
        prev: EntryId,
        /// Leader's commit index.
        commit: LogIndex,
        /// Asks for an immediate answer.
        wants_reply: bool,
        /// Contiguous entries from `prev.index + 1`.
        entries: Vec<Entry>,
    },
    /// Any other message of the core.
    Message(Message),
    /// A part of a checkpoint: the bytes of `image` from `chunk.position` to `end` (exclusive).
    Checkpoint {
        /// What it is part of.
        chunk: CheckpointChunk,
        /// The whole image.
        image: Arc<[u8]>,
        /// Where the part ends.
        end: usize,
    },
    /// About damaged entries.
    Mend {
        /// The message.
        message: MendMessage,
        /// The entries of an answer.
        entries: Vec<Entry>,
    },
    /// Close the stream: who is at its other end does not belong to the cluster any more.
    HangUp,
}

/// Sender to batcher: the outbound stream to that peer came up or went down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Now connected, to this node.
    pub connected: Option<PeerIdentity>,
}

/// Ack receiver to batcher: one message of the peer, entries verified, with what the peer said in the handshake of the
/// stream that it came on: the batcher decides whether it counts.
pub struct PeerMessage {
    /// The formatting of the peer's disk.
    pub incarnation: Incarnation,
    /// What it said.
    pub said: PeerSaid,
}

/// What a peer says.
pub enum PeerSaid {
    /// For the core.
    Raft {
        /// The message.
        message: Message,
        /// For an Append: its entries.
        entries: Vec<Entry>,
    },
    /// A part of a leader's checkpoint.
    Checkpoint {
        /// What it is part of.
        chunk: CheckpointChunk,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// About damaged entries.
    Mend {
        /// The message.
        message: MendMessage,
        /// The entries of an answer.
        entries: Vec<Entry>,
    },
}

/// A log that begins anew behind a leader's checkpoint.
pub struct Installation {
    /// The checkpoint.
    pub order: CheckpointOrder,
    /// What the log continues from: the checkpoint's last entry, or one before it.
    pub base: LogBase,
    /// Counts truncations, of which this is one (PITFALLS 28).
    pub generation: u64,
}

/// Batcher to log writer, in order.
pub enum LogCommand {
    /// Append one entry.
    Append(Entry),
    /// Remove the suffix from here on; what follows belongs to `generation`.
    TruncateFrom {
        /// First index that goes.
        first_removed: LogIndex,
        /// Counts truncations (PITFALLS 28).
        generation: u64,
    },
    /// Make hard state durable, in both modes.
    HardState {
        /// Echoed when it is durable.
        write_id: u64,
        /// What to store.
        state: StoredHardState,
    },
    /// Write a checkpoint of what was appended before, at leisure.
    Checkpoint(Box<CheckpointOrder>),
    /// Begin the log anew.
    Install(Box<Installation>),
}

/// Log writer to batcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogEvent {
    /// How far the log is written (page cache) and flushed (fdatasync returned).
    Progress {
        /// Truncations that the writer has carried out.
        generation: u64,
        /// Last index in the page cache.
        written: LogIndex,
        /// Last index on the disk.
        flushed: LogIndex,
    },
    /// All hard-state writes up to this one are durable.
    HardStateFlushed {
        /// Newest durable write.
        write_id: u64,
    },
    /// The log goes on in another segment.
    SegmentBegun(SegmentMark),
    /// The checkpoint that was ordered is durable.
    CheckpointWritten,
    /// The disk has no room for the next segment, or has room again. Nothing is lost: the writer goes on where it
    /// stopped.
    Full(bool),
}

/// What a peer needs entries for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatchUpPurpose {
    /// It is behind the hot tail.
    Replication,
    /// Its own copies are damaged; it has asked for these up to `asked_last`.
    Mending {
        /// As asked.
        question: u64,
        /// As asked.
        asked_last: LogIndex,
    },
}

/// Batcher to reader: entries for a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatchUpRequest {
    /// What for.
    pub purpose: CatchUpPurpose,
    /// For whom.
    pub peer: NodeId,
    /// From here.
    pub first: LogIndex,
    /// Up to here at most.
    pub upto: LogIndex,
    /// About this much.
    pub bytes_max: usize,
}

/// Reader to batcher.
pub struct CatchUpReply {
    /// As requested.
    pub purpose: CatchUpPurpose,
    /// For whom.
    pub peer: NodeId,
    /// What was asked.
    pub first: LogIndex,
    /// Contiguous entries from `first` (at least one), or why not.
    pub entries: Result<Vec<Entry>, ReadError>,
}

/// Delivery to reader: committed entries for a subscriber that is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColdReadRequest {
    /// Delivery's own key for the subscription.
    pub key: u64,
    /// The first wanted event.
    pub offset: Offset,
    /// Not beyond this committed index.
    pub upto: LogIndex,
    /// About this much.
    pub bytes_max: usize,
}

/// Reader to delivery.
pub struct ColdReadReply {
    /// Echo.
    pub key: u64,
    /// The first wanted event.
    pub offset: Offset,
    /// Contiguous entries, the first of which holds `offset` or follows it; or why not.
    pub entries: Result<Vec<Entry>, ReadError>,
}
