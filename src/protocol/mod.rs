//! Floor 2: what the bytes between machines mean.
//!
//! - [`frame`]: the length-prefixed, checksummed envelope, the kinds, errors and handshake parts that both ports share;
//! - [`peer`]: what nodes say to each other (knows the Raft messages);
//! - [`client`]: what clients and nodes say to each other (knows nothing of Raft).
//!
//! Every decoder here is total: any bytes give a value, 'need more', or a typed error, and no count or length is
//! believed before it was compared with its limit. Every accepted message encodes to the bytes it came from, so
//! there is one encoding of each message. Layouts and dumps: `docs/NETWORK_PROTOCOL.md`.

pub mod client;
pub mod frame;
pub mod peer;
