//! A cluster of real node processes in a temporary directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tercet::base::ids::{NodeId, Term};
use tercet::client::{NodeRole, NodeStatus, query_status_all};
use tercet::config::{NodeAddresses, Settings, ThreadingMode};
use tercet::entry::Durability;
use tercet::log::hard_state::HardStateFile;
use tercet::log::layout::HARD_STATE_NAME;
use tercet::log::{LogError, RealDisk};

use super::error::{LabError, LabResult};
use super::interrupt::Interrupt;
use super::namespaces::Namespaces;
use super::network::Network;
use super::ports::free_addresses;
use super::power::{self, LossyDisk, Switch};

/// Time for anything that should take a fraction of it.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `tercet` binary; see [`find_tercet`].
    pub tercet: PathBuf,
    /// How many nodes, 1 to 7.
    pub nodes: u16,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How agents are laid onto threads.
    pub threads: ThreadingMode,
    /// Size of segments; none: the default.
    pub segment_bytes: Option<u64>,
    /// Between two heartbeats; none: the default.
    pub heartbeat_interval: Option<Duration>,
    /// Whether nodes and clients reach nodes through proxies that can fail. A killed node's proxies refuse.
    pub proxied: bool,
    /// Each node on a file system of so many bytes whose power can be cut; none: on the host's.
    pub lossy_disk_bytes: Option<u64>,
}

impl Plan {
    /// Three nodes with default settings, without proxies.
    #[must_use]
    pub fn new(tercet: PathBuf) -> Self {
        Self {
            tercet,
            nodes: 3,
            durability: Durability::Disk,
            threads: ThreadingMode::Auto,
            segment_bytes: None,
            heartbeat_interval: None,
            proxied: false,
            lossy_disk_bytes: None,
        }
    }
}

/// The `tercet` binary beside the running tool.
///
/// # Errors
/// When it is not there: how to build it.
pub fn find_tercet() -> LabResult<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.with_file_name("tercet");
    if found.is_file() {
        return Ok(found);
    }
    let line = format!("{} is missing; build it with: cargo build --release", found.display());
    Err(LabError::Environment(line))
}

/// One node.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it listens for clients; never through a proxy.
    pub direct: SocketAddr,
    /// Where clients are told to connect: its proxy, if there is one.
    pub client: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its stderr goes here.
    pub log: PathBuf,
    config: PathBuf,
    tercet: PathBuf,
    /// A command that runs the node's process, where it is not to be run as it is.
    prefix: Vec<OsString>,
    child: Option<Child>,
    ready: Option<Receiver<()>>,
    last_line: Arc<Mutex<String>>,
}

/// The cluster. Dropping it kills every node.
pub struct Cluster {
    /// Its nodes, in order of their ids, from 1.
    pub nodes: Vec<Node>,
    /// Present where the plan asked for it.
    pub network: Option<Network>,
    /// Ends every wait.
    interrupt: Interrupt,
    /// By node, where the plan asked for them. Unmounted before the directory goes.
    disks: Vec<LossyDisk>,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

impl Cluster {
    /// Formats and starts every node; they are ready and have a leader that all of them know.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn start(plan: &Plan, interrupt: &Interrupt) -> LabResult<Self> {
        let addresses = free_addresses(2 * usize::from(plan.nodes))?;
        let direct: Vec<(NodeId, SocketAddr, SocketAddr)> =
            addresses.chunks_exact(2).zip(1..).map(|(pair, id)| (NodeId(id), pair[0], pair[1])).collect();
        Self::start_at(plan, &direct, |_| Vec::new(), interrupt)
    }

    /// The same with each node on a host of its own.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn start_on(plan: &Plan, hosts: &Namespaces, interrupt: &Interrupt) -> LabResult<Self> {
        Self::start_at(plan, &hosts.addresses(), |id| hosts.prefix(id), interrupt)
    }

    fn start_at(
        plan: &Plan,
        direct: &[(NodeId, SocketAddr, SocketAddr)],
        prefix: impl Fn(NodeId) -> Vec<OsString>,
        interrupt: &Interrupt,
    ) -> LabResult<Self> {
        let dir = tempfile::Builder::new().prefix("tercet-lab-").tempdir()?;
        let network = if plan.proxied { Some(Network::start(direct)?) } else { None };
        let (mut nodes, mut disks) = (Vec::new(), Vec::new());
        for own in direct {
            if let Some(bytes) = plan.lossy_disk_bytes {
                disks.push(LossyDisk::create(&data_dir(dir.path(), own.0), bytes)?);
            }
            let seen = seen_by(own.0, direct, network.as_ref());
            let node = prepare(plan, dir.path(), &seen, *own, network.as_ref())?;
            nodes.push(Node { prefix: prefix(own.0), ..node });
        }
        let mut cluster = Self { nodes, network, interrupt: interrupt.clone(), disks, dir };
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        for node in &mut cluster.nodes {
            node.wait_ready(interrupt)?;
        }
        cluster.leader(PATIENCE)?;
        Ok(cluster)
    }

    /// Where everything lies until the cluster is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Nothing is deleted when the cluster is dropped. Gives the directory.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Where clients connect.
    #[must_use]
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.client).collect()
    }

    /// One node.
    ///
    /// # Panics
    /// With an id that no node has.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("an id of this cluster")
    }

    /// One node, to do something to it.
    ///
    /// # Panics
    /// With an id that no node has.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("an id of this cluster")
    }

    /// All ids but one.
    #[must_use]
    pub fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).filter(|other| *other != id).collect()
    }

    /// The network.
    ///
    /// # Errors
    /// When the plan did not ask for proxies.
    pub fn network(&self) -> LabResult<&Network> {
        let missing = || LabError::Failed("this cluster has no proxies to cut".to_owned());
        self.network.as_ref().ok_or_else(missing)
    }

    // What is done to nodes.

    /// kill -9; the node is gone, and its proxies refuse.
    ///
    /// # Errors
    /// Only when the proxy is gone.
    pub fn kill(&mut self, id: NodeId) -> LabResult<()> {
        if let Some(network) = &self.network {
            // What stands ends with the process.
            network.refuse_node(id, false)?;
        }
        self.node_mut(id).kill();
        Ok(())
    }

    /// SIGTERM, and the exit code; none when a signal ended it.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`]; then it was killed.
    pub fn terminate(&mut self, id: NodeId) -> LabResult<Option<i32>> {
        let code = self.node_mut(id).terminate()?;
        if let Some(network) = &self.network {
            network.refuse_node(id, true)?;
        }
        Ok(code)
    }

    /// Starts a node that does not run, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not within [`PATIENCE`].
    pub fn restart(&mut self, id: NodeId) -> LabResult<()> {
        self.restart_with(id, &[])
    }

    /// The same with more flags for `tercet node`.
    ///
    /// # Errors
    /// As of [`restart`](Self::restart).
    pub fn restart_with(&mut self, id: NodeId, flags: &[&str]) -> LabResult<()> {
        let interrupt = self.interrupt.clone();
        let node = self.node_mut(id);
        node.spawn_with(flags)?;
        node.wait_ready(&interrupt)?;
        if let Some(network) = &self.network {
            network.listen_node(id)?;
        }
        Ok(())
    }

    /// The power of these nodes fails at one moment, and their processes are gone. What they had not synced is lost.
    ///
    /// # Errors
    /// When the plan did not ask for such disks, or they cannot be cut.
    pub fn cut_power(&mut self, ids: &[NodeId]) -> LabResult<()> {
        let disks = ids.iter().map(|id| self.disk_place(*id)).collect::<LabResult<Vec<usize>>>()?;
        let switches = disks.iter().map(|at| self.disks[*at].switch()).collect::<LabResult<Vec<Switch>>>()?;
        power::cut_all(&switches)?;
        ids.iter().try_for_each(|id| self.kill(*id))
    }

    /// Power is back: their disks are there again. The nodes do not run yet.
    ///
    /// # Errors
    /// When a disk cannot be mounted again.
    pub fn restore_power(&mut self, ids: &[NodeId]) -> LabResult<()> {
        for id in ids {
            let at = self.disk_place(*id)?;
            self.disks[at].restore()?;
        }
        Ok(())
    }

    fn disk_place(&self, id: NodeId) -> LabResult<usize> {
        let place = self.nodes.iter().position(|node| node.id == id).filter(|at| *at < self.disks.len());
        place.ok_or_else(|| LabError::Failed(format!("node {id} has no disk whose power can be cut")))
    }

    // What nodes say.

    /// Status of these nodes, asked directly; those that do not answer within a second are left out.
    ///
    /// # Errors
    /// When nothing can be asked at all.
    pub fn statuses(&self, ids: &[NodeId]) -> LabResult<Vec<NodeStatus>> {
        let servers: Vec<SocketAddr> = ids.iter().map(|id| self.node(*id).direct).collect();
        let rows = query_status_all(&servers, STATUS_LIMIT)?;
        Ok(rows.into_iter().filter_map(|(_, row)| row.ok()).collect())
    }

    /// All ids.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Polls `found` until it gives something.
    ///
    /// # Errors
    /// Its own; [`LabError::Failed`] with `what` after `limit`; Ctrl-C.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Self) -> LabResult<Option<T>>,
    ) -> LabResult<T> {
        let deadline = Instant::now() + limit;
        loop {
            self.interrupt.check()?;
            if let Some(found) = found(self)? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let said = self.last_words();
                return Err(LabError::Failed(format!("not within {limit:?}: {what}; {said}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The leader that all nodes agree on, and its term.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn leader(&self, limit: Duration) -> LabResult<(NodeId, Term)> {
        self.leader_among(&self.ids(), limit)
    }

    /// The leader among these nodes that all of them agree on, and its term.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn leader_among(&self, ids: &[NodeId], limit: Duration) -> LabResult<(NodeId, Term)> {
        self.until("one leader that all nodes know", limit, |cluster| {
            let rows = cluster.statuses(ids)?;
            Ok(agreed_leader(&rows, ids.len()))
        })
    }

    /// Waits until all nodes follow one leader and have committed all that any of them had committed a moment before;
    /// for a cluster under load. Gives the leader and its term.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn caught_up(&self, limit: Duration) -> LabResult<(NodeId, Term)> {
        let mut newest = None;
        self.until("all nodes caught up", limit, |cluster| {
            let rows = cluster.statuses(&cluster.ids())?;
            let leader = agreed_leader(&rows, cluster.nodes.len());
            let linked = rows.iter().all(|row| row.peers.iter().all(|peer| peer.connected));
            let lowest = rows.iter().map(|row| row.commit_index).min();
            let reached = newest.is_some_and(|newest| lowest >= Some(newest));
            newest = rows.iter().map(|row| row.commit_index).max();
            Ok(leader.filter(|_| linked && reached))
        })
    }

    /// Waits until all nodes have committed the same, and that is all that they hold; for a cluster without load.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn settled(&self, limit: Duration) -> LabResult<Vec<NodeStatus>> {
        self.until("all nodes at one commit index", limit, |cluster| {
            let rows = cluster.statuses(&cluster.ids())?;
            let all = rows.len() == cluster.nodes.len();
            let same = |row: &NodeStatus| {
                row.last_index == rows[0].last_index
                    && row.commit_index == row.last_index
                    && row.log_checksum_index == row.last_index
            };
            Ok((all && rows.iter().all(same)).then_some(rows))
        })
    }

    /// Has a node ended although nobody ended it, or has one of its threads panicked? Then it has found its own state
    /// broken, or its disk.
    ///
    /// # Errors
    /// [`LabError::Violation`] that names it and what it said.
    pub fn check_alive(&mut self) -> LabResult<()> {
        for node in &mut self.nodes {
            if let Some(panic) = panic_message(&node.log) {
                return Err(LabError::Violation(format!("node {}: {panic}", node.id)));
            }
            let Some(child) = &mut node.child else { continue };
            if let Some(status) = child.try_wait()? {
                node.child = None;
                let said = node.last_line.lock().clone();
                return Err(LabError::Violation(format!(
                    "node {} ended by itself ({status}): {said}",
                    node.id
                )));
            }
        }
        Ok(())
    }

    /// The last line that each node wrote to its log.
    fn last_words(&self) -> String {
        let last = self.nodes.iter().map(|node| format!("node {} said: {}", node.id, node.last_line.lock()));
        last.collect::<Vec<_>>().join("; ")
    }
}

/// The leader, when so many nodes answered and all name the same one in the same term, and it says so itself.
fn agreed_leader(rows: &[NodeStatus], nodes: usize) -> Option<(NodeId, Term)> {
    let first = rows.first().filter(|_| rows.len() == nodes)?;
    let leader = first.leader_id?;
    let agree = rows.iter().all(|row| row.leader_id == Some(leader) && row.term == first.term);
    let leads = rows.iter().any(|row| row.node_id == leader && row.role == NodeRole::Leader);
    (agree && leads).then_some((leader, first.term))
}

/// The newest panic in a node's log, with its place.
fn panic_message(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|line| line.contains("panicked at"))?;
    Some(format!("{} {}", lines[at], lines.get(at + 1).unwrap_or(&"")))
}

/// The addresses in one node's settings: its own are real, those of the others lead through proxies.
fn seen_by(
    own: NodeId,
    direct: &[(NodeId, SocketAddr, SocketAddr)],
    network: Option<&Network>,
) -> Vec<NodeAddresses> {
    let seen = |(id, client, peer): &(NodeId, SocketAddr, SocketAddr)| {
        let through = network.filter(|_| *id != own);
        NodeAddresses {
            id: *id,
            client: through.and_then(|network| network.client_address(*id)).unwrap_or(*client),
            peer: through.and_then(|network| network.peer_address(own, *id)).unwrap_or(*peer),
        }
    };
    direct.iter().map(seen).collect()
}

fn data_dir(dir: &Path, id: NodeId) -> PathBuf {
    dir.join(format!("node-{id}"))
}

fn prepare(
    plan: &Plan,
    dir: &Path,
    seen: &[NodeAddresses],
    own: (NodeId, SocketAddr, SocketAddr),
    network: Option<&Network>,
) -> LabResult<Node> {
    let (id, direct, _) = own;
    let data_dir = data_dir(dir, id);
    let mut settings = Settings::with_defaults("lab", id, data_dir.clone(), seen);
    settings.log.durability = plan.durability;
    settings.threads.mode = plan.threads;
    if let Some(bytes) = plan.segment_bytes {
        settings.log.segment_bytes = bytes;
    }
    if let Some(interval) = plan.heartbeat_interval {
        settings.election.heartbeat_interval_ns = interval.as_nanos() as u64;
    }
    let config = dir.join(format!("node-{id}.toml"));
    fs::write(&config, settings.render())?;
    tercet::node::format(&settings)?;
    Ok(Node {
        id,
        direct,
        client: network.and_then(|network| network.client_address(id)).unwrap_or(direct),
        data_dir,
        log: dir.join(format!("node-{id}.log")),
        config,
        tercet: plan.tercet.clone(),
        prefix: Vec::new(),
        child: None,
        ready: None,
        last_line: Arc::default(),
    })
}

impl Node {
    /// Where a node that was built with the feature `faults` looks for what it should do wrong.
    #[must_use]
    pub fn faults_dir(&self) -> PathBuf {
        self.data_dir.with_file_name(format!("faults-{}", self.id))
    }

    /// Orders a fault of the node's own (see `src/log/faults.rs`), or takes it back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn order_fault(&self, name: &str, text: Option<&str>) -> LabResult<()> {
        let path = self.faults_dir().join(name);
        match text {
            Some(text) => fs::write(path, text)?,
            None if path.exists() => fs::remove_file(path)?,
            None => {}
        }
        Ok(())
    }

    fn spawn(&mut self) -> LabResult<()> {
        self.spawn_with(&[])
    }

    fn spawn_with(&mut self, flags: &[&str]) -> LabResult<()> {
        fs::create_dir_all(self.faults_dir())?;
        let words = [&self.prefix[..], &[self.tercet.clone().into_os_string()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.env("LAB_FAULTS_DIR", self.faults_dir());
        command.arg("node").arg("--config").arg(&self.config).arg("--die-with-parent");
        command.args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C on a terminal is for the tool alone.
        command.process_group(0);
        let mut child = command.spawn()?;
        let (sender, receiver) = channel();
        if let Some(stderr) = child.stderr.take() {
            let (log, last_line) = (self.log.clone(), Arc::clone(&self.last_line));
            std::thread::spawn(move || follow(stderr, &log, &sender, &last_line));
        }
        self.child = Some(child);
        self.ready = Some(receiver);
        Ok(())
    }

    fn wait_ready(&mut self, interrupt: &Interrupt) -> LabResult<()> {
        let Some(ready) = self.ready.take() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt.check()?;
            match ready.recv_timeout(Duration::from_millis(50)) {
                Ok(()) => return Ok(()),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => {
                    let said = self.last_line.lock().clone();
                    return Err(LabError::Failed(format!("node {} is not ready: {said}", self.id)));
                }
            }
        }
    }

    /// Does its process run (or stand still)?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP; returns when the process stands still.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let Some(child) = &self.child else { return };
        let stat = format!("/proc/{}/stat", child.id());
        let stopped = || {
            let text = fs::read_to_string(&stat).unwrap_or_default();
            text.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't', 'Z']))
        };
        let deadline = Instant::now() + Duration::from_secs(1);
        while !stopped() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn terminate(&mut self) -> LabResult<Option<i32>> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status.code());
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(LabError::Failed(format!("node {} does not end on SIGTERM", self.id)));
            }
            std::thread::sleep(LOOK);
        }
        Ok(None)
    }

    /// To the node, which does not run, its next start will look like one after a boot of its machine: what it last
    /// wrote bears another boot id.
    ///
    /// # Errors
    /// When its hard state cannot be read or written.
    pub fn pretend_reboot(&self) -> LabResult<()> {
        let path = self.data_dir.join(HARD_STATE_NAME);
        let failed = |error: LogError| LabError::Failed(format!("node {}: {error}", self.id));
        let (mut file, mut stored) = HardStateFile::open(&RealDisk, &path, true).map_err(failed)?;
        stored.boot_id_hash = !stored.boot_id_hash;
        file.write(&stored).and_then(|()| file.sync_copy()).map_err(|error| failed(error.into()))
    }

    /// How often its log says this.
    #[must_use]
    pub fn has_said(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).map_or(0, |text| text.matches(what).count())
    }

    /// `tercet log verify` of its directory: the exit code (0 whole, 4 damaged), and what was said. Stop it before.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn verify(&self) -> LabResult<(Option<i32>, String)> {
        let mut command = Command::new(&self.tercet);
        command.args(["log", "verify", "--data-dir"]).arg(&self.data_dir);
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((output.status.code(), said))
    }
}

/// Writes a node's stderr to its log, and notices its last start-up line.
fn follow(stderr: ChildStderr, log: &Path, ready: &Sender<()>, last_line: &Mutex<String>) {
    let mut file = File::options().create(true).append(true).open(log).ok();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if line == "node is ready" {
            let _ = ready.send(());
        }
        if let Some(file) = &mut file {
            let _ = writeln!(file, "{line}");
        }
        *last_line.lock() = line;
    }
}
