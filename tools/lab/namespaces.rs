//! Nodes on hosts of their own, as far as the network goes: a network namespace for each, joined by a bridge. A link that
//! is down loses packets as a pulled cable does: nothing is closed, nothing is refused, and TCP's own retransmissions
//! and timeouts take part.
//!
//! Needs no privileges where the system lets users make namespaces: everything happens inside a user namespace, which
//! leaves nothing behind. So a test runs itself once more inside one, see [`enter`].

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tercet::base::ids::NodeId;

use super::error::{LabError, LabResult};

/// Set in the process that runs inside.
const INSIDE: &str = "LAB_NAMESPACES";
/// What makes a namespace in which this user may do anything to the network.
const UNSHARE: [&str; 5] = ["--user", "--map-root-user", "--net", "--mount", "--"];
/// `ip netns` keeps its names here; a mount of the inner namespace hides the system's own.
const RUN: &str = "/run";
const CLIENT_PORT: u16 = 7_001;
const PEER_PORT: u16 = 7_002;

/// Where a test stands.
pub enum Entered {
    /// Inside: go on.
    Inside,
    /// The test has run inside and passed.
    Passed,
    /// It cannot run here, for this reason.
    Refused(String),
}

/// Runs the test of this name of the running test binary inside namespaces of its own, unless this is already there.
///
/// # Errors
/// When the test fails inside.
pub fn enter(test: &str) -> LabResult<Entered> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Entered::Inside);
    }
    let probe = "mount -t tmpfs tmpfs /run && ip link add br0 type bridge && ip netns add probe && \
                 nsenter --net=/run/netns/probe ip link set lo up";
    let tried = Command::new("unshare").args(UNSHARE).args(["sh", "-c", probe]).stdin(Stdio::null()).output();
    let refused = match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(reason) = refused {
        return Ok(Entered::Refused(reason));
    }
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg(std::env::current_exe()?).args(["--exact", test, "--nocapture"]);
    let status = command.env(INSIDE, "1").stdin(Stdio::null()).status()?;
    if !status.success() {
        return Err(LabError::Failed(format!("{test} fails inside its namespaces ({status})")));
    }
    Ok(Entered::Passed)
}

/// The hosts, as seen from the one in the middle, where the tool and its clients are.
pub struct Namespaces {
    nodes: u16,
}

fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> LabResult<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let line: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Failed(format!("{program} {}: {said}", line.join(" "))))
}

fn ip(line: &str) -> LabResult<()> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

impl Namespaces {
    /// A namespace for each node, id 1 and up, all linked. Only for a process inside (see [`enter`]), once.
    ///
    /// # Errors
    /// As the system's tools say.
    pub fn create(nodes: u16) -> LabResult<Self> {
        run("mount", &["-t", "tmpfs", "tmpfs", RUN])?;
        ip("link set lo up")?;
        ip("link add br0 type bridge")?;
        ip("addr add 10.77.0.254/24 dev br0")?;
        ip("link set br0 up")?;
        for id in 1..=nodes {
            ip(&format!("netns add n{id}"))?;
            ip(&format!("link add v{id} type veth peer name eth0 netns n{id}"))?;
            ip(&format!("link set v{id} master br0"))?;
            ip(&format!("link set v{id} up"))?;
            ip(&format!("-n n{id} addr add 10.77.0.{id}/24 dev eth0"))?;
            ip(&format!("-n n{id} link set eth0 up"))?;
            ip(&format!("-n n{id} link set lo up"))?;
        }
        Ok(Self { nodes })
    }

    /// Of each node: id, client address, peer address.
    #[must_use]
    pub fn addresses(&self) -> Vec<(NodeId, SocketAddr, SocketAddr)> {
        let host = |id: u16| Ipv4Addr::new(10, 77, 0, id as u8);
        let of = |id: u16| (NodeId(id), (host(id), CLIENT_PORT).into(), (host(id), PEER_PORT).into());
        (1..=self.nodes).map(of).collect()
    }

    /// What to put before a command so that it runs on a node's host.
    #[must_use]
    pub fn prefix(&self, id: NodeId) -> Vec<OsString> {
        let path = PathBuf::from(RUN).join("netns").join(format!("n{id}"));
        let mut net = OsString::from("--net=");
        net.push(path);
        vec!["nsenter".into(), net]
    }

    /// Pulls a node's cable, or plugs it in again.
    ///
    /// # Errors
    /// As `ip` says.
    pub fn set_link(&self, id: NodeId, up: bool) -> LabResult<()> {
        ip(&format!("link set v{id} {}", if up { "up" } else { "down" }))
    }
}
