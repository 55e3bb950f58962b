//! Topic filters, cursors and the bus.

use crate::base::ids::{Offset, ProducerId};
use crate::entry::Entry;

use super::tests_kit::{Desk, SECOND};
use super::{Cursor, FilterError, TopicFilter};

const TOPICS: [&str; 4] = ["orders.eu", "orders.us", "quakes", "orders"];

/// Two batches of four events (offsets 1 to 4 and 5 to 8) with a no-op between.
fn entries() -> Vec<Entry> {
    let mut desk = Desk::new(SECOND, 10);
    let p = ProducerId(desk.open("p").index().0);
    let row = |first: u64| (first..first + 4).map(|sequence| (p, 1, "p", sequence)).collect::<Vec<_>>();
    let one = desk.batch_on(&row(1), |at| TOPICS[at]);
    let noop = desk.noop();
    let two = desk.batch_on(&row(5), |at| TOPICS[at]);
    vec![one, noop, two]
}

fn offsets(cursor: &Cursor, entry: &Entry) -> Vec<u64> {
    cursor.matches(&entry.view()).unwrap().map(|(offset, _)| offset.0).collect()
}

#[test]
fn filters_are_a_topic_a_prefix_or_all() {
    let matching = |filter: &str| {
        let filter: TopicFilter = filter.parse().unwrap();
        TOPICS.map(|topic| filter.matches(topic))
    };
    assert_eq!(matching("*"), [true; 4]);
    assert_eq!(matching("orders"), [false, false, false, true]);
    assert_eq!(matching("orders*"), [true, true, false, true]);
    assert_eq!(matching("orders.*"), [true, true, false, false]);
    assert_eq!(matching("orders.eu.*"), [false; 4]);
    for text in ["*", "orders", "orders.*"] {
        assert_eq!(TopicFilter::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_filter_is_told_apart() {
    assert_eq!(TopicFilter::parse(""), Err(FilterError::Empty));
    for text in ["a*b", "**", "*a", "a**"] {
        assert_eq!(TopicFilter::parse(text), Err(FilterError::StarInside(text.to_owned())));
    }
    for text in ["a b", "a\n", &"x".repeat(256), "a b*"] {
        assert!(matches!(TopicFilter::parse(text), Err(FilterError::Topic { .. })), "{text}");
    }
}

#[test]
fn a_cursor_picks_wanted_events_from_its_offset_on() {
    let entries = entries();
    let all = Cursor::new(Offset::ZERO, TopicFilter::All);
    assert_eq!(offsets(&all, &entries[0]), [1, 2, 3, 4]);
    assert_eq!(offsets(&all, &entries[1]), [0; 0]);
    let mut orders = Cursor::new(Offset(2), TopicFilter::parse("orders*").unwrap());
    assert_eq!(offsets(&orders, &entries[0]), [2, 4]);
    orders.advance_past(entries[0].header());
    assert_eq!(orders.next_offset(), Offset(5));
    assert_eq!(offsets(&orders, &entries[0]), [0; 0], "delivered once");
    assert_eq!(offsets(&orders, &entries[2]), [5, 6, 8]);
    let ahead = Cursor::new(Offset(100), TopicFilter::All);
    assert!(entries.iter().all(|entry| ahead.is_past(entry.header())));
}

#[test]
fn an_entry_in_which_nothing_is_wanted_may_be_skipped() {
    let entries = entries();
    let wants = |from: u64, filter: &str| {
        let cursor = Cursor::new(Offset(from), TopicFilter::parse(filter).unwrap());
        entries.iter().map(|entry| cursor.wants(&entry.view()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(wants(1, "*"), [true, false, true]);
    assert_eq!(wants(5, "*"), [false, false, true]);
    assert_eq!(wants(1, "quakes"), [true, false, true]);
    assert_eq!(wants(4, "quakes"), [false, false, true], "its only match lies before the cursor");
    assert_eq!(wants(1, "weather"), [false, false, false]);
}
