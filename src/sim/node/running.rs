//! The agents of a node that runs, and one run of all of them.

use std::collections::BTreeMap;

use super::clock::LocalClock;
use crate::agent::Agent;
use crate::agent::ack_receiver::AckReceiver;
use crate::agent::batcher::Batcher;
use crate::agent::commands::{ColdReadReply, LogCommand, LogEvent};
use crate::agent::conductor::Conductor;
use crate::agent::control::Control;
use crate::agent::delivery::Delivery;
use crate::agent::dispatcher::Dispatcher;
use crate::agent::log_writer::LogWriter;
use crate::agent::mending::Mending;
use crate::agent::peer_sender::PeerSender;
use crate::agent::reader::Reader;
use crate::agent::ring::{RingReceiver, RingSender};
use crate::base::ids::{LogIndex, NodeId};
use crate::base::prng::Prng;
use crate::entry::Entry;
use crate::metrics::Counters;
use crate::sim::disk::SimDisk;
use crate::sim::net::{SharedWorld, SimClock, SimNet};
use crate::sim::report::Violation;

/// Passes over the agents in one run: more of them is a livelock.
const PASSES_MAX: u64 = 20_000;

pub(super) const DISPATCHER: u32 = 0;
pub(super) const DELIVERY: u32 = 1;
pub(super) const CONDUCTOR: u32 = 2;
pub(super) const RECEIVERS: u32 = 10;
pub(super) const SENDERS: u32 = 20;

/// The agents of a node that takes part, besides those that move bytes.
pub struct Serving {
    /// For invariants.
    pub batcher: Batcher<SimClock>,
    /// For invariants.
    pub writer: LogWriter<SimDisk>,
    pub(super) reader: Reader<SimDisk>,
    /// Reports of the log writer that are under way, and where they go.
    pub(super) reports: (RingReceiver<LogEvent>, RingSender<LogEvent>),
    /// Commands on their way to the log writer, looked at in passing.
    pub(super) commands: (RingReceiver<LogCommand>, RingSender<LogCommand>),
    /// What the reader brings for subscribers, on its way.
    pub(super) answers: (RingReceiver<ColdReadReply>, RingSender<ColdReadReply>),
}

/// What the node does.
pub enum Core {
    /// It takes part.
    Serving(Box<Serving>),
    /// Something below its watermark is damaged, and it asks the others for that.
    Mending(Box<Mending<SimDisk>>),
}

/// The agents of a node that runs.
pub struct Running {
    pub(super) control: Control,
    pub(super) receivers: Vec<AckReceiver<SimNet>>,
    pub(super) dispatcher: Dispatcher<SimNet>,
    /// For invariants.
    pub core: Core,
    pub(super) senders: Vec<PeerSender<SimNet>>,
    pub(super) delivery: Delivery<SimNet>,
    pub(super) conductor: Conductor<SimNet>,
    /// What the agents count.
    pub counters: Counters,
}

impl Core {
    fn agent(&self) -> &dyn Agent {
        match self {
            Self::Serving(serving) => &serving.batcher,
            Self::Mending(mending) => mending.as_ref(),
        }
    }

    fn agent_mut(&mut self) -> &mut dyn Agent {
        match self {
            Self::Serving(serving) => &mut serving.batcher,
            Self::Mending(mending) => mending.as_mut(),
        }
    }
}

impl Serving {
    /// Hands what is to be appended on to the log writer, and archives it.
    pub(super) fn hand_on_commands(&mut self, archive: &mut BTreeMap<u64, Entry>) {
        let (from, to) = &mut self.commands;
        while to.slots() > 0 {
            let Some(command) = from.pop() else { return };
            if let LogCommand::Append(entry) = &command {
                archive.insert(entry.chain(), entry.clone());
            }
            assert!(to.push(command).is_ok(), "there was a place");
        }
    }

    /// Hands one answer of the reader on: a real one answers one request after the other. Says whether it was the last.
    pub(super) fn hand_on_answer(&mut self) -> bool {
        let (from, to) = &mut self.answers;
        if to.slots() > 0
            && let Some(answer) = from.pop()
        {
            assert!(to.push(answer).is_ok(), "there was a place");
        }
        from.is_empty()
    }

    /// Says whether all of them found a place.
    pub(super) fn hand_on_reports(&mut self) -> bool {
        let (from, to) = &mut self.reports;
        while to.slots() > 0 {
            let Some(report) = from.pop() else { return true };
            assert!(to.push(report).is_ok(), "there was a place");
        }
        from.is_empty()
    }
}

impl Running {
    /// The agents of a node that takes part; `None` while it mends.
    #[must_use]
    pub fn serving(&self) -> Option<&Serving> {
        match &self.core {
            Core::Serving(serving) => Some(serving),
            Core::Mending(_) => None,
        }
    }

    /// While the node mends: the first entry of what it asks about.
    pub(super) fn asks_about(&self) -> Option<LogIndex> {
        match &self.core {
            Core::Serving(_) => None,
            Core::Mending(mending) => mending.asks_about(),
        }
    }

    pub(super) fn serving_mut(&mut self) -> Option<&mut Serving> {
        match &mut self.core {
            Core::Serving(serving) => Some(serving),
            Core::Mending(_) => None,
        }
    }

    fn count(&self) -> usize {
        4 + self.receivers.len() + self.senders.len()
    }

    /// Agents in the order of an event's way, with the slot by which readiness finds them.
    fn agent(&mut self, place: usize) -> (u32, &mut dyn Agent) {
        let peers = self.receivers.len();
        if place < peers {
            return (RECEIVERS + place as u32, &mut self.receivers[place]);
        }
        match place - peers {
            0 => (DISPATCHER, &mut self.dispatcher),
            1 => (u32::MAX, self.core.agent_mut()),
            n if n < 2 + peers => (SENDERS + (n - 2) as u32, &mut self.senders[n - 2]),
            n if n == 2 + peers => (DELIVERY, &mut self.delivery),
            _ => (CONDUCTOR, &mut self.conductor),
        }
    }

    pub(super) fn agents(&self) -> impl Iterator<Item = &dyn Agent> {
        let receivers = self.receivers.iter().map(|agent| agent as &dyn Agent);
        let senders = self.senders.iter().map(|agent| agent as &dyn Agent);
        let others: [&dyn Agent; 4] = [&self.dispatcher, self.core.agent(), &self.delivery, &self.conductor];
        receivers.chain(senders).chain(others)
    }

    /// When some agent wants a turn by itself, in the node's own time.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let disk = self.serving().into_iter().flat_map(|serving| {
            [serving.writer.next_deadline_ns(), serving.reader.next_deadline_ns()].into_iter().flatten()
        });
        self.agents().filter_map(Agent::next_deadline_ns).chain(disk).min()
    }

    pub(super) fn is_stalled(&self) -> bool {
        let disk = |serving: &Serving| serving.writer.is_stalled() || serving.reader.is_stalled();
        self.agents().any(Agent::is_stalled) || self.serving().is_some_and(disk)
    }

    /// Invokes the agents until a whole pass finds nothing. Says how many passes it took.
    ///
    /// # Errors
    /// A livelock.
    pub(super) fn run_agents(
        &mut self,
        (id, now_ns): (NodeId, u64),
        clock: &LocalClock,
        world: &SharedWorld,
        interleaved: bool,
        prng: &mut Prng,
    ) -> Result<u64, Violation> {
        let own_ns = clock.at(now_ns);
        let mut order: Vec<usize> = (0..self.count()).collect();
        let mut passes = 0;
        loop {
            passes += 1;
            if interleaved {
                for last in (1..order.len()).rev() {
                    order.swap(last, prng.below(last as u64 + 1) as usize);
                }
            }
            let mut work = 0;
            for place in &order {
                let (slot, agent) = self.agent(*place);
                let readiness = world.borrow_mut().take_ready((id.0, slot));
                work += agent.do_work(own_ns, &readiness);
            }
            if (work == 0 && !world.borrow().host_is_ready(id.0)) || self.control.is_stopped() {
                return Ok(passes);
            }
            if passes > PASSES_MAX {
                let what = format!("node {id} finds work without end at {now_ns} ns");
                return Err(Violation::new("no livelock", what));
            }
        }
    }
}
