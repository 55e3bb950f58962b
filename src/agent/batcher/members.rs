//! Who belongs to the cluster: configurations as they are appended and removed, who is let in by them, and the changes
//! that operators ask for: one node at a time, through the log.
//!
//! ```text
//! change_member ─▶ may it? ─▶ configuration entry ─▶ append: in force (core, conductor, links) ─▶ commit: answer, pins
//!                                                       │ truncated: the one before is in force again
//! ```

use std::collections::BTreeMap;

use super::Batcher;
use super::configurations::{Configurations, Named, membership_of, named, unmet};
use super::pending::Waiter;
use crate::agent::commands::{BatcherReply, ConductorNotice, ConnectionId, SenderCommand};
use crate::agent::control::Fatal;
use crate::base::clock::{Clock, NS_PER_S};
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::entry::{Configuration, Entry, Member, SealContext, encode_configuration, encode_noop};
use crate::protocol::client::{ChangeCode, ChangeKind, LeaderMembers, MemberChange, MemberRow};
use crate::raft::{ChangeError, Membership, MembershipError};

/// How long a formatting that was refused counts as one that waits to be let in. A node dials again twice a second.
const NEWCOMER_LIMIT_NS: u64 = 3 * NS_PER_S;

/// How long the nodes of a new cluster may take to meet before it is said who is missing, and how often it is said then.
const SAY_UNMET_AFTER_NS: u64 = 2 * NS_PER_S;
const SAY_UNMET_EVERY_NS: u64 = 30 * NS_PER_S;

/// What is to be told, and who has knocked.
#[derive(Debug, Default)]
pub(super) struct MembershipWork {
    /// The conductor has not been told of the configuration in force.
    is_untold: bool,
    /// Formattings of members' disks that were refused last, and when. At most one a member.
    refused: BTreeMap<NodeId, (Incarnation, u64)>,
    /// When it is to be said next whom this node waits for, to begin with.
    say_unmet_ns: Option<u64>,
}

impl<C: Clock> Batcher<C> {
    /// The formatting of a node's disk whose word counts now.
    pub(super) fn let_in(&self, node: NodeId) -> Option<Incarnation> {
        if node == self.settings.node_id {
            return Some(self.settings.incarnation);
        }
        match named(self.configurations.newest(), node) {
            Named::Stranger => None,
            Named::AnyFormatting => self.hard_state.pin_of(node),
            Named::Only(incarnation) => Some(incarnation),
        }
    }

    /// Whether the stream to a peer stands and leads to the disk that counts.
    pub(super) fn reaches(&self, slot: usize) -> bool {
        let port = &self.peers[slot];
        port.link.is_some_and(|link| Some(link.incarnation) == self.let_in(port.id()))
    }

    /// A configuration as this node's core sees it.
    pub(super) fn membership_of(&self, configuration: &Configuration) -> Result<Membership, MembershipError> {
        let met: Vec<NodeId> = self.hard_state.durable_pins().collect();
        membership_of(configuration, self.settings.node_id, self.settings.incarnation, &met)
    }

    /// The first entry of this node's leadership. In the first term of all it names the disks of all voters, whom this node
    /// has met: so nothing is ever acknowledged before the log says who counts (decision 0006).
    pub(super) fn opening_entry(&self, context: &SealContext) -> Entry {
        let now = self.configurations.newest();
        if now.members().all(|member| member.incarnation != Incarnation(0)) {
            return encode_noop(context);
        }
        encode_configuration(context, &self.with_names(now.clone()))
            .expect("names leave a checked configuration whole")
    }

    /// A configuration was just appended: it is in force from now on.
    pub(super) fn configure(&mut self, entry: &Entry) {
        // That of an installed checkpoint, which the log has yet to reach, is a later one, or this one.
        if self.ahead.is_some_and(|ahead| entry.index() <= ahead.index) {
            return;
        }
        let before = self.everybody();
        let read = entry.configuration().map_err(|error| error.to_string());
        let read = read.and_then(|configuration| {
            let membership = self.membership_of(&configuration);
            membership.map(|membership| (configuration, membership)).map_err(|error| error.to_string())
        });
        match read {
            Ok((configuration, membership)) => {
                self.configurations.push(entry.index(), configuration);
                // A leader's own core knows it since the proposal.
                if self.raft.membership_index() < entry.index() {
                    self.raft.membership_appended(entry.index(), membership);
                }
                self.members_changed(&before);
            }
            Err(error) => self
                .control
                .fail(Fatal::Unknown(format!("cannot use the configuration at {}: {error}", entry.id()))),
        }
    }

    /// Entries from `first_removed` on are gone; the core knows.
    pub(super) fn unconfigure(&mut self, first_removed: LogIndex) {
        let before = self.everybody();
        if self.configurations.truncate_from(first_removed) {
            self.members_changed(&before);
            self.note_met();
        }
    }

    /// A checkpoint's configuration takes the place of all that this node knew.
    pub(super) fn begin_configurations(&mut self, index: LogIndex, configuration: Configuration) {
        let before = self.everybody();
        self.configurations = Configurations::new(index, configuration);
        self.members_changed(&before);
        self.pin_committed();
    }

    /// Every peer with the formatting that counts.
    fn everybody(&self) -> Vec<Option<Incarnation>> {
        self.peers.iter().map(|port| self.let_in(port.id())).collect()
    }

    /// Links to whom does not count any more are closed, and what such a peer had acknowledged is forgotten.
    fn members_changed(&mut self, before: &[Option<Incarnation>]) {
        self.membership.is_untold = true;
        for (slot, counted) in before.iter().enumerate() {
            let peer = self.peers[slot].id();
            if self.let_in(peer) != *counted {
                self.raft.peer_disconnected(peer);
                self.peers[slot].forget_fetched();
            }
        }
        self.tell_members();
    }

    /// Tells the conductor who belongs to the cluster, and senders to close streams to whom does not. Repeated every turn
    /// until it has been taken.
    pub(super) fn tell_members(&mut self) {
        if self.membership.is_untold {
            let members = self.configurations.newest().members().copied().collect();
            let index = self.configurations.index();
            let told = self.rings.to_conductor.push(ConductorNotice::Members { index, members });
            self.membership.is_untold = told.is_err();
        }
        for slot in 0..self.peers.len() {
            let port = &self.peers[slot];
            // Who knows a later configuration than this node may be named in it.
            let is_outdated =
                port.link.is_some_and(|link| link.configuration_index <= self.configurations.index());
            if is_outdated && !port.is_hung_up && !self.reaches(slot) {
                let port = &mut self.peers[slot];
                port.is_hung_up = port.rings.to_sender.push(SenderCommand::HangUp).is_ok();
            }
        }
    }

    /// Says whom a cluster that has not begun waits for.
    pub(super) fn say_unmet(&mut self) {
        if self.raft.knows_the_voters() {
            if self.membership.say_unmet_ns.take().is_some() {
                self.counters.voters_unmet.set(0);
            }
            return;
        }
        let met: Vec<NodeId> = self.hard_state.durable_pins().collect();
        let missing: Vec<NodeId> = unmet(self.configurations.newest(), self.settings.node_id, &met).collect();
        self.counters.voters_unmet.set(missing.len() as u64);
        let due_ns = *self.membership.say_unmet_ns.get_or_insert(self.now_ns + SAY_UNMET_AFTER_NS);
        if self.now_ns < due_ns {
            return;
        }
        self.membership.say_unmet_ns = Some(self.now_ns + SAY_UNMET_EVERY_NS);
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "this node knows of no leader and nothing of the log; a new cluster begins once all its nodes have met, and \
             this one has not met node {} yet",
            missing.join(", ")
        );
    }

    /// Another formatting of a member's disk was refused.
    pub(super) fn note_refused(&mut self, peer: NodeId, incarnation: Incarnation) {
        if self.configurations.newest().member(peer).is_some() {
            self.membership.refused.insert(peer, (incarnation, self.now_ns));
        }
    }

    /// The formatting of a node's disk that was refused lately and does not count.
    fn newcomer(&self, node: NodeId) -> Option<Incarnation> {
        let (incarnation, seen_ns) = *self.membership.refused.get(&node)?;
        let is_recent = self.now_ns.saturating_sub(seen_ns) <= NEWCOMER_LIMIT_NS;
        (is_recent && self.let_in(node) != Some(incarnation)).then_some(incarnation)
    }

    /// Carries a change out for a client, or says why not.
    pub(super) fn change_member(&mut self, connection: ConnectionId, request_id: u64, change: MemberChange) {
        let index = match self.propose_change(change) {
            Ok(index) => index,
            Err(outcome) => {
                self.reply(BatcherReply::MemberChanged { connection, request_id, outcome });
                return;
            }
        };
        if index <= self.applied.index {
            let outcome = ChangeCode::Done;
            self.reply(BatcherReply::MemberChanged { connection, request_id, outcome });
        } else {
            self.pending.add(index, Waiter::Change { connection, request_id });
        }
    }

    /// The entry in which the change stands: a new one, or the one in force where it is so already.
    fn propose_change(&mut self, change: MemberChange) -> Result<LogIndex, ChangeCode> {
        if !self.is_leader() {
            return Err(ChangeCode::NotLeader);
        }
        if self.control.is_draining() {
            return Err(ChangeCode::NotReady);
        }
        let Some(next) = self.after(change)? else { return Ok(self.configurations.index()) };
        let membership = self.membership_of(&next).map_err(|_| ChangeCode::UnknownMember)?;
        let refusal = |error| match error {
            ChangeError::NotLeader => ChangeCode::NotLeader,
            ChangeError::NotReady => ChangeCode::NotReady,
            ChangeError::InProgress | ChangeError::TooMuch => ChangeCode::InProgress,
            ChangeError::NotCaughtUp => ChangeCode::NotCaughtUp,
            ChangeError::NoQuorum => ChangeCode::NoQuorum,
        };
        self.raft.may_change(&membership).map_err(refusal)?;
        // A disk that is there and works is not given up for one that may be a typing error, or the old one.
        if change.kind == ChangeKind::Replace && self.is_connected(change.node) {
            return Err(ChangeCode::NoNewDisk);
        }
        // Events that are gathering stand before it.
        self.seal_now();
        let id = self.raft.propose_membership(membership).map_err(refusal)?;
        let entry = encode_configuration(&self.seal_context(id), &next)
            .expect("a member that moves leaves a checked configuration whole");
        self.counters.member_changes.increment();
        tracing::info!("node {}: {:?} by the configuration at {id}", change.node, change.kind);
        self.note_appended(&entry);
        self.append(entry);
        Ok(id.index)
    }

    /// The configuration after a change; `None` where it is so already.
    fn after(&self, change: MemberChange) -> Result<Option<Configuration>, ChangeCode> {
        let MemberChange { kind, node, incarnation } = change;
        let now = self.configurations.newest();
        let member = *now.member(node).ok_or(ChangeCode::UnknownMember)?;
        let changed = match kind {
            ChangeKind::Promote if now.is_voter(node) => return Ok(None),
            ChangeKind::Promote => now.with_member(member, true),
            ChangeKind::Replace => {
                let named = (incarnation != Incarnation(0)).then_some(incarnation);
                let counts = self.let_in(node);
                if named.is_some() && named == counts {
                    return Ok(None);
                }
                if node == self.settings.node_id {
                    return Err(ChangeCode::LeaderItself);
                }
                let incarnation = named.or_else(|| self.newcomer(node)).ok_or(ChangeCode::NoNewDisk)?;
                now.with_member(Member { node_id: node, incarnation }, false)
            }
        };
        Ok(Some(self.with_names(changed)))
    }

    /// Names everybody whom this node knows.
    fn with_names(&self, mut configuration: Configuration) -> Configuration {
        for member in configuration.voters.iter_mut().chain(&mut configuration.learners) {
            if member.incarnation == Incarnation(0) {
                member.incarnation = self.let_in(member.node_id).unwrap_or(Incarnation(0));
            }
        }
        configuration
    }

    /// The disk of another node that counts is reached, and was heard lately.
    fn is_connected(&self, node: NodeId) -> bool {
        let slot = self.peers.iter().position(|port| port.id() == node);
        slot.is_some_and(|slot| self.reaches(slot) && self.raft.was_heard_lately(node))
    }

    /// The members as this leader knows them, without addresses.
    pub(super) fn list_members(&self) -> LeaderMembers<'static> {
        let configuration = self.configurations.newest();
        let own = self.settings.node_id;
        let row = |member: &Member| {
            let node_id = member.node_id;
            let stable = self.raft.progress(node_id).map_or(LogIndex::ZERO, |progress| progress.stable());
            MemberRow {
                node_id,
                is_voter: configuration.is_voter(node_id),
                incarnation: self.let_in(node_id).unwrap_or(Incarnation(0)),
                is_connected: node_id == own || self.is_connected(node_id),
                is_caught_up: node_id == own || self.raft.has_caught_up(node_id),
                stable_index: if node_id == own { self.raft.stable_index() } else { stable },
                newcomer: self.newcomer(node_id).unwrap_or(Incarnation(0)),
                address: "",
            }
        };
        let mut rows: Vec<MemberRow<'static>> = configuration.members().map(row).collect();
        rows.sort_unstable_by_key(|row| row.node_id);
        LeaderMembers {
            leader_id: own,
            term: self.raft.term(),
            configuration_index: self.configurations.index(),
            is_committed: self.configurations.index() <= self.applied.index,
            last_index: self.tail.index,
            rows,
        }
    }
}
