//! The table 'The Raft paper, rule by rule' in `docs/TESTING_STRATEGY.md` is made from the docs of the core's tests: a doc
//! that begins with places in the paper or the thesis is a row. Every line of the paper's figure 2 has a test, and so has
//! every section that says what a node does.
//!
//! `TERCET_WRITE_DOCS=1 cargo test --test raft_paper_table` writes the table.

mod rust_source;

use std::collections::BTreeMap;
use std::fs;

use rust_source::{Source, files, root};

const DOCS: &str = "docs/TESTING_STRATEGY.md";
const BEGINS: &str = "<!-- raft paper: written by tests/raft_paper_table.rs -->\n";
const ENDS: &str = "<!-- end of raft paper -->\n";
const TESTS: &str = "src/raft/tests";

/// The lines of figure 2, by its boxes, numbered where the box has several.
const FIGURE_2: &[&str] = &[
    "persistent state",
    "volatile state",
    "state on leaders",
    "AppendEntries 1",
    "AppendEntries 2",
    "AppendEntries 3",
    "AppendEntries 4",
    "AppendEntries 5",
    "RequestVote 1",
    "RequestVote 2",
    "all servers 1",
    "all servers 2",
    "followers 1",
    "followers 2",
    "candidates 1",
    "candidates 2",
    "candidates 3",
    "candidates 4",
    "leaders 1",
    "leaders 2",
    "leaders 3",
    "leaders 4",
    "leaders 5",
];

const PAPER: &[&str] = &["5.1", "5.2", "5.3", "5.4.1", "5.4.2", "5.4.3", "5.5", "5.6", "6", "7", "8"];
const THESIS: &[&str] = &["3.10", "4.1", "4.2.1", "4.2.2", "4.2.3", "6.2", "6.4", "9.6", "10.2.1"];
const CORRECTION: &str = "Ongaro's correction of 2015";
/// How the names of the tests begin that stand for a place.
const NAMES: [&str; 4] = ["paper_", "thesis_", "correction_2015_", "differs_"];

/// A test with a place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// As the doc says it: `Raft paper 5.1; figure 2, all servers 2`.
    places: String,
    says: String,
    differs: bool,
    path: String,
    test: String,
}

/// Every test of `source` with the text of its doc.
fn tests(source: &Source) -> Vec<(String, String)> {
    let (mut doc, mut marked, mut found) = (Vec::new(), false, Vec::new());
    for line in source.text.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(text.trim().to_owned());
        } else if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
            found.push((rest.split('(').next().unwrap_or_default().to_owned(), doc.join(" ")));
            (doc, marked) = (Vec::new(), false);
        } else if !line.starts_with("#[") {
            (doc, marked) = (Vec::new(), false);
        }
    }
    found
}

fn row(path: &str, test: &str, doc: &str) -> Option<Row> {
    let is_place = ["Raft paper ", "Raft thesis ", CORRECTION].iter().any(|begin| doc.starts_with(begin));
    let (places, says) = doc.split_once(": ").filter(|_| is_place)?;
    let rest = says.strip_prefix("differs: ");
    let differs = says.contains("differs: ");
    let says = rest.unwrap_or(says);
    Some(Row {
        places: places.to_owned(),
        says: says.trim_end_matches('.').to_owned(),
        differs,
        path: path.to_owned(),
        test: test.to_owned(),
    })
}

/// Where a row belongs in the order of the table: the paper first, by section.
fn order(row: &Row) -> (usize, Vec<u32>, bool) {
    let source = ["Raft paper ", "Raft thesis ", CORRECTION].iter().position(|at| row.places.starts_with(at));
    let section =
        row.places.split([' ', ';', ',']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let numbers = section.unwrap_or_default().split('.').filter_map(|part| part.parse().ok()).collect();
    (source.unwrap_or(9), numbers, row.differs)
}

/// The rows in order, and what is wrong with the tests, in words.
fn rows(sources: &[Source]) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for source in sources {
        for (test, doc) in tests(source) {
            let named = NAMES.iter().any(|name| test.starts_with(name));
            match row(&source.path, &test, &doc) {
                Some(row) => rows.push(row),
                None if named => wrong.push(format!("{}::{test}: its doc names no place", source.path)),
                None => {}
            }
        }
    }
    rows.sort_by_key(order);
    for row in &rows {
        if row.says.len() < 30 {
            wrong.push(format!("{}::{}: say what must hold", row.path, row.test));
        }
        if row.test.starts_with("differs_") && !row.differs {
            wrong.push(format!("{}::{}: say how it differs", row.path, row.test));
        }
        if let Some(section) = section_of_name(&row.test)
            && !sections(&row.places).contains(&section)
        {
            wrong.push(format!("{}::{}: its doc names no section {section}", row.path, row.test));
        }
    }
    (rows, wrong)
}

/// `paper_5_4_1_a_…` is of section 5.4.1.
fn section_of_name(test: &str) -> Option<String> {
    let rest = ["paper_", "thesis_", "differs_"].iter().find_map(|name| test.strip_prefix(name))?;
    let numbers: Vec<&str> = rest.split('_').take_while(|part| part.parse::<u32>().is_ok()).collect();
    Some(numbers.join("."))
}

/// The sections that places name: `Raft paper 5.5 and 5.6, figure 3` has 5.5 and 5.6.
fn sections(places: &str) -> Vec<String> {
    let before_figures = places.split("; ").filter(|part| !part.starts_with("figure"));
    let texts = before_figures.map(|part| part.split("figure").next().unwrap_or_default());
    let words = texts.flat_map(|text| text.split([' ', ',']));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

/// The lines of figure 2 that places name: `figure 2, leaders 3 and 4` has two.
fn figure_2(places: &str) -> Vec<String> {
    let Some(part) = places.split("; ").find_map(|part| part.strip_prefix("figure 2, ")) else {
        return Vec::new();
    };
    let words: Vec<&str> = part.split([' ', ',']).filter(|word| !word.is_empty() && *word != "and").collect();
    let (numbers, name): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.parse::<u32>().is_ok());
    let name = name.join(" ");
    match numbers.is_empty() {
        true => vec![name],
        false => numbers.iter().map(|number| format!("{name} {number}")).collect(),
    }
}

/// Which places no test stands for, and which are none.
fn gaps(rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines: Vec<String> = rows.iter().flat_map(|row| figure_2(&row.places)).collect();
    let none = lines.iter().filter(|line| !FIGURE_2.contains(&line.as_str()));
    wrong.extend(none.map(|line| format!("figure 2 has no '{line}'")));
    let open = FIGURE_2.iter().filter(|line| !lines.iter().any(|named| named == *line));
    wrong.extend(open.map(|line| format!("figure 2, {line}: no test")));
    let of = |source: &str| -> Vec<String> {
        let parts = rows.iter().flat_map(|row| row.places.split("; "));
        parts.filter(|part| part.starts_with(source)).flat_map(sections).collect()
    };
    for (source, wanted) in [("Raft paper ", PAPER), ("Raft thesis ", THESIS)] {
        let there = of(source);
        let open = wanted.iter().filter(|section| !there.iter().any(|named| named == *section));
        wrong.extend(open.map(|section| format!("{source}{section}: no test")));
        let none = there.iter().filter(|section| !wanted.contains(&section.as_str()));
        wrong.extend(none.map(|section| format!("{source}{section} is not on the list")));
    }
    if !rows.iter().any(|row| row.places.starts_with(CORRECTION)) {
        wrong.push(format!("{CORRECTION}: no test"));
    }
    wrong
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| place | rule | test |\n|---|---|---|\n");
    for Row { places, says, differs, path, test } in rows {
        let differs = if *differs { "**differs**: " } else { "" };
        let says = says.replace("differs: ", "").replace('|', "/");
        let file = path.strip_prefix(TESTS).unwrap_or(path).trim_start_matches('/');
        text.push_str(&format!("| {places} | {differs}{says} | `{file}::{test}` |\n"));
    }
    text
}

fn sources() -> Vec<Source> {
    files(TESTS, &[".rs"])
}

#[test]
fn the_table_is_true() {
    let (rows, mut wrong) = rows(&sources());
    wrong.extend(gaps(&rows));
    assert!(wrong.is_empty(), "tests of the core:\n{}", wrong.join("\n"));
    let path = root().join(DOCS);
    let text = fs::read_to_string(&path).expect("the page is there");
    let begin = text.find(BEGINS).expect("the table has a place") + BEGINS.len();
    let end = text.find(ENDS).expect("the table ends");
    let table = table(&rows);
    if std::env::var_os("TERCET_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..])).expect("the page is written");
        return;
    }
    let mut there: BTreeMap<&str, i32> = BTreeMap::new();
    text[begin..end].lines().for_each(|line| *there.entry(line).or_default() -= 1);
    table.lines().for_each(|line| *there.entry(line).or_default() += 1);
    let sign = |count: i32| if count > 0 { '+' } else { '-' };
    let differ = there.into_iter().filter(|(_, count)| *count != 0);
    let differ: Vec<String> = differ.map(|(line, count)| format!("{} {line}", sign(count))).collect();
    assert!(
        differ.is_empty() && text[begin..end] == table,
        "{DOCS} ('-' stands there, '+' should):\n{}\nTERCET_WRITE_DOCS=1 cargo test --test raft_paper_table",
        differ.join("\n")
    );
}

#[test]
fn what_is_missing_or_misnamed_is_found() {
    let source = |text: &str| Source { path: format!("{TESTS}/x.rs"), text: text.to_owned() };
    let good = "/// Raft paper 5.1 and 5.2; figure 2, leaders 3 and 4: a rule in so many words, which is\n\
                /// long enough.\n#[test]\n#[should_panic]\nfn paper_5_1_a() {\n}\n";
    let (found, wrong) = rows(&[source(good)]);
    assert_eq!((found.len(), wrong.len()), (1, 0), "{wrong:?}");
    assert_eq!(figure_2(&found[0].places), ["leaders 3", "leaders 4"]);
    assert_eq!(sections(&found[0].places), ["5.1", "5.2"]);
    assert!(table(&found).contains("| `x.rs::paper_5_1_a` |"));
    let wrong = |from: &str, to: &str| rows(&[source(&good.replace(from, to))]).1;
    assert_eq!(wrong("/// Raft", "/// The raft").len(), 1, "no place");
    assert_eq!(wrong("fn paper_5_1_a", "fn paper_5_3_a").len(), 1, "another section");
    assert_eq!(wrong("fn paper_5_1_a", "fn differs_5_1_a").len(), 1, "how does it differ");
    assert_eq!(wrong("a rule in so many words, which is", "").len(), 1, "what is the rule");
    // Every line of figure 2 that loses its last test is named.
    let (all, _) = rows(&sources());
    for line in FIGURE_2 {
        let mut fewer = all.clone();
        fewer.retain(|row| !figure_2(&row.places).iter().any(|named| named == line));
        let gaps = gaps(&fewer);
        assert!(gaps.contains(&format!("figure 2, {line}: no test")), "{line}: {gaps:?}");
    }
    let mut more = all;
    more[0].places = "Raft paper 5.9; figure 2, leaders 7".to_owned();
    assert!(gaps(&more).len() >= 2, "there is no such section, and no such line");
}
