//! Handshakes under way.

use super::checks::{Refusal, check_client, check_incarnation, check_peer, known_peer, knows_better};
use super::{Conductor, FIRST_HANDSHAKE, Port};
use crate::agent::commands::{ConductorRequest, Contact, ContactVerdict, NewClient, NewPeer, PeerIdentity};
use crate::agent::connection::Connection;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::net::{Net, NetStream, Token};
use crate::protocol::client::{ClientHelloReply, ClientMessage, Purpose, ServerMessage};
use crate::protocol::frame::{Agreed, HELLO_FRAME_BYTES_MAX, ProtocolOffer, RefuseCode, split_frame_within};
use crate::protocol::peer::{KnownPeer, PeerFrame, PeerHello, PeerHelloReply, decode_peer_frame};

/// How far a handshake has come.
pub(super) enum Stage {
    /// A dial whose connection is not yet up.
    Connecting { peer: NodeId },
    /// We said hello to a peer and wait for its reply.
    AwaitReply { peer: NodeId },
    /// A peer's reply is good; its incarnation is being judged.
    AwaitReplyPin { peer: NodeId, identity: PeerIdentity },
    /// Somebody connected to the peer port and must say hello.
    AwaitPeerHello,
    /// A peer's hello is good; its incarnation is being judged.
    AwaitPin { peer: NodeId, identity: PeerIdentity, agreed: Agreed },
    /// Somebody connected to the client port and must say hello.
    AwaitClientHello,
}

impl Stage {
    /// What the batcher is asked about it.
    const fn contact(&self) -> Option<Contact> {
        match *self {
            Self::AwaitReplyPin { peer, identity } => Some(Contact { peer, identity, has_accepted: true }),
            Self::AwaitPin { peer, identity, .. } => Some(Contact { peer, identity, has_accepted: false }),
            _ => None,
        }
    }

    /// Somebody connected to this port and has said nothing yet.
    pub(super) const fn is_stranger_on(&self, port: Port) -> bool {
        match port {
            Port::Peer => matches!(self, Self::AwaitPeerHello),
            Port::Client => matches!(self, Self::AwaitClientHello),
        }
    }
}

/// One connection that is nobody's yet.
pub(super) struct Handshake<S> {
    /// `None` once the socket was handed on.
    pub(super) connection: Option<Connection<S>>,
    pub(super) stage: Stage,
    pub(super) deadline_ns: u64,
    handed_over: bool,
}

impl<S: NetStream> Handshake<S> {
    pub(super) fn new(stream: S, stage: Stage, deadline_ns: u64) -> Self {
        // Connecting: not writable before the system says so.
        let mut connection = Connection::new(stream, (HELLO_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX), &[]);
        connection.writable = !matches!(stage, Stage::Connecting { .. });
        Self { connection: Some(connection), stage, deadline_ns, handed_over: false }
    }
}

/// What a whole hello comes to.
enum Heard {
    /// A client, let in.
    Client(Purpose, Agreed),
    /// A peer, let in if its incarnation is the pinned one.
    Peer(Stage),
}

/// What a turn of one handshake came to.
enum Outcome {
    /// Nothing yet.
    Waiting,
    /// Something moved; look again.
    Moved,
    /// Over: the socket was handed on or is to be closed.
    Over,
    /// Refused: say why, then close.
    Refuse(Refusal),
}

impl<N: Net> Conductor<N> {
    pub(super) fn begin_inbound(&mut self, port: Port, stream: N::Stream) {
        let stage = match port {
            Port::Peer => Stage::AwaitPeerHello,
            Port::Client => Stage::AwaitClientHello,
        };
        let deadline_ns = self.now_ns + self.settings.handshake_timeout_ns;
        self.begin(Handshake::new(stream, stage, deadline_ns));
    }

    pub(super) fn begin(&mut self, mut handshake: Handshake<N::Stream>) {
        let slot = self.handshakes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.handshakes.push(None);
            self.handshakes.len() - 1
        });
        let token = Token(FIRST_HANDSHAKE + slot as u32);
        if let Some(connection) = handshake.connection.as_mut()
            && self.net.register(&mut connection.stream, token).is_err()
        {
            self.close(handshake);
            return;
        }
        self.handshakes[slot] = Some(handshake);
    }

    /// One handshake's turn.
    pub(super) fn advance(&mut self, slot: usize) -> usize {
        let Some(mut handshake) = self.handshakes[slot].take() else { return 0 };
        let mut work = 0;
        loop {
            match self.step(&mut handshake) {
                Outcome::Waiting => break,
                Outcome::Moved => work += 1,
                Outcome::Over => return self.close(handshake),
                Outcome::Refuse(refusal) => return self.refuse(handshake, &refusal),
            }
        }
        if handshake.deadline_ns <= self.now_ns {
            self.counters.timed_out.increment();
            return self.close(handshake);
        }
        self.handshakes[slot] = Some(handshake);
        work
    }

    fn step(&mut self, handshake: &mut Handshake<N::Stream>) -> Outcome {
        match handshake.stage {
            Stage::Connecting { peer } => self.say_hello(handshake, peer),
            Stage::AwaitReplyPin { .. } | Stage::AwaitPin { .. } => Outcome::Waiting,
            Stage::AwaitReply { .. } | Stage::AwaitPeerHello | Stage::AwaitClientHello => {
                self.listen(handshake)
            }
        }
    }

    fn say_hello(&mut self, handshake: &mut Handshake<N::Stream>, peer: NodeId) -> Outcome {
        let Some(connection) = handshake.connection.as_mut() else { return Outcome::Over };
        if !connection.writable {
            return Outcome::Waiting;
        }
        match connection.stream.poll_connected() {
            Ok(true) => {}
            Ok(false) => {
                connection.writable = false;
                return Outcome::Waiting;
            }
            Err(error) => {
                self.note_dial_error(peer, &error);
                return Outcome::Over;
            }
        }
        let s = &self.settings;
        let hello = PeerHello {
            offer: ProtocolOffer::OURS,
            cluster_id: s.cluster_id,
            from: s.node_id,
            to: peer,
            incarnation: s.incarnation,
            group: s.group,
            durability: s.durability,
            cluster_version: s.cluster_version,
            configuration_index: s.configuration_index,
        };
        connection.outbox.push_with(|out| hello.encode(out));
        if connection.write().is_err() {
            return Outcome::Over;
        }
        handshake.stage = Stage::AwaitReply { peer };
        Outcome::Moved
    }

    /// Reads until a whole hello (or reply) is there.
    fn listen(&mut self, handshake: &mut Handshake<N::Stream>) -> Outcome {
        let Some(connection) = handshake.connection.as_mut() else { return Outcome::Over };
        let closed = match connection.read(HELLO_FRAME_BYTES_MAX) {
            Ok(result) => result.closed,
            Err(_) => return Outcome::Over,
        };
        let malformed = |text: String| Outcome::Refuse((RefuseCode::Malformed, text));
        match connection.whole_frame_bytes(HELLO_FRAME_BYTES_MAX) {
            Ok(Some(_)) => self.heard(handshake),
            Ok(None) if closed => Outcome::Over,
            Ok(None) => Outcome::Waiting,
            Err(error) => malformed(error.to_string()),
        }
    }

    /// A whole frame is at the front of the inbox.
    fn heard(&mut self, handshake: &mut Handshake<N::Stream>) -> Outcome {
        let Some(mut connection) = handshake.connection.take() else { return Outcome::Over };
        let outcome = self.understand(handshake, &mut connection);
        handshake.connection = Some(connection);
        match outcome {
            Ok(Heard::Client(purpose, agreed)) => self.welcome_client(handshake, purpose, agreed),
            Ok(Heard::Peer(stage)) => {
                handshake.stage = stage;
                self.judge_or_go_on(handshake)
            }
            Err(outcome) => outcome,
        }
    }

    /// Decodes and checks the frame at the front of the inbox, and consumes it.
    fn understand(
        &mut self,
        handshake: &Handshake<N::Stream>,
        connection: &mut Connection<N::Stream>,
    ) -> Result<Heard, Outcome> {
        let malformed = |text: String| Outcome::Refuse((RefuseCode::Malformed, text));
        let unread = connection.inbox.unread();
        let (frame, consumed) = match split_frame_within(unread, HELLO_FRAME_BYTES_MAX) {
            Ok(Some(split)) => split,
            Ok(None) => return Err(Outcome::Waiting),
            Err(error) => return Err(malformed(error.to_string())),
        };
        let heard = if matches!(handshake.stage, Stage::AwaitClientHello) {
            match ClientMessage::decode(frame) {
                Ok(ClientMessage::Hello(hello)) => {
                    check_client(&self.settings, hello.cluster_id, hello.offer)
                        .map(|agreed| Heard::Client(hello.purpose, agreed))
                        .map_err(Outcome::Refuse)
                }
                Ok(_) => Err(malformed("the first frame must be a hello".to_owned())),
                Err(error) => Err(malformed(error.to_string())),
            }
        } else {
            match (&handshake.stage, decode_peer_frame(frame)) {
                (Stage::AwaitPeerHello, Ok(PeerFrame::Hello(hello))) => {
                    self.heard_hello(&hello).map(Heard::Peer)
                }
                (Stage::AwaitReply { peer }, Ok(PeerFrame::HelloReply(reply))) => {
                    self.heard_reply(*peer, &reply).map(Heard::Peer)
                }
                (_, Ok(_)) => Err(malformed("the first frame must be a hello".to_owned())),
                (_, Err(error)) => Err(malformed(error.to_string())),
            }
        };
        connection.inbox.consume(consumed);
        heard
    }

    fn heard_hello(&mut self, hello: &PeerHello) -> Result<Stage, Outcome> {
        let agreed = match check_peer(&self.settings, &self.pins, hello) {
            Ok(agreed) => agreed,
            Err(refusal) => {
                if refusal.0 == RefuseCode::IncarnationMismatch {
                    self.note_refused(hello.from, hello.incarnation);
                }
                return Err(Outcome::Refuse(refusal));
            }
        };
        let identity =
            PeerIdentity { incarnation: hello.incarnation, configuration_index: hello.configuration_index };
        Ok(Stage::AwaitPin { peer: hello.from, identity, agreed })
    }

    fn heard_reply(&mut self, peer: NodeId, reply: &PeerHelloReply<'_>) -> Result<Stage, Outcome> {
        match reply {
            PeerHelloReply::Accept { node_id, incarnation, configuration_index, .. } if *node_id == peer => {
                let identity =
                    PeerIdentity { incarnation: *incarnation, configuration_index: *configuration_index };
                match check_incarnation(&self.settings, &self.pins, peer, identity) {
                    Ok(()) => Ok(Stage::AwaitReplyPin { peer, identity }),
                    Err((code, text)) => {
                        if code == RefuseCode::IncarnationMismatch {
                            self.note_refused(peer, *incarnation);
                        }
                        Err(self.dial_refused(peer, &format!("not connected to node {peer}: {text}")))
                    }
                }
            }
            PeerHelloReply::Accept { node_id, .. } => {
                let text = format!("node {node_id} answers at node {peer}'s address; check the `nodes` list");
                Err(self.dial_refused(peer, &text))
            }
            PeerHelloReply::Refuse { code, text } => {
                if *code == RefuseCode::IncarnationMismatch {
                    // A hint that comes again with the next dial.
                    let _ = self.rings.to_batcher.push(ConductorRequest::RefusedBy(peer));
                }
                Err(self.dial_refused(peer, &format!("node {peer} refuses this node: {text}")))
            }
        }
    }

    /// Another formatting of a member's disk has shown up: the leader offers it to operators. A hint that comes again with
    /// the next dial.
    fn note_refused(&mut self, peer: NodeId, incarnation: Incarnation) {
        let _ = self.rings.to_batcher.push(ConductorRequest::Refused { peer, incarnation });
    }

    fn dial_refused(&mut self, peer: NodeId, text: &str) -> Outcome {
        self.counters.refused.increment();
        let now_ns = self.now_ns;
        if let Some(dial) = self.dial_of(peer) {
            if dial.tell_refusal(text) {
                tracing::error!("{text}");
            }
            dial.refused(now_ns);
        }
        Outcome::Over
    }

    /// Known incarnations go on at once; a first contact is for the batcher to judge, and pinned durably first where it
    /// is to be pinned.
    fn judge_or_go_on(&mut self, handshake: &mut Handshake<N::Stream>) -> Outcome {
        let Some(contact) = handshake.stage.contact() else { return Outcome::Waiting };
        let identity = contact.identity;
        let known = known_peer(&self.settings, &self.pins, contact.peer);
        if known == KnownPeer::Pinned(identity.incarnation) || knows_better(&self.settings, identity, known) {
            return self.hand_over_peer(handshake);
        }
        match self.rings.to_batcher.push(ConductorRequest::Contact(contact)) {
            Ok(()) => Outcome::Waiting,
            Err(_) => Outcome::Over,
        }
    }

    /// The batcher has judged a contact: the handshakes that waited for it go on.
    pub(super) fn contact_decided(&mut self, decided: Contact, verdict: ContactVerdict) {
        let Contact { peer, identity, .. } = decided;
        for slot in 0..self.handshakes.len() {
            let contact = self.handshakes[slot].as_ref().and_then(|handshake| handshake.stage.contact());
            if contact != Some(decided) {
                continue;
            }
            let Some(mut handshake) = self.handshakes[slot].take() else { continue };
            if verdict != ContactVerdict::Refused {
                let _ = self.hand_over_peer(&mut handshake);
                self.close(handshake);
            } else if let Err(refusal) = check_incarnation(&self.settings, &self.pins, peer, identity) {
                self.refuse(handshake, &refusal);
            } else {
                self.close(handshake);
            }
        }
    }

    /// Gives the socket to the peer's agent. What stays behind in `handshake` is an empty shell.
    fn hand_over_peer(&mut self, handshake: &mut Handshake<N::Stream>) -> Outcome {
        let (peer, is_inbound, identity) = match handshake.stage {
            Stage::AwaitPin { peer, agreed, identity } => {
                let accept = PeerHelloReply::Accept {
                    protocol: agreed.protocol,
                    features: agreed.features,
                    node_id: self.settings.node_id,
                    incarnation: self.settings.incarnation,
                    configuration_index: self.settings.configuration_index,
                };
                let group = self.settings.group;
                let Some(connection) = handshake.connection.as_mut() else { return Outcome::Over };
                connection.outbox.push_with(|out| accept.encode(group, out));
                if connection.write().is_err() || !connection.outbox.is_empty() {
                    return Outcome::Over;
                }
                (peer, true, identity)
            }
            Stage::AwaitReplyPin { peer, identity } => (peer, false, identity),
            _ => return Outcome::Waiting,
        };
        let Some((stream, leftover)) = self.take_socket(handshake) else { return Outcome::Over };
        let rings = if is_inbound { &mut self.rings.to_receivers } else { &mut self.rings.to_senders };
        let Some((_, ring)) = rings.iter_mut().find(|(node, _)| *node == peer) else { return Outcome::Over };
        if let Err(back) = ring.push(NewPeer { stream, leftover, identity }) {
            let mut stream = back.stream;
            stream.shutdown();
            if !is_inbound {
                self.dial_failed(peer);
            }
        } else if let Some(dial) = self.dial_of(peer) {
            if is_inbound {
                dial.inbound_stands();
            } else {
                dial.connected();
            }
        }
        handshake.handed_over = true;
        Outcome::Over
    }

    fn welcome_client(
        &mut self,
        handshake: &mut Handshake<N::Stream>,
        purpose: Purpose,
        agreed: Agreed,
    ) -> Outcome {
        if !self.rings.gauge.try_enter(self.settings.connections_limit) {
            let text = "too many client connections; raise limits.connections_max or close some".to_owned();
            return Outcome::Refuse((RefuseCode::TooManyConnections, text));
        }
        let Some((stream, leftover)) = self.take_socket(handshake) else { return Outcome::Over };
        let new =
            NewClient { stream, purpose, protocol: agreed.protocol, features: agreed.features, leftover };
        let ring = match purpose {
            Purpose::Subscriber => &mut self.rings.to_delivery,
            Purpose::Publisher | Purpose::Control => &mut self.rings.to_dispatcher,
        };
        if let Err(mut back) = ring.push(new) {
            back.stream.shutdown();
            self.rings.gauge.leave();
        }
        handshake.handed_over = true;
        Outcome::Over
    }

    /// Takes the socket out, no longer registered here, with the bytes that were read too far.
    fn take_socket(&mut self, handshake: &mut Handshake<N::Stream>) -> Option<(N::Stream, Vec<u8>)> {
        let mut connection = handshake.connection.take()?;
        if self.net.deregister(&mut connection.stream).is_err() {
            connection.stream.shutdown();
            return None;
        }
        let leftover = connection.inbox.unread().to_vec();
        Some((connection.stream, leftover))
    }

    fn refuse(&mut self, mut handshake: Handshake<N::Stream>, (code, text): &Refusal) -> usize {
        self.counters.refused.increment();
        if *code == RefuseCode::Malformed {
            self.counters.malformed.increment();
        }
        let group = self.settings.group;
        if let Some(connection) = handshake.connection.as_mut() {
            if self.refusals_told.is_news(text, self.now_ns) {
                tracing::warn!("refusing {}: {text}", connection.stream.peer_label());
            }
            match handshake.stage {
                Stage::AwaitClientHello => {
                    let reply = ServerMessage::HelloReply(ClientHelloReply::Refuse { code: *code, text });
                    connection.outbox.push_with(|out| reply.encode(group, out));
                }
                Stage::AwaitPeerHello | Stage::AwaitPin { .. } => {
                    let reply = PeerHelloReply::Refuse { code: *code, text };
                    connection.outbox.push_with(|out| reply.encode(group, out));
                }
                _ => {}
            }
            // Best effort: a refusal fits any socket buffer, and nobody is owed more.
            let _ = connection.write();
        }
        self.close(handshake)
    }

    /// Ends a handshake. A dial that did not come through is tried again later.
    pub(super) fn close(&mut self, mut handshake: Handshake<N::Stream>) -> usize {
        if let Some(mut connection) = handshake.connection.take() {
            let _ = self.net.deregister(&mut connection.stream);
            connection.stream.shutdown();
        }
        if !handshake.handed_over
            && let Stage::Connecting { peer } | Stage::AwaitReply { peer } | Stage::AwaitReplyPin { peer, .. } =
                handshake.stage
            && self.dial_of(peer).is_some_and(|dial| dial.due_ns().is_none())
        {
            self.dial_failed(peer);
        }
        1
    }
}
