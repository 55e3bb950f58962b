//! The node: its state, the calls that come in, and what is handed out. The work of each role is in its own file.

use super::canvass::{Canvass, PreVoteAsked};
use super::claim::{ClaimReplies, is_unknown_claim};
use super::election::Tally;
use super::follower::Verified;
use super::hard_state::{HardState, HardStateCell};
use super::leader::Leading;
use super::log_view::{LogView, TermRuns};
use super::membership::{Membership, MembershipLog};
use super::message::Message;
use super::outbox::Outbox;
use super::progress::Progress;
use super::ready::{LogOp, NotLeader, ReadAborted, Ready, Role, RoleChange};
use super::timer::{TimerKind, TimerSlots};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::base::planted::{Bug, is_planted};

/// What does not change while the node runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RaftConfig {
    /// This node.
    pub id: NodeId,
    /// Most entries on their way to one peer; at least 1.
    pub inflight_entries_limit: u32,
    /// Bytes on their way to one peer after which no more leave (one entry may overshoot it); at least 1.
    pub inflight_bytes_limit: u64,
}

/// What recovery found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restored {
    /// From the disk; its claimed tail is the one that recovery found, where it found one.
    pub hard_state: HardState,
    /// From the log's configuration entries: the newest one, and those that a truncation could bring back.
    pub memberships: MembershipLog,
    /// All of it counts as stable: recovery syncs what it kept before it hands it over.
    pub log: TermRuns,
    /// A lower bound of the commit index, written by the log writer as the lower of commit index and stable index:
    /// never above what was stable when it was written. Clamped to the log.
    pub commit_hint: LogIndex,
}

/// One node's consensus state. See the [module](super) for the order of calls.
///
/// Invariants:
/// - `commit <= last`, `stable <= last`, `verified <= last`; commit and term never fall;
/// - an acknowledgement carries at most `min(stable, verified)`;
/// - only with durable hard state does a node lead, send entries, or free a message of its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    pub(super) config: RaftConfig,
    pub(super) memberships: MembershipLog,
    pub(super) hard: HardStateCell,
    pub(super) log: TermRuns,
    /// Truncations so far.
    pub(super) generation: u64,
    pub(super) stable: LogIndex,
    pub(super) commit: LogIndex,
    pub(super) role: Role,
    pub(super) leader: Option<NodeId>,
    /// Nothing came from a leader for the minimum election timeout.
    pub(super) leader_quiet: bool,
    /// An append or flush failed: this node takes no part any more.
    halted: bool,
    pub(super) verified: Verified,
    pub(super) tally: Tally,
    pub(super) canvass: Canvass,
    /// Whom this node has let go first, in this term and since the last word from a leader: once is enough.
    pub(super) deferred_to: Vec<NodeId>,
    /// The newest pre-vote since the leader's last word that was refused for that word alone.
    pub(super) refused_for_leader: Option<PreVoteAsked>,
    /// The disk takes nothing: no campaign, for a vote for itself would not become durable.
    pub(super) disk_stalled: bool,
    pub(super) claim_replies: ClaimReplies,
    /// Some exactly while leading.
    pub(super) leading: Option<Leading>,
    pub(super) out: Outbox,
    pub(super) timers: TimerSlots,
    pub(super) log_ops: Vec<LogOp>,
    pub(super) reads_out: Vec<(u64, Result<LogIndex, ReadAborted>)>,
    reported_role: RoleChange,
    reported_commit: LogIndex,
}

impl Raft {
    /// A node as recovery found it. It does nothing before [`Raft::start`].
    ///
    /// The term is raised to that of the last entry, damaged or not (entries of a term may reach the disk before the term does; no
    /// vote or reply of that term has left then). A claimed tail that the log covers, or that a single voter has,
    /// is settled at once (not an unknown one: nobody but an operator can say that what it held may go); another is
    /// written again.
    ///
    /// # Panics
    /// Where a limit of `config` is zero.
    #[must_use]
    pub fn new(config: RaftConfig, restored: Restored) -> Self {
        assert!(
            config.inflight_entries_limit > 0 && config.inflight_bytes_limit > 0,
            "windows are not empty"
        );
        let Restored { mut hard_state, memberships, log, commit_hint } = restored;
        if is_planted(Bug::VoteForgottenAtRestart) {
            hard_state.voted_for = None;
        }
        let membership = memberships.newest();
        let last = log.last_id();
        let mut hard = HardStateCell::restored(hard_state);
        let seen = hard_state.claimed_tail.map_or(last.term, |claim| claim.term.max(last.term));
        if seen > hard_state.term {
            hard.put(HardState { term: seen, voted_for: None, ..hard_state });
        }
        if let Some(claim) = hard_state.claimed_tail {
            let alone = membership.voters() == [config.id] && !is_unknown_claim(claim);
            if claim <= last || alone {
                hard.put(HardState { claimed_tail: None, ..*hard.get() });
            } else {
                hard.touch();
            }
        }
        let role = if membership.is_voter(config.id) { Role::Follower } else { Role::Learner };
        let reported_role = RoleChange { role, term: hard.get().term, leader: None };
        Self {
            commit: commit_hint.min(last.index),
            stable: last.index,
            generation: 0,
            role,
            leader: None,
            leader_quiet: false,
            halted: false,
            verified: Verified::default(),
            tally: Tally::default(),
            canvass: Canvass::default(),
            deferred_to: Vec::new(),
            refused_for_leader: None,
            disk_stalled: false,
            claim_replies: ClaimReplies::default(),
            leading: None,
            out: Outbox::default(),
            timers: TimerSlots::default(),
            log_ops: Vec::new(),
            reads_out: Vec::new(),
            reported_role,
            reported_commit: LogIndex::ZERO,
            config,
            memberships,
            hard,
            log,
        }
    }

    /// Asks for the first timers; a single voter campaigns at once. Call once.
    pub fn start(&mut self) {
        self.timers.set(TimerKind::LeaderQuiet);
        if self.role == Role::Follower {
            self.timers.set(TimerKind::Election);
            if self.memberships.newest().voters().len() == 1 {
                self.election_fired();
            }
        }
    }

    /// Takes a message from a member. Messages of others, malformed ones, and all that come to a halted node change
    /// nothing.
    ///
    /// # Panics
    /// Where the message shows that a safety property of Raft is broken (two leaders in a term, a conflict with a
    /// committed entry): going on would lose acknowledged data.
    pub fn step(&mut self, from: NodeId, message: Message) {
        if self.halted
            || from == self.config.id
            || !self.memberships.newest().contains(from)
            || !message.is_well_formed()
        {
            return;
        }
        match message {
            Message::PreVote { term, last } => self.on_pre_vote(from, term, last),
            Message::PreVoteReply { term, granted, .. } => self.on_pre_vote_reply(from, term, granted),
            Message::Vote { term, last } => self.on_vote(from, term, last),
            Message::VoteReply { term, granted, .. } => self.on_vote_reply(from, term, granted),
            Message::Append { term, prev, entries, commit, wants_reply } => {
                self.on_append(from, term, prev, &entries, commit, wants_reply);
            }
            Message::AppendReply { term, outcome } => self.on_append_reply(from, term, outcome),
            Message::Heartbeat { term, commit, round } => self.on_heartbeat(from, term, commit, round),
            Message::HeartbeatReply { term, round, appended, stable } => {
                self.on_heartbeat_reply(from, term, round, appended, stable);
            }
            Message::ClaimQuery { term, claimed } => self.on_claim_query(from, term, claimed),
            Message::ClaimReply { term, claimed, last } => self.on_claim_reply(from, term, claimed, last),
            Message::TimeoutNow { term } => self.on_timeout_now(from, term),
        }
        self.check();
    }

    /// A timer that was asked for has run out.
    pub fn timer_fired(&mut self, kind: TimerKind) {
        if self.halted {
            return;
        }
        match kind {
            TimerKind::Election => self.election_fired(),
            TimerKind::LeaderQuiet => self.leader_quiet_fired(),
            TimerKind::Heartbeat => self.heartbeat_fired(),
            TimerKind::CheckQuorum => self.check_quorum_fired(),
            TimerKind::PreVoteRetry => self.pre_vote_retry_fired(),
            TimerKind::Transfer => self.transfer_fired(),
        }
        self.check();
    }

    /// Takes the next index of the log, in the current term. The caller encodes and appends that entry at once.
    ///
    /// # Errors
    /// [`NotLeader`] with the leader, as far as known.
    ///
    /// # Panics
    /// Where log operations wait in [`Raft::ready`]: the entry would overtake them.
    pub fn propose(&mut self) -> Result<EntryId, NotLeader> {
        if self.leading.is_none() {
            return Err(NotLeader { leader: self.leader });
        }
        assert!(self.log_ops.is_empty(), "order of calls: log operations are taken before a proposal");
        assert!(
            !self.is_transferring(),
            "order of calls: nothing is proposed while leadership is handed over"
        );
        Ok(self.log.push(self.term()))
    }

    /// The log writer has made everything up to `index` stable, in the log as it was after `generation` truncations.
    /// Reports about an older log are ignored: the same index may be another entry by now (PITFALLS 28).
    pub fn log_stable(&mut self, generation: u64, index: LogIndex) {
        let index = index.min(self.log.last_index());
        let is_stale = generation != self.generation && !is_planted(Bug::StaleFlushCounts);
        if self.halted || is_stale || index <= self.stable {
            return;
        }
        self.stable = index;
        if self.leading.is_some() {
            self.count_commit();
            self.advance_transfer();
        } else {
            self.acknowledge(false);
        }
        self.check();
    }

    /// An append or a flush of the log failed, which is final (PITFALLS 11, 25, 55): the node steps down, and from
    /// now on neither votes, campaigns, acknowledges nor answers. The indexes it proposed are never given again in
    /// this term, since no node leads twice in one term.
    pub fn log_failed(&mut self) {
        if self.halted {
            return;
        }
        self.step_down();
        self.halted = true;
        self.out = Outbox::default();
        TimerKind::ALL.into_iter().for_each(|kind| self.timers.cancel(kind));
    }

    /// Gives up leadership without a new term (a disk that hangs, PITFALLS 12). Nothing for a node that does not
    /// lead. Keeps the vote (PITFALLS 1).
    pub fn step_down(&mut self) {
        if self.leading.is_some() {
            self.become_passive();
        }
    }

    /// Hard state `version` is durable: frees what waited for it. Versions may be skipped, repeated, or come late.
    pub fn hard_state_flushed(&mut self, version: u64) {
        if self.halted {
            return;
        }
        let flushed = self.hard.flush(version);
        self.out.release(flushed);
        if self.role == Role::Candidate {
            self.count_votes();
        }
    }

    /// Moves what there is to do into `ready`, which is emptied first; its buffers are reused.
    pub fn ready_into(&mut self, ready: &mut Ready) {
        ready.clear();
        ready.hard_state = self.hard.emit();
        ready.log_ops.append(&mut self.log_ops);
        self.out.take_into(&mut ready.messages);
        self.timers.take_into(&mut ready.timers);
        if self.commit != self.reported_commit {
            self.reported_commit = self.commit;
            ready.commit_index = Some(self.commit);
        }
        let role = self.role_now();
        if role != self.reported_role {
            self.reported_role = role;
            ready.role_changed = Some(role);
        }
        ready.reads.append(&mut self.reads_out);
    }

    /// What there is to do, in fresh buffers.
    pub fn ready(&mut self) -> Ready {
        let mut ready = Ready::default();
        self.ready_into(&mut ready);
        ready
    }

    /// Whether [`Raft::ready`] would hold anything. Cheap.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.out.has_free()
            || self.commit != self.reported_commit
            || !self.log_ops.is_empty()
            || self.hard.has_unsaid()
            || !self.timers.is_empty()
            || !self.reads_out.is_empty()
            || self.role_now() != self.reported_role
    }

    fn role_now(&self) -> RoleChange {
        RoleChange { role: self.role, term: self.term(), leader: self.leader }
    }

    /// Queues a message; it leaves once the hard state as of now is durable.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        if self.hard.is_durable() {
            self.out.push(to, message);
        } else {
            self.out.hold(self.hard.version(), to, message);
        }
    }

    /// Queues a message for every other member.
    pub(super) fn send_members(&mut self, message: &Message) {
        let members: Vec<NodeId> = self.memberships.newest().members().collect();
        for peer in members {
            if peer != self.config.id {
                self.send(peer, message.clone());
            }
        }
    }

    /// Queues a message for every voter but this node.
    pub(super) fn send_voters(&mut self, message: &Message) {
        for at in 0..self.memberships.newest().voters().len() {
            let peer = self.memberships.newest().voters()[at];
            if peer != self.config.id {
                self.send(peer, message.clone());
            }
        }
    }

    /// Moves to `term`, which is higher, as a follower that has not voted (Raft paper, section 5.1).
    pub(super) fn adopt_term(&mut self, term: Term) {
        self.become_passive();
        self.enter_term(term, None);
    }

    /// The new term itself: what held for the old one is forgotten.
    pub(super) fn enter_term(&mut self, term: Term, voted_for: Option<NodeId>) {
        let hard = *self.hard.get();
        assert!(term > hard.term, "term invariant: terms only rise (from {} to {term})", hard.term);
        self.out.drop_held();
        self.hard.put(HardState { term, voted_for, ..hard });
        if !is_planted(Bug::AckOfOtherTermCounts) {
            self.verified = Verified::default();
        }
        self.end_canvass();
        self.leader = None;
    }

    /// Follower or learner in the term as it is. Keeps the vote.
    pub(super) fn become_passive(&mut self) {
        if let Some(mut leading) = self.leading.take() {
            leading.reads.abort_all(&mut self.reads_out, None);
            self.timers.cancel(TimerKind::Heartbeat);
            self.timers.cancel(TimerKind::CheckQuorum);
            if leading.transfer.is_some() {
                self.timers.cancel(TimerKind::Transfer);
            }
            self.timers.set(TimerKind::Election);
            self.leader = None;
            // The leader that this node heard from was itself.
            self.leader_quiet = true;
        }
        if matches!(self.role, Role::Candidate | Role::PreCandidate) {
            self.out.drop_held_requests();
            self.tally = Tally::default();
        }
        if is_planted(Bug::VoteForgottenOnStepDown) && self.role == Role::Candidate {
            self.hard.put(HardState { voted_for: None, ..*self.hard.get() });
        }
        self.role = if self.is_voter() { Role::Follower } else { Role::Learner };
    }

    /// Raises the commit index.
    pub(super) fn commit_to(&mut self, index: LogIndex) {
        assert!(
            index <= self.log.last_index(),
            "commit invariant: {index} is past the last entry {}",
            self.log.last_id()
        );
        self.commit = self.commit.max(index);
        self.memberships.committed(self.commit);
    }

    pub(super) fn is_voter(&self) -> bool {
        self.memberships.newest().is_voter(self.config.id)
    }

    pub(super) fn check(&self) {
        debug_assert!(self.commit <= self.log.last_index());
        debug_assert!(self.stable <= self.log.last_index());
        debug_assert!(self.verified.up_to <= self.log.last_index());
        debug_assert_eq!(self.leading.is_some(), self.role == Role::Leader);
        debug_assert!(self.leading.is_none() || self.hard.is_durable());
        debug_assert!(self.log.last_id().term <= self.term());
        if let Some(leading) = &self.leading {
            leading.peers.iter().for_each(|peer| peer.check(self.log.last_index()));
        }
    }

    /// Role now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Current term (perhaps not durable yet).
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard.get().term
    }

    /// Leader of the current term, as far as known; itself when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Last index known to be committed.
    #[must_use]
    pub fn commit_index(&self) -> LogIndex {
        self.commit
    }

    /// Last entry appended.
    #[must_use]
    pub fn last_id(&self) -> EntryId {
        self.log.last_id()
    }

    /// Last index that is stable on this node.
    #[must_use]
    pub fn stable_index(&self) -> LogIndex {
        self.stable
    }

    /// Truncations since the node started: the generation that stable reports must carry.
    #[must_use]
    pub fn log_generation(&self) -> u64 {
        self.generation
    }

    /// Term of an entry held (or of the one before the first).
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The log's terms.
    #[must_use]
    pub fn log(&self) -> &TermRuns {
        &self.log
    }

    /// Voters and learners as of the last entry, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.memberships.newest()
    }

    /// Term, vote and claimed tail as of now (perhaps not durable yet).
    #[must_use]
    pub fn hard_state(&self) -> &HardState {
        self.hard.get()
    }

    /// The claimed tail, until it is settled.
    #[must_use]
    pub fn claimed_tail(&self) -> Option<EntryId> {
        self.hard.get().claimed_tail
    }

    /// What the leader knows of `peer`. `None` for a node that does not lead, and for no peer.
    #[must_use]
    pub fn progress(&self, peer: NodeId) -> Option<&Progress> {
        self.leading.as_ref()?.peers.iter().find(|progress| progress.peer() == peer)
    }

    /// Messages that wait for hard state.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.out.held_count()
    }

    /// Whether [`Raft::log_failed`] has stopped this node.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Retention has removed all entries up to `last_removed`, which are committed.
    ///
    /// # Panics
    /// Where one of them is not committed.
    pub fn log_trimmed(&mut self, last_removed: LogIndex) {
        assert!(last_removed <= self.commit, "retention invariant: only committed entries are removed");
        self.log.trim_prefix(last_removed);
    }
}
