//! Who belongs to the cluster: configurations as they are appended and removed, who is let in by them, and the changes
//! that operators ask for: one node at a time, through the log.
//!
//! ```text
//! change_member ─▶ may it? ─▶ configuration entry ─▶ append: in force (core, conductor, links) ─▶ commit: answer, pins
//!                                                       │ truncated: the one before is in force again
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::Batcher;
use super::configurations::{Configurations, Named, membership_of, named, unmet, way_back};
use super::pending::Waiter;
use crate::agent::commands::{BatcherReply, ConductorNotice, ConnectionId, SenderCommand};
use crate::agent::control::Fatal;
use crate::base::clock::{Clock, NS_PER_S};
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{Configuration, Entry, Member, SealContext, encode_configuration, encode_noop};
use crate::protocol::client::{ChangeCode, ChangeKind, LeaderMembers, MemberChange, MemberRow};
use crate::raft::{ChangeError, Membership, MembershipError};

/// How long a formatting that was refused counts as one that waits to be let in. A node dials again twice a second.
const NEWCOMER_LIMIT_NS: u64 = 3 * NS_PER_S;

/// How long a node may wait for others (those of a new cluster to meet, those that refuse its disk to let it in) before it
/// is said, and how often it is said then.
const SAY_WAITING_AFTER_NS: u64 = 2 * NS_PER_S;
const SAY_WAITING_EVERY_NS: u64 = 30 * NS_PER_S;

/// What is to be told, and who has knocked.
#[derive(Debug, Default)]
pub(super) struct MembershipWork {
    /// The conductor has not been told of the configuration in force.
    is_untold: bool,
    /// Formattings of members' disks that were refused last, and when. At most one a member.
    refused: BTreeMap<NodeId, (Incarnation, u64)>,
    /// Peers that refused this node's disk when they were dialled last, since their cluster knows another.
    refused_by: BTreeSet<NodeId>,
    /// When it is to be said next what this node waits for before it takes part.
    say_waiting_ns: Option<u64>,
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
            Named::Only(incarnation) if is_planted(Bug::AnyFormattingCounts) => {
                let port = self.peers.iter().find(|port| port.id() == node);
                port.and_then(|port| port.link).map_or(Some(incarnation), |link| Some(link.incarnation))
            }
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

    /// Says what keeps this node out of a cluster: its disk, or that the cluster has not begun.
    pub(super) fn say_why_it_waits(&mut self) {
        self.forget_refusals();
        if self.membership.refused_by.is_empty() && self.raft.knows_the_voters() {
            if self.membership.say_waiting_ns.take().is_some() {
                self.counters.voters_unmet.set(0);
                self.counters.refused_by.set(0);
            }
            return;
        }
        let met: Vec<NodeId> = self.hard_state.durable_pins().collect();
        let missing: Vec<NodeId> = unmet(self.configurations.newest(), self.settings.node_id, &met).collect();
        self.counters.voters_unmet.set(missing.len() as u64);
        self.counters.refused_by.set(self.membership.refused_by.len() as u64);
        let due_ns = *self.membership.say_waiting_ns.get_or_insert(self.now_ns + SAY_WAITING_AFTER_NS);
        if self.now_ns < due_ns {
            return;
        }
        self.membership.say_waiting_ns = Some(self.now_ns + SAY_WAITING_EVERY_NS);
        let list = |nodes: &mut dyn Iterator<Item = &NodeId>| {
            nodes.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        if self.membership.refused_by.is_empty() {
            tracing::warn!(
                "this node knows of no leader and nothing of the log; a new cluster begins once all its nodes have met, \
                 and this one has not met node {} yet",
                list(&mut missing.iter())
            );
        } else {
            let members: Vec<Member> = self.configurations.newest().members().copied().collect();
            tracing::warn!(
                "this node takes no part: it was refused by node {}, whose cluster knows another disk of it; {}",
                list(&mut self.membership.refused_by.iter()),
                way_back(&members, self.settings.node_id)
            );
        }
    }

    /// Refusals hold until the one that refused takes this node's dial, or somebody leads this node.
    fn forget_refusals(&mut self) {
        let Self { membership, peers, raft, .. } = self;
        if membership.refused_by.is_empty() {
            return;
        }
        let stands = |node: NodeId| peers.iter().any(|port| port.id() == node && port.link.is_some());
        let is_led = raft.leader().is_some();
        membership.refused_by.retain(|node| !is_led && !stands(*node));
    }

    /// A peer's cluster knows another disk of this node.
    pub(super) fn note_refused_by(&mut self, peer: NodeId) {
        self.membership.refused_by.insert(peer);
    }

    /// Another formatting of a member's disk was refused.
    pub(super) fn note_refused(&mut self, peer: NodeId, incarnation: Incarnation) {
        if self.configurations.newest().member(peer).is_some() {
            self.membership.refused.insert(peer, (incarnation, self.now_ns));
        }
    }

    /// The formatting of a node's disk that does not count and was refused lately; else, that is connected without counting
    /// (it has seen a later configuration, which a truncation has taken back here).
    fn newcomer(&self, node: NodeId) -> Option<Incarnation> {
        let is_recent = |seen_ns: u64| self.now_ns.saturating_sub(seen_ns) <= NEWCOMER_LIMIT_NS;
        let counts = self.let_in(node);
        let refused = self.membership.refused.get(&node).filter(|(_, seen_ns)| is_recent(*seen_ns));
        let refused = refused.map(|(incarnation, _)| *incarnation).filter(|refused| counts != Some(*refused));
        refused.or_else(|| self.linked_ahead(node).filter(|linked| counts != Some(*linked)))
    }

    /// The formatting of another node's disk to which the stream stands as it has seen a later configuration.
    pub(super) fn linked_ahead(&self, node: NodeId) -> Option<Incarnation> {
        let link = self.peers.iter().find(|port| port.id() == node)?.link?;
        (link.configuration_index > self.configurations.index()).then_some(link.incarnation)
    }

    /// Whether this formatting of a node's disk is there, and not a typing error.
    fn has_shown_up(&self, node: NodeId, incarnation: Incarnation) -> bool {
        [self.newcomer(node), self.linked_ahead(node)].contains(&Some(incarnation))
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
        if change.kind == ChangeKind::Replace {
            self.may_replace(&next, change.node)?;
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

    /// A disk that is there and works is not given up, and one that only pauses is not given up for a typing error: the
    /// one that takes its place has to have shown up.
    fn may_replace(&self, next: &Configuration, node: NodeId) -> Result<(), ChangeCode> {
        if self.is_connected(node) {
            return Err(ChangeCode::DiskWorks);
        }
        let has_shown_up = |member: &Member| self.has_shown_up(node, member.incarnation);
        if next.member(node).is_some_and(has_shown_up) { Ok(()) } else { Err(ChangeCode::NoNewDisk) }
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
                let none =
                    if self.is_connected(node) { ChangeCode::DiskWorks } else { ChangeCode::NoNewDisk };
                let incarnation = named.or_else(|| self.newcomer(node)).ok_or(none)?;
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
            let is_connected = node_id == own || self.is_connected(node_id);
            // Beside a disk that works there is nothing to let in.
            let newcomer = self.newcomer(node_id).filter(|_| !is_connected);
            MemberRow {
                node_id,
                is_voter: configuration.is_voter(node_id),
                incarnation: self.let_in(node_id).unwrap_or(Incarnation(0)),
                is_connected,
                is_caught_up: node_id == own || self.raft.has_caught_up(node_id),
                stable_index: if node_id == own { self.raft.stable_index() } else { stable },
                newcomer: newcomer.unwrap_or(Incarnation(0)),
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
