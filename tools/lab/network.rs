//! The network of a cluster, made of proxies: one for each ordered pair of nodes, and one in front of each node for
//! clients.
//!
//! Each pair of nodes has two one-way streams, each written by its dialler. A cut of the way from A to B holds up what
//! A says on its own stream and what A would answer on B's (which is nothing after the handshake); what B says to A
//! still arrives. On a real network B would stall too, for want of TCP's acknowledgements, as soon as its window is
//! full: this cut is the harder one for a consensus algorithm.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tercet::base::ids::NodeId;

use super::ports::free_addresses;
use super::proxy::{Direction, LinkId, Proxy, Traffic};

#[derive(Clone, Copy)]
struct Link {
    id: LinkId,
    address: SocketAddr,
}

/// All links of a cluster. Everything passes at first.
pub struct Network {
    proxy: Proxy,
    /// By who dials and who is dialled.
    peers: BTreeMap<(NodeId, NodeId), Link>,
    clients: BTreeMap<NodeId, Link>,
}

impl Network {
    /// Proxies for nodes at these addresses: id, client address, peer address.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(nodes: &[(NodeId, SocketAddr, SocketAddr)]) -> io::Result<Self> {
        let proxy = Proxy::start()?;
        let mut addresses = free_addresses(nodes.len() * nodes.len())?.into_iter();
        let mut add = |target: SocketAddr| {
            let address = addresses.next().ok_or_else(|| io::Error::other("too few addresses"))?;
            Ok::<Link, io::Error>(Link { id: proxy.add(address, target)?, address })
        };
        let (mut peers, mut clients) = (BTreeMap::new(), BTreeMap::new());
        for (to, client, peer) in nodes {
            clients.insert(*to, add(*client)?);
            for (from, _, _) in nodes.iter().filter(|(from, _, _)| from != to) {
                peers.insert((*from, *to), add(*peer)?);
            }
        }
        Ok(Self { proxy, peers, clients })
    }

    /// Where `from` reaches `to`.
    #[must_use]
    pub fn peer_address(&self, from: NodeId, to: NodeId) -> Option<SocketAddr> {
        self.peers.get(&(from, to)).map(|link| link.address)
    }

    /// Where clients reach a node.
    #[must_use]
    pub fn client_address(&self, node: NodeId) -> Option<SocketAddr> {
        self.clients.get(&node).map(|link| link.address)
    }

    /// What happens to whatever `from` sends to `to`, on both of their streams.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn set_way(&self, from: NodeId, to: NodeId, traffic: Traffic) -> io::Result<()> {
        if let Some(own) = self.peers.get(&(from, to)) {
            self.proxy.set(own.id, Direction::Forward, traffic)?;
        }
        if let Some(others) = self.peers.get(&(to, from)) {
            self.proxy.set(others.id, Direction::Backward, traffic)?;
        }
        Ok(())
    }

    /// The same both ways.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn set_pair(&self, one: NodeId, other: NodeId, traffic: Traffic) -> io::Result<()> {
        self.set_way(one, other, traffic)?;
        self.set_way(other, one, traffic)
    }

    /// What happens between a node and its clients.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn set_clients(&self, node: NodeId, traffic: Traffic) -> io::Result<()> {
        let Some(link) = self.clients.get(&node) else { return Ok(()) };
        self.proxy.set(link.id, Direction::Forward, traffic)?;
        self.proxy.set(link.id, Direction::Backward, traffic)
    }

    /// Cuts a node off from all others, and from its clients if `with_clients` says so.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn isolate(&self, node: NodeId, with_clients: bool) -> io::Result<()> {
        // Clients first: what the node still hears from its peers must not be acknowledged to them.
        if with_clients {
            self.set_clients(node, Traffic::Cut)?;
        }
        for other in self.nodes().filter(|other| *other != node) {
            self.set_pair(node, other, Traffic::Cut)?;
        }
        Ok(())
    }

    /// Every connection to a node is refused, for its peers and its clients. Those that stand are reset, or left to
    /// the node's own end where `reset` is false.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn refuse_node(&self, node: NodeId, reset: bool) -> io::Result<()> {
        self.links_to(node).try_for_each(|link| self.proxy.refuse(link.id, reset))
    }

    /// Clients of a node are refused.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn refuse_clients(&self, node: NodeId) -> io::Result<()> {
        self.clients.get(&node).map_or(Ok(()), |link| self.proxy.refuse(link.id, true))
    }

    /// A node is reachable again after [`refuse_node`](Self::refuse_node) or [`refuse_clients`](Self::refuse_clients).
    ///
    /// # Errors
    /// When somebody else has taken a port.
    pub fn listen_node(&self, node: NodeId) -> io::Result<()> {
        self.links_to(node).try_for_each(|link| self.proxy.listen(link.id))
    }

    /// All cuts and delays end. Links that refuse go on refusing.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn heal(&self) -> io::Result<()> {
        for link in self.peers.values().chain(self.clients.values()) {
            self.proxy.set(link.id, Direction::Forward, Traffic::Pass)?;
            self.proxy.set(link.id, Direction::Backward, Traffic::Pass)?;
        }
        Ok(())
    }

    /// Every pair of nodes is delayed by as much each way.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn delay_all(&self, delay: Duration) -> io::Result<()> {
        for (from, to) in self.peers.keys() {
            self.set_way(*from, *to, Traffic::Delay(delay))?;
        }
        Ok(())
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.clients.keys().copied()
    }

    fn links_to(&self, node: NodeId) -> impl Iterator<Item = &Link> {
        let peers = self.peers.iter().filter(move |((_, to), _)| *to == node).map(|(_, link)| link);
        peers.chain(self.clients.get(&node))
    }
}
