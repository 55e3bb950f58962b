//! What can go wrong for a client: one clear line each, that says what to do, and the command line's exit code.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::base::ids::{Incarnation, NodeId, Offset, Sequence};
use crate::entry::EntryError;

/// Why a client's call failed. `Clone`, because an error that ends a publisher is given again by every later call.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The list of servers is empty, too long, or holds something that is no address.
    #[error("bad list of servers: {text}; give 1 to 7 addresses such as 127.0.0.1:9001,127.0.0.1:9002")]
    BadServers {
        /// What is wrong with it.
        text: String,
    },
    /// No node could be reached in time.
    #[error(
        "no node reachable among {servers} within {waited:?} ({last}); check that the cluster runs and the addresses are right"
    )]
    NoNodeReachable {
        /// All addresses that were tried.
        servers: String,
        /// For how long.
        waited: Duration,
        /// What happened last.
        last: String,
    },
    /// Nodes answer, but none of them led in time.
    #[error("no leader within {waited:?} ({last}); check that a majority of the nodes runs, and try again")]
    NoLeader {
        /// For how long.
        waited: Duration,
        /// What happened last.
        last: String,
    },
    /// Nothing was acknowledged (or answered) for too long, although a leader is known.
    #[error(
        "no progress within {waited:?} ({waiting} not acknowledged); check that a majority of the nodes runs, and send the same again"
    )]
    NoProgress {
        /// Events that wait for their acknowledgement.
        waiting: usize,
        /// For how long.
        waited: Duration,
    },
    /// One node that was asked cannot be reached.
    #[error("{server} is not reachable: {text}; check that the node runs and the address is right")]
    Unreachable {
        /// The node.
        server: SocketAddr,
        /// What the system said.
        text: String,
    },
    /// One node that was asked did not answer in time.
    #[error("{server} did not answer within {waited:?}; check that the node is not overloaded or paused")]
    NoAnswer {
        /// The node.
        server: SocketAddr,
        /// For how long.
        waited: Duration,
    },
    /// The node belongs to another cluster.
    #[error("{server} belongs to another cluster: {text}; check the list of servers")]
    WrongCluster {
        /// The node.
        server: SocketAddr,
        /// Which.
        text: String,
    },
    /// The node refuses this client.
    #[error("{server} refuses this client: {text}")]
    Refused {
        /// The node.
        server: SocketAddr,
        /// Why, in the node's words.
        text: String,
    },
    /// The other end broke the protocol, or speaks another one.
    #[error(
        "{server} does not speak this protocol: {text}; check that the address is a client port of a Tercet node"
    )]
    Protocol {
        /// The other end.
        server: SocketAddr,
        /// What it did.
        text: String,
    },
    /// The event is larger than allowed. Nothing was sent, and the sequence was not used up.
    #[error("the event is too large: {bytes} bytes, the limit is {limit}; split it")]
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic of an event is not allowed.
    #[error("bad topic: it {0}; use 1 to 255 bytes without spaces, control characters and '*'")]
    BadTopic(&'static str),
    /// The name of a producer is not allowed.
    #[error("bad producer name: {0}; use 1 to 255 bytes without control characters")]
    BadProducerName(String),
    /// Something else about an event is not allowed.
    #[error("bad event: {0}")]
    BadEvent(EntryError),
    /// The filter is neither a topic nor a prefix that ends in `*`.
    #[error("bad filter '{0}': use a topic, or a prefix that ends in '*'")]
    BadFilter(String),
    /// The sequences leave out some that the cluster does not have.
    #[error(
        "sequence gap: the cluster expects sequence {expected} of this producer, {sent} was sent; start at {expected}"
    )]
    SequenceGap {
        /// What the cluster expects next.
        expected: Sequence,
        /// What was sent instead.
        sent: Sequence,
    },
    /// Another publisher has opened this producer's name since.
    #[error(
        "fenced: the producer was opened again elsewhere (epoch {epoch}); let only one publisher use a name"
    )]
    Fenced {
        /// The epoch that holds now.
        epoch: u32,
    },
    /// The cluster no longer remembers this producer, so it cannot tell a retry from a new event.
    #[error(
        "identity expired: the cluster no longer remembers this producer; {waiting} events have an unknown fate: look for them in the log before you open it again"
    )]
    IdentityExpired {
        /// Events without an acknowledgement.
        waiting: usize,
    },
    /// The cluster remembers as many producers as it may.
    #[error(
        "too many producers: the cluster remembers as many as `producers.max` allows; reuse names, or let idle ones expire"
    )]
    TooManyProducers,
    /// Acknowledgements were left unread for too long. Nothing is lost; the event was not taken.
    #[error("{held} runs of acknowledgements wait to be taken; call `poll` between publishing")]
    AcksNotTaken {
        /// Runs that wait.
        held: usize,
    },
    /// Retention has removed what was asked for.
    #[error(
        "offset {asked} is no longer kept; the oldest is {first_offset}: subscribe from there, or from the earliest"
    )]
    BelowFloor {
        /// What was asked for.
        asked: Offset,
        /// What is still there.
        first_offset: Offset,
    },
    /// A node cannot read its log.
    #[error(
        "{server} cannot read its log at offset {offset} ({text}); subscribe at another node and check this one's disk"
    )]
    ReadFailed {
        /// The node.
        server: SocketAddr,
        /// Where.
        offset: Offset,
        /// The node's words.
        text: String,
    },
    /// Entries arrived damaged.
    #[error(
        "corrupt data from {server} at offset {offset}: {text}; verify that node's log with `tercet log verify`"
    )]
    Corrupt {
        /// The node.
        server: SocketAddr,
        /// What would have come next.
        offset: Offset,
        /// What is wrong.
        text: String,
    },
    /// Offsets do not continue: events are missing, repeated or out of order.
    #[error(
        "{server} sent offset {found} where {expected} comes next: events are lost or out of order; compare the nodes with `tercet status`"
    )]
    OffsetGap {
        /// The node.
        server: SocketAddr,
        /// What comes next.
        expected: Offset,
        /// What came.
        found: Offset,
    },
    /// The node that is to lead may not.
    #[error(
        "node {node} cannot lead: it is no voter of this cluster; name one that `tercet status` shows as leader, follower or candidate"
    )]
    NotAVoter {
        /// The node.
        node: NodeId,
    },
    /// Leadership did not move in time; the old leader goes on.
    #[error(
        "node {node} did not take over in time, and the old leader goes on; check with `tercet status` that node {node} runs and keeps up, and try again"
    )]
    TransferTimedOut {
        /// The node that was to lead.
        node: NodeId,
    },
    /// The leader is handing over already, on another request.
    #[error("another transfer of leadership is under way; look at `tercet status` and try again")]
    TransferInProgress,
    /// The cluster has no such member.
    #[error("node {node} is no member of this cluster; `tercet member list` shows who is")]
    UnknownMember {
        /// The node.
        node: NodeId,
    },
    /// The node that is to be replaced leads.
    #[error("node {node} leads, so its disk is not lost; hand leadership over first (`tercet transfer`)")]
    LeaderItself {
        /// The node.
        node: NodeId,
    },
    /// The node that is to be replaced has not shown up with another disk.
    #[error("no new disk of node {node} has shown up; run `tercet format` for it, start it, and try again")]
    NoNewDisk {
        /// The node.
        node: NodeId,
    },
    /// The formatting of the node's disk that was named has not shown up.
    #[error(
        "disk {incarnation} of node {node} has not shown up; start node {node} with that disk first (`tercet format` has printed its number), and run the same again"
    )]
    DiskNotSeen {
        /// The node.
        node: NodeId,
        /// The formatting that was named. Boxed: it would make every result of the client larger.
        incarnation: Box<Incarnation>,
    },
    /// The disk of the node that is to be replaced is there.
    #[error(
        "node {node}'s known disk is connected and works, so it is not given up; where another is to take its place, stop that node first, start it with the new disk, and run the same again"
    )]
    DiskWorks {
        /// The node.
        node: NodeId,
    },
    /// The learner does not come closer to the end of the log.
    #[error(
        "node {node} has not caught up and makes no progress; check that it runs and reaches the leader (`tercet member list`), and run the same again"
    )]
    NotCaughtUp {
        /// The node.
        node: NodeId,
    },
    /// Without the node nothing could be committed.
    #[error(
        "too few of the other voters are reachable to do without node {node}; start them first, and run the same again"
    )]
    NoQuorumWithout {
        /// The node.
        node: NodeId,
    },
    /// Another change of the members is not committed yet.
    #[error(
        "another change of the members is not committed yet; check that a majority of the nodes runs, and try again"
    )]
    ChangeInProgress,
    /// The operating system refused what the client itself needs (a poll, a descriptor).
    #[error("cannot {what}: {text}")]
    System {
        /// What it was for.
        what: &'static str,
        /// What the system said.
        text: String,
    },
}

impl ClientError {
    /// The exit code of the command line: 3 where no node, leader or progress was seen in time, 2 for what the user
    /// must change, 4 for data found lost, reordered or corrupt, 1 otherwise.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoNodeReachable { .. }
            | Self::NoLeader { .. }
            | Self::NoProgress { .. }
            | Self::Unreachable { .. }
            | Self::NoNewDisk { .. }
            | Self::DiskNotSeen { .. }
            | Self::DiskWorks { .. }
            | Self::NotCaughtUp { .. }
            | Self::NoQuorumWithout { .. }
            | Self::ChangeInProgress
            | Self::NoAnswer { .. } => 3,
            Self::BadServers { .. }
            | Self::WrongCluster { .. }
            | Self::EventTooLarge { .. }
            | Self::BadTopic(_)
            | Self::BadProducerName(_)
            | Self::BadEvent(_)
            | Self::BadFilter(_)
            | Self::SequenceGap { .. } => 2,
            Self::Corrupt { .. } | Self::OffsetGap { .. } => 4,
            Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::Fenced { .. }
            | Self::IdentityExpired { .. }
            | Self::TooManyProducers
            | Self::AcksNotTaken { .. }
            | Self::BelowFloor { .. }
            | Self::ReadFailed { .. }
            | Self::NotAVoter { .. }
            | Self::TransferTimedOut { .. }
            | Self::TransferInProgress
            | Self::UnknownMember { .. }
            | Self::LeaderItself { .. }
            | Self::System { .. } => 1,
        }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::System { what, text: error.to_string() }
    }
}

impl From<EntryError> for ClientError {
    /// For errors of encoding an event.
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::TooLarge { bytes, limit, .. } => Self::EventTooLarge { bytes, limit },
            EntryError::Topic(rule) => Self::BadTopic(rule),
            other => Self::BadEvent(other),
        }
    }
}
