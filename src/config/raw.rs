//! Raw settings: every key optional, every value as it was written, with the place it came from.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::error::ConfigError;

/// What every environment variable of ours begins with.
pub const VARIABLE_PREFIX: &str = "TERCET_";

/// Variables with the prefix that are no settings: the log filter, the default of `--config`, and the default of
/// `--servers`.
pub const OTHER_VARIABLES: [&str; 3] = ["TERCET_LOG", "TERCET_CONFIG", "TERCET_SERVERS"];

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value given on the command line, for example `--node-id 2`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flag {
    /// As typed, with dashes: named in errors.
    pub name: &'static str,
    /// The dotted key it sets, for example `node_id`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// Where settings come from, in falling order of precedence: flags, environment, file, defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// Variables whose name begins with [`VARIABLE_PREFIX`]; others are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags that were given.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// `file` and this process's environment.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a variable of ours whose value is not UTF-8.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else { continue };
            let value = value.into_string().map_err(|_| ConfigError::Invalid {
                place: "environment".to_owned(),
                key: name.to_owned(),
                problem: "the value is not UTF-8".to_owned(),
            })?;
            environment.push((name.to_owned(), value));
        }
        environment.sort();
        Ok(Self { file, environment, flags: Vec::new() })
    }

    /// Adds a flag; `None` when it was not given.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, key: &'static str, value: Option<impl ToString>) -> Self {
        self.flags.extend(value.map(|value| Flag { name, key, value: value.to_string() }));
        self
    }

    /// Reads the file's text.
    pub(super) fn read_file(&self) -> Result<Option<(String, String)>, ConfigError> {
        let Some(path) = &self.file else { return Ok(None) };
        let file = path.display().to_string();
        let unreadable = |problem: String| ConfigError::Unreadable { file: file.clone(), problem };
        let bytes = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(unreadable(format!("{bytes} bytes are more than the {FILE_BYTES_MAX} allowed")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some((file, text)))
    }
}

/// A value before its meaning is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RawValue {
    /// A string of the file, or any value from environment or flags.
    Text { text: String, in_file: bool },
    /// A whole number.
    Integer(i64),
    /// A list of whole numbers.
    Integers(Vec<i64>),
    /// Something no key takes; named for the error.
    Other(&'static str),
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text { text: text.to_owned(), in_file: true })
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<RawValue, E> {
        Ok(i64::try_from(number).map_or(RawValue::Other("a number beyond 64 bits"), RawValue::Integer))
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawValue, E> {
        Ok(RawValue::Other("true or false"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawValue, E> {
        Ok(RawValue::Other("a number with a decimal point"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let (mut numbers, mut other) = (Vec::new(), false);
        while let Some(item) = items.next_element::<RawValue>()? {
            match item {
                RawValue::Integer(number) => numbers.push(number),
                RawValue::Text { .. } | RawValue::Integers(_) | RawValue::Other(_) => other = true,
            }
        }
        Ok(if other {
            RawValue::Other("a list of other things than whole numbers")
        } else {
            RawValue::Integers(numbers)
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(RawValue::Other("a table or a date"))
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

/// One value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) value: RawValue,
    /// `file:line`, a variable's name or a flag's.
    pub(super) place: String,
    /// Byte in the file, until `place` is known.
    offset: usize,
}

impl Field {
    fn given(place: &str, text: &str) -> Self {
        let value = RawValue::Text { text: text.to_owned(), in_file: false };
        Self { value, place: place.to_owned(), offset: 0 }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<RawValue>::deserialize(deserializer)?;
        let offset = spanned.span().start;
        Ok(Self { value: spanned.into_inner(), place: String::new(), offset })
    }
}

type Visit<'v> = &'v mut dyn FnMut(&'static str, &mut Option<Field>);

/// One table of the file: its keys, and a walk over them by dotted name.
macro_rules! table {
    ($name:ident, $prefix:literal, $($key:ident),+) => {
        #[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a table with keys of its own")]
        pub(super) struct $name {
            $(pub(super) $key: Option<Field>,)+
        }

        impl $name {
            fn each(&mut self, visit: Visit<'_>) {
                $(visit(concat!($prefix, stringify!($key)), &mut self.$key);)+
            }
        }
    };
}

table!(RawBatch, "batch.", events_max, bytes_max, delay_max);
table!(
    RawLog,
    "log.",
    durability,
    segment_bytes,
    retention_bytes,
    retention_age,
    retention_slack_bytes,
    trimmed_segments
);
table!(RawElection, "election.", heartbeat_interval, missed_heartbeats, disk_stall_limit);
table!(RawProducers, "producers.", window, max);
table!(RawThreads, "threads.", mode, cores, idle);
table!(RawLimits, "limits.", connections_max);
table!(RawNode, "nodes.", id, client, peer);

/// The whole file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSettings {
    /// Path of the file, or 'settings' when there is none: the place of what is missing.
    #[serde(skip)]
    pub(super) source: String,
    pub(super) cluster: Option<Field>,
    pub(super) token: Option<Field>,
    pub(super) node_id: Option<Field>,
    pub(super) data_dir: Option<Field>,
    pub(super) nodes: Vec<Spanned<RawNode>>,
    /// Places of the `[[nodes]]` tables, in the order of `nodes`.
    #[serde(skip)]
    pub(super) node_places: Vec<String>,
    pub(super) batch: RawBatch,
    pub(super) log: RawLog,
    pub(super) election: RawElection,
    pub(super) producers: RawProducers,
    pub(super) threads: RawThreads,
    pub(super) limits: RawLimits,
}

impl RawSettings {
    /// Reads all sources, the later ones over the earlier.
    pub(super) fn gather(
        file: Option<(&str, &str)>,
        environment: &[(String, String)],
        flags: &[Flag],
    ) -> Result<Self, ConfigError> {
        let mut raw = match file {
            Some((name, text)) => Self::from_file(name, text)?,
            None => Self { source: "settings".to_owned(), ..Self::default() },
        };
        for (name, value) in environment {
            raw.apply_variable(name, value)?;
        }
        for flag in flags {
            let known = raw.set(|key| key == flag.key, &Field::given(flag.name, &flag.value));
            assert!(known, "flag {} sets the unknown key {}", flag.name, flag.key);
        }
        Ok(raw)
    }

    fn from_file(name: &str, text: &str) -> Result<Self, ConfigError> {
        let place = |offset: usize| format!("{name}:{}", line_of(text, offset));
        let mut raw: Self = toml::from_str(text).map_err(|error| explain(name, text, &error))?;
        let mut locate = |_: &'static str, field: &mut Option<Field>| {
            if let Some(field) = field {
                field.place = place(field.offset);
            }
        };
        raw.each(&mut locate);
        for node in &mut raw.nodes {
            node.as_mut().each(&mut locate);
        }
        raw.node_places = raw.nodes.iter().map(|node| place(node.span().start)).collect();
        name.clone_into(&mut raw.source);
        Ok(raw)
    }

    fn apply_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        if !name.starts_with(VARIABLE_PREFIX) || OTHER_VARIABLES.contains(&name) {
            return Ok(());
        }
        if self.set(|key| variable_of(key) == name, &Field::given(name, value)) {
            return Ok(());
        }
        let name = name.to_owned();
        if name.starts_with("TERCET_NODES") {
            return Err(ConfigError::UnknownVariable {
                name,
                hint: "the nodes are listed in the file".to_owned(),
            });
        }
        let hint = match self.nearest_variable(&name) {
            Some(known) => format!("did you mean {known}? Unset it otherwise"),
            None => "unset it, or use TERCET_ and a key of the configuration file, in capitals".to_owned(),
        };
        Err(ConfigError::UnknownVariable { name, hint })
    }

    /// Sets the first key that `matches`; false when there is none.
    fn set(&mut self, matches: impl Fn(&str) -> bool, value: &Field) -> bool {
        let mut found = false;
        self.each(&mut |key, field| {
            if matches(key) {
                *field = Some(value.clone());
                found = true;
            }
        });
        found
    }

    /// The known variable whose words after the prefix overlap most with those of `name`.
    fn nearest_variable(&mut self, name: &str) -> Option<String> {
        let words: Vec<&str> = name[VARIABLE_PREFIX.len()..].split('_').collect();
        let mut best = (0, None);
        self.each(&mut |key, _| {
            let variable = variable_of(key);
            let shared =
                variable[VARIABLE_PREFIX.len()..].split('_').filter(|word| words.contains(word)).count();
            if shared > best.0 {
                best = (shared, Some(variable));
            }
        });
        best.1
    }

    /// Walks every key but `nodes`.
    fn each(&mut self, visit: Visit<'_>) {
        visit("cluster", &mut self.cluster);
        visit("token", &mut self.token);
        visit("node_id", &mut self.node_id);
        visit("data_dir", &mut self.data_dir);
        self.batch.each(visit);
        self.log.each(visit);
        self.election.each(visit);
        self.producers.each(visit);
        self.threads.each(visit);
        self.limits.each(visit);
    }
}

/// `election.heartbeat_interval` → `TERCET_ELECTION_HEARTBEAT_INTERVAL`.
fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}

/// Line of a byte, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// An error of the TOML reader as one line in our words.
fn explain(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let line = line_of(text, offset);
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    let problem = if let Some(rest) = message.strip_prefix("unknown field ") {
        let (key, known) = rest.split_once(", ").unwrap_or((rest, ""));
        let known = known.replace("expected one of", "one of").replace("expected", "only");
        let table = table_at(text, line).map_or(String::new(), |table| format!(" in {table}"));
        format!("unknown key {key}{table}; known here: {known}")
    } else {
        format!("{message} (in '{written}')")
    };
    ConfigError::File { file: file.to_owned(), line, problem }
}

/// The table header that rules `line`, if any.
fn table_at(text: &str, line: usize) -> Option<&str> {
    let above: Vec<&str> = text.lines().take(line).collect();
    let header = above.into_iter().rev().map(str::trim).find(|text| text.starts_with('['))?;
    Some(header.split('#').next().unwrap_or(header).trim())
}
