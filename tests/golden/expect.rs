//! What a scenario claims. A claim that does not hold fails the test, also where the output is written anew: what is
//! recorded can be wrong in silence, a claim cannot.
//!
//! `expect n1 leader` (any role, or `down`), `expect n1 term 4`, `expect n1 commit 3`, `expect n1 log 1 2 4` (terms),
//! `expect n1 follows n2` or `nobody`, `expect n1 voted n2` or `nobody`, `expect n1 claims 3@t2` or `nothing`,
//! `expect n1 has x=1`, `expect n1 lacks x=1`, `expect committed x=1`, `expect uncommitted x=1`,
//! `expect n1 voters 1,2,3`, `expect nobody leads`.

use tercet::raft::Role;

use crate::commands::node;
use crate::log::{Slot, What};
use crate::words;
use crate::world::World;

/// # Errors
/// What is so instead.
pub fn holds(world: &World, args: &[&str]) -> Result<(), String> {
    match args {
        ["committed", event] => same("committed", is_committed(world, event), true),
        ["uncommitted", event] => same("committed", is_committed(world, event), false),
        ["nobody", "leads"] => {
            let mut up = world.nodes.iter().filter_map(|(id, node)| Some((id, node.raft.as_ref()?)));
            match up.find(|(_, raft)| raft.role() == Role::Leader) {
                Some((id, _)) => Err(format!("n{id} leads")),
                None => Ok(()),
            }
        }
        [id, rest @ ..] => of_node(world, node(id)?, rest),
        [] => Err("expect what?".to_owned()),
    }
}

fn of_node(world: &World, id: u16, args: &[&str]) -> Result<(), String> {
    if args == ["down"] {
        return same("down", world.nodes.get(&id).is_some_and(|node| node.raft.is_none()), true);
    }
    let raft = world.raft(id)?;
    let has = |event: &str| world.nodes[&id].log.slots.iter().any(|slot| is_event(slot, event));
    let nobody = || "nobody".to_owned();
    match args {
        ["term", term] => same("term", raft.term().to_string(), (*term).to_owned()),
        ["commit", index] => same("commit", raft.commit_index().to_string(), (*index).to_owned()),
        ["follows", of] => {
            same("follows", raft.leader().map_or_else(nobody, |n| format!("n{n}")), (*of).to_owned())
        }
        ["voted", of] => {
            let vote = raft.hard_state().voted_for;
            same("voted", vote.map_or_else(nobody, |n| format!("n{n}")), (*of).to_owned())
        }
        ["claims", claim] => {
            let now = raft.claimed_tail().map_or("nothing".to_owned(), words::entry);
            same("claims", now, (*claim).to_owned())
        }
        ["log", terms @ ..] => {
            let slots = &world.nodes[&id].log.slots;
            let now: Vec<String> = slots.iter().map(|slot| slot.term.to_string()).collect();
            same("log", now.join(" "), terms.join(" "))
        }
        ["voters", ids] => {
            let now: Vec<String> = raft.membership().voters().iter().map(ToString::to_string).collect();
            same("voters", now.join(","), (*ids).to_owned())
        }
        ["has", event] => same("has it", has(event), true),
        ["lacks", event] => same("has it", has(event), false),
        [role] => same("role", words::role(raft.role()), *role),
        _ => Err("expect what?".to_owned()),
    }
}

fn is_event(slot: &Slot, event: &str) -> bool {
    matches!(&slot.what, What::Event(word) if word == event)
}

fn is_committed(world: &World, event: &str) -> bool {
    world.committed.values().any(|slot| is_event(slot, event))
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, now: T, wanted: T) -> Result<(), String> {
    if now == wanted { Ok(()) } else { Err(format!("{what}: expected '{wanted}', is '{now}'")) }
}
