//! Handing leadership over: what became of the request.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{NodeId, Term};

use super::super::frame::{Fields, ProtocolError, put_text, wire_enum};
use super::{ADDRESS_BYTES_MAX, read_leader};

wire_enum! {
    /// The code of a [`TransferOutcome`].
    TransferCode {
        /// [`TransferOutcome::Done`].
        Done = 1,
        /// [`TransferOutcome::NotLeader`].
        NotLeader = 2,
        /// [`TransferOutcome::NotAVoter`].
        NotAVoter = 3,
        /// [`TransferOutcome::TimedOut`].
        TimedOut = 4,
        /// [`TransferOutcome::InProgress`].
        InProgress = 5,
    }
}

/// What became of a transfer of leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferOutcome<'a> {
    /// The node that was named leads now; also when it led before.
    Done,
    /// The node that was asked does not lead, or ceased to before the transfer was decided: ask the leader.
    NotLeader {
        /// The term in which the rest holds.
        term: Term,
        /// The leader, where known.
        leader_id: Option<NodeId>,
        /// Its client address; empty where not known.
        address: &'a str,
    },
    /// The node that was named is not of the cluster, or only learns: nothing was begun.
    NotAVoter,
    /// It did not catch up or did not win in time. The old leader goes on, and takes events again.
    TimedOut,
    /// Another transfer is under way: nothing was begun.
    InProgress,
}

impl<'a> TransferOutcome<'a> {
    /// Its code.
    #[must_use]
    pub const fn code(&self) -> TransferCode {
        match self {
            Self::Done => TransferCode::Done,
            Self::NotLeader { .. } => TransferCode::NotLeader,
            Self::NotAVoter => TransferCode::NotAVoter,
            Self::TimedOut => TransferCode::TimedOut,
            Self::InProgress => TransferCode::InProgress,
        }
    }

    pub(super) fn put(&self, out: &mut impl ByteWriter) {
        out.put_u8(self.code().code());
        if let Self::NotLeader { term, leader_id, address } = self {
            out.put_u64(term.0);
            out.put_u16(NodeId::to_wire(*leader_id));
            put_text(out, address, ADDRESS_BYTES_MAX);
        }
    }

    pub(super) fn read(f: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        Ok(match f.code("outcome", TransferCode::from_code)? {
            TransferCode::Done => Self::Done,
            TransferCode::NotLeader => {
                let (term, leader_id, address) = read_leader(f)?;
                Self::NotLeader { term, leader_id, address }
            }
            TransferCode::NotAVoter => Self::NotAVoter,
            TransferCode::TimedOut => Self::TimedOut,
            TransferCode::InProgress => Self::InProgress,
        })
    }
}
