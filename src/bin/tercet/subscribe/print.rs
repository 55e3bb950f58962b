//! One event on stdout.

use std::io::{self, Write};

use data_encoding::BASE64;
use serde::Serialize;
use tercet::client::Delivered;

/// How events look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printer {
    /// The body and a newline.
    Raw,
    /// A JSON object and a newline.
    Json,
}

/// An event as `--json` prints it. Exactly one of the bodies is there.
#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    index: u64,
    topic: &'a str,
    producer: &'a str,
    sequence: u64,
    timestamp_unix_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Printer {
    /// Writes one event.
    pub fn print(self, out: &mut impl Write, event: &Delivered<'_>) -> io::Result<()> {
        match self {
            Self::Raw => out.write_all(event.body)?,
            Self::Json => {
                let body = std::str::from_utf8(event.body).ok();
                let line = Line {
                    offset: event.offset.0,
                    index: event.index.0,
                    topic: event.topic,
                    producer: event.producer,
                    sequence: event.sequence.0,
                    timestamp_unix_ns: event.timestamp_unix_ns,
                    body,
                    body_base64: body.is_none().then(|| BASE64.encode(event.body)),
                };
                serde_json::to_writer(&mut *out, &line)?;
            }
        }
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tercet::base::ids::{LogIndex, Offset, Sequence};
    use tercet::client::Delivered;
    use tercet::entry::AttributesView;

    use super::Printer;

    fn printed(printer: Printer, body: &[u8]) -> Vec<u8> {
        let event = Delivered {
            offset: Offset(7),
            index: LogIndex(3),
            topic: "quakes",
            producer: "usgs",
            sequence: Sequence(9),
            timestamp_unix_ns: 1_700_000_000_000_000_001,
            priority: 0,
            attributes: AttributesView::default(),
            body,
        };
        let mut out = Vec::new();
        printer.print(&mut out, &event).unwrap();
        out
    }

    #[test]
    fn raw_is_the_body_and_a_newline_whatever_is_in_it() {
        assert_eq!(printed(Printer::Raw, b"a\r"), b"a\r\n");
        assert_eq!(printed(Printer::Raw, b""), b"\n");
        assert_eq!(printed(Printer::Raw, &[0, 255]), [0, 255, b'\n']);
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        let mut expected = json!({
            "offset": 7, "index": 3, "topic": "quakes", "producer": "usgs", "sequence": 9,
            "timestamp_unix_ns": 1_700_000_000_000_000_001_u64, "body": "\"é\n",
        });
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let line = printed(Printer::Json, "\"é\n".as_bytes());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one object, one line");
        assert_eq!(read(line), expected);
        expected.as_object_mut().unwrap().remove("body");
        expected["body_base64"] = json!("/wA=");
        assert_eq!(read(printed(Printer::Json, &[255, 0])), expected);
    }
}
