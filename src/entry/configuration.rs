//! The body of a configuration entry: what all nodes of a cluster must agree on.
//!
//! ```text
//! offset size field
//!      0   16 cluster_id
//!     16    4 cluster_version
//!     20    1 durability, 1 disk, 2 memory
//!     21    1 voter_count
//!     22    1 learner_count
//!     23    1 reserved, zero
//!     24    8 producers_window_ns
//!     32    4 producers_max
//!     36    1 cluster_name_bytes, 1 to 255
//!     37    3 reserved, zero
//!     40 24 n members, voters first: node_id u16, reserved 6 bytes (zero), incarnation u128
//!        and  cluster_name, UTF-8
//! ```

use super::error::EntryError;
use super::names::{decode_name, validate_producer_name};
use crate::base::bytes::{ByteReader, ByteWriter};
use crate::base::ids::{COUNTER_MAX, ClusterId, Incarnation, NodeId};
use crate::base::limits::NODES_MAX;

/// Bytes before the members.
const FIXED_BYTES: usize = 40;
/// Bytes of one member.
const MEMBER_BYTES: usize = 24;

/// When a node counts an entry as stable (rule 6). The same on all nodes of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Durability {
    /// Once fdatasync returned.
    Disk = 1,
    /// Once it is written to the page cache.
    Memory = 2,
}

impl Durability {
    /// The stored code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads a stored code; none where it is unknown.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Disk),
            2 => Some(Self::Memory),
            _ => None,
        }
    }

    /// The word of the configuration file and of all output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// Its id; not zero.
    pub node_id: NodeId,
    /// The formatting that is meant; zero: whichever is met first is pinned.
    pub incarnation: Incarnation,
}

/// The cluster as the log knows it. Voters come from here alone (rule 13).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Configuration {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// What all nodes can do; raised by operators once every node runs a newer build.
    pub cluster_version: u32,
    /// The cluster's name, for people: 1 to 255 bytes.
    pub cluster_name: String,
    /// What acknowledged means.
    pub durability: Durability,
    /// A producer idle for longer, by the log's time, expires. At most `COUNTER_MAX`.
    pub producers_window_ns: u64,
    /// Most producers at a time.
    pub producers_max: u32,
    /// Nodes that vote and count towards quorums: at least one, ascending by id.
    pub voters: Vec<Member>,
    /// Nodes that only receive the log, ascending by id. None of them is a voter; with the voters at most seven.
    pub learners: Vec<Member>,
}

impl Configuration {
    /// Checks the rules that every stored configuration obeys.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), EntryError> {
        validate_producer_name(&self.cluster_name)?;
        if self.producers_window_ns > COUNTER_MAX {
            return Err(EntryError::OutOfRange("producers_window_ns"));
        }
        if self.voters.is_empty() {
            return Err(EntryError::Malformed("a configuration has no voter"));
        }
        if self.voters.len() + self.learners.len() > NODES_MAX {
            return Err(EntryError::Malformed("a configuration has more than seven nodes"));
        }
        for members in [&self.voters, &self.learners] {
            if members.iter().any(|member| member.node_id.0 == 0) {
                return Err(EntryError::Malformed("a node id is zero"));
            }
            if !members.is_sorted_by(|one, next| one.node_id < next.node_id) {
                return Err(EntryError::Malformed("node ids are not strictly ascending"));
            }
        }
        let votes = |learner: &Member| self.voters.iter().any(|voter| voter.node_id == learner.node_id);
        if self.learners.iter().any(votes) {
            return Err(EntryError::Malformed("a node is both voter and learner"));
        }
        Ok(())
    }

    /// Voters, then learners.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.learners)
    }

    /// The member of that id, voter or learner.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members().find(|member| member.node_id == node)
    }

    /// Whether that node votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|voter| voter.node_id == node)
    }

    /// The same cluster with `member` as a voter, or as a learner, whatever it was.
    #[must_use]
    pub fn with_member(&self, member: Member, is_voter: bool) -> Self {
        let mut changed = self.clone();
        for members in [&mut changed.voters, &mut changed.learners] {
            members.retain(|known| known.node_id != member.node_id);
        }
        let members = if is_voter { &mut changed.voters } else { &mut changed.learners };
        members.push(member);
        members.sort_unstable();
        changed
    }

    /// Size of the encoded body.
    pub(super) fn body_bytes(&self) -> usize {
        FIXED_BYTES + MEMBER_BYTES * (self.voters.len() + self.learners.len()) + self.cluster_name.len()
    }

    /// Appends the body; the configuration was checked.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        assert!(self.check().is_ok(), "only a checked configuration is encoded");
        out.put_u128(self.cluster_id.0);
        out.put_u32(self.cluster_version);
        out.put_u8(self.durability.code());
        out.put_u8(self.voters.len() as u8);
        out.put_u8(self.learners.len() as u8);
        out.put_u8(0);
        out.put_u64(self.producers_window_ns);
        out.put_u32(self.producers_max);
        out.put_u8(self.cluster_name.len() as u8);
        out.put(&[0; 3]);
        for member in self.voters.iter().chain(&self.learners) {
            out.put_u16(member.node_id.0);
            out.put(&[0; 6]);
            out.put_u128(member.incarnation.0);
        }
        out.put(self.cluster_name.as_bytes());
    }

    /// Decodes the body of an entry. Allocates the name and at most seven members.
    pub(super) fn decode_body(body: &[u8]) -> Result<Self, EntryError> {
        const RESERVED: EntryError = EntryError::Malformed("a reserved field of a configuration is not zero");
        let mut reader = ByteReader::new(body);
        let cluster_id = ClusterId(reader.u128()?);
        let cluster_version = reader.u32()?;
        let durability =
            Durability::from_code(reader.u8()?).ok_or(EntryError::Malformed("unknown durability"))?;
        let voter_count = usize::from(reader.u8()?);
        let learner_count = usize::from(reader.u8()?);
        if voter_count + learner_count > NODES_MAX {
            return Err(EntryError::Malformed("a configuration has more than seven nodes"));
        }
        let mut reserved = reader.u8()?;
        let producers_window_ns = reader.u64()?;
        let producers_max = reader.u32()?;
        let name_bytes = usize::from(reader.u8()?);
        reserved |= reader.array::<3>()?.into_iter().fold(0, |all, byte| all | byte);
        if reserved != 0 {
            return Err(RESERVED);
        }
        let mut members = Vec::with_capacity(voter_count + learner_count);
        for _ in 0..voter_count + learner_count {
            let node_id = NodeId(reader.u16()?);
            if reader.array::<6>()? != [0; 6] {
                return Err(RESERVED);
            }
            members.push(Member { node_id, incarnation: Incarnation(reader.u128()?) });
        }
        let cluster_name = decode_name(reader.take(name_bytes)?)?.to_owned();
        if reader.left() != 0 {
            return Err(EntryError::Malformed("bytes follow the cluster's name"));
        }
        let learners = members.split_off(voter_count);
        let configuration = Self {
            cluster_id,
            cluster_version,
            cluster_name,
            durability,
            producers_window_ns,
            producers_max,
            voters: members,
            learners,
        };
        configuration.check()?;
        Ok(configuration)
    }
}
