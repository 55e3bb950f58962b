//! Nodes that mend, and claimed tails (rule 11): who of them may tell the other what.

use tercet::agent::Agent;
use tercet::agent::batcher::BatcherLimits;
use tercet::agent::commands::{PeerMessage, PeerSaid, SenderCommand};
use tercet::agent::control::Control;
use tercet::agent::mending::{Mending, MendingSettings};
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{NodeRings, ReceiverRings, SenderRings, make_rings};
use tercet::base::ids::{EntryId, Incarnation, LogIndex, NodeId, Term};
use tercet::entry::Durability;
use tercet::log::layout::{ENTRIES_POSITION, HARD_STATE_NAME};
use tercet::log::{LogStore, Mender, StoredHardState};
use tercet::metrics::Counters;
use tercet::protocol::peer::CopyState;
use tercet::raft::Message;
use tercet::raft::claim::unknown_claim;
use tercet::sim::disk::{SimDisk, SimFile};

use crate::batcher::with_claimed_tail;
use crate::bench::{Bench, batch_after, data_dir, first_entry, formatted, options};

const PEER: NodeId = NodeId(2);
const PINNED: Incarnation = Incarnation(22);

/// A disk with entries of term 3 of which one is damaged.
fn damaged() -> SimDisk {
    let disk = formatted(9);
    let mut store = LogStore::open(disk.clone(), data_dir(), options(), &mut |_, _| ()).unwrap().0;
    store.write_hard_state(&StoredHardState { term: Term(3), ..StoredHardState::default() }).unwrap();
    let mut last = first_entry();
    for sequence in 1..=4 {
        last = batch_after(&last, 3, sequence, 100);
        store.append(last.clone()).unwrap();
    }
    store.flush().unwrap();
    store.close().unwrap();
    drop(store);
    let segment = data_dir().join("group-0").join(tercet::log::layout::segment_name(1));
    disk.flip_bit(&segment, ENTRIES_POSITION + first_entry().len_bytes() as u64 + 90, 1);
    disk
}

struct Desk {
    disk: SimDisk,
    mending: Mending<SimDisk>,
    senders: Vec<SenderRings<()>>,
    receivers: Vec<ReceiverRings<()>>,
}

impl Desk {
    fn new() -> Self {
        let disk = damaged();
        let mender = Mender::open(disk.clone(), data_dir(), options()).unwrap();
        assert_eq!(mender.runs().len(), 1);
        let (counters, control) = (Counters::new(), Control::new());
        let rings: NodeRings<(), SimFile> = make_rings(&[PEER], |_| WakeHandle::none(), &counters);
        let NodeRings { batcher: ends, senders, receivers, .. } = rings;
        let settings = MendingSettings {
            node_id: NodeId(1),
            quorum: 2,
            pins: [(PEER, PINNED)].into(),
            term: Term(3),
            durability: Durability::Disk,
            version: "test",
        };
        let mending = Mending::new(settings, mender, ends, control, &counters);
        Self { disk, mending, senders, receivers }
    }

    /// What is answered to the question of that formatting in `term` about an entry of `claimed_term`.
    fn ask(&mut self, incarnation: Incarnation, term: u64, claimed_term: u64) -> Vec<Message> {
        let claimed = EntryId::new(Term(claimed_term), LogIndex(9));
        let message = Message::ClaimQuery { term: Term(term), claimed };
        let said = PeerSaid::Raft { message, entries: Vec::new() };
        assert!(self.receivers[0].to_batcher.push(PeerMessage { incarnation, said }).is_ok());
        self.mending.do_work(1_000_000, &[]);
        let mut answers = Vec::new();
        while let Some(command) = self.senders[0].from_batcher.pop() {
            if let SenderCommand::Message(message) = command {
                answers.push(message);
            }
        }
        answers
    }

    fn stored_term(&self) -> Term {
        // What a crash leaves of it now.
        let copy = self.disk.snapshot(1);
        copy.restart();
        let bytes = copy.bytes(&data_dir().join(HARD_STATE_NAME));
        let slots = [0, 4096].map(|at| StoredHardState::decode(&bytes[at..at + 512]));
        let terms = slots.into_iter().filter_map(|slot| match slot {
            tercet::log::hard_state::SlotFound::Good(_, state) => Some(state.term),
            _ => None,
        });
        terms.max().unwrap()
    }
}

#[test]
fn a_claim_of_a_later_term_than_this_disk_ever_entered_is_answered_bindingly() {
    let mut desk = Desk::new();
    let answer =
        Message::ClaimReply { term: Term(6), claimed: unknown_claim(Term(3)), last: EntryId::default() };
    assert!(answer.is_well_formed());
    assert_eq!(desk.ask(PINNED, 6, 5), vec![answer.clone()]);
    assert_eq!(desk.stored_term(), Term(6), "it helps no leader of term 5 any more, durably");
    assert_eq!(desk.ask(PINNED, 6, 5), vec![answer], "one that is lost is given again");
}

#[test]
fn what_may_lie_in_the_lost_runs_is_not_denied() {
    let mut desk = Desk::new();
    assert_eq!(desk.ask(PINNED, 6, 3), Vec::new(), "entries of term 3 are among what is lost");
    assert_eq!(desk.stored_term(), Term(3));
    assert_eq!(desk.ask(Incarnation(99), 6, 5), Vec::new(), "another formatting of the peer asks");
}

#[test]
fn what_lies_behind_a_claimed_tail_is_denied_and_the_claimed_entry_is_not() {
    let (disk, claim) = with_claimed_tail();
    let mut bench = Bench::new(&disk, BatcherLimits::default());
    assert_eq!((bench.batcher.raft().claimed_tail(), claim.index), (Some(claim), LogIndex(5)));
    bench.connect(2);
    assert_eq!(bench.hear_fetch(2, 5, 8), Some(CopyState::Unsure), "it may have acknowledged entry 5");
    assert_eq!(bench.hear_fetch(2, 6, 8), Some(CopyState::Absent), "and no later one");
    assert_eq!(bench.hear_fetch(2, 4, 8), None, "what is there is read");
}
