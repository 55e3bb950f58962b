//! A scenario file: prose, commands, and below each command what it printed.
//!
//! ```text
//! Prose stands at the margin.
//!
//! > a command
//!     its recorded output, indented by four blanks
//! ```

/// One command and what is recorded below it.
pub struct Step {
    /// Line of the command, from 1.
    pub line: usize,
    pub command: String,
    pub recorded: Vec<String>,
}

/// A piece of the file.
pub enum Part {
    Prose(String),
    Step(Step),
}

const INDENT: &str = "    ";

/// Takes a file apart.
///
/// # Errors
/// Where output follows no command.
pub fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("> ") {
            let command = command.trim().to_owned();
            parts.push(Part::Step(Step { line: at + 1, command, recorded: Vec::new() }));
        } else if let Some(output) = line.strip_prefix(INDENT) {
            match parts.last_mut() {
                Some(Part::Step(step)) => step.recorded.push(output.to_owned()),
                _ => return Err(format!("line {}: output that follows no command", at + 1)),
            }
        } else {
            parts.push(Part::Prose(line.to_owned()));
        }
    }
    Ok(parts)
}

/// Puts a file together again, with `outputs` below its commands, one for each.
pub fn write(parts: &[Part], outputs: &[Vec<String>]) -> String {
    let mut text = String::new();
    let mut outputs = outputs.iter();
    let mut line = |indent: &str, line: &str| {
        text.push_str(indent);
        text.push_str(line);
        text.push('\n');
    };
    for part in parts {
        match part {
            Part::Prose(prose) => line("", prose),
            Part::Step(step) => {
                line("> ", &step.command);
                outputs.next().into_iter().flatten().for_each(|output| line(INDENT, output));
            }
        }
    }
    text
}

/// Lines of both, those only in `old` with `-`, those only in `new` with `+`, with a few equal ones around them.
/// `None` where they are the same.
pub fn difference(old: &str, new: &str) -> Option<String> {
    const AROUND: usize = 3;
    if old == new {
        return None;
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // Length of the longest common subsequence of what follows; files are short.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for x in (0..a.len()).rev() {
        for y in (0..b.len()).rev() {
            common[x][y] =
                if a[x] == b[y] { common[x + 1][y + 1] + 1 } else { common[x + 1][y].max(common[x][y + 1]) };
        }
    }
    let (mut x, mut y, mut lines) = (0, 0, Vec::new());
    while x < a.len() || y < b.len() {
        if x < a.len() && y < b.len() && a[x] == b[y] {
            lines.push((' ', x + 1, a[x]));
            (x, y) = (x + 1, y + 1);
        } else if x < a.len() && (y == b.len() || common[x + 1][y] >= common[x][y + 1]) {
            lines.push(('-', x + 1, a[x]));
            x += 1;
        } else {
            lines.push(('+', x + 1, b[y]));
            y += 1;
        }
    }
    let changed: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].0 != ' ').collect();
    let near = |at: usize| changed.iter().any(|&other| at.abs_diff(other) <= AROUND);
    let shown = (0..lines.len()).filter(|&at| near(at));
    let one = |at: usize| format!("{:4} {} {}", lines[at].1, lines[at].0, lines[at].2);
    let text = shown.map(one).collect::<Vec<_>>().join("\n");
    Some(if text.is_empty() { "only the ends of lines differ".to_owned() } else { text })
}
