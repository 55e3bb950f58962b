//! The walls between the rooms of `src/`: a lower floor never imports a higher one, rooms of one floor not each other,
//! unless the table here says so. In a single package nothing else keeps them.
//!
//! Every path counts, not only `use` lines: `crate::room::…`, grouped and nested imports, and `super::super::room::…`.
//! `#[cfg(test)]` code and test files count too, except that they may use `crate::sim`. The binary may use the
//! library's public face alone.

mod rust_source;

use rust_source::{Source, Token, files, tokens};

/// What one room, or one part of a room, may import. The longest matching `from` decides.
struct Rule {
    from: &'static str,
    may: &'static [&'static str],
    /// Parts that stay shut although `may` holds what is around them.
    never: &'static [&'static str],
}

const fn row(from: &'static str, may: &'static [&'static str]) -> Rule {
    Rule { from, may, never: &[] }
}

const FLOOR_0_TO_2: &[&str] = &["base", "entry", "raft", "stream", "metrics", "net", "log", "protocol"];
const FLOOR_0_TO_3: &[&str] =
    &["base", "entry", "raft", "stream", "metrics", "net", "log", "protocol", "agent"];

/// The table 'Rooms' of the architecture. A room may always import itself, except where a part of it has a row.
const RULES: &[Rule] = &[
    row("base", &[]),
    row("entry", &["base"]),
    row("raft", &["base"]),
    row("stream", &["base", "entry"]),
    row("metrics", &["base"]),
    row("net", &["base"]),
    row("log", &["base", "entry", "raft"]),
    row("protocol", &["base", "entry"]),
    Rule {
        from: "protocol::frame",
        may: &["base", "protocol"],
        never: &["protocol::client", "protocol::peer"],
    },
    Rule { from: "protocol::client", may: &["base", "entry", "protocol"], never: &["protocol::peer"] },
    Rule {
        from: "protocol::peer",
        may: &["base", "entry", "raft", "protocol"],
        never: &["protocol::client"],
    },
    row("agent", FLOOR_0_TO_2),
    row("runtime", FLOOR_0_TO_3),
    row("config", &["base", "entry"]),
    row("client", &["base", "entry", "net", "protocol::frame", "protocol::client"]),
    row(
        "node",
        &[
            "base", "entry", "raft", "stream", "metrics", "net", "log", "protocol", "agent", "runtime",
            "config",
        ],
    ),
    row("sim", FLOOR_0_TO_3),
];

/// What the command line may see of the library: floors 0 and 5, and what `log verify`, `bench` and the like show.
const PUBLIC_FACE: &[&str] = &["base", "entry", "metrics", "log", "client", "config", "node", "runtime"];

/// One path found in a file, from the crate's root.
struct Found {
    path: Vec<String>,
    line: usize,
    in_test: bool,
}

#[test]
fn the_walls_between_the_rooms_stand() {
    let sources = files("src", &[".rs"]);
    assert!(sources.len() > 15, "the sources were found");
    let violations: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(violations.is_empty(), "walls broken:\n{}", violations.join("\n"));
}

#[test]
fn every_room_has_a_row() {
    let lib = files("src", &["lib.rs"]).remove(0);
    let words = tokens(&lib.text);
    let rooms: Vec<&str> =
        words.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text.as_str()).collect();
    assert!(rooms.contains(&"base") && rooms.contains(&"sim"), "{rooms:?}");
    for room in rooms {
        assert!(RULES.iter().any(|rule| rule.from == room), "room '{room}' has no row in tests/walls.rs");
    }
}

/// Lines `file:line: rule` for every path that breaks one.
fn violations(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let words = tokens(&source.text);
    let binary = source.path.starts_with("src/bin/");
    let mut broken = Vec::new();
    let mut say = |line: usize, what: String| broken.push(format!("{}:{line}: {what}", source.path));
    for pair in words.windows(3) {
        if pair[0].text == "#" && pair[1].text == "[" && pair[2].text == "path" {
            say(pair[0].line, "#[path] would hide a file from its room".to_owned());
        }
    }
    for found in paths(&words, &module, binary) {
        let Some(room) = found.path.first() else {
            say(found.line, "the crate's root may not be imported as a whole; name the room".to_owned());
            continue;
        };
        if binary {
            if !PUBLIC_FACE.contains(&room.as_str()) {
                say(found.line, format!("the command line may not use tercet::{room}, only {PUBLIC_FACE:?}"));
            }
        } else if !allowed(&module, &found, is_test_file(&source.path)) {
            let rule = rule_of(&module);
            let path = found.path.join("::");
            say(found.line, format!("{} may not use crate::{path}; it may use {:?}", rule.from, rule.may));
        }
    }
    broken
}

/// `src/raft/log.rs` → `[raft, log]`; `None` for `lib.rs`, which holds nothing but the rooms' names.
fn module_of(path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    (module != ["lib"]).then_some(module)
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("tests") || path.contains("/tests/")
}

fn rule_of(module: &[String]) -> &'static Rule {
    let name = module.join("::");
    let matching = RULES.iter().filter(|rule| is_within(&name, rule.from));
    matching
        .max_by_key(|rule| rule.from.len())
        .unwrap_or_else(|| panic!("room of {name} has no row in tests/walls.rs"))
}

fn is_within(path: &str, room: &str) -> bool {
    path == room || path.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

fn allowed(module: &[String], found: &Found, test_file: bool) -> bool {
    let rule = rule_of(module);
    let path = found.path.join("::");
    // A whole room may use itself; a part with a row of its own says what it may use of its room.
    let own = !rule.from.contains("::") && is_within(&path, rule.from);
    let simulated = (found.in_test || test_file) && found.path[0] == "sim";
    let open = rule.may.iter().any(|room| is_within(&path, room));
    let shut = rule.never.iter().any(|room| is_within(&path, room));
    own || simulated || (open && !shut)
}

/// Every path of the file that leaves its module, from the crate's root. In the binary: those into the library.
fn paths(words: &[Token], module: &[String], binary: bool) -> Vec<Found> {
    let mut found = Vec::new();
    let mut inner: Vec<(usize, String)> = Vec::new();
    let (mut depth, mut test_until) = (0, 0);
    for at in 0..words.len() {
        match words[at].text.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && words[at - 2].text == "mod" {
                    inner.push((depth, words[at - 1].text.clone()));
                }
            }
            "}" => {
                inner.retain(|(opened, _)| *opened < depth);
                depth = depth.saturating_sub(1);
            }
            "#" if is_cfg_test(&words[at..]) => test_until = test_until.max(item_end(words, at)),
            _ => {}
        }
        if !begins_path(words, at) {
            continue;
        }
        let root = match words[at].text.as_str() {
            "crate" if !binary => Vec::new(),
            "tercet" => Vec::new(),
            "self" | "super" if !binary => {
                module.iter().cloned().chain(inner.iter().map(|(_, name)| name.clone())).collect()
            }
            _ => continue,
        };
        for path in expand(words, at, root) {
            found.push(Found { path, line: words[at].line, in_test: at < test_until });
        }
    }
    found
}

/// Whether a path begins at `at`: followed by `::`, and not behind a `.` or another segment (a leading `::` is none).
fn begins_path(words: &[Token], at: usize) -> bool {
    let text = |at: Option<usize>| at.and_then(|at| words.get(at)).map_or("", |word| word.text.as_str());
    let is_name = |text: &str| text.chars().any(|c| c.is_alphanumeric() || c == '_' || c == '>');
    let continued = match text(at.checked_sub(1)) {
        "." => true,
        "::" => is_name(text(at.checked_sub(2))) && text(at.checked_sub(2)) != "use",
        _ => false,
    };
    !continued && text(Some(at + 1)) == "::"
}

/// All paths of the tree that begins at `at`, with `base` as the module that `self` means.
fn expand(words: &[Token], at: usize, base: Vec<String>) -> Vec<Vec<String>> {
    let mut path = base;
    let mut at = at;
    loop {
        let Some(word) = words.get(at) else { return vec![path] };
        match word.text.as_str() {
            "{" => return expand_group(words, at, &path),
            "super" => {
                path.pop();
            }
            "crate" | "tercet" => path.clear(),
            "self" => {}
            name if name.chars().all(|c| c.is_alphanumeric() || c == '_') => path.push(name.to_owned()),
            _ => return vec![path],
        }
        if words.get(at + 1).is_none_or(|next| next.text != "::") {
            return vec![path];
        }
        at += 2;
    }
}

/// The paths of `{a, b::{c, d}}`.
fn expand_group(words: &[Token], open: usize, base: &[String]) -> Vec<Vec<String>> {
    let (mut all, mut depth) = (Vec::new(), 0);
    for at in open..words.len() {
        match words[at].text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(words[at - 1].text.as_str(), "{" | ",") => {
                all.extend(expand(words, at, base.to_vec()));
            }
            _ => {}
        }
    }
    all
}

fn is_cfg_test(words: &[Token]) -> bool {
    let expected = ["#", "[", "cfg", "(", "test", ")", "]"];
    words.len() >= expected.len() && words.iter().zip(expected).all(|(word, text)| word.text == text)
}

/// Where the item that an attribute at `at` stands before ends: behind its `;` or its closing brace.
fn item_end(words: &[Token], at: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (end, word) in words.iter().enumerate().skip(at) {
        match word.text.as_str() {
            "[" | "(" => brackets += 1,
            "]" | ")" => brackets -= 1,
            "{" => braces += 1,
            "}" if braces == 1 => return end + 1,
            "}" => braces -= 1,
            ";" if braces == 0 && brackets == 0 => return end + 1,
            _ => {}
        }
    }
    words.len()
}

fn planted(path: &str, text: &str) -> Vec<String> {
    violations(&Source { path: path.to_owned(), text: text.to_owned() })
}

#[test]
fn a_planted_violation_is_found_in_every_form() {
    for (path, text, line) in [
        ("src/raft/core.rs", "use crate::base::ids::Term;\nuse crate::entry::Entry;\n", 2),
        ("src/raft/core.rs", "fn f() {\n    crate::log::x();\n}\n", 2),
        ("src/raft/core.rs", "use crate::{base::ids, metrics};\n", 1),
        ("src/raft/core.rs", "use crate::{\n  base::{ids, prng},\n  stream::{self, Producers},\n};\n", 1),
        ("src/raft/core.rs", "use super::super::net::X;\n", 1),
        ("src/raft/mod.rs", "use super::stream;\nuse super::stream::X;\n", 1),
        ("src/raft/deep/core.rs", "fn f() -> super::super::super::log::X {}\n", 1),
        ("src/raft/core.rs", "mod inner {\n  use super::super::super::log::X;\n}\n", 2),
        ("src/raft/core.rs", "#[cfg(test)]\nmod tests { use crate::entry::X; }\n", 2),
        ("src/raft/core.rs", "use crate::sim::Disk;\n", 1),
        ("src/raft/core.rs", "#[cfg(test)]\nuse crate::sim::Disk;\nuse crate::sim::Net;\n", 3),
        ("src/raft/core.rs", "use tercet::log::X;\n", 1),
        ("src/raft/core.rs", "macro_rules! m { () => { $crate::log::x() }; }\n", 1),
        ("src/raft/core.rs", "#[path = \"../log/mod.rs\"]\nmod hidden;\n", 1),
        ("src/log/writer.rs", "use crate::stream::X;\n", 1),
        ("src/protocol/client.rs", "use crate::raft::Message;\n", 1),
        ("src/protocol/client/ack.rs", "use super::super::peer::X;\n", 1),
        ("src/protocol/frame.rs", "use crate::entry::X;\n", 1),
        ("src/client/mod.rs", "use crate::protocol::peer::X;\n", 1),
        ("src/client/mod.rs", "use crate::protocol;\n", 1),
        ("src/client/mod.rs", "use crate::protocol::{self};\n", 1),
        ("src/agent/mod.rs", "use crate::runtime::X;\n", 1),
        ("src/raft/mod.rs", "use super::*;\n", 1),
        ("src/raft/core.rs", "use crate::*;\n", 1),
        ("src/raft/core.rs", "use ::tercet::log::X;\n", 1),
        ("src/bin/tercet/main.rs", "use tercet::raft::Raft;\n", 1),
        ("src/bin/tercet/main.rs", "use tercet::{config::Settings, sim};\n", 1),
    ] {
        let found = planted(path, text);
        let place = format!("{path}:{line}: ");
        assert!(found.iter().any(|text| text.starts_with(&place)), "in {path}:\n{text}\nfound {found:?}");
    }
}

#[test]
fn what_is_allowed_is_let_through() {
    for (path, text) in [
        (
            "src/raft/core.rs",
            "use crate::base::ids::Term;\nuse super::log::X;\nuse self::y::Z;\nuse crate::raft::W;",
        ),
        ("src/raft/core.rs", "// crate::log::x\n/* crate::log */ const S: &str = \"crate::log::x\"; // ok"),
        ("src/raft/core.rs", "mod inner { use super::super::log::X; }"),
        ("src/raft/core.rs", "#[cfg(test)]\nmod tests { use crate::sim::Disk; }"),
        ("src/raft/tests_paper.rs", "use crate::sim::Disk;"),
        ("src/log/writer.rs", "use crate::raft::{HardState, TermRuns};\nuse crate::entry::Entry;"),
        (
            "src/protocol/peer.rs",
            "use crate::raft::Message;\nuse super::frame::Header;\nuse crate::entry::Entry;",
        ),
        ("src/protocol/mod.rs", "pub use self::frame::X;\nuse crate::entry::Entry;"),
        ("src/client/mod.rs", "use crate::protocol::{client::Publish, frame};\nuse crate::net::X;"),
        ("src/node/mod.rs", "use crate::{agent, config::Settings, runtime::Runner};"),
        ("src/bin/tercet/main.rs", "mod dev;\nuse crate::dev::run;\nuse tercet::config::Settings;"),
    ] {
        assert_eq!(planted(path, text), Vec::<String>::new(), "{path}:\n{text}");
    }
}
