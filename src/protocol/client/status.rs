//! Questions about a node: its status, and how far the log is committed.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{LogIndex, NodeId, Offset, Term};
use crate::base::limits::NODES_MAX;
use crate::entry::Durability;

use super::super::frame::{Fields, ProtocolError, put_bool, put_text, put_text_clipped, wire_enum};
use super::{ADDRESS_BYTES_MAX, COUNTER_NAME_BYTES_MAX, COUNTERS_MAX};

wire_enum! {
    /// A node's role as people see it; a pre-candidate counts as a candidate.
    NodeRole {
        /// Follows.
        Follower = 1,
        /// Campaigns.
        Candidate = 2,
        /// Leads.
        Leader = 3,
        /// Receives everything, does not vote.
        Learner = 4,
    }
}

impl NodeRole {
    /// As `tercet status` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
        }
    }
}

wire_enum! {
    /// How a leader sends to a peer.
    PeerState {
        /// This node does not lead and does not know.
        Unknown = 1,
        /// Looks for the place where both logs match, one append at a time.
        Probe = 2,
        /// Streams.
        Replicate = 3,
    }
}

impl PeerState {
    /// As `tercet status` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Probe => "probe",
            Self::Replicate => "replicate",
        }
    }
}

/// What a node knows of a peer. Indexes are zero unless it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub node_id: NodeId,
    /// Both streams between the two stand.
    pub connected: bool,
    /// The next entry to send.
    pub next_index: LogIndex,
    /// The peer has appended up to here.
    pub match_appended: LogIndex,
    /// The peer has made stable up to here; not above `match_appended`.
    pub match_stable: LogIndex,
    /// How it is being sent to.
    pub state: PeerState,
}

/// A named number, for `tercet status` and the curious.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter<'a> {
    /// At most 64 bytes; longer ones are shortened.
    pub name: &'a str,
    /// Its value.
    pub value: u64,
}

/// The answer to a status query; the fields of INTERFACE `tercet status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusReply<'a> {
    /// Of the query.
    pub request_id: u64,
    /// The node.
    pub node_id: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// The leader as far as it knows.
    pub leader_id: Option<NodeId>,
    /// Committed up to here, as far as it knows.
    pub commit_index: LogIndex,
    /// Its last entry.
    pub last_index: LogIndex,
    /// Its last entry that its own fdatasync covers.
    pub flushed_index: LogIndex,
    /// Oldest committed event that is still there; zero when there is none.
    pub first_offset: Offset,
    /// Newest committed event; zero when there is none.
    pub last_offset: Offset,
    /// The commit index as of which both checksums hold.
    pub log_checksum_index: LogIndex,
    /// The chain value there: equal numbers mean equal logs.
    pub log_checksum: u64,
    /// How many producers are remembered.
    pub producers: u32,
    /// A checksum of all that is remembered of them.
    pub producers_checksum: u64,
    /// The cluster's durability.
    pub durability: Durability,
    /// Since the process started.
    pub uptime_ms: u64,
    /// The build; at most 64 bytes; longer ones are shortened.
    pub version: &'a str,
    /// The other members, at most 6.
    pub peers: Vec<PeerStatus>,
    /// At most [`COUNTERS_MAX`].
    pub counters: Vec<Counter<'a>>,
}

/// How far the log is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitAnswer<'a> {
    /// This far.
    Committed {
        /// The commit index.
        commit_index: LogIndex,
        /// Offset of the last committed event; zero when there is none.
        last_offset: Offset,
        /// True: linearizable (the leader confirmed its leadership after the query came); false: this node's own
        /// knowledge.
        from_leader: bool,
    },
    /// A leader was required and nobody leads as far as this node knows; ask again.
    NoLeader,
    /// A leader was required; it is that one.
    NotLeader {
        /// The leader.
        leader_id: NodeId,
        /// Its client address; empty where not known.
        address: &'a str,
    },
}

wire_enum! {
    /// The code of [`CommitAnswer`].
    CommitCode {
        /// [`CommitAnswer::Committed`].
        Committed = 1,
        /// [`CommitAnswer::NoLeader`].
        NoLeader = 2,
        /// [`CommitAnswer::NotLeader`].
        NotLeader = 3,
    }
}

impl<'a> CommitAnswer<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        match self {
            Self::Committed { commit_index, last_offset, from_leader } => {
                out.put_u8(CommitCode::Committed.code());
                out.put_u64(commit_index.0);
                out.put_u64(last_offset.0);
                put_bool(out, *from_leader);
            }
            Self::NoLeader => out.put_u8(CommitCode::NoLeader.code()),
            Self::NotLeader { leader_id, address } => {
                out.put_u8(CommitCode::NotLeader.code());
                out.put_u16(leader_id.0);
                put_text(out, address, ADDRESS_BYTES_MAX);
            }
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(match f.code("result", CommitCode::from_code)? {
            CommitCode::Committed => Self::Committed {
                commit_index: f.index("commit_index")?,
                last_offset: f.offset("last_offset")?,
                from_leader: f.bool("from_leader")?,
            },
            CommitCode::NoLeader => Self::NoLeader,
            CommitCode::NotLeader => Self::NotLeader {
                leader_id: f.node("leader_id")?,
                address: f.text("address", ADDRESS_BYTES_MAX)?,
            },
        })
    }
}

impl PeerStatus {
    fn put(&self, out: &mut impl ByteWriter) {
        out.put_u16(self.node_id.0);
        put_bool(out, self.connected);
        out.put_u64(self.next_index.0);
        out.put_u64(self.match_appended.0);
        out.put_u64(self.match_stable.0);
        out.put_u8(self.state.code());
    }

    fn read(f: &mut Fields<'_>) -> Result<Self, ProtocolError> {
        Ok(Self {
            node_id: f.node("peer_id")?,
            connected: f.bool("connected")?,
            next_index: f.index("next_index")?,
            match_appended: f.index("match_appended")?,
            match_stable: f.index("match_stable")?,
            state: f.code("state", PeerState::from_code)?,
        })
    }
}

impl<'a> StatusReply<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        assert!(self.peers.len() <= NODES_MAX, "{} peers in a status reply", self.peers.len());
        assert!(self.counters.len() <= COUNTERS_MAX, "{} counters in a status reply", self.counters.len());
        out.put_u64(self.request_id);
        out.put_u16(self.node_id.0);
        out.put_u8(self.role.code());
        out.put_u64(self.term.0);
        out.put_u16(NodeId::to_wire(self.leader_id));
        for index in [self.commit_index, self.last_index, self.flushed_index] {
            out.put_u64(index.0);
        }
        out.put_u64(self.first_offset.0);
        out.put_u64(self.last_offset.0);
        out.put_u64(self.log_checksum_index.0);
        out.put_u64(self.log_checksum);
        out.put_u32(self.producers);
        out.put_u64(self.producers_checksum);
        out.put_u8(self.durability.code());
        out.put_u64(self.uptime_ms);
        put_text_clipped(out, self.version, COUNTER_NAME_BYTES_MAX);
        out.put_u16(self.peers.len() as u16);
        for peer in &self.peers {
            peer.put(out);
        }
        out.put_u16(self.counters.len() as u16);
        for counter in &self.counters {
            put_text_clipped(out, counter.name, COUNTER_NAME_BYTES_MAX);
            out.put_u64(counter.value);
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            request_id: f.u64("request_id")?,
            node_id: f.node("node_id")?,
            role: f.code("role", NodeRole::from_code)?,
            term: f.term("term")?,
            leader_id: f.node_or_none("leader_id")?,
            commit_index: f.index("commit_index")?,
            last_index: f.index("last_index")?,
            flushed_index: f.index("flushed_index")?,
            first_offset: f.offset("first_offset")?,
            last_offset: f.offset("last_offset")?,
            log_checksum_index: f.index("log_checksum_index")?,
            log_checksum: f.u64("log_checksum")?,
            producers: f.u32("producers")?,
            producers_checksum: f.u64("producers_checksum")?,
            durability: f.code("durability", Durability::from_code)?,
            uptime_ms: f.u64("uptime_ms")?,
            version: f.text("version", COUNTER_NAME_BYTES_MAX)?,
            peers: {
                let count = f.count("peer_count", NODES_MAX)?;
                (0..count).map(|_| PeerStatus::read(f)).collect::<Result<_, _>>()?
            },
            counters: {
                let count = f.count("counter_count", COUNTERS_MAX)?;
                (0..count).map(|_| read_counter(f)).collect::<Result<_, _>>()?
            },
        })
    }
}

fn read_counter<'a>(f: &mut Fields<'a>) -> Result<Counter<'a>, ProtocolError> {
    let name = f.text("counter_name", COUNTER_NAME_BYTES_MAX)?;
    Ok(Counter { name, value: f.u64("counter_value")? })
}
