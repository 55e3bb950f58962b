//! Entries for people and scripts.

use std::io::{self, Write};

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use tercet::base::ids::{LogIndex, Offset};
use tercet::entry::{Configuration, EntryKind, EntryView, EventView, EventsView, LogFloor, ProducerRef};

use crate::status::checksum_text;

/// Bodies are cut here for people; JSON has all of them.
const SHOWN_CHARS: usize = 100;

/// Prints entries as they come. The first error is kept, and nothing is written after it.
pub struct Dump<W: Write> {
    out: W,
    json: bool,
    failure: Option<io::Error>,
}

impl<W: Write> Dump<W> {
    /// Prints to `out`.
    pub fn new(out: W, json: bool) -> Self {
        Self { out, json, failure: None }
    }

    /// Prints one entry.
    pub fn entry(&mut self, entry: &EntryView<'_>, commit_hint: LogIndex) {
        if self.failure.is_some() {
            return;
        }
        let printed = if self.json {
            let line = to_json(entry, commit_hint);
            writeln!(self.out, "{line}")
        } else {
            write_text(&mut self.out, entry)
        };
        self.failure = printed.err();
    }

    /// Writes out what is left, or says what went wrong.
    pub fn finish(mut self) -> io::Result<()> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

fn kind_text(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Noop => "noop",
        EntryKind::Events => "events",
        EntryKind::Configuration => "configuration",
        EntryKind::OpenProducer => "open_producer",
        EntryKind::Trim => "trim",
    }
}

fn to_json(entry: &EntryView<'_>, commit_hint: LogIndex) -> Value {
    let header = entry.header();
    let mut line = json!({
        "index": header.index.0,
        "term": header.term.0,
        "kind": kind_text(header.kind),
        "bytes": header.total_bytes,
        "chain": checksum_text(entry.chain()),
        "log_time_ns": header.log_time_ns,
        "timestamp_unix_ns": header.timestamp_unix_ns,
        "known_committed": header.index <= commit_hint,
    });
    let Some(object) = line.as_object_mut() else { return line };
    let (key, contents) = match header.kind {
        EntryKind::Noop => return line,
        EntryKind::Events => {
            object.insert("first_offset".to_owned(), json!(header.base_offset.0));
            let last = header.next_offset().prev();
            object.insert("last_offset".to_owned(), json!(last.0));
            ("events", entry.events().map(|events| events_json(&events)))
        }
        EntryKind::Configuration => {
            ("configuration", entry.configuration().map(|configuration| configuration_json(&configuration)))
        }
        EntryKind::OpenProducer => ("producer", entry.open_producer().map(|open| json!(open.name))),
        EntryKind::Trim => {
            let json =
                |floor: LogFloor| json!({ "first_index": floor.index.0, "first_offset": floor.offset.0 });
            ("trim", entry.trim().map(json))
        }
    };
    match contents {
        Ok(contents) => object.insert(key.to_owned(), contents),
        Err(error) => object.insert("error".to_owned(), json!(error.to_string())),
    };
    line
}

fn events_json(events: &EventsView<'_>) -> Value {
    let each = |(offset, event): (Offset, EventView<'_>)| {
        let producer = events.producers().get(event.producer_slot);
        event_json(offset, &event, producer)
    };
    Value::Array(events.iter().map(each).collect())
}

fn event_json(offset: Offset, event: &EventView<'_>, producer: Option<ProducerRef<'_>>) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("offset", json!(offset.0));
    put("topic", json!(event.topic));
    if let Some(producer) = producer {
        put("producer", json!(producer.name));
        put("producer_id", json!(producer.id.0));
        put("epoch", json!(producer.epoch.0));
    }
    put("sequence", json!(event.sequence.0));
    put("timestamp_unix_ns", json!(event.timestamp_unix_ns));
    put("priority", json!(event.priority));
    if !event.attributes.is_empty() {
        let attributes: Vec<Value> =
            event.attributes.iter().map(|(name, value)| json!([name, text_or_base64(value)])).collect();
        put("attributes", Value::Array(attributes));
    }
    put("body_bytes", json!(event.body.len()));
    match std::str::from_utf8(event.body) {
        Ok(text) => put("body", json!(text)),
        Err(_) => put("body_base64", json!(BASE64.encode(event.body))),
    };
    Value::Object(object)
}

fn text_or_base64(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64.encode(value) }),
    }
}

fn configuration_json(configuration: &Configuration) -> Value {
    let ids = |members: &[tercet::entry::Member]| -> Vec<u16> {
        members.iter().map(|member| member.node_id.0).collect()
    };
    json!({
        "cluster_id": configuration.cluster_id.to_string(),
        "cluster": configuration.cluster_name,
        "cluster_version": configuration.cluster_version,
        "durability": configuration.durability.as_str(),
        "producers_window_ns": configuration.producers_window_ns,
        "producers_max": configuration.producers_max,
        "voters": ids(&configuration.voters),
        "learners": ids(&configuration.learners),
    })
}

fn write_text(out: &mut impl Write, entry: &EntryView<'_>) -> io::Result<()> {
    let header = entry.header();
    let (index, term, kind) = (header.index, header.term, kind_text(header.kind));
    let contents = match header.kind {
        EntryKind::Noop => Ok(String::new()),
        EntryKind::Events => {
            let last = header.next_offset().prev();
            Ok(format!("{} events, offsets {} to {last}", header.event_count, header.base_offset))
        }
        EntryKind::Configuration => entry.configuration().map(|configuration| {
            let voters: Vec<String> =
                configuration.voters.iter().map(|member| member.node_id.to_string()).collect();
            format!(
                "cluster '{}', durability {}, voters {}",
                configuration.cluster_name,
                configuration.durability.as_str(),
                voters.join(" ")
            )
        }),
        EntryKind::OpenProducer => entry.open_producer().map(|open| format!("'{}'", open.name)),
        EntryKind::Trim => {
            entry.trim().map(|floor| format!("the log begins at {}, offset {}", floor.index, floor.offset))
        }
    };
    let contents = contents.unwrap_or_else(|error| format!("contents damaged: {error}"));
    let chain = checksum_text(entry.chain());
    writeln!(out, "{index} term {term} {kind} {} bytes, chain {chain} {contents}", header.total_bytes)?;
    let Ok(events) = entry.events() else { return Ok(()) };
    for (offset, event) in &events {
        let producer = events.producers().get(event.producer_slot).map_or("?", |producer| producer.name);
        let (topic, sequence, bytes) = (event.topic, event.sequence, event.body.len());
        writeln!(out, "  {offset} {topic} '{producer}' #{sequence} {bytes} B: {}", shown(event.body))?;
    }
    Ok(())
}

/// The beginning of a body on one line.
fn shown(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return "(not UTF-8)".to_owned() };
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
