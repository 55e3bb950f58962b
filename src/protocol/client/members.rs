//! The cluster's members: asking for them, changing them, and what became of that.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::base::limits::NODES_MAX;

use super::super::frame::{Fields, ProtocolError, put_bool, put_text, wire_enum};
use super::{ADDRESS_BYTES_MAX, read_leader};

wire_enum! {
    /// What is to become of a member.
    ChangeKind {
        /// Its disk is lost: another formatting takes its place, and learns before it votes.
        Replace = 1,
        /// It has caught up, and votes from now on.
        Promote = 2,
    }
}

wire_enum! {
    /// The code of a [`ChangeOutcome`].
    ChangeCode {
        /// [`ChangeOutcome::Done`].
        Done = 1,
        /// [`ChangeOutcome::NotLeader`].
        NotLeader = 2,
        /// [`ChangeOutcome::NotReady`].
        NotReady = 3,
        /// [`ChangeOutcome::InProgress`].
        InProgress = 4,
        /// [`ChangeOutcome::UnknownMember`].
        UnknownMember = 5,
        /// [`ChangeOutcome::NoNewDisk`].
        NoNewDisk = 6,
        /// [`ChangeOutcome::LeaderItself`].
        LeaderItself = 7,
        /// [`ChangeOutcome::NotCaughtUp`].
        NotCaughtUp = 8,
        /// [`ChangeOutcome::NoQuorum`].
        NoQuorum = 9,
        /// [`ChangeOutcome::DiskWorks`].
        DiskWorks = 10,
    }
}

/// A change of one member. Asking for what is so already is done at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberChange {
    /// What is to be done.
    pub kind: ChangeKind,
    /// To whom.
    pub node: NodeId,
    /// To replace: as which formatting of its disk, which must have shown up; zero: the one that the leader has refused
    /// lately.
    pub incarnation: Incarnation,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeOutcome<'a> {
    /// It is so, and committed.
    Done,
    /// The node that was asked does not lead, or ceased to before the change was committed: ask the leader.
    NotLeader {
        /// The term in which the rest holds.
        term: Term,
        /// The leader, where known.
        leader_id: Option<NodeId>,
        /// Its client address; empty where not known.
        address: &'a str,
    },
    /// The leader has not committed anything of its term, or is handing over: ask again soon.
    NotReady,
    /// Another change is not committed yet.
    InProgress,
    /// No such member.
    UnknownMember,
    /// The formatting of that node's disk that was named has not shown up lately; where none was, no other has.
    NoNewDisk,
    /// That node leads: its disk is not lost. Hand leadership over first.
    LeaderItself,
    /// It lacks too much of the log to vote.
    NotCaughtUp,
    /// The voters that would remain and are reachable are no quorum: nothing could be committed any more.
    NoQuorum,
    /// The formatting of that node's disk that counts is connected and works: it is not given up.
    DiskWorks,
}

impl<'a> ChangeOutcome<'a> {
    /// Its code.
    #[must_use]
    pub const fn code(&self) -> ChangeCode {
        match self {
            Self::Done => ChangeCode::Done,
            Self::NotLeader { .. } => ChangeCode::NotLeader,
            Self::NotReady => ChangeCode::NotReady,
            Self::InProgress => ChangeCode::InProgress,
            Self::UnknownMember => ChangeCode::UnknownMember,
            Self::NoNewDisk => ChangeCode::NoNewDisk,
            Self::LeaderItself => ChangeCode::LeaderItself,
            Self::NotCaughtUp => ChangeCode::NotCaughtUp,
            Self::NoQuorum => ChangeCode::NoQuorum,
            Self::DiskWorks => ChangeCode::DiskWorks,
        }
    }

    /// The outcome of a code; `elsewhere` for the one that has more to say.
    #[must_use]
    pub const fn of(code: ChangeCode, elsewhere: Self) -> Self {
        match code {
            ChangeCode::Done => Self::Done,
            ChangeCode::NotLeader => elsewhere,
            ChangeCode::NotReady => Self::NotReady,
            ChangeCode::InProgress => Self::InProgress,
            ChangeCode::UnknownMember => Self::UnknownMember,
            ChangeCode::NoNewDisk => Self::NoNewDisk,
            ChangeCode::LeaderItself => Self::LeaderItself,
            ChangeCode::NotCaughtUp => Self::NotCaughtUp,
            ChangeCode::NoQuorum => Self::NoQuorum,
            ChangeCode::DiskWorks => Self::DiskWorks,
        }
    }

    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u8(self.code().code());
        if let Self::NotLeader { term, leader_id, address } = self {
            put_elsewhere(out, *term, *leader_id, address);
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        let code = f.code("outcome", ChangeCode::from_code)?;
        if code == ChangeCode::NotLeader {
            let (term, leader_id, address) = read_leader(f)?;
            return Ok(Self::NotLeader { term, leader_id, address });
        }
        Ok(Self::of(code, Self::Done))
    }
}

impl MemberChange {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u8(self.kind.code());
        out.put_u16(self.node.0);
        out.put_u128(self.incarnation.0);
    }

    pub(super) fn read(f: &mut Fields<'_>) -> Result<Self, ProtocolError> {
        Ok(Self {
            kind: f.code("change", ChangeKind::from_code)?,
            node: f.node("node_id")?,
            incarnation: Incarnation(f.u128("incarnation")?),
        })
    }
}

/// One member, as the leader knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRow<'a> {
    /// Who.
    pub node_id: NodeId,
    /// It votes; otherwise it learns.
    pub is_voter: bool,
    /// The formatting of its disk that counts; zero: it was never met.
    pub incarnation: Incarnation,
    /// The leader reaches it (itself always).
    pub is_connected: bool,
    /// It may be a voter: it streams, and lacks at most a named number of entries.
    pub is_caught_up: bool,
    /// Stable there up to here, as far as it has told this leader.
    pub stable_index: LogIndex,
    /// Another formatting of its disk that was refused lately, while the one that counts is away; zero: none.
    pub newcomer: Incarnation,
    /// Its client address; empty where not known.
    pub address: &'a str,
}

/// The members, as the leader knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderMembers<'a> {
    /// The leader.
    pub leader_id: NodeId,
    /// Its term.
    pub term: Term,
    /// The configuration entry in force.
    pub configuration_index: LogIndex,
    /// Whether that is committed.
    pub is_committed: bool,
    /// The leader's last index.
    pub last_index: LogIndex,
    /// Everybody, by id; at most [`NODES_MAX`].
    pub rows: Vec<MemberRow<'a>>,
}

/// The answer to the question for the members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembersAnswer<'a> {
    /// The leader's.
    Members(LeaderMembers<'a>),
    /// The node that was asked does not lead.
    NotLeader {
        /// The term in which the rest holds.
        term: Term,
        /// The leader, where known.
        leader_id: Option<NodeId>,
        /// Its client address; empty where not known.
        address: &'a str,
    },
}

const MEMBERS: u8 = 1;
const NOT_LEADER: u8 = 2;

fn put_elsewhere(out: &mut impl ByteWriter, term: Term, leader_id: Option<NodeId>, address: &str) {
    out.put_u64(term.0);
    out.put_u16(NodeId::to_wire(leader_id));
    put_text(out, address, ADDRESS_BYTES_MAX);
}

impl<'a> MembersAnswer<'a> {
    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        match self {
            Self::Members(members) => {
                out.put_u8(MEMBERS);
                members.put(out);
            }
            Self::NotLeader { term, leader_id, address } => {
                out.put_u8(NOT_LEADER);
                put_elsewhere(out, *term, *leader_id, address);
            }
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        match f.u8("outcome")? {
            MEMBERS => LeaderMembers::read(f).map(Self::Members),
            NOT_LEADER => {
                let (term, leader_id, address) = read_leader(f)?;
                Ok(Self::NotLeader { term, leader_id, address })
            }
            other => Err(f.bad("outcome", u64::from(other))),
        }
    }
}

impl<'a> LeaderMembers<'a> {
    fn put(&self, out: &mut impl ByteWriter) {
        assert!(self.rows.len() <= NODES_MAX, "{} members", self.rows.len());
        out.put_u16(self.leader_id.0);
        out.put_u64(self.term.0);
        out.put_u64(self.configuration_index.0);
        put_bool(out, self.is_committed);
        out.put_u64(self.last_index.0);
        out.put_u16(self.rows.len() as u16);
        for row in &self.rows {
            out.put_u16(row.node_id.0);
            put_bool(out, row.is_voter);
            out.put_u128(row.incarnation.0);
            put_bool(out, row.is_connected);
            put_bool(out, row.is_caught_up);
            out.put_u64(row.stable_index.0);
            out.put_u128(row.newcomer.0);
            put_text(out, row.address, ADDRESS_BYTES_MAX);
        }
    }

    fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            leader_id: f.node("leader_id")?,
            term: f.term("term")?,
            configuration_index: f.index("configuration_index")?,
            is_committed: f.bool("is_committed")?,
            last_index: f.index("last_index")?,
            rows: {
                let count = f.count("member_count", NODES_MAX)?;
                (0..count).map(|_| MemberRow::read(f)).collect::<Result<_, _>>()?
            },
        })
    }
}

impl<'a> MemberRow<'a> {
    fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            node_id: f.node("node_id")?,
            is_voter: f.bool("is_voter")?,
            incarnation: Incarnation(f.u128("incarnation")?),
            is_connected: f.bool("is_connected")?,
            is_caught_up: f.bool("is_caught_up")?,
            stable_index: f.index("stable_index")?,
            newcomer: Incarnation(f.u128("newcomer")?),
            address: f.text("address", ADDRESS_BYTES_MAX)?,
        })
    }
}
