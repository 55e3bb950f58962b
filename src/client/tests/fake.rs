//! Nodes that speak the client protocol and share one log, with knobs for everything that goes wrong in life.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::ids::{
    ClusterId, Epoch, GroupId, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use crate::client::ClientOptions;
use crate::entry::Durability;
use crate::protocol::client::{
    AckKind, AckRun, ChangeKind, ChangeOutcome, ClientHelloAccept, ClientHelloReply, ClientMessage,
    CommitAnswer, LeaderMembers, List, MemberAddress, MemberChange, MemberRow, MembersAnswer, NodeRole,
    ProducerOpened, Publish, PublishAck, PublishError, PublishErrorCode, ServerMessage, StatusReply,
    Subscribe, SubscribeFrom, SubscriptionError, SubscriptionErrorCode, TransferOutcome,
};
use crate::protocol::frame::{ProtocolOffer, split_frame};

const GROUP: GroupId = GroupId(0);
pub(super) const CLUSTER: ClusterId = ClusterId(77);
pub(super) const PRODUCER: ProducerId = ProducerId(9);

/// What the nodes share, and the knobs.
pub(super) struct State {
    pub term: u64,
    pub leader: Option<u16>,
    /// Said in hellos instead of the truth.
    pub claimed: Option<(u64, Option<u16>)>,
    pub members: Vec<(u16, SocketAddr)>,
    /// Addresses of members that hellos name.
    pub named: bool,
    /// Sequence and body of each event, in order of the log.
    pub log: Vec<(u64, Vec<u8>)>,
    pub expected: u64,
    pub epoch: u32,
    pub opens: usize,
    pub credit: (u32, u32),
    /// Only the first so many events of the log are acknowledged.
    pub ack_limit: usize,
    /// The leader loses the publish frame of this number (counted over all nodes).
    pub lose_frame: Option<usize>,
    pub frames: Vec<Vec<u64>>,
    /// Every publish is answered with this.
    pub refuse: Option<PublishErrorCode>,
    /// These nodes read, and answer nothing at all.
    pub frozen: Vec<u16>,
    /// Connections whose owners wait for news: node, stream.
    streams: Vec<(u16, TcpStream)>,
    /// Acknowledgements held back by `ack_limit`: node, stream, run.
    held: Vec<(u16, TcpStream, AckRun)>,
    /// Entries for subscribers.
    pub entries: Vec<Vec<u8>>,
    /// First offsets of the entries.
    pub offsets: Vec<(u64, u64)>,
    /// A subscriber's connection is closed after so many entries, while the count lasts.
    pub cut_after: Vec<usize>,
    pub subscribes: Vec<(u16, u64, u32)>,
    pub credits: u64,
    /// These nodes cannot read their logs.
    pub unreadable: Vec<u16>,
    /// What the leader answers to a transfer request instead of carrying it out.
    pub transfer: Option<TransferOutcome<'static>>,
    /// Nodes that were asked for a transfer, and to whom.
    pub transfers: Vec<(u16, u16)>,
    /// Who belongs to the cluster, as the leader says.
    pub rows: Vec<MemberRow<'static>>,
    /// What the leader answers to changes, one after the other, instead of carrying them out.
    pub change_script: Vec<ChangeOutcome<'static>>,
    /// Nodes that were asked for a change, and for which.
    pub changes: Vec<(u16, MemberChange)>,
    /// The answer to the next change is lost with its connection.
    pub lose_change: bool,
    /// Nodes that have welcomed somebody, in order.
    pub welcomed: Vec<u16>,
    /// These nodes have committed only so many entries.
    pub behind: Vec<(u16, usize)>,
}

fn member_row(node: u16) -> MemberRow<'static> {
    MemberRow {
        node_id: NodeId(node),
        is_voter: true,
        incarnation: Incarnation(u128::from(node)),
        is_connected: true,
        is_caught_up: true,
        stable_index: LogIndex(100),
        newcomer: Incarnation(0),
        address: "",
    }
}

/// Some nodes on loopback.
pub(super) struct Cluster {
    state: Arc<Mutex<State>>,
    pub addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
}

impl Cluster {
    /// Nodes 1 to `count`; node 1 leads in term 1.
    pub(super) fn start(count: u16) -> Self {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let state = State {
            term: 1,
            leader: Some(1),
            claimed: None,
            members: (1..=count).zip(addresses.iter().copied()).collect(),
            named: true,
            log: Vec::new(),
            expected: 1,
            epoch: 0,
            opens: 0,
            credit: (16_384, 8 << 20),
            ack_limit: usize::MAX,
            lose_frame: None,
            frames: Vec::new(),
            refuse: None,
            frozen: Vec::new(),
            streams: Vec::new(),
            held: Vec::new(),
            entries: Vec::new(),
            offsets: Vec::new(),
            cut_after: Vec::new(),
            subscribes: Vec::new(),
            credits: 0,
            unreadable: Vec::new(),
            transfer: None,
            transfers: Vec::new(),
            rows: (1..=count).map(member_row).collect(),
            change_script: Vec::new(),
            changes: Vec::new(),
            lose_change: false,
            welcomed: Vec::new(),
            behind: Vec::new(),
        };
        let (state, stop) = (Arc::new(Mutex::new(state)), Arc::new(AtomicBool::new(false)));
        for (node, listener) in (1..).zip(listeners) {
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || serve(node, &state, stream));
                }
            });
        }
        Self { state, addresses, stop }
    }

    pub(super) fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::new(self.addresses.clone());
        options.no_progress_timeout = Duration::from_secs(10);
        options.seed = Some(7);
        // These nodes may be late on a busy machine, which is not what most tests are about.
        options.leader_silence_limit = Duration::from_secs(5);
        options
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A new leader; everybody who is connected hears of it. Events past `keep` (else those whose acknowledgement
    /// was held back) were not committed and are lost; nothing that was held back is ever acknowledged.
    pub(super) fn elect(&self, leader: u16, keep: Option<usize>) {
        self.elect_as_told_by(leader, keep, &[1, 2, 3]);
    }

    /// As [`Cluster::elect`], but only these nodes spread the news.
    pub(super) fn elect_as_told_by(&self, leader: u16, keep: Option<usize>, tellers: &[u16]) {
        let mut state = self.state();
        state.term += 1;
        state.leader = Some(leader);
        let keep = keep.unwrap_or(state.ack_limit);
        state.ack_limit = usize::MAX;
        state.held.clear();
        state.log.truncate(keep);
        state.expected = state.log.last().map_or(1, |(sequence, _)| sequence + 1);
        let (term, leader_id) = (Term(state.term), Some(NodeId(leader)));
        let news = ServerMessage::LeaderNews { term, leader_id, address: "" };
        let mut bytes = Vec::new();
        news.encode(GROUP, &mut bytes);
        for (_, stream) in state.streams.iter_mut().filter(|(node, _)| tellers.contains(node)) {
            let _ = stream.write_all(&bytes);
        }
    }

    /// Everybody says that in this term that node leads, or nobody; nothing else changes.
    pub(super) fn announce(&self, term: u64, leader: Option<u16>) {
        let news = ServerMessage::LeaderNews { term: Term(term), leader_id: leader.map(NodeId), address: "" };
        for (_, stream) in &mut self.state().streams {
            send(stream, &news);
        }
    }

    /// Ends every connection to a node.
    pub(super) fn cut(&self, node: u16) {
        let mut state = self.state();
        for (of, stream) in &state.streams {
            if *of == node {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        state.streams.retain(|(of, _)| *of != node);
        state.held.retain(|(of, _, _)| *of != node);
    }

    /// Lets acknowledgements go that were held back.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.ack_limit = usize::MAX;
        for (_, mut stream, run) in std::mem::take(&mut state.held) {
            send_ack(&mut stream, &[run]);
        }
    }

    /// Waits until the state is as wished.
    pub(super) fn wait(&self, what: &str, wished: impl Fn(&State) -> bool) {
        let begun = Instant::now();
        while !wished(&self.state()) {
            assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for address in &self.addresses {
            let _ = TcpStream::connect(address);
        }
        for (_, stream) in &self.state().streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn send(stream: &mut TcpStream, message: &ServerMessage<'_>) {
    let mut bytes = Vec::new();
    message.encode(GROUP, &mut bytes);
    let _ = stream.write_all(&bytes);
}

fn send_ack(stream: &mut TcpStream, runs: &[AckRun]) {
    let ack = PublishAck { durability: Durability::Disk, runs: List::from_slice(runs) };
    send(stream, &ServerMessage::PublishAck(ack));
}

/// One connection, until it ends.
fn serve(node: u16, state: &Mutex<State>, mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        while let Some((frame, consumed)) = split_frame(&bytes).expect("a client's frames are whole") {
            let message = ClientMessage::decode(frame).expect("a client's messages can be read");
            let mut state = state.lock().unwrap();
            if !state.frozen.contains(&node) {
                answer(node, &mut state, &mut stream, &message);
            }
            drop(state);
            bytes.drain(..consumed);
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn answer(node: u16, state: &mut State, stream: &mut TcpStream, message: &ClientMessage<'_>) {
    let leads = state.leader == Some(node);
    let redirect = ServerMessage::Redirect {
        leader_id: state.leader.filter(|leader| *leader != node).map(NodeId),
        address: "",
        term: Term(state.term),
    };
    match message {
        ClientMessage::Hello(_) => welcome(node, state, stream),
        ClientMessage::Ping { request_id } => send(stream, &ServerMessage::Pong { request_id: *request_id }),
        ClientMessage::OpenProducer { .. } | ClientMessage::Publish(_) if !leads => send(stream, &redirect),
        ClientMessage::OpenProducer { request_id, .. } => {
            (state.epoch, state.opens) = (state.epoch + 1, state.opens + 1);
            let opened = ProducerOpened {
                request_id: *request_id,
                producer_id: PRODUCER,
                epoch: Epoch(state.epoch),
                next_sequence: Sequence(state.expected),
            };
            send(stream, &ServerMessage::ProducerOpened(opened));
        }
        ClientMessage::Publish(publish) => take_publish(node, state, stream, publish),
        ClientMessage::StatusQuery { request_id } => send_status(node, state, stream, *request_id),
        ClientMessage::CommitQuery { request_id, leader_required } => {
            let answer = match state.leader {
                None if *leader_required => CommitAnswer::NoLeader,
                Some(leader) if *leader_required && leader != node => {
                    CommitAnswer::NotLeader { leader_id: NodeId(leader), address: "" }
                }
                _ => CommitAnswer::Committed {
                    commit_index: LogIndex(42),
                    last_offset: Offset(state.log.len() as u64),
                    from_leader: *leader_required,
                },
            };
            send(stream, &ServerMessage::CommitReply { request_id: *request_id, answer });
        }
        ClientMessage::Subscribe(wish) => take_subscribe(node, state, stream, wish),
        ClientMessage::SubscribeCredit { bytes, .. } => state.credits += u64::from(*bytes),
        ClientMessage::ListMembers { request_id } => {
            let answer = Box::new(list_members(node, state));
            send(stream, &ServerMessage::Members { request_id: *request_id, answer });
        }
        ClientMessage::ChangeMember { request_id, change } => {
            let outcome = change_member(node, state, *change);
            if state.lose_change {
                // Done, and nobody hears of it.
                state.lose_change = false;
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            send(stream, &ServerMessage::ChangeMemberReply { request_id: *request_id, outcome });
        }
        ClientMessage::TransferLeadership { request_id, to } => {
            state.transfers.push((node, to.0));
            let outcome = match state.transfer {
                Some(outcome) if leads => outcome,
                _ if !leads => TransferOutcome::NotLeader {
                    term: Term(state.term),
                    leader_id: state.leader.map(NodeId),
                    address: "",
                },
                _ => {
                    (state.term, state.leader) = (state.term + 1, Some(to.0));
                    TransferOutcome::Done
                }
            };
            send(stream, &ServerMessage::TransferReply { request_id: *request_id, outcome });
        }
    }
}

fn list_members(node: u16, state: &State) -> MembersAnswer<'static> {
    if state.leader != Some(node) {
        let leader_id = state.leader.map(NodeId);
        return MembersAnswer::NotLeader { term: Term(state.term), leader_id, address: "" };
    }
    MembersAnswer::Members(LeaderMembers {
        leader_id: NodeId(node),
        term: Term(state.term),
        configuration_index: LogIndex(1 + state.changes.len() as u64),
        is_committed: true,
        last_index: LogIndex(100),
        rows: state.rows.clone(),
    })
}

fn change_member(node: u16, state: &mut State, change: MemberChange) -> ChangeOutcome<'static> {
    state.changes.push((node, change));
    if state.leader != Some(node) {
        let leader_id = state.leader.map(NodeId);
        return ChangeOutcome::NotLeader { term: Term(state.term), leader_id, address: "" };
    }
    if !state.change_script.is_empty() {
        return state.change_script.remove(0);
    }
    let Some(row) = state.rows.iter_mut().find(|row| row.node_id == change.node) else {
        return ChangeOutcome::UnknownMember;
    };
    match change.kind {
        ChangeKind::Promote => row.is_voter = true,
        ChangeKind::Replace => {
            (row.is_voter, row.incarnation, row.newcomer) = (false, change.incarnation, Incarnation(0));
        }
    }
    ChangeOutcome::Done
}

fn welcome(node: u16, state: &mut State, stream: &mut TcpStream) {
    let (term, leader) = state.claimed.unwrap_or((state.term, state.leader));
    let texts: Vec<(u16, String)> = state.members.iter().map(|(id, at)| (*id, at.to_string())).collect();
    let named = if state.named { &texts[..] } else { &[] };
    let accept = ClientHelloAccept {
        protocol: ProtocolOffer::OURS.protocol_max,
        features: 0,
        cluster_id: CLUSTER,
        node_id: NodeId(node),
        leader_id: leader.map(NodeId),
        term: Term(term),
        durability: Durability::Disk,
        event_bytes_max: crate::base::limits::EVENT_BYTES_MAX as u32,
        credit_events: state.credit.0,
        credit_bytes: state.credit.1,
        members: named.iter().map(|(id, at)| MemberAddress { node_id: NodeId(*id), address: at }).collect(),
    };
    send(stream, &ServerMessage::HelloReply(ClientHelloReply::Accept(accept)));
    state.streams.push((node, stream.try_clone().unwrap()));
    state.welcomed.push(node);
}

/// What a leader does: duplicates, gaps, new events.
fn take_publish(node: u16, state: &mut State, stream: &mut TcpStream, publish: &Publish<'_>) {
    let events: Vec<_> = publish.events().map(|event| event.unwrap()).collect();
    state.frames.push(events.iter().map(|event| event.sequence.0).collect());
    if state.lose_frame == Some(state.frames.len()) {
        return;
    }
    let mut runs: Vec<AckRun> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let sequence = event.sequence.0;
        let code = match state.refuse {
            Some(code) => Some(code),
            None if publish.epoch.0 < state.epoch => {
                Some(PublishErrorCode::Fenced { epoch: Epoch(state.epoch) })
            }
            None if sequence > state.expected => {
                Some(PublishErrorCode::SequenceGap { expected: Sequence(state.expected) })
            }
            None => None,
        };
        if let Some(code) = code {
            let (sequence, count) = (event.sequence, (events.len() - at) as u16);
            let error = PublishError { producer_id: PRODUCER, sequence, count, code, text: "refused" };
            send(stream, &ServerMessage::PublishError(error));
            break;
        }
        let known = state.log.iter().position(|(stored, _)| *stored == sequence);
        if known.is_none() {
            assert_eq!(sequence, state.expected);
            state.log.push((sequence, event.body.to_vec()));
            state.expected += 1;
        }
        let place = known.unwrap_or(state.log.len() - 1);
        let run = AckRun {
            producer_id: PRODUCER,
            first_sequence: event.sequence,
            first_offset: Offset(place as u64 + 1),
            count: 1,
            kind: if known.is_some() { AckKind::Duplicate } else { AckKind::Written },
        };
        if place >= state.ack_limit {
            state.held.push((node, stream.try_clone().unwrap(), run));
        } else {
            runs.push(run);
        }
    }
    if !runs.is_empty() {
        send_ack(stream, &runs);
    }
}

fn send_status(node: u16, state: &State, stream: &mut TcpStream, request_id: u64) {
    let leads = state.leader == Some(node);
    let status = StatusReply {
        request_id,
        node_id: NodeId(node),
        role: if leads { NodeRole::Leader } else { NodeRole::Follower },
        term: Term(state.term),
        leader_id: state.leader.map(NodeId),
        commit_index: LogIndex(5),
        last_index: LogIndex(6),
        flushed_index: LogIndex(5),
        first_offset: Offset(1),
        last_offset: Offset(3),
        log_checksum_index: LogIndex(5),
        log_checksum: 99,
        producers: 1,
        producers_checksum: 98,
        durability: Durability::Disk,
        uptime_ms: 12,
        version: "test",
        peers: Vec::new(),
        counters: vec![crate::protocol::client::Counter { name: "batches", value: 3 }],
    };
    send(stream, &ServerMessage::Status(Box::new(status)));
}

/// Sends all entries from the one that holds the start on, a frame each.
fn take_subscribe(node: u16, state: &mut State, stream: &mut TcpStream, wish: &Subscribe<'_>) {
    let behind = state.behind.iter().find(|(of, _)| *of == node);
    let committed = behind.map_or(state.entries.len(), |(_, entries)| *entries);
    let last = state.offsets[..committed].last().map_or(0, |(_, next)| next - 1);
    let start = match wish.from {
        SubscribeFrom::Earliest => 1,
        SubscribeFrom::Latest => last + 1,
        SubscribeFrom::Offset(offset) => offset.0,
    };
    state.subscribes.push((node, start, wish.subscription));
    let (commit_index, last_offset) = (LogIndex(committed as u64), Offset(last));
    let subscription = wish.subscription;
    send(
        stream,
        &ServerMessage::Subscribed { subscription, start_offset: Offset(start), commit_index, last_offset },
    );
    if state.unreadable.contains(&node) {
        let code = SubscriptionErrorCode::ReadFailed;
        let error = SubscriptionError { subscription, code, text: "bad sector" };
        return send(stream, &ServerMessage::SubscriptionError(error));
    }
    let limit = state.cut_after.pop();
    let from = state.offsets.partition_point(|(_, next)| *next <= start).min(committed);
    for (sent, entry) in state.entries[from..committed].iter().enumerate() {
        if limit == Some(sent) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let entries = crate::protocol::client::Entries {
            subscription,
            commit_index,
            last_offset,
            entry_count: 1,
            bytes: entry,
        };
        send(stream, &ServerMessage::Entries(entries));
    }
    send(stream, &ServerMessage::Progress { subscription, commit_index, last_offset });
}

/// A server that says whatever it is given to everybody who connects, and closes.
pub(super) fn babbler(words: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(&words);
            let mut hello = [0; 256];
            let _ = stream.read(&mut hello);
        }
    });
    address
}

/// An address where nobody listens.
pub(super) fn dead_address() -> SocketAddr {
    // Bound and never listening, for as long as the process lives: nobody else gets this port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}
