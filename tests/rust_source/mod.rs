//! Rust source as the wall and tidiness tests see it: code apart from comments, strings and character literals.

#![allow(dead_code)] // Each test binary uses its own part.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` whose name ends in one of `endings`, sorted by path. A directory that does not exist has none.
pub fn files(dir: &str, endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(dir), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap_or_default(),
            path: path
                .strip_prefix(root())
                .expect("it was found below the root")
                .to_string_lossy()
                .replace('\\', "/"),
        })
        .collect()
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a directory that can be listed").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, paths);
            }
        } else {
            paths.push(path);
        }
    }
}

/// What a byte of source belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// `text` with comments and the insides of string and character literals blanked; lines stay where they are.
pub fn code_only(text: &str) -> String {
    blank(text, &[Part::Comment, Part::Literal])
}

/// `text` with the insides of string and character literals blanked, comments kept.
pub fn without_literals(text: &str) -> String {
    blank(text, &[Part::Literal])
}

fn blank(text: &str, hidden: &[Part]) -> String {
    let parts = classify(text);
    let blanked = text.char_indices().map(|(at, c)| match c {
        '\n' => '\n',
        _ if hidden.contains(&parts[at]) => ' ',
        _ => c,
    });
    blanked.collect()
}

/// The part that each byte belongs to. Delimiting quotes count as code.
fn classify(text: &str) -> Vec<Part> {
    let bytes = text.as_bytes();
    let mut parts = vec![Part::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (part, skip, length) = if rest.starts_with(b"//") {
            (Part::Comment, 0, rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()))
        } else if rest.starts_with(b"/*") {
            (Part::Comment, 0, block_comment(rest))
        } else if let Some((skip, length)) = raw_string(bytes, at) {
            (Part::Literal, skip, length)
        } else if rest[0] == b'"' {
            (Part::Literal, 1, quoted(rest, b'"'))
        } else if rest[0] == b'\'' && is_character(rest) {
            (Part::Literal, 1, quoted(rest, b'\''))
        } else {
            (Part::Code, 0, 1)
        };
        let end = (at + length).min(bytes.len());
        // The opening delimiter (`skip` bytes) and, for literals, the closing one stay code.
        let closing = if part == Part::Literal { skip.min(length - skip).min(1) } else { 0 };
        for byte in &mut parts[(at + skip).min(end)..end - closing] {
            *byte = part;
        }
        at = end.max(at + 1);
    }
    parts
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// `r"…"`, `r#"…"#`, `br"…"`: bytes before the content, and bytes in all.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
        return None;
    }
    let prefix = [b"br".as_slice(), b"cr", b"r"].into_iter().find(|prefix| rest.starts_with(prefix))?.len();
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let inner = &rest[open + 1..];
    let length = inner.windows(close.len()).position(|window| window == close).unwrap_or(inner.len());
    Some((open + 1, (open + 1 + length + close.len()).min(rest.len())))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, and not a lifetime: `'x'`, `'\n'`, `'ü'`.
fn is_character(rest: &[u8]) -> bool {
    if rest.get(1) == Some(&b'\\') {
        return true;
    }
    let width = match rest.get(1) {
        Some(byte) if *byte >= 0xf0 => 4,
        Some(byte) if *byte >= 0xe0 => 3,
        Some(byte) if *byte >= 0xc0 => 2,
        Some(_) => 1,
        None => return false,
    };
    rest.get(1 + width) == Some(&b'\'')
}

/// A word or a mark of code, with its line (from 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// An identifier, or one mark; `::` is one mark.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
}

/// The words and marks of `text`, comments and literals left out.
pub fn tokens(text: &str) -> Vec<Token> {
    let code = code_only(text);
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                _ => word,
            };
            tokens.push(Token { text: rest[..length].to_owned(), line: number + 1 });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = "a /* b /* c */ d */ e // f\n\"g\\\" h\" i r#\"j \" k\"# l 'm' n '\\'' o <'p> br\"q\" r";
    let words: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|w| w.chars().all(char::is_alphabetic)).collect();
    assert_eq!(words, ["a", "e", "i", "r", "l", "n", "o", "p", "br", "r"]);
    assert_eq!(tokens(text).last().unwrap().line, 2);
    assert!(without_literals(text).contains("// f") && !without_literals(text).contains('g'));
}
