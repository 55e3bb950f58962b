//! Questions: the status of nodes, and how far the log is committed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::error::ClientError;
use super::leader::Leadership;
use super::links::{Flow, Handler, LinkRef, Links};
use super::options::ClientOptions;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{LogIndex, NodeId, Offset, Term};
use crate::entry::Durability;
use crate::protocol::client::{
    ClientHelloAccept, ClientMessage, CommitAnswer, NodeRole, PeerStatus, Purpose, ServerMessage, StatusReply,
};

const INBOX_BYTES: usize = 32 << 10;
/// An unanswered or unhelpful commit query is asked again after this.
const ASK_AGAIN_NS: u64 = 100 * NS_PER_MS;

/// What a node says of itself: the fields of `tercet status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// The address that was asked.
    pub server: SocketAddr,
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
    /// The build.
    pub version: String,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// Named numbers.
    pub counters: Vec<(String, u64)>,
}

impl NodeStatus {
    fn of(server: SocketAddr, reply: &StatusReply<'_>) -> Self {
        Self {
            server,
            node_id: reply.node_id,
            role: reply.role,
            term: reply.term,
            leader_id: reply.leader_id,
            commit_index: reply.commit_index,
            last_index: reply.last_index,
            flushed_index: reply.flushed_index,
            first_offset: reply.first_offset,
            last_offset: reply.last_offset,
            log_checksum_index: reply.log_checksum_index,
            log_checksum: reply.log_checksum,
            producers: reply.producers,
            producers_checksum: reply.producers_checksum,
            durability: reply.durability,
            uptime_ms: reply.uptime_ms,
            version: reply.version.to_owned(),
            peers: reply.peers.clone(),
            counters: reply.counters.iter().map(|counter| (counter.name.to_owned(), counter.value)).collect(),
        }
    }
}

/// Collects one status from each place.
struct StatusRound {
    answers: Vec<Option<NodeStatus>>,
    servers: Vec<SocketAddr>,
}

impl Handler for StatusRound {
    fn greeted(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        _welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError> {
        let request_id = links.next_request_id();
        links.send(link, &ClientMessage::StatusQuery { request_id });
        Ok(())
    }

    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError> {
        let server = links.address_of(link);
        match message {
            ServerMessage::Status(status) => {
                if let Some(place) = self.servers.iter().position(|address| *address == server) {
                    self.answers[place] = Some(NodeStatus::of(server, status));
                }
            }
            ServerMessage::RequestError { text, .. } => links.leave(link, text),
            ServerMessage::LeaderNews { .. } => {}
            _ => links.leave(link, "it answers something else"),
        }
        Ok(Flow::Next)
    }
}

/// Asks one node for its status.
///
/// # Errors
/// [`ClientError::Unreachable`] or [`ClientError::NoAnswer`].
pub fn query_status(server: SocketAddr, timeout: Duration) -> Result<NodeStatus, ClientError> {
    let mut answers = query_status_all(&[server], timeout)?;
    answers.pop().map_or(Err(ClientError::NoAnswer { server, waited: timeout }), |(_, answer)| answer)
}

/// Asks several nodes in parallel; `timeout` is for all of them together. Each gets one attempt. The answers come in
/// the order of the list.
///
/// # Errors
/// [`ClientError::BadServers`], or a poll that the system refuses; a node that does not answer is no error of the
/// whole.
pub fn query_status_all(
    servers: &[SocketAddr],
    timeout: Duration,
) -> Result<Vec<(SocketAddr, Result<NodeStatus, ClientError>)>, ClientError> {
    let mut options = ClientOptions::new(servers.to_vec());
    options.servers.sort_unstable();
    options.servers.dedup();
    "tercet-status".clone_into(&mut options.name);
    options.connect_timeout = timeout;
    let mut links = Links::new(&options, Purpose::Control, INBOX_BYTES, false)?;
    links.be_lenient();
    links.keep_aliases();
    let places = options.servers;
    let mut round = StatusRound { answers: vec![None; places.len()], servers: places.clone() };
    let begun = Instant::now();
    loop {
        let settled = |slot: usize| round.answers[slot].is_some() || links.endings(slot) > 0;
        let left = timeout.saturating_sub(begun.elapsed());
        if (0..places.len()).all(settled) || left.is_zero() {
            break;
        }
        links.turn(&mut round, left)?;
    }
    let answer_of = |server: SocketAddr| {
        let place = places.iter().position(|address| *address == server)?;
        let unheard = || match links.failure_at(place) {
            Some(text) => ClientError::Unreachable { server, text: text.to_owned() },
            None => ClientError::NoAnswer { server, waited: timeout },
        };
        Some((server, round.answers[place].clone().ok_or_else(unheard)))
    };
    Ok(servers.iter().filter_map(|server| answer_of(*server)).collect())
}

/// How far the log is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitPosition {
    /// The commit index.
    pub commit_index: LogIndex,
    /// Offset of the last committed event; zero when there is none.
    pub last_offset: Offset,
    /// The leader has confirmed it by a round of heartbeats after it was asked; otherwise it is one node's knowledge.
    pub from_leader: bool,
}

/// One commit query, asked again until somebody can answer it.
struct CommitRound {
    leader_required: bool,
    leadership: Leadership,
    /// The open question: its number, whom it was put to, and when.
    asked: Option<(u64, LinkRef, u64)>,
    answer: Option<CommitPosition>,
}

impl CommitRound {
    /// Puts the question to whoever can answer it.
    fn step(&mut self, links: &mut Links) {
        let now_ns = links.now_ns();
        let open = self.asked.is_some_and(|(_, link, asked_ns)| {
            links.is_live(link) && now_ns < asked_ns.saturating_add(ASK_AGAIN_NS)
        });
        if open {
            return;
        }
        let leader = self.leadership.leader().and_then(|leader| links.of_node(leader));
        let to = if self.leader_required { leader } else { leader.or_else(|| links.ready().next()) };
        let Some(link) = to else { return };
        let request_id = links.next_request_id();
        links.send(link, &ClientMessage::CommitQuery { request_id, leader_required: self.leader_required });
        links.flush(link);
        self.asked = Some((request_id, link, now_ns));
    }
}

impl Handler for CommitRound {
    fn greeted(
        &mut self,
        links: &mut Links,
        _link: LinkRef,
        welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError> {
        self.leadership.hear(Some(welcome.node_id), welcome.term, welcome.leader_id);
        self.step(links);
        Ok(())
    }

    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError> {
        match message {
            ServerMessage::LeaderNews { term, leader_id, address } => {
                if let Some(leader) = leader_id {
                    links.learn(link, *leader, address);
                }
                if self.leadership.hear(links.node_of(link), *term, *leader_id) {
                    self.asked = None;
                }
            }
            ServerMessage::CommitReply { request_id, answer }
                if self.asked.is_some_and(|(asked, to, _)| asked == *request_id && to == link) =>
            {
                self.answered(links, link, answer);
            }
            ServerMessage::CommitReply { .. } => {}
            ServerMessage::RequestError { text, .. } => links.leave(link, text),
            _ => links.leave(link, "it answers something else"),
        }
        self.step(links);
        Ok(Flow::Next)
    }
}

impl CommitRound {
    fn answered(&mut self, links: &mut Links, link: LinkRef, answer: &CommitAnswer<'_>) {
        match answer {
            CommitAnswer::Committed { commit_index, last_offset, from_leader } => {
                if *from_leader || !self.leader_required {
                    let (commit_index, last_offset, from_leader) =
                        (*commit_index, *last_offset, *from_leader);
                    self.answer = Some(CommitPosition { commit_index, last_offset, from_leader });
                }
            }
            // Asked again after a while: the election needs its time.
            CommitAnswer::NoLeader => {}
            CommitAnswer::NotLeader { leader_id, address } => {
                links.learn(link, *leader_id, address);
                let term = self.leadership.term();
                if let Some(node) = links.node_of(link)
                    && self.leadership.declined(node, term, Some(*leader_id))
                {
                    self.asked = None;
                }
            }
        }
    }
}

/// Asks how far the log is committed. With `leader_required` the answer is the leader's, confirmed as of now; it is
/// found from any one node of the list, and an election under way is waited out. Without, any node's knowledge will do,
/// the leader's if one is known.
///
/// # Errors
/// [`ClientError::NoNodeReachable`] or [`ClientError::NoLeader`] at the timeout; a bad list; another cluster.
pub fn query_commit(
    servers: &[SocketAddr],
    leader_required: bool,
    timeout: Duration,
) -> Result<CommitPosition, ClientError> {
    let mut options = ClientOptions::new(servers.to_vec());
    "tercet-commit".clone_into(&mut options.name);
    options.connect_timeout = timeout.min(options.connect_timeout);
    let mut links = Links::new(&options, Purpose::Control, INBOX_BYTES, true)?;
    let mut round =
        CommitRound { leader_required, leadership: Leadership::default(), asked: None, answer: None };
    let begun = Instant::now();
    loop {
        if let Some(answer) = round.answer {
            return Ok(answer);
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        round.step(&mut links);
        links.turn(&mut round, left.min(Duration::from_nanos(ASK_AGAIN_NS)))?;
    }
    let last = links.describe_failure();
    if links.ready().next().is_none() {
        return Err(ClientError::NoNodeReachable { servers: links.describe(), waited: timeout, last });
    }
    Err(ClientError::NoLeader { waited: timeout, last })
}
