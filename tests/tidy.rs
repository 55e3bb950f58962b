//! The house is kept tidy by a test: what reviewers would otherwise have to say twice.

mod rust_source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use rust_source::{Source, code_only, files, root, without_literals};

const FILE_LINES_MAX: usize = 800;
const LINE_CHARS_MAX: usize = 140;
const PARTS: [&str; 5] = ["src", "tests", "tools", "benches", "examples"];

fn all_rust() -> Vec<Source> {
    let sources: Vec<Source> = PARTS.iter().flat_map(|part| files(part, &[".rs"])).collect();
    assert!(sources.len() > 15, "the sources were found");
    sources
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "untidy:\n{}", broken.join("\n"));
}

/// `file:line: what` for every line of `text` that `is_bad`.
fn lines_where(source: &Source, text: &str, what: &str, is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let numbered = text.lines().enumerate().filter(|(_, line)| is_bad(line));
    numbered.map(|(number, _)| format!("{}:{}: {what}", source.path, number + 1)).collect()
}

#[test]
fn no_file_grows_into_a_monster() {
    let broken: Vec<String> = all_rust()
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(source, lines)| {
            format!("{}: {lines} lines are more than {FILE_LINES_MAX}; split it by role", source.path)
        })
        .collect();
    assert_none(&broken);
}

#[test]
fn lines_are_short_enough_to_read() {
    let long = |source: &Source| {
        let text = literals_removed(&source.text);
        lines_where(source, &text, "line too long", |line| line.chars().count() > LINE_CHARS_MAX)
    };
    let broken: Vec<String> =
        all_rust().iter().filter(|source| !source.path.contains("/fixtures/")).flat_map(long).collect();
    assert_none(&broken);
}

/// The text without what stands inside of literals: a long message or dump is no long line.
fn literals_removed(text: &str) -> String {
    let blanked = without_literals(text);
    let lines = text.lines().zip(blanked.lines());
    let kept = lines.map(|(line, blank)| {
        let shown = line.chars().zip(blank.chars()).filter(|(c, b)| c == b).map(|(c, _)| c);
        shown.collect::<String>()
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_is_left_for_later() {
    let fix_me = concat!("FIX", "ME");
    let mut broken = Vec::new();
    for source in &all_rust() {
        let code = code_only(&source.text);
        for mark in [concat!("to", "do!("), concat!("unimple", "mented!("), "dbg!(", concat!("#[", "ignore")]
        {
            broken.extend(lines_where(source, &code, mark, |line| line.contains(mark)));
        }
        let text = without_literals(&source.text);
        for mark in [fix_me, concat!("XX", "X")] {
            broken.extend(lines_where(source, &text, mark, |line| line.contains(mark)));
        }
    }
    assert_none(&broken);
}

#[test]
fn every_unsafe_says_why_it_is_safe() {
    let broken: Vec<String> = all_rust().iter().flat_map(unexplained_unsafe).collect();
    assert_none(&broken);
}

/// Uses of `unsafe` without `SAFETY:` in the comment directly above (attributes and the statement's own first lines
/// may stand between), or `# Safety` in the docs of an unsafe function.
fn unexplained_unsafe(source: &Source) -> Vec<String> {
    let (code, text) = (code_only(&source.text), without_literals(&source.text));
    let (code, text): (Vec<&str>, Vec<&str>) = (code.lines().collect(), text.lines().collect());
    let is_unsafe = |line: &str| {
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.any(|word| word == "unsafe")
    };
    let explained = |line: usize| {
        let says = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
        if says(text[line]) {
            return true;
        }
        let ends = |code: &str| code.ends_with([';', '}', '{', ',']);
        let above = (0..line).rev().take_while(|at| !text[*at].trim().is_empty());
        for at in above {
            if says(text[at]) {
                return true;
            }
            let code = code[at].trim_end();
            if !code.trim().is_empty() && !code.trim_start().starts_with("#[") && ends(code) {
                return false;
            }
        }
        false
    };
    let lines = (0..code.len()).filter(|at| is_unsafe(code[*at]) && !explained(*at));
    lines.map(|at| format!("{}:{}: unsafe without a SAFETY comment above", source.path, at + 1)).collect()
}

#[test]
fn there_is_no_async_runtime() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for runtime in ["tokio", "async-std", "smol", "async-executor"] {
        let line = format!("name = \"{runtime}\"");
        assert!(
            !lock.lines().any(|found| found == line),
            "{runtime} has come in; see `cargo tree -i {runtime}`"
        );
    }
}

#[test]
fn every_page_of_the_docs_is_reached_from_the_index_and_no_link_is_dead() {
    let index = root().join("docs/INDEX.md");
    if !index.exists() {
        return;
    }
    let (mut reached, mut waiting, mut broken) = (BTreeSet::new(), vec![index], Vec::new());
    while let Some(page) = waiting.pop() {
        if !reached.insert(page.clone()) {
            continue;
        }
        for target in links(&fs::read_to_string(&page).unwrap()) {
            let file = resolve(page.parent().unwrap(), &target);
            if !file.exists() {
                broken.push(format!("{}: dead link to {target}", shown(&page)));
            } else if file.extension().is_some_and(|ending| ending == "md") {
                waiting.push(file);
            }
        }
    }
    let pages = files("docs", &[".md"]);
    let lost = pages.iter().filter(|page| !reached.contains(&root().join(&page.path)));
    broken.extend(lost.map(|page| format!("{}: not reached from docs/INDEX.md", page.path)));
    assert_none(&broken);
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Targets of `[text](target)` that are files: no addresses, no anchors within the page, nothing in code blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let target = target.split(['#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// `dir` and `target` together, with `..` taken out.
fn resolve(dir: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in dir.join(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => path.push(part),
        }
    }
    path
}

#[test]
fn planted_untidiness_is_found() {
    let plant = |text: &str| Source { path: "src/planted.rs".to_owned(), text: text.to_owned() };
    let bare = plant("fn f() {\n    g();\n    unsafe { h() }\n}\n");
    assert_eq!(unexplained_unsafe(&bare), ["src/planted.rs:3: unsafe without a SAFETY comment above"]);
    let good = "fn f() {\n    // SAFETY: h is fine\n    // as is.\n    let x =\n        unsafe { h() };\n}\n// unsafe\n";
    assert_eq!(unexplained_unsafe(&plant(good)), Vec::<String>::new());
    let stale = plant("// SAFETY: of another line\ng();\nunsafe { h() }\n");
    assert_eq!(unexplained_unsafe(&stale).len(), 1);

    let literal = format!("let x = \"{}\";\n", "y".repeat(200));
    assert!(literals_removed(&literal).len() < 20);
    let code = format!("let {} = 1;\n", "y".repeat(200));
    assert!(literals_removed(&code).len() > 200);

    assert_eq!(
        links("[a](b.md#c) [d](https://e) [f](#g)\n```\n[h](i)\n```\n[j](../k \"l\")"),
        ["b.md", "../k"]
    );
    assert_eq!(resolve(Path::new("/a/docs"), "../x/./y.md"), PathBuf::from("/a/x/y.md"));
}
