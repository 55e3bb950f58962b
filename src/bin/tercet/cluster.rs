//! A local cluster of real node processes, for `dev` and `demo`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tercet::base::ids::NodeId;
use tercet::config::{NodeAddresses, Settings, ThreadingMode};
use tercet::entry::Durability;

use crate::exit::{FAILED, Failure};

/// What a cluster is made of.
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// Node directories and settings lie here.
    pub dir: PathBuf,
    /// Client port and peer port of each node, in the order of their ids.
    pub ports: Vec<(u16, u16)>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Threads.
    pub threads: ThreadingMode,
    /// Whether nodes' logs go to files instead of our stderr.
    pub quiet: bool,
}

/// One node's process.
pub struct NodeProcess {
    /// Its id.
    pub id: NodeId,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    config: PathBuf,
    log: Option<PathBuf>,
    child: Option<Child>,
    ready: Option<Receiver<()>>,
    last_line: Arc<Mutex<String>>,
}

/// The cluster.
pub struct Cluster {
    /// Its nodes, in order of their ids.
    pub nodes: Vec<NodeProcess>,
}

/// For so long a process may outlive its stderr.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// Where ports are looked for: below those that systems give to connections, one of which would take the port of a node
/// that is killed and started again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Client and peer ports for so many nodes that nobody listens at now.
pub fn free_ports(nodes: u16) -> std::io::Result<Vec<(u16, u16)>> {
    // All are held until all are known, so that none is given twice.
    let (mut held, wanted) = (Vec::new(), 2 * usize::from(nodes));
    let count = u32::from(PORTS.end - PORTS.start);
    for next in 0..count {
        // A step that has no factor in common with the range visits all of it.
        let place = std::process::id().wrapping_add(next).wrapping_mul(7919) % count;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + place as u16)) {
            Ok(listener) => held.push(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if held.len() == wanted {
            break;
        }
    }
    if held.len() < wanted {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    held.chunks_exact(2).map(|pair| Ok((port(&pair[0])?, port(&pair[1])?))).collect()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Cluster {
    /// Writes settings, formats directories that are new, and starts every node.
    pub fn start(plan: &Plan) -> Result<Self, Failure> {
        fs::create_dir_all(&plan.dir)
            .map_err(|error| Failure::usage(format!("cannot create {}: {error}", plan.dir.display())))?;
        let addresses: Vec<NodeAddresses> = plan
            .ports
            .iter()
            .zip(1..)
            .map(|((client, peer), id)| NodeAddresses {
                id: NodeId(id),
                client: local(*client),
                peer: local(*peer),
            })
            .collect();
        let mut nodes = Vec::new();
        for own in &addresses {
            nodes.push(prepare(plan, &addresses, own)?);
        }
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.start()?;
        }
        Ok(cluster)
    }

    /// Waits until every node has said that it is ready.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        for node in &mut self.nodes {
            node.wait_ready(deadline)?;
        }
        Ok(())
    }

    /// Client addresses, comma-separated.
    pub fn servers(&self) -> String {
        let list: Vec<String> = self.nodes.iter().map(|node| node.client.to_string()).collect();
        list.join(",")
    }

    /// Asks every node to end and waits; after `limit` they are killed.
    pub fn stop(&mut self, limit: Duration) -> bool {
        for node in &self.nodes {
            node.signal(rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + limit;
        let mut clean = true;
        for node in &mut self.nodes {
            clean &= node.wait_end(deadline);
        }
        clean
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

fn prepare(plan: &Plan, addresses: &[NodeAddresses], own: &NodeAddresses) -> Result<NodeProcess, Failure> {
    let data_dir = plan.dir.join(format!("node-{}", own.id));
    let mut settings = Settings::with_defaults(plan.name, own.id, data_dir.clone(), addresses);
    settings.log.durability = plan.durability;
    settings.threads.mode = plan.threads;
    let config = plan.dir.join(format!("node-{}.toml", own.id));
    fs::write(&config, settings.render())
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", config.display())))?;
    if !data_dir.join("identity").exists() {
        tercet::node::format(&settings)?;
    }
    let log = plan.quiet.then(|| plan.dir.join(format!("node-{}.log", own.id)));
    Ok(NodeProcess {
        id: own.id,
        client: own.client,
        data_dir,
        config,
        log,
        child: None,
        ready: None,
        last_line: Arc::default(),
    })
}

impl NodeProcess {
    /// Starts the node's process.
    pub fn start(&mut self) -> Result<(), Failure> {
        let own = std::env::current_exe()?;
        let mut command = Command::new(own);
        command.arg("node").arg("--config").arg(&self.config).arg("--die-with-parent");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C on a terminal is for us alone: nodes are asked to stop once, in their turn.
        command.process_group(0);
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| Failure::new(FAILED, "a node has no stderr"))?;
        let (sender, receiver) = channel();
        let (id, log, last_line) = (self.id, self.log.clone(), Arc::clone(&self.last_line));
        std::thread::spawn(move || follow(id, stderr, log.as_deref(), &sender, &last_line));
        self.child = Some(child);
        self.ready = Some(receiver);
        Ok(())
    }

    /// Waits until the node has said that it is ready.
    pub fn wait_ready(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(ready) = self.ready.take() else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if ready.recv_timeout(left).is_ok() {
            return Ok(());
        }
        // Its stderr closes a moment before the process is gone.
        let gone = Instant::now() + GONE_AFTER;
        let code = loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() >= gone {
                break ended.and_then(|status| status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let said = self.last_line.lock().clone();
        match code {
            Some(code) => {
                Err(Failure::new(code as u8, format!("node {} ended with exit code {code}: {said}", self.id)))
            }
            None => Err(Failure::new(FAILED, format!("node {} is not ready in time: {said}", self.id))),
        }
    }

    /// The process' id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How the process ended, once, if it ended by itself.
    pub fn take_end(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status.to_string())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn wait_end(&mut self, deadline: Instant) -> bool {
        let Some(child) = self.child.as_mut() else { return true };
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        false
    }
}

/// Passes a node's stderr on, and notices its last start-up line.
fn follow(
    id: NodeId,
    stderr: std::process::ChildStderr,
    log: Option<&Path>,
    ready: &std::sync::mpsc::Sender<()>,
    last_line: &Mutex<String>,
) {
    let mut file = log.and_then(|log| File::options().create(true).append(true).open(log).ok());
    // Read as bytes: a line that is no text must not make this end of the pipe go away.
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if line == "node is ready" {
            let _ = ready.send(());
        }
        last_line.lock().clone_from(&line);
        if let Some(file) = &mut file {
            use std::io::Write;
            let _ = writeln!(file, "{line}");
        } else if log.is_none() {
            crate::output::note(format_args!("node {id}: {line}"));
        }
    }
}
