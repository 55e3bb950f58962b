//! `tercet dev`: a local cluster until Ctrl-C.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tercet::client::query_status_all;
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use crate::args::DevOptions;
use crate::cluster::{Cluster, Plan};
use crate::exit::{FAILED, Failure, INTERRUPTED, Outcome};

/// Peers listen so far above their node's client port.
const PEER_PORT_DISTANCE: u16 = 100;

/// Runs the cluster.
pub fn run(options: &DevOptions) -> Outcome {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let temporary = match &options.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tercet-dev-").tempdir()?),
    };
    let dir = match (&options.data_dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Failure::usage("no directory")),
    };
    let first = options.base_port;
    let plan = Plan {
        name: "dev",
        dir: dir.clone(),
        ports: (first..first + options.nodes).map(|port| (port, port + PEER_PORT_DISTANCE)).collect(),
        durability: if options.durability == "memory" { Durability::Memory } else { Durability::Disk },
        threads: match options.threads.as_str() {
            "shared" => ThreadingMode::Shared,
            "dedicated" => ThreadingMode::Dedicated,
            _ => ThreadingMode::Auto,
        },
        quiet: false,
    };
    let mut cluster = Cluster::start(&plan)?;
    cluster.wait_ready(Duration::from_secs(10))?;
    let servers: Vec<_> = cluster.nodes.iter().map(|node| node.client).collect();
    wait_leader(&servers, Duration::from_secs(10))?;
    crate::output::say(format_args!(
        "cluster is ready: {} (data in {})\n",
        cluster.servers(),
        dir.display()
    ))?;
    loop {
        if signals.pending().next().is_some() {
            break;
        }
        for node in &mut cluster.nodes {
            if let Some(how) = node.take_end() {
                crate::output::note(format_args!("node {} ended: {how}; the others go on", node.id));
            }
        }
        if cluster.nodes.iter().all(|node| node.pid().is_none()) {
            return Err(Failure::new(FAILED, "every node has ended; see above"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    if cluster.stop(Duration::from_secs(6)) {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(FAILED, "a node did not end cleanly"))
    }
}

/// Waits until some node leads and all others know it.
pub fn wait_leader(servers: &[std::net::SocketAddr], limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let rows = query_status_all(servers, Duration::from_millis(500))?;
        let leaders: Vec<_> =
            rows.iter().filter_map(|(_, row)| row.as_ref().ok()).map(|status| status.leader_id).collect();
        if leaders.len() == servers.len()
            && leaders[0].is_some()
            && leaders.iter().all(|leader| *leader == leaders[0])
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new(crate::exit::UNAVAILABLE, "no leader was elected in time"))
}
