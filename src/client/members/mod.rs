//! The cluster's members: who they are, letting a node with a lost disk in again, and making it a voter.
//!
//! ```text
//!   replace: list ─▶ which formatting? ─▶ change (learner) ─▶ promote: list until it has caught up ─▶ change (voter)
//! ```
//!
//! Every step names what is to be, not what is to change, so one that is asked twice (a lost answer, a new leader, the
//! whole command again) does the same.

mod round;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::round::{ASK_AGAIN_NS, Question, Reply, Round};
use super::error::ClientError;
use super::leader::Leadership;
use super::links::Links;
use super::options::ClientOptions;
use crate::base::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::protocol::client::{ChangeKind, MemberChange, Purpose};

const INBOX_BYTES: usize = 32 << 10;
/// A learner that has not been there for so long gives way to another disk of its node that knocks. Longer than a node
/// takes to dial, so that two disks of one node do not take turns.
const DISK_AWAY_MAX: Duration = Duration::from_secs(3);
/// The members are asked for this often while somebody catches up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One member, as the leader knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberState {
    /// Who.
    pub node_id: NodeId,
    /// It votes; otherwise it learns.
    pub is_voter: bool,
    /// The formatting of its disk that counts; none while it was never met.
    pub incarnation: Option<Incarnation>,
    /// The leader hears it (itself always).
    pub is_connected: bool,
    /// It streams, and lacks at most [`PROMOTION_LAG_MAX`](crate::raft::PROMOTION_LAG_MAX) entries.
    pub is_caught_up: bool,
    /// Stable there up to here, as far as it has told this leader.
    pub stable_index: LogIndex,
    /// Entries that it lacks.
    pub missing: u64,
    /// Another formatting of its disk that was refused within the last seconds, while the one that counts is away.
    pub newcomer: Option<Incarnation>,
    /// Its client address, where the leader's settings name it.
    pub address: Option<String>,
}

/// The members, as the leader knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterMembers {
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
    /// Everybody, by id.
    pub members: Vec<MemberState>,
}

impl ClusterMembers {
    /// One of them.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&MemberState> {
        self.members.iter().find(|member| member.node_id == node)
    }
}

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberStep {
    /// No other formatting of the node's disk has shown up yet, or not the named one.
    WaitingForDisk,
    /// The cluster goes by this formatting from now on; the node is a learner.
    LetIn(Incarnation),
    /// The node lacks so many entries.
    CatchingUp {
        /// Entries that it lacks.
        missing: u64,
        /// The leader hears it.
        is_connected: bool,
    },
    /// It votes.
    Promoted,
}

/// A connection to a cluster, to ask for its members and to change them. Calls block.
pub struct MemberClient {
    links: Links,
    leadership: Leadership,
    patience: Duration,
}

impl MemberClient {
    /// For the cluster of these servers, any of which will do. Each call gives up after `patience` without progress.
    ///
    /// # Errors
    /// A bad list; [`ClientError::System`].
    pub fn new(servers: &[SocketAddr], patience: Duration) -> Result<Self, ClientError> {
        let mut options = ClientOptions::new(servers.to_vec());
        "tercet-member".clone_into(&mut options.name);
        options.connect_timeout = patience.min(options.connect_timeout);
        let links = Links::new(&options, Purpose::Control, INBOX_BYTES, true)?;
        Ok(Self { links, leadership: Leadership::default(), patience })
    }

    /// The members, as the leader knows them.
    ///
    /// # Errors
    /// After the patience [`ClientError::NoNodeReachable`], [`ClientError::NoLeader`] or [`ClientError::NoAnswer`];
    /// another cluster.
    pub fn list(&mut self) -> Result<ClusterMembers, ClientError> {
        match self.ask(Question::List)? {
            Reply::Members(members) => Ok(members),
            Reply::Changed => Err(ClientError::NoProgress { waiting: 0, waited: self.patience }),
        }
    }

    /// Gives the place of `node`, whose disk is lost, to another formatting of it, and makes that a voter once it has
    /// caught up. Which formatting: the named one, once it has shown up; else, where an earlier call was interrupted, the
    /// learner that the leader hears; else the one that the leader has refused lately; else the learner that the node is
    /// already. A disk that the leader has heard within an election timeout is not given up. Calls `told` at every step.
    ///
    /// # Errors
    /// [`ClientError::UnknownMember`], [`ClientError::LeaderItself`]; [`ClientError::DiskWorks`], at once where a formatting
    /// is named; after the patience without progress [`ClientError::NoNewDisk`], [`ClientError::DiskNotSeen`],
    /// [`ClientError::NoQuorumWithout`], [`ClientError::NotCaughtUp`]; those of [`MemberClient::list`]. What was done
    /// stays; the same call goes on from there.
    pub fn replace(
        &mut self,
        node: NodeId,
        incarnation: Option<Incarnation>,
        mut told: impl FnMut(MemberStep),
    ) -> Result<ClusterMembers, ClientError> {
        let mut begun = Instant::now();
        loop {
            let chosen = match incarnation {
                Some(named) => named,
                None => self.new_formatting(node, begun, &mut told)?,
            };
            match self.change(MemberChange { kind: ChangeKind::Replace, node, incarnation: chosen }) {
                Ok(()) => {
                    told(MemberStep::LetIn(chosen));
                    let unnamed = incarnation.is_none().then_some(chosen);
                    if let Some(members) = self.follow(node, unnamed, &mut told)? {
                        return Ok(members);
                    }
                    begun = Instant::now();
                }
                // It is only just starting, or knocked at another leader.
                Err(ClientError::DiskNotSeen { .. }) if begun.elapsed() < self.patience => {
                    told(MemberStep::WaitingForDisk);
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a learner a voter once it has caught up. Calls `told` at every step.
    ///
    /// # Errors
    /// [`ClientError::UnknownMember`]; after the patience without progress [`ClientError::NotCaughtUp`]; those of
    /// [`MemberClient::list`].
    pub fn promote(
        &mut self,
        node: NodeId,
        mut told: impl FnMut(MemberStep),
    ) -> Result<ClusterMembers, ClientError> {
        loop {
            if let Some(members) = self.follow(node, None, &mut told)? {
                return Ok(members);
            }
        }
    }

    /// Waits for a learner to catch up, and makes it a voter. `None` where the learner is this formatting, has not been
    /// there for a while, and another one knocks: its disk was changed again.
    fn follow(
        &mut self,
        node: NodeId,
        learner: Option<Incarnation>,
        told: &mut impl FnMut(MemberStep),
    ) -> Result<Option<ClusterMembers>, ClientError> {
        let mut since = Instant::now();
        let mut connected = Instant::now();
        let mut furthest = None;
        loop {
            let members = self.list()?;
            let member = members.member(node).ok_or(ClientError::UnknownMember { node })?;
            if member.is_voter && members.is_committed {
                told(MemberStep::Promoted);
                return Ok(Some(members));
            }
            if member.is_connected {
                connected = Instant::now();
            }
            let is_this_one = learner.is_some() && member.incarnation == learner && !member.is_voter;
            let another = member.newcomer.filter(|newcomer| Some(*newcomer) != learner);
            if is_this_one && another.is_some() && connected.elapsed() > DISK_AWAY_MAX.min(self.patience / 4)
            {
                return Ok(None);
            }
            let reached = Some((members.term, member.stable_index));
            if reached > furthest {
                (furthest, since) = (reached, Instant::now());
                let (missing, is_connected) = (member.missing, member.is_connected);
                told(MemberStep::CatchingUp { missing, is_connected });
            }
            if member.is_caught_up || member.is_voter {
                match self.change(MemberChange {
                    kind: ChangeKind::Promote,
                    node,
                    incarnation: Incarnation(0),
                }) {
                    Ok(()) => continue,
                    // It fell behind again, or another leader has not heard of it yet.
                    Err(ClientError::NotCaughtUp { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if since.elapsed() >= self.patience {
                return Err(ClientError::NotCaughtUp { node });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn new_formatting(
        &mut self,
        node: NodeId,
        begun: Instant,
        told: &mut impl FnMut(MemberStep),
    ) -> Result<Incarnation, ClientError> {
        loop {
            let members = self.list()?;
            let member = members.member(node).ok_or(ClientError::UnknownMember { node })?;
            let begun_before = member.incarnation.filter(|_| !member.is_voter);
            // A learner that is there is the one that was begun with; what knocks beside it is the old disk.
            let begun_first = begun_before.filter(|_| member.is_connected);
            if let Some(incarnation) = begun_first.or(member.newcomer).or(begun_before) {
                return Ok(incarnation);
            }
            if members.leader_id == node {
                return Err(ClientError::LeaderItself { node });
            }
            if begun.elapsed() >= self.patience {
                let works = ClientError::DiskWorks { node };
                return Err(if member.is_connected { works } else { ClientError::NoNewDisk { node } });
            }
            told(MemberStep::WaitingForDisk);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn change(&mut self, change: MemberChange) -> Result<(), ClientError> {
        self.ask(Question::Change(change)).map(|_| ())
    }

    fn ask(&mut self, question: Question) -> Result<Reply, ClientError> {
        let (links, patience) = (&mut self.links, self.patience);
        let mut round = Round::new(question, &mut self.leadership);
        let begun = Instant::now();
        loop {
            if let Some(outcome) = round.outcome {
                return outcome;
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(stuck(&round, links, patience));
            }
            round.step(links);
            links.turn(&mut round, left.min(Duration::from_nanos(ASK_AGAIN_NS)))?;
        }
    }
}

fn stuck(round: &Round<'_>, links: &Links, waited: Duration) -> ClientError {
    let last = links.describe_failure();
    match (round.asked_link(links), &round.waits_for) {
        (_, Some(error)) => error.clone(),
        (Some(link), None) => ClientError::NoAnswer { server: links.address_of(link), waited },
        (None, None) if links.ready().next().is_some() => ClientError::NoLeader { waited, last },
        (None, None) => ClientError::NoNodeReachable { servers: links.describe(), waited, last },
    }
}
