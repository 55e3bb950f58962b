//! Nodes, clients, network and adversary in one discrete-event loop: time jumps to whatever is next, everything that is
//! due then runs, and the invariants look on.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::coverage::{Coverage, rare};
use super::faults::{Adversary, fault};
use super::invariants::{Book, View};
use super::net::{Host, SharedWorld, SimNet, World};
use super::node::{Death, Outcome, Shape, SimNode, client_owner};
use super::report::Violation;
use super::workload::{Fact, Inquirer, Operator, Publisher, PublisherPlan, Subscriber, Visitor};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::base::prng::Prng;
use crate::base::units::show_ns;
use crate::entry::Durability;
use crate::log::LogError;

/// Steps without time moving on: more of them is a livelock.
const STEPS_AT_ONE_TIME_MAX: u64 = 10_000;
/// For so long a node may mend in peace before somebody looks after it.
const MENDING_PATIENCE_NS: u64 = 5_000 * NS_PER_MS;
/// What each publisher adds while a minority is ill.
const ILL_EVENTS: u64 = 20;
/// First host of the publishers.
const PUBLISHERS: Host = 100;
/// Host of the operator.
const OPERATOR: Host = 109;
/// First host of the subscribers.
const SUBSCRIBERS: Host = 200;
/// First host of the visitors.
const VISITORS: Host = 300;
/// First host of the inquirers.
const INQUIRERS: Host = 400;

/// The whole simulated world.
pub struct Cluster {
    /// The network, which is also the clock.
    pub world: SharedWorld,
    /// What is the same for all nodes.
    pub shape: Shape,
    /// The nodes.
    pub nodes: Vec<SimNode>,
    /// Who publishes.
    pub publishers: Vec<Publisher>,
    /// Who reads, one a node.
    pub subscribers: Vec<Subscriber>,
    /// Who reads a bit here and there, one a node.
    pub visitors: Vec<Visitor>,
    /// Who asks how far the log is committed, one a node.
    pub inquirers: Vec<Inquirer>,
    /// Who hands leadership over and replaces disks.
    pub operator: Operator,
    /// Who breaks things.
    pub adversary: Adversary,
    /// What must hold.
    pub book: Book,
    /// What the run has met.
    pub coverage: Coverage,
    /// Acknowledgements so far.
    pub acknowledgements: u64,
    /// Who stays ill for a while although faults have ended.
    pub ill: Vec<usize>,
    /// Tells on stderr what happens, node by node.
    pub narrate: bool,
    told: BTreeMap<NodeId, String>,
    steps_at_this_time: u64,
}

impl Cluster {
    /// Formats and starts all nodes.
    #[must_use]
    pub fn new(shape: Shape, plans: &[PublisherPlan], prng: &mut Prng) -> Self {
        let world = World::new(prng.fork(1));
        let nodes: Vec<SimNode> = shape
            .ids()
            .map(|id| {
                let mut node = SimNode::format(id, &shape, &world, prng.fork(u64::from(id.0) + 10));
                node.restart_at_ns = Some(NS_PER_MS);
                node
            })
            .collect();
        let net = |host: Host| {
            let (host, slot) = client_owner(host);
            SimNet::new(Rc::clone(&world), (host, slot))
        };
        let publishers = plans.iter().enumerate().map(|(place, plan)| {
            let place = place as u16;
            Publisher::new(place, *plan, net(PUBLISHERS + place), prng.fork(100 + u64::from(place)))
        });
        let publishers = publishers.collect();
        let subscribers = shape
            .ids()
            .map(|id| Subscriber::new(id, net(SUBSCRIBERS + id.0), prng.fork(200 + u64::from(id.0))));
        let subscribers = subscribers.collect();
        let adversary = Adversary::new(prng.fork(2), &shape);
        let restless = adversary.knows(fault::TRANSFER);
        let operator = Operator::new(shape.nodes, net(OPERATOR), prng.fork(3), restless);
        let visitors = shape
            .ids()
            .map(|id| Visitor::new(id, net(VISITORS + id.0), prng.fork(300 + u64::from(id.0))))
            .collect();
        let pause_ns = [0, 10, 60, 200][prng.below(4) as usize] * NS_PER_MS;
        let inquirers = shape
            .ids()
            .map(|id| Inquirer::new(id, net(INQUIRERS + id.0), prng.fork(400 + u64::from(id.0)), pause_ns))
            .collect();
        let book = Book::new(
            shape.durability == Durability::Disk,
            shape.batcher,
            shape.segment_bytes,
            shape.retention,
        );
        Self {
            world,
            nodes,
            publishers,
            subscribers,
            visitors,
            inquirers,
            operator,
            adversary,
            book,
            coverage: Coverage::default(),
            acknowledgements: 0,
            ill: Vec::new(),
            narrate: false,
            told: BTreeMap::new(),
            steps_at_this_time: 0,
            shape,
        }
    }

    /// No faults from the beginning, and nobody hands leadership over.
    pub fn be_kind(&mut self) {
        self.adversary.next_ns = u64::MAX;
        self.operator.settle_down();
    }

    /// Simulated time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.world.borrow().now_ns()
    }

    /// Lets everything happen up to `until_ns`, or until `enough` says so (asked now and then).
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn advance(&mut self, until_ns: u64, mut enough: impl FnMut(&Self) -> bool) -> Result<(), Violation> {
        let mut steps = 0u64;
        loop {
            let now_ns = self.now_ns();
            let next_ns = self.next_due_ns(now_ns).max(now_ns);
            if next_ns > until_ns {
                self.world.borrow_mut().advance_to(until_ns.max(now_ns));
                return Ok(());
            }
            self.steps_at_this_time = if next_ns > now_ns { 0 } else { self.steps_at_this_time + 1 };
            if self.steps_at_this_time > STEPS_AT_ONE_TIME_MAX {
                return Err(Violation::new("no livelock", self.describe_standstill(now_ns)));
            }
            self.world.borrow_mut().advance_to(next_ns);
            self.step(next_ns)?;
            steps += 1;
            if steps.is_multiple_of(64) && enough(self) {
                return Ok(());
            }
        }
    }

    fn describe_standstill(&self, now_ns: u64) -> String {
        let mut text = format!("time stands still at {now_ns} ns:");
        for node in &self.nodes {
            let ready = self.world.borrow().host_is_ready(node.host());
            let due_ns = node.next_due_ns(now_ns);
            text.push_str(&format!(
                " node {} ready {ready}, due {due_ns:?} {};",
                node.id,
                node.describe_due(now_ns)
            ));
        }
        for publisher in &self.publishers {
            text.push_str(&format!(" {}, due {};", publisher.describe(), publisher.next_due_ns()));
        }
        for subscriber in &self.subscribers {
            text.push_str(&format!(" subscriber due {};", subscriber.next_due_ns()));
        }
        text
    }

    fn next_due_ns(&self, now_ns: u64) -> u64 {
        let world = self.world.borrow();
        let nodes = self.nodes.iter().filter_map(|node| {
            let ready =
                node.running.is_some() && node.paused_until_ns <= now_ns && world.host_is_ready(node.host());
            if ready { Some(now_ns) } else { node.next_due_ns(now_ns) }
        });
        let clients = self
            .publishers
            .iter()
            .map(Publisher::next_due_ns)
            .chain(self.subscribers.iter().map(Subscriber::next_due_ns))
            .chain(self.visitors.iter().map(Visitor::next_due_ns))
            .chain(self.inquirers.iter().map(Inquirer::next_due_ns))
            .chain([self.operator.next_due_ns()]);
        nodes
            .chain(clients)
            .chain(world.next_arrival_ns())
            .chain([self.adversary.next_due_ns()])
            .min()
            .unwrap_or(u64::MAX)
    }

    fn step(&mut self, now_ns: u64) -> Result<(), Violation> {
        if self.adversary.next_due_ns() <= now_ns {
            self.adversary.act(now_ns, &self.world, &mut self.nodes, &self.shape);
        }
        for place in 0..self.nodes.len() {
            self.step_node(place, now_ns)?;
            if self.narrate {
                self.tell(place);
            }
        }
        self.step_clients(now_ns)
    }

    fn step_node(&mut self, place: usize, now_ns: u64) -> Result<(), Violation> {
        let node = &mut self.nodes[place];
        if node.running.is_none() {
            return match node.restart_at_ns {
                Some(at) if at <= now_ns => self.start(place, now_ns),
                _ => Ok(()),
            };
        }
        let ready = self.world.borrow().host_is_ready(node.host());
        if !ready && node.next_due_ns(now_ns).is_none_or(|at| at > now_ns) {
            return Ok(());
        }
        let outcome = node.run(now_ns, &self.shape);
        self.look_at(place)?;
        self.hear_answers(place)?;
        if self.nodes[place].running.is_none() {
            return Ok(());
        }
        match outcome? {
            Outcome::Alive => Ok(()),
            Outcome::DiskFailed => {
                self.disk_failed(place, now_ns);
                Ok(())
            }
            Outcome::Anew => {
                self.nodes[place].close();
                self.nodes[place].restart_at_ns = Some(now_ns);
                Ok(())
            }
            Outcome::GaveUp(what) => {
                self.nodes[place].close();
                self.given_up(place, now_ns, &what)
            }
        }
    }

    /// A node says that it cannot mend its disk: somebody puts in another one. Only what the adversary has damaged may
    /// come to that, and only where nobody else can have a copy, or the hard state is gone.
    fn given_up(&mut self, place: usize, now_ns: u64, what: &str) -> Result<(), Violation> {
        let id = self.nodes[place].id;
        if self.adversary.atlas.is_whole(place) {
            return Err(Violation::new("nodes start again", format!("node {id}: {what}")));
        }
        if self.narrate {
            eprintln!("{:>14} node {id} gives up: {what}", show_ns(now_ns));
        }
        self.nodes[place].note_rare("disk_given_up", 1);
        self.adversary.replace_disk(now_ns, &mut self.nodes, place, &self.shape);
        Ok(())
    }

    fn disk_failed(&mut self, place: usize, now_ns: u64) {
        let node = &mut self.nodes[place];
        let (death, name) = if node.disk.is_down() {
            (Death::PowerLost, fault::POWER_LOSS_MID_WRITE)
        } else {
            (Death::Killed, fault::DISK_ERROR)
        };
        self.adversary.count(name);
        self.adversary.fell(now_ns, node, death);
    }

    fn start(&mut self, place: usize, now_ns: u64) -> Result<(), Violation> {
        let node = &mut self.nodes[place];
        let operations = node.disk.operations();
        let outcome = node.start(&self.shape);
        match outcome {
            Ok(()) => {
                if node.life > 1 {
                    self.adversary.count(fault::RESTART);
                }
                let word = (u64::from(node.id.0) << 32) | node.life;
                self.world.borrow_mut().fold_trace(word);
                self.look_at(place)
            }
            // A fault that was planned met the recovery: again, later.
            Err(crate::agent::boot::BootError::Log(LogError::Disk(_) | LogError::Poisoned(_)))
                if node.disk.operations() > operations =>
            {
                self.disk_failed(place, now_ns);
                Ok(())
            }
            Err(error) => self.given_up(place, now_ns, &error.to_string()),
        }
    }

    /// Shows a node to the invariants.
    fn look_at(&mut self, place: usize) -> Result<(), Violation> {
        let node = &self.nodes[place];
        let Some(serving) = node.serving() else { return Ok(()) };
        let view = View {
            node: node.id,
            incarnation: node.incarnation,
            life: node.life,
            raft: serving.batcher.raft(),
            configurations: serving.batcher.configurations(),
            producers: serving.batcher.producers(),
            applied: serving.batcher.applied(),
            applied_next_offset: serving.batcher.applied_next_offset(),
            state: serving.batcher.state(),
            flushed: serving.writer.store().flushed_index(),
            flushed_generation: serving.writer.store().generation(),
            has_mended: node.began_mended,
            holdings: serving.batcher.holdings(),
        };
        self.book.observe(&view)?;
        self.coverage.look(&self.nodes, place);
        Ok(())
    }

    /// Tells what has changed with a node.
    fn tell(&mut self, place: usize) {
        let node = &self.nodes[place];
        let state = match node.serving() {
            None if node.is_mending() => "mends".to_owned(),
            None => "down".to_owned(),
            Some(serving) => {
                let raft = serving.batcher.raft();
                format!(
                    "life {} {:?} of term {} under {:?}, last {:?}, flushed {}, committed {}, claims {:?}",
                    node.life,
                    raft.role(),
                    raft.term(),
                    raft.leader(),
                    raft.last_id(),
                    serving.writer.store().flushed_index(),
                    raft.commit_index(),
                    raft.claimed_tail(),
                )
            }
        };
        let now_ns = self.now_ns();
        let id = self.nodes[place].id;
        if self.told.get(&id) != Some(&state) {
            eprintln!("{:>14} node {id}: {state}", show_ns(now_ns));
            self.told.insert(id, state);
        }
    }

    /// Shows the answers that the node has just sent.
    fn hear_answers(&mut self, place: usize) -> Result<(), Violation> {
        let taps = self.world.borrow_mut().take_taps();
        let node = &self.nodes[place];
        let Some(serving) = node.serving() else {
            return match taps.first() {
                Some(tap) if node.is_mending() => Err(Violation::new(
                    "who mends takes no part",
                    format!("node {} answers node {} while it mends", node.id, tap.to),
                )),
                _ => Ok(()),
            };
        };
        let flushed: LogIndex = serving.writer.store().flushed_index();
        let from = (node.id, node.incarnation);
        let mut voted = false;
        for tap in taps {
            voted |= self.book.answered(from, NodeId(tap.to), &tap.frame, flushed)?;
        }
        if voted {
            let now_ns = self.now_ns();
            self.adversary.after_vote(now_ns, &mut self.nodes[place]);
        }
        Ok(())
    }

    fn step_clients(&mut self, now_ns: u64) -> Result<(), Violation> {
        let mut facts = Vec::new();
        for (place, publisher) in self.publishers.iter_mut().enumerate() {
            let events = self.world.borrow_mut().take_ready(client_owner(PUBLISHERS + place as u16));
            if !events.is_empty() || publisher.next_due_ns() <= now_ns {
                publisher.turn(now_ns, &mut facts)?;
            }
        }
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            let events = self.world.borrow_mut().take_ready(client_owner(SUBSCRIBERS + 1 + place as u16));
            if !events.is_empty() || subscriber.next_due_ns() <= now_ns {
                subscriber.turn(now_ns, &mut facts)?;
            }
        }
        self.step_guests(now_ns, &mut facts)?;
        self.step_operator(now_ns)?;
        for fact in &facts {
            if let Fact::Acknowledged(ack) = fact {
                self.acknowledgements += 1;
                let word = (u64::from(ack.producer) << 48) ^ (ack.sequence.0 << 24) ^ ack.offset.0;
                self.world.borrow_mut().fold_trace(word);
            }
            self.book.learnt(fact)?;
        }
        Ok(())
    }

    fn step_guests(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        for (place, visitor) in self.visitors.iter_mut().enumerate() {
            let events = self.world.borrow_mut().take_ready(client_owner(VISITORS + 1 + place as u16));
            if !events.is_empty() || visitor.next_due_ns() <= now_ns {
                visitor.turn(now_ns, facts)?;
            }
        }
        for (place, inquirer) in self.inquirers.iter_mut().enumerate() {
            let events = self.world.borrow_mut().take_ready(client_owner(INQUIRERS + 1 + place as u16));
            if !events.is_empty() || inquirer.next_due_ns() <= now_ns {
                inquirer.turn(now_ns, facts)?;
            }
        }
        Ok(())
    }

    fn step_operator(&mut self, now_ns: u64) -> Result<(), Violation> {
        let events = self.world.borrow_mut().take_ready(client_owner(OPERATOR));
        if events.is_empty() && self.operator.next_due_ns() > now_ns {
            return Ok(());
        }
        if self.adversary.has_relented() {
            self.adversary.atlas.refresh(&self.nodes, &self.shape);
            self.replace_who_waits_in_vain(now_ns);
            self.accept_what_nobody_can_tell(now_ns);
        }
        self.operator.turn(now_ns, &self.adversary.atlas.to_replace())
    }

    /// A node that mends goes by the disks that it knows (decision 0006). Where one of those was replaced meanwhile, and
    /// nobody else has a copy, it waits for ever, and says for whom: somebody puts in a new disk.
    fn replace_who_waits_in_vain(&mut self, now_ns: u64) {
        let was_replaced = |node: &SimNode| node.formattings > 1;
        for place in 0..self.nodes.len() {
            let waits = self.nodes[place]
                .mends_since_ns
                .is_some_and(|since_ns| since_ns + MENDING_PATIENCE_NS < now_ns);
            let others = self.nodes.iter().enumerate().any(|(at, node)| at != place && was_replaced(node));
            if waits && others {
                self.nodes[place].note_rare("mending_in_vain", 1);
                self.adversary.replace_disk(now_ns, &mut self.nodes, place, &self.shape);
            }
        }
    }

    /// A node claims a torn tail, a disk that may have had the entry is gone, or has lost just that and mends, and nobody
    /// leads: nobody is left to tell, so somebody says that the claim may go (decision 0009). Nothing acknowledged is lost
    /// by it where the disk has kept all that it flushed, so a node with damage is not told so; the atlas sees to it that
    /// this is never needed.
    fn accept_what_nobody_can_tell(&mut self, now_ns: u64) {
        if self.shape.durability != Durability::Disk {
            return;
        }
        for place in 0..self.nodes.len() {
            let Some(claimed) = self.nodes[place].waits_with_a_claim(now_ns, MENDING_PATIENCE_NS) else {
                continue;
            };
            let asks_in_vain = |node: &SimNode| {
                node.mends_since_ns.is_some_and(|since_ns| since_ns + MENDING_PATIENCE_NS < now_ns)
                    && node.asks_about().is_some_and(|first| first <= claimed)
            };
            let cannot_tell = |node: &SimNode| node.formattings > 1 || asks_in_vain(node);
            if self.nodes.iter().any(cannot_tell) && self.adversary.atlas.is_whole(place) {
                let node = &mut self.nodes[place];
                node.note_rare(rare::LOSS_ACCEPTED, 1);
                node.die(Death::Killed);
                (node.accepts_loss, node.restart_at_ns) = (true, Some(now_ns));
            }
        }
    }

    /// Faults end, publishers send nothing new, subscribers settle down.
    pub fn make_peace(&mut self) {
        let now_ns = self.now_ns();
        self.adversary.relent(now_ns, &self.world, &mut self.nodes);
        self.publishers.iter_mut().for_each(Publisher::finish_up);
        self.subscribers.iter_mut().for_each(Subscriber::settle_down);
        self.operator.settle_down();
    }

    /// From now on faults stay on a minority, and a little more is published. Says whether they do.
    pub fn keep_some_ill(&mut self) -> bool {
        let (now_ns, most) = (self.now_ns(), usize::from(self.shape.nodes).saturating_sub(1) / 2);
        self.ill = self.adversary.keep_some_ill(now_ns, &self.world, &mut self.nodes, most);
        if !self.ill.is_empty() {
            self.publishers.iter_mut().for_each(|publisher| publisher.go_on(ILL_EVENTS));
        }
        !self.ill.is_empty()
    }

    /// The minority is well again.
    pub fn heal(&mut self) {
        let now_ns = self.now_ns();
        let ill = std::mem::take(&mut self.ill);
        self.adversary.heal(now_ns, &self.world, &mut self.nodes, &ill);
    }

    /// Whether one of the others cannot do without those who are ill: it claims what they may have, or has to mend by
    /// their copies, or the cluster has not begun, for which all must meet.
    #[must_use]
    pub fn needs_who_is_ill(&self) -> bool {
        let others = self.nodes.iter().enumerate().filter(|(place, _)| !self.ill.contains(place));
        others.into_iter().any(|(place, node)| {
            let claims_or_waits = node.serving().is_some_and(|serving| {
                serving.batcher.raft().claimed_tail().is_some()
                    || serving
                        .batcher
                        .configurations()
                        .newest()
                        .voters
                        .iter()
                        .any(|voter| voter.incarnation == Incarnation(0))
            });
            node.is_mending() || !self.adversary.atlas.is_whole(place) || claims_or_waits
        })
    }

    /// Everything sent is acknowledged, every node has applied the same whole log, every subscriber has read it. Those who
    /// are ill are not asked.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.unfinished().is_none()
    }

    /// What is not done yet, in words.
    #[must_use]
    pub fn unfinished(&self) -> Option<String> {
        if let Some(publisher) = self.publishers.iter().find(|publisher| !publisher.is_done()) {
            return Some(publisher.describe());
        }
        if !self.adversary.atlas.is_clear() {
            return Some(self.adversary.atlas.describe());
        }
        let mut ends = Vec::new();
        let is_ill = |place: usize| self.ill.contains(&place);
        for (_, node) in self.nodes.iter().enumerate().filter(|(place, _)| !is_ill(*place)) {
            if node.is_mending() {
                return Some(format!("node {} mends", node.id));
            }
            let Some(serving) = node.serving() else { return Some(format!("node {} is down", node.id)) };
            let raft = serving.batcher.raft();
            // What is flushed is of the log as the log writer knows it, which a truncation may still have to reach.
            let store = serving.writer.store();
            let (flushed, is_of_this_log) =
                (store.flushed_index(), store.generation() == raft.log_generation());
            let last = raft.last_id().index;
            if serving.batcher.applied().0 != last || flushed != last || !is_of_this_log {
                return Some(format!(
                    "node {} ({:?}, term {}, leader {:?}) has {} appended, {flushed} flushed, {} committed",
                    node.id,
                    raft.role(),
                    raft.term(),
                    raft.leader(),
                    raft.last_id(),
                    raft.commit_index()
                ));
            }
            ends.push((raft.last_id(), raft.leader(), serving.batcher.producers().tail_next_offset()));
        }
        if ends.windows(2).any(|pair| pair[0] != pair[1]) || ends.iter().any(|end| end.1.is_none()) {
            return Some(format!("nodes end at {ends:?}"));
        }
        let next_offset = ends.first().map(|end| end.2)?;
        let mut places = 0..self.subscribers.len();
        let late = places.find(|&at| !is_ill(at) && self.subscribers[at].next_offset() != next_offset);
        late.map(|place| {
            let at = self.subscribers[place].next_offset();
            format!("the subscriber of node {} is at {at} of {next_offset}", place + 1)
        })
    }
}
