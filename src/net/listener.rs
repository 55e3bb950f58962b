//! Listening ports.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Connections that the system holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// A port could not be opened. The text says what to do about it.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("{address} is in use: is a node running already? Stop it, or configure another port")]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{address} is not an address of this machine: configure one that is, or 0.0.0.0")]
    NotOurs {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens a non-blocking listener. `SO_REUSEADDR` lets a restarted node have its port back at once although old
/// connections linger in TIME_WAIT; it does not let two nodes share one.
///
/// # Errors
/// [`BindError`], which names the address.
pub fn bind_listener(address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { address },
        _ => BindError::Other { address, source },
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
