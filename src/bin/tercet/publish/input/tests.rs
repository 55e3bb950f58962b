use std::io::{self, Read};
use std::sync::mpsc::channel;

use tercet::base::limits::EVENT_BODY_BYTES_MAX;

use super::{Ending, Input, Next};

/// Gives its pieces one read at a time.
struct Pieces(Vec<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.first_mut() else { return Ok(0) };
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        if piece.is_empty() {
            self.0.remove(0);
        }
        Ok(count)
    }
}

/// Everything that comes out, waiting as a publisher does: only after a wake.
fn collect(source: impl Read + Send + 'static) -> (Vec<Vec<u8>>, Ending) {
    let (woken, wakes) = channel();
    let mut input = Input::spawn(source, move || woken.send(()).unwrap_or_default());
    let mut lines = Vec::new();
    loop {
        match input.peek() {
            Next::Line(line) => lines.push(line.to_vec()),
            Next::Later => {
                wakes.recv().unwrap();
                continue;
            }
            Next::Over(ending) => return (lines, ending.clone()),
        }
        input.advance();
    }
}

fn pieces(texts: &[&str]) -> Pieces {
    Pieces(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

#[test]
fn lines_are_raw_bytes_without_their_newline_wherever_reads_cut_them() {
    let cases: [(&[&str], &[&str]); 7] = [
        (&["a\nb\n"], &["a", "b"]),
        (&["a\nb"], &["a", "b"]),
        (&["a", "b", "\n", "c\r\n"], &["ab", "c\r"]),
        (&["\n\nx\n\n"], &["", "", "x", ""]),
        (&[""], &[]),
        (&["\n"], &[""]),
        (&["é\u{0}", "\t \n"], &["é\u{0}\t "]),
    ];
    for (input, expected) in cases {
        let (lines, ending) = collect(pieces(input));
        let expected: Vec<Vec<u8>> = expected.iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(lines, expected, "{input:?}");
        assert_eq!(ending, Ending::Complete);
    }
}

#[test]
fn many_lines_pass_a_bounded_channel_in_order() {
    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let (lines, ending) = collect(io::Cursor::new(text.clone().into_bytes()));
    assert_eq!(lines.len(), 100_000);
    let mut joined = lines.join(&b'\n');
    joined.push(b'\n');
    assert_eq!(joined, text.as_bytes());
    assert_eq!(ending, Ending::Complete);
}

#[test]
fn the_largest_event_passes_and_one_byte_more_ends_the_input_there() {
    let largest = vec![b'x'; EVENT_BODY_BYTES_MAX];
    let mut fits = largest.clone();
    fits.extend_from_slice(b"\nlast");
    let (lines, ending) = collect(io::Cursor::new(fits));
    assert_eq!((lines.len(), lines[0].len(), ending), (2, EVENT_BODY_BYTES_MAX, Ending::Complete));

    for tail in ["\nafter\n", ""] {
        let mut over = b"first\nsecond\n".to_vec();
        over.extend_from_slice(&largest);
        over.extend_from_slice(b"x");
        over.extend_from_slice(tail.as_bytes());
        let (lines, ending) = collect(io::Cursor::new(over));
        assert_eq!(lines, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(ending, Ending::TooLong { line: 3 });
    }
}

#[test]
fn an_endless_line_is_refused_without_reading_it_all() {
    let (lines, ending) = collect(io::repeat(b'x'));
    assert_eq!((lines.len(), ending), (0, Ending::TooLong { line: 1 }));
}

#[test]
fn a_source_that_breaks_is_told_after_its_lines() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the cable is out"));
            }
            into[..4].copy_from_slice(b"a\nbc");
            Ok(4)
        }
    }
    let (lines, ending) = collect(Broken(false));
    assert_eq!(lines, [b"a".to_vec()]);
    assert_eq!(ending, Ending::Unreadable("the cable is out".to_owned()));
}
