//! Who led in which term, as the nodes themselves say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tercet::client::{NodeRole, NodeStatus, query_status_all};

use super::lab::error::LabResult;

const INTERVAL: Duration = Duration::from_millis(50);
/// A node that is frozen is not waited for longer.
const LIMIT: Duration = Duration::from_millis(100);

/// Leaders of each term.
pub type Leaders = BTreeMap<u64, BTreeSet<u16>>;

/// Asks all nodes again and again, past the proxies.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Leaders>,
}

/// Adds what one node says: whom it takes for the leader of its term counts too.
pub fn note(leaders: &mut Leaders, row: &NodeStatus) {
    let own = (row.role == NodeRole::Leader).then_some(row.node_id);
    for leader in [own, row.leader_id].into_iter().flatten() {
        leaders.entry(row.term.0).or_default().insert(leader.0);
    }
}

impl Watcher {
    /// Begins.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(servers: Vec<SocketAddr>) -> LabResult<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            let mut leaders = Leaders::new();
            while !stopped.load(Ordering::Acquire) {
                let rows = query_status_all(&servers, LIMIT).unwrap_or_default();
                for row in rows.iter().filter_map(|(_, row)| row.as_ref().ok()) {
                    note(&mut leaders, row);
                }
                std::thread::sleep(INTERVAL);
            }
            leaders
        };
        let thread = std::thread::Builder::new().name("watcher".to_owned()).spawn(watch)?;
        Ok(Self { stop, thread })
    }

    /// Everything that was seen.
    #[must_use]
    pub fn finish(self) -> Leaders {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}
