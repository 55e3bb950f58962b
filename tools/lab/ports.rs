//! Ports for nodes and proxies.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that systems give to outgoing connections, so that none of those takes the port of a node while it
/// is down.
const PORTS: Range<u16> = 12_000..14_000;

/// How far this process has come; clusters of one process never share a port.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// So many loopback addresses that nobody listens at now. Two processes begin at different places.
///
/// # Errors
/// When the range is used up.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    free_addresses_in(PORTS, count)
}

/// As [`free_addresses`], of another range: who has this file as a module of its own must not share one with others in
/// its process.
///
/// # Errors
/// When the range is used up.
pub fn free_addresses_in(ports: Range<u16>, count: usize) -> io::Result<Vec<SocketAddr>> {
    let span = ports.end - ports.start;
    let begin = (std::process::id().wrapping_mul(97) % u32::from(span)) as u16;
    // All are held until all are known.
    let mut held = Vec::new();
    for _ in 0..span {
        let place = (begin + NEXT.fetch_add(1, Ordering::Relaxed) % span) % span;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.start + place)) {
            held.push(listener);
        }
        if held.len() == count {
            return held.iter().map(TcpListener::local_addr).collect();
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("fewer than {count} ports are free in {ports:?}")))
}
