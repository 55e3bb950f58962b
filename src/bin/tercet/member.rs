//! `tercet member`: who belongs to the cluster, and a new disk in a lost one's place.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tercet::base::ids::{Incarnation, NodeId};
use tercet::client::{ClusterMembers, MemberClient, MemberState, MemberStep};

use crate::args::{MemberCommand, MemberListOptions, MemberPromoteOptions, MemberReplaceOptions};
use crate::connect;
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::output;

/// One of the three.
pub fn run(command: &MemberCommand) -> Outcome {
    // Nothing is to be reported that has not been said already, and a second run goes on where this one ends.
    let _interrupt = Interrupt::install(Duration::ZERO)?;
    match command {
        MemberCommand::List(options) => list(options),
        MemberCommand::Promote(options) => promote(options),
        MemberCommand::Replace(options) => replace(options),
    }
}

fn list(options: &MemberListOptions) -> Outcome {
    let servers = connect::servers(&options.servers)?;
    let members = MemberClient::new(&servers, options.timeout)?.list()?;
    if options.json {
        output::print_json(&to_json(&members))?;
    } else {
        output::say(to_table(&members))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn promote(options: &MemberPromoteOptions) -> Outcome {
    let servers = connect::servers(&options.servers)?;
    let begun = Instant::now();
    let mut client = MemberClient::new(&servers, options.timeout)?;
    let node = NodeId(options.node);
    let members = client.promote(node, |step| tell(node, step))?;
    report(options, &members, begun)
}

fn replace(options: &MemberReplaceOptions) -> Outcome {
    let promote = &options.promote;
    let servers = connect::servers(&promote.servers)?;
    let begun = Instant::now();
    let mut client = MemberClient::new(&servers, promote.timeout)?;
    let node = NodeId(promote.node);
    let incarnation = options.incarnation.map(Incarnation);
    let mut is_waiting = false;
    let members = client.replace(node, incarnation, |step| {
        // Waiting is said once.
        if step != MemberStep::WaitingForDisk || !std::mem::replace(&mut is_waiting, true) {
            tell(node, step);
        }
    })?;
    report(promote, &members, begun)
}

/// Progress, on stderr.
fn tell(node: NodeId, step: MemberStep) {
    match step {
        MemberStep::WaitingForDisk => output::note(format_args!(
            "node {node}: waiting for it to show up with a freshly formatted data directory"
        )),
        MemberStep::LetIn(incarnation) => {
            output::note(format_args!("node {node}: learner, incarnation {incarnation}"));
        }
        MemberStep::CatchingUp { missing, is_connected: true } => {
            output::note(format_args!("node {node}: catching up, {missing} entries to go"));
        }
        MemberStep::CatchingUp { is_connected: false, .. } => {
            output::note(format_args!("node {node}: waiting for it to connect"));
        }
        MemberStep::Promoted => output::note(format_args!("node {node}: voter")),
    }
}

fn report(options: &MemberPromoteOptions, members: &ClusterMembers, begun: Instant) -> Outcome {
    let incarnation = members.member(NodeId(options.node)).and_then(|member| member.incarnation);
    if options.json {
        let elapsed_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        output::print_json(&json!({
            "node_id": options.node,
            "role": "voter",
            "incarnation": incarnation.map(|incarnation| incarnation.to_string()),
            "leader_id": members.leader_id.0,
            "term": members.term.0,
            "configuration_index": members.configuration_index.0,
            "elapsed_ms": elapsed_ms,
        }))?;
    } else {
        output::say(format_args!("node {} is a voter\n", options.node))?;
    }
    Ok(ExitCode::SUCCESS)
}

const fn role(member: &MemberState) -> &'static str {
    if member.is_voter { "voter" } else { "learner" }
}

fn to_json(members: &ClusterMembers) -> Value {
    let text = |incarnation: Option<Incarnation>| incarnation.map(|incarnation| incarnation.to_string());
    let rows: Vec<Value> = members
        .members
        .iter()
        .map(|member| {
            json!({
                "node_id": member.node_id.0,
                "role": role(member),
                "leads": member.node_id == members.leader_id,
                "incarnation": text(member.incarnation),
                "connected": member.is_connected,
                "caught_up": member.is_caught_up,
                "stable_index": member.stable_index.0,
                "missing_entries": member.missing,
                "new_incarnation": text(member.newcomer),
                "address": member.address,
            })
        })
        .collect();
    json!({
        "leader_id": members.leader_id.0,
        "term": members.term.0,
        "configuration_index": members.configuration_index.0,
        "committed": members.is_committed,
        "last_index": members.last_index.0,
        "members": rows,
    })
}

fn to_table(members: &ClusterMembers) -> String {
    let mut table = format!(
        "{:<5} {:<8} {:<10} {:>12} {:>10}  {:<32} {}\n",
        "NODE", "ROLE", "STATE", "STABLE", "MISSING", "INCARNATION", "ADDRESS"
    );
    for member in &members.members {
        let state = match member {
            _ if member.node_id == members.leader_id => "leads",
            MemberState { is_connected: false, .. } => "away",
            MemberState { is_caught_up: true, .. } => "caught up",
            _ => "behind",
        };
        let incarnation = member.incarnation.map_or_else(|| "-".to_owned(), |known| known.to_string());
        let _ = writeln!(
            table,
            "{:<5} {:<8} {:<10} {:>12} {:>10}  {:<32} {}",
            member.node_id.0,
            role(member),
            state,
            member.stable_index.0,
            member.missing,
            incarnation,
            member.address.as_deref().unwrap_or("-")
        );
        if let Some(newcomer) = member.newcomer {
            let _ = writeln!(
                table,
                "      another disk of node {} tries to get in (incarnation {newcomer}): where its disk was lost, run \
                 `tercet member replace --node {}`",
                member.node_id, member.node_id
            );
        }
    }
    let committed = if members.is_committed { "committed" } else { "not committed yet" };
    let _ =
        writeln!(table, "configuration {} ({committed}), term {}", members.configuration_index, members.term);
    table
}
