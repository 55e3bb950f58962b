//! The table of pitfalls in `docs/TESTING_STRATEGY.md` is kept true: every number in scope has a row, every test that a
//! row names is there, and none is without a test.

mod rust_source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rust_source::{Source, code_only, files, root};

const LEVELS: [&str; 7] = ["codec", "core", "log", "agent", "client", "simulation", "live"];

/// Every number of the list.
fn numbers() -> Vec<String> {
    let mut all: Vec<String> = (1..=63).map(|number| number.to_string()).collect();
    all.extend(["10b".to_owned(), "10c".to_owned()]);
    all
}

/// One row: `| number | what must hold | tests | level |`.
#[derive(Debug)]
struct Row {
    number: String,
    restated: String,
    /// `(path, function)` of each named test.
    tests: Vec<(String, String)>,
    levels: Vec<String>,
}

fn rows(page: &str) -> Vec<Row> {
    let table = page.lines().skip_while(|line| !line.starts_with("| number | what must hold |"));
    let lines = table.skip(2).take_while(|line| line.starts_with('|'));
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells.len(), 4, "four cells: {line}");
    let tests = cells[2].split('`').skip(1).step_by(2).map(|name| {
        let (path, function) = name.split_once("::").unwrap_or_else(|| panic!("`path::name`, not `{name}`"));
        (path.to_owned(), function.to_owned())
    });
    Row {
        number: cells[0].to_owned(),
        restated: cells[1].to_owned(),
        tests: tests.collect(),
        levels: cells[3].split(", ").map(str::to_owned).collect(),
    }
}

/// Names of the test functions in one file.
fn test_functions(source: &Source) -> BTreeSet<String> {
    let code = code_only(&source.text);
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[test]") {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            // Inside `proptest!` the mark stands a line above as well.
            if marked {
                found.insert(rest.split('(').next().unwrap_or_default().to_owned());
            }
            marked = false;
        }
    }
    found
}

/// What is wrong with the page, in words.
fn complaints(page: &str, tests: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let rows = rows(page);
    let mut wrong = Vec::new();
    for number in numbers() {
        let count = rows.iter().filter(|row| row.number == number).count();
        if count != 1 {
            wrong.push(format!("number {number} has {count} rows"));
        }
    }
    for row in &rows {
        wrong.extend(complaints_about(row, tests));
    }
    let listed: BTreeSet<&(String, String)> = rows.iter().flat_map(|row| &row.tests).collect();
    for (path, functions) in tests {
        for function in functions.iter().filter(|function| function.starts_with("pitfall_")) {
            if !listed.contains(&(path.clone(), function.clone())) {
                wrong.push(format!("`{path}::{function}` stands in no row"));
            }
        }
    }
    wrong
}

fn complaints_about(row: &Row, tests: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let number = &row.number;
    let mut wrong = Vec::new();
    if !numbers().contains(number) {
        wrong.push(format!("{number} is no number of the list"));
    }
    if row.restated.len() < 20 {
        wrong.push(format!("{number}: say what must hold"));
    }
    if row.tests.is_empty() {
        wrong.push(format!("{number} names no test"));
    }
    let tag = |function: &str| function.split('_').skip(1).any(|word| word == number);
    if !row.tests.iter().any(|(_, function)| function.starts_with("pitfall_") && tag(function)) {
        wrong.push(format!("{number}: none of its tests carries the number in its name"));
    }
    for (path, function) in &row.tests {
        if !tests.get(path).is_some_and(|functions| functions.contains(function)) {
            wrong.push(format!("{number}: there is no test `{function}` in {path}"));
        }
    }
    if !row.levels.iter().all(|level| LEVELS.contains(&level.as_str())) {
        wrong.push(format!("{number}: levels are {LEVELS:?}, not {:?}", row.levels));
    }
    wrong
}

fn all_tests() -> BTreeMap<String, BTreeSet<String>> {
    let parts = ["src", "tests", "tools"];
    let sources = parts.iter().flat_map(|part| files(part, &[".rs"]));
    sources.map(|source| (source.path.clone(), test_functions(&source))).collect()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/TESTING_STRATEGY.md")).expect("the page is there")
}

#[test]
fn every_pitfall_has_a_row_and_every_named_test_is_there() {
    let wrong = complaints(&page(), &all_tests());
    assert!(wrong.is_empty(), "docs/TESTING_STRATEGY.md:\n{}", wrong.join("\n"));
}

#[test]
fn a_table_that_is_not_true_is_found_out() {
    let (page, tests) = (page(), all_tests());
    let broken = |from: &str, to: &str| {
        assert!(page.contains(from), "{from}");
        complaints(&page.replacen(from, to, 1), &tests)
    };
    assert!(!broken("\n| 16 | ", "\n| 99 | ").is_empty(), "a number is missing, another is none");
    assert!(!broken("::pitfall_16_", "::pitfall_61_").is_empty(), "a test that does not exist");
    let row_31 = page.lines().find(|line| line.starts_with("| 31 |")).expect("a row");
    assert!(!broken(row_31, "| 31 | a row that names no test at all | not built yet | none |").is_empty());
    let mut more = tests.clone();
    more.entry("tests/sim.rs".to_owned()).or_default().insert("pitfall_7_new".to_owned());
    assert_eq!(complaints(&page, &more).len(), 1, "a new test stands in no row yet");
}
