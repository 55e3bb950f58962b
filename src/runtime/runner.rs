//! The runner of one thread: it owns the thread's only poll, passes readiness in, and sleeps when nothing is to do.

use std::io;
use std::time::Duration;

use mio::{Events, Poll};

use super::idle::{Idle, IdleState, Step};
use crate::agent::Agent;
use crate::agent::control::Control;
use crate::agent::wake::{Sleeper, WakeHandle, sleep};
use crate::base::clock::{Clock, NS_PER_MS};
use crate::base::net::Readiness;
use crate::net::MioNet;

/// The longest sleep, so that a stop is noticed even if its wake-up is lost.
const SLEEP_MAX_NS: u64 = 500 * NS_PER_MS;
/// The sleep while an agent waits for room in a ring (nobody wakes it for that).
const STALLED_SLEEP_NS: u64 = NS_PER_MS;
/// Socket events taken from the system at once.
const EVENTS_MAX: usize = 256;
/// The poll's token of the thread's waker.
pub(super) const WAKER: mio::Token = mio::Token(usize::MAX);

/// One agent and the slot by which its sockets are known in the thread's poll.
pub struct AgentSlot {
    /// The slot given to the agent's `MioNet`.
    pub slot: u32,
    /// The agent.
    pub agent: Box<dyn Agent + Send>,
}

/// Everything that a thread needs.
pub struct ThreadPlan {
    /// The thread's name.
    pub name: String,
    /// Its agents, in the order of their turns.
    pub agents: Vec<AgentSlot>,
    /// Its poll.
    pub poll: Poll,
    /// What wakes it.
    pub wake: WakeHandle,
    /// The core that it is pinned to.
    pub core: Option<core_affinity::CoreId>,
    /// What it does when idle.
    pub idle: Idle,
    /// Whether any of its agents owns sockets.
    pub has_sockets: bool,
}

struct Runner<C> {
    plan: ThreadPlan,
    readiness: Vec<Vec<Readiness>>,
    events: Events,
    clock: C,
    control: Control,
}

/// Runs a thread's agents until the node stops, then lets each say its last words.
///
/// # Errors
/// The poll failed, which ends the node.
pub(super) fn run<C: Clock>(plan: ThreadPlan, clock: C, control: Control) -> io::Result<()> {
    if let Some(core) = plan.core
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!("thread {} could not be pinned to core {}", plan.name, core.id);
    }
    let readiness = plan.agents.iter().map(|_| Vec::new()).collect();
    let mut runner = Runner { plan, readiness, events: Events::with_capacity(EVENTS_MAX), clock, control };
    let outcome = runner.work_until_stopped();
    for slot in &mut runner.plan.agents {
        slot.agent.on_close();
    }
    outcome
}

impl<C: Clock> Runner<C> {
    fn work_until_stopped(&mut self) -> io::Result<()> {
        let idle = IdleState::new(self.plan.idle);
        while !self.control.is_stopped() {
            if self.turn() > 0 {
                idle.busy();
                self.look_at_sockets()?;
                continue;
            }
            match idle.next() {
                Step::Again => self.look_at_sockets()?,
                Step::Sleep => self.sleep()?,
            }
        }
        Ok(())
    }

    /// One turn of every agent; the clock is read once.
    fn turn(&mut self) -> usize {
        let now_ns = self.clock.now_ns();
        let mut work = 0;
        for (slot, readiness) in self.plan.agents.iter_mut().zip(&mut self.readiness) {
            work += slot.agent.do_work(now_ns, readiness);
            readiness.clear();
        }
        work
    }

    fn sleep(&mut self) -> io::Result<()> {
        match sleep(self) {
            Some(outcome) => outcome,
            None => self.look_at_sockets(),
        }
    }

    fn sleep_time(&self) -> Duration {
        let now_ns = self.clock.now_ns();
        let agents = || self.plan.agents.iter().map(|slot| &slot.agent);
        let deadline = agents().filter_map(|agent| agent.next_deadline_ns()).min();
        let mut sleep_ns = deadline.map_or(SLEEP_MAX_NS, |at| at.saturating_sub(now_ns)).min(SLEEP_MAX_NS);
        if agents().any(|agent| agent.is_stalled()) {
            sleep_ns = sleep_ns.min(STALLED_SLEEP_NS);
        }
        Duration::from_nanos(sleep_ns)
    }

    /// Takes socket events without waiting; a thread without sockets has nothing to look for.
    fn look_at_sockets(&mut self) -> io::Result<()> {
        if self.plan.has_sockets { self.poll(Some(Duration::ZERO)) } else { Ok(()) }
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.plan.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            if event.token() == WAKER {
                continue;
            }
            let (agent_slot, readiness) = MioNet::readiness(event);
            if let Some(place) = self.plan.agents.iter().position(|slot| slot.slot == agent_slot) {
                self.readiness[place].push(readiness);
            }
        }
        Ok(())
    }
}

impl<C: Clock> Sleeper for Runner<C> {
    type Waited = io::Result<()>;

    fn wake(&self) -> &WakeHandle {
        &self.plan.wake
    }

    fn look(&mut self) -> bool {
        self.turn() > 0 || self.control.is_stopped()
    }

    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.sleep_time();
        self.poll(Some(timeout))
    }
}
