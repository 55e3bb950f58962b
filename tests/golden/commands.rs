//! The commands of a scenario. A node is `n1`, a link `n1->n2`.
//!
//! | command | what it does |
//! |---|---|
//! | `nodes 3` (`window 2`) | so many nodes, all voters, formatted and started |
//! | `add n4` | one more node, formatted like the others; no member yet |
//! | `elect n1` | the other nodes miss their leader, then n1 does; all messages arrive |
//! | `timeout n1`, `fire n1 TIMER` | its election timer, or another one, runs out |
//! | `tick 10` | time passes; timers run out by themselves and messages arrive |
//! | `propose n1 x=1 y=2` | a client's entries |
//! | `change n1 voters 1,2,3 learners 4` | a change of membership |
//! | `transfer n1 n2` | leadership is to be handed over |
//! | `read n1 7` | a linearizable read, number 7 |
//! | `deliver`, `deliver n1->n2 n2->n1`, `deliver n1->n2 last` | what is on its way arrives: all, of these links, the newest |
//! | `hold n1`, `hold n1->n2`, `release …` | what is sent there waits until it is released or delivered by its link |
//! | `drop n1->n2`, `double n1->n2` | what is on its way there is lost, or arrives twice |
//! | `cut n1`, `cut n1 n2`, `cut n1->n2`, `heal` | what is sent there from now on is lost |
//! | `slow n1`, `fast n1`, `flush n1` (`vote`, `log`) | its disk waits for `flush`, or does not |
//! | `crash n1`, `crash n1 torn 3`, `restart n1` | a crash loses what is not flushed; torn: entries from 3 on are damaged |
//! | `hint n2 n1` | n2 learns for certain that the process of n1 is gone |
//! | `hang n1`, `unhang n1` | its disk takes nothing, as its log writer tells the core |
//! | `trim n1 5`, `checkpoint n1->n3` | retention removes entries up to 5; a checkpoint is sent |
//! | `remember c`, `return to c` | everything is again as it was then: another future |
//! | `show logs`, `show state`, `show wire`, `show progress n1` | |
//! | `expect …` | see `expect.rs`: holds, or the test fails, whatever is recorded |
//! | `quietly COMMAND` | the command, and nothing of what it prints |

use tercet::base::ids::{LogIndex, NodeId};
use tercet::raft::{HardState, LogView, Membership, Role, TimerKind};

use crate::expect;
use crate::log::What;
use crate::show;
use crate::words;
use crate::world::{Flight, Load, World};

type Done = Result<(), String>;

/// Does one command and gives the lines that it prints.
///
/// # Errors
/// What is wrong with the command, or does not hold.
pub fn run(world: &mut World, command: &str) -> Result<Vec<String>, String> {
    world.out.clear();
    let before = world.next_number;
    let (quietly, rest) = match command.strip_prefix("quietly ") {
        Some(rest) => (true, rest),
        None => (false, command),
    };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (name, args) = words.split_first().ok_or("an empty command")?;
    dispatch(world, name, args)?;
    if quietly {
        return Ok(Vec::new());
    }
    let fresh: Vec<String> =
        world.wire.iter().filter(|flight| flight.number > before).map(|flight| flight.words("...")).collect();
    world.out.extend(fresh);
    Ok(std::mem::take(&mut world.out))
}

fn dispatch(world: &mut World, name: &str, args: &[&str]) -> Done {
    match (name, args) {
        ("nodes", [count]) => nodes(world, count, "8"),
        ("nodes", [count, "window", window]) => nodes(world, count, window),
        ("add", [id]) => add(world, node(id)?),
        ("elect", [id]) => elect(world, node(id)?),
        ("timeout", [id]) => world.fire(node(id)?, TimerKind::Election),
        ("fire", [id, timer]) => world.fire(node(id)?, kind(timer)?),
        ("tick", [count]) => world.tick(number(count)?),
        ("propose", [id, events @ ..]) => propose(world, node(id)?, events),
        ("change", [id, rest @ ..]) => change(world, node(id)?, &membership(rest)?),
        ("transfer", [id, to]) => transfer(world, node(id)?, node(to)?),
        ("read", [id, token]) => {
            let token = number(token)?;
            world.with(node(id)?, |raft| raft.read_index(token))
        }
        ("hint", [id, gone]) => {
            let gone = NodeId(node(gone)?);
            world.with(node(id)?, |raft| raft.suspect_leader(gone))
        }
        ("hang" | "unhang", [id]) => world.with(node(id)?, |raft| raft.set_disk_stalled(name == "hang")),
        ("trim", [id, index]) => trim(world, node(id)?, LogIndex(number(index)?)),
        ("checkpoint", [link]) => checkpoint(world, one_link(link)?),
        ("crash", [id]) => crash(world, node(id)?, None),
        ("crash", [id, "torn", index]) => crash(world, node(id)?, Some(LogIndex(number(index)?))),
        ("restart", [id]) => restart(world, node(id)?),
        ("remember", [what]) => {
            world.remember(what);
            Ok(())
        }
        ("return", ["to", what]) => world.return_to(what),
        ("expect", args) => expect::holds(world, args),
        ("show", args) => show::show(world, args),
        _ => wires_and_disks(world, name, args),
    }
}

fn wires_and_disks(world: &mut World, name: &str, args: &[&str]) -> Done {
    match (name, args) {
        ("deliver", []) => world.deliver_all(),
        ("deliver", [link, "last"]) => {
            let link = one_link(link)?;
            let at = world.wire.iter().rposition(|flight| flight.link() == link);
            world.arrive(at.ok_or("nothing is on its way there")?);
            Ok(())
        }
        ("deliver", all) => deliver(world, &links(world, all)?),
        ("hold", all) => {
            let links = links(world, all)?;
            world.held.extend(links);
            Ok(())
        }
        ("release", all) => {
            let links = links(world, all)?;
            world.held.retain(|link| !links.contains(link));
            Ok(())
        }
        ("drop", all) => {
            let links = links(world, all)?;
            let there = |flight: &Flight| links.contains(&flight.link());
            let (lost, kept): (Vec<_>, Vec<_>) = world.wire.drain(..).partition(there);
            world.wire = kept.into();
            lost.iter().for_each(|flight| world.say(flight.words("-x")));
            some(!lost.is_empty(), "nothing is on its way there")
        }
        ("double", all) => {
            let links = links(world, all)?;
            let again: Vec<_> = world.wire.iter().filter(|flight| links.contains(&flight.link())).collect();
            let again: Vec<_> = again.into_iter().cloned().collect();
            again.iter().for_each(|flight| world.say(format!("twice: {}", flight.words("..."))));
            let any = !again.is_empty();
            world.wire.extend(again);
            some(any, "nothing is on its way there")
        }
        ("cut", all) => {
            let links = links(world, all)?;
            world.cut.extend(links);
            Ok(())
        }
        ("heal", []) => {
            world.cut.clear();
            Ok(())
        }
        ("slow" | "fast", [id]) => {
            let id = node(id)?;
            world.raft(id)?;
            world.node(id).slow = name == "slow";
            world.resume(id);
            Ok(())
        }
        ("flush", [id]) => flush(world, node(id)?, true, true),
        ("flush", [id, "vote"]) => flush(world, node(id)?, true, false),
        ("flush", [id, "log"]) => flush(world, node(id)?, false, true),
        _ => Err("no such command".to_owned()),
    }
}

fn some(is: bool, otherwise: &str) -> Done {
    if is { Ok(()) } else { Err(otherwise.to_owned()) }
}

pub fn node(word: &str) -> Result<u16, String> {
    let id = word.strip_prefix('n').and_then(|id| id.parse().ok());
    id.ok_or(format!("a node is n1, n2, …, not '{word}'"))
}

pub fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("'{word}' is no number"))
}

fn one_link(word: &str) -> Result<(u16, u16), String> {
    let (from, to) = word.split_once("->").ok_or(format!("a link is n1->n2, not '{word}'"))?;
    Ok((node(from)?, node(to)?))
}

/// `n1->n2` as it stands, `n1 n2` both ways, `n1` alone to and from everybody.
fn links(world: &World, args: &[&str]) -> Result<Vec<(u16, u16)>, String> {
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for word in args {
        match word.contains("->") {
            true => all.push(one_link(word)?),
            false => ends.push(node(word)?),
        }
    }
    match ends[..] {
        [] if !all.is_empty() => {}
        [a, b] => all.extend([(a, b), (b, a)]),
        [a] => all.extend(world.nodes.keys().filter(|&&b| b != a).flat_map(|&b| [(a, b), (b, a)])),
        _ => return Err("which links?".to_owned()),
    }
    Ok(all)
}

fn kind(word: &str) -> Result<TimerKind, String> {
    Ok(match word {
        "election" => TimerKind::Election,
        "leader-quiet" => TimerKind::LeaderQuiet,
        "heartbeat" => TimerKind::Heartbeat,
        "check-quorum" => TimerKind::CheckQuorum,
        "pre-vote-retry" => TimerKind::PreVoteRetry,
        "transfer" => TimerKind::Transfer,
        _ => return Err(format!("there is no timer '{word}'")),
    })
}

fn ids(word: &str) -> Result<Vec<NodeId>, String> {
    word.split(',').map(|id| id.parse().map(NodeId).map_err(|_| format!("'{word}': ids are 1,2,3"))).collect()
}

fn membership(args: &[&str]) -> Result<Membership, String> {
    let (voters, learners) = match args {
        ["voters", voters] => (ids(voters)?, Vec::new()),
        ["voters", voters, "learners", learners] => (ids(voters)?, ids(learners)?),
        _ => return Err("say: voters 1,2,3 learners 4".to_owned()),
    };
    Membership::new(voters, learners).map_err(|error| error.to_string())
}

fn nodes(world: &mut World, count: &str, window: &str) -> Done {
    let count: u16 = count.parse().map_err(|_| "how many nodes?".to_owned())?;
    world.window = window.parse().map_err(|_| "how many entries?".to_owned())?;
    let voters = (1..=count).map(NodeId).collect();
    let membership = Membership::new(voters, Vec::new()).map_err(|error| error.to_string())?;
    (1..=count).for_each(|id| world.add(id, membership.clone()));
    world.out.clear();
    world.say(format!("{count} nodes, formatted: entry 1@t1 names them all"));
    Ok(())
}

fn add(world: &mut World, id: u16) -> Done {
    let first = world.nodes.values().next().ok_or("there is no cluster")?;
    let (_, membership) = first.disk.config_at(LogIndex(1));
    world.add(id, membership);
    world.out.clear();
    world.say(format!("n{id} is formatted like the others; entry 1@t1 does not name it"));
    Ok(())
}

fn elect(world: &mut World, id: u16) -> Done {
    let others: Vec<u16> = world.nodes.keys().copied().filter(|&other| other != id).collect();
    for other in others {
        if world.raft(other).is_ok() {
            world.fire(other, TimerKind::LeaderQuiet)?;
        }
    }
    world.fire(id, TimerKind::Election)?;
    world.deliver_all()
}

fn propose(world: &mut World, id: u16, events: &[&str]) -> Done {
    for event in events {
        let raft = world.raft(id)?;
        if let Some(target) = raft.transfer_target() {
            world.say(format!("n{id} takes nothing: it hands leadership to n{target}"));
            return Ok(());
        }
        let node = world.node(id).raft.as_mut().ok_or("it is down")?;
        match node.propose() {
            Ok(at) => world.append(id, at, What::Event((*event).to_owned())),
            Err(refused) => {
                let to = refused.leader.map_or("nobody known".to_owned(), |leader| format!("n{leader}"));
                world.say(format!("n{id} does not lead; ask {to}"));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn change(world: &mut World, id: u16, next: &Membership) -> Done {
    world.raft(id)?;
    let raft = world.node(id).raft.as_mut().ok_or("it is down")?;
    match raft.propose_membership(next.clone()) {
        Ok(at) => world.append(id, at, What::Config(next.clone())),
        Err(error) => world.say(format!("n{id} refuses: {error}")),
    }
    Ok(())
}

fn transfer(world: &mut World, id: u16, to: u16) -> Done {
    match world.with(id, |raft| raft.transfer_to(NodeId(to)))? {
        Ok(()) => world.say(format!("n{id} will hand leadership to n{to} and takes nothing meanwhile")),
        Err(error) => world.say(format!("n{id} refuses: {error}")),
    }
    Ok(())
}

fn trim(world: &mut World, id: u16, last_removed: LogIndex) -> Done {
    let raft = world.raft(id)?;
    some(last_removed <= raft.commit_index(), "only committed entries are removed")?;
    let node = world.node(id);
    node.log.trim(last_removed);
    node.disk.trim(last_removed);
    world.say(format!("n{id} keeps a checkpoint, and removes entries up to {last_removed}"));
    world.with(id, |raft| raft.log_trimmed(last_removed))
}

fn checkpoint(world: &mut World, (from, to): (u16, u16)) -> Done {
    let raft = world.raft(from)?;
    some(raft.needs_checkpoint(NodeId(to)), "it needs none")?;
    let (term, index) = (raft.term(), raft.commit_index());
    let at = raft.log().term_at(index).ok_or("the checkpoint's entry is not there")?;
    let id = tercet::base::ids::EntryId::new(at, index);
    let config = world.nodes[&from].log.config_at(index);
    world.send(from, to, Load::Checkpoint { term, id, config });
    world.with(from, |raft| raft.checkpoint_sent(NodeId(to), index))
}

fn crash(world: &mut World, id: u16, torn: Option<LogIndex>) -> Done {
    world.raft(id)?;
    world.stop(id);
    if let Some(from) = torn {
        let node = world.node(id);
        let last = node.disk.last();
        some(from <= last.index, "no such entry is on the disk")?;
        node.disk.truncate(from);
        node.disk_hard = HardState { claimed_tail: Some(last), ..node.disk_hard };
        world.say(format!(
            "n{id}'s disk is damaged from index {from} on; a header still names {}",
            words::entry(last)
        ));
    }
    Ok(())
}

fn restart(world: &mut World, id: u16) -> Done {
    let node = world.nodes.get(&id).ok_or("there is no such node")?;
    some(node.raft.is_none(), "it is up")?;
    let (hard, last) = (words::hard(&node.disk_hard), words::entry(node.disk.last()));
    world.say(format!("n{id} reads from its disk: {hard}; log up to {last}"));
    world.start(id);
    Ok(())
}

fn deliver(world: &mut World, links: &[(u16, u16)]) -> Done {
    let numbers: Vec<u64> =
        world.wire.iter().filter(|flight| links.contains(&flight.link())).map(|f| f.number).collect();
    some(!numbers.is_empty(), "nothing is on its way there")?;
    for number in numbers {
        // A copy has the number of its original.
        if let Some(at) = world.wire.iter().position(|flight| flight.number == number) {
            world.arrive(at);
        }
    }
    Ok(())
}

fn flush(world: &mut World, id: u16, vote: bool, log: bool) -> Done {
    let raft = world.raft(id)?;
    let (leads, stable) = (raft.role() == Role::Leader, raft.stable_index());
    let mut any = false;
    if vote && world.flush_hard(id) {
        any = true;
        let line = format!("n{id} has on its disk: {}", words::hard(&world.nodes[&id].disk_hard));
        world.say(line);
    }
    if log && world.flush_log(id) {
        any = true;
        let now = world.nodes[&id].disk.last().index;
        let whose = if leads { "leader's " } else { "" };
        world.say(format!("n{id} has flushed: the {whose}disk reaches {now}, was {stable}"));
    }
    world.resume(id);
    some(any, "nothing waits for this disk")
}
