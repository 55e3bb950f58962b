//! Raft told by examples: each file in `tests/golden/` is a story of a few nodes, command by command, with what the core
//! does below each command. It drives `tercet::raft` itself and nothing else; the test fails where a word differs.
//!
//! `TERCET_WRITE_GOLDEN=1 cargo test --test golden` writes the output anew, after a deliberate change of the core: read
//! the difference before it is committed. Claims (`> expect …`) and the safety properties of the Raft paper are checked
//! in either case, so what is wrong cannot be recorded as right by accident. The commands stand in
//! `tests/golden/commands.rs`.

#![allow(clippy::unwrap_used)]

#[path = "golden/commands.rs"]
mod commands;
#[path = "golden/expect.rs"]
mod expect;
#[path = "golden/log.rs"]
mod log;
#[path = "golden/script.rs"]
mod script;
#[path = "golden/show.rs"]
mod show;
#[path = "golden/words.rs"]
mod words;
#[path = "golden/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use script::Part;
use world::World;

/// Lines shown of what went before an error.
const BEFORE: usize = 30;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Runs a whole file and gives it as it should be.
fn play(name: &str, text: &str) -> Result<String, String> {
    let parts = script::parse(text).map_err(|error| format!("{name}: {error}"))?;
    let mut world = World::default();
    let mut outputs = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let Part::Step(step) = part else { continue };
        let done = catch_unwind(AssertUnwindSafe(|| commands::run(&mut world, &step.command)));
        match done.unwrap_or_else(|panic| Err(panic_words(&*panic))) {
            Ok(lines) => outputs.push(lines),
            Err(error) => {
                outputs.push(std::mem::take(&mut world.out));
                let before = script::write(&parts[..=at], &outputs);
                let before: Vec<&str> = before.lines().rev().take(BEFORE).collect();
                let before = before.into_iter().rev().collect::<Vec<_>>().join("\n");
                let place = format!("tests/golden/{name}.txt:{}: > {}", step.line, step.command);
                return Err(format!("{before}\n\n{place}\n{error}"));
            }
        }
    }
    Ok(script::write(&parts, &outputs))
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let recorded = std::fs::read_to_string(&path).expect("the scenario is there");
    let now = play(name, &recorded).unwrap_or_else(|error| panic!("{error}"));
    if std::env::var_os("TERCET_WRITE_GOLDEN").is_some() {
        // At once, for other tests read it meanwhile.
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, now).expect("the scenario is written");
        std::fs::rename(&fresh, &path).expect("the scenario is written");
    } else if let Some(difference) = script::difference(&recorded, &now) {
        panic!(
            "tests/golden/{name}.txt: the core does something else ('-' is recorded, '+' is so now):\n{difference}\n\
             If that is meant: TERCET_WRITE_GOLDEN=1 cargo test --test golden"
        );
    }
}

/// One test a file.
macro_rules! scenarios {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        const SCENARIOS: &[&str] = &[$(stringify!($name),)*];
    };
}

scenarios! {
    acknowledged_before_and_after_the_flush,
    change_rolled_back_by_truncation,
    checkpoint_installed,
    claimed_tail_settled_by_a_leader,
    claimed_tail_settled_by_the_others,
    conflict_truncated,
    disruptive_node_and_hints,
    figure_8,
    first_election,
    leader_commits_before_its_own_flush,
    leader_crashes_before_the_flush,
    learner_promoted_3_4_3,
    messages_doubled_and_reordered,
    partial_partition,
    pre_vote_keeps_a_healthy_leader,
    read_index_in_a_fresh_term,
    slow_follower_and_its_window,
    split_vote,
    transfer_of_leadership,
    transfer_that_fails,
}

#[test]
fn every_file_is_played_and_told() {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".txt").map(str::to_owned)
    };
    let there: BTreeSet<String> = std::fs::read_dir(folder()).unwrap().filter_map(of).collect();
    let played: BTreeSet<String> = SCENARIOS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(there, played);
    for name in SCENARIOS {
        let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        let parts = script::parse(&text).unwrap();
        let lines = |is: fn(&Part) -> bool| parts.iter().filter(|part| is(part)).count();
        let prose = lines(|part| matches!(part, Part::Prose(line) if !line.is_empty()));
        let claims = lines(|part| matches!(part, Part::Step(step) if step.command.starts_with("expect ")));
        assert!(text.starts_with("# ") && prose >= 5, "{name} is narrated");
        assert!(claims >= 2, "{name} claims something");
    }
}

#[test]
fn the_same_commands_give_the_same_words() {
    for name in SCENARIOS {
        let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        assert_eq!(play(name, &text), play(name, &text), "{name}");
    }
}

#[test]
fn a_word_that_differs_is_shown_where_it_stands() {
    let story = "# A story\n\n> nodes 3\n> quietly elect n1\n> show state\n";
    let whole = play("story", story).unwrap();
    assert_eq!(script::difference(&whole, &play("story", &whole).unwrap()), None);
    let altered = whole.replace("n2 follower of n1", "n2 follower of n3");
    let shown = script::difference(&altered, &whole).unwrap();
    let lines: Vec<&str> = shown.lines().filter(|line| !line.contains("   ")).collect();
    assert!(lines.is_empty() && shown.contains(" - ") && shown.contains(" + "), "{shown}");
    assert_eq!(script::difference("a\nb\nc\n", "a\nc\n"), Some("   1   a\n   2 - b\n   3   c".to_owned()));
}

#[test]
fn a_claim_that_does_not_hold_and_a_command_that_is_none_are_errors_at_their_line() {
    let after = |commands: &str| play("story", &format!("# A story\n> nodes 3\n{commands}\n"));
    let error = |commands: &str| after(commands).unwrap_err();
    assert!(error("> expect n1 leader").contains("story.txt:3: > expect n1 leader"));
    assert!(error("> expect n1 leader").contains("expected 'leader', is 'follower'"));
    assert!(error("> quietly elect n1\n> expect n1 term 3").contains("expected '3', is '2'"));
    for broken in ["> dance n1", "> deliver n1->n2", "> elect 1", "> crash n9", "> restart n1", "> cut"] {
        assert!(error(broken).contains(broken), "{broken}");
    }
    assert!(play("story", "# A story\n    output of nothing\n").is_err());
    // A panic of the core is an error at its line as well.
    assert!(error("> trim n1 9").contains("only committed"));
}
