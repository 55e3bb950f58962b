//! Floor 4: what turns agents into a running node: the operating system's clock, idle strategies, pinning, the runner
//! of a thread, and the topology that lays agents onto threads.

mod clock;
mod idle;
mod runner;
mod topology;

pub use clock::OsClock;
pub use idle::Idle;
pub use runner::{AgentSlot, ThreadPlan};
pub use topology::{
    Listeners, MendingParts, NodeParts, ReplicationManager, StartError, Threading, ThreadingMode,
};
