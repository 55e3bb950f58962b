//! Mending: what runs in the batcher's place while entries below this node's watermark are damaged.
//!
//! No core runs, so the node neither votes nor leads nor acknowledges (PITFALLS 61); it only says of terms after its own
//! that it has nothing of them, to who asks because of a claim. It asks every other node for what it
//! has lost, believes copies by the chain alone, puts them in, and ends; the process then starts again as usual. Others
//! that mend at the same time are served from what is whole here: three nodes with different damage heal each other.
//!
//! The disk is read and written on this thread: nothing here is in a hurry, and nobody waits for a heartbeat of it.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

pub use plan::{Inquiry, Missing, Verdict};

use super::Agent;
use super::batcher::Pins;
use super::commands::{
    BatcherReply, BatcherRequest, ConductorNotice, ConductorRequest, ContactVerdict, PeerSaid, SenderCommand,
};
use super::control::{Control, Fatal};
use super::rings::{BatcherPeerRings, BatcherRings};
use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{EntryId, LogIndex, NodeId, Offset, Term};
use crate::base::limits::ENTRY_BYTES_MAX;
use crate::base::net::Readiness;
use crate::entry::{Durability, Entry};
use crate::log::{Disk, Held, LogError, Mender};
use crate::metrics::{Counter, Counters};
use crate::protocol::client::{ChangeCode, NodeRole, PeerState, PeerStatus, StatusReply, TransferCode};
use crate::protocol::peer::{APPEND_ENTRIES_MAX, CopyState, MendMessage};
use crate::raft::Message;
use crate::raft::claim::unknown_claim;

/// The longest time between two turns.
const TURN_NS: u64 = 20 * NS_PER_MS;
/// A question without an answer is asked again.
const ASK_AGAIN_NS: u64 = 200 * NS_PER_MS;
/// How often people are told what is waited for.
const TELL_NS: u64 = 10 * NS_PER_S;
/// How long a node that gives up waits for others to ask what it has lost, so that they can conclude the same.
const LINGER_NS: u64 = 5 * NS_PER_S;
/// Entry bytes in one answer, but for a last entry that goes beyond.
pub(super) const ANSWER_BYTES: usize = 256 << 10;
/// Messages taken from each peer in one turn.
const MESSAGES_LIMIT: usize = 64;

/// What a mending node is told at assembly.
#[derive(Clone, Debug)]
pub struct MendingSettings {
    /// This node.
    pub node_id: NodeId,
    /// Votes that make a decision in the whole cluster.
    pub quorum: usize,
    /// The peers' pinned incarnations.
    pub pins: Pins,
    /// The term of the hard state.
    pub term: Term,
    /// The cluster's durability.
    pub durability: Durability,
    /// Shown in `status`.
    pub version: &'static str,
}

#[derive(Debug)]
struct MendingCounters {
    // Entries found lost when the node started.
    entries_lost: Counter,
    // Of these, put in again from peers' copies.
    entries_mended: Counter,
    // Questions sent to peers.
    questions: Counter,
    // Answers given to peers that mend too.
    answers: Counter,
}

impl MendingCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            entries_lost: counters.register("mending_entries_lost"),
            entries_mended: counters.register("mending_entries_mended"),
            questions: counters.register("mending_questions"),
            answers: counters.register("mending_answers"),
        }
    }
}

/// One other node.
struct Port {
    rings: BatcherPeerRings,
    connected: bool,
    /// When it may be asked (again).
    ask_at_ns: u64,
}

/// Leaves as many entries as fit a frame, at least one; gives the last one's index.
pub(super) fn clip_answer(entries: &mut Vec<Entry>) -> Option<LogIndex> {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += entry.len_bytes();
        bytes <= ENTRY_BYTES_MAX
    });
    let count = fitting.take(APPEND_ENTRIES_MAX).count().max(1);
    entries.truncate(count);
    entries.last().map(Entry::index)
}

/// The agent. See the module.
pub struct Mending<D: Disk> {
    settings: MendingSettings,
    mender: Mender<D>,
    /// The disk holds no entry of a later term than this one, which the hard state had when mending began.
    held_term: Term,
    /// Copies of the first lost runs, all of one file.
    solved: Vec<Vec<Entry>>,
    /// About the run behind those.
    inquiry: Option<Inquiry>,
    /// The number of that inquiry. Answers to earlier ones do not count.
    question: u64,
    /// The inquiry before this one said that the log is to be cut.
    asks_to_be_sure: bool,
    ports: Vec<Port>,
    rings: BatcherRings,
    control: Control,
    counters: MendingCounters,
    now_ns: u64,
    started_ns: u64,
    told_ns: u64,
    /// Answers whose ring was full.
    replies: VecDeque<BatcherReply>,
    /// Why this node cannot be mended, and until when it stays.
    given_up: Option<(Fatal, u64)>,
    /// How often others have been answered here, and when that was last.
    answered: BTreeMap<NodeId, u32>,
    answered_ns: u64,
}

impl<D: Disk> Agent for Mending<D> {
    fn name(&self) -> &'static str {
        "mending"
    }

    fn do_work(&mut self, now_ns: u64, _readiness: &[Readiness]) -> usize {
        self.begin(now_ns);
        let mut work = self.refuse_strangers() + self.hear_peers() + self.answer_clients();
        if self.given_up.is_some() {
            self.leave_when_heard();
        } else {
            work += self.go_on();
            work += self.ask();
            self.tell();
        }
        if self.control.is_draining() {
            self.control.set_drained();
        }
        work
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        Some(self.now_ns + TURN_NS)
    }
}

impl<D: Disk> Mending<D> {
    /// An agent that holds a directory with lost runs.
    #[must_use]
    pub fn new(
        settings: MendingSettings,
        mender: Mender<D>,
        mut rings: BatcherRings,
        control: Control,
        counters: &Counters,
    ) -> Self {
        let ports = std::mem::take(&mut rings.peers);
        let port = |rings| Port { rings, connected: false, ask_at_ns: 0 };
        let counters = MendingCounters::new(counters);
        counters.entries_lost.add(mender.runs().iter().map(|run| run.last.since(run.first.prev())).sum());
        Self {
            settings,
            held_term: mender.hard_state().term,
            mender,
            solved: Vec::new(),
            inquiry: None,
            question: 0,
            asks_to_be_sure: false,
            ports: ports.into_iter().map(port).collect(),
            rings,
            control,
            counters,
            now_ns: 0,
            started_ns: 0,
            told_ns: 0,
            replies: VecDeque::new(),
            given_up: None,
            answered: BTreeMap::new(),
            answered_ns: 0,
        }
    }

    /// The first entry of the run that is asked about, or will be next.
    #[must_use]
    pub fn asks_about(&self) -> Option<LogIndex> {
        self.mender.runs().get(self.solved.len()).map(|run| run.first)
    }

    fn begin(&mut self, now_ns: u64) {
        if self.started_ns == 0 {
            (self.started_ns, self.told_ns) = (now_ns, now_ns);
            // Not the numbers of an earlier life.
            self.question = now_ns;
            for run in self.mender.runs() {
                tracing::error!("damaged below the watermark, asking the other nodes for it: {run}");
            }
        }
        self.now_ns = now_ns;
    }

    /// Peers known before keep their pins; nobody new is let in: a pin would have to be written.
    fn refuse_strangers(&mut self) -> usize {
        let mut work = 0;
        while let Some(request) = self.rings.from_conductor.pop() {
            work += 1;
            if let ConductorRequest::Contact(contact) = request {
                let is_known = self.settings.pins.get(&contact.peer) == Some(&contact.identity.incarnation);
                let verdict = if is_known { ContactVerdict::Known } else { ContactVerdict::Refused };
                let _ = self.rings.to_conductor.push(ConductorNotice::Decided(contact, verdict));
            }
        }
        work
    }

    fn hear_peers(&mut self) -> usize {
        let mut work = 0;
        for place in 0..self.ports.len() {
            while let Some(state) = self.ports[place].rings.from_sender.pop() {
                let port = &mut self.ports[place];
                (port.connected, port.ask_at_ns) = (state.connected.is_some(), self.now_ns);
                work += 1;
            }
            for _ in 0..MESSAGES_LIMIT {
                let Some(heard) = self.ports[place].rings.from_receiver.pop() else { break };
                work += 1;
                // Whatever Raft wants of this node has to wait. Only those whose word counts are asked or heard.
                let counts =
                    self.settings.pins.get(&self.ports[place].rings.peer) == Some(&heard.incarnation);
                match heard.said {
                    PeerSaid::Mend { message, entries } if counts => self.hear(place, message, entries),
                    PeerSaid::Raft { message: Message::ClaimQuery { term, claimed }, .. } if counts => {
                        self.answer_claim(place, term, claimed);
                    }
                    _ => {}
                }
            }
        }
        work
    }

    fn hear(&mut self, place: usize, message: MendMessage, entries: Vec<Entry>) {
        match message {
            MendMessage::Fetch { question, first, last } => self.answer(place, question, (first, last)),
            MendMessage::Fetched { question, first, last, state } => {
                let peer = self.ports[place].rings.peer;
                let Some(inquiry) = self.inquiry.as_mut().filter(|_| question == self.question) else {
                    return;
                };
                if inquiry.answered(peer, (first, last), state, entries) {
                    self.ports[place].ask_at_ns = self.now_ns;
                }
            }
        }
    }

    /// Somebody claims an entry of which its own disk has lost the body, and waits for who may have it (rule 11). This node
    /// does not know what its lost runs were; but its disk holds no entry of a term that its hard state had not entered
    /// when it began to mend, since entries are written behind that. So of a later term it has none, and says that it may
    /// have any of its own. The answer binds: it helps no leader of the claim's term any more, which is durable before the
    /// answer leaves. Without it the two would wait for each other: the one for an answer, and the other for a leader that
    /// settles what was committed.
    fn answer_claim(&mut self, place: usize, term: Term, claimed: EntryId) {
        if self.held_term >= claimed.term || term <= claimed.term {
            return;
        }
        if let Err(error) = self.mender.enter_term(term) {
            return self.fail(&error);
        }
        let term = self.mender.hard_state().term;
        let claimed = unknown_claim(self.held_term);
        let reply = Message::ClaimReply { term, claimed, last: EntryId::default() };
        // One that is lost is asked for again.
        if self.ports[place].rings.to_sender.push(SenderCommand::Message(reply)).is_ok() {
            self.counters.answers.increment();
        }
    }

    /// What this node still has of what a peer has lost.
    fn answer(&mut self, place: usize, question: u64, (first, last): (LogIndex, LogIndex)) {
        let (last, state, entries) = match self.mender.read(first, last, ANSWER_BYTES) {
            Ok(Held::Entries(mut entries)) => match clip_answer(&mut entries) {
                Some(end) => (end, CopyState::Held, entries),
                None => (last, CopyState::Unsure, entries),
            },
            Ok(Held::Lost(last)) => (last, CopyState::Damaged, Vec::new()),
            // Recovery will tell what lies behind the watermark; some of it may have been acknowledged.
            Ok(Held::Unknown) => (last, CopyState::Unsure, Vec::new()),
            Err(error) => return self.fail(&error),
        };
        let message = MendMessage::Fetched { question, first, last, state };
        let port = &mut self.ports[place];
        if port.rings.to_sender.push(SenderCommand::Mend { message, entries }).is_ok() {
            self.counters.answers.increment();
            *self.answered.entry(port.rings.peer).or_default() += 1;
            self.answered_ns = self.now_ns;
        }
    }

    /// Asks about the next lost run, and whoever has not answered.
    fn ask(&mut self) -> usize {
        let Some(inquiry) = &self.inquiry else { return 0 };
        let mut work = 0;
        for port in self.ports.iter_mut().filter(|port| port.connected && port.ask_at_ns <= self.now_ns) {
            let Some((first, last)) = inquiry.question(port.rings.peer) else { continue };
            let message = MendMessage::Fetch { question: self.question, first, last };
            let command = SenderCommand::Mend { message, entries: Vec::new() };
            if port.rings.to_sender.push(command).is_ok() {
                port.ask_at_ns = self.now_ns + ASK_AGAIN_NS;
                self.counters.questions.increment();
                work += 1;
            }
        }
        work
    }

    /// Begins an inquiry, or draws the conclusion of the present one.
    fn go_on(&mut self) -> usize {
        let at = self.solved.len();
        let Some(run) = self.mender.runs().get(at) else {
            self.finish();
            return 0;
        };
        let Some(inquiry) = &self.inquiry else {
            let missing = Missing {
                first: run.first,
                last: run.last,
                chain_before: run.chain_before,
                chain_last: run.chain_last,
            };
            let others: Vec<NodeId> = self.ports.iter().map(|port| port.rings.peer).collect();
            self.inquiry = Some(Inquiry::new(missing, &others, self.settings.quorum));
            self.question += 1;
            return 1;
        };
        let mut asks_to_be_sure = false;
        match inquiry.verdict(self.mender.may_widen(at)) {
            Verdict::Wait if !inquiry.is_exhausted() => return 0,
            Verdict::Wait => {
                self.mender.widen(at);
            }
            Verdict::AskAgain => {
                let later_ns = self.now_ns + ASK_AGAIN_NS;
                self.ports.iter_mut().for_each(|port| port.ask_at_ns = later_ns);
            }
            Verdict::Solved(copies) if self.mender.fits(at, &copies) => self.take(copies),
            Verdict::Solved(_) => {
                if !self.mender.widen(at) {
                    self.give_up("the other nodes' copies do not fill the place where it was, so this file is damaged in \
                        a way that cannot be mended; format a new data directory, and let it in by tercet member replace");
                }
            }
            // Each answer is true of its own moment: who had nothing may have got the entry since, and helped to commit
            // it, before its leader was asked, which has lost it meanwhile. But that leader counted on this node's
            // acknowledgement until then at the latest: asked once more, who helped it says what it has.
            Verdict::Cut(_) if !self.asks_to_be_sure => asks_to_be_sure = true,
            Verdict::Cut(prefix) => self.cut(&prefix),
            Verdict::Hopeless(index) => self.give_up(&format!(
                "no other node has a whole copy of entry {index}, so this node does not start; restore one node's \
                 data directory from a backup, or find a node that has it"
            )),
            Verdict::Trimmed => self.give_up(
                "retention has removed it on the other nodes, so nobody can mend it any more; keep this data directory \
                 for what may still be read in it, format a new one, and let it in by tercet member replace",
            ),
        }
        (self.inquiry, self.asks_to_be_sure) = (None, asks_to_be_sure);
        1
    }

    /// Copies of one more run. A file is written once all its runs are known.
    fn take(&mut self, copies: Vec<Entry>) {
        self.solved.push(copies);
        let runs = self.mender.runs();
        let next = runs.get(self.solved.len());
        if next.is_none_or(|next| next.file != runs[0].file) {
            self.write();
        }
    }

    /// Puts in the copies that are known.
    fn write(&mut self) {
        let copies = std::mem::take(&mut self.solved);
        if copies.is_empty() {
            return;
        }
        match self.mender.mend(&copies) {
            Ok(files) => {
                let count = copies.iter().map(Vec::len).sum::<usize>();
                self.counters.entries_mended.add(count as u64);
                for file in files {
                    tracing::warn!(
                        "{count} damaged entries are mended with the other nodes' copies: {}",
                        file.display()
                    );
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// The log ends before this run: what stood here was never committed.
    fn cut(&mut self, prefix: &[Entry]) {
        if !self.solved.is_empty() {
            // First what is known of this file; then this run is the first, and is looked at again.
            return self.write();
        }
        let run = self.mender.runs()[0].to_string();
        match self.mender.cut(prefix) {
            Ok(file) => tracing::warn!(
                "no quorum ever held what is damaged here, so it was never acknowledged; the log goes on in {}: {run}",
                file.display()
            ),
            Err(error) => self.fail(&error),
        }
    }

    /// Everything is whole again: the process starts anew.
    fn finish(&mut self) {
        if self.given_up.is_none() && !self.control.is_stopped() {
            tracing::info!("nothing below the watermark is damaged any more");
            self.control.stop();
        }
    }

    fn give_up(&mut self, why: &str) {
        let run = &self.mender.runs()[self.solved.len()];
        let text = format!("{run}; {why}");
        tracing::error!("{text}");
        self.given_up = Some((Fatal::Divergence(text), self.now_ns + LINGER_NS));
    }

    fn fail(&mut self, error: &LogError) {
        let text = error.to_string();
        let fatal = match error {
            LogError::Disk(_) | LogError::Poisoned(_) => Fatal::Disk(text),
            _ => Fatal::Divergence(text),
        };
        self.control.fail(fatal);
    }

    /// The others may need to know what is lost here to come to the same conclusion, which takes two answers.
    fn leave_when_heard(&mut self) {
        let Some((fatal, until_ns)) = &self.given_up else { return };
        let heard = |peer: &NodeId| self.answered.get(peer).is_some_and(|answers| *answers >= 2);
        let all_heard = self.ports.iter().all(|port| heard(&port.rings.peer));
        // An answer that was just queued still has to be sent.
        let begun_ns = until_ns.saturating_sub(LINGER_NS);
        let settled_ns = begun_ns.max(self.answered_ns) + NS_PER_S / 2;
        if self.now_ns >= *until_ns || (all_heard && self.now_ns >= settled_ns) {
            self.control.fail(fatal.clone());
        }
    }

    fn tell(&mut self) {
        if self.now_ns < self.told_ns + TELL_NS {
            return;
        }
        self.told_ns = self.now_ns;
        let silent = |port: &&Port| {
            self.inquiry.as_ref().is_some_and(|inquiry| inquiry.question(port.rings.peer).is_some())
        };
        let waiting: Vec<String> =
            self.ports.iter().filter(silent).map(|port| port.rings.peer.to_string()).collect();
        let for_whom = match waiting.join(", node ") {
            none if none.is_empty() => "until the other nodes agree".to_owned(),
            nodes => format!("for node {nodes}"),
        };
        if let Some(run) = self.mender.runs().get(self.solved.len()) {
            tracing::warn!("still damaged: {run}; waiting {for_whom}");
        }
    }

    fn answer_clients(&mut self) -> usize {
        let mut work = 0;
        loop {
            while let Some(reply) = self.replies.pop_front() {
                if let Err(back) = self.rings.to_dispatcher.push(reply) {
                    self.replies.push_front(back);
                    return work;
                }
            }
            let Some(request) = self.rings.from_dispatcher.pop() else { return work };
            work += 1;
            self.answer_client(request);
        }
    }

    fn answer_client(&mut self, request: BatcherRequest) {
        let reply = match request {
            BatcherRequest::Publish(chunk) => {
                let (connection, mut buffer) = (chunk.connection, chunk.events);
                let bytes = buffer.len();
                buffer.clear();
                self.replies.push_back(BatcherReply::Recycle { buffer, bytes });
                BatcherReply::NotLeader { connection }
            }
            BatcherRequest::OpenProducer { connection, .. } => BatcherReply::NotLeader { connection },
            BatcherRequest::CommitQuery { connection, request_id, .. } => {
                BatcherReply::Commit { connection, request_id, committed: None, from_leader: false }
            }
            BatcherRequest::Transfer { connection, request_id, .. } => {
                BatcherReply::Transferred { connection, request_id, outcome: TransferCode::NotLeader }
            }
            BatcherRequest::Members { connection, request_id } => {
                BatcherReply::Members { connection, request_id, members: None }
            }
            BatcherRequest::ChangeMember { connection, request_id, .. } => {
                BatcherReply::MemberChanged { connection, request_id, outcome: ChangeCode::NotLeader }
            }
            BatcherRequest::Status { connection, request_id } => {
                BatcherReply::Status { connection, status: Box::new(self.status(request_id)) }
            }
        };
        self.replies.push_back(reply);
    }

    /// Nothing is applied yet, so nothing counts as committed here.
    fn status(&self, request_id: u64) -> StatusReply<'static> {
        let peer = |port: &Port| PeerStatus {
            node_id: port.rings.peer,
            connected: port.connected,
            next_index: LogIndex::ZERO,
            match_appended: LogIndex::ZERO,
            match_stable: LogIndex::ZERO,
            state: PeerState::Unknown,
        };
        StatusReply {
            request_id,
            node_id: self.settings.node_id,
            role: NodeRole::Learner,
            term: self.settings.term,
            leader_id: None,
            commit_index: LogIndex::ZERO,
            last_index: self.mender.last_index(),
            flushed_index: self.mender.last_index(),
            first_offset: Offset::ZERO,
            last_offset: Offset::ZERO,
            log_checksum_index: LogIndex::ZERO,
            log_checksum: 0,
            producers: 0,
            producers_checksum: 0,
            peers: self.ports.iter().map(peer).collect(),
            durability: self.settings.durability,
            uptime_ms: self.now_ns.saturating_sub(self.started_ns) / NS_PER_MS,
            version: self.settings.version,
            counters: Vec::new(),
        }
    }
}
