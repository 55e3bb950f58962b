//! Raw settings in, checked settings out; the first thing wrong is reported.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::NodeId;
use crate::base::limits;
use crate::base::units::{parse_duration_ns, parse_size_bytes};
use crate::entry::Durability;

use super::error::ConfigError;
use super::raw::{Field, RawNode, RawSettings, RawValue};
use super::render::{duration_text, size_text};
use super::settings::{IdleStrategy, NodeAddresses, Settings, ThreadingMode, Token};

const NAME_BYTES_MAX: usize = 255;
const BATCH_BYTES_MIN: u64 = 1 << 10;
const CORE_MAX: i64 = 1023;
const YEAR_NS: u64 = 366 * 24 * 3_600 * NS_PER_S;

type Checked<T> = Result<T, ConfigError>;

/// Checks everything.
pub(super) fn validate(raw: &RawSettings) -> Checked<Settings> {
    let cluster = required(raw, "cluster", &raw.cluster, "name the cluster, the same on every node")?;
    let cluster = name("cluster", cluster, 1)?;
    let nodes = nodes(raw)?;
    let node_id = node_id(raw, &nodes)?;
    let dir =
        required(raw, "data_dir", &raw.data_dir, "set it in the file, by --data-dir or TERCET_DATA_DIR")?;
    let data_dir = text("data_dir", dir)?;
    if data_dir.is_empty() {
        return Err(invalid("data_dir", dir, "empty; name a directory of this node alone"));
    }
    let mut settings = Settings::with_defaults(&cluster, node_id, PathBuf::from(data_dir), &nodes);
    if let Some(field) = &raw.token {
        settings.token = Token(name("token", field, 0)?);
    }
    fill_batch_and_log(raw, &mut settings)?;
    fill_election_and_producers(raw, &mut settings)?;
    fill_threads_and_limits(raw, &mut settings)?;
    Ok(settings)
}

fn fill_batch_and_log(raw: &RawSettings, settings: &mut Settings) -> Checked<()> {
    let batch = &mut settings.batch;
    if let Some(field) = &raw.batch.events_max {
        batch.events_max = integer("batch.events_max", field, 1..=limits::BATCH_EVENTS_MAX as u64)? as usize;
    }
    if let Some(field) = &raw.batch.bytes_max {
        let range = BATCH_BYTES_MIN..=limits::ENTRY_BYTES_MAX as u64;
        batch.bytes_max = size("batch.bytes_max", field, range)? as usize;
    }
    if let Some(field) = &raw.batch.delay_max {
        batch.delay_max_ns = duration("batch.delay_max", field, 0..=NS_PER_S)?;
    }
    let log = &mut settings.log;
    if let Some(field) = &raw.log.durability {
        let choices = [("disk", Durability::Disk), ("memory", Durability::Memory)];
        log.durability = choice("log.durability", field, &choices)?;
    }
    if let Some(field) = &raw.log.segment_bytes {
        let range = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        log.segment_bytes = size("log.segment_bytes", field, range)?;
    }
    if let Some(field) = &raw.log.retention_bytes {
        log.retention_bytes = Some(size("log.retention_bytes", field, log.segment_bytes..=u64::MAX)?);
    }
    if let Some(field) = &raw.log.retention_age {
        log.retention_age_ns = Some(duration("log.retention_age", field, NS_PER_S..=u64::MAX)?);
    }
    if let Some(field) = &raw.log.retention_slack_bytes {
        log.retention_slack_bytes = Some(size("log.retention_slack_bytes", field, 0..=u64::MAX)?);
    }
    if let Some(field) = &raw.log.trimmed_segments {
        let choices = [("recycle", true), ("unlink", false)];
        log.recycles_segments = choice("log.trimmed_segments", field, &choices)?;
    }
    Ok(())
}

fn fill_election_and_producers(raw: &RawSettings, settings: &mut Settings) -> Checked<()> {
    let election = &mut settings.election;
    if let Some(field) = &raw.election.heartbeat_interval {
        let range = NS_PER_MS..=60 * NS_PER_S;
        election.heartbeat_interval_ns = duration("election.heartbeat_interval", field, range)?;
    }
    if let Some(field) = &raw.election.missed_heartbeats {
        election.missed_heartbeats = integer("election.missed_heartbeats", field, 1..=1000)? as u32;
    }
    if let Some(field) = &raw.election.disk_stall_limit {
        let range = NS_PER_MS..=3_600 * NS_PER_S;
        election.disk_stall_limit_ns = duration("election.disk_stall_limit", field, range)?;
    }
    let producers = &mut settings.producers;
    if let Some(field) = &raw.producers.window {
        producers.window_ns = duration("producers.window", field, NS_PER_MS..=100 * YEAR_NS)?;
    }
    if let Some(field) = &raw.producers.max {
        producers.max = integer("producers.max", field, 1..=10_000_000)? as u32;
    }
    Ok(())
}

fn fill_threads_and_limits(raw: &RawSettings, settings: &mut Settings) -> Checked<()> {
    let threads = &mut settings.threads;
    if let Some(field) = &raw.threads.mode {
        let choices = [
            ("auto", ThreadingMode::Auto),
            ("shared", ThreadingMode::Shared),
            ("dedicated", ThreadingMode::Dedicated),
        ];
        threads.mode = choice("threads.mode", field, &choices)?;
    }
    if let Some(field) = &raw.threads.cores {
        threads.cores = cores(field)?;
    }
    if let Some(field) = &raw.threads.idle {
        let choices =
            [("park", IdleStrategy::Park), ("backoff", IdleStrategy::Backoff), ("spin", IdleStrategy::Spin)];
        threads.idle = choice("threads.idle", field, &choices)?;
    }
    if let Some(field) = &raw.limits.connections_max {
        settings.limits.connections_max = integer("limits.connections_max", field, 1..=60_000)? as u32;
    }
    Ok(())
}

fn node_id(raw: &RawSettings, nodes: &[NodeAddresses]) -> Checked<NodeId> {
    let hint = "set it in the file, by --node-id or TERCET_NODE_ID";
    let field = required(raw, "node_id", &raw.node_id, hint)?;
    let id = NodeId(integer("node_id", field, 1..=u64::from(u16::MAX))? as u16);
    if nodes.iter().any(|node| node.id == id) {
        return Ok(id);
    }
    let listed: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
    let listed = listed.join(", ");
    Err(invalid(
        "node_id",
        field,
        format!("{id} is not in the list of nodes ({listed}); add it or correct it"),
    ))
}

fn nodes(raw: &RawSettings) -> Checked<Vec<NodeAddresses>> {
    if raw.nodes.is_empty() {
        return Err(ConfigError::Missing {
            place: raw.source.clone(),
            key: "nodes".to_owned(),
            hint: "add a table [[nodes]] with id, client and peer for each node".to_owned(),
        });
    }
    if raw.nodes.len() > limits::NODES_MAX {
        return Err(ConfigError::Invalid {
            place: raw.node_places[limits::NODES_MAX].clone(),
            key: "nodes".to_owned(),
            problem: format!("{} nodes are more than the {} allowed", raw.nodes.len(), limits::NODES_MAX),
        });
    }
    let mut nodes: Vec<NodeAddresses> = Vec::new();
    let mut used = BTreeMap::new();
    for (at, node) in raw.nodes.iter().enumerate() {
        nodes.push(one_node(node.get_ref(), at, &raw.node_places[at], &nodes, &mut used)?);
    }
    Ok(nodes)
}

fn one_node(
    node: &RawNode,
    at: usize,
    place: &str,
    earlier: &[NodeAddresses],
    used: &mut BTreeMap<SocketAddr, String>,
) -> Checked<NodeAddresses> {
    let key = |part: &str| format!("nodes[{at}].{part}");
    let need = |part: &str, field: &Option<Field>, hint: &str| match field {
        Some(field) => Ok(field.clone()),
        None => Err(ConfigError::Missing { place: place.to_owned(), key: key(part), hint: hint.to_owned() }),
    };
    let id_field = need("id", &node.id, "give each node a number of its own")?;
    let id = NodeId(integer(&key("id"), &id_field, 1..=u64::from(u16::MAX))? as u16);
    if earlier.iter().any(|other| other.id == id) {
        return Err(invalid(&key("id"), &id_field, format!("{id} is used twice; each node needs its own")));
    }
    let mut address = |part: &str, field: &Option<Field>| {
        let field = need(part, field, "give an address such as \"127.0.0.1:9001\"")?;
        let address = socket_address(&key(part), &field)?;
        match used.insert(address, key(part)) {
            Some(other) => {
                let problem = format!("{address} is the address of {other} too; each needs its own");
                Err(invalid(&key(part), &field, problem))
            }
            None => Ok(address),
        }
    };
    let client = address("client", &node.client)?;
    let peer = address("peer", &node.peer)?;
    Ok(NodeAddresses { id, client, peer })
}

fn socket_address(key: &str, field: &Field) -> Checked<SocketAddr> {
    let written = text(key, field)?;
    let address: SocketAddr = written.parse().map_err(|_| {
        invalid(key, field, format!("'{written}' is no IP address with a port, such as 127.0.0.1:9001"))
    })?;
    if address.port() == 0 {
        return Err(invalid(key, field, "port 0 cannot be dialled; choose a port from 1 to 65535"));
    }
    if address.ip().is_unspecified() {
        let problem = format!("{} cannot be dialled; give the address others reach it by", address.ip());
        return Err(invalid(key, field, problem));
    }
    Ok(address)
}

fn cores(field: &Field) -> Checked<Vec<usize>> {
    let key = "threads.cores";
    let numbers = match &field.value {
        RawValue::Integers(numbers) => numbers.clone(),
        RawValue::Text { text, in_file: false } => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse::<i64>())
            .collect::<Result<_, _>>()
            .map_err(|_| invalid(key, field, format!("'{text}' is no list such as 2,3,4")))?,
        other => return Err(wrong_kind(key, field, other, "a list of core numbers such as [2, 3, 4]")),
    };
    let mut cores = Vec::with_capacity(numbers.len());
    for number in numbers {
        if !(0..=CORE_MAX).contains(&number) {
            return Err(invalid(key, field, format!("{number} is no core number (0 to {CORE_MAX})")));
        }
        let core = number as usize;
        if cores.contains(&core) {
            return Err(invalid(key, field, format!("core {core} is named twice; give each role its own")));
        }
        cores.push(core);
    }
    Ok(cores)
}

fn required<'f>(raw: &RawSettings, key: &str, field: &'f Option<Field>, hint: &str) -> Checked<&'f Field> {
    field.as_ref().ok_or_else(|| ConfigError::Missing {
        place: raw.source.clone(),
        key: key.to_owned(),
        hint: hint.to_owned(),
    })
}

fn text<'f>(key: &str, field: &'f Field) -> Checked<&'f str> {
    match &field.value {
        RawValue::Text { text, .. } => Ok(text),
        other => Err(wrong_kind(key, field, other, "text in quotes")),
    }
}

fn name(key: &str, field: &Field, bytes_min: usize) -> Checked<String> {
    let name = text(key, field)?;
    if !(bytes_min..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
        let problem = format!("must be {bytes_min} to {NAME_BYTES_MAX} bytes without control characters");
        return Err(invalid(key, field, problem));
    }
    Ok(name.to_owned())
}

fn integer(key: &str, field: &Field, range: RangeInclusive<u64>) -> Checked<u64> {
    let number = match &field.value {
        RawValue::Integer(number) => *number,
        RawValue::Text { text, in_file: false } => text
            .trim()
            .replace('_', "")
            .parse()
            .map_err(|_| invalid(key, field, format!("'{text}' is no whole number")))?,
        other => return Err(wrong_kind(key, field, other, "a whole number without quotes")),
    };
    match u64::try_from(number) {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(out_of_range(key, field, number, range.start(), range.end())),
    }
}

fn duration(key: &str, field: &Field, range: RangeInclusive<u64>) -> Checked<u64> {
    let written = match &field.value {
        RawValue::Text { text, .. } => text,
        other => return Err(wrong_kind(key, field, other, "a duration in quotes, such as \"250ms\"")),
    };
    let value_ns = parse_duration_ns(written).map_err(|error| invalid(key, field, error))?;
    if range.contains(&value_ns) {
        return Ok(value_ns);
    }
    Err(out_of_range(key, field, written, duration_text(*range.start()), duration_text(*range.end())))
}

fn size(key: &str, field: &Field, range: RangeInclusive<u64>) -> Checked<u64> {
    let (written, bytes) = match &field.value {
        RawValue::Text { text, .. } => {
            (text.clone(), parse_size_bytes(text).map_err(|error| invalid(key, field, error))?)
        }
        RawValue::Integer(number) => (number.to_string(), u64::try_from(*number).unwrap_or(0)),
        other => return Err(wrong_kind(key, field, other, "a size such as \"64MiB\"")),
    };
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    Err(out_of_range(key, field, written, size_text(*range.start()), size_text(*range.end())))
}

fn choice<T: Copy>(key: &str, field: &Field, choices: &[(&str, T)]) -> Checked<T> {
    let written = text(key, field)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == written) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(invalid(key, field, format!("'{written}' is not one of {}", names.join(", "))))
}

fn wrong_kind(key: &str, field: &Field, found: &RawValue, expected: &str) -> ConfigError {
    let found = match found {
        RawValue::Text { text, .. } => format!("the text \"{text}\""),
        RawValue::Integer(number) => format!("the number {number}"),
        RawValue::Integers(_) => "a list".to_owned(),
        RawValue::Other(what) => (*what).to_owned(),
    };
    invalid(key, field, format!("{found} stands where {expected} is needed"))
}

fn out_of_range(
    key: &str,
    field: &Field,
    found: impl Display,
    low: impl Display,
    high: impl Display,
) -> ConfigError {
    invalid(key, field, format!("{found} is out of range; choose from {low} to {high}"))
}

fn invalid(key: &str, field: &Field, problem: impl Display) -> ConfigError {
    ConfigError::Invalid { place: field.place.clone(), key: key.to_owned(), problem: problem.to_string() }
}
