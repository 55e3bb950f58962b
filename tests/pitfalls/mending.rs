//! Nodes that mend, and claimed tails (rule 11): who of them may tell the other what.

use tercet::agent::Agent;
use tercet::agent::batcher::BatcherLimits;
use tercet::agent::commands::{LinkState, PeerIdentity, PeerMessage, PeerSaid, SenderCommand};
use tercet::agent::control::Control;
use tercet::agent::mending::{Mending, MendingSettings};
use tercet::agent::ring::WakeHandle;
use tercet::agent::rings::{NodeRings, ReceiverRings, SenderRings, make_rings};
use tercet::base::ids::{EntryId, Incarnation, LogIndex, NodeId, Term};
use tercet::entry::{Durability, Entry};
use tercet::log::layout::{ENTRIES_POSITION, HARD_STATE_NAME};
use tercet::log::{LogStore, Mender, StoredHardState};
use tercet::metrics::Counters;
use tercet::protocol::peer::{CopyState, MendMessage};
use tercet::raft::Message;
use tercet::raft::claim::unknown_claim;
use tercet::sim::disk::{SimDisk, SimFile};

use crate::batcher::with_claimed_tail;
use crate::bench::{Bench, batch_after, data_dir, first_entry, formatted, options};

const PEER: NodeId = NodeId(2);
const PINNED: Incarnation = Incarnation(22);

/// A disk with entries of term 3 of which the first is damaged, and these entries.
fn damaged() -> (SimDisk, Vec<Entry>) {
    let disk = formatted(9);
    let mut store = LogStore::open(disk.clone(), data_dir(), options(), &mut |_, _| ()).unwrap().0;
    store.write_hard_state(&StoredHardState { term: Term(3), ..StoredHardState::default() }).unwrap();
    let mut log = vec![first_entry()];
    for sequence in 1..=4 {
        let entry = batch_after(log.last().unwrap(), 3, sequence, 100);
        store.append(entry.clone()).unwrap();
        log.push(entry);
    }
    store.flush().unwrap();
    store.close().unwrap();
    drop(store);
    let segment = data_dir().join("group-0").join(tercet::log::layout::segment_name(1));
    disk.flip_bit(&segment, ENTRIES_POSITION + first_entry().len_bytes() as u64 + 90, 1);
    (disk, log.split_off(1))
}

struct Desk {
    disk: SimDisk,
    /// From the damaged entry on.
    lost: Vec<Entry>,
    mending: Mending<SimDisk>,
    senders: Vec<SenderRings<()>>,
    receivers: Vec<ReceiverRings<()>>,
}

impl Desk {
    fn new() -> Self {
        let (disk, lost) = damaged();
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
        Self { disk, lost, mending, senders, receivers }
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

    /// A turn, so much later. The questions about damaged entries that it leads to.
    fn questions(&mut self, now_ns: u64) -> Vec<(u64, LogIndex, LogIndex)> {
        self.mending.do_work(now_ns, &[]);
        let ring = &mut self.senders[0].from_batcher;
        let asked = std::iter::from_fn(|| ring.pop()).filter_map(|command| match command {
            SenderCommand::Mend { message: MendMessage::Fetch { question, first, last }, .. } => {
                Some((question, first, last))
            }
            _ => None,
        });
        asked.collect()
    }

    fn says_absent(&mut self, question: u64, (first, last): (LogIndex, LogIndex)) {
        self.says(MendMessage::Fetched { question, first, last, state: CopyState::Absent }, Vec::new());
    }

    fn says(&mut self, message: MendMessage, entries: Vec<Entry>) {
        let said = PeerSaid::Mend { message, entries };
        assert!(self.receivers[0].to_batcher.push(PeerMessage { incarnation: PINNED, said }).is_ok());
    }

    fn connect(&mut self) {
        let identity = PeerIdentity { incarnation: PINNED, configuration_index: LogIndex(1) };
        assert!(self.senders[0].to_batcher.push(LinkState { connected: Some(identity) }).is_ok());
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

/// Node 3 has been asked when it had nothing, and gets the entry then; the leader that sent it is killed before it has
/// written it, and is asked after that. Whoever takes both words together loses what the two acknowledged.
#[test]
fn pitfall_63_the_log_is_cut_only_when_all_have_said_it_twice_and_late_answers_are_none() {
    let mut desk = Desk::new();
    desk.connect();
    let [(question, first, last)] = desk.questions(1_000_000)[..] else { panic!("one question") };
    assert_eq!((first, last), (LogIndex(2), LogIndex(2)));
    desk.says_absent(question, (first, last));
    // What looked like the next entries may be none of the log.
    let mut asked: Vec<_> = (1..3).flat_map(|turn| desk.questions(turn * 300_000_000)).collect();
    let (first_question, _, last) = asked.pop().unwrap();
    assert_eq!(last, LogIndex(5));
    desk.says_absent(first_question, (first, last));
    asked = (3..5).flat_map(|turn| desk.questions(turn * 300_000_000)).collect();
    // An answer to the first question, which was asked twice.
    desk.says_absent(first_question, (first, last));
    asked.extend((5..7).flat_map(|turn| desk.questions(turn * 300_000_000)).collect::<Vec<_>>());
    assert!(desk.mending.asks_about().is_some(), "nothing is cut");
    let (second_question, ..) = asked[0];
    assert!(asked.iter().all(|again| *again == (second_question, first, last)), "{asked:?}");
    assert_ne!(second_question, first_question);
    let lost = desk.lost.clone();
    let message = MendMessage::Fetched { question: second_question, first, last, state: CopyState::Held };
    desk.says(message, lost);
    (7..9).for_each(|turn| drop(desk.questions(turn * 300_000_000)));
    assert_eq!(desk.mending.asks_about(), None, "whole again");
    let (mending, disk) = (desk.mending, desk.disk);
    drop(mending);
    let (_, recovered) = LogStore::open(disk, data_dir(), options(), &mut |_, _| ()).unwrap();
    assert_eq!(recovered.last.index, LogIndex(5));

    let mut desk = Desk::new();
    desk.connect();
    for turn in 1..9 {
        for (question, first, last) in desk.questions(turn * 300_000_000) {
            desk.says_absent(question, (first, last));
        }
    }
    assert_eq!(desk.mending.asks_about(), None, "said twice: cut");
}
