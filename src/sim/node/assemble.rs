//! Assembly of a simulated node: as `node/` and `runtime/` do it, over the simulated network and disk.

use std::rc::Rc;

use super::clock::LocalClock;
use super::running::{CONDUCTOR, Core, DELIVERY, DISPATCHER, RECEIVERS, Running, SENDERS, Serving};
use super::shape::{CLUSTER, GROUP, Shape, client_address, peer_address};
use crate::agent::ack_receiver::AckReceiver;
use crate::agent::batcher::{Batcher, BatcherSettings, Pins};
use crate::agent::boot::Booted;
use crate::agent::conductor::{Conductor, ConductorSettings};
use crate::agent::control::Control;
use crate::agent::delivery::Delivery;
use crate::agent::dispatcher::{Dispatcher, DispatcherLimits};
use crate::agent::log_writer::LogWriter;
use crate::agent::mending::{Mending, MendingSettings};
use crate::agent::peer_sender::PeerSender;
use crate::agent::reader::Reader;
use crate::agent::reception::Welcome;
use crate::agent::ring::{WakeHandle, ring};
use crate::agent::rings::{BatcherRings, LogWriterRings, NodeRings, ReaderRings, make_rings};
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::entry::{Configuration, Durability};
use crate::log::{LogReader, Mender};
use crate::metrics::{Counter, Counters};
use crate::sim::disk::{SimDisk, SimFile};
use crate::sim::net::{SharedWorld, SimClock, SimNet, SimStream};

/// Reports of the log writer under way at most.
const REPORTS: usize = 256;
/// Commands looked at in one turn of the log writer at most.
const COMMANDS: usize = 4096;

/// Who is assembled, and where.
pub(super) struct Site<'a> {
    pub(super) id: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) seed: u64,
    pub(super) shape: &'a Shape,
    pub(super) world: &'a SharedWorld,
    pub(super) clock: &'a LocalClock,
}

impl Site<'_> {
    fn peers(&self) -> Vec<NodeId> {
        self.shape.ids().filter(|peer| *peer != self.id).collect()
    }

    fn net(&self, slot: u32) -> SimNet {
        SimNet::new(Rc::clone(self.world), (self.id.0, slot))
    }

    fn conductor_settings(&self, (index, known): (LogIndex, &Configuration)) -> ConductorSettings {
        let peers = self.peers();
        ConductorSettings {
            cluster_id: CLUSTER,
            node_id: self.id,
            incarnation: self.incarnation,
            group: GROUP,
            durability: known.durability,
            cluster_version: known.cluster_version,
            peers: peers.iter().map(|peer| (*peer, peer_address(*peer))).collect(),
            members: known.members().copied().collect(),
            configuration_index: index,
            connections_limit: 64,
            handshakes_limit: 64,
            handshake_timeout_ns: ConductorSettings::HANDSHAKE_TIMEOUT_NS,
            seed: self.seed ^ 1,
        }
    }

    fn welcome(&self, durability: Durability) -> Welcome {
        let members = self.shape.ids().map(|member| (member, client_address(member).to_string()));
        Welcome {
            cluster_id: CLUSTER,
            node_id: self.id,
            group: GROUP,
            durability,
            members: members.collect(),
        }
    }

    fn batcher_settings(&self) -> BatcherSettings {
        BatcherSettings {
            node_id: self.id,
            incarnation: self.incarnation,
            batch: self.shape.batch,
            timers: self.shape.timers,
            disk_stall_limit_ns: self.shape.disk_stall_limit_ns,
            retention: self.shape.retention,
            seed: self.seed,
            limits: self.shape.batcher,
            version: "simulated",
        }
    }

    /// The agents around the core, and the core that `make` makes of the other rings.
    fn assemble(
        &self,
        conductor: ConductorSettings,
        pins: Pins,
        make: impl FnOnce(
            BatcherRings,
            LogWriterRings<SimFile>,
            ReaderRings<SimFile>,
            &Control,
            &Counters,
        ) -> Core,
    ) -> Running {
        let peers = self.peers();
        let counters = Counters::new();
        let control = Control::new();
        let rings: NodeRings<SimStream, SimFile> = make_rings(&peers, |_| WakeHandle::none(), &counters);
        let core = make(rings.batcher, rings.log_writer, rings.reader, &control, &counters);
        let welcome = self.welcome(conductor.durability);
        let listeners = self.net(CONDUCTOR);
        let ports =
            (listeners.listen(peer_address(self.id), true), listeners.listen(client_address(self.id), false));
        let conductor =
            Conductor::new(listeners, conductor, ports, pins, rings.conductor, control.clone(), &counters);
        let receivers = rings.receivers.into_iter().enumerate();
        let senders = rings.senders.into_iter().enumerate();
        Running {
            receivers: receivers
                .map(|(at, ends)| AckReceiver::new(self.net(RECEIVERS + at as u32), ends, &counters))
                .collect(),
            dispatcher: Dispatcher::new(
                self.net(DISPATCHER),
                welcome.clone(),
                DispatcherLimits::default(),
                rings.dispatcher,
                counters.clone(),
            ),
            core,
            senders: senders
                .map(|(at, ends)| PeerSender::new(self.net(SENDERS + at as u32), GROUP, ends, &counters))
                .collect(),
            delivery: Delivery::new(
                self.net(DELIVERY),
                welcome,
                self.shape.delivery,
                rings.delivery,
                &counters,
            ),
            conductor: conductor.expect("simulated listeners register"),
            counters,
            control,
        }
    }

    /// A node that takes part.
    pub(super) fn serving(&self, booted: Booted<SimDisk>) -> Running {
        let known = &booted.start.configurations;
        let conductor = self.conductor_settings((known.index(), known.newest()));
        let durability = conductor.durability;
        let pins = booted.start.hard_state.pins.clone();
        self.assemble(conductor, pins, |batcher, mut writer, mut reader, control, counters| {
            let (to_relay, reports_in) = ring(REPORTS, WakeHandle::none(), Counter::detached());
            let reports_out = std::mem::replace(&mut writer.to_batcher, to_relay);
            let (to_writer, commands_out) = ring(COMMANDS, WakeHandle::none(), Counter::detached());
            let commands_in = std::mem::replace(&mut writer.from_batcher, commands_out);
            let (to_answers, answers_in) = ring(REPORTS, WakeHandle::none(), Counter::detached());
            let answers_out = std::mem::replace(&mut reader.to_delivery, to_answers);
            let (generation, flushed) = (booted.start.generation, booted.store.flushed_index());
            let clock = SimClock::new(Rc::clone(self.world), self.clock.clone());
            Core::Serving(Box::new(Serving {
                batcher: Batcher::new(
                    self.batcher_settings(),
                    booted.start,
                    clock,
                    batcher,
                    control.clone(),
                    counters,
                ),
                writer: LogWriter::new(
                    booted.store,
                    durability,
                    flushed,
                    generation,
                    writer,
                    control.clone(),
                    counters,
                ),
                reader: Reader::new(LogReader::new(), reader, control.clone()),
                reports: (reports_in, reports_out),
                commands: (commands_in, to_writer),
                answers: (answers_in, answers_out),
            }))
        })
    }

    /// A node that mends.
    pub(super) fn mending(&self, mender: Mender<SimDisk>) -> Running {
        // The log's own configuration may be what is damaged.
        let first = self.shape.first_configuration();
        let conductor = self.conductor_settings((LogIndex(1), &first));
        let pins = mender.hard_state().pins.clone();
        let settings = MendingSettings {
            node_id: self.id,
            quorum: usize::from(self.shape.nodes) / 2 + 1,
            pins: pins.clone(),
            term: mender.hard_state().term,
            durability: first.durability,
            version: "simulated",
        };
        self.assemble(conductor, pins, |batcher, _, _, control, counters| {
            Core::Mending(Box::new(Mending::new(settings, mender, batcher, control.clone(), counters)))
        })
    }
}
