//! Real node processes on free ports in temporary directories, and the command line against them.
//!
//! Nothing here asserts times: waits are long, and end as soon as what is waited for is there.

#![allow(dead_code)] // Each test binary uses its own part.

#[allow(clippy::duplicate_mod, reason = "beside the lab, with a range of its own")]
#[path = "../../tools/lab/ports.rs"]
mod ports;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tercet::base::clock::{NS_PER_MS, NS_PER_S};
use tercet::base::ids::NodeId;
use tercet::config::{NodeAddresses, Settings, ThreadingMode};

/// Longer than anything here should take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The command under test.
pub const TERCET: &str = env!("CARGO_BIN_EXE_tercet");

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Asserts that stderr is one line that holds `part`.
    #[track_caller]
    pub fn expect_line(self, part: &str) -> Self {
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.contains(part), "'{part}' is not in: {}", self.stderr);
        self
    }

    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stdout as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in: {}\nstderr: {}", self.text(), self.stderr))
    }

    /// Stdout as a JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }
}

/// A command under way.
pub struct Running {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

fn drain(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Starts `tercet` with these arguments; its input is a pipe.
pub fn spawn(arguments: &[&str]) -> Running {
    let mut child = Command::new(TERCET)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = drain(child.stdout.take().expect("a pipe"));
    let stderr = drain(child.stderr.take().expect("a pipe"));
    Running { child, stdout, stderr }
}

impl Running {
    /// Writes to its input, which stays open.
    pub fn feed(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("an open input");
        if let Err(error) = stdin.write_all(bytes).and_then(|()| stdin.flush()) {
            let code = wait_code(&mut self.child, LIMIT);
            let stderr = self.stderr.recv().unwrap_or_default();
            let said = String::from_utf8_lossy(&stderr);
            panic!("the command ended before it had read its input ({error}; {code:?}): {said}");
        }
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        signal_pid(self.child.id(), signal);
    }

    /// Waits for its end; the input ends now.
    pub fn wait(mut self) -> Ended {
        self.end_input();
        self.wait_with_open_input()
    }

    /// Waits for its end while its input stays open.
    pub fn wait_with_open_input(mut self) -> Ended {
        let code = wait_code(&mut self.child, LIMIT).unwrap_or_else(|| {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let stderr = self.stderr.recv().unwrap_or_default();
            panic!("the command does not end; it said: {}", String::from_utf8_lossy(&stderr));
        });
        let stdout = self.stdout.recv().expect("its stdout");
        let stderr = self.stderr.recv().expect("its stderr");
        Ended { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

/// Runs `tercet` to its end with nothing on its input.
pub fn run(arguments: &[&str]) -> Ended {
    spawn(arguments).wait()
}

/// Runs `tercet` to its end with `input` on its input.
pub fn run_with(arguments: &[&str], input: &[u8]) -> Ended {
    let mut running = spawn(arguments);
    // It may end before it has read everything.
    let _ = running.child.stdin.as_mut().expect("an open input").write_all(input);
    running.wait()
}

fn signal_pid(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}

/// `Some(code)` once it has ended (code: none after a signal).
fn wait_code(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status.code());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Polls until `found` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One node.
pub struct TestNode {
    /// Its id.
    pub id: u16,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its settings.
    pub config: PathBuf,
    child: Option<Child>,
    /// What it has said since its last start.
    said: Arc<Mutex<Vec<String>>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl TestNode {
    /// Starts it and waits until it says that it is ready.
    pub fn start(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts it.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// Starts it with more arguments.
    pub fn launch_with(&mut self, arguments: &[&str]) {
        let mut child = Command::new(TERCET)
            .args(["node", "--die-with-parent"])
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("a pipe");
        self.child = Some(child);
        self.said = Arc::default();
        let said = Arc::clone(&self.said);
        self.listener = Some(std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.lock().expect("no panic").push(line);
            }
        }));
    }

    /// What it has said since its last start.
    pub fn said(&self) -> String {
        self.said.lock().expect("no panic").join("\n")
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + LIMIT;
        while !self.said().lines().any(|line| line == "node is ready") {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let late = Instant::now() > deadline;
            assert!(ended.is_none() && !late, "node {} is not ready ({ended:?}): {}", self.id, self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends by itself, and gives its exit code.
    pub fn wait_end(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running node");
        let code = wait_code(&mut child, LIMIT);
        let _ = child.kill();
        // Its last words may still be in the pipe.
        self.listener.take().map(std::thread::JoinHandle::join);
        code.unwrap_or_else(|| panic!("node {} does not end: {}", self.id, self.said()))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running node").id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal. After SIGSTOP returns only when every thread stands still.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.as_ref().expect("a running node").id();
        signal_pid(pid, signal);
        if signal == rustix::process::Signal::STOP {
            eventually("every thread stands still", || {
                let stopped = |task: std::io::Result<fs::DirEntry>| {
                    let stat = task
                        .and_then(|task| fs::read_to_string(task.path().join("stat")))
                        .unwrap_or_default();
                    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
                };
                let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
                tasks.all(stopped).then_some(())
            });
        }
    }

    /// SIGTERM, and its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running node");
        signal_pid(child.id(), rustix::process::Signal::TERM);
        match wait_code(&mut child, LIMIT) {
            Some(code) => code,
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("node {} does not stop", self.id);
            }
        }
    }
}

/// A cluster of real processes.
pub struct TestCluster {
    /// Its nodes, in order of their ids.
    pub nodes: Vec<TestNode>,
    dir: tempfile::TempDir,
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

fn free_addresses(count: usize) -> Vec<SocketAddr> {
    ports::free_addresses_in(14_000..23_000, count).expect("free ports")
}

/// A loopback address where nobody listens.
pub fn dead_address() -> String {
    free_addresses(1)[0].to_string()
}

/// Settings for what must not depend on how busy the machine is: nobody is suspected because it did not get its turn.
/// Not for tests in which a leader dies.
pub fn calm(settings: &mut Settings) {
    settings.election.heartbeat_interval_ns = 400 * NS_PER_MS;
    settings.election.disk_stall_limit_ns = 10 * NS_PER_S;
}

impl TestCluster {
    /// Formats and starts so many nodes, and waits until they have a leader.
    pub fn start(nodes: u16) -> Self {
        Self::start_on(nodes, |_| ())
    }

    /// As [`TestCluster::start`]; `prepare` is shown each data directory, empty, before it is formatted.
    pub fn start_on(nodes: u16, prepare: impl FnMut(&Path)) -> Self {
        Self::start_as(nodes, prepare, |_| ())
    }

    /// As [`TestCluster::start`], with settings changed by `change`.
    pub fn start_with(nodes: u16, change: impl Fn(&mut Settings)) -> Self {
        Self::start_as(nodes, |_| (), change)
    }

    fn start_as(nodes: u16, mut prepare: impl FnMut(&Path), change: impl Fn(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let addresses: Vec<NodeAddresses> = free_addresses(2 * usize::from(nodes))
            .chunks_exact(2)
            .zip(1..)
            .map(|(pair, id)| NodeAddresses { id: NodeId(id), client: pair[0], peer: pair[1] })
            .collect();
        let nodes = addresses
            .iter()
            .map(|own| {
                let data_dir = dir.path().join(format!("node-{}", own.id));
                let mut settings = Settings::with_defaults("test", own.id, data_dir.clone(), &addresses);
                // The same suite runs in both threading modes: the test binary's name says which.
                settings.threads.mode = if env!("CARGO_CRATE_NAME").ends_with("_dedicated") {
                    ThreadingMode::Dedicated
                } else {
                    ThreadingMode::Shared
                };
                settings.log.segment_bytes = 8 << 20;
                change(&mut settings);
                let config = dir.path().join(format!("node-{}.toml", own.id));
                fs::create_dir(&data_dir).expect("a writable directory");
                prepare(&data_dir);
                fs::write(&config, settings.render()).expect("a writable directory");
                run(&["format", "--config", config.to_str().expect("UTF-8")]).expect_code(0);
                TestNode {
                    id: own.id.0,
                    client: own.client,
                    data_dir,
                    config,
                    child: None,
                    said: Arc::default(),
                    listener: None,
                }
            })
            .collect();
        let mut cluster = Self { nodes, dir };
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.leader();
        cluster
    }

    /// A directory for the test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Client addresses, comma-separated.
    pub fn servers(&self) -> String {
        self.nodes.iter().map(|node| node.client.to_string()).collect::<Vec<_>>().join(",")
    }

    /// One node's client address.
    pub fn server(&self, place: usize) -> String {
        self.nodes[place].client.to_string()
    }

    /// `status --json` of all nodes, in order of their ids; one that does not answer has its error.
    pub fn status(&self) -> Vec<Value> {
        let status = run(&["status", "--servers", &self.servers(), "--json"]);
        status.json()["nodes"].as_array().expect("a list").clone()
    }

    /// Place of the node that leads, once all that run agree.
    pub fn leader(&self) -> usize {
        eventually("a leader that all running nodes know", || {
            let running = self.status().into_iter().filter(|row| row["error"].is_null());
            let rows: Vec<Value> = running.collect();
            let leader = rows.first()?["leader_id"].as_u64()?;
            let known = rows.iter().all(|row| row["leader_id"].as_u64() == Some(leader));
            let leads = rows.iter().any(|row| row["node_id"] == leader && row["role"] == "leader");
            (known && leads).then(|| self.nodes.iter().position(|node| u64::from(node.id) == leader))?
        })
    }

    /// Waits until all nodes have committed all that any of them has, and gives their statuses.
    pub fn settled(&self) -> Vec<Value> {
        eventually("nodes that have all committed the same", || {
            let rows = self.status();
            let last = &rows[0]["last_index"];
            let same = |row: &Value| {
                row["error"].is_null()
                    && row["last_index"] == *last
                    && row["commit_index"] == *last
                    && row["log_checksum_index"] == *last
            };
            rows.iter().all(same).then(|| rows.clone())
        })
    }

    /// Settled, and the log's beginning is where it stays: the leader looks every second whether it can move on, so nothing
    /// that happens in more than two of them means that nothing is due.
    pub fn at_rest(&self) -> Vec<Value> {
        eventually("a log whose beginning stays", || {
            let before = self.settled();
            std::thread::sleep(Duration::from_millis(2500));
            let rows = self.settled();
            let same = |(row, before): (&Value, &Value)| {
                row["last_index"] == before["last_index"] && row["first_offset"] == rows[0]["first_offset"]
            };
            rows.iter().zip(&before).all(same).then(|| rows.clone())
        })
    }

    /// Everything of a topic as one node has it, raw.
    pub fn read(&self, place: usize, topic: &str) -> Vec<u8> {
        // On a busy machine an election may last for longer than the command waits for one.
        eventually("a leader that says where the log ends", || {
            let arguments = ["subscribe", "--servers", &self.server(place), "--topic", topic, "--until-end"];
            let ended = run(&arguments).expect_code(0);
            assert!(ended.stderr.is_empty() || ended.stderr.contains("no leader within"), "{}", ended.stderr);
            ended.stderr.is_empty().then_some(ended.stdout)
        })
    }

    /// kill -9 of all nodes, and a new start of all.
    pub fn crash_all(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        for node in &mut self.nodes {
            node.start();
        }
    }
}

/// Lines `sequence offset` of an ack log; none while there is no file. A last line that is still being written does not
/// count.
pub fn read_ack_log(path: &Path) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (sequence, offset) = line.split_once(' ').expect("two numbers");
        (sequence.parse().expect("a number"), offset.parse().expect("a number"))
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(pair).collect()
}
