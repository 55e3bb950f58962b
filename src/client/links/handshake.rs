//! The client's side of the handshake: hello, and what the node's answer means.

use super::link::Stage;
use super::{Credit, GROUP, Handler, LinkRef, Links};
use crate::base::clock::NS_PER_S;
use crate::base::ids::ClusterId;
use crate::base::net::NetStream;
use crate::client::error::ClientError;
use crate::protocol::client::{ClientHello, ClientHelloReply, ClientMessage};
use crate::protocol::frame::{ProtocolOffer, RefuseCode, negotiate};

/// A second way to a node that is connected already is looked at again after this.
const ALIAS_PAUSE_NS: u64 = 30 * NS_PER_S;

impl Links {
    /// Says hello once a dial has come through; false while it has not.
    pub(super) fn greet(&mut self, slot: usize) -> bool {
        let link = &mut self.links[slot];
        let Some(stream) = link.stream.as_mut().filter(|_| link.writable) else { return false };
        match stream.poll_connected() {
            Ok(true) => {}
            Ok(false) => {
                link.writable = false;
                return false;
            }
            Err(error) => {
                self.fail(slot, error.to_string());
                return false;
            }
        }
        let hello = ClientMessage::Hello(ClientHello {
            offer: ProtocolOffer::OURS,
            purpose: self.manners.purpose,
            cluster_id: self.cluster_id.unwrap_or(ClusterId(0)),
            name: &self.manners.name,
        });
        link.out.push_with(|out| hello.encode(GROUP, out));
        if let Stage::Dialing { deadline_ns } = link.stage {
            link.stage = Stage::Greeting { deadline_ns };
        }
        self.write(slot);
        true
    }

    /// The node's answer to our hello. `Some` is the reason why the connection must go, for now.
    pub(super) fn welcome(
        &mut self,
        link: LinkRef,
        reply: &ClientHelloReply<'_>,
        handler: &mut impl Handler,
    ) -> Result<Option<String>, ClientError> {
        let server = self.address_of(link);
        let accept = match reply {
            ClientHelloReply::Accept(accept) => accept,
            ClientHelloReply::Refuse { code, text } if code.is_transient() => {
                return Ok(Some(format!("the node refuses: {text}")));
            }
            ClientHelloReply::Refuse { code: RefuseCode::WrongCluster, text } => {
                return self.unwelcome(ClientError::WrongCluster { server, text: (*text).to_owned() });
            }
            ClientHelloReply::Refuse { text, .. } => {
                return self.unwelcome(ClientError::Refused { server, text: (*text).to_owned() });
            }
        };
        let chosen =
            ProtocolOffer { protocol_min: accept.protocol, protocol_max: accept.protocol, features: 0 };
        if negotiate(ProtocolOffer::OURS, chosen).is_none() {
            let text = format!("it chose protocol {}, which this client does not speak", accept.protocol);
            return self.unwelcome(ClientError::Refused { server, text });
        }
        if *self.cluster_id.get_or_insert(accept.cluster_id) != accept.cluster_id {
            let text = format!("cluster {}", accept.cluster_id);
            return self.unwelcome(ClientError::WrongCluster { server, text });
        }
        let now_ns = self.now_ns();
        let known_elsewhere = self.of_node(accept.node_id).is_some();
        let found = &mut self.links[link.slot];
        found.node = Some(accept.node_id);
        if known_elsewhere && !self.manners.aliases {
            self.close(link.slot, now_ns.saturating_add(ALIAS_PAUSE_NS));
            return Ok(None);
        }
        found.stage = Stage::Ready { since_ns: now_ns };
        found.credit = Credit {
            events: accept.credit_events as usize,
            bytes: accept.credit_bytes as usize,
            event_bytes_max: accept.event_bytes_max as usize,
        };
        for member in &accept.members {
            self.learn(link, member.node_id, member.address);
        }
        handler.greeted(self, link, accept)?;
        Ok(None)
    }

    fn unwelcome(&self, error: ClientError) -> Result<Option<String>, ClientError> {
        if self.manners.strict { Err(error) } else { Ok(Some(error.to_string())) }
    }
}
